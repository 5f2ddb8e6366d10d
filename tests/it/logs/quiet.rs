//! Workers that write nothing cost nothing but what is said of them: no wake-ups, and so many
//! descriptors (FAULTS L20).

use std::collections::BTreeMap;
use std::fs;
use std::time::Instant;

use hsu_master::{Master, MasterConfig, WaitFor, WorkerConfig};

use super::shell;
use crate::alone;
use crate::support::{PATIENCE, answer, until};

/// A debug build starts so many within a second.
const WORKERS: usize = 300;
/// For each: the ends of its two pipes, its pidfd, and its log, which stays open for what comes.
const DESCRIPTORS: usize = 4;

/// But for the logs of windows, which are closed when there is time for it.
fn descriptors() -> usize {
    let links = fs::read_dir("/proc/self/fd").unwrap().flatten();
    let leads = |link: fs::DirEntry| fs::read_link(link.path()).unwrap_or_default();
    links.map(leads).filter(|to| !to.to_string_lossy().contains("/window")).count()
}

/// How often each monitor of a quiet worker has gone to sleep.
fn sleeps() -> BTreeMap<String, u64> {
    let mut sleeps = BTreeMap::new();
    for thread in fs::read_dir("/proc/self/task").unwrap().flatten() {
        let status = fs::read_to_string(thread.path().join("status")).unwrap_or_default();
        let of = |name: &str| {
            let line = status.lines().find_map(|line| line.strip_prefix(name));
            line.map(|line| line.trim().to_owned())
        };
        if let (Some(name), Some(count)) = (of("Name:"), of("voluntary_ctxt_switches:"))
            && name.starts_with("quiet")
        {
            sleeps.insert(name, count.parse().unwrap());
        }
    }
    sleeps
}

#[test]
fn l20_quiet_workers_wake_nobody_and_hold_what_is_said() {
    if !alone::here(&[], l20_quiet_workers_wake_nobody_and_hold_what_is_said) {
        return;
    }
    let room = tempfile::tempdir().unwrap();
    let mut config = MasterConfig::new().log_dir(room.path().join("logs"));
    for number in 0..WORKERS {
        let id = format!("quiet{number}");
        config = config.worker(WorkerConfig::executable(id, "/bin/sleep").args(["1000"]));
    }
    // More descriptors than the usual soft limit has.
    let master = Master::builder().config(config).own_process().build().unwrap();
    // It makes what is made once, such as the file of events.
    let window = |life: usize| {
        let id = format!("window{life}");
        master.add_worker(shell(&id, "exec sleep 1")).unwrap();
        master.start_worker(&id).unwrap();
        master.wait_for(&id, WaitFor::Completed, PATIENCE).unwrap();
        master.remove_worker(&id).unwrap();
    };
    window(0);
    until(|| sleeps().is_empty());
    let before = descriptors();
    for start in master.start_all_nowait() {
        answer(&start).unwrap();
    }
    until(|| descriptors() == before + WORKERS * DESCRIPTORS);
    // Whoever has just started may still be about to sleep; whoever polls never sleeps for as long
    // as another worker's whole life.
    let end = Instant::now() + PATIENCE;
    for life in 1.. {
        let then = sleeps();
        assert_eq!(then.len(), WORKERS);
        window(life);
        if sleeps() == then {
            break;
        }
        assert!(Instant::now() < end, "they do not come to rest");
    }
    until(|| descriptors() == before + WORKERS * DESCRIPTORS);
    master.shutdown().unwrap();
}
