//! Cases about callbacks that panic, fail, hang or end the process: each harm in each callback.

use hsu_master::{
    Deployment, Error, ErrorCategory, Exit, HealthCheckConfig, WorkerConfig, WorkerState,
};

use super::Stage;
use crate::actor::{At, How, Life};
use crate::support::{PATIENCE, ms, quick};

/// The edges until a first life is up.
const UP: [&str; 4] = ["initializing", "initialized", "starting", "running"];
/// Callbacks before a worker is up, how it is called there, and the edges before it fails.
const BEFORE: [(At, &str, &[&str]); 3] = [
    (At::Initialize, "initialize", &["initializing"]),
    (At::Start, "start", &["initializing", "initialized", "starting"]),
    (At::Info, "info", &["initializing", "initialized", "starting"]),
];
/// Callbacks of a worker that is up.
const WHILE_UP: [(At, &str); 2] = [(At::Health, "health"), (At::Thread, "thread \"actor\"")];
/// Callbacks of its end.
const AT_THE_END: [(At, &str); 2] = [(At::Stop, "stop"), (At::Drop, "drop")];

fn hosted(stage: &Stage) -> bool {
    stage.place.deployment == Deployment::Hosted
}

/// Patience with what does end, and a health check that comes soon.
fn patient(config: WorkerConfig) -> WorkerConfig {
    let stop = config.stop.clone().timeout(PATIENCE);
    let check = HealthCheckConfig::every(ms(50)).timeout(PATIENCE).retries(2);
    config.restart(quick()).stop(stop).health_check(check)
}

/// None with what does not.
fn impatient(config: WorkerConfig) -> WorkerConfig {
    let stop = config.stop.clone().timeout(ms(50));
    let check = HealthCheckConfig::every(ms(50)).timeout(ms(500)).retries(2);
    config.restart(quick()).stop(stop).health_check(check)
}

/// A worker whose first life is caught. It is called by where it is.
fn add(stage: &Stage, at: At, how: How) -> String {
    let id = format!("{at:?}");
    let refine = if how == How::Hangs { impatient } else { patient };
    stage.add(&id, &[Life::Caught(at, how), Life::Stays], refine);
    id
}

/// A panic is told with its callback and its place, wherever it was.
#[track_caller]
fn panicked_in(name: &str, said: &str) {
    let begins = format!("panicked in {name}: caught at tests/it/actor/module.rs:");
    assert!(said.starts_with(&begins), "{said:?} does not begin with {begins:?}");
}

#[track_caller]
fn failed_with(category: ErrorCategory, started: Result<u64, Error>) -> String {
    let error = started.unwrap_err();
    assert_eq!(error.category(), category, "{error}");
    let said = error.to_string();
    said.split_once(": ").unwrap().1.to_owned()
}

pub(super) fn a_factory_that_breaks(stage: &Stage) {
    if !stage.is_of_a_module() {
        return;
    }
    let (bench, master) = (&stage.bench, &stage.bench.master);
    let once = |config: WorkerConfig| config.restart(quick().max_retries(1));
    stage.add("factory-panics", &[Life::Stays], once);
    let started = master.start_worker("factory-panics");
    panicked_in("the factory", &failed_with(ErrorCategory::Panic, started));
    bench.sees("factory-panics", &["initializing", "failed: panic"]);
    bench.sees("factory-panics", &["starting: retry", "failed: panic", "stopped: gave up"]);

    stage.add("factory-hangs", &[Life::Stays], |config| {
        impatient(config).restart(quick().max_retries(1)).start_timeout(ms(500))
    });
    failed_with(ErrorCategory::Timeout, master.start_worker("factory-hangs"));
    bench.sees("factory-hangs", &["initializing", "failed: timeout"]);
    if hosted(stage) {
        stage.add("factory-exits", &[Life::Stays], once);
        failed_with(ErrorCategory::Crash, master.start_worker("factory-exits"));
        bench.sees("factory-exits", &["initializing", "failed: crash", "starting: retry"]);
        bench.sees("factory-hangs", &["starting: retry"]);
    } else {
        bench.once("factory-hangs", |known| known.abandoned_threads == 1);
    }
}

