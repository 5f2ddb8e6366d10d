//! Cases about what a module's threads tell of themselves.

use hsu_master::{ErrorCategory, EventKind, WorkerState};

use super::Stage;
use crate::actor::Life;
use crate::logged;
use crate::support::quick;

/// The edges until a first life is up.
const UP: [&str; 4] = ["initializing", "initialized", "starting", "running"];

/// Starts a worker whose functions do what is to be seen. False: there is none in this place.
fn up(stage: &Stage) -> bool {
    let here = stage.is_of_a_module();
    if here {
        stage.add("w", &[Life::Stays], |config| config.restart(quick()));
        stage.bench.master.start_worker("w").unwrap();
        stage.bench.sees("w", &UP);
    }
    here
}

pub(super) fn a_task_that_fails_is_told_and_costs_no_life(stage: &Stage) {
    if !up(stage) {
        return;
    }
    let (bench, master) = (&stage.bench, &stage.bench.master);
    let mark = bench.gate().display().to_string();
    master.call("w", "task", mark.as_bytes()).unwrap();
    let [line] = &logged::lines(1, &mark)[..] else { panic!("it is logged once") };
    assert_eq!((line.level, line.worker.as_deref()), (log::Level::Warn, Some("w")));
    assert_eq!(line.text, format!("task \"job\" failed: {mark}"));
    // Version 1.0 of the plugin ABI has no more to say.
    if stage.place.name.contains("plugin") {
        return;
    }
    let failure = loop {
        if let (1, EventKind::TaskFailed { failure }) = bench.next_event("w") {
            break failure;
        }
    };
    assert_eq!((failure.category, failure.message), (ErrorCategory::Crash, mark));
    let known = bench.known("w");
    assert_eq!((known.state, known.incarnation), (WorkerState::Running, 1));
    assert_eq!(known.task_failures, 1);
}

pub(super) fn a_panic_on_an_adopted_thread_is_a_crash(stage: &Stage) {
    if !up(stage) {
        return;
    }
    let (bench, master) = (&stage.bench, &stage.bench.master);
    master.call("w", "adopt", b"").unwrap();
    assert_eq!(bench.sees("w", &["failed: panic", "starting: retry", "running"]), 2);
    let said = bench.known("w").last_error.unwrap().message;
    let begins = "panicked on an adopted thread: caught at tests/it/actor/module.rs:";
    assert!(said.starts_with(begins), "{said}");
}

pub(super) fn a_module_that_says_it_failed(stage: &Stage) {
    if !up(stage) {
        return;
    }
    let (bench, master) = (&stage.bench, &stage.bench.master);
    // Its answer may come too late for the worker, which has failed by then.
    let _ = master.call("w", "give-up", b"");
    assert_eq!(bench.sees("w", &["failed: network", "starting: retry", "running"]), 2);
    let error = bench.known("w").last_error.unwrap();
    assert_eq!((error.category, error.message.as_str()), (ErrorCategory::Network, "no line"));
}
