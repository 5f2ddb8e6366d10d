//! The keys of logs.

use std::path::PathBuf;

use hsu_master::WaitFor;

use super::{Row, Scene};
use crate::support::{PATIENCE, until};

/// The worker's log files, the newest first, once the worker has written all it had.
fn files(scene: &Scene, directory: &str) -> Vec<PathBuf> {
    scene.start().unwrap();
    scene.bench.master.wait_for("w", WaitFor::Completed, PATIENCE).unwrap();
    let path = scene.directory.path().join(directory);
    let entries = std::fs::read_dir(path).map(|entries| entries.map_while(Result::ok));
    let mut files: Vec<_> = entries.into_iter().flatten().map(|entry| entry.path()).collect();
    files.retain(|path| path.file_name().unwrap().to_str().unwrap().starts_with("w.log"));
    files.sort();
    files
}

/// Whether a thread of this process has this name. No other test has a worker `w` that is never
/// to wait for its log.
fn has_thread(name: &str) -> bool {
    let threads = std::fs::read_dir("/proc/self/task").unwrap().flatten();
    let named = |thread: std::fs::DirEntry| std::fs::read_to_string(thread.path().join("comm"));
    threads.filter_map(|thread| named(thread).ok()).any(|found| found.trim_end() == name)
}

/// How many files the log is.
fn count(scene: &Scene, _: &str) -> String {
    files(scene, "logs").len().to_string()
}

/// Whether there is a log with the worker's line in it.
fn content(scene: &Scene, _: &str) -> String {
    let text: String =
        files(scene, "logs").iter().map(|file| std::fs::read_to_string(file).unwrap()).collect();
    match text.as_str() {
        "hello\n" => "bare",
        text if text.ends_with(" hello\n") => "stamped",
        _ => "nothing",
    }
    .to_owned()
}

pub(super) const ROWS: &[Row] = &[
    Row {
        key: "logs.mode",
        file: "{master: {state_dir: state, log_dir: logs},
              workers: [{id: w, command: echo hello, logs: {mode: %}}]}",
        values: [("capture", "stamped"), ("discard", "nothing")],
        observe: content,
    },
    Row {
        key: "logs.timestamps",
        file: "{master: {state_dir: state, log_dir: logs},
              workers: [{id: w, command: echo hello, logs: {timestamps: %}}]}",
        values: [("true", "stamped"), ("false", "bare")],
        observe: content,
    },
    Row {
        key: "logs.overflow",
        file: "{master: {state_dir: state, log_dir: logs},
              workers: [{id: w, logs: {overflow: %},
              command: [/bin/sh, -c, echo hello; exec sleep 1000]}]}",
        values: [("block", "its monitor"), ("drop", "another thread")],
        observe: |scene, expected| {
            scene.start().unwrap();
            let path = scene.directory.path().join("logs/w.log");
            let text = || std::fs::read_to_string(&path).unwrap_or_default();
            until(|| text().ends_with(" hello\n"));
            let is_there = scene.comes(expected == "another thread", || has_thread("w-log"));
            if is_there { "another thread" } else { "its monitor" }.to_owned()
        },
    },
    Row {
        key: "logs.max_size",
        file: "{master: {state_dir: state, log_dir: logs},
              workers: [{id: w, command: seq 3000, logs: {max_files: 2, max_size: %}}]}",
        values: [("4KiB", "2"), ("1MiB", "1")],
        observe: count,
    },
    Row {
        key: "logs.max_files",
        file: "{master: {state_dir: state, log_dir: logs},
              workers: [{id: w, command: seq 9000, logs: {max_size: 4KiB, max_files: %}}]}",
        values: [("2", "2"), ("4", "4")],
        observe: count,
    },
];

pub(super) const DEFAULT: Row = Row {
    key: "defaults.logs",
    file: "{master: {state_dir: state, log_dir: logs}, defaults: {logs: %},
          workers: [{id: w, command: echo hello}]}",
    values: [("{timestamps: true}", "stamped"), ("{timestamps: false}", "bare")],
    observe: content,
};

pub(super) const DIRECTORY: Row = Row {
    key: "master.log_dir",
    file: "{master: {state_dir: state, log_dir: %}, workers: [{id: w, command: echo hello}]}",
    values: [("one", "one"), ("two", "two")],
    observe: |scene, _| {
        let one = !files(scene, "one").is_empty();
        if one { "one" } else { "two" }.to_owned()
    },
};
