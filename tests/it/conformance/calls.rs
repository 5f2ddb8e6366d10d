//! Cases about functions: what callers get, wherever the callee runs.

use std::thread;

use hsu_master::{Deployment, Error, ErrorCategory, EventKind, StopConfig, WorkerState};

use super::Stage;
use crate::actor::Life;
use crate::support::{PATIENCE, answer, ms, quick};

const LIMIT: usize = 512 << 10;

/// Adds and starts a worker whose functions are called. False: there are none in this place.
fn up(stage: &Stage) -> bool {
    if !stage.is_of_a_module() {
        return false;
    }
    stage.add("w", &[Life::Stays], |config| {
        config.restart(quick()).stop(StopConfig::default().timeout(PATIENCE))
    });
    stage.bench.master.start_worker("w").unwrap();
    true
}

#[track_caller]
fn category<T>(outcome: Result<T, Error>) -> ErrorCategory {
    let error = outcome.err().expect("this call fails");
    assert_eq!(error.worker(), Some("w"), "{error}");
    error.category()
}

fn number(reply: Vec<u8>) -> u64 {
    String::from_utf8(reply).unwrap().parse().unwrap()
}

pub(super) fn functions_answer_or_say_why_not(stage: &Stage) {
    if !up(stage) {
        return;
    }
    let master = &stage.bench.master;
    assert!(stage.bench.known("w").capabilities.functions);
    for payload in [&b""[..], b"hello", b"\0\xff\n\"", &vec![b'x'; 100_000]] {
        assert_eq!(master.call("w", "echo", payload).unwrap(), payload);
    }
    assert_eq!(master.call("w", "who", b"").unwrap(), b"w");
    let sum = master.function("w", "sum");
    let terms = |terms: &[i64]| serde_json::json!({ "terms": terms });
    assert_eq!(sum.call::<i64>(&terms(&[1, 2, 39])).unwrap(), 42);
    assert_eq!(answer(&sum.call_nowait::<i64>(&terms(&[4]))).unwrap(), 4);
    assert_eq!(category(sum.call::<i64>(&terms(&[]).to_string())), ErrorCategory::Refused);

    let failed = |function: &str| {
        let error = master.call("w", function, b"").unwrap_err();
        (error.category(), error.to_string())
    };
    let unknown = "worker w: it exports no function \"ecoh\"; did you mean \"echo\"?";
    assert_eq!(failed("ecoh"), (ErrorCategory::UnknownFunction, unknown.to_owned()));
    assert_eq!(failed("fail"), (ErrorCategory::Crash, "worker w: out of ink".to_owned()));
    assert_eq!(failed("refuse"), (ErrorCategory::Refused, "worker w: not on Sundays".to_owned()));
    // None of that is the worker's failure.
    let known = stage.bench.known("w");
    assert_eq!((known.state, known.incarnation), (WorkerState::Running, 1));
}

pub(super) fn calls_find_only_running_workers(stage: &Stage) {
    if !up(stage) {
        return;
    }
    let master = &stage.bench.master;
    let life = master.function("w", "life");
    assert_eq!(number(life.call_bytes(b"").unwrap()), 1);
    master.restart_worker("w", false).unwrap();
    assert_eq!(number(life.call_bytes(b"").unwrap()), 2, "the handle follows its worker");
    master.stop_worker("w").unwrap();
    assert_eq!(category(life.call_bytes(b"")), ErrorCategory::NotRunning);
    stage.add("new", &[Life::Stays], |config| config);
    assert!(master.call("new", "echo", b"").unwrap_err().is_unavailable());
    master.remove_worker("w").unwrap();
    assert_eq!(category(life.call_bytes(b"")), ErrorCategory::UnknownWorker);
}

pub(super) fn many_calls_at_a_time(stage: &Stage) {
    if !up(stage) {
        return;
    }
    let echo = stage.bench.master.function("w", "echo");
    thread::scope(|scope| {
        for caller in 0..8 {
            let echo = echo.clone();
            scope.spawn(move || {
                for call in 0..100 {
                    let payload = format!("{caller} {call}").into_bytes();
                    assert_eq!(echo.call_bytes(&payload).unwrap(), payload);
                }
            });
        }
    });
    let aside: Vec<_> = (0..100).map(|n| (n, echo.call_bytes_nowait(n.to_string()))).collect();
    for (n, ticket) in aside {
        assert_eq!(answer(&ticket).unwrap(), n.to_string().into_bytes());
    }
}

