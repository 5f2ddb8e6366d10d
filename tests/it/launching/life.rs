//! The life of a process that is launched in two stages: when it runs, how it is stopped before,
//! and what is left.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::Command;

use hsu_master::{ErrorCategory, Exit, Integration, Master, StopConfig, WorkerConfig, WorkerState};

use super::{UID, as_nobody, as_root, bench, shell};
use crate::actor::{Behaviour, HOSTED, Life};
use crate::alone;
use crate::support::{Bench, NEVER, answer, ms, once};

/// The uid that a process has.
fn uid_of(pid: u32) -> u32 {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("Uid:")).unwrap().to_owned();
    line.split_whitespace().next().unwrap().parse().unwrap()
}

/// Lets anybody write into a FIFO of the bench.
fn open(fifo: &Path) {
    let mode = |path: &Path, mode| {
        fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
    };
    mode(fifo, 0o666);
    mode(fifo.parent().unwrap(), 0o755);
}

#[test]
fn a_module_in_a_process_of_its_own_speaks_as_another_user() {
    if !as_root() {
        return;
    }
    let bench = bench_with_actor();
    open(bench.voice());
    let behaviour = Behaviour::new(&bench, &[Life::Stays]);
    bench.add(as_nobody((HOSTED.worker)("w", &behaviour)));
    bench.master.start_worker("w").unwrap();
    bench.hears_that("w 1 ready");
    let pid = bench.known("w").pid.unwrap();
    assert_eq!(uid_of(pid), UID);
    // Its end is heard and its next life is like the first.
    bench.master.restart_worker("w", false).unwrap();
    bench.hears_that("w 2 ready");
    assert_eq!(uid_of(bench.known("w").pid.unwrap()), UID);
    assert_eq!(bench.finish().report.killed, Vec::<String>::new());
}

fn bench_with_actor() -> Bench {
    let builder = Master::builder().module("actor", crate::actor::make);
    Bench::new(builder.host_program(crate::support::example("actor_host")))
}

#[test]
fn a_program_speaks_the_protocol_through_the_launcher() {
    let bench = bench();
    // `read` hears, `>&0` speaks.
    let script = r#"echo '{"event":"hello","params":{"protocol":[1,0]}}' >&0
        while read -r line; do
            id=${line#*'"id":'}; id=${id%%,*}
            echo "{\"id\":$id,\"result\":{\"healthy\":true}}" >&0
            case $line in *stop*) exit 0;; esac
        done"#;
    let mut config = shell(script).integration(Integration::Protocol);
    config = config.execution(|execution| execution.umask = Some(0o27));
    if super::is_root() {
        config = as_nobody(config);
    }
    bench.add(config);
    bench.master.start_worker("w").unwrap();
    let known = bench.known("w");
    assert_eq!(known.state, WorkerState::Running);
    if super::is_root() {
        assert_eq!(uid_of(known.pid.unwrap()), UID);
    }
    bench.master.stop_worker("w").unwrap();
    assert_eq!(bench.known("w").exit, Some(Exit::Code(0)));
    bench.finish();
}

#[test]
fn a_process_runs_when_it_has_become_its_program() {
    let bench = bench();
    for _ in 0..20 {
        let config = WorkerConfig::executable("w", "/bin/sleep").args(["1000"]);
        bench.add(config.execution(|execution| execution.umask = Some(0o22)));
        bench.master.start_worker("w").unwrap();
        let pid = bench.known("w").pid.unwrap();
        let exe = fs::read_link(format!("/proc/{pid}/exe")).unwrap();
        assert_eq!(exe, fs::canonicalize("/bin/sleep").unwrap());
        bench.master.stop_worker("w").unwrap();
        assert_eq!(bench.known("w").exit, Some(Exit::Signal { signal: 15, core_dumped: false }));
        bench.master.remove_worker("w").unwrap();
    }
    bench.finish();
}

/// A program that never does what a launcher does, and says that it is there.
fn hanging(bench: &Bench, directory: &Path) -> Bench {
    let path = directory.join("launcher");
    let make =
        r#"printf '#!/bin/sh\necho there > %s\nexec sleep 1000\n' "$2" > "$1"; chmod 755 "$1""#;
    let mut shell = Command::new("sh");
    shell.args(["-c", make, "sh"]).arg(&path).arg(bench.voice());
    assert!(shell.status().unwrap().success());
    Bench::new(Master::builder().host_program(path))
}

#[test]
fn a_launch_that_hangs_is_ended_by_a_stop() {
    let (heard, directory) = (bench(), tempfile::tempdir().unwrap());
    let bench = hanging(&heard, directory.path());
    let config = shell("echo it was run").start_timeout(NEVER);
    let config = config.execution(|execution| execution.umask = Some(0o22));
    // The launcher has nothing to do before its end: nobody is patient with it.
    bench.add(config.stop(StopConfig::default().timeout(NEVER)));
    let start = bench.master.start_worker_nowait("w");
    assert_eq!(heard.hears(), "there");
    bench.master.stop_worker("w").unwrap();
    assert_eq!(answer(&start).unwrap_err().category(), ErrorCategory::Cancelled);
    let known = bench.known("w");
    assert_eq!((known.state, known.pid), (WorkerState::Stopped, None));
    assert_eq!(known.exit, Some(Exit::Signal { signal: 15, core_dumped: false }));
    assert!(bench.lines.is_empty());
    bench.finish();
    heard.finish();
}

