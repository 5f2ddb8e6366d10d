//! Faults of our own in the threads that launch and watch processes (FAULTS S17): no process is
//! without a watch, none is doubled, and each end is told.

use std::os::unix::process::CommandExt;
use std::process::{Child, Stdio};

use super::super::adopted;
use super::*;
use crate::host::attached::Attached;
use crate::host::threads::fail_points::{arm, arm_for, is_armed};

/// What a fault of ours was told as.
#[track_caller]
fn fault(exit: Exit) -> String {
    let Exit::Failed(failure) = exit else { panic!("no fault: {exit:?}") };
    assert_eq!(failure.category, ErrorCategory::Internal, "{failure}");
    assert!(!failure.permanent, "it is tried again");
    failure.message
}

fn is_there(pid: u32) -> bool {
    fs::exists(format!("/proc/{pid}")).unwrap()
}

#[test]
fn s17_a_monitor_that_panics_once_watches_on() {
    if !alone::here(&[], s17_a_monitor_that_panics_once_watches_on) {
        return;
    }
    let fifos = Fifos::new();
    arm("monitor");
    let script = "echo one; read x < $A; echo two; exit 4";
    let (mut watched, pid) = Watched::started(scripted(script, &fifos));
    watched.said("one");
    assert!(!is_armed("monitor") && is_there(pid));
    fifos.release();
    assert_eq!(watched.gone(), Exit::Code(4));
    watched.silent();
    assert_eq!(watched.out(), "one\ntwo\n");
    watched.nothing_more();
}

#[test]
fn s17_a_monitor_that_panics_twice_leaves_no_process_and_tells_its_end() {
    if !alone::here(&[], s17_a_monitor_that_panics_twice_leaves_no_process_and_tells_its_end) {
        return;
    }
    arm_for("monitor", 2);
    let (mut watched, pid) = Watched::started(shell("sleep 1000 & wait"));
    let told = fault(watched.gone());
    assert!(told.contains("panicked in api#3: told to at monitor"), "{told}");
    assert!(!is_there(pid), "it was not reaped");
    watched.silent();
    watched.nothing_more();
}

#[test]
fn s17_a_monitor_that_is_gone_before_its_process_is_there_leaves_none() {
    if !alone::here(&[], s17_a_monitor_that_is_gone_before_its_process_is_there_leaves_none) {
        return;
    }
    arm("monitor-start");
    let (mut watched, pid) = Watched::started(plan("/bin/sleep", &["1000"]));
    fault(watched.gone());
    assert!(!is_there(pid), "it was not reaped");
    watched.nothing_more();
}

#[test]
fn s17_how_a_process_ended_is_told_though_its_monitor_panics_afterwards() {
    if !alone::here(&[], s17_how_a_process_ended_is_told_though_its_monitor_panics_afterwards) {
        return;
    }
    arm("monitor-end");
    let (mut watched, _) = Watched::started(shell("exit 3"));
    assert_eq!(watched.gone(), Exit::Code(3));
    assert!(!is_armed("monitor-end"));
    watched.nothing_more();
}

#[test]
fn s17_launches_that_panic_are_answered_and_leave_no_process_and_room_for_others() {
    if !alone::here(
        &[],
        s17_launches_that_panic_are_answered_and_leave_no_process_and_room_for_others,
    ) {
        return;
    }
    let (tell, seen) = unbounded();
    let shared = ProcessShared::new(Arc::new(Sink(tell.clone())), None, estate()).unwrap();
    let report: Reporter = Arc::new(move |report| {
        let _ = tell.send(Seen::Report(report));
    });
    let launch = |n, plan: ProcessPlan| {
        let worker = WorkerId::new("api").unwrap();
        let host = ProcessHost::launch(worker, n, Arc::new(plan), &shared, Arc::clone(&report));
        host.order(&Order::Start);
        host
    };
    // More than there are threads for it.
    let count = launchers::MOST as u32 + 1;
    arm_for("launcher", count);
    let sleep = |n| launch(n, plan("/bin/sleep", &["1000"]));
    let _hosts: Vec<_> = (0..u64::from(count)).map(sleep).collect();
    let (mut pids, mut gone) = (Vec::new(), 0);
    while gone < count {
        match seen.recv_timeout(PATIENCE).unwrap() {
            Seen::Report(Report::Started { pid }) => pids.extend(pid),
            Seen::Report(Report::Gone(exit)) => {
                fault(exit);
                gone += 1;
            }
            Seen::Report(_) | Seen::Output(..) | Seen::End(_) => {}
        }
    }
    assert_eq!(pids.len(), count as usize);
    assert!(!pids.into_iter().any(is_there));
    let _host = launch(100, plan("/bin/true", &[]));
    loop {
        if let Seen::Report(Report::Gone(exit)) = seen.recv_timeout(PATIENCE).unwrap() {
            return assert_eq!(exit, Exit::Code(0));
        }
    }
}

