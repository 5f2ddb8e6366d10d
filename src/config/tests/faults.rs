//! Files and texts that are hostile, broken, or large.

use std::fs;
use std::process::Command;

use super::{load, lookup, problems, read, shown};
use crate::config::{Error, MasterConfig};
use crate::error::ErrorCategory;

const MINIMAL: &str = "workers:\n  - id: a\n    command: ./x\n";

/// Writes `bytes` as a file of its own and loads it.
fn load_bytes(bytes: &[u8]) -> Result<MasterConfig, Error> {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("w.yaml");
    fs::write(&path, bytes).unwrap();
    load(&path, &lookup, &super::nothing)
}

/// The one problem of a file with these bytes, without the file's name.
fn refusal(bytes: &[u8]) -> String {
    let error = load_bytes(bytes).unwrap_err();
    let [problem] = error.problems() else { panic!("one problem: {error}") };
    assert!(problem.file.ends_with("w.yaml"));
    problem.to_string().replace(&problem.file, "").trim_start_matches(':').trim().to_owned()
}

#[test]
fn an_empty_file_defines_no_workers() {
    for text in ["", "\n\n", "# only a comment\n", "---\n", "~\n", "\u{FEFF}", "\r\n"] {
        let found = problems(text);
        assert_eq!(found.len(), 1);
        let message = "no workers defined; write `workers: []` if none are meant";
        assert!(found[0].ends_with(message), "{text:?}: {found:?}");
    }
}

#[test]
fn byte_order_marks_and_carriage_returns_are_accepted() {
    let plain = read(MINIMAL).unwrap();
    let dressed = format!("\u{FEFF}{}", MINIMAL.replace('\n', "\r\n"));
    let digest = plain.digest.clone();
    assert_eq!(MasterConfig { digest, ..read(&dressed).unwrap() }, plain);
    let wrong = dressed.replace("command", "comand");
    assert!(
        problems(&wrong)
            .contains(&"3:5: workers[0].comand: unknown key; did you mean `command`?".to_owned())
    );
    assert!(load_bytes(dressed.as_bytes()).is_ok());
}

#[test]
fn a_file_that_is_no_yaml_is_told_with_line_and_column() {
    for (bytes, expected) in [
        (
            &b"workers: [a\nb: c\n"[..],
            "2:2: not valid YAML: did not find expected ',' or ']', while parsing a flow sequence \
             at line 1 column 10 near \": c\"",
        ),
        (b"workers:\n\t- a\n", "2:1: a tab cannot indent; use spaces"),
        (
            b"a: b: c\n",
            "1:5: not valid YAML: mapping values are not allowed in this context near \": c\"",
        ),
        (b"a: *b\n", "1:4: not valid YAML: unknown anchor near \"*b\""),
        (b"workers: !x []\n", "1:10: workers: tags (`!name`) are not understood; remove it"),
        (b"workers: []\n---\na: b\n", "3:1: a second document begins here; a file is one document"),
        (b"\x7fELF\x02\x01\x01\0\0", "1:1: contains the control character U+007F; is it YAML?"),
        (b"a: b\nc: d\0\n", "2:5: contains the control character U+0000; is it YAML?"),
        (b"a: b\nc: \xff\n", "2:4: is not UTF-8 from here on; save the file as UTF-8"),
        (b"\xff\xfea\0", "1:1: is UTF-16; save the file as UTF-8"),
        (b"\xfe\xff\0a", "1:1: is UTF-16; save the file as UTF-8"),
        (b"a: {<<: {}, <<: {}}\n", "1:4: a: `<<` is written twice; give it one list of mappings"),
        (b"a: {<<: 1}\n", "1:4: a: `<<` takes a mapping or a list of mappings"),
    ] {
        assert_eq!(refusal(bytes), expected);
    }
}

