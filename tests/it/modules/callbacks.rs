//! Modules that call back into their master: nothing hangs, and what would wait for itself is
//! refused (FAULTS B10, B11).

use std::sync::{Arc, Weak};

use hsu_master::crossbeam_channel::{Sender, bounded, unbounded};
use hsu_master::{
    ErrorCategory, EventKind, Master, ModuleContext, ModuleResult, WaitFor, WorkerConfig,
    WorkerState,
};

use super::{bench, worker};
use crate::made::{Later, Made, next};
use crate::support::{PATIENCE, ms};

/// Asks the master for everything that would wait for the asking thread, and tells what came of it.
fn ask(
    master: &Later<Weak<Master>>,
    tell: &Sender<(&'static str, Vec<ErrorCategory>)>,
    at: &'static str,
) {
    let master = master.get().upgrade().unwrap();
    let refused = [
        master.start_worker("w").map(drop),
        master.stop_worker("w"),
        master.restart_worker("w", false).map(drop),
        master.restart_worker("w", true).map(drop),
        master.remove_worker("w"),
        master.wait_for("w", WaitFor::Stopped, PATIENCE).map(drop),
        master.start_all(),
        master.wait().map(drop),
        master.wait_timeout(PATIENCE).map(drop),
        master.shutdown().map(drop),
    ];
    let refused = refused.map(|result| result.unwrap_err().category());
    // What does not wait for it is answered.
    assert_eq!(master.worker_diagnostics("w").unwrap().id, "w");
    assert_eq!(master.restart_worker(at, false).unwrap(), 2);
    tell.send((at, refused.to_vec())).unwrap();
}

#[test]
fn b10_what_would_wait_for_itself_is_refused_from_every_callback() {
    let (master, (tell, told)) = (Later::new(), unbounded());
    let asking = |at: &'static str| {
        let (master, tell) = (master.clone(), tell.clone());
        move || ask(&master, &tell, at)
    };
    let (init, start, stop) = (asking("initialize"), asking("start"), asking("stop"));
    let (thread, task, wake) = (asking("thread"), asking("task"), asking("on_stop"));
    let (adopted, info, dropped) = (asking("adopted"), asking("info"), asking("drop"));
    let health = crate::made::once(asking("health"));
    let made = Made::new()
        .in_factory(asking("factory"))
        .initialize(move |_| Ok(init()))
        .start(move |ctx| {
            start();
            let (thread, task, adopted) = (thread.clone(), task.clone(), adopted.clone());
            ctx.spawn("thread", move |_| Ok(thread()))?;
            ctx.spawn_task("task", move |_| Ok(task()))?;
            let (own, wake) = (ctx.clone(), wake.clone());
            let foreign = std::thread::Builder::new().spawn(move || {
                own.adopt_thread();
                adopted();
            })?;
            foreign.join().map_err(|_| "the adopted thread panicked")?;
            ctx.spawn("waiter", move |ctx| {
                let _kept = ctx.stop_token().on_stop(wake);
                ctx.stop_token().wait_stopped();
                Ok(())
            })
            .map_err(Into::into)
        })
        .health(move || {
            health();
            true.into()
        })
        .in_info(info)
        .stop(move |_| Ok(stop()))
        .in_drop(dropped);
    let bench = bench(made);
    master.set(Arc::downgrade(&bench.master));
    // For each callback one other worker: two restarts of the same would take each other's place.
    let all = [
        "adopted",
        "drop",
        "factory",
        "health",
        "info",
        "initialize",
        "on_stop",
        "start",
        "stop",
        "task",
        "thread",
    ];
    for id in all {
        bench.add(WorkerConfig::native(id, "sound"));
        bench.master.start_worker(id).unwrap();
    }
    bench.add(WorkerConfig::native("w", "m"));
    assert_eq!(bench.master.start_worker("w").unwrap(), 1);
    let mut heard: Vec<_> = (0..8).map(|_| next(&told)).collect();
    bench.master.stop_worker("w").unwrap();
    heard.extend(told.try_iter());
    let known = bench.known("w");
    assert_eq!((known.state, known.warning), (WorkerState::Stopped, None), "nothing was done");
    assert!(heard.iter().all(|(_, refused)| {
        refused.iter().all(|category| *category == ErrorCategory::WouldDeadlock)
    }));
    let mut places: Vec<_> = heard.iter().map(|(at, _)| *at).collect();
    places.sort_unstable();
    assert_eq!(places, all);
    bench.finish();
}

