//! Faults of our own on a module's threads (FAULTS S17): told as the incarnation's failure, and its
//! end is as any other's.

use super::*;
use crate::host::alone;
use crate::host::threads::fail_points::{arm, arm_for, is_armed, passed};

/// A module that tells each of its callbacks, with a thread that goes on until the stop.
fn busy() -> (Linked, Receiver<String>) {
    let (tell, told) = unbounded();
    let link = Linked::new(move |name, ctx| {
        tell.send(name.to_owned()).unwrap();
        if name == "start" {
            let tell = tell.clone();
            ctx.spawn("loop", move |ctx| {
                ctx.stop_token().wait_stopped();
                tell.send("joined".to_owned())?;
                Ok(())
            })?;
        }
        Ok(())
    });
    (link, told)
}

#[track_caller]
fn assert_fault(failure: &Failure, place: &str) {
    assert_eq!(failure.category, ErrorCategory::Internal, "{failure}");
    assert!(failure.message.contains(place), "{failure}");
    assert!(!failure.permanent, "it is tried again");
}

#[test]
fn s17_an_apartment_that_panics_has_failed_and_is_wound_down() {
    if !alone::here(&[], s17_an_apartment_that_panics_has_failed_and_is_wound_down) {
        return;
    }
    let (link, told) = busy();
    link.launch_and_start();
    // The start is told a moment before its turn is over.
    while passed("module") == 0 {
        std::thread::yield_now();
    }
    arm("module");
    link.order(Order::Probe { probe: 1 });
    assert!(matches!(link.next(), Report::Probed { probe: 1, healthy: true, .. }));
    assert_fault(&link.failure(), "panicked in w#3: told to at module");
    // What it is asked by then is not done any more.
    link.order(Order::Probe { probe: 2 });
    link.ask();
    assert_eq!(link.next(), Report::Gone(Exit::Returned));
    let told: Vec<_> = told.try_iter().collect();
    let last = &told[told.len() - 3..];
    assert!(["stop", "joined"].iter().all(|what| last[..2].contains(&(*what).to_owned())));
    assert_eq!(last[2], "drop", "{told:?}");
}

#[test]
fn s17_an_apartment_that_panics_at_its_end_is_gone() {
    if !alone::here(&[], s17_an_apartment_that_panics_at_its_end_is_gone) {
        return;
    }
    let (link, told) = busy();
    link.launch_and_start();
    arm("module-end");
    link.ask();
    let report = link.next();
    let Report::Gone(Exit::Failed(fault)) = &report else { panic!("{report:?}") };
    assert_fault(fault, "told to at module-end");
    assert!(told.try_iter().any(|what| what == "drop"));
}

#[test]
fn s17_a_module_has_failed_when_one_of_its_threads_does_for_a_fault_of_ours() {
    if !alone::here(&[], s17_a_module_has_failed_when_one_of_its_threads_does_for_a_fault_of_ours) {
        return;
    }
    let link = Linked::new(|name, ctx| {
        if name == "start" {
            ctx.spawn("job", |_| Ok(()))?;
        }
        Ok(())
    });
    link.launch();
    assert_eq!(link.next(), Report::Launched);
    arm("module-thread");
    link.order(Order::Start);
    // In whichever order.
    let mut both = [link.next(), link.next()];
    both.sort_by_key(|report| !matches!(report, Report::Failed(_)));
    let [Report::Failed(failure), Report::Started { .. }] = &both else { panic!("{both:?}") };
    assert_fault(failure, "panicked in w#3-job: told to at module-thread");
    link.ask();
    assert_eq!(link.next(), Report::Gone(Exit::Returned));
}

#[test]
fn s17_what_a_stop_is_to_wake_is_woken_after_a_fault_of_ours() {
    if !alone::here(&[], s17_what_a_stop_is_to_wake_is_woken_after_a_fault_of_ours) {
        return;
    }
    for faults in [1, 2] {
        let (woken, wakes) = unbounded();
        let link = Linked::new(move |name, ctx| {
            for number in (0..3).filter(|_| name == "start") {
                let woken = woken.clone();
                let action = move || woken.send(number).unwrap();
                std::mem::forget(ctx.stop_token().on_stop(action));
            }
            Ok(())
        });
        link.launch_and_start();
        arm_for("on_stop", faults);
        link.ask();
        assert_eq!(link.next(), Report::Gone(Exit::Returned), "{faults} faults");
        assert_eq!(wakes.try_iter().collect::<Vec<_>>(), [0, 1, 2], "{faults} faults");
        assert!(!is_armed("on_stop"));
    }
}

#[test]
fn s17_a_call_has_an_outcome_though_its_thread_panics() {
    if !alone::here(&[], s17_a_call_has_an_outcome_though_its_thread_panics) {
        return;
    }
    let link = Linked::new(|name, ctx| {
        if name == "start" { Ok(ctx.export("echo", |bytes| Ok(bytes.to_vec()))?) } else { Ok(()) }
    });
    link.launch();
    assert_eq!(link.next(), Report::Launched);
    link.order(Order::Start);
    while link.next() != (Report::Started { pid: None }) {}
    let functions = link.runner.lock().unwrap().functions().unwrap();
    arm("module-call");
    let (tell, told) = unbounded();
    for _ in 0..2 {
        let tell = tell.clone();
        functions.call_aside(
            "echo",
            b"x".to_vec(),
            Box::new(move |outcome| drop(tell.send(outcome))),
        );
        let outcome = told.recv_timeout(LONG).unwrap();
        match outcome {
            Err(fault) => assert_fault(&fault, "panicked in w#3-call: told to at module-call"),
            Ok(reply) => assert!(!is_armed("module-call") && reply == b"x"),
        }
    }
    link.ask();
    assert_eq!(link.next(), Report::Gone(Exit::Returned));
}
