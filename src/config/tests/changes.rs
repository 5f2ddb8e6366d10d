//! Every key of a worker that is changed is named as changed: one that is missing in the list of
//! changes would be a key that a reload does not hear.

use super::keys::{KEYS, file_with};
use super::read;
use crate::worker::WorkerConfig;

fn first(text: &str) -> Option<WorkerConfig> {
    read(text).ok().map(|config| config.workers.into_iter().next().unwrap())
}

#[test]
fn every_key_is_named_when_it_changes() {
    // Whose workers they are, how many there are, and whether they are meant to run.
    let apart = ["id", "replicas", "enabled"];
    let mut named = 0;
    for (path, worker, value, _) in KEYS {
        if path.starts_with("master.") || apart.contains(path) {
            continue;
        }
        let with = first(&file_with(path, worker, value)).unwrap();
        // Where the key is needed, another value of it.
        let other = match *path {
            "type" => file_with(path, worker, "process"),
            "module_name" | "command" => file_with(path, worker, "another"),
            "unmanaged.pid_file" | "unmanaged.process_name" => file_with(path, worker, "another"),
            "unmanaged.port" => file_with(path, worker, "1"),
            "unmanaged.process_args" | "unmanaged.can_terminate" => {
                format!("workers: [{{{worker}}}}}]\n")
            }
            "execution.executable_path" => file_with(path, worker, "/another"),
            _ => format!("workers: [{{{worker}}}]\n"),
        };
        let without = first(&other).unwrap_or_else(|| panic!("{other}"));
        let keys = if *path == "command" { "execution.executable_path" } else { path };
        let changes = without.changes(&with);
        assert!(changes.keys.contains(&keys), "{path}: {changes:?}");
        assert_eq!(with.changes(&with).keys, Vec::<&str>::new());
        named += 1;
    }
    assert!(named > 30, "{named}");
}

#[test]
fn times_limits_and_policies_need_no_restart_and_what_runs_does() {
    let of = |text: &str| first(&format!("workers: [{{id: a, {text}}}]\n")).unwrap();
    let before = of("command: x");
    for (text, restart) in [
        ("command: x, stop: {timeout: 3s}, restart: {policy: always}, start: {timeout: 1s}", false),
        ("command: x, success_codes: [3]", false),
        ("command: x, logs: {overflow: drop, max_files: 3}", false),
        ("command: y", true),
        ("command: x, stop: {signal: INT}", true),
        ("command: x, execution: {environment: {A: b}}, restart: {policy: always}", true),
    ] {
        assert_eq!(before.changes(&of(text)).restart, restart, "{text}");
    }
    let module = of("type: module, module_name: m");
    let checked = of("type: module, module_name: m, health_check: {interval: 1s}");
    assert!(!module.changes(&checked).restart);
    // What is written as it is by default changes nothing.
    let same = of("type: module, module_name: m, health_check: {interval: 10s}");
    assert!(module.changes(&same).keys.is_empty());
}
