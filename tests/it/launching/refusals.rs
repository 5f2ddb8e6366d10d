//! Each step that fails, with what is said of it, and that nothing is run then.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::process::Command;

use hsu_master::{Error, ErrorCategory, HardLimits, LimitsConfig, Master, WorkerConfig};

use super::{UID, as_nobody, as_root, bench, is_root, shell};
use crate::alone;
use crate::support::{Bench, example};

/// A command that runs what follows as another user that nobody is.
const STRANGER: [&str; 4] = ["setpriv", "--reuid=54324", "--regid=54324", "--clear-groups"];

/// Why a worker does not start. Nothing is left of it.
#[track_caller]
fn refused(bench: &Bench, config: WorkerConfig) -> Error {
    bench.add(config);
    let error = bench.master.start_worker("w").unwrap_err();
    let known = bench.once("w", |known| !known.ending);
    assert_eq!(known.pid, None);
    bench.master.remove_worker("w").unwrap();
    assert!(bench.lines.is_empty(), "it was run");
    error
}

#[track_caller]
fn check(bench: &Bench, config: WorkerConfig, category: ErrorCategory, said: &str) {
    let error = refused(bench, config);
    assert_eq!(error.to_string(), format!("worker w: {said}"));
    assert_eq!(error.category(), category);
}

fn proof() -> WorkerConfig {
    shell("echo it was run")
}

#[test]
fn accounts_that_are_none_are_named() {
    if !as_root() {
        return;
    }
    let bench = bench();
    let wrong = ErrorCategory::Configuration;
    let user = proof().execution(|execution| execution.user = Some("hsu-none".into()));
    check(&bench, user, wrong, "there is no user \"hsu-none\" on this system");
    let group = as_nobody(proof()).execution(|execution| execution.group = Some("hsu-none".into()));
    check(&bench, group, wrong, "there is no group \"hsu-none\" on this system");
    let alone = proof().execution(|execution| execution.user = Some(UID.to_string()));
    let said = "uid 54323 is not in the user database: write its group too";
    check(&bench, alone, wrong, said);
    bench.finish();
}

/// A root that has all rights but one.
fn root_without(right: &str) -> [String; 3] {
    ["setpriv".into(), format!("--bounding-set=-{right}"), format!("--inh-caps=-{right}")]
}

#[test]
fn a_switch_that_the_system_refuses_is_named() {
    if !as_root() {
        return;
    }
    let prefix = root_without("setuid");
    let prefix: Vec<_> = prefix.iter().map(String::as_str).collect();
    if !alone::here(&prefix, a_switch_that_the_system_refuses_is_named) {
        return;
    }
    let bench = bench();
    let said = "cannot switch to user '54323': Operation not permitted (os error 1)";
    check(&bench, as_nobody(proof()), ErrorCategory::PermissionDenied, said);
    bench.finish();
}

#[test]
fn groups_that_the_system_refuses_are_named() {
    if !as_root() {
        return;
    }
    let prefix = root_without("setgid");
    let prefix: Vec<_> = prefix.iter().map(String::as_str).collect();
    if !alone::here(&prefix, groups_that_the_system_refuses_are_named) {
        return;
    }
    let bench = bench();
    let said = "cannot set the supplementary groups: Operation not permitted (os error 1)";
    check(&bench, as_nobody(proof()), ErrorCategory::PermissionDenied, said);
    bench.finish();
}

#[test]
fn a_switch_that_leaves_a_way_back_is_none() {
    // With this bit a process that lets go of root's uid keeps root's capabilities.
    let prefix = ["setpriv", "--securebits=+no_setuid_fixup"];
    if !as_root() || !alone::here(&prefix, a_switch_that_leaves_a_way_back_is_none) {
        return;
    }
    let bench = bench();
    let error = refused(&bench, as_nobody(proof())).to_string();
    let said =
        "worker w: cannot switch to user '54323' for good: the rights of root can be regained";
    assert_eq!(error, said);
    bench.finish();
}

