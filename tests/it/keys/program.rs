//! The keys of programs, and those that all workers have.

use std::time::Duration;

use hsu_master::WorkerState;

use super::master::conclusion;
use super::module::TOLD;
use super::settings::ON_MASTER_EXIT;
use super::{Row, Scene, settings};

/// The next line that the worker writes.
pub(super) fn line(scene: &Scene, _: &str) -> String {
    let _ticket = scene.bench.master.start_worker_nowait("w");
    scene.bench.line().text
}

/// Which workers run.
fn who_runs(scene: &Scene, _: &str) -> String {
    scene.bench.master.start_all().unwrap();
    let known = scene.bench.master.all_worker_diagnostics();
    let running = known.into_iter().filter(|known| known.state == WorkerState::Running);
    running.map(|known| known.id).collect::<Vec<_>>().join(", ")
}

pub(super) const EXECUTION: &[Row] = &[
    Row {
        key: "execution.executable_path",
        file: "workers: [{id: w, restart: {policy: never}, execution: {executable_path: %}}]",
        values: [("/bin/true", "completed"), ("/bin/false", "failed")],
        observe: conclusion,
    },
    Row {
        key: "execution.args",
        file: "workers: [{id: w, execution: {executable_path: /bin/echo, args: %}}]",
        values: [("[one]", "one"), ("[a, ' b']", "a  b")],
        observe: line,
    },
    Row {
        key: "execution.environment",
        file: "workers: [{id: w, execution: {executable_path: /bin/sh, args: [-c, 'echo $A'],
              environment: %}}]",
        values: [("{A: one}", "one"), ("[A=two]", "two")],
        observe: line,
    },
    Row {
        key: "execution.working_directory",
        file: "workers: [{id: w, execution: {executable_path: /bin/pwd, working_directory: %}}]",
        values: [("/", "/"), ("/proc", "/proc")],
        observe: line,
    },
    Row {
        key: "execution.integration",
        file: "workers: [{id: w, execution: {executable_path: /bin/sh,
              args: [-c, 'echo :$HSU_WORKER_PROTOCOL; exec sleep 1000'], integration: %}}]",
        values: [("none", ":"), ("protocol", ":1")],
        observe: line,
    },
    settings::EXECUTION[0],
    settings::EXECUTION[1],
    settings::EXECUTION[2],
    settings::EXECUTION[3],
    settings::EXECUTION[4],
    settings::EXECUTION[5],
    settings::EXECUTION[6],
    settings::EXECUTION[7],
    settings::EXECUTION[8],
];

pub(super) const ENDPOINTS: &[Row] = &[
    Row {
        key: "endpoints.name",
        file: "workers: [{id: w, command: sleep 1000,
              endpoints: [{name: %, type: tcp, address: a}]}]",
        values: [("n", "tcp at a"), ("other", "not there")],
        observe: endpoint,
    },
    Row {
        key: "endpoints.type",
        file: "workers: [{id: w, command: sleep 1000,
              endpoints: [{name: n, type: %, address: a}]}]",
        values: [("tcp", "tcp at a"), ("http", "http at a")],
        observe: endpoint,
    },
    Row {
        key: "endpoints.address",
        file: "workers: [{id: w, command: sleep 1000,
              endpoints: [{name: n, type: tcp, address: %}]}]",
        values: [("a", "tcp at a"), ("b", "tcp at b")],
        observe: endpoint,
    },
];

/// What is told of the endpoint `n`.
fn endpoint(scene: &Scene, _: &str) -> String {
    scene.start().unwrap();
    match scene.bench.master.endpoint("w", "n") {
        Ok(known) => format!("{} at {}", known.info.endpoint_type.as_str(), known.info.address),
        Err(_) => "not there".to_owned(),
    }
}

pub(super) const ENABLED: &[Row] = &[
    Row {
        key: "enabled",
        file: "workers: [{id: w, command: sleep 1000, enabled: %}]",
        values: [("true", "running"), ("false", "uninitialized")],
        observe: |scene, _| {
            scene.bench.master.start_all().unwrap();
            scene.known().state.to_string()
        },
    },
    #[cfg(feature = "plugins")]
    Row {
        key: "entry_point",
        file: "workers: [{id: w, type: module, module_type: plugin, entry_point: %,
              module_name: '@plugin', restart: {policy: never}}]",
        values: [("hsu_module_descriptor", "started"), ("bad_factory", "plugin")],
        observe: |scene, _| super::outcome(scene.start()),
    },
];

pub(super) const ROWS: &[Row] = &[
    Row {
        key: "id",
        file: "workers: [{id: %, command: sleep 1000}]",
        values: [("w", "w"), ("other", "other")],
        observe: who_runs,
    },
    Row {
        key: "replicas",
        file: "workers: [{id: w, command: sleep 1000, replicas: %}]",
        values: [("1", "w"), ("2", "w-1, w-2")],
        observe: who_runs,
    },
    Row {
        key: "include",
        file: "{include: %, workers: [{id: w, command: sleep 1000}]}",
        values: [("[one.yaml]", "one, w"), ("['*o.yaml']", "two, w")],
        observe: who_runs,
    },
    Row {
        key: "main",
        file: "workers: [{id: w, command: /bin/true, main: %}]",
        values: [("true", "the master ends"), ("false", "the master stays")],
        observe: |scene, expected| {
            let _ = scene.start();
            let ends = || scene.bench.master.wait_timeout(Duration::ZERO).unwrap();
            let ends = scene.comes(expected == "the master ends", ends);
            if ends { "the master ends" } else { "the master stays" }.to_owned()
        },
    },
    Row {
        key: "type",
        file: "workers: [{id: w, module_name: actor, type: %,
              config: {lives: [Stays], voice: /dev/null, gate: /dev/null}}]",
        values: [("module", "a thread"), ("process", "a process")],
        observe: |scene, _| {
            scene.start().unwrap();
            if scene.known().pid.is_some() { "a process" } else { "a thread" }.to_owned()
        },
    },
    Row {
        key: "command",
        file: "workers: [{id: w, command: %}]",
        values: [("echo one", "one"), ("[/bin/echo, 'a  b']", "a  b")],
        observe: line,
    },
    Row {
        key: "package",
        file: "workers: [{id: w, package: %}]",
        values: [("p:1", "p:1"), ("q:2", "q:2")],
        observe: |scene, _| {
            // There are none yet; it is said which one is not there.
            let said = scene.start().unwrap_err().to_string();
            ["p:1", "q:2"].into_iter().filter(|package| said.contains(package)).collect()
        },
    },
    Row {
        key: "success_codes",
        file: "workers: [{id: w, command: [/bin/sh, -c, exit 3], restart: {policy: never},
              success_codes: %}]",
        values: [("[0]", "failed"), ("[3]", "completed")],
        observe: conclusion,
    },
    ON_MASTER_EXIT,
    TOLD[0],
    TOLD[1],
];
