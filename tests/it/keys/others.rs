//! The keys of processes that somebody else starts.

use std::net::{Ipv4Addr, TcpListener};

use hsu_master::Master;

use super::{Row, Scene, outcome};
use crate::unmanaged::Stranger;

/// Whether the process of a stranger is found, who sleeps for so many seconds.
fn found(scene: &Scene, _: &str) -> String {
    let _stranger = Stranger::new(&format!("exec /bin/sleep 8123.{}", std::process::id()));
    outcome(scene.start())
}

pub(super) const ROWS: &[Row] = &[
    Row {
        key: "unmanaged.pid_file",
        file: "workers: [{id: w, unmanaged: {pid_file: %}}]",
        values: [("pid", "started"), ("other", "not_running")],
        observe: |scene, _| {
            let stranger = Stranger::new("exec /bin/sleep 1000");
            std::fs::copy(stranger.pid_file(), scene.directory.path().join("pid")).unwrap();
            outcome(scene.start())
        },
    },
    Row {
        key: "unmanaged.process_name",
        file: "workers: [{id: w, unmanaged: {process_name: %, process_args: [8123.@pid]}}]",
        values: [("sleep", "started"), ("no-such-program", "not_running")],
        observe: found,
    },
    Row {
        key: "unmanaged.process_args",
        file: "workers: [{id: w, unmanaged: {process_name: sleep, process_args: %}}]",
        values: [("[8123.@pid]", "started"), ("[8123.@pid, 1]", "not_running")],
        observe: found,
    },
    Row {
        key: "unmanaged.port",
        file: "workers: []\n# port: %",
        // Who listens is this test itself, which is refused; on port 1 nobody does.
        values: [("ours", "refused"), ("1", "not_running")],
        observe: |_, expected| {
            let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
            let ours = listener.local_addr().unwrap().port();
            let port = if expected == "refused" { ours } else { 1 };
            let text = format!("{{id: w, unmanaged: {{port: {port}}}}}");
            let master = Master::builder().build().unwrap();
            master.add_worker(hsu_master::WorkerConfig::from_yaml(&text).unwrap()).unwrap();
            outcome(master.start_worker("w"))
        },
    },
    Row {
        key: "unmanaged.can_terminate",
        file: "workers: [{id: w, unmanaged: {pid_file: pid, can_terminate: %}}]",
        values: [("false", "lives on"), ("true", "ended")],
        observe: |scene, _| {
            let stranger = Stranger::new("exec /bin/sleep 1000");
            std::fs::copy(stranger.pid_file(), scene.directory.path().join("pid")).unwrap();
            scene.start().unwrap();
            scene.bench.master.stop_worker("w").unwrap();
            if stranger.lives() { "lives on" } else { "ended" }.to_owned()
        },
    },
];
