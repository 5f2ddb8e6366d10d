//! The keys of health checks.

use hsu_master::{HealthStatus, WorkerState};

use super::{Row, Scene, is_down};

/// Whether the module is asked for its health at all.
pub(super) fn asked(scene: &Scene, expected: &str) -> String {
    times(scene, 1, expected == "asked")
}

/// Whether the module is asked for its health so many times.
fn times(scene: &Scene, wanted: usize, expected: bool) -> String {
    scene.start().unwrap();
    let [_says, _stack] = [scene.tells(), scene.tells()];
    let comes = scene.comes(expected, || scene.told.len() >= wanted);
    if comes { "asked" } else { "not asked" }.to_owned()
}

/// What the checks say.
fn health(scene: &Scene, expected: &str) -> String {
    scene.start().unwrap();
    let is = |status: HealthStatus| scene.known().health == status;
    match expected {
        "unknown" => drop(scene.comes(false, || !is(HealthStatus::Unknown))),
        other => drop(scene.comes(true, || scene.known().health.as_str() == other)),
    }
    scene.known().health.to_string()
}

/// Whether a worker that is not healthy goes on.
fn what_then(scene: &Scene, expected: &str) -> String {
    let _ = scene.start();
    if expected == "goes on" {
        scene.once(|known| known.health == HealthStatus::Unhealthy);
    } else {
        scene.once(is_down);
    }
    let goes_on = scene.known().state == WorkerState::Running;
    if goes_on { "goes on" } else { "ended" }.to_owned()
}

pub(super) const ROWS: &[Row] = &[
    Row {
        key: "health_check.type",
        file: "workers: [{id: w, type: process, module_name: actor, config: {lives: [{Caught:
              [Health, Fails]}], voice: /dev/null, gate: /dev/null},
              health_check: {type: %, interval: 1ms, retries: 1, on_unhealthy: log}}]",
        values: [("module", "unhealthy"), ("process", "healthy")],
        observe: health,
    },
    Row {
        key: "health_check.interval",
        file: "workers: [{id: w, type: module, module_name: teller, health_check: {interval: %}}]",
        values: [("1ms", "asked"), ("1h", "not asked")],
        observe: |scene, expected| times(scene, 3, expected == "asked"),
    },
    Row {
        key: "health_check.timeout",
        file: "workers: [{id: w, type: module, module_name: teller, config: {health: hang},
              health_check: {timeout: %, retries: 1, on_unhealthy: log}}]",
        values: [("1ms", "unhealthy"), ("1h", "unknown")],
        observe: health,
    },
    Row {
        key: "health_check.initial_delay",
        file: "workers: [{id: w, type: module, module_name: teller,
              health_check: {initial_delay: %}}]",
        values: [("0s", "asked"), ("1h", "not asked")],
        observe: asked,
    },
    Row {
        key: "health_check.retries",
        file: "workers: [{id: w, type: module, module_name: teller, config: {health: bad},
              health_check: {interval: 1ms, retries: %, on_unhealthy: log}}]",
        values: [("2", "unhealthy"), ("1000000000", "unknown")],
        observe: health,
    },
    Row {
        key: "health_check.successes",
        file: "workers: [{id: w, type: module, module_name: teller,
              health_check: {interval: 1ms, successes: %}}]",
        values: [("2", "healthy"), ("1000000000", "unknown")],
        observe: health,
    },
    Row {
        key: "health_check.on_unhealthy",
        file: "workers: [{id: w, type: module, module_name: teller, config: {health: bad},
              health_check: {interval: 1ms, retries: 1, on_unhealthy: %}}]",
        values: [("log", "goes on"), ("stop", "ended")],
        observe: what_then,
    },
];

/// The one key of restarts that is about health.
pub(super) const GRACE: Row = Row {
    key: "restart.startup_grace_period",
    file: "workers: [{id: w, type: module, module_name: teller, config: {health: bad},
          health_check: {interval: 1ms, retries: 1}, restart: {policy: never,
          startup_grace_period: %}}]",
    values: [("0s", "ended"), ("1h", "goes on")],
    observe: what_then,
};
