//! Workers that write nothing cost nothing but what is said of them: no wake-ups, and so many
//! descriptors (FAULTS L20).

use std::collections::BTreeMap;
use std::fs;
use std::time::Instant;

use hsu_master::{HealthCheckConfig, Master, MasterConfig, WaitFor, WorkerConfig};

use super::shell;
use crate::alone;
use crate::made::Made;
use crate::support::{NEVER, PATIENCE, answer, skipped, until};

/// Processes, and as many modules.
const WORKERS: usize = 1000;
/// For each process: the ends of its two pipes, its pidfd, and its log, which stays open for what
/// comes. A module that logs nothing has none.
const DESCRIPTORS: usize = 4;
/// Of the master itself, of starts that are under way, and of this test.
const OTHERS: usize = 500;

/// How many descriptors this process may raise its limit to.
fn most_descriptors() -> usize {
    let limits = fs::read_to_string("/proc/self/limits").unwrap();
    let line = limits.lines().find_map(|line| line.strip_prefix("Max open files")).unwrap();
    let hard = line.split_whitespace().nth(1).unwrap();
    hard.parse().unwrap_or(usize::MAX)
}

/// But for the logs of windows, which are closed when there is time for it.
fn descriptors() -> usize {
    let links = fs::read_dir("/proc/self/fd").unwrap().flatten();
    let leads = |link: fs::DirEntry| fs::read_link(link.path()).unwrap_or_default();
    links.map(leads).filter(|to| !to.to_string_lossy().contains("/window")).count()
}

/// How often each monitor of such a worker has gone to sleep.
fn sleeps(of_worker: &str) -> BTreeMap<String, u64> {
    let mut sleeps = BTreeMap::new();
    for thread in fs::read_dir("/proc/self/task").unwrap().flatten() {
        let status = fs::read_to_string(thread.path().join("status")).unwrap_or_default();
        let of = |name: &str| {
            let line = status.lines().find_map(|line| line.strip_prefix(name));
            line.map(|line| line.trim().to_owned())
        };
        if let (Some(name), Some(count)) = (of("Name:"), of("voluntary_ctxt_switches:"))
            && name.starts_with(of_worker)
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
    if most_descriptors() < WORKERS * DESCRIPTORS + OTHERS {
        return skipped("the hard limit of descriptors is too low for a thousand processes");
    }
    let room = tempfile::tempdir().unwrap();
    let mut config = MasterConfig::new().log_dir(room.path().join("logs"));
    for number in 0..WORKERS {
        let id = format!("quiet{number}");
        let process = WorkerConfig::executable(id, "/bin/sleep").args(["1000"]);
        // Who is asked how it is is not quiet.
        let module = WorkerConfig::native(format!("quietm{number}"), "m");
        let module = module.health_check(HealthCheckConfig::every(NEVER));
        // However long so many take together.
        config = config.worker(process.start_timeout(NEVER)).worker(module.start_timeout(NEVER));
    }
    // More descriptors than the usual soft limit has.
    let builder = Master::builder().module("m", Made::new().made()).config(config);
    let master = builder.own_process().build().unwrap();
    // It makes what is made once, such as the file of events.
    let window = |life: usize| {
        let id = format!("window{life}");
        master.add_worker(shell(&id, "exec sleep 1")).unwrap();
        master.start_worker(&id).unwrap();
        master.wait_for(&id, WaitFor::Completed, PATIENCE).unwrap();
        master.remove_worker(&id).unwrap();
    };
    window(0);
    until(|| sleeps("window").is_empty());
    let before = descriptors();
    for start in master.start_all_nowait() {
        answer(&start).unwrap();
    }
    until(|| descriptors() == before + WORKERS * DESCRIPTORS);
    // Whoever has just started may still be about to sleep; whoever polls never sleeps for as long
    // as another worker's whole life.
    let end = Instant::now() + PATIENCE;
    for life in 1.. {
        let then = sleeps("quiet");
        assert_eq!(then.len(), 2 * WORKERS);
        window(life);
        if sleeps("quiet") == then {
            break;
        }
        assert!(Instant::now() < end, "they do not come to rest");
    }
    until(|| descriptors() == before + WORKERS * DESCRIPTORS);
    master.shutdown().unwrap();
}