pub(super) fn a_panic_in_every_callback(stage: &Stage) {
    if !stage.is_of_a_module() {
        return;
    }
    let (bench, master) = (&stage.bench, &stage.bench.master);
    for (at, name, edges) in BEFORE {
        let id = add(stage, at, How::Panics);
        panicked_in(name, &failed_with(ErrorCategory::Panic, master.start_worker(&id)));
        bench.sees(&id, edges);
        assert_eq!(bench.sees(&id, &["failed: panic", "starting: retry", "running"]), 2);
    }
    for (at, name) in WHILE_UP {
        let id = add(stage, at, How::Panics);
        assert_eq!(master.start_worker(&id).unwrap(), 1);
        bench.sees(&id, &UP);
        assert_eq!(bench.sees(&id, &["failed: panic", "starting: retry", "running"]), 2);
        let error = bench.known(&id).last_error.unwrap();
        assert_eq!(error.category, ErrorCategory::Panic);
        panicked_in(name, &error.message);
    }
    for (at, name) in AT_THE_END {
        let id = add(stage, at, How::Panics);
        assert_eq!(master.start_worker(&id).unwrap(), 1);
        master.stop_worker(&id).unwrap();
        bench.sees(&id, &UP);
        bench.sees(&id, &["stopping: command", "stopped: ended"]);
        let known = bench.known(&id);
        panicked_in(name, &known.warning.clone().unwrap_or_else(|| panic!("{known:#?}")));
        assert_eq!((known.last_error, known.abandoned_threads), (None, 0));
        assert_eq!(master.start_worker(&id).unwrap(), 2);
        assert_eq!(bench.known(&id).warning, None, "a new life has a clean slate");
    }
}

pub(super) fn an_error_in_every_callback(stage: &Stage) {
    if !stage.is_of_a_module() {
        return;
    }
    let (bench, master) = (&stage.bench, &stage.bench.master);
    for (at, _, edges) in BEFORE.into_iter().filter(|(at, ..)| *at != At::Info) {
        let id = add(stage, at, How::Fails);
        let said = failed_with(ErrorCategory::Crash, master.start_worker(&id));
        assert_eq!(said, "caught");
        bench.sees(&id, edges);
        assert_eq!(bench.sees(&id, &["failed: crash", "starting: retry", "running"]), 2);
    }
    for (at, failed) in [(At::Health, "failed: health"), (At::Thread, "failed: crash")] {
        let id = add(stage, at, How::Fails);
        assert_eq!(master.start_worker(&id).unwrap(), 1);
        bench.sees(&id, &UP);
        assert_eq!(bench.sees(&id, &[failed, "starting: retry", "running"]), 2);
        let error = bench.known(&id).last_error.unwrap();
        assert!(error.message.contains("caught"), "{error:?}");
    }
    let id = add(stage, At::Stop, How::Fails);
    assert_eq!(master.start_worker(&id).unwrap(), 1);
    master.stop_worker(&id).unwrap();
    bench.sees(&id, &UP);
    bench.sees(&id, &["stopping: command", "stopped: ended"]);
    assert_eq!(bench.known(&id).warning.as_deref(), Some("caught"));
}

pub(super) fn a_hang_in_every_callback(stage: &Stage) {
    if !stage.is_of_a_module() {
        return;
    }
    let (bench, master) = (&stage.bench, &stage.bench.master);
    // A thread is abandoned, and followed by the next life when it has ended at last; a process is
    // killed, and followed at once.
    let followed = |id: &str| {
        if !hosted(stage) {
            let known = bench.once(id, |known| known.abandoned_threads == 1);
            assert_eq!((known.state, known.ending), (WorkerState::Failed, true));
            bench.let_go(1);
        }
        assert_eq!(bench.sees(id, &["starting: retry", "running"]), 2);
    };
    for (at, _, edges) in BEFORE {
        let id = format!("{at:?}");
        stage.add(&id, &[Life::Caught(at, How::Hangs), Life::Stays], |config| {
            // A process must get as far as its start within that.
            impatient(config).start_timeout(ms(if hosted(stage) { 1000 } else { 300 }))
        });
        failed_with(ErrorCategory::Timeout, master.start_worker(&id));
        bench.sees(&id, edges);
        bench.sees(&id, &["failed: timeout"]);
        followed(&id);
        master.remove_worker(&id).unwrap();
    }
    let id = add(stage, At::Health, How::Hangs);
    assert_eq!(master.start_worker(&id).unwrap(), 1);
    bench.sees(&id, &UP);
    bench.sees(&id, &["failed: health"]);
    followed(&id);
    master.remove_worker(&id).unwrap();
    for at in [At::Thread, At::Stop, At::Drop] {
        let id = add(stage, at, How::Hangs);
        assert_eq!(master.start_worker(&id).unwrap(), 1);
        bench.sees(&id, &UP);
        if at == At::Thread {
            bench.hears_that("Thread 1 caught");
        }
        let stopped = master.stop_worker(&id);
        if hosted(stage) {
            stopped.unwrap();
            bench.sees(&id, &["stopping: command", "stopped: ended"]);
            let killed = Exit::Signal { signal: 9, core_dumped: false };
            assert_eq!(bench.known(&id).exit, Some(killed));
        } else {
            assert!(stopped.unwrap_err().is_stuck());
            bench.sees(&id, &["stopping: command", "failed: stuck"]);
            bench.let_go(1);
            bench.sees(&id, &["stopped: ended"]);
        }
    }
}