#[test]
fn b10_requests_that_are_not_waited_for_are_carried_out() {
    let (master, (tell, told)) = (Later::<Weak<Master>>::new(), unbounded());
    let asking = {
        let (master, tell) = (master.clone(), tell.clone());
        move |ctx: ModuleContext| -> ModuleResult {
            let master = master.get().upgrade().ok_or("the master is gone")?;
            let ticket = master.restart_worker_nowait(ctx.worker_id(), false);
            // The request is made; its answer cannot be waited for here.
            let refused = ticket.wait_timeout(PATIENCE).map(Result::unwrap_err);
            tell.send(refused.map(|error| error.category())).map_err(|_| "nobody listens")?;
            Ok(())
        }
    };
    let made = Made::new().start(move |ctx| {
        if ctx.incarnation() == 1 {
            ctx.spawn("restarts its own worker", asking.clone())?;
        }
        Ok(())
    });
    let bench = bench(made);
    master.set(Arc::downgrade(&bench.master));
    bench.add(worker("w"));
    // The restart may come before the start is through, and then takes its place.
    let _ = bench.master.start_worker("w");
    assert_eq!(next(&told), Some(ErrorCategory::WouldDeadlock));
    bench.once("w", |known| known.incarnation == 2 && known.state == WorkerState::Running);
    bench.finish();
}

#[test]
fn b10_a_master_dropped_by_its_own_module_shuts_down() {
    let (give, given) = bounded::<Arc<Master>>(1);
    let made = Made::new().start(move |ctx| {
        let given = given.clone();
        ctx.spawn("owner", move |_| {
            let master = given.recv_timeout(PATIENCE)?;
            assert_eq!(Arc::strong_count(&master), 1, "this is the last owner");
            drop(master);
            Ok(())
        })
        .map_err(Into::into)
    });
    let master = Arc::new(Master::builder().module("m", made.made()).build().unwrap());
    let events = master.subscribe();
    master.add_worker(WorkerConfig::native("w", "m")).unwrap();
    master.start_worker("w").unwrap();
    give.send(master).unwrap();
    let mut last = None;
    while let Ok(event) = events.recv_timeout(PATIENCE) {
        last = Some(event.kind);
    }
    assert_eq!(last, Some(EventKind::ShutDown));
}

#[test]
fn b10_two_modules_that_wait_for_each_other_are_parted_by_their_deadlines() {
    let master = Later::<Weak<Master>>::new();
    let known = master.clone();
    let made = Made::new().start(move |ctx| {
        let other = if ctx.worker_id() == "a" { "b" } else { "a" };
        let master = known.get().upgrade().ok_or("the master is gone")?;
        master.restart_worker(other, false).map(drop).map_err(Into::into)
    });
    let bench = bench(made);
    master.set(Arc::downgrade(&bench.master));
    for id in ["a", "b"] {
        let config = worker(id).start_timeout(ms(100));
        let restart = config.restart.clone().max_retries(1);
        bench.add(config.restart(restart));
    }
    let starts = ["a", "b"].map(|id| bench.master.start_worker_nowait(id));
    for start in starts {
        // However it ends, it is answered.
        let _ = crate::support::answer(&start);
    }
    bench.finish();
}

#[test]
fn b11_a_module_that_floods_the_master_delays_nobody_for_long() {
    const FLOOD: usize = 100_000;
    let (master, (tell, told)) = (Later::<Weak<Master>>::new(), unbounded());
    let known = master.clone();
    let made = Made::new().start(move |ctx| {
        let (known, tell) = (known.clone(), tell.clone());
        ctx.spawn("flood", move |_| {
            let master = known.get().upgrade().ok_or("the master is gone")?;
            for round in 0..FLOOD {
                drop(master.start_worker_nowait("other"));
                if round == 0 || round == FLOOD - 1 {
                    tell.send(round)?;
                }
            }
            Ok(())
        })
        .map_err(Into::into)
    });
    let bench = bench(made);
    master.set(Arc::downgrade(&bench.master));
    bench.add(WorkerConfig::native("other", "sound"));
    bench.add(WorkerConfig::native("third", "sound"));
    bench.add(worker("w"));
    bench.master.start_worker("w").unwrap();
    assert_eq!(next(&told), 0);
    for _ in 0..20 {
        let start = bench.master.start_worker_nowait("third");
        crate::support::answer(&start).unwrap();
        let stop = bench.master.stop_worker_nowait("third", false);
        crate::support::answer(&stop).unwrap();
    }
    assert_eq!(next(&told), FLOOD - 1);
    assert_eq!(bench.master.start_worker("other").unwrap(), 1, "a hundred thousand are one");
    bench.finish();
}
