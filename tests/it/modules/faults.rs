//! Panics and hangs in every callback (FAULTS B01 to B08, B13, B14, B05).

use std::panic::panic_any;
use std::sync::{Arc, Mutex};

use hsu_master::{
    ErrorCategory, HealthCheckConfig, Master, MasterConfig, WorkerConfig, WorkerState,
};

use super::{UP, add_neighbour, bench, neighbour_is_well, worker};
use crate::alone;
use crate::made::{Made, hanging, once};
use crate::support::{Bench, NEVER, PATIENCE, ms};

fn trap() {
    panic!("trap");
}

/// The module whose first life is caught in a callback.
fn trapped_in(callback: &str) -> Made {
    let (made, trap) = (Made::new(), once(trap));
    match callback {
        "the factory" => made.in_factory(trap),
        "initialize" => made.initialize(move |_| Ok(trap())),
        "start" => made.start(move |_| Ok(trap())),
        "stop" => made.stop(move |_| Ok(trap())),
        "health" => made.health(move || {
            trap();
            true.into()
        }),
        "info" => made.in_info(trap),
        "drop" => made.in_drop(trap),
        other => panic!("there is no callback {other:?}"),
    }
}

#[test]
fn b01_a_panic_before_it_is_up_fails_that_start_alone() {
    for (callback, way) in [
        ("the factory", &["initializing"][..]),
        ("initialize", &["initializing"]),
        ("start", &["initializing", "initialized", "starting"]),
        ("info", &["initializing", "initialized", "starting"]),
    ] {
        let bench = bench(trapped_in(callback));
        add_neighbour(&bench);
        bench.add(worker("w"));
        let error = bench.master.start_worker("w").unwrap_err();
        assert_eq!(error.category(), ErrorCategory::Panic);
        let said = format!("worker w: panicked in {callback}: trap at tests/it/modules/faults.rs:");
        assert!(error.to_string().starts_with(&said), "{error}");
        bench.sees("w", way);
        assert_eq!(bench.sees("w", &["failed: panic", "starting: retry", "running"]), 2);
        neighbour_is_well(&bench);
        bench.finish();
    }
}

#[test]
fn b01_a_panic_in_a_health_check_is_a_crash() {
    let bench = bench(trapped_in("health"));
    add_neighbour(&bench);
    bench.add(worker("w"));
    assert_eq!(bench.master.start_worker("w").unwrap(), 1);
    bench.sees("w", &UP);
    assert_eq!(bench.sees("w", &["failed: panic", "starting: retry", "running"]), 2);
    let error = bench.known("w").last_error.unwrap();
    assert!(error.message.starts_with("panicked in health: trap at "), "{error:?}");
    neighbour_is_well(&bench);
    bench.finish();
}

#[test]
fn b01_b14_a_panic_while_it_ends_keeps_nobody_from_ending_it() {
    for callback in ["stop", "drop"] {
        let bench = bench(trapped_in(callback));
        add_neighbour(&bench);
        bench.add(worker("w"));
        bench.master.start_worker("w").unwrap();
        bench.master.stop_worker("w").unwrap();
        bench.sees("w", &UP);
        bench.sees("w", &["stopping", "stopped: ended"]);
        let known = bench.known("w");
        let warning = known.warning.unwrap();
        assert!(warning.starts_with(&format!("panicked in {callback}: trap at ")), "{warning}");
        assert_eq!((known.last_error, known.abandoned_threads), (None, 0));
        assert_eq!(bench.master.start_worker("w").unwrap(), 2);
        assert_eq!(bench.known("w").warning, None, "a new life has a clean slate");
        neighbour_is_well(&bench);
        bench.finish();
    }
}

#[test]
fn b01_a_module_that_panics_everywhere_is_given_up() {
    let made = Made::new().start(|_| Ok(trap())).in_drop(trap);
    let bench = bench(made);
    let config = worker("w");
    let restart = config.restart.clone().max_retries(2);
    bench.add(config.restart(restart));
    assert!(bench.master.start_worker("w").is_err());
    bench.sees("w", &["initializing", "initialized", "starting", "failed: panic"]);
    for _ in 0..2 {
        bench.sees("w", &["starting: retry", "failed: panic"]);
    }
    bench.sees("w", &["stopped: gave up"]);
    bench.finish();
}