#[test]
fn a_launch_that_hangs_is_ended_by_the_start_timeout() {
    let (heard, directory) = (bench(), tempfile::tempdir().unwrap());
    let bench = hanging(&heard, directory.path());
    let config = shell("echo it was run").start_timeout(ms(50));
    let config = config.execution(|execution| execution.umask = Some(0o22));
    bench.add(config.stop(StopConfig::default().timeout(NEVER)));
    let error = bench.master.start_worker("w").unwrap_err();
    assert_eq!(error.category(), ErrorCategory::Timeout, "{error}");
    once(&bench.master, "w", |known| !known.ending && known.pid.is_none());
    bench.finish();
    heard.finish();
}

#[test]
fn launches_that_hang_hold_up_others_only_until_they_are_stopped() {
    let (heard, directory) = (bench(), tempfile::tempdir().unwrap());
    let bench = hanging(&heard, directory.path());
    // As many as are launched at once, and one more.
    for n in 0..33 {
        let mut config = shell("echo it was run").start_timeout(NEVER);
        config.id = format!("hangs-{n}");
        let config = config.execution(|execution| execution.umask = Some(0o22));
        bench.add(config.stop(StopConfig::default().timeout(NEVER)));
    }
    bench.add(WorkerConfig::executable("w", "/bin/sleep").args(["1000"]));
    let starts: Vec<_> =
        (0..33).map(|n| bench.master.start_worker_nowait(&format!("hangs-{n}"))).collect();
    for _ in 0..32 {
        assert_eq!(heard.hears(), "there");
    }
    let start = bench.master.start_worker_nowait("w");
    for n in 0..33 {
        bench.master.stop_worker(&format!("hangs-{n}")).unwrap();
    }
    assert!(answer(&start).is_ok());
    for start in &starts {
        assert_eq!(answer(start).unwrap_err().category(), ErrorCategory::Cancelled);
    }
    assert_eq!(bench.finish().report.killed, Vec::<String>::new());
    heard.finish();
}

#[test]
fn a_stop_at_any_moment_of_a_launch_ends_it() {
    let bench = bench();
    for turn in 0..100 {
        let config = WorkerConfig::executable("w", "/bin/sleep").args(["1000"]);
        bench.add(config.execution(|execution| execution.umask = Some(0o22)));
        let start = bench.master.start_worker_nowait("w");
        // Spread over what a launch takes.
        for _ in 0..turn {
            bench.master.worker_diagnostics("w").unwrap();
        }
        bench.master.stop_worker("w").unwrap();
        if let Err(error) = answer(&start) {
            assert_eq!(error.category(), ErrorCategory::Cancelled, "{error}");
        }
        let known = bench.known("w");
        assert_eq!((known.state, known.pid), (WorkerState::Stopped, None));
        bench.master.remove_worker("w").unwrap();
    }
    assert_eq!(bench.finish().report.killed, Vec::<String>::new());
}

fn descriptors() -> usize {
    fs::read_dir("/proc/self/fd").unwrap().count()
}

#[test]
fn a_thousand_launches_leave_no_descriptor_and_no_process() {
    if !alone::here(&[], a_thousand_launches_leave_no_descriptor_and_no_process) {
        return;
    }
    let bench = bench();
    let config = WorkerConfig::executable("w", "/bin/true");
    bench.add(config.execution(|execution| execution.umask = Some(0o22)));
    let refused = WorkerConfig::executable("r", "/bin/true").working_directory("/proc/1/none");
    let hard = hsu_master::HardLimits::default().memory(1 << 20);
    bench.add(refused.execution(|execution| execution.umask = Some(0o22)));
    let limited = WorkerConfig::executable("l", "/bin/true");
    bench.add(limited.limits(hsu_master::LimitsConfig::hard(hard)));
    let round = || {
        bench.master.start_worker("w").unwrap();
        once(&bench.master, "w", |known| known.state == WorkerState::Stopped && !known.ending);
    };
    round();
    let before = descriptors();
    for turn in 0..1000 {
        round();
        if turn % 50 == 0 {
            let _ = bench.master.start_worker("r");
            let _ = bench.master.start_worker("l");
            for id in ["r", "l"] {
                bench.master.stop_worker(id).unwrap();
            }
        }
    }
    crate::support::until(|| descriptors() <= before);
    let children = format!("/proc/self/task/{}/children", std::process::id());
    let children = fs::read_to_string(children).unwrap_or_default();
    // The guardian stays, whichever thread it is a child of by now.
    let is_guardian = |pid: &&str| {
        let command = fs::read_to_string(format!("/proc/{pid}/cmdline")).unwrap_or_default();
        command.contains("__hsu-guard")
    };
    let others = children.split_whitespace().filter(|pid| !is_guardian(pid)).count();
    assert_eq!(others, 0, "{children}");
    // More has happened than its events are kept of.
    bench.master.shutdown().unwrap();
}