pub(super) fn a_panic_in_a_function_ends_the_call_alone(stage: &Stage) {
    if !up(stage) {
        return;
    }
    let (bench, master) = (&stage.bench, &stage.bench.master);
    for panics in 1..=3 {
        let error = master.call("w", "panic", b"").unwrap_err();
        assert_eq!(error.category(), ErrorCategory::Panic);
        let said = "worker w: panicked in function \"panic\": out of paper at \
                    tests/it/actor/module.rs:";
        assert!(error.to_string().starts_with(said), "{error}");
        assert_eq!(bench.known("w").call_panics, panics);
    }
    assert_eq!(master.call("w", "echo", b"on").unwrap(), b"on");
    let known = bench.known("w");
    assert_eq!((known.state, known.incarnation), (WorkerState::Running, 1));
}

pub(super) fn what_is_too_large_is_refused(stage: &Stage) {
    if !up(stage) {
        return;
    }
    let master = &stage.bench.master;
    let largest = vec![0xff; LIMIT];
    assert_eq!(master.call("w", "echo", &largest).unwrap(), largest);
    let too_large = master.call("w", "echo", &vec![0; LIMIT + 1]).unwrap_err();
    assert_eq!(too_large.category(), ErrorCategory::Refused);
    let said = "worker w: the payload has 524289 bytes; at most 524288 are allowed";
    assert_eq!(too_large.to_string(), said);
    let too_large = master.call("w", "more", &largest).unwrap_err();
    assert_eq!(too_large.category(), ErrorCategory::Refused);
    assert_eq!(too_large.to_string(), said.replace("payload", "reply"));
}

pub(super) fn a_call_in_flight_meets_a_stop(stage: &Stage) {
    if !up(stage) {
        return;
    }
    let (bench, master) = (&stage.bench, &stage.bench.master);
    bench.hears_that("w 1 ready");
    let slow = master.function("w", "slow").call_bytes_nowait(*b"late");
    bench.hears_that("slow");
    let stop = master.stop_worker_nowait("w", false);
    while !matches!(bench.next_event("w").1, EventKind::State { to: WorkerState::Stopping, .. }) {}
    assert_eq!(category(master.call("w", "echo", b"")), ErrorCategory::NotRunning);
    bench.let_go(1);
    assert_eq!(answer(&slow).unwrap(), b"late", "what was begun is finished");
    answer(&stop).unwrap();
    assert_eq!(bench.known("w").warning, None);
}

pub(super) fn the_time_bound_of_a_call(stage: &Stage) {
    let aspect = "time bound of a call";
    if stage.cannot_be(aspect) {
        return;
    }
    if !up(stage) {
        return;
    }
    let (bench, master) = (&stage.bench, &stage.bench.master);
    bench.hears_that("w 1 ready");
    let slow = master.function("w", "slow").timeout(ms(50));
    let outcome = thread::scope(|scope| {
        let call = scope.spawn(|| slow.call_bytes(b"late"));
        bench.hears_that("slow");
        if stage.place.deployment == Deployment::Thread {
            bench.let_go(1);
        }
        call.join().unwrap()
    });
    match outcome {
        Ok(_) => stage.observed(aspect, "none"),
        error => {
            assert_eq!(category(error), ErrorCategory::Timeout);
            stage.observed(aspect, "its timeout, 30 s by default");
            bench.let_go(1);
        }
    }
    assert_eq!(master.call("w", "echo", b"on").unwrap(), b"on");
}

pub(super) fn statics_live_as_long_as_their_process(stage: &Stage) {
    if !up(stage) {
        return;
    }
    let master = &stage.bench.master;
    let count = || number(master.call("w", "count", b"").unwrap());
    let first = count();
    master.restart_worker("w", false).unwrap();
    let second = count();
    let kept = second > first;
    assert!(kept || (first, second) == (1, 1), "{first}, {second}");
    let seen = if kept {
        "shared with other workers, kept over restarts"
    } else {
        "its own, new with each life"
    };
    stage.observed("statics", seen);
}
