//! Faults of a master's own, thread by thread: each part goes on after a panic, and after a second
//! one the master dies as a whole rather than go on without it.

use std::process::Command;
use std::time::{Duration, Instant};

use crossbeam_channel::bounded;

use crate::control::{Client, SOCKET};
use crate::error::ErrorCategory;
use crate::host::alone;
use crate::host::proc;
use crate::host::threads::fail_points::{arm, arm_for, is_armed, passed};
use crate::master::Master;
use crate::runtime::EventKind;
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
        signal("USR2");
    }

    /// The pid of its worker, if that runs, and its incarnation.
    fn nap(&self) -> (Option<u32>, u64) {
        let nap = self.master.worker_diagnostics("nap").unwrap();
        (nap.pid, nap.incarnation)
    }
}

/// Sends a signal to this process.
fn signal(name: &str) {
    let own = std::process::id().to_string();
    assert!(Command::new("kill").args(["-s", name, &own]).status().unwrap().success());
}

/// The children of this process that have not ended.
fn children() -> Vec<u32> {
    let own = std::process::id().to_string();
    let is_child = |pid: &u32| {
        let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
        let after_name = stat.rsplit(')').next().unwrap_or_default();
        let mut words = after_name.split_ascii_whitespace();
        words.next().is_some_and(|state| state != "Z") && words.next() == Some(own.as_str())
    };
    proc::all().unwrap().into_iter().filter(is_child).collect()
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

#[test]
fn s17_a_panic_in_the_loop_ends_the_master_and_its_workers() {
    if !alone::here(&[], s17_a_panic_in_the_loop_ends_the_master_and_its_workers) {
        return;
    }
    let bench = Bench::new();
    bench.master.start_worker("nap").unwrap();
    arm("loop");
    let error = bench.master.restart_worker("nap", false).unwrap_err();
    assert_eq!(error.category(), ErrorCategory::Internal, "{error}");
    let error = bench.master.wait().unwrap_err();
    assert_eq!(error.category(), ErrorCategory::Internal, "{error}");
    until(|| (), || children().is_empty());
}

#[test]
fn s17_a_worker_whose_monitor_or_launcher_panics_is_restarted_and_never_doubled() {
    if !alone::here(
        &[],
        s17_a_worker_whose_monitor_or_launcher_panics_is_restarted_and_never_doubled,
    ) {
        return;
    }
    let bench = Bench::new();
    bench.master.start_worker("nap").unwrap();
    // How often watches have been begun by then: those of all before are behind all these places.
    for (place, times, watches) in [("monitor", 2, 1), ("monitor-start", 1, 4), ("launcher", 1, 5)]
    {
        until(|| (), || passed("monitor") == watches);
        let (_, before) = bench.nap();
        arm_for(place, times);
        // It may have been seen to run for a moment.
        let _ = bench.master.restart_worker("nap", true);
        // The one after that is the policy's.
        until(
            || (),
            || {
                let (pid, incarnation) = bench.nap();
                pid.is_some() && incarnation == before + 2
            },
        );
        assert!(!is_armed(place));
        let (pid, _) = bench.nap();
        assert_eq!(children(), [pid.unwrap()], "{place}");
        let failure = bench.master.worker_diagnostics("nap").unwrap().last_error.unwrap();
        assert_eq!(failure.category, ErrorCategory::Internal, "{place}: {failure:?}");
    }
    bench.master.shutdown().unwrap();
}

#[test]
fn s17_a_signal_has_its_effect_after_another_one_met_a_fault_of_ours() {
    if !alone::here(&[], s17_a_signal_has_its_effect_after_another_one_met_a_fault_of_ours) {
        return;
    }
    let bench = Bench::new();
    arm("signals-aside");
    until(|| signal("USR1"), || !is_armed("signals-aside"));
    let before = passed("signals-aside");
    until(|| signal("USR1"), || passed("signals-aside") > before);
    bench.master.shutdown().unwrap();
}

#[test]
fn s17_that_a_reload_has_come_to_its_end_is_told_though_who_waits_for_it_panics() {
    if !alone::here(
        &[],
        s17_that_a_reload_has_come_to_its_end_is_told_though_who_waits_for_it_panics,
    ) {
        return;
    }
    let nap = |id: &str| WorkerConfig::executable(id, "/bin/sleep").args(["1000"]);
    let config = MasterConfig::new().worker(nap("nap"));
    let more = config.clone().worker(nap("new"));
    let source = move || Ok(more.clone());
    let master = Master::builder().config(config).source(source).build().unwrap();
    let events = master.subscribe();
    arm("reload-end");
    master.reload_unattended();
    let finished = std::iter::from_fn(|| events.recv_timeout(Duration::from_secs(30)).ok())
        .find_map(|event| {
            if let EventKind::ReloadFinished { failed } = event.kind { Some(failed) } else { None }
        });
    assert_eq!(finished, Some(vec!["new".to_owned()]));
    master.shutdown().unwrap();
}