#[test]
fn without_root_what_takes_root_fails_and_is_named() {
    let prefix = if is_root() { &STRANGER[..] } else { &[] };
    if !alone::here(prefix, without_root_what_takes_root_fails_and_is_named) {
        return;
    }
    let bench = bench();
    let denied = ErrorCategory::PermissionDenied;
    let nice = proof().execution(|execution| execution.nice = Some(-5));
    check(&bench, nice, denied, "cannot set nice to -5: Permission denied (os error 13)");
    let score = proof().execution(|execution| execution.oom_score_adj = Some(-500));
    let said = "cannot set oom_score_adj to -500: Permission denied (os error 13)";
    check(&bench, score, denied, said);
    bench.finish();
}

#[test]
fn without_root_a_limit_cannot_be_lifted() {
    let shell = ["sh", "-c", r#"ulimit -Sn 200; ulimit -Hn 200; exec "$@""#, "sh"];
    let prefix = if is_root() { [&STRANGER[..], &shell].concat() } else { shell.to_vec() };
    if !alone::here(&prefix, without_root_a_limit_cannot_be_lifted) {
        return;
    }
    let bench = bench();
    let hard = HardLimits::default().open_files(201);
    let said = "cannot set limits.hard.open_files to 201: Operation not permitted (os error 1)";
    let limited = proof().limits(LimitsConfig::hard(hard));
    check(&bench, limited, ErrorCategory::PermissionDenied, said);
    bench.finish();
}

#[test]
fn without_root_nobody_becomes_somebody_else() {
    let prefix = if is_root() { &STRANGER[..] } else { &[] };
    if !alone::here(prefix, without_root_nobody_becomes_somebody_else) {
        return;
    }
    let bench = bench();
    let about = fs::metadata("/proc/self").unwrap();
    let (uid, gid) = {
        use std::os::unix::fs::MetadataExt;
        (about.uid().to_string(), about.gid().to_string())
    };
    for (path, config) in [
        ("execution.user", proof().execution(|e| e.user = Some("root".into()))),
        ("execution.user", proof().execution(|e| e.user = Some("hsu-none".into()))),
        ("execution.group", proof().execution(|e| e.group = Some("0".into()))),
        ("execution.supplementary_groups", {
            proof().execution(|e| e.supplementary_groups = vec![gid.clone(), "0".into()])
        }),
    ] {
        let error = bench.master.add_worker(config).unwrap_err();
        assert_eq!(error.category(), ErrorCategory::Configuration);
        let [problem] = error.problems() else { panic!("{error}") };
        let said = "needs root, which the master is not: run it as root, or remove this";
        assert_eq!((problem.path.as_str(), problem.message.as_str()), (path, said));
    }
    // What it is already needs no root.
    let own = shell("echo it was run; echo end").execution(|execution| {
        execution.user = Some(uid);
        execution.group = Some(gid.clone());
        execution.supplementary_groups = vec![gid];
    });
    assert_eq!(super::told(&bench, own), ["it was run"]);
    bench.finish();
}

#[test]
fn a09_what_the_user_may_not_reach_is_named_with_its_uid() {
    if !as_root() {
        return;
    }
    let bench = bench();
    let directory = tempfile::tempdir().unwrap();
    let open = |path: &std::path::Path, mode| {
        fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
    };
    let at = fs::canonicalize(directory.path()).unwrap();
    open(&at, 0o755);
    let locked = at.join("locked");
    fs::create_dir(&locked).unwrap();
    let inside = locked.join("program");
    let program = at.join("program");
    for path in [&inside, &program] {
        assert!(Command::new("cp").arg("/bin/true").arg(path).status().unwrap().success());
    }
    open(&locked, 0o700);
    open(&inside, 0o755);
    open(&program, 0o744);
    let denied = ErrorCategory::PermissionDenied;
    let run = |path: &std::path::Path| as_nobody(WorkerConfig::executable("w", path));
    let (locked, inside, program) = (locked.display(), inside.as_path(), program.as_path());
    let shown = inside.display();
    let said = format!("permission denied: uid 54323 may not search {locked} for program {shown}");
    check(&bench, run(inside), denied, &said);
    let shown = program.display();
    let said = format!("permission denied: uid 54323 may not execute program {shown}");
    check(&bench, run(program), denied, &said);
    let link = at.join("link");
    std::os::unix::fs::symlink(program, &link).unwrap();
    let shown = link.display();
    let said = format!("permission denied: uid 54323 may not execute program {shown}");
    check(&bench, run(&link), denied, &said);
    let at = at.join("locked");
    let said = format!("permission denied: uid 54323 may not enter working directory {locked}");
    check(&bench, as_nobody(proof()).working_directory(&at), denied, &said);
    // Root itself may do all of that.
    let root = shell("echo it was run; echo end").working_directory(&at);
    assert_eq!(super::told(&bench, root.execution(|e| e.umask = Some(0o22))), ["it was run"]);
    bench.finish();
}

#[test]
fn what_is_no_program_is_told_as_without_settings() {
    let bench = bench();
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("text");
    let make = r#"echo echo it was run > "$1"; chmod 755 "$1""#;
    assert!(Command::new("sh").args(["-c", make, "sh"]).arg(&path).status().unwrap().success());
    let text = WorkerConfig::executable("w", &path).execution(|e| e.umask = Some(0o22));
    let error = refused(&bench, text);
    assert_eq!(error.category(), ErrorCategory::Configuration);
    assert!(error.to_string().contains("is neither an executable for this system"), "{error}");

    let long = vec!["x".repeat(100 << 10); 80];
    let long = WorkerConfig::executable("w", "/bin/true").args(long);
    let error = refused(&bench, long.execution(|e| e.umask = Some(0o22)));
    assert_eq!(error.category(), ErrorCategory::ResourceLimit);
    assert!(error.to_string().contains("are more than the system takes"), "{error}");
    bench.finish();
}

#[test]
fn a_user_with_too_many_processes_gets_no_more() {
    const BUSY: &str = "54322";
    if !as_root() {
        return;
    }
    let bench = bench();
    let busy = |id: &str, script: &str| {
        let mut config = shell(script).execution(|execution| {
            execution.user = Some(BUSY.into());
            execution.group = Some(BUSY.into());
        });
        config.id = id.to_owned();
        config
    };
    bench.add(busy("first", "sleep 1000 & echo busy; exec sleep 1000"));
    bench.master.start_worker("first").unwrap();
    assert_eq!(bench.line().text, "busy");
    let second = busy("w", "echo it was run");
    let limited = second.limits(LimitsConfig::hard(HardLimits::default().processes(1)));
    let error = refused(&bench, limited);
    assert_eq!(error.category(), ErrorCategory::ResourceLimit);
    assert!(error.to_string().contains("a limit on processes or threads is reached"), "{error}");
    bench.finish();
}

#[test]
fn without_a_launcher_settings_are_refused_and_a_wrong_one_is_found_out() {
    let master = Master::builder().build().unwrap();
    let config = proof().execution(|execution| execution.nice = Some(1));
    let error = master.add_worker(config.clone()).unwrap_err();
    let [problem] = error.problems() else { panic!("{error}") };
    assert_eq!(problem.path, "execution.nice");
    assert!(problem.message.contains("hsu_master::host_if_requested"), "{problem}");
    // Without them the worker needs none.
    assert!(master.add_worker(proof()).is_ok());

    let bench = Bench::new(Master::builder().host_program("/bin/true"));
    let said = "the launcher ended before it had run the program: exit 0; its main must begin \
                with hsu_master::host_if_requested";
    check(&bench, config.clone(), ErrorCategory::Unknown, said);
    bench.finish();
    let bench = Bench::new(Master::builder().host_program("/none/such"));
    let said = "cannot run the launcher, /none/such: No such file or directory (os error 2)";
    check(&bench, config, ErrorCategory::Unknown, said);
    bench.finish();
    drop(example("actor_host"));
}
