//! Cases about ends that are not wanted by the worker: ignored stops, force, and the shutdown.

use hsu_master::{ErrorCategory, Exit, WorkerConfig, WorkerState};

use super::{Stage, category};
use crate::actor::Life;
use crate::support::{NEVER, PATIENCE, answer, ms, quick, slow};

fn impatient(config: WorkerConfig) -> WorkerConfig {
    let stop = config.stop.clone().timeout(ms(20));
    config.stop(stop)
}

/// True where a worker that does not end is abandoned, false where it is killed.
fn abandons(stage: &Stage) -> bool {
    stage.difference("an ignored stop").starts_with("abandoned")
}

pub(super) fn a_stop_that_is_ignored(stage: &Stage) {
    let (bench, master) = (&stage.bench, &stage.bench.master);
    stage.add("w", &[Life::Ignores], impatient);
    master.start_worker("w").unwrap();
    bench.hears_that("w 1 ready");
    bench.sees("w", &["initializing", "initialized", "starting", "running"]);
    let stopped = category(&master.stop_worker("w"));
    let known = bench.known("w");
    if stopped == Some(ErrorCategory::Stuck) {
        stage.observed("an ignored stop", "abandoned after `stop.timeout`: stuck");
        bench.sees("w", &["stopping: command", "failed: stuck"]);
        assert_eq!((known.state, known.ending, known.goal), (WorkerState::Failed, true, "down"));
        assert_eq!((known.abandoned_threads, known.exit), (1, None));
        // Nothing but force moves it, and nobody waits.
        assert!(master.stop_worker("w").unwrap_err().is_stuck());
        assert!(master.start_worker("w").unwrap_err().is_stuck());
        assert!(master.restart_worker("w", false).unwrap_err().is_stuck());
        assert_eq!(bench.known("w").goal, "down", "refused commands change nothing");
        assert!(master.remove_worker("w").unwrap_err().is_stuck());
        assert_eq!(bench.known("w").goal, "gone");
    } else {
        stage.observed("an ignored stop", "killed after `stop.timeout`");
        assert_eq!(stopped, None);
        bench.sees("w", &["stopping: command", "stopped: ended"]);
        assert_eq!(known.exit, Some(Exit::Signal { signal: 9, core_dumped: false }));
        assert_eq!((known.abandoned_threads, known.ending), (0, false));
    }
}

pub(super) fn a_forced_stop_that_is_ignored(stage: &Stage) {
    let (bench, master) = (&stage.bench, &stage.bench.master);
    stage.add("w", &[Life::Ignores], |config| {
        let stop = config.stop.clone().timeout(NEVER);
        config.stop(stop)
    });
    master.start_worker("w").unwrap();
    bench.hears_that("w 1 ready");
    bench.sees("w", &["initializing", "initialized", "starting", "running"]);
    // A stop that would wait for an hour, and one that will not.
    let asked = master.stop_worker_nowait("w", false);
    bench.sees("w", &["stopping: command"]);
    let forced = master.stop_worker_nowait("w", true);
    let (forced, asked) = (category(&answer(&forced)), category(&answer(&asked)));
    assert_eq!(forced, asked, "one end, one answer for both");
    let (observed, state) = match forced {
        None => ("killed at once", "stopped: ended"),
        Some(_) => ("abandoned after 5 s: stuck", "failed: stuck"),
    };
    stage.observed("an ignored forced stop", observed);
    bench.sees("w", &[state]);
}

pub(super) fn a_stuck_life_that_ends_at_last(stage: &Stage) {
    if !abandons(stage) {
        stage.here.set(false);
        return;
    }
    let (bench, master) = (&stage.bench, &stage.bench.master);
    stage.add("w", &[Life::Ignores], impatient);
    master.start_worker("w").unwrap();
    bench.sees("w", &["initializing", "initialized", "starting", "running"]);
    assert!(master.stop_worker("w").unwrap_err().is_stuck());
    bench.sees("w", &["stopping", "failed: stuck"]);
    bench.let_go(1);
    bench.sees("w", &["stopped: ended"]);
    let known = bench.known("w");
    assert_eq!((known.abandoned_threads, known.ending, known.phase), (0, false, "none"));
    assert_eq!(master.start_worker("w").unwrap(), 2);
}

