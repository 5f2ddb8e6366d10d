//! Functions that modules export, called through the master: by whom, when, and what comes of it.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::Duration;

use hsu_master::crossbeam_channel::{Receiver, Sender, bounded, unbounded};
use hsu_master::{
    EndpointInfo, EndpointKind, EndpointType, Error, ErrorCategory, EventKind, Function, Master,
    ModuleContext, ModuleResult, Ticket, WorkerConfig, WorkerState, current_worker,
};
use serde::{Deserialize, Serialize};

use super::{UP, bench, worker};
use crate::made::{Later, Made, next};
use crate::support::{Bench, PATIENCE, answer, ms, until};

const LIMIT: usize = 512 << 10;

#[derive(Serialize, Deserialize)]
struct Sum {
    terms: Vec<i64>,
}

/// Everything that a function may come to.
fn export(ctx: &ModuleContext) -> ModuleResult {
    let life = ctx.incarnation();
    ctx.export("echo", |payload| Ok(payload.to_vec()))?;
    ctx.export("life", move |_| Ok(life.to_string().into_bytes()))?;
    ctx.export("who", |_| Ok(current_worker().unwrap_or_default().into_bytes()))?;
    ctx.export("more", |payload| Ok(vec![0; payload.len() + 1]))?;
    ctx.export("panic", |_| panic!("out of paper"))?;
    ctx.export("fail", |_| Err("out of ink".into()))?;
    ctx.export("refuse", |_| Err(Error::new(ErrorCategory::Refused, "not on Sundays").into()))?;
    ctx.export_json("sum", |sum: Sum| Ok(sum.terms.iter().sum::<i64>()))?;
    Ok(())
}

/// A bench with a running worker that exports all of it.
fn exporting() -> Bench {
    let bench = bench(Made::new().start(export));
    bench.add(worker("w"));
    bench.master.start_worker("w").unwrap();
    bench
}

/// A bench with a running worker whose function `slow` says that it runs and waits to be let go.
fn slow(stop_timeout: Duration) -> (Bench, Receiver<()>, Sender<()>) {
    let (entered, inside) = unbounded();
    let (release, released) = bounded(0);
    let made = Made::new().start(move |ctx| {
        let (entered, released) = (entered.clone(), released.clone());
        ctx.export("echo", |payload| Ok(payload.to_vec()))?;
        ctx.export("slow", move |payload| {
            entered.send(())?;
            released.recv_timeout(PATIENCE)?;
            Ok(payload.to_vec())
        })?;
        Ok(())
    });
    let bench = bench(made);
    bench.add(worker("w").stop(hsu_master::StopConfig::default().timeout(stop_timeout)));
    bench.master.start_worker("w").unwrap();
    (bench, inside, release)
}

fn category<T>(outcome: Result<T, Error>) -> ErrorCategory {
    let error = outcome.err().expect("this call fails");
    assert_eq!(error.worker(), Some("w"), "{error}");
    error.category()
}

#[test]
fn a_function_is_called_by_the_names_of_its_worker_and_its_own() {
    let bench = exporting();
    let master = &bench.master;
    assert_eq!(master.call("w", "echo", b"hello").unwrap(), b"hello");
    assert_eq!(master.worker("w").call("echo", b"").unwrap(), b"");
    let sum = master.worker("w").function("sum");
    assert_eq!((sum.worker(), sum.name()), ("w", "sum"));
    assert_eq!(sum.call::<i64>(&Sum { terms: vec![1, 2, 3] }).unwrap(), 6);
    assert_eq!(answer(&sum.call_nowait::<i64>(&Sum { terms: vec![4] })).unwrap(), 4);
    let echoed = master.function("w", "echo").call_bytes_nowait(*b"aside");
    assert_eq!(echoed.wait().unwrap(), b"aside");
    bench.finish();
}

#[test]
fn the_callees_name_is_on_the_thread_while_it_runs() {
    let bench = exporting();
    assert_eq!(bench.master.call("w", "who", b"").unwrap(), b"w");
    let aside = bench.master.function("w", "who").call_bytes_nowait([]);
    assert_eq!(aside.wait().unwrap(), b"w");
    assert!(bench.master.call("w", "panic", b"").is_err());
    assert_eq!(current_worker(), None);
    bench.finish();
}

