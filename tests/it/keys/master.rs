//! The master's own keys, and the defaults of workers.

use hsu_master::WaitFor;

use super::restart::lives_until_given_up;
use super::{Row, Scene, health, is_down, logs, module, stop};
use crate::support::{PATIENCE, answer};

pub(super) const ROWS: &[Row] = &[
    logs::DIRECTORY,
    Row {
        key: "master.name",
        file: "{master: {name: %}, workers: []}",
        values: [("keys-one", "keys-one"), ("keys-two", "keys-two")],
        observe: |_, _| {
            // It names the thread of the event loop, which is this master's alone.
            let tasks = std::fs::read_dir("/proc/self/task").unwrap().map_while(Result::ok);
            let name = |task: std::fs::DirEntry| {
                std::fs::read_to_string(task.path().join("comm")).unwrap_or_default()
            };
            let mut names = tasks.map(name).filter(|name| name.starts_with("keys-"));
            names.next().unwrap_or_default().trim_end().to_owned()
        },
    },
    Row {
        key: "master.shutdown_timeout",
        file: "{master: {shutdown_timeout: %}, workers: [{id: w, stop: {timeout: 1h}, command:
              [/bin/sh, -c, 'trap \"echo asked; read x < @dir/gate; exit 0\" TERM; echo up;
              while :; do read x < @dir/gate; done']}]}",
        values: [("0s", "killed"), ("1h", "waited for")],
        observe: |scene, expected| {
            let gate = stop::gate(scene);
            scene.start().unwrap();
            assert_eq!(scene.bench.line().text, "up");
            let ticket = scene.bench.master.shutdown_nowait(false);
            if expected == "waited for" {
                assert_eq!(scene.bench.line().text, "asked");
                gate.let_go();
            }
            let killed = answer(&ticket).unwrap().killed;
            if killed.is_empty() { "waited for" } else { "killed" }.to_owned()
        },
    },
    Row {
        key: "master.state_dir",
        file: "{master: {state_dir: %}, workers: []}",
        values: [("one", "one"), ("two", "two")],
        observe: |scene, _| {
            let is_there = |name: &&str| scene.directory.path().join(name).is_dir();
            ["one", "two"].into_iter().filter(is_there).collect()
        },
    },
    #[cfg(feature = "cli")]
    Row {
        key: "master.log_level",
        file: "{master: {log_level: %}, workers: []}",
        values: [("error", "silent"), ("info", "talkative")],
        observe: |scene, _| {
            let run = ["run", "--run-duration", "1ms", "-c"];
            let mut master = std::process::Command::new(env!("CARGO_BIN_EXE_hsu-master"));
            let master = master
                .args(run)
                .arg(scene.directory.path().join("workers.yaml"))
                .env_remove("RUST_LOG");
            let master = master.env("HSU_STATE_DIR", scene.directory.path().join("state"));
            let said = master.stdin(std::process::Stdio::null()).output().unwrap();
            if said.stderr.is_empty() { "silent" } else { "talkative" }.to_owned()
        },
    },
];

pub(super) const DEFAULTS: &[Row] = &[
    logs::DEFAULT,
    Row {
        key: "defaults.restart",
        file: "{defaults: {restart: %}, workers: [{id: w, command: /bin/false}]}",
        values: [
            ("{max_retries: 1, retry_delay: 0s}", "2"),
            ("{max_retries: 2, retry_delay: 0s}", "3"),
        ],
        observe: lives_until_given_up,
    },
    Row {
        key: "defaults.stop",
        file: "{defaults: {stop: %}, workers: [{id: w, command: [/bin/sh, -c,
              'trap \"echo TERM; exit 0\" TERM; trap \"echo USR1; exit 0\" USR1; echo up;
              while :; do sleep 1; done']}]}",
        values: [("{signal: TERM}", "TERM"), ("{signal: USR1}", "USR1")],
        observe: stop::heard,
    },
    Row {
        key: "defaults.start",
        file: "{defaults: {start: %}, workers: [{id: w, type: module, module_name: teller,
              config: {start: hang}, restart: {policy: never}}]}",
        values: [("{timeout: 1ms}", "timeout"), ("{timeout: 1h}", "waits")],
        observe: module::waits,
    },
    Row {
        key: "defaults.health_check",
        file: "{defaults: {health_check: %},
              workers: [{id: w, type: module, module_name: teller}]}",
        values: [("{initial_delay: 0s}", "asked"), ("{initial_delay: 1h}", "not asked")],
        observe: health::asked,
    },
];

/// Completed, or failed for good.
pub(super) fn conclusion(scene: &Scene, _: &str) -> String {
    let _ = scene.start();
    let known = scene.once(is_down);
    scene.bench.master.wait_for("w", WaitFor::Stopped, PATIENCE).unwrap();
    if known.completed { "completed" } else { "failed" }.to_owned()
}
