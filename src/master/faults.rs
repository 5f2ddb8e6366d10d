//! Faults of a master's own, thread by thread: each part goes on after a panic, and after a second
//! one the master dies as a whole rather than go on without it.

use std::process::Command;
use std::time::{Duration, Instant};

use crossbeam_channel::bounded;

use crate::control::{Client, SOCKET};
use crate::error::ErrorCategory;
use crate::host::alone;
use crate::host::threads::fail_points::{arm, is_armed, passed};
use crate::master::Master;
use crate::settings::MasterConfig;
use crate::worker::WorkerConfig;

/// A master of this process, in a directory of its own.
struct Bench {
    master: Master,
    directory: tempfile::TempDir,
}

impl Bench {
    fn new() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let state = directory.path().join("state");
        let nap = WorkerConfig::executable("nap", "/bin/sleep").args(["1000"]);
        let config = MasterConfig::new().state_dir(state).worker(nap);
        let master = Master::builder().config(config).own_process().build().unwrap();
        Self { master, directory }
    }

    fn connect(&self) -> crate::error::Result<Client> {
        Client::connect(self.directory.path().join("state").join(SOCKET))
    }

    /// Has every part do something.
    fn poke(&self) {
        let _ = self.connect();
        let _ = self.master.restart_worker("nap", true);
        let own = std::process::id().to_string();
        assert!(Command::new("kill").args(["-s", "USR2", &own]).status().unwrap().success());
    }
}

/// Has it happen again and again until it has led to that.
#[track_caller]
fn until(act: impl Fn(), so: impl Fn() -> bool) {
    let (_silent, nothing) = bounded::<()>(0);
    let end = Instant::now() + Duration::from_secs(60);
    while !so() {
        assert!(Instant::now() < end, "it never came to that");
        act();
        let _ = nothing.recv_timeout(Duration::from_millis(5));
    }
}

#[test]
fn s17_each_part_of_a_master_goes_on_after_one_panic_and_takes_all_with_it_at_the_second() {
    if !alone::here(
        &[],
        s17_each_part_of_a_master_goes_on_after_one_panic_and_takes_all_with_it_at_the_second,
    ) {
        return;
    }
    for part in ["control", "ledger", "journal", "reaper", "signals"] {
        let bench = Bench::new();
        arm(part);
        until(|| bench.poke(), || !is_armed(part));
        let before = passed(part);
        until(|| bench.poke(), || passed(part) > before + 1);
        assert!(!bench.master.has_ended(), "{part}: one panic is none too many");
        let report = &bench.connect().unwrap().status(&["nap"]).unwrap()[0];
        assert!(report.pid.is_some(), "{part}: {report:?}");
        arm(part);
        until(|| bench.poke(), || bench.master.has_ended());
        let error = bench.master.wait().unwrap_err();
        assert_eq!(error.category(), ErrorCategory::Internal, "{part}");
    }
}

#[test]
fn s17_a_connection_that_panics_hurts_no_other() {
    if !alone::here(&[], s17_a_connection_that_panics_hurts_no_other) {
        return;
    }
    let bench = Bench::new();
    let other = bench.connect().unwrap();
    for _ in 0..3 {
        arm("connection");
        assert!(bench.connect().is_err());
        assert_eq!(other.status(&["nap"]).unwrap()[0].id, "nap");
        bench.connect().unwrap();
    }
    bench.master.shutdown().unwrap();
}
