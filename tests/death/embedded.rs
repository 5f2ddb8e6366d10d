//! Masters within this very program: what they refuse, what they remember, what they let go of.

use hsu_master::{
    Master, MasterConfig, OnMasterExit, RestartConfig, RestartPolicy, WaitFor, WorkerConfig,
    WorkerState,
};

use crate::support::{LONG, lives, until};

fn nap(id: &str) -> WorkerConfig {
    WorkerConfig::executable(id, "/bin/sleep").args(["1000"])
}

fn problems(config: MasterConfig) -> Vec<String> {
    let error = Master::builder().config(config).build().unwrap_err();
    error.problems().iter().map(ToString::to_string).collect()
}

#[test]
fn what_cannot_be_guarded_or_kept_here_is_refused() {
    let stop = MasterConfig::new().worker(nap("w").on_master_exit(OnMasterExit::Stop));
    let found = problems(stop);
    assert!(found[0].contains("hsu_master::host_if_requested"), "{found:?}");
    let keep = MasterConfig::new().worker(nap("w").on_master_exit(OnMasterExit::Keep));
    let found = problems(keep);
    assert!(found[0].contains("needs a state directory"), "{found:?}");
    // Without a word about it such a program has no guardian, and runs.
    let master = Master::builder().config(MasterConfig::new().worker(nap("w"))).build().unwrap();
    master.start_all().unwrap();
    assert!(!master.worker_diagnostics("w").unwrap().capabilities.adoptable);
}

#[test]
fn what_was_stopped_by_a_command_stays_down_over_a_new_master() {
    let directory = tempfile::tempdir().unwrap();
    let unless_stopped = RestartConfig::policy(RestartPolicy::UnlessStopped);
    let config = || {
        MasterConfig::new()
            .state_dir(directory.path().join("state"))
            .worker(nap("stopped").restart(unless_stopped.clone()))
            .worker(nap("running").restart(unless_stopped.clone()))
            .worker(nap("usual"))
    };
    let master = Master::builder().config(config()).build().unwrap();
    master.start_all().unwrap();
    master.restart_worker("running", false).unwrap();
    for worker in ["stopped", "usual"] {
        master.stop_worker(worker).unwrap();
    }
    master.shutdown().unwrap();
    drop(master);
    let master = Master::builder().config(config()).build().unwrap();
    assert_eq!(master.start_all_nowait().len(), 2);
    let known = |worker: &str| master.worker_diagnostics(worker).unwrap();
    assert_eq!(known("stopped").state, WorkerState::Uninitialized);
    assert_eq!(known("stopped").incarnation, 1, "the last one that there was");
    // Until somebody starts it.
    assert_eq!(master.start_worker("stopped").unwrap(), 2);
    assert_eq!(master.start_worker("running").unwrap(), 3);
    drop(master);
    let master = Master::builder().config(config()).build().unwrap();
    assert_eq!(master.start_all_nowait().len(), 3);
}

#[test]
fn what_its_configuration_stopped_is_started_by_a_new_master() {
    let directory = tempfile::tempdir().unwrap();
    let unless_stopped = RestartConfig::policy(RestartPolicy::UnlessStopped);
    let config = |enabled| {
        let worker = nap("w").restart(unless_stopped.clone()).enabled(enabled);
        MasterConfig::new().state_dir(directory.path().join("state")).worker(worker)
    };
    let master = Master::builder().config(config(true)).build().unwrap();
    master.start_all().unwrap();
    master.reload(config(false)).unwrap();
    assert_eq!(master.worker_diagnostics("w").unwrap().state, WorkerState::Stopped);
    drop(master);
    let master = Master::builder().config(config(true)).build().unwrap();
    assert_eq!(master.start_all_nowait().len(), 1);
}