#[test]
fn what_is_not_there_is_named_with_what_is_near() {
    let bench = exporting();
    let text = |worker: &str, function: &str| {
        let error = bench.master.call(worker, function, b"").unwrap_err();
        assert!(error.is_not_found() && error.worker() == Some(worker), "{error:?}");
        error.to_string()
    };
    assert_eq!(
        text("w", "ecoh"),
        "worker w: it exports no function \"ecoh\"; did you mean \"echo\"?"
    );
    assert_eq!(text("v", "echo"), "worker v: there is no such worker; did you mean \"w\"?");
    assert_eq!(text("not a name", "echo"), "worker not a name: there is no such worker");
    bench.add(WorkerConfig::executable("cat", "/bin/cat"));
    bench.master.start_worker("cat").unwrap();
    let program = text("cat", "echo");
    assert_eq!(program, "worker cat: it exports no function \"echo\": a program exports none");
    let aside = bench.master.function("w", "ecoh").call_bytes_nowait([]);
    assert_eq!(category(aside.wait()), ErrorCategory::UnknownFunction);
    bench.finish();
}

#[test]
fn a_worker_is_called_only_while_it_runs() {
    let (entered, inside) = bounded(0);
    let (release, released) = bounded::<()>(0);
    let bench = bench(Made::new().start(move |ctx| {
        export(ctx)?;
        entered.send_timeout((), PATIENCE)?;
        released.recv_timeout(PATIENCE)?;
        Ok(())
    }));
    let master = &bench.master;
    let echo = master.function("w", "echo");
    assert_eq!(category(echo.call_bytes(b"")), ErrorCategory::UnknownWorker);
    bench.add(worker("w"));
    assert_eq!(echo.call_bytes(b"").unwrap_err().to_string(), not_running("uninitialized"));
    let begun = master.start_worker_nowait("w");
    next(&inside);
    assert_eq!(echo.call_bytes(b"").unwrap_err().to_string(), not_running("starting"));
    release.send_timeout((), PATIENCE).unwrap();
    begun.wait().unwrap();
    assert!(echo.call_bytes(b"").is_ok());
    master.stop_worker("w").unwrap();
    let error = echo.call_bytes(b"").unwrap_err();
    assert!(error.is_unavailable());
    assert_eq!(error.to_string(), not_running("stopped"));
    assert_eq!(category(echo.call_bytes_nowait([]).wait()), ErrorCategory::NotRunning);
    master.remove_worker("w").unwrap();
    assert_eq!(category(echo.call_bytes(b"")), ErrorCategory::UnknownWorker);
    bench.finish();
    assert!(echo.call_bytes(b"").is_err(), "the handle outlives its master");
}

fn not_running(state: &str) -> String {
    format!("worker w: it is {state} and takes no calls")
}

#[test]
fn who_hears_that_a_worker_runs_can_call_it() {
    let slot = Later::<Function>::new();
    let (told, heard) = unbounded();
    let known = slot.clone();
    let master = Master::builder().module("m", Made::new().start(export).made()).build().unwrap();
    let events: Arc<std::sync::OnceLock<Receiver<hsu_master::Event>>> = Arc::default();
    let stream = Arc::clone(&events);
    let receiver = master.subscribe_with(move || {
        let Some(event) = stream.get().and_then(|events| events.try_recv().ok()) else { return };
        if let EventKind::State { from, to, .. } = event.kind
            && [from, to].contains(&WorkerState::Running)
        {
            told.send((to, known.get().call_bytes(b"x").is_ok())).unwrap();
        }
    });
    events.set(receiver).unwrap();
    slot.set(master.function("w", "echo"));
    master.add_worker(WorkerConfig::native("w", "m")).unwrap();
    master.start_worker("w").unwrap();
    assert_eq!(next(&heard), (WorkerState::Running, true));
    master.stop_worker("w").unwrap();
    assert_eq!(next(&heard), (WorkerState::Stopping, false));
    master.shutdown().unwrap();
}