#[test]
fn b02_a_payload_that_is_no_text_is_said_to_be_none() {
    let bench = bench(Made::new().start(|_| panic_any(42)));
    bench.add(worker("w"));
    let error = bench.master.start_worker("w").unwrap_err().to_string();
    let said = "worker w: panicked in start: a panic with a payload that is no text at ";
    assert!(error.starts_with(said), "{error}");
    bench.finish();
}

#[test]
fn b03_a_payload_that_panics_when_dropped_is_contained() {
    struct Trap;
    impl Drop for Trap {
        fn drop(&mut self) {
            panic!("dropped");
        }
    }
    let made = Made::new()
        .initialize(|ctx| if ctx.incarnation() == 1 { panic_any(Trap) } else { Ok(()) })
        .start(|ctx| match ctx.incarnation() {
            2 => panic_any(Trap),
            3 => Ok(ctx.spawn("thread", |_| panic_any(Trap))?),
            _ => Ok(()),
        });
    let bench = bench(made);
    add_neighbour(&bench);
    bench.add(worker("w"));
    let error = bench.master.start_worker("w").unwrap_err();
    assert_eq!(error.category(), ErrorCategory::Panic);
    bench.once("w", |known| known.incarnation == 4 && known.state == WorkerState::Running);
    neighbour_is_well(&bench);
    bench.finish();
}

#[test]
fn b05_an_abort_ends_the_master() {
    let Some(ended) = alone::run(&[], b05_an_abort_ends_the_master) else {
        let bench = bench(Made::new().start(|_| std::process::abort()));
        bench.add(worker("w"));
        let _ = bench.master.start_worker("w");
        panic!("it lived on");
    };
    use std::os::unix::process::ExitStatusExt;
    assert_eq!(ended.status.signal(), Some(6), "{ended:?}");
}

#[test]
fn b05_what_ends_the_master_is_named() {
    let Some(ended) = alone::run(&[], b05_what_ends_the_master_is_named) else {
        let deep = Made::new().start(|ctx| {
            ctx.spawn("digger", |_| Err(format!("never: {}", dig(1)).into()))?;
            ctx.stop_token().wait_stopped();
            Ok(())
        });
        let master = Master::builder().module("m", deep.made()).own_process();
        let bench = Bench::new(master);
        bench.add(worker("w"));
        let _ = bench.master.start_worker("w");
        panic!("it lived on");
    };
    use std::os::unix::process::ExitStatusExt;
    let said = String::from_utf8_lossy(&ended.stderr).into_owned();
    assert_eq!(ended.status.signal(), Some(6), "{said}");
    assert!(said.contains("fatal: SIGSEGV on thread w#1-digger\n"), "{said}");
    assert!(said.contains("thread 'w#1-digger' "), "what std says of it is said too: {said}");
    assert!(!said.contains("fatal: SIGABRT"), "it is told twice: {said}");
}

/// Uses up the stack.
#[expect(unconditional_recursion, reason = "it is to overflow")]
fn dig(depth: u64) -> u64 {
    let room = std::hint::black_box([depth; 64]);
    dig(depth + 1) + room[63]
}

#[test]
fn b06_a_start_that_never_returns_is_abandoned_and_not_doubled() {
    let (release, hang) = hanging();
    let hang = once(hang);
    let bench = bench(Made::new().start(move |_| Ok(hang())));
    add_neighbour(&bench);
    bench.add(worker("w").start_timeout(ms(300)));
    let error = bench.master.start_worker("w").unwrap_err();
    assert!(error.is_timeout(), "{error}");
    bench.sees("w", &["initializing", "initialized", "starting", "failed: timeout"]);
    let known = bench.once("w", |known| known.abandoned_threads == 1);
    assert_eq!((known.state, known.ending, known.goal), (WorkerState::Failed, true, "up"));
    assert_eq!(known.last_error.unwrap().category, ErrorCategory::Stuck);
    assert!(bench.master.start_worker("w").unwrap_err().is_stuck());
    assert_eq!(bench.known("w").incarnation, 1, "no second one beside it");
    neighbour_is_well(&bench);
    drop(release);
    assert_eq!(bench.sees("w", &["starting: retry"]), 2);
    bench.once("w", |known| known.abandoned_threads == 0);
    bench.finish();
}

