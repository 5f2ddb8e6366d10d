//! Programs that cannot be run, each refused with the true reason (FAULTS A07 to A12).

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt};

use hsu_master::{Error, ErrorCategory, WorkerConfig};

use super::{Programs, bench};
use crate::alone;
use crate::support::{Bench, example, quick};

/// Why a worker does not start.
fn refused(bench: &Bench, config: WorkerConfig) -> Error {
    let id = config.id.clone();
    bench.add(config.restart(quick().max_retries(1)));
    let error = bench.master.start_worker(&id).unwrap_err();
    // It may mend, so it is tried again, and counted as any failure.
    assert!(!error.permanent());
    let known = bench.once(&id, |known| known.gave_up);
    assert_eq!((known.restarts, known.pid), (1, None));
    let told = format!("worker {id}: {}", known.last_error.unwrap().message);
    assert_eq!(error.to_string(), told);
    bench.master.remove_worker(&id).unwrap();
    error
}

fn program(path: &str) -> WorkerConfig {
    WorkerConfig::executable("w", path)
}

#[test]
fn a07_what_is_no_program_is_not_given_to_a_shell() {
    let (bench, programs) = (bench(), Programs::new());
    let mut foreign = fs::read("/bin/true").unwrap();
    foreign[18..20].copy_from_slice(&[0xf7, 0x7f]); // e_machine: none that there is
    let proof = programs.path.join("proof");
    let script = format!("echo run by a shell > {}\n", proof.display());
    for (name, content) in [("empty", &b""[..]), ("text", script.as_bytes()), ("foreign", &foreign)]
    {
        let path = programs.file(name, "755", content);
        let error = refused(&bench, program(&path));
        assert_eq!(error.category(), ErrorCategory::Configuration);
        let said = format!("{path} is neither an executable for this system nor a script");
        assert!(error.to_string().contains(&said), "{error}");
    }
    assert!(!proof.exists());
    bench.finish();
}

#[test]
fn a08_four_things_that_may_be_missing_have_four_messages() {
    let (bench, programs) = (bench(), Programs::new());
    let at = programs.path.display().to_string();
    let script = programs.file("script", "755", b"#!/no/interpreter\n");
    let mut lookup = program("hsu-none");
    lookup = lookup.env("PATH", &at);
    for (config, said) in [
        (program(&format!("{at}/none")), format!("program {at}/none does not exist")),
        (
            program(&script),
            format!(
                "interpreter /no/interpreter of script {script} does not exist: there is no /no"
            ),
        ),
        (
            program("/bin/true").working_directory(format!("{at}/gone")),
            format!("working directory {at}/gone does not exist"),
        ),
        (lookup, format!("program hsu-none was not found in PATH ({at})")),
    ] {
        let error = refused(&bench, config);
        assert_eq!(error.category(), ErrorCategory::ExecutableNotFound);
        assert_eq!(error.to_string(), format!("worker w: {said}"));
    }
    bench.finish();
}

#[test]
fn a09_what_may_not_be_run_is_named() {
    let (bench, programs) = (bench(), Programs::new());
    let plain = programs.file("plain", "644", b"#!/bin/sh\n");
    let at = programs.path.display().to_string();
    for (config, said) in [
        (program(&plain), format!("may not execute program {plain} (mode 0644, owner ")),
        (program(&at), format!("permission denied: program {at} is a directory")),
    ] {
        let error = refused(&bench, config);
        assert_eq!(error.category(), ErrorCategory::PermissionDenied);
        assert!(error.to_string().contains(&said), "{error}");
    }
    bench.finish();
}

/// A uid that nobody here has; to run as it takes root.
const STRANGER: [&str; 4] = ["setpriv", "--reuid=54321", "--regid=54321", "--clear-groups"];

fn is_root() -> bool {
    fs::metadata("/proc/self").unwrap().uid() == 0
}

#[test]
fn a09_a_directory_that_may_not_be_searched_is_named() {
    // Root may search everything.
    let prefix = if is_root() { &STRANGER[..] } else { &[] };
    if !alone::here(prefix, a09_a_directory_that_may_not_be_searched_is_named) {
        return;
    }
    let (bench, programs) = (bench(), Programs::new());
    let locked = programs.path.join("locked");
    fs::create_dir(&locked).unwrap();
    fs::set_permissions(&locked, fs::Permissions::from_mode(0o600)).unwrap();
    let at = locked.display();
    let error = refused(&bench, program(&format!("{at}/x")));
    assert_eq!(error.category(), ErrorCategory::PermissionDenied);
    let said = format!("may not search {at} for program {at}/x");
    assert!(error.to_string().ends_with(&said), "{error}");
    bench.finish();
}