#[test]
fn a_panic_is_answered_and_counted_and_the_worker_lives_on() {
    let bench = exporting();
    let function = bench.master.function("w", "panic");
    let error = function.call_bytes(b"").unwrap_err();
    assert!(error.is_panic() && error.worker() == Some("w"));
    let text = error.to_string();
    let begin = "worker w: panicked in function \"panic\": out of paper at tests/it/modules/";
    assert!(text.starts_with(begin), "{text}");
    assert_eq!(category(function.call_bytes_nowait([]).wait()), ErrorCategory::Panic);
    let known = bench.known("w");
    assert_eq!((known.call_panics, known.state), (2, WorkerState::Running));
    assert_eq!((known.incarnation, known.last_error), (1, None));
    // The count is the worker's, not the incarnation's.
    bench.master.restart_worker("w", false).unwrap();
    assert!(function.call_bytes(b"").unwrap_err().is_panic());
    assert_eq!(bench.known("w").call_panics, 3);
    bench.master.stop_worker("w").unwrap();
    assert_eq!(bench.known("w").call_panics, 3);
    bench.finish();
}

#[test]
fn an_error_keeps_its_category() {
    let bench = exporting();
    let error = bench.master.call("w", "fail", b"").unwrap_err();
    assert_eq!((error.category(), error.worker()), (ErrorCategory::Crash, Some("w")));
    assert_eq!(error.to_string(), "worker w: out of ink");
    let error = bench.master.call("w", "refuse", b"").unwrap_err();
    assert!(error.is_refused());
    assert_eq!(error.to_string(), "worker w: not on Sundays");
    assert_eq!(bench.known("w").call_panics, 0);
    bench.finish();
}

#[test]
fn json_that_does_not_fit_is_refused_by_its_field() {
    let bench = exporting();
    let sum = bench.master.function("w", "sum");
    let error = sum.call::<i64>(&serde_json::json!({"terms": [1, "two"]})).unwrap_err();
    assert!(error.is_refused(), "{error:?}");
    assert!(error.to_string().starts_with("worker w: payload.terms[1]: invalid type"), "{error}");
    let request = Sum { terms: vec![1] };
    let error = sum.call::<Vec<String>>(&request).unwrap_err();
    assert_eq!((error.category(), error.worker()), (ErrorCategory::Unknown, Some("w")));
    let aside = sum.call_nowait::<Vec<String>>(&request).wait();
    assert_eq!(category(aside), ErrorCategory::Unknown);
    bench.finish();
}

#[test]
fn what_is_too_large_is_refused_both_ways() {
    let bench = exporting();
    let most = vec![1; LIMIT];
    assert_eq!(bench.master.call("w", "echo", &most).unwrap(), most);
    let error = bench.master.call("w", "more", &most).unwrap_err();
    assert!(error.is_refused());
    let limit = "bytes; at most 524288 are allowed";
    assert_eq!(error.to_string(), format!("worker w: the reply has 524289 {limit}"));
    let error = bench.master.call("w", "echo", &vec![1; LIMIT + 1]).unwrap_err();
    assert!(error.is_refused());
    assert_eq!(error.to_string(), format!("worker w: the payload has 524289 {limit}"));
    bench.finish();
}

#[test]
fn calls_run_side_by_side_and_one_of_them_holds_up_no_other() {
    let (bench, inside, release) = slow(PATIENCE);
    let slow = bench.master.function("w", "slow");
    thread::scope(|scope| {
        let calls: Vec<_> = (0..4u8)
            .map(|n| {
                let slow = slow.clone();
                scope.spawn(move || slow.call_bytes(&[n]).unwrap())
            })
            .collect();
        (0..4).for_each(|_| next(&inside));
        assert_eq!(bench.master.call("w", "echo", b"quick").unwrap(), b"quick");
        (0..4).for_each(|_| release.send_timeout((), PATIENCE).unwrap());
        let replies: Vec<_> = calls.into_iter().map(|call| call.join().unwrap()).collect();
        assert_eq!(replies, [[0], [1], [2], [3]]);
    });
    bench.finish();
}

