//! Output, who holds it open, and a sink that breaks.

use super::*;

#[test]
fn an_end_is_reported_while_a_straggler_holds_the_output() {
    let fifos = Fifos::new();
    let script = "(read x < $A; echo late) & exit 3";
    let plan = ProcessPlan { kill_group: false, ..scripted(script, &fifos) };
    let (mut watched, _) = Watched::started(plan);
    assert_eq!(watched.gone(), Exit::Code(3));
    // It lives, since it was not signalled, and what it says is still heard.
    assert_eq!(watched.out(), "");
    fifos.release();
    watched.silent();
    assert_eq!(watched.out(), "late\n");
    watched.nothing_more();
}

#[test]
fn nobody_waits_for_a_straggler_when_the_master_ends() {
    let fifos = Fifos::new();
    let script = "(read x < $A; echo lives > $B) & exit 3";
    let plan = ProcessPlan { kill_group: false, ..scripted(script, &fifos) };
    let (mut watched, _) = Watched::started(plan);
    assert_eq!(watched.gone(), Exit::Code(3));
    watched.shared = None;
    watched.silent();
    fifos.release();
    assert_eq!(fifos.heard(), "lives\n");
}

#[test]
fn output_held_outside_the_killed_group_is_given_up() {
    let fifos = Fifos::new();
    // The leader ends once its grandchild has a session of its own.
    let script = "mkfifo $B.up; setsid sh -c ': > $B.up; read x < $A; echo lives > $B' & \
        : < $B.up; exit 3";
    let (mut watched, _) = Watched::started(scripted(script, &fifos));
    assert_eq!(watched.gone(), Exit::Code(3));
    watched.silent();
    fifos.release();
    assert_eq!(fifos.heard(), "lives\n");
    watched.nothing_more();
}

#[test]
fn all_output_arrives_and_arrives_before_the_end() {
    let script = "head -c 1000000 /dev/zero; head -c 1000000 /dev/zero >&2";
    let (mut watched, _) = Watched::started(shell(script));
    assert_eq!(watched.gone(), Exit::Code(0));
    assert_eq!((watched.out.len(), watched.err.len()), (1_000_000, 1_000_000));
    watched.silent();
    assert!(watched.out.iter().chain(&watched.err).all(|byte| *byte == 0));
}

#[test]
fn closed_output_is_not_the_end() {
    let fifos = Fifos::new();
    let script = "exec 0<&- 1>&- 2>&-; read x < $A; exit 5";
    let (mut watched, _) = Watched::started(scripted(script, &fifos));
    watched.silent();
    fifos.release();
    assert_eq!(watched.gone(), Exit::Code(5));
    watched.nothing_more();
}

/// What breaks the monitor: our own bug, by way of the sink.
struct Broken;

impl OutputSink for Broken {
    fn output(&self, _from: Outlet<'_>, _bytes: &[u8]) {
        panic!("planted");
    }

    fn end_of_output(&self, _from: Outlet<'_>) {}
}

#[test]
fn s17_a_monitor_that_panics_while_it_hands_on_leaves_no_process_and_reports_its_end() {
    let (tell, told) = unbounded();
    let shared = ProcessShared::new(Arc::new(Broken), None, estate()).unwrap();
    let report: Reporter = Arc::new(move |report| {
        let _ = tell.send(report);
    });
    let plan = Arc::new(shell("yes & wait"));
    let host = ProcessHost::launch(WorkerId::new("api").unwrap(), 1, plan, &shared, report);
    host.order(&Order::Start);
    assert_eq!(told.recv_timeout(PATIENCE), Ok(Report::Launched));
    let started = told.recv_timeout(PATIENCE).unwrap();
    let Report::Started { pid: Some(pid) } = started else { panic!("{started:?}") };
    let Report::Gone(Exit::Failed(fault)) = told.recv_timeout(PATIENCE).unwrap() else {
        panic!("another end");
    };
    assert_eq!(fault.message, "an internal fault: panicked in api#1: planted");
    assert!(!fs::exists(format!("/proc/{pid}")).unwrap(), "it was not reaped");
    assert_eq!(told.recv_timeout(PATIENCE), Err(RecvTimeoutError::Disconnected));
}