#[test]
fn a10_arguments_that_the_system_cannot_take_are_refused() {
    let bench = bench();
    let long = "x".repeat(200 << 10);
    for (config, path, said) in [
        (program("/bin/true").args([&long]), "execution.args[0]", "is longer than the system's"),
        (program("/bin/true").args(["a", "b\0"]), "execution.args[1]", "contains a NUL character"),
        (
            program("/bin/true").env("A", "\0"),
            "execution.environment.A",
            "contains a NUL character",
        ),
        (program("/bin/tr\0ue"), "execution.executable_path", "contains a NUL character"),
    ] {
        let error = bench.master.add_worker(config).unwrap_err();
        assert_eq!(error.category(), ErrorCategory::Configuration);
        let [problem] = error.problems() else { panic!("{error}") };
        assert_eq!(problem.path, path);
        assert!(problem.message.starts_with(said), "{problem}");
    }
    // Each is short enough, but all together are not: only the system knows.
    let error = refused(&bench, program("/bin/true").args(vec![&long[..100 << 10]; 80]));
    assert_eq!(error.category(), ErrorCategory::ResourceLimit);
    assert!(error.to_string().contains("are more than the system takes"), "{error}");
    bench.finish();
}

#[test]
fn a11_a_limit_on_processes_is_an_error_until_there_is_room_again() {
    if !is_root() {
        // Without a uid of its own the test could not know how many processes it has.
        crate::support::skipped("to have a uid of one's own takes root");
        return;
    }
    let limited = [&STRANGER[..], &["sh", "-c", r#"ulimit -u 30; exec "$@""#, "sh"]].concat();
    if !alone::here(&limited, a11_a_limit_on_processes_is_an_error_until_there_is_room_again) {
        return;
    }
    let bench = bench();
    let ids: Vec<_> = (0..40).map(|number| format!("w{number}")).collect();
    let mut up = Vec::new();
    let mut refused = Vec::new();
    for id in &ids {
        bench.add(
            WorkerConfig::executable(id, "/bin/sleep")
                .args(["1000"])
                .restart(crate::support::slow()),
        );
        match bench.master.start_worker(id) {
            Ok(_) => up.push(id),
            Err(error) => {
                assert_eq!(error.category(), ErrorCategory::ResourceLimit, "{error}");
                assert!(!error.permanent());
                refused.push(id);
            }
        }
    }
    assert!(up.len() >= 3 && refused.len() >= 3, "{} up of {}", up.len(), ids.len());
    for id in &up[..3] {
        bench.master.stop_worker(id).unwrap();
    }
    // The last one's monitor may be on its way out still.
    crate::support::until(|| bench.master.start_worker(refused[0]).is_ok());
    bench.finish();
}

#[test]
fn a12_descriptors_that_run_out_are_an_error_until_they_return() {
    let limited = ["sh", "-c", r#"ulimit -Sn 64; exec "$@""#, "sh"];
    if !alone::here(&limited, a12_descriptors_that_run_out_are_an_error_until_they_return) {
        return;
    }
    let bench = Bench::new(hsu_master::Master::builder().host_program(example("actor_host")));
    // With the first process comes the master's guardian, which stays.
    bench.add(WorkerConfig::executable("first", "/bin/sleep").args(["1000"]));
    bench.master.start_worker("first").unwrap();
    bench.master.stop_worker("first").unwrap();
    let before = descriptors();
    let ids: Vec<_> = (0..30).map(|number| format!("w{number}")).collect();
    let (mut up, mut refused) = (Vec::new(), Vec::new());
    for (number, id) in ids.iter().enumerate() {
        let sleep = WorkerConfig::executable(id, "/bin/sleep").args(["1000"]);
        // Every other one through the launcher, whose line takes descriptors too.
        let umask = (number % 2 == 0).then_some(0o22);
        let sleep = sleep.execution(|execution| execution.umask = umask);
        bench.add(sleep.restart(crate::support::slow()));
        match bench.master.start_worker(id) {
            Ok(_) => up.push(id),
            Err(error) => {
                assert_eq!(error.category(), ErrorCategory::ResourceLimit, "{error}");
                assert!(!error.permanent());
                refused.push(id);
            }
        }
    }
    assert!(up.len() >= 3 && refused.len() >= 3, "{} up of {}", up.len(), ids.len());
    // Who is up stays up, and is stopped as ever.
    for id in &up {
        assert_eq!(bench.known(id).state, hsu_master::WorkerState::Running);
        bench.master.stop_worker(id).unwrap();
    }
    crate::support::until(|| refused[..3].iter().all(|id| bench.master.start_worker(id).is_ok()));
    for id in &refused[..3] {
        bench.master.stop_worker(id).unwrap();
    }
    // What the first one had may not all have been closed when they were counted.
    crate::support::until(|| descriptors() <= before);
    bench.finish();
}

fn descriptors() -> usize {
    fs::read_dir("/proc/self/fd").unwrap().count()
}
