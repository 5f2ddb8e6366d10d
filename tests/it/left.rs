//! What a former master has left of workers, under a master that has its process to itself and
//! does not wait for their ends. Each test runs in a process of its own.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::thread;
use std::time::Instant;

use hsu_master::crossbeam_channel::unbounded;
use hsu_master::{Master, MasterConfig, OnMasterExit, StopConfig, WorkerConfig, WorkerState};

use crate::alone;
use crate::support::{NEVER, PATIENCE, ms};

/// Does not end when asked, from when it has said so.
fn deaf(directory: &Path, id: &str) -> WorkerConfig {
    let said = directory.join(id);
    let script = format!("trap '' TERM; : > {}; while :; do sleep 1000; done", said.display());
    let config = WorkerConfig::executable(id, "/bin/sh").args(["-c", &script]);
    let config = config.on_master_exit(OnMasterExit::Keep);
    config.stop(StopConfig::default().timeout(NEVER))
}

/// Waits until something is so that nobody tells.
#[track_caller]
fn until(so: impl Fn() -> bool) {
    let (_silent, nothing) = unbounded::<()>();
    let end = Instant::now() + PATIENCE;
    while !so() {
        assert!(Instant::now() < end, "it never came to that");
        let _ = nothing.recv_timeout(ms(5));
    }
}

fn record_of(directory: &Path, id: &str) -> PathBuf {
    directory.join(format!("state/workers/{id}.json"))
}

/// A master that had these workers, and has left them all as `wanted`: their pids.
fn left_by(directory: &Path, ids: &[&str], wanted: &str) -> Vec<u32> {
    let config = MasterConfig::new().state_dir(directory.join("state"));
    let config = ids.iter().fold(config, |config, id| config.worker(deaf(directory, id)));
    let master = Master::builder().config(config).build().unwrap();
    master.start_all().unwrap();
    let pid = |id: &&str| master.worker_diagnostics(id).unwrap().pid.unwrap();
    let pids = ids.iter().map(pid).collect();
    until(|| ids.iter().all(|id| directory.join(id).exists()));
    master.shutdown_keeping().unwrap();
    drop(master);
    for id in ids {
        let record = fs::read_to_string(record_of(directory, id)).unwrap();
        let changed = record.replace("\"wanted\":\"up\"", &format!("\"wanted\":\"{wanted}\""));
        fs::write(record_of(directory, id), changed).unwrap();
    }
    pids
}

fn lives(pid: u32) -> bool {
    fs::read_to_string(format!("/proc/{pid}/stat")).is_ok_and(|stat| !stat.contains(") Z "))
}

/// A group, by its leader.
fn kill(leader: u32) {
    let group = format!("-{leader}");
    let killed = std::process::Command::new("kill").args(["-KILL", "--", &group]).status();
    assert!(killed.unwrap().success());
}

fn own(directory: &Path) -> Master {
    let config = MasterConfig::new().state_dir(directory.join("state")).shutdown_timeout(ms(500));
    Master::builder().config(config).own_process().keep_unknown(true).build().unwrap()
}

#[test]
fn the_record_of_what_still_ends_is_there_for_the_next_master() {
    if !alone::here(&[], the_record_of_what_still_ends_is_there_for_the_next_master) {
        return;
    }
    let directory = tempfile::tempdir().unwrap();
    // A command was to stop it, so it does not go on, and its worker may yet be added.
    let pid = left_by(directory.path(), &["x"], "down")[0];
    let master = own(directory.path());
    until(|| master.worker_diagnostics("x").is_ok_and(|x| x.state == WorkerState::Stopping));
    master.start_all().unwrap();
    // What comes later is written later.
    master.add_worker(WorkerConfig::executable("y", "/bin/sleep").args(["1000"])).unwrap();
    master.start_worker("y").unwrap();
    until(|| record_of(directory.path(), "y").exists());
    let record = fs::read_to_string(record_of(directory.path(), "x")).unwrap_or_default();
    assert!(record.contains(&format!("\"pid\":{pid}")), "{record:?}");
    assert!(lives(pid));
    kill(pid);
    until(|| master.worker_diagnostics("x").is_err());
    until(|| !record_of(directory.path(), "x").exists());
    master.shutdown().unwrap();
}

#[test]
fn whoever_adds_what_still_ends_waits_for_that() {
    if !alone::here(&[], whoever_adds_what_still_ends_waits_for_that) {
        return;
    }
    let directory = tempfile::tempdir().unwrap();
    let pid = left_by(directory.path(), &["x"], "down")[0];
    let master = Arc::new(own(directory.path()));
    let (told, results) = unbounded();
    let adders: Vec<_> = (0..2)
        .map(|_| {
            let (master, told) = (Arc::clone(&master), told.clone());
            let config = deaf(directory.path(), "x");
            let add = move || told.send(master.add_worker(config)).unwrap();
            thread::Builder::new().spawn(add).unwrap()
        })
        .collect();
    // Who does not wait is told so.
    let refused = master.add_worker_nowait(deaf(directory.path(), "x")).unwrap().wait();
    assert!(refused.unwrap_err().to_string().contains("being removed"));
    // Nobody is answered as long as it is there.
    assert!(results.recv_timeout(ms(300)).is_err());
    assert!(lives(pid));
    kill(pid);
    let mut outcomes = [(); 2].map(|()| match results.recv_timeout(PATIENCE).unwrap() {
        Ok(()) => "added".to_owned(),
        Err(error) => error.to_string(),
    });
    outcomes.sort();
    assert_eq!(outcomes[0], "added");
    assert!(outcomes[1].contains("exists already"), "{outcomes:?}");
    adders.into_iter().for_each(|adder| adder.join().unwrap());
    assert_eq!(master.start_worker("x").unwrap(), 2);
    master.stop_worker_nowait("x", true).wait().unwrap();
    master.shutdown().unwrap();
}

#[test]
fn all_that_is_left_ends_within_one_shutdown() {
    let directory = tempfile::tempdir().unwrap();
    let ids = ["a", "b", "c", "d", "e", "f", "g", "h", "i", "j"];
    let pids = left_by(directory.path(), &ids, "up");
    let timeout = ms(3_000);
    let config = MasterConfig::new().state_dir(directory.path().join("state"));
    let begun = Instant::now();
    let master = Master::builder().config(config.shutdown_timeout(timeout)).build().unwrap();
    // One after the other they would take ten times as long.
    assert!(begun.elapsed() < timeout * 6, "{:?}", begun.elapsed());
    assert!(!pids.into_iter().any(lives));
    drop(master);
}