#[test]
fn a_stop_lets_calls_in_flight_finish_and_refuses_new_ones() {
    let (bench, inside, release) = slow(PATIENCE);
    let slow = bench.master.function("w", "slow").call_bytes_nowait(*b"kept");
    next(&inside);
    let stopped = bench.master.stop_worker_nowait("w", false);
    bench.sees("w", &UP);
    bench.sees("w", &["stopping"]);
    let error = bench.master.call("w", "echo", b"").unwrap_err();
    assert_eq!(error.to_string(), not_running("stopping"));
    assert!(stopped.try_wait().is_none(), "it waits for the call");
    assert!(slow.try_wait().is_none());
    release.send_timeout((), PATIENCE).unwrap();
    assert_eq!(answer(&slow).unwrap(), b"kept");
    answer(&stopped).unwrap();
    bench.finish();
}

#[test]
fn a_call_that_does_not_end_makes_its_worker_stuck_and_the_next_life_is_called_past_it() {
    let (bench, inside, release) = slow(ms(50));
    let slow = bench.master.function("w", "slow");
    thread::scope(|scope| {
        let stuck = scope.spawn(|| slow.call_bytes(b"old"));
        next(&inside);
        assert!(bench.master.stop_worker("w").unwrap_err().is_stuck());
        assert_eq!(category(slow.call_bytes(b"")), ErrorCategory::NotRunning);
        assert_eq!(bench.master.restart_worker("w", true).unwrap(), 2);
        let fresh = scope.spawn(|| slow.call_bytes(b"new"));
        next(&inside);
        (0..2).for_each(|_| release.send_timeout((), PATIENCE).unwrap());
        assert_eq!(stuck.join().unwrap().unwrap(), b"old");
        assert_eq!(fresh.join().unwrap().unwrap(), b"new");
    });
    bench.once("w", |known| known.abandoned_threads == 0);
    assert!(slow.call_bytes_nowait([]).try_wait().is_none(), "it goes to the new one still");
    next(&inside);
    release.send_timeout((), PATIENCE).unwrap();
    bench.finish();
}

#[test]
fn calls_that_nobody_waits_for_are_limited() {
    let (bench, inside, release) = slow(PATIENCE);
    let slow = bench.master.function("w", "slow");
    let running: Vec<Ticket<Vec<u8>>> = (0..1024).map(|_| slow.call_bytes_nowait([])).collect();
    let error = slow.call_bytes_nowait([]).wait().unwrap_err();
    assert!(error.is_refused() && error.to_string().starts_with("worker w: busy: "), "{error}");
    assert!(bench.master.call("w", "echo", b"").is_ok(), "who waits is not limited");
    (0..1024).for_each(|_| next(&inside));
    (0..1024).for_each(|_| release.send_timeout((), PATIENCE).unwrap());
    for call in &running {
        assert!(answer(call).is_ok());
    }
    until(|| bench.master.function("w", "echo").call_bytes_nowait([]).wait().is_ok());
    bench.finish();
}

#[test]
fn a_handle_follows_its_worker_to_the_next_incarnation() {
    let bench = exporting();
    let life = bench.master.function("w", "life");
    let lives = |function: &Function| String::from_utf8(function.call_bytes(b"").unwrap()).unwrap();
    assert_eq!((lives(&life), lives(&life.clone())), ("1".into(), "1".into()));
    bench.master.restart_worker("w", false).unwrap();
    assert_eq!((lives(&life), lives(&life.clone())), ("2".into(), "2".into()));
    bench.master.remove_worker("w").unwrap();
    assert_eq!(category(life.call_bytes(b"")), ErrorCategory::UnknownWorker);
    bench.add(worker("w"));
    bench.master.start_worker("w").unwrap();
    assert_eq!(lives(&life), "3");
    bench.finish();
}

