//! The keys of restarts.

use std::time::Duration;

use super::{Row, Scene, health, is_down};

/// How many lives a worker has that fails at once.
pub(super) fn lives_until_given_up(scene: &Scene, _: &str) -> String {
    let _ = scene.start();
    scene.once(|known| known.gave_up).incarnation.to_string()
}

/// Whether the next retry is more than a minute away, or so many lives come before that.
fn pace(scene: &Scene, lives: u64) -> String {
    let _ = scene.start();
    let minute = Duration::from_secs(60);
    let far = |retry_in: Option<Duration>| retry_in.is_some_and(|retry_in| retry_in > minute);
    let known = scene.once(|known| known.incarnation >= lives || far(known.retry_in));
    if far(known.retry_in) { "waits" } else { "tries again" }.to_owned()
}

pub(super) const ROWS: &[Row] = &[
    Row {
        key: "restart.policy",
        file: "workers: [{id: w, command: /bin/true, restart: {retry_delay: 1ms, policy: %}}]",
        values: [("on-failure", "once"), ("always", "again")],
        observe: |scene, expected| {
            let _ = scene.start();
            if expected == "once" {
                scene.once(|known| known.completed && known.retry_at.is_none() && is_down(known));
            } else {
                scene.once(|known| known.incarnation > 2);
            }
            if scene.known().incarnation == 1 { "once" } else { "again" }.to_owned()
        },
    },
    Row {
        key: "restart.max_retries",
        file: "workers: [{id: w, command: /bin/false,
              restart: {retry_delay: 0s, max_retries: %}}]",
        values: [("1", "2"), ("3", "4")],
        observe: lives_until_given_up,
    },
    Row {
        key: "restart.retry_delay",
        file: "workers: [{id: w, command: /bin/false,
              restart: {max_delay: 1h, max_retries: 0, jitter: 0, retry_delay: %}}]",
        values: [("1ms", "tries again"), ("1h", "waits")],
        observe: |scene, _| pace(scene, 3),
    },
    Row {
        key: "restart.backoff_rate",
        file: "workers: [{id: w, command: /bin/false, restart: {max_delay: 1h, max_retries: 0,
              retry_delay: 10ms, jitter: 0, backoff_rate: %}}]",
        // 10 ms, 1 s and 100 s, or always 10 ms.
        values: [("1", "tries again"), ("100", "waits")],
        observe: |scene, _| pace(scene, 6),
    },
    Row {
        key: "restart.max_delay",
        file: "workers: [{id: w, command: /bin/false,
              restart: {retry_delay: 1h, max_retries: 0, jitter: 0, max_delay: %}}]",
        values: [("1ms", "tries again"), ("2h", "waits")],
        observe: |scene, _| pace(scene, 3),
    },
    Row {
        key: "restart.jitter",
        file: "workers: [{id: w, command: /bin/false,
              restart: {retry_delay: 1h, max_delay: 1h, jitter: %}}]",
        values: [("0", "to the second"), ("1", "somewhen")],
        observe: |scene, _| {
            let _ = scene.start();
            let known = scene.once(|known| known.retry_at.is_some());
            let pause = known.retry_at.unwrap().duration_since(known.since).unwrap_or_default();
            let strays = pause.abs_diff(Duration::from_secs(3600));
            if strays < Duration::from_secs(5) { "to the second" } else { "somewhen" }.to_owned()
        },
    },
    Row {
        key: "restart.reset_after",
        file: "workers: [{id: w, command: /bin/false,
              restart: {retry_delay: 1ms, max_retries: 1, reset_after: %}}]",
        // As much as any life counts as a good one, or none does.
        values: [("1ns", "goes on"), ("1h", "gives up")],
        observe: |scene, _| {
            let _ = scene.start();
            let known = scene.once(|known| known.incarnation > 4 || known.gave_up);
            if known.gave_up { "gives up" } else { "goes on" }.to_owned()
        },
    },
    Row {
        key: "restart.half_open_after",
        file: "workers: [{id: w, command: /bin/false,
              restart: {retry_delay: 0s, max_retries: 1, half_open_after: %}}]",
        values: [("1ms", "a trial"), ("0s", "no trial")],
        observe: |scene, expected| {
            let _ = scene.start();
            if expected == "a trial" {
                scene.once(|known| known.incarnation > 2);
            } else {
                let known = scene.once(|known| known.gave_up);
                assert_eq!(known.retry_at, None);
            }
            let trial = scene.known().incarnation > 2;
            if trial { "a trial" } else { "no trial" }.to_owned()
        },
    },
    health::GRACE,
];