#[test]
fn only_regular_files_are_read() {
    let directory = tempfile::tempdir().unwrap();
    let fifo = directory.path().join("fifo");
    assert!(Command::new("mkfifo").arg(&fifo).status().unwrap().success());
    for (path, expected) in [
        (fifo.as_path(), "is not a regular file"),
        ("/dev/zero".as_ref(), "is not a regular file"),
        (directory.path(), "is a directory; name the file in it"),
        ("/nowhere/w.yaml".as_ref(), "cannot be opened: No such file or directory (os error 2)"),
    ] {
        let error = load(path, &lookup, &super::nothing).unwrap_err();
        assert_eq!(error.category(), ErrorCategory::Configuration);
        assert_eq!(shown(&error), [format!("{}: {expected}", path.display())]);
    }
}

#[test]
fn a_file_is_at_most_one_mebibyte() {
    let mut bytes = MINIMAL.as_bytes().to_vec();
    bytes.resize(1 << 20, b'\n');
    assert!(load_bytes(&bytes).is_ok());
    bytes.push(b'\n');
    assert_eq!(refusal(&bytes), "is larger than 1 MiB, the limit of a configuration file");
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("w.yaml");
    fs::File::create(&path).unwrap().set_len(1 << 40).unwrap();
    assert!(
        load(&path, &lookup, &super::nothing)
            .unwrap_err()
            .to_string()
            .contains("is larger than 1 MiB")
    );
    assert_eq!(problems(&" ".repeat((1 << 20) + 1)), ["1:1: is larger than 1 MiB"]);
}

#[test]
fn a_loaded_file_gives_its_directory_to_name_and_paths() {
    let directory = tempfile::tempdir().unwrap();
    let home = directory.path().join("my app");
    fs::create_dir(&home).unwrap();
    fs::write(home.join("w.yaml"), MINIMAL).unwrap();
    let config = MasterConfig::load(home.join("w.yaml")).unwrap();
    assert_eq!(config.name.as_deref(), Some("my-app"));
    let execution = config.workers[0].execution.as_ref().unwrap();
    assert_eq!(execution.executable_path, home.join("x"));
    assert_eq!(execution.working_directory.as_ref(), Some(&home));
    fs::write(home.join("w.yaml"), format!("master: {{name: own}}\n{MINIMAL}")).unwrap();
    assert_eq!(MasterConfig::load(home.join("w.yaml")).unwrap().name.as_deref(), Some("own"));
}

/// Nine levels of nine times the one before: a billion laughs.
fn laughs() -> String {
    let mut laughs = "a: &a [x,x,x,x,x,x,x,x,x]\n".to_owned();
    for (from, to) in ('a'..'i').zip('b'..='i') {
        laughs.push_str(&format!("{to}: &{to} [{}]\n", vec![format!("*{from}"); 9].join(",")));
    }
    laughs
}

/// The most memory that this process has used so far, in bytes.
#[cfg(target_os = "linux")]
fn peak() -> u64 {
    let status = fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap();
    line.trim().trim_end_matches(" kB").parse::<u64>().unwrap() << 10
}

/// Each would take gigabytes if it was followed.
#[cfg(target_os = "linux")]
#[test]
fn c04_c05_bombs_take_no_memory() {
    if !crate::host::alone::here(&[], c04_c05_bombs_take_no_memory) {
        return;
    }
    // What is loaded once, whatever is read, counts for nothing.
    assert!(read(MINIMAL).is_ok());
    for text in [
        laughs(),
        format!("a: &a [{}]\nb: [{}]", "x,".repeat(400), "*a,".repeat(60_000)),
        format!("a: &a {}\nb: [{}]", "x".repeat(100_000), "*a,".repeat(60_000)),
        "[".repeat(100_000),
        "{a: ".repeat(100_000),
        "- ".repeat(100_000),
        format!("workers: [{}]", "1,".repeat(500_000)),
    ] {
        let (before, begun) = (peak(), std::time::Instant::now());
        assert_eq!(problems(&text).len(), 1);
        let grown = peak() - before;
        eprintln!("{} KiB, {:?}: {:.20}...", grown >> 10, begun.elapsed(), text);
        assert!(grown < 64 << 20, "{grown}: {text:.40}");
    }
}