#[test]
fn s17_a_launching_thread_that_panics_launches_all_the_same() {
    if !alone::here(&[], s17_a_launching_thread_that_panics_launches_all_the_same) {
        return;
    }
    arm("launchers");
    let (mut watched, _) = Watched::started(plan("/bin/true", &[]));
    assert!(!is_armed("launchers"));
    assert_eq!(watched.gone(), Exit::Code(0));
    watched.nothing_more();
}

/// A process as a former master has left it, and what is told of it.
struct Inherited {
    child: Child,
    process: Arc<Attached>,
    gate: Arc<Gate>,
    told: Receiver<Report>,
    _shared: Arc<ProcessShared>,
}

fn inherit(keep: bool) -> Inherited {
    let (tell, told) = unbounded();
    let (sink, _) = unbounded();
    let shared = ProcessShared::new(Arc::new(Sink(sink)), None, estate()).unwrap();
    let mut command = Command::new("/bin/sleep");
    let child = command.arg("1000").process_group(0).stdin(Stdio::null()).spawn().unwrap();
    let process = Arc::new(Attached::of(child.id()).unwrap());
    let gate = Arc::new(Gate::to(Arc::clone(&process), 15, true));
    let mut plan = plan("/bin/sleep", &["1000"]);
    plan.afterwards.keep = keep;
    let life = Life {
        worker: WorkerId::new("api").unwrap(),
        incarnation: 3,
        plan: Arc::new(plan),
        means: Arc::clone(&shared.means),
        gate: Arc::clone(&gate),
        link: None,
        report: Arc::new(move |report| drop(tell.send(report))),
    };
    adopted::watch_over(life, Arc::clone(&process));
    Inherited { child, process, gate, told, _shared: shared }
}

#[test]
fn s17_an_adopted_process_is_watched_again_and_else_the_master_ends_without_it() {
    if !alone::here(
        &[],
        s17_an_adopted_process_is_watched_again_and_else_the_master_ends_without_it,
    ) {
        return;
    }
    let (tell, ends) = unbounded();
    let _on_fault = threads::on_fault(move |what| drop(tell.send(what.to_owned())));
    for keep in [true, false] {
        arm("adopted");
        let once = inherit(keep);
        once.gate.force();
        let killed = Exit::Signal { signal: 9, core_dumped: false };
        assert_eq!(once.told.recv_timeout(PATIENCE), Ok(Report::Gone(killed)));
        assert!(!is_armed("adopted"));
    }
    arm_for("adopted", 2);
    let mut kept = inherit(true);
    let why = ends.recv_timeout(PATIENCE).unwrap();
    assert!(why.contains("told to at adopted"), "{why}");
    // It is not said to be gone, for it is not.
    assert_eq!(kept.told.recv_timeout(PATIENCE), Err(RecvTimeoutError::Disconnected));
    kept.gate.force();
    assert!(!kept.process.has_ended(), "nobody here has anything to do with it any more");
    kept.child.kill().unwrap();
    kept.child.wait().unwrap();

    arm_for("adopted", 2);
    let other = inherit(false);
    let Report::Gone(exit) = other.told.recv_timeout(PATIENCE).unwrap() else { panic!("no end") };
    fault(exit);
    assert!(other.process.has_ended());
    assert!(ends.is_empty(), "it was to end anyway");
}