#[test]
fn what_a_master_lets_go_of_is_taken_over_in_the_same_program() {
    let directory = tempfile::tempdir().unwrap();
    let config = || {
        MasterConfig::new()
            .state_dir(directory.path().join("state"))
            .worker(nap("kept").on_master_exit(OnMasterExit::Keep))
            .worker(nap("not"))
    };
    let master = Master::builder().config(config()).build().unwrap();
    master.start_all().unwrap();
    let known = master.worker_diagnostics("kept").unwrap();
    assert!(known.capabilities.adoptable);
    let (kept, not) = (known.pid.unwrap(), master.worker_diagnostics("not").unwrap().pid.unwrap());
    let report = master.shutdown_keeping().unwrap();
    assert!(report.killed.is_empty() && report.stuck.is_empty());
    drop(master);
    assert!(lives(kept) && !lives(not));
    let master = Master::builder().config(config()).build().unwrap();
    let known = master.worker_diagnostics("kept").unwrap();
    assert_eq!((known.state, known.pid), (WorkerState::Running, Some(kept)));
    assert_eq!((known.cause.as_str(), known.incarnation), ("adopted", 1));
    assert_eq!(master.restart_worker("kept", false).unwrap(), 2);
    assert!(!lives(kept));
    master.stop_worker("kept").unwrap();
    master.shutdown().unwrap();
}

#[test]
fn what_is_left_of_a_worker_is_gone_when_a_program_adds_it_anew() {
    let directory = tempfile::tempdir().unwrap();
    let config = || MasterConfig::new().state_dir(directory.path().join("state"));
    let kept = || nap("kept").on_master_exit(OnMasterExit::Keep);
    let left_by = |master: Master| {
        let pid = master.worker_diagnostics("kept").unwrap().pid.unwrap();
        master.shutdown_keeping().unwrap();
        assert!(lives(pid));
        pid
    };
    let master = Master::builder().config(config().worker(kept())).build().unwrap();
    master.start_all().unwrap();
    let left = left_by(master);
    // Unknown to the next one, until it is added.
    let master = Master::builder().config(config()).build().unwrap();
    assert!(!lives(left) && master.all_worker_diagnostics().is_empty());
    master.add_worker(kept()).unwrap();
    assert_eq!(master.start_worker("kept").unwrap(), 2);
    let left = left_by(master);
    // Known, and not to be kept any more: its next life begins after this one.
    let master = Master::builder().config(config().worker(nap("kept"))).build().unwrap();
    assert_eq!(master.start_worker("kept").unwrap(), 3);
    assert!(!lives(left));
}

/// A master that has these workers kept, and has let them go: their pids.
fn left_by(config: MasterConfig, ids: &[&str]) -> Vec<u32> {
    let kept = |config: MasterConfig, id: &&str| config.worker(kept(id));
    let config = ids.iter().fold(config, kept);
    let master = Master::builder().config(config).build().unwrap();
    master.start_all().unwrap();
    let pids = ids.iter().map(|id| master.worker_diagnostics(id).unwrap().pid.unwrap()).collect();
    master.shutdown_keeping().unwrap();
    pids
}

fn kept(id: &str) -> WorkerConfig {
    nap(id).on_master_exit(OnMasterExit::Keep)
}

