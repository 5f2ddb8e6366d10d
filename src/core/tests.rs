//! What is told of an end beside how it was: what it most likely was due to.

use std::time::Duration;

use super::Core;
use super::event::{Command, Event, Report, Status, Ticket, WorkerSpec};
use super::moment::Moment;
use crate::error::{ErrorCategory, Failure};
use crate::worker::{Exit, RestartConfig, SuccessCodes, WorkerId, WorkerState};

const KILLED: Exit = Exit::Signal { signal: 9, core_dumped: false };

/// What is known of a worker after these reports on its first life, up or not.
fn after(signals: &[i32], up: bool, reports: &[Report]) -> Status {
    let mut core = Core::new(1, Duration::from_secs(30));
    let worker = WorkerId::new("a").unwrap();
    let success = SuccessCodes::default().signals(signals.iter().copied());
    let spec = WorkerSpec {
        start_timeout: Duration::from_secs(30),
        stop_timeout: Duration::from_secs(10),
        killable: true,
        keeps: false,
        restart: RestartConfig::default(),
        health: None,
        success,
        depends_on: Vec::new(),
    };
    let add = Command::Add { worker: worker.clone(), spec: Box::new(spec), past: 0 };
    let start = Command::Start { worker: worker.clone(), force: false };
    for command in [add, start] {
        core.handle(Moment::ZERO, Event::Command { ticket: Ticket(0), command });
    }
    let first = [Report::Launched, Report::Started];
    for report in first.iter().take(if up { 2 } else { 1 }).chain(reports) {
        let (worker, report) = (worker.clone(), report.clone());
        core.handle(Moment::ZERO, Event::Report { worker, incarnation: 1, report });
    }
    core.status("a").unwrap()
}

fn presumed() -> Report {
    Report::Presumed(Failure::new(ErrorCategory::ResourceLimit, "out of memory"))
}

#[test]
fn s15_what_an_end_was_most_likely_due_to_is_its_failure_and_a_crash_to_the_policy() {
    for up in [false, true] {
        let plain = after(&[], up, &[Report::Gone(KILLED)]);
        let told = after(&[], up, &[presumed(), Report::Gone(KILLED)]);
        let (failure, _) = &**told.last_failure.as_ref().unwrap();
        assert_eq!((failure.category, failure.permanent), (ErrorCategory::ResourceLimit, false));
        assert_eq!(failure.message, "out of memory");
        // All else is as it was.
        let (last_failure, cause) = (plain.last_failure.clone(), plain.cause);
        assert_eq!(Status { last_failure, cause, ..told }, plain);
        assert_eq!((plain.state, plain.failures), (WorkerState::Failed, 1));
    }
}

#[test]
fn s15_what_is_presumed_counts_only_for_an_end_that_it_explains() {
    let success = after(&[9], true, &[presumed(), Report::Gone(KILLED)]);
    assert!(success.completed && success.last_failure.is_none(), "{success:?}");
    let message = |exit| {
        let told = after(&[], true, &[presumed(), Report::Gone(exit)]);
        told.last_failure.unwrap().0.message.clone()
    };
    let broke = Failure::new(ErrorCategory::Crash, "its last words");
    assert_eq!(message(Exit::Failed(broke)), "its last words");
    assert_eq!(message(Exit::Code(3)), "exit 3");
}