#[test]
fn b07_a_stop_that_never_returns_does_not_hold_the_shutdown() {
    let (release, hang) = hanging();
    let made = Made::new().stop(move |_| Ok(hang()));
    let config = MasterConfig::new().shutdown_timeout(ms(100));
    let bench = Bench::new(Master::builder().config(config).module("m", made.made()));
    for id in ["w1", "w2"] {
        let config = worker(id);
        let stop = config.stop.clone().timeout(NEVER);
        bench.add(config.stop(stop));
        bench.master.start_worker(id).unwrap();
    }
    let report = bench.finish().report;
    assert_eq!((report.killed, report.stuck), (vec![], vec!["w1".to_owned(), "w2".to_owned()]));
    drop(release);
}

#[test]
fn b08_a_health_check_that_never_returns_is_unhealthy_then_stuck() {
    let (release, hang) = hanging();
    let hang = once(hang);
    let bench = bench(Made::new().health(move || {
        hang();
        true.into()
    }));
    add_neighbour(&bench);
    let check = HealthCheckConfig::every(ms(50)).timeout(ms(50)).retries(2);
    bench.add(worker("w").health_check(check));
    bench.master.start_worker("w").unwrap();
    bench.sees("w", &UP);
    bench.sees("w", &["failed: health"]);
    let known = bench.once("w", |known| known.abandoned_threads == 1);
    assert_eq!((known.state, known.incarnation), (WorkerState::Failed, 1));
    assert_eq!(known.last_error.unwrap().category, ErrorCategory::Stuck);
    neighbour_is_well(&bench);
    drop(release);
    assert_eq!(bench.sees("w", &["starting: retry", "running"]), 2);
    bench.finish();
}

#[test]
fn b13_a_poisoned_lock_is_the_dead_instances_own() {
    let made = Made::new().start(|ctx| {
        let shared = Arc::new(Mutex::new(0));
        let held = Arc::clone(&shared);
        if ctx.incarnation() == 1 {
            ctx.spawn("holder", move |_| {
                let _guard = held.lock().unwrap();
                panic!("while it held the lock");
            })?;
        }
        // Poisoned or not when the first life gets here, the second has a lock of its own.
        *shared.lock().map_err(|_| "poisoned")? += 1;
        Ok(())
    });
    let bench = bench(made);
    bench.add(worker("w"));
    let _ = bench.master.start_worker("w");
    bench.once("w", |known| known.incarnation == 2 && known.state == WorkerState::Running);
    bench.finish();
}

#[test]
fn b14_a_drop_that_never_returns_is_abandoned() {
    let (release, hang) = hanging();
    let hang = once(hang);
    let bench = bench(Made::new().in_drop(hang));
    add_neighbour(&bench);
    bench.add(worker("w"));
    bench.master.start_worker("w").unwrap();
    assert!(bench.master.stop_worker("w").unwrap_err().is_stuck());
    bench.sees("w", &UP);
    bench.sees("w", &["stopping", "failed: stuck"]);
    neighbour_is_well(&bench);
    drop(release);
    bench.sees("w", &["stopped: ended"]);
    bench.finish();
}

#[test]
fn at_most_eight_hanging_lives_are_gone_past() {
    let (release, hang) = hanging();
    let bench = bench(Made::new().stop(move |_| Ok(hang())));
    let config = WorkerConfig::native("w", "m");
    let stop = config.stop.clone().timeout(ms(1));
    bench.add(config.stop(stop));
    bench.master.start_worker("w").unwrap();
    for life in 1..=8 {
        assert!(bench.master.restart_worker("w", false).unwrap_err().is_stuck());
        assert_eq!(bench.master.restart_worker("w", true).unwrap(), life + 1);
    }
    assert!(bench.master.stop_worker("w").unwrap_err().is_stuck());
    assert!(bench.master.restart_worker("w", true).unwrap_err().is_stuck());
    assert_eq!(bench.known("w").abandoned_threads, 9);
    drop(release);
    let known = bench.once("w", |known| known.abandoned_threads == 0);
    assert_eq!((known.state, known.incarnation), (WorkerState::Stopped, 9));
    assert!(bench.master.wait_for("w", hsu_master::WaitFor::Stopped, PATIENCE).is_ok());
    bench.finish();
}