#[test]
fn a_worker_that_is_added_later_goes_on_where_it_is_waited_for() {
    let directory = tempfile::tempdir().unwrap();
    let config = || MasterConfig::new().state_dir(directory.path().join("state"));
    let ids = ["same", "other", "stops", "off", "gone"];
    let [same, other, stops, off, gone] = left_by(config(), &ids)[..] else { panic!() };
    // One that ends before it has started anything changes nothing.
    drop(Master::builder().config(config()).keep_unknown(true).build().unwrap());
    let master = Master::builder().config(config()).keep_unknown(true).build().unwrap();
    assert!([same, other, stops, off, gone].into_iter().all(lives));
    let known = |worker: &str| {
        let known = master.worker_diagnostics(worker).unwrap();
        (known.state, known.pid, known.incarnation)
    };
    master.add_worker(kept("same")).unwrap();
    assert_eq!(known("same"), (WorkerState::Running, Some(same), 1));
    master.add_worker(kept("other").env("A", "b")).unwrap();
    assert_eq!(known("other"), (WorkerState::Running, Some(other), 1));
    for (worker, pid) in [(nap("stops"), stops), (kept("off").enabled(false), off)] {
        let id = worker.id.clone();
        master.add_worker(worker).unwrap();
        master.wait_for(&id, WaitFor::Stopped, LONG).unwrap();
        assert!(!lives(pid));
        assert_eq!(known(&id), (WorkerState::Stopped, None, 1));
    }
    // As long as it may be added.
    assert!(lives(gone));
    master.start_all().unwrap();
    until(|| !lives(gone) && master.worker_diagnostics("gone").is_err());
    assert_eq!(known("same"), (WorkerState::Running, Some(same), 1));
    assert!(!lives(other));
    assert_eq!(["other", "stops"].map(|id| known(id).2), [2, 2]);
    // What was let go for good begins anew.
    master.add_worker(kept("gone")).unwrap();
    master.start_worker("gone").unwrap();
    assert_eq!(known("same").1, Some(same));
    master.shutdown().unwrap();
    drop(master);
    assert!(!lives(same));
}

#[test]
fn a_worker_that_is_added_later_begins_anew_where_it_is_not_waited_for() {
    let directory = tempfile::tempdir().unwrap();
    let config = || MasterConfig::new().state_dir(directory.path().join("state"));
    let [left] = left_by(config(), &["w"])[..] else { panic!() };
    let master = Master::builder().config(config()).build().unwrap();
    master.add_worker(kept("w")).unwrap();
    assert!(!lives(left));
    assert_eq!(master.start_worker("w").unwrap(), 2);
}

#[test]
fn what_a_command_has_stopped_stays_down_however_many_masters_come() {
    let directory = tempfile::tempdir().unwrap();
    let config = || MasterConfig::new().state_dir(directory.path().join("state"));
    let worker = || kept("w").restart(RestartConfig::policy(RestartPolicy::UnlessStopped));
    let [left] = left_by(config(), &["w"])[..] else { panic!() };
    // The former master ended while the command was carried out.
    let record = directory.path().join("state/workers/w.json");
    let text = std::fs::read_to_string(&record).unwrap();
    let down = text.replace("\"wanted\":\"up\"", "\"wanted\":\"down\"");
    assert_ne!(down, text);
    std::fs::write(&record, down).unwrap();
    // One that dies before it adds anything changes nothing of that.
    drop(Master::builder().config(config()).keep_unknown(true).build().unwrap());
    assert!(!lives(left));
    for _ in 0..2 {
        let master = Master::builder().config(config()).keep_unknown(true).build().unwrap();
        master.add_worker(worker()).unwrap();
        assert!(master.start_all_nowait().is_empty());
        assert_eq!(master.worker_diagnostics("w").unwrap().incarnation, 1);
    }
    let master = Master::builder().config(config()).keep_unknown(true).build().unwrap();
    master.add_worker(worker()).unwrap();
    assert_eq!(master.start_worker("w").unwrap(), 2);
}

#[test]
fn a_worker_that_is_added_later_stays_down_where_a_command_has_stopped_it() {
    let directory = tempfile::tempdir().unwrap();
    let config = || MasterConfig::new().state_dir(directory.path().join("state"));
    let worker = || nap("w").restart(RestartConfig::policy(RestartPolicy::UnlessStopped));
    let master = Master::builder().config(config().worker(worker())).build().unwrap();
    master.start_all().unwrap();
    master.stop_worker("w").unwrap();
    drop(master);
    let master = Master::builder().config(config()).keep_unknown(true).build().unwrap();
    master.add_worker(worker()).unwrap();
    assert!(master.start_all_nowait().is_empty());
    assert_eq!(master.start_worker("w").unwrap(), 2);
}
