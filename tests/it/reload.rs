//! Another configuration for a master that runs (FAULTS C14 to C16, I29): what the plan says is
//! what happens, and what is the same is not touched.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};

use hsu_master::{
    Error, ErrorCategory, EventKind, Master, MasterConfig, Plan, PlanAction, WorkerConfig,
    WorkerState,
};

use crate::made::Made;
use crate::support::{Bench, NEVER, PATIENCE, ms, quick, slow, until};

fn nap(id: &str) -> WorkerConfig {
    shell(id, "exec sleep 1000")
}

fn shell(id: &str, script: &str) -> WorkerConfig {
    WorkerConfig::executable(id, "/bin/sh").args(["-c", script])
}

fn config(workers: impl IntoIterator<Item = WorkerConfig>) -> MasterConfig {
    workers.into_iter().fold(MasterConfig::new(), MasterConfig::worker)
}

/// A master with these workers, all started that are enabled.
fn started(workers: impl IntoIterator<Item = WorkerConfig>) -> Bench {
    let bench = Bench::new(Master::builder().config(config(workers)));
    bench.master.start_all().unwrap();
    bench
}

fn steps(plan: &Plan) -> Vec<(&str, PlanAction)> {
    plan.steps.iter().map(|step| (step.worker.as_str(), step.action)).collect()
}

/// What must not change of a worker that is not touched.
fn life(bench: &Bench, worker: &str) -> (WorkerState, u64, Option<u32>, u64, String) {
    let known = bench.known(worker);
    (known.state, known.incarnation, known.pid, known.restarts, known.cause)
}

/// The next event about the master itself.
fn of_master(bench: &Bench) -> EventKind {
    bench.next_event("").1
}

#[test]
fn c15_each_worker_gets_what_its_change_needs_and_the_rest_is_not_touched() {
    use PlanAction::{Add, Remove, Restart, Start, Stop, Update};
    let old = [
        nap("same"),
        nap("tuned"),
        nap("other"),
        nap("gone-1"),
        nap("gone-2"),
        nap("off"),
        nap("on").enabled(false),
        nap("held"),
    ];
    let bench = started(old.clone());
    bench.add(nap("beside"));
    bench.master.start_worker("beside").unwrap();
    bench.master.stop_worker("held").unwrap();
    let [same, tuned, beside] = ["same", "tuned", "beside"].map(|worker| life(&bench, worker));

    let [same_config, tuned_config, other, _, _, off, on, held] = old;
    let stop = tuned_config.stop.clone().timeout(ms(1234));
    let new = config([
        nap("new-1"),
        same_config,
        tuned_config.stop(stop),
        other.env("A", "b"),
        off.enabled(false),
        on.enabled(true),
        held.env("A", "b"),
        nap("new-2").enabled(false),
    ]);
    let expected = [
        ("gone-2", Remove),
        ("gone-1", Remove),
        ("tuned", Update),
        ("other", Restart),
        ("off", Stop),
        ("on", Start),
        ("held", Update),
        ("new-1", Add),
        ("new-2", Add),
    ];
    let planned = bench.master.plan(&new).unwrap();
    assert_eq!(steps(&planned), expected);
    assert_eq!((life(&bench, "same"), life(&bench, "other").1), (same.clone(), 1), "it only looks");
    assert_eq!(planned.steps[3].keys, ["execution.environment"]);
    let said = planned.to_string();
    assert!(said.contains("restart other: execution.environment is another; "), "{said}");
    assert!(said.ends_with("1 worker is unchanged\n"), "{said}");

    let plan = bench.master.reload(new.clone()).unwrap();
    assert_eq!(plan, planned);
    assert_eq!(life(&bench, "same"), same);
    assert_eq!((life(&bench, "tuned"), life(&bench, "beside")), (tuned, beside));
    let state = |worker: &str| bench.known(worker).state;
    let (running, stopped) = (WorkerState::Running, WorkerState::Stopped);
    assert_eq!(["other", "on", "new-1"].map(state), [running; 3]);
    assert_eq!(["off", "held"].map(state), [stopped; 2]);
    assert_eq!(state("new-2"), WorkerState::Uninitialized);
    let other = bench.known("other");
    assert_eq!((other.incarnation, other.restarts), (2, 0));
    assert!(bench.master.worker_diagnostics("gone-1").unwrap_err().is_not_found());
    let reloaded = of_master(&bench);
    let EventKind::Reloaded { added, removed, changed } = reloaded else { panic!("{reloaded:?}") };
    assert_eq!(
        (added.len(), removed, changed.len()),
        (2, vec!["gone-2".into(), "gone-1".into()], 5)
    );

    // Once more is nothing, and what was stopped starts as it is configured now.
    assert!(bench.master.reload(new).unwrap().is_empty());
    assert_eq!(life(&bench, "same"), same);
    assert_eq!(bench.master.start_worker("held").unwrap(), 2);
    bench.finish();
}