#[test]
fn functions_are_endpoints_and_told_anew_by_each_incarnation() {
    let bench = bench(Made::new().start(|ctx| Ok(ctx.export("echo", |p| Ok(p.to_vec()))?)));
    bench.add(worker("w"));
    bench.master.start_worker("w").unwrap();
    bench.sees("w", &UP[..3]);
    let endpoint = EndpointInfo::new("echo", EndpointType::Function, "echo");
    let told = |life| (life, EventKind::Endpoint { endpoint: endpoint.clone() });
    assert_eq!(bench.next_event("w"), told(1));
    let known = bench.master.endpoint("w", "echo").unwrap();
    assert_eq!((known.kind, known.incarnation), (EndpointKind::Function, 1));
    assert_eq!(known.info, endpoint);
    assert!(bench.known("w").capabilities.functions);
    bench.master.restart_worker("w", false).unwrap();
    bench.sees("w", &["running", "stopping", "stopped", "starting"]);
    while bench.next_event("w") != told(2) {}
    bench.finish();
}

#[test]
fn modules_call_each_other_and_themselves() {
    let slot = Later::<Arc<Master>>::new();
    let (known, (told, heard)) = (slot.clone(), unbounded());
    let caller = Made::new().start(move |ctx| {
        let (master, told) = (known.get(), told.clone());
        ctx.export("own", |_| Ok(current_worker().unwrap_or_default().into_bytes()))?;
        ctx.spawn("calls", move |_| {
            until(|| ["other", "w"].iter().all(|worker| master.call(worker, "own", b"").is_ok()));
            let mut replies = Vec::new();
            for worker in ["other", "w"] {
                let reply = master.call(worker, "own", b"")?;
                replies.push((String::from_utf8(reply)?, current_worker()));
                let aside = master.function(worker, "own").call_bytes_nowait([]).wait()?;
                replies.push((String::from_utf8(aside)?, current_worker()));
            }
            Ok(told.send(replies)?)
        })?;
        Ok(())
    });
    let bench = bench(caller);
    slot.set(Arc::clone(&bench.master));
    bench.add(worker("other"));
    bench.add(worker("w"));
    bench.master.start_all().unwrap();
    for _ in 0..2 {
        let replies = next(&heard);
        let caller = replies[0].1.clone();
        assert!(caller.is_some());
        let told: Vec<_> = replies.iter().map(|(callee, _)| callee.as_str()).collect();
        assert_eq!(told, ["other", "other", "w", "w"]);
        assert!(replies.iter().all(|(_, after)| *after == caller), "the caller is itself again");
    }
    bench.finish();
}

#[test]
fn a_module_that_calls_itself_in_its_own_stop_is_refused_and_stops() {
    let slot = Later::<Arc<Master>>::new();
    let (known, (told, heard)) = (slot.clone(), unbounded());
    let made = Made::new().start(export).stop(move |_| {
        let error = known.get().call("w", "echo", b"").unwrap_err();
        Ok(told.send(error.category())?)
    });
    let bench = bench(made);
    slot.set(Arc::clone(&bench.master));
    bench.add(worker("w"));
    bench.master.start_worker("w").unwrap();
    bench.master.stop_worker("w").unwrap();
    assert_eq!(next(&heard), ErrorCategory::NotRunning);
    bench.finish();
}

/// Sets it when dropped.
struct Ending<'a>(&'a AtomicBool);

impl Drop for Ending<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

#[test]
fn callers_see_only_replies_and_not_running_while_workers_come_and_go() {
    let bench = exporting();
    let (over, calls) = (AtomicBool::new(false), AtomicU64::new(0));
    thread::scope(|scope| {
        for _ in 0..4 {
            let life = bench.master.function("w", "life");
            let (over, calls) = (&over, &calls);
            scope.spawn(move || {
                let mut last = 0;
                while !over.load(Ordering::Relaxed) {
                    match life.call_bytes(b"") {
                        Ok(reply) => {
                            let life = String::from_utf8(reply).unwrap().parse().unwrap();
                            assert!(life >= last, "a call went back to an older incarnation");
                            last = life;
                            calls.fetch_add(1, Ordering::Relaxed);
                        }
                        Err(error) => assert!(error.is_unavailable(), "{error:?}"),
                    }
                }
            });
        }
        // Also when something below fails, or the callers would never end.
        let _ending = Ending(&over);
        for _ in 0..50 {
            let before = calls.load(Ordering::Relaxed);
            bench.master.restart_worker("w", false).unwrap();
            until(|| calls.load(Ordering::Relaxed) > before);
        }
    });
    bench.finish();
}
