//! Libraries that no worker can run: each is refused with a message that says why, and nothing of
//! it is run before.

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use hsu_master::{ErrorCategory, Master};

use super::{Workshop, bench, example, start_error, worker};
use crate::support::{Bench, slow};

/// What a worker of this library fails with.
#[track_caller]
fn refusal(bench: &Bench, id: &str, library: &Path) -> String {
    let error = start_error(bench, worker(id, library).restart(slow()));
    assert_eq!(error.category(), ErrorCategory::Plugin, "{error}");
    let text = error.to_string();
    let name = library.file_name().unwrap().to_str().unwrap();
    assert!(text.contains(name), "the library is named: {text}");
    text
}

/// `hsu-master plugin check`
fn check(arguments: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_hsu-master"));
    command.args(["plugin", "check"]).args(arguments).output().unwrap()
}

#[test]
fn b17_b18_what_is_no_library_is_refused_in_words() {
    let directory = tempfile::tempdir().unwrap();
    let at = |name: &str| directory.path().join(name);
    fs::write(at("empty.so"), "").unwrap();
    fs::write(at("text.so"), "#!/bin/sh\nexit 0\n").unwrap();
    fs::write(at("ten.so"), b"\x7fELF\x02\x01\x01\0\0\0").unwrap();
    fs::create_dir(at("directory.so")).unwrap();
    std::os::unix::fs::symlink(at("gone"), at("dangling.so")).unwrap();
    fs::write(at("open.so"), "x").unwrap();
    fs::set_permissions(at("open.so"), fs::Permissions::from_mode(0o666)).unwrap();
    let bench = Bench::new(Master::builder());
    let is_root = fs::metadata("/proc/self").unwrap().uid() == 0;
    let writable = if is_root {
        "others than its owner may write it (mode 0666), and this program is root"
    } else {
        "does not begin as an ELF file does"
    };
    for (name, said) in [
        ("missing.so", "cannot be opened: No such file or directory"),
        ("dangling.so", "cannot be opened: No such file or directory"),
        ("directory.so", "it is a directory"),
        ("empty.so", "truncated: the file is empty"),
        ("text.so", "it is no shared library: it does not begin as an ELF file does"),
        ("ten.so", "truncated: the file has only 10 bytes"),
        ("open.so", writable),
    ] {
        let text = refusal(&bench, name, &at(name));
        assert!(text.contains(said), "{text}");
    }
    bench.finish();
}

/// A library with some bytes changed.
fn patched(from: &Path, to: PathBuf, at: usize, bytes: &[u8]) -> PathBuf {
    let mut content = fs::read(from).unwrap();
    content[at..at + bytes.len()].copy_from_slice(bytes);
    fs::write(&to, content).unwrap();
    to
}

#[test]
fn b18_b19_a_library_that_is_cut_or_made_for_others_never_reaches_the_loader() {
    let Some(workshop) = Workshop::open() else { return };
    // Whoever loads it dies: so it is shown that nobody does.
    let sound = workshop.variant("sound.so", &["-DCONSTRUCTOR=abort()"]);
    let bench = Bench::new(Master::builder());
    let content = fs::read(&sound).unwrap();
    for end in (0..content.len()).step_by(4096).chain([content.len() - 1]) {
        let name = format!("cut-{end}.so");
        fs::write(workshop.path(&name), &content[..end]).unwrap();
        let text = refusal(&bench, &name, &workshop.path(&name));
        assert!(text.contains(": truncated: "), "{text}");
    }
    let own = std::env::consts::ARCH;
    let (machine, foreign) = if own == "aarch64" { (62_u8, "x86_64") } else { (183, "aarch64") };
    let other = patched(&sound, workshop.path("other.so"), 18, &[machine]);
    let text = refusal(&bench, "other", &other);
    assert!(text.contains(&format!("built for {foreign}, this program is {own}")), "{text}");
    let narrow = patched(&sound, workshop.path("narrow.so"), 4, &[1]);
    let text = refusal(&bench, "narrow", &narrow);
    assert!(text.contains("built for a 32-bit machine, this program is 64-bit"), "{text}");
    bench.finish();
}

#[test]
fn b18_a_rust_library_cut_anywhere_is_refused() {
    let content = fs::read(example("faulty_plugin")).unwrap();
    let directory = tempfile::tempdir().unwrap();
    let bench = Bench::new(Master::builder());
    // It is large: a part of the cuts must do.
    let step = (content.len() / 20 / 4096).max(1) * 4096;
    for end in (0..content.len()).step_by(step) {
        let path = directory.path().join(format!("cut-{end}.so"));
        fs::write(&path, &content[..end]).unwrap();
        let text = refusal(&bench, &format!("cut-{end}"), &path);
        assert!(text.contains(": truncated: "), "{text}");
        fs::remove_file(path).unwrap();
    }
    bench.finish();
}