#[test]
fn a_changed_worker_takes_every_edge_with_its_reason() {
    let bench = started([nap("w")]);
    bench.sees("w", &["initializing", "initialized", "starting", "running"]);
    bench.master.reload(config([nap("w").env("A", "b")])).unwrap();
    bench
        .sees("w", &["stopping: reload", "stopped: ended", "starting: reload", "running: started"]);
    bench.finish();
}

#[test]
fn c14_a_configuration_with_mistakes_changes_nothing_and_all_of_them_are_told() {
    let bench = started([nap("a"), nap("b")]);
    let before = ["a", "b"].map(|worker| life(&bench, worker));
    let new = config([
        nap("a").env("A", "b"),
        WorkerConfig::native("m", "nobody-knows"),
        nap("a"),
        nap("not an id"),
    ])
    .shutdown_timeout(ms(1));
    for error in [bench.master.plan(&new).unwrap_err(), bench.master.reload(new).unwrap_err()] {
        assert_eq!(error.category(), ErrorCategory::Configuration);
        let paths: Vec<_> = error.problems().iter().map(|problem| problem.path.as_str()).collect();
        assert_eq!(paths, ["workers[1].module_name", "workers[2].id", "workers[3].id"]);
    }
    assert_eq!(["a", "b"].map(|worker| life(&bench, worker)), before);
    assert_eq!(bench.master.configuration(), config([nap("a"), nap("b")]));
    assert!(matches!(of_master(&bench), EventKind::ReloadFailed { .. }));
    bench.finish();
}

#[test]
fn what_goes_is_gone_before_what_comes_is_started() {
    let says = |id: &str, voice: &str| {
        let script = format!("trap 'echo bye {id} > {voice}; exit' TERM; echo {id} > {voice}");
        shell(id, &format!("{script}; while :; do sleep 1000 & wait; done"))
    };
    let bench = Bench::new(Master::builder());
    let voice = bench.voice().display().to_string();
    let old = config(["a", "b"].map(|id| says(id, &voice)));
    bench.master.reload(old).unwrap();
    assert_eq!(std::collections::BTreeSet::from([bench.hears(), bench.hears()]).len(), 2);
    bench.master.reload(config([says("c", &voice)])).unwrap();
    let mut byes = [bench.hears(), bench.hears()];
    byes.sort();
    assert_eq!((byes, bench.hears()), (["bye a".into(), "bye b".into()], "c".into()));
    bench.finish();
}