#[test]
fn bombs_are_refused_early() {
    let long = "x".repeat(100_000);
    for (text, expected) in [
        (laughs(), "repetition limit exceeded"),
        (
            format!("a: &a [{}]\nb: [{}]", "x,".repeat(400), "*a,".repeat(300)),
            "more than 100000 values, with aliases",
        ),
        (
            format!("a: &a {long}\nb: [{}]", "*a,".repeat(100)),
            "more than 8388608 bytes, with aliases",
        ),
        ("a: &a [*a]".to_owned(), "nested more than 64 levels deep"),
        ("[".repeat(100_000), "more than 128 brackets are open here"),
        ("{a: ".repeat(100_000), "more than 128 brackets are open here"),
        ("[ # ]\n".repeat(10_000), "more than 128 brackets are open here"),
        ("[']',".repeat(10_000), "more than 128 brackets are open here"),
        ("- ".repeat(100_000), "nested more than 64 levels deep"),
        (format!("a: {}{}", "[".repeat(64), "]".repeat(64)), "nested more than 64 levels deep"),
        (format!("? {long}\n: b"), "a key is longer than 256 bytes"),
        (format!("workers: [{}]", "1,".repeat(100_001)), "more than 100000 values, with aliases"),
    ] {
        let found = problems(&text);
        assert!(found.len() == 1 && found[0].contains(expected), "{expected}: {found:?}");
    }
    let deep = |levels: usize| format!("{}x{}", "[".repeat(levels), "]".repeat(levels));
    let config = |levels| {
        format!(
            "workers: [{{id: a, type: module, module_name: m, config: {{a: {}}}}}]",
            deep(levels)
        )
    };
    assert!(read(&config(60)).is_ok());
    assert!(read(&config(61)).is_err());
}

#[test]
fn the_config_of_a_worker_is_at_most_960_kibibytes() {
    let text = |count: usize| {
        let long = "x".repeat(100_000);
        format!(
            "workers: [{{id: a, type: module, module_name: m, config: {{a: &a {long}, b: [{}]}}}}]",
            "*a,".repeat(count)
        )
    };
    assert!(read(&text(8)).is_ok());
    assert_eq!(problems(&text(9)), ["1:58: workers[0].config: is larger than 960 KiB as JSON"]);
}

#[test]
fn variables_cannot_grow_without_bound() {
    let huge = |_: &str| Some("x".repeat(500_000).into());
    let source = super::Source { file: "", directory: None, lookup: &huge, check: &super::nothing };
    let text = format!("workers: [{{id: a, command: [{}]}}]", "'${A}',".repeat(100));
    let error = super::master(source, &text).unwrap_err();
    assert_eq!(error.problems().len(), 50);
    assert!(error.problems()[49].message.contains("8 MiB"), "{:?}", error.problems()[49]);
}

#[test]
fn c20_ten_thousand_workers_are_read_and_their_mistakes_counted() {
    let worker = |index: usize| {
        format!("- {{id: w{index}, type: module, module_name: m, config: {{port: {index}}}}}\n")
    };
    for count in [1250, 2500, 5000] {
        let text: String = (0..count).map(worker).collect();
        let begun = std::time::Instant::now();
        assert_eq!(read(&format!("workers:\n{text}")).unwrap().workers.len(), count);
        eprintln!("{count} workers: {:?}", begun.elapsed());
    }
    let text: String = (0..10_000).map(worker).collect();
    let begun = std::time::Instant::now();
    let config = read(&format!("workers:\n{text}")).unwrap();
    eprintln!("10000 workers: {:?}", begun.elapsed());
    assert_eq!(config.workers.len(), 10_000);
    assert_eq!(config.workers[9_999].config["port"], 9_999);

    let wrong = text.replace("module_name", "modul_name");
    let error = read(&format!("workers:\n{wrong}")).unwrap_err();
    let first = "2:11: workers[0].modul_name: unknown key; did you mean `module_name`?";
    assert!(shown(&error).iter().any(|problem| problem.ends_with(&first[5..])), "{error}");
    assert!(error.to_string().ends_with("and 19950 more"), "{error}");
}