#[test]
fn b20_b21_what_is_wrong_with_a_descriptor_is_named() {
    let Some(workshop) = Workshop::open() else { return };
    let bench = bench();
    let cases: [(&str, &[&str], &str); 17] = [
        (
            "none",
            &["-DSYMBOL=another"],
            "it has no symbol \"hsu_module_descriptor\": dlsym failed: ",
        ),
        ("magic", &["-DMAGIC=1"], "bad magic: its symbol is no module descriptor"),
        ("major", &["-DMAJOR=2"], "its ABI version is 2.0, and this program has 1.0"),
        ("size", &["-DSIZE=40"], "its descriptor has 40 bytes, and version 1.0 has 128"),
        ("stop", &["-DSTOP=NULL"], "its descriptor's stop is null"),
        ("destroy", &["-DDESTROY=NULL"], "its descriptor's destroy is null"),
        ("name", &["-DNAME=NULL"], "its descriptor's name is null"),
        ("version", &["-DVERSION=NULL"], "its descriptor's version is null"),
        ("empty", &["-DNAME=\"\""], "its name is empty or longer than 255 bytes"),
        ("bytes", &["-DNAME=\"a/b\""], "its name is \"a/b\"; use letters, digits, '_'"),
        ("utf8", &["-DVERSION=\"\\377\""], "its version is not UTF-8"),
        ("flags", &["-DFLAGS=12"], "it sets the flags 0xc, which this program does not know"),
        ("abort", &["-DFLAGS=1"], "it is built with panic = \"abort\""),
        ("null", &["-DHANDLE=NULL"], "create succeeded, and gave no handle"),
        ("create", &["-DCREATE=2", "-DTEXT=\"no room\""], "no room"),
        ("panic", &["-DCREATE=3", "-DTEXT=\"boom\\nat a.c:1\""], "boom at a.c:1"),
        ("missing", &["-DMISSING"], "dlopen failed: "),
    ];
    for (id, options, said) in cases {
        let library = workshop.variant(&format!("{id}.so"), options);
        let text = refusal(&bench, id, &library);
        assert!(text.contains(said), "{id}: {text}");
        // The same words without a trial.
        let alone = Bench::new(Master::builder());
        let error = start_error(&alone, worker(id, &library).restart(slow()));
        assert!(error.to_string().contains(said), "{id}: {error}");
        alone.finish();
    }
    let missing = workshop.path("missing.so");
    assert!(refusal(&bench, "symbol", &missing).contains("undefined symbol: nowhere_to_be_found"));
    let long = format!("-DNAME=\"{}\"", "x".repeat(256));
    let long = workshop.variant("long.so", &[&long]);
    assert!(refusal(&bench, "long", &long).contains("its name is empty or longer"));
    let function = worker("function", &workshop.variant("f.so", &[]));
    let function = function.entry_point("hsu_test_function").restart(slow());
    let error = start_error(&bench, function);
    assert!(error.to_string().contains("its symbol"), "{error}");
    // What a later minor version says is read as far as it is known.
    let newer = ["-DMINOR=7", "-DSIZE=sizeof(hsu_descriptor)+64", "-DSYMBOL=other"];
    let newer = workshop.variant("newer.so", &newer);
    bench.add(worker("newer", &newer).entry_point("other"));
    bench.master.start_worker("newer").unwrap();
    bench.finish();
}

#[test]
fn b22_what_kills_who_loads_it_kills_the_trial() {
    let Some(workshop) = Workshop::open() else { return };
    let bench = bench();
    let cases: [(&str, &[&str], &str); 5] = [
        ("abort", &["-DCONSTRUCTOR=abort()"], "it kills the process with signal SIGABRT (6)"),
        (
            "segv",
            &["-DCONSTRUCTOR=*(volatile int *)8 = 1"],
            "it kills the process with signal SIGSEGV (11)",
        ),
        ("exit", &["-DCONSTRUCTOR=_exit(0)"], "it ends the process that loads it (exit status: 0)"),
        ("later", &["-DIN_CREATE=abort()"], "it kills the process with signal SIGABRT (6)"),
        ("last", &["-DIN_DESTROY=abort()"], "it kills the process with signal SIGABRT (6)"),
    ];
    for (id, options, said) in cases {
        let library = workshop.variant(&format!("{id}.so"), options);
        let text = refusal(&bench, id, &library);
        assert!(text.contains(said), "{id}: {text}");
        let checked = check(&[library.to_str().unwrap()]);
        assert_eq!(checked.status.code(), Some(1), "{checked:?}");
        assert!(String::from_utf8_lossy(&checked.stderr).contains(said), "{checked:?}");
    }
    // One that only talks is no worse for it.
    let talks = "-DCONSTRUCTOR=(void)!write(1, \"{}\\nhello\", 8)";
    let talks = workshop.variant("talks.so", &[talks]);
    let checked = check(&[talks.to_str().unwrap()]);
    assert_eq!(checked.status.code(), Some(0), "{checked:?}");
    bench.finish();
}