#[test]
fn c16_a_reload_meets_workers_that_start_wait_and_gave_up() {
    let gate = Arc::new(AtomicBool::new(false));
    let open = Arc::clone(&gate);
    let made = Made::new().start(move |ctx| {
        while !open.load(Ordering::Relaxed) && !ctx.stop_token().wait(ms(1)) {}
        Ok(())
    });
    let starting = |port: u64| {
        WorkerConfig::native("starting", "m").config(serde_json::json!({ "port": port }))
    };
    let failing = |code: u32| shell("waiting", &format!("exit {code}")).restart(slow());
    let hopeless =
        |code: u32| shell("hopeless", &format!("exit {code}")).restart(quick().max_retries(1));
    let bench = Bench::new(Master::builder().module("m", made.made()).config(config([
        starting(1),
        failing(1),
        hopeless(1),
    ])));
    let begun = bench.master.start_all_nowait();
    bench.once("waiting", |known| known.retry_at.is_some());
    bench.once("hopeless", |known| known.gave_up);
    bench.sees("starting", &["initializing", "initialized", "starting"]);

    gate.store(true, Ordering::Relaxed);
    let new = config([starting(2), nap("waiting"), nap("hopeless")]);
    let plan = bench.master.reload(new).unwrap();
    assert_eq!(plan.failures().count(), 0, "{plan}");
    for worker in ["starting", "waiting", "hopeless"] {
        assert_eq!(bench.known(worker).state, WorkerState::Running, "{worker}");
    }
    drop(begun);
    bench.finish();
}

#[test]
fn c16_a_shutdown_that_has_begun_refuses_a_reload() {
    let deaf = shell("deaf", "trap '' TERM; echo on; while :; do sleep 1000 & wait; done");
    let stop = deaf.stop.clone().timeout(NEVER);
    let bench = started([deaf.clone().stop(stop)]);
    assert_eq!(bench.line().text, "on");
    let ended = bench.master.shutdown_nowait(false);
    let error = bench.master.reload(config([nap("new")])).unwrap_err();
    assert_eq!(error.to_string(), "the master is shutting down");
    assert_eq!(bench.master.configured_workers()[0].id, "deaf");
    assert!(bench.master.worker_diagnostics("new").is_err());
    let _forced = bench.master.shutdown_nowait(true);
    assert_eq!(ended.wait().unwrap().killed, ["deaf"]);
    bench.finish();
}

#[test]
fn c16_reloads_at_the_same_time_go_one_after_the_other() {
    let bench = started([]);
    let of = |n: u64| config((0..3).map(move |w| nap(&format!("w{w}")).env("N", n.to_string())));
    std::thread::scope(|scope| {
        for n in 0..4 {
            let (master, config) = (&bench.master, of(n));
            let reload = move || drop(master.reload(config).unwrap());
            std::thread::Builder::new().spawn_scoped(scope, reload).unwrap();
        }
    });
    let last = bench.master.configuration();
    assert!((0..4).any(|n| last == of(n)));
    let plan = bench.master.plan(&last).unwrap();
    assert_eq!((plan.is_empty(), plan.unchanged.len()), (true, 3), "{plan}");
    bench.finish();
}

#[test]
fn a_worker_that_does_not_come_up_is_told_and_the_rest_holds() {
    let bench = started([nap("a")]);
    let plan = bench.master.reload(config([nap("a"), WorkerConfig::executable("bad", "/no/such")]));
    let plan = plan.unwrap();
    let failed: Vec<_> = plan.failures().map(|step| step.worker.as_str()).collect();
    assert_eq!(failed, ["bad"]);
    assert!(plan.to_string().contains("add     bad: it is new; failed: worker bad: "), "{plan}");
    assert_eq!(bench.master.configured_workers().len(), 2);
    bench.finish();
}

#[test]
fn the_source_is_asked_each_time_and_its_mistakes_change_nothing() {
    let source = Arc::new(Mutex::new(Ok(config([nap("a")]))));
    let asked = Arc::clone(&source);
    let from = move || -> Result<MasterConfig, Error> {
        match &*asked.lock().unwrap() {
            Ok(config) => Ok(config.clone()),
            Err("panic") => panic!("the source"),
            Err(text) => MasterConfig::from_yaml(text),
        }
    };
    let builder = Master::builder().config(config([nap("a")])).source(from);
    let bench = Bench::new(builder);
    bench.master.start_all().unwrap();
    assert!(bench.master.reload_again().unwrap().is_empty());
    *source.lock().unwrap() = Ok(config([nap("a"), nap("b")]));
    assert_eq!(steps(&bench.master.reload_again().unwrap()), [("b", PlanAction::Add)]);
    *source.lock().unwrap() = Err("workers: [{id: c}]");
    assert_eq!(bench.master.reload_again().unwrap_err().problems().len(), 1);
    *source.lock().unwrap() = Err("panic");
    let error = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
        bench.master.reload_again().unwrap_err()
    }));
    assert_eq!(error.unwrap().category(), ErrorCategory::Panic);
    assert_eq!(bench.master.configured_workers().len(), 2);
    bench.finish();

    let without = Bench::new(Master::builder());
    let error = without.master.reload_again().unwrap_err().to_string();
    assert!(error.contains("not told where its configuration comes from"), "{error}");
    without.finish();
}

