//! Programs that cannot be run: each refusal says truly what is wrong.

use std::os::fd::AsRawFd;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::process::Stdio;

use super::super::{interpreter, preflight};
use super::*;

/// Why a plan came to nothing, at its launch or at its start.
fn refused(plan: ProcessPlan) -> Failure {
    let mut watched = Watched::launch(plan);
    watched.host.order(&Order::Start);
    let mut report = watched.report();
    if report == Report::Launched {
        report = watched.report();
    }
    let Report::Gone(Exit::Failed(failure)) = report else { panic!("{report:?}") };
    watched.nothing_more();
    failure
}

#[track_caller]
fn check(plan: ProcessPlan, category: ErrorCategory, message: &str) {
    let failure = refused(plan);
    assert_eq!((failure.category, failure.message.as_str()), (category, message));
    assert_eq!(
        failure.permanent,
        category == ErrorCategory::Configuration && message.contains("NUL")
    );
}

/// A directory for programs, by its real path.
struct Programs {
    _directory: tempfile::TempDir,
    path: PathBuf,
}

impl Programs {
    fn new() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let path = fs::canonicalize(directory.path()).unwrap();
        Self { _directory: directory, path }
    }

    /// A file made by another process: one that this process had open for writing could leak into a
    /// child of another test for a moment, and could not be run in that moment.
    fn file(&self, name: &str, mode: &str, content: &[u8]) -> String {
        let path = self.path.join(name).to_str().unwrap().to_owned();
        let mut shell = Command::new("/bin/sh");
        shell.args(["-c", r#"cat > "$1"; chmod "$2" "$1""#, "sh", &path, mode]);
        let mut shell = shell.stdin(Stdio::piped()).spawn().unwrap();
        shell.stdin.take().unwrap().write_all(content).unwrap();
        assert!(shell.wait().unwrap().success());
        path
    }
}

#[test]
fn what_is_missing_is_named() {
    let programs = Programs::new();
    let at = programs.path.display();
    let missing = ErrorCategory::ExecutableNotFound;
    let plan = |program: &str| plan(program, &[]);
    check(plan(&format!("{at}/x")), missing, &format!("program {at}/x does not exist"));
    let message = format!("program {at}/no/x does not exist: there is no {at}/no");
    check(plan(&format!("{at}/no/x")), missing, &message);

    symlink("/nowhere", programs.path.join("link")).unwrap();
    let message = format!("program {at}/link does not exist: {at}/link leads nowhere, to /nowhere");
    check(plan(&format!("{at}/link")), missing, &message);

    let file = programs.file("file", "755", b"");
    let message = format!("program {file}/x does not exist: {file} is not a directory");
    check(plan(&format!("{file}/x")), missing, &message);

    let mut directory = plan("/bin/true");
    directory.working_directory = Some(programs.path.join("gone"));
    check(directory, missing, &format!("working directory {at}/gone does not exist"));

    let mut lookup = plan("hsu-none");
    lookup.environment.insert("PATH".to_owned(), "/bin:/none".to_owned());
    check(lookup, missing, "program hsu-none was not found in PATH (/bin:/none)");
}

#[test]
fn a_missing_interpreter_or_loader_is_named() {
    let programs = Programs::new();
    let missing = ErrorCategory::ExecutableNotFound;
    let script = programs.file("script", "755", b"#! /no/such/sh -e\n");
    let message = format!("interpreter /no/such/sh of script {script} does not exist");
    let gap = ": there is no /no";
    check(plan(&script, &[]), missing, &format!("{message}{gap}"));

    // An interpreter may be a script whose own interpreter is missing.
    let outer = programs.file("outer", "755", format!("#!{script}\n").as_bytes());
    check(plan(&outer, &[]), missing, &format!("{message}{gap}"));

    let windows = programs.file("windows", "755", b"#!/bin/sh\r\nexit\r\n");
    let failure = refused(plan(&windows, &[]));
    assert_eq!(failure.category, missing);
    assert!(failure.message.contains("carriage return"), "{failure}");

    let loader = interpreter::loader(Path::new("/bin/true")).unwrap().expect("a loader");
    let loader = loader.to_str().unwrap();
    let mut program = fs::read("/bin/true").unwrap();
    let named = program.windows(loader.len()).position(|part| part == loader.as_bytes()).unwrap();
    program[named + loader.len() - 1] = b'X';
    let program = programs.file("program", "755", &program);
    let loader = format!("{}X", &loader[..loader.len() - 1]);
    let message = format!("loader {loader} of program {program} does not exist");
    check(plan(&program, &[]), missing, &message);
}

#[test]
fn what_may_not_be_run_is_named() {
    let programs = Programs::new();
    let denied = ErrorCategory::PermissionDenied;
    let (at, uid) = (programs.path.display(), sys::effective_uid());
    let plain = programs.file("plain", "644", b"#!/bin/sh\n");
    let message = format!(
        "permission denied: uid {uid} may not execute program {plain} (mode 0644, owner {uid})"
    );
    check(plan(&plain, &[]), denied, &message);
    // In a PATH too it is found, and refused.
    let mut lookup = plan("plain", &[]);
    lookup.environment.insert("PATH".to_owned(), at.to_string());
    check(lookup, denied, &message);

    let message = format!("permission denied: program {at}/ is a directory");
    check(plan(&format!("{at}/"), &[]), denied, &message);

    let script = programs.file("script", "755", format!("#!{plain}\n").as_bytes());
    let failure = refused(plan(&script, &[]));
    assert_eq!(failure.category, denied);
    let named = format!("may not execute interpreter {plain} of script {script} (mode 0644");
    assert!(failure.message.contains(&named), "{failure}");

    let mut inside = plan("/bin/true", &[]);
    inside.working_directory = Some(plain.clone().into());
    let failure = refused(inside);
    assert_eq!(failure.category, ErrorCategory::Configuration);
    assert_eq!(failure.message, format!("working directory {plain} is not a directory"));
}

#[test]
fn a_directory_that_may_not_be_searched_is_named() {
    const NOBODY: u32 = 65534;
    let programs = Programs::new();
    let locked = programs.path.join("locked");
    fs::create_dir(&locked).unwrap();
    let program = plan(locked.join("deep/program").to_str().unwrap(), &[]);
    let mut entered = plan("/bin/true", &[]);
    entered.working_directory = Some(locked.clone());
    let mode = |mode| fs::Permissions::from_mode(mode);
    fs::set_permissions(&programs.path, mode(0o755)).unwrap();
    fs::set_permissions(&locked, mode(0o600)).unwrap();
    let (tell, told) = unbounded();
    let check = move || {
        sys::reach_files_as(NOBODY);
        tell.send([preflight::check(&program, None), preflight::check(&entered, None)]).unwrap();
    };
    threads::spawn("nobody", launchers::STACK, check).unwrap().join().unwrap();
    let [searched, entered] = told.recv().unwrap().map(Result::unwrap_err);
    let at = locked.display();
    assert_eq!(searched.category, ErrorCategory::PermissionDenied);
    let expected = format!("may not search {at} for program {at}/deep/program");
    assert!(searched.message.ends_with(&expected), "{searched}");
    assert_eq!(entered.category, ErrorCategory::PermissionDenied);
    let expected = format!("may not enter working directory {at}");
    assert!(entered.message.ends_with(&expected), "{entered}");
}

#[test]
fn what_is_no_program_is_not_given_to_a_shell() {
    let programs = Programs::new();
    for (name, content) in [("empty", &b""[..]), ("text", b"echo hello\n"), ("cut", b"\x7fELF\x02")]
    {
        let program = programs.file(name, "755", content);
        let message = format!(
            "{program} is neither an executable for this system nor a script that names its \
             interpreter with #!"
        );
        check(plan(&program, &[]), ErrorCategory::Configuration, &message);
    }
}

#[test]
fn arguments_that_the_system_cannot_take_are_refused() {
    let long = "x".repeat(200 << 10);
    let message = "the arguments and the environment are more than the system takes: 204801 bytes \
                   of arguments, 204800 in the longest string";
    check(plan("/bin/true", &[&long]), ErrorCategory::ResourceLimit, message);
    let failure = refused(plan("/bin/true", &[&long[..100 << 10]; 80]));
    assert_eq!(failure.category, ErrorCategory::ResourceLimit, "{failure}");

    let configuration = ErrorCategory::Configuration;
    check(plan("/bin/true", &["a", "b\0c"]), configuration, "argument 2 contains a NUL byte");
    check(plan("/bin/\0", &[]), configuration, "the program's path contains a NUL byte");
    let mut named = plan("/bin/true", &[]);
    named.environment.insert("A".to_owned(), "\0".to_owned());
    check(named, configuration, "environment variable A contains a NUL byte");
    let mut named = plan("/bin/true", &[]);
    named.environment.insert("A=B".to_owned(), String::new());
    let failure = refused(named);
    assert_eq!(failure.message, "\"A=B\" cannot name an environment variable");
    assert!(failure.permanent);
}

#[test]
fn descriptors_that_run_out_are_an_error_until_there_are_some_again() {
    if !alone::here(&[], descriptors_that_run_out_are_an_error_until_there_are_some_again) {
        return;
    }
    let (tell, seen) = unbounded();
    let shared = ProcessShared::new(Arc::new(Sink(tell.clone())), None, estate()).unwrap();
    let report: Reporter = Arc::new(move |report| {
        let _ = tell.send(Seen::Report(report));
    });
    let launch = |program: &str| {
        let worker = WorkerId::new("api").unwrap();
        let host =
            ProcessHost::launch(worker, 1, Arc::new(plan(program, &[])), &shared, report.clone());
        host.order(&Order::Start);
        loop {
            if let Seen::Report(Report::Gone(exit)) = seen.recv_timeout(PATIENCE).unwrap() {
                return exit;
            }
        }
    };
    let limit = |soft| sys::set_nofile(0, sys::Limit { soft, hard: 1024 }).unwrap();
    let next = File::open("/dev/null").unwrap().as_fd().as_raw_fd() as u64;
    for spare in 0..5 {
        limit(next + spare);
        let Exit::Failed(failure) = launch("/bin/true") else { panic!("it ran with {spare}") };
        assert_eq!(failure.category, ErrorCategory::ResourceLimit, "{failure}");
    }
    limit(1024);
    assert_eq!(launch("/bin/true"), Exit::Code(0));
}

#[test]
fn errors_of_the_spawn_itself_are_told_apart() {
    use ErrorCategory::{PermissionDenied, ResourceLimit, Unknown};
    let plan = plan("/bin/true", &[]);
    let explain = |number| {
        let error = io::Error::from_raw_os_error(number);
        preflight::explain(&error, &plan, Path::new("/bin/true"))
    };
    for (number, category, words) in [
        (sys::EAGAIN, ResourceLimit, "no room for another process"),
        (sys::ENOMEM, ResourceLimit, "no memory"),
        (sys::EMFILE, ResourceLimit, "no descriptors left"),
        (sys::ETXTBSY, Unknown, "/bin/true is open for writing"),
        // Nothing that we know of stands against it; the system's word is passed on.
        (1, PermissionDenied, "cannot run /bin/true: Operation not permitted"),
        (2, ErrorCategory::ExecutableNotFound, "cannot run /bin/true: No such file"),
        (5, Unknown, "cannot run /bin/true: "),
    ] {
        let failure = explain(number);
        assert_eq!(failure.category, category, "{failure}");
        assert!(failure.message.starts_with(words), "{failure}");
        assert!(!failure.permanent);
    }
}