#[test]
fn a_trial_that_hangs_is_ended_though_it_leaves_its_group_or_loses_its_master() {
    let Some(workshop) = Workshop::open() else { return };
    let hides = "-DCONSTRUCTOR=setpgid(0, getpgid(getppid())), pause()";
    let library = workshop.variant("hides.so", &[hides]);
    // A trial that nobody bounds.
    let mut trial = Command::new(env!("CARGO_BIN_EXE_hsu-master"));
    trial.arg("__hsu-probe").arg(&library).arg("hsu_module_descriptor");
    let mut trial = trial.stdout(Stdio::null()).spawn().unwrap();
    let bench = bench();
    let text = refusal(&bench, "hides", &library);
    assert!(text.contains("a process that loads it does not end within 10s"), "{text}");
    assert_eq!(trial.wait().unwrap().code(), Some(2));
    bench.finish();
}

#[test]
fn plugin_check_says_what_a_library_is() {
    let Some(workshop) = Workshop::open() else { return };
    let library = workshop.compile("examples/c_module/upper.c", "libupper.so", &[]);
    let path = library.to_str().unwrap();
    let checked = check(&[path]);
    assert_eq!(checked.status.code(), Some(0), "{checked:?}");
    let text = String::from_utf8(checked.stdout).unwrap();
    for part in ["a sound plugin", "upper 1.0.0", "turns text into upper case", "1.0, as hsu_m"] {
        assert!(text.contains(part), "{text}");
    }
    let json = |arguments: &[&str], code| {
        let checked = check(arguments);
        assert_eq!(checked.status.code(), Some(code), "{checked:?}");
        serde_json::from_slice::<serde_json::Value>(&checked.stdout).unwrap()
    };
    let told = json(&[path, "--json"], 0);
    let parts = ["ok", "name", "version", "abi", "built_with", "functions", "single_instance"];
    let expected = serde_json::json!([true, "upper", "1.0.0", "1.0", "C", true, false]);
    assert_eq!(serde_json::json!(parts.map(|part| told[part].clone())), expected);
    let told = json(&[path, "--json", "--symbol", "other"], 1);
    assert_eq!((&told["ok"], &told["category"]), (&false.into(), &"plugin".into()));
    assert!(told["message"].as_str().unwrap().contains("no symbol \"other\""), "{told}");
    assert_eq!(check(&[]).status.code(), Some(2));
    assert_eq!(check(&["/nowhere.so"]).status.code(), Some(1));
}

#[test]
fn check_warns_of_a_library_that_could_not_be_loaded_now() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("workers.yaml");
    let workers = "workers:\n  - { id: a, type: module, module_type: plugin, module_name: ./a.so, \
                   entry_point: other }\n";
    fs::write(&file, workers).unwrap();
    let mut command = Command::new(env!("CARGO_BIN_EXE_hsu-master"));
    let checked = command.arg("check").arg("-c").arg(&file).output().unwrap();
    assert_eq!(checked.status.code(), Some(0), "{checked:?}");
    let text = String::from_utf8(checked.stdout).unwrap();
    assert!(text.contains("workers.yaml: workers[0] (a): plugin "), "{text}");
    assert!(text.contains("a.so: ") && text.contains("no problems, 1 warning\n"), "{text}");
}

#[test]
fn the_header_is_plain_c_and_cplusplus() {
    let Some(workshop) = Workshop::open() else { return };
    let include = super::root().join("include");
    for (compiler, language, standard) in [("cc", "c", "c11"), ("c++", "c++", "c++11")] {
        let source = workshop.path("header");
        let text = "#include \"hsu_module.h\"\nHSU_EXPORT const hsu_descriptor sound = { \
                    HSU_MAGIC, sizeof(hsu_descriptor), HSU_ABI_MAJOR, HSU_ABI_MINOR, 0, 0, 0, \
                    0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0 };\n";
        fs::write(&source, text).unwrap();
        let mut command = Command::new(compiler);
        command.args(["-x", language, &format!("-std={standard}"), "-Wall", "-Wextra"]);
        command.args(["-pedantic", "-Werror", "-fsyntax-only", "-I"]).arg(&include).arg(&source);
        // A compiler for C is no promise of one for C++.
        if let Ok(compiled) = command.output() {
            let errors = String::from_utf8_lossy(&compiled.stderr);
            assert!(compiled.status.success(), "{compiler}: {errors}");
        }
    }
}
