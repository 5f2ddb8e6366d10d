//! Many processes: nothing of them is left behind, and a thousand are not too many (FAULTS S28).

use std::fs;
use std::path::Path;

use hsu_master::{Master, MasterConfig, WorkerConfig, WorkerState};

use super::shell;
use crate::alone;
use crate::support::{answer, until};

fn descriptors() -> usize {
    fs::read_dir("/proc/self/fd").unwrap().count()
}

/// Our children, zombies included.
fn children() -> usize {
    let threads = fs::read_dir("/proc/self/task").unwrap().flatten();
    let children = threads.map(|thread| fs::read_to_string(thread.path().join("children")));
    children.flatten().map(|list| list.split_whitespace().count()).sum()
}

#[test]
fn two_hundred_lives_leave_nothing() {
    if !alone::here(&[], two_hundred_lives_leave_nothing) {
        return;
    }
    let threads = || fs::read_dir("/proc/self/task").unwrap().count();
    let before = (descriptors(), threads());
    let master = Master::builder().build().unwrap();
    master.add_worker(shell("sound", "exit 0")).unwrap();
    master.add_worker(WorkerConfig::executable("none", "/nowhere/none")).unwrap();
    master.add_worker(WorkerConfig::executable("stays", "/bin/sleep").args(["1000"])).unwrap();
    for _ in 0..67 {
        master.start_worker("sound").unwrap();
        master.start_worker("none").unwrap_err();
        master.start_worker("stays").unwrap();
        for id in ["sound", "none", "stays"] {
            master.stop_worker(id).unwrap();
        }
        assert_eq!(children(), 0, "whoever is gone has been reaped");
    }
    drop(master);
    // Monitors that have told the end are on their way out.
    until(|| (descriptors(), threads()) == before);
}

#[test]
fn a_thousand_processes_start_and_stop() {
    if !alone::here(&[], a_thousand_processes_start_and_stop) {
        return;
    }
    let mut config = MasterConfig::new();
    for number in 0..1000 {
        let id = format!("w{number}");
        config = config.worker(WorkerConfig::executable(id, "/bin/sleep").args(["1000"]));
    }
    // Three descriptors for each are more than the usual soft limit.
    let master = Master::builder().config(config).own_process().build().unwrap();
    for start in master.start_all_nowait() {
        answer(&start).unwrap();
    }
    let known = master.all_worker_diagnostics();
    assert_eq!(known.len(), 1000);
    assert!(known.iter().all(|known| known.state == WorkerState::Running && known.pid.is_some()));
    // Those of a thread that has just ended are on their way to another one's list.
    until(|| children() == 1000);
    let report = master.shutdown().unwrap();
    assert_eq!((report.killed.len(), report.stuck.len()), (0, 0));
    assert_eq!(children(), 0);
}

#[test]
fn s28_nothing_forks() {
    fn check(directory: &Path) -> usize {
        let mut files = 0;
        for entry in fs::read_dir(directory).unwrap().map(|entry| entry.unwrap().path()) {
            if entry.is_dir() {
                files += check(&entry);
                continue;
            }
            files += 1;
            let text = fs::read_to_string(&entry).unwrap();
            // Comments may say why not.
            let code = text.lines().filter(|line| !line.trim_start().starts_with("//"));
            for (number, line) in code.enumerate() {
                let forks = line.contains("fork(") || line.contains("pre_exec");
                assert!(!forks, "{}, about line {number}: {line}", entry.display());
            }
        }
        files
    }
    let files = check(&Path::new(env!("CARGO_MANIFEST_DIR")).join("src"));
    assert!(files > 10, "the sources were not found");
}