pub(super) fn an_exit_in_every_callback(stage: &Stage) {
    if !stage.is_of_a_module() {
        return;
    }
    let aspect = "an exit";
    if !hosted(stage) {
        // It would end this very program: `modules::faults::b05` shows what that comes to.
        stage.here.set(false);
        assert_eq!(stage.difference(aspect), "ends the master too");
        return;
    }
    let (bench, master) = (&stage.bench, &stage.bench.master);
    for (at, _, edges) in BEFORE {
        let id = add(stage, at, How::Exits);
        assert_eq!(failed_with(ErrorCategory::Crash, master.start_worker(&id)), "exit 7");
        bench.sees(&id, edges);
        assert_eq!(bench.sees(&id, &["failed: crash", "starting: retry", "running"]), 2);
    }
    for (at, _) in WHILE_UP {
        let id = add(stage, at, How::Exits);
        assert_eq!(master.start_worker(&id).unwrap(), 1);
        bench.sees(&id, &UP);
        assert_eq!(bench.sees(&id, &["failed: crash", "starting: retry", "running"]), 2);
        let known = bench.known(&id);
        assert_eq!(known.last_error.unwrap().message, "exit 7");
        stage.observed(aspect, "a crash, with its exit code");
    }
    for (at, _) in AT_THE_END {
        let id = add(stage, at, How::Exits);
        assert_eq!(master.start_worker(&id).unwrap(), 1);
        master.stop_worker(&id).unwrap();
        bench.sees(&id, &UP);
        bench.sees(&id, &["stopping: command", "stopped: ended"]);
        assert_eq!(bench.known(&id).exit, Some(Exit::Code(7)));
    }
}

/// FAULTS B04 and B05: what no thread survives, each of which ends a process in its own way.
pub(super) fn worse_than_a_panic(stage: &Stage) {
    if !stage.is_of_a_module() {
        return;
    }
    let aspect = "a crash beyond a panic";
    if !hosted(stage) {
        stage.here.set(false);
        assert_eq!(stage.difference(aspect), "ends the master too");
        return;
    }
    let (bench, master) = (&stage.bench, &stage.bench.master);
    stage.add("neighbour", &[Life::Stays], |config| config);
    master.start_worker("neighbour").unwrap();
    for (how, signals) in [
        (How::PanicsWhilePanicking, &["signal SIGABRT (6)"][..]),
        (How::Aborts, &["signal SIGABRT (6)"]),
        // Rust makes an abort of it, but not in a library that brings a Rust of its own.
        (How::OverflowsTheStack, &["signal SIGABRT (6)", "signal SIGSEGV (11)"]),
        (How::Segfaults, &["signal SIGSEGV (11)"]),
    ] {
        let id = format!("{how:?}");
        stage.add(&id, &[Life::Caught(At::Thread, how), Life::Stays], patient);
        assert_eq!(master.start_worker(&id).unwrap(), 1);
        bench.sees(&id, &UP);
        assert_eq!(bench.sees(&id, &["failed: crash", "starting: retry", "running"]), 2);
        let said = bench.known(&id).last_error.unwrap().message;
        let told = signals.iter().any(|signal| said.starts_with(signal));
        assert!(told, "{how:?}: {said}");
    }
    assert_eq!(bench.known("neighbour").incarnation, 1);
    stage.observed(aspect, "is the worker's alone");
}