pub(super) fn a_forced_restart_goes_past_a_hanging_life(stage: &Stage) {
    let (bench, master) = (&stage.bench, &stage.bench.master);
    stage.add("w", &[Life::Ignores, Life::Stays], impatient);
    master.start_worker("w").unwrap();
    bench.hears_that("w 1 ready");
    let _ = master.stop_worker("w");
    let held = bench.hold("w", WorkerState::Starting);
    let restart = master.restart_worker_nowait("w", true);
    let endpoint = held.while_held(|| master.endpoint("w", "api"));
    assert!(endpoint.is_err(), "it is the old life's: {endpoint:?}");
    assert_eq!(answer(&restart).unwrap(), 2);
    let known = bench.known("w");
    assert_eq!((known.state, known.incarnation), (WorkerState::Running, 2));
    assert_eq!(known.abandoned_threads, usize::from(abandons(stage)));
    // The old life's end is heard, and moves nothing but that count.
    bench.let_go(1);
    let known = bench.once("w", |known| known.abandoned_threads == 0);
    assert_eq!((known.state, known.incarnation), (WorkerState::Running, 2));
    master.stop_worker("w").unwrap();
}

pub(super) fn a_restart_of_what_does_not_end(stage: &Stage) {
    let (bench, master) = (&stage.bench, &stage.bench.master);
    stage.add("w", &[Life::Ignores, Life::Stays], impatient);
    master.start_worker("w").unwrap();
    bench.hears_that("w 1 ready");
    let restarted = master.restart_worker("w", false);
    if abandons(stage) {
        assert!(restarted.unwrap_err().is_stuck());
        // The goal is up: once it has ended, what was asked for runs.
        bench.let_go(1);
        bench.sees("w", &["initializing", "initialized", "starting", "running"]);
        bench.sees("w", &["stopping", "failed: stuck", "starting", "running"]);
    } else {
        assert_eq!(restarted.unwrap(), 2);
    }
    assert_eq!(bench.known("w").incarnation, 2);
}

pub(super) fn a_shutdown_meets_every_kind(stage: &Stage) {
    let (bench, master) = (&stage.bench, &stage.bench.master);
    stage.add("new", &[Life::Stays], |config| config);
    stage.add("up", &[Life::Stays], |config| config);
    stage.add("completed", &[Life::Completes], |config| config);
    stage.add("backoff", &[Life::Fails], |config| config.restart(slow()));
    stage.add("given-up", &[Life::Fails], |config| config.restart(quick().max_retries(1)));
    stage.add("repeated", &[Life::Completes], |config| {
        let mut restart = slow();
        restart.policy = hsu_master::RestartPolicy::Always;
        config.restart(restart)
    });
    stage.add("ignores", &[Life::Ignores], impatient);
    for id in ["up", "completed", "backoff", "given-up", "repeated", "ignores"] {
        master.start_worker(id).unwrap();
    }
    bench.once("completed", |known| known.cause == "completed" && known.phase == "none");
    bench.once("backoff", |known| known.retry_at.is_some());
    bench.once("given-up", |known| known.gave_up);
    bench.once("repeated", |known| known.retry_at.is_some());
    for _ in 0..2 {
        bench.hears();
    }
    let held = bench.hold("up", WorkerState::Stopping);
    let shutdown = master.shutdown_nowait(false);
    let late = held.while_held(|| master.start_worker_nowait("new"));
    assert_eq!(category(&answer(&late)), Some(ErrorCategory::Cancelled));
    let report = answer(&shutdown).unwrap();
    let (stuck, killed) = (report.stuck, report.killed);
    let (worse, none) = if abandons(stage) { (stuck, killed) } else { (killed, stuck) };
    assert_eq!((worse, none), (vec!["ignores".to_owned()], Vec::new()));
    assert!(master.wait_timeout(PATIENCE).unwrap());
    for known in master.all_worker_diagnostics() {
        let down = known.phase == "none" || known.id == "ignores";
        assert!(down && known.retry_at.is_none() && known.goal == "down", "{known:#?}");
    }
    assert_eq!(bench.known("new").state, WorkerState::Uninitialized);
    assert_eq!(category(&master.start_worker("up")), Some(ErrorCategory::Cancelled));
    assert_eq!(
        category(&master.add_worker(stage.worker("x", &[Life::Stays]))),
        Some(ErrorCategory::Cancelled)
    );
    master.shutdown().unwrap();
}
