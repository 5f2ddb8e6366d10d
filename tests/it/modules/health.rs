//! What follows from a module's answers to "are you well?".

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use hsu_master::{
    ErrorCategory, EventKind, Health, HealthCheckConfig, HealthStatus, OnUnhealthy, WaitFor,
    WorkerState,
};

use super::{UP, bench, worker};
use crate::made::Made;
use crate::support::{Bench, PATIENCE, ms};

/// A worker whose health the returned switch decides, and what happens when it is bad.
fn watched(action: OnUnhealthy) -> (Bench, Arc<AtomicBool>) {
    let sick = Arc::new(AtomicBool::new(false));
    let asked = Arc::clone(&sick);
    let bench = bench(Made::new().health(move || match asked.load(Ordering::SeqCst) {
        true => Health::unhealthy("the table is gone"),
        false => Health::healthy(),
    }));
    // The answer may take as long as it likes: a slow machine is not what is tested.
    let check = HealthCheckConfig::every(ms(5)).timeout(PATIENCE).retries(3).on_unhealthy(action);
    bench.add(worker("w").health_check(check));
    bench.master.start_worker("w").unwrap();
    bench.sees("w", &UP);
    assert_eq!(health(&bench), (HealthStatus::Healthy, String::new()));
    (bench, sick)
}

/// The next change of health.
fn health(bench: &Bench) -> (HealthStatus, String) {
    match bench.next_event("w") {
        (1, EventKind::Health { health, reason }) => (health, reason),
        other => panic!("not about its health: {other:?}"),
    }
}

const GONE: &str = "the table is gone";

#[test]
fn a_sick_module_is_restarted_and_its_reason_is_kept() {
    let (bench, sick) = watched(OnUnhealthy::Restart);
    sick.store(true, Ordering::SeqCst);
    assert_eq!(health(&bench), (HealthStatus::Unhealthy, GONE.to_owned()));
    sick.store(false, Ordering::SeqCst);
    assert_eq!(bench.sees("w", &["failed: health", "starting: retry", "running"]), 2);
    let error = bench.known("w").last_error.unwrap();
    assert_eq!((error.category, error.message.as_str()), (ErrorCategory::Health, GONE));
    bench.master.wait_for("w", WaitFor::Healthy, PATIENCE).unwrap();
    bench.finish();
}

#[test]
fn a_sick_module_may_be_left_alone() {
    let (bench, sick) = watched(OnUnhealthy::Log);
    bench.master.wait_for("w", WaitFor::Healthy, PATIENCE).unwrap();
    sick.store(true, Ordering::SeqCst);
    assert_eq!(health(&bench), (HealthStatus::Unhealthy, GONE.to_owned()));
    let known = bench.known("w");
    assert_eq!((known.state, known.health), (WorkerState::Running, HealthStatus::Unhealthy));
    sick.store(false, Ordering::SeqCst);
    assert_eq!(health(&bench), (HealthStatus::Healthy, String::new()));
    let known = bench.known("w");
    assert_eq!((known.incarnation, known.restarts, known.last_error), (1, 0, None));
    bench.finish();
}

#[test]
fn a_sick_module_may_be_stopped_for_good() {
    let (bench, sick) = watched(OnUnhealthy::Stop);
    sick.store(true, Ordering::SeqCst);
    assert_eq!(health(&bench), (HealthStatus::Unhealthy, GONE.to_owned()));
    bench.sees("w", &["failed: health", "stopped: ended"]);
    let known = bench.known("w");
    assert_eq!((known.goal, known.gave_up, known.retry_at), ("down", false, None));
    assert_eq!(known.health, HealthStatus::None, "nobody is there to be asked");
    bench.finish();
}