#[test]
fn settings_of_the_master_hold_at_once_or_are_told_to_need_another_one() {
    let deaf = shell("deaf", "trap '' TERM; echo on; while :; do sleep 1000 & wait; done");
    let stop = deaf.stop.clone().timeout(NEVER);
    let deaf = deaf.stop(stop);
    let bench = started([deaf.clone()]);
    assert_eq!(bench.line().text, "on");
    let new = config([deaf]).shutdown_timeout(ms(10)).name("other").log_dir("/elsewhere");
    let plan = bench.master.reload(new.clone()).unwrap();
    let needed = ["name", "log_dir"];
    assert_eq!(
        (plan.settings, &plan.needs_new_master[..]),
        (vec!["shutdown_timeout".into()], &needed.map(String::from)[..])
    );
    // It is not taken for done.
    let again = bench.master.plan(&new).unwrap();
    assert_eq!(
        (again.settings.len(), &again.needs_new_master[..]),
        (0, &needed.map(String::from)[..])
    );
    assert_eq!(bench.master.configuration().log_dir, None);
    // With the time there was it would never end.
    let report = bench.master.shutdown_nowait(false).wait_timeout(PATIENCE);
    assert_eq!(report.unwrap().unwrap().killed, ["deaf"]);
    bench.finish();
}

#[test]
fn a_stop_that_takes_more_time_now_gets_it_and_a_policy_holds_at_once() {
    let crash = shell("w", &format!("read x < {}; exit 1", "$GATE"));
    let bench = Bench::new(Master::builder());
    let crash = crash.env("GATE", bench.gate().display().to_string()).restart(slow());
    bench.master.reload(config([crash.clone()])).unwrap();
    let pid = bench.known("w").pid;
    bench.master.reload(config([crash.restart(quick().max_retries(0))])).unwrap();
    assert_eq!(bench.known("w").pid, pid);
    bench.let_go(1);
    until(|| bench.known("w").incarnation == 2);
    bench.finish();
}

#[test]
fn the_end_of_the_main_worker_is_the_end_of_the_master() {
    use hsu_master::{Exit, RestartPolicy};
    let never = || hsu_master::RestartConfig::policy(RestartPolicy::Never);
    for (worker, exit) in [
        (shell("main", "exit 3").restart(never()), Exit::Code(3)),
        (shell("main", "exit 0"), Exit::Code(0)),
        (shell("main", "exit 4").restart(quick().max_retries(1)), Exit::Code(4)),
        (
            shell("main", "kill -USR1 $$").restart(never()),
            Exit::Signal { signal: 10, core_dumped: false },
        ),
    ] {
        let bench = Bench::new(Master::builder().config(config([nap("side"), worker.main(true)])));
        let _ = bench.master.start_all();
        assert!(bench.master.wait_timeout(PATIENCE).unwrap(), "the master goes on without it");
        assert_eq!(bench.master.main_exit(), Some(exit));
        bench.finish();
    }
    // Who stops it by a command wants the master to go on.
    let bench = started([nap("main").main(true)]);
    bench.master.stop_worker("main").unwrap();
    assert_eq!(bench.master.start_worker("main").unwrap(), 2);
    assert!(bench.master.main_exit().is_some());
    bench.finish();
}
