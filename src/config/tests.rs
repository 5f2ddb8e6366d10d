//! Tests of the whole way from text to configuration, and what they share.

mod changes;
mod faults;
mod fuzz;
mod include;
mod keys;
mod mistakes;
mod older;
#[cfg(unix)]
mod trust;
mod values;

use std::ffi::OsString;

use std::time::Duration;

use log::LevelFilter;

use super::*;

/// The only variables there are in tests.
fn lookup(name: &str) -> Option<OsString> {
    match name {
        "PORT" => Some("8080".into()),
        "SPACED" => Some("a b: [c] ${PORT}".into()),
        "EMPTY" => Some("".into()),
        _ => None,
    }
}

/// Reads `text` as a file `w.yaml` in `/etc/app`.
fn read(text: &str) -> Result<MasterConfig, Error> {
    let directory = Some(Path::new("/etc/app"));
    master(Source { file: "w.yaml", directory, lookup: &lookup, check: &nothing }, text)
}

/// The problems of `text`, as they are shown, each without the file's name.
fn problems(text: &str) -> Vec<String> {
    match read(text) {
        Ok(config) => panic!("{text:?} was accepted: {config:?}"),
        Err(error) => shown(&error),
    }
}

fn shown(error: &Error) -> Vec<String> {
    let shown = error.problems().iter().map(ToString::to_string);
    shown.map(|problem| problem.trim_start_matches("w.yaml:").trim_start().to_owned()).collect()
}

/// The only worker of `text`.
fn worker_of(text: &str) -> WorkerConfig {
    let mut workers = read(text).unwrap_or_else(|error| panic!("{text}: {error}")).workers;
    assert_eq!(workers.len(), 1);
    workers.remove(0)
}

#[test]
fn the_design_documents_example_is_read_unchanged() {
    use crate::worker::{ModuleType, WorkerType};
    let text = include_str!("tests/design_document.yaml");
    let config = read(text).unwrap();
    assert_eq!(config.warnings, []);
    let [program, native, other, plugin] = &config.workers[..] else { panic!("four workers") };

    let ids = config.workers.iter().map(|worker| worker.id.as_str()).collect::<Vec<_>>();
    let expected =
        ["data-processor-1", "data-processor-2", "data-processor-3", "external-processor"];
    assert_eq!(ids, expected);
    assert_eq!(program.worker_type, WorkerType::Process);
    assert_eq!(program.package.as_deref(), Some("data-processor:1.2.3"));
    let execution = program.execution.as_ref().unwrap();
    assert_eq!(execution.executable_path, Path::new("/opt/workers/data-processor"));
    assert_eq!(execution.args, ["--config", "config.yaml"]);
    assert_eq!(execution.working_directory.as_deref(), Some(Path::new("/etc/app")));

    assert_eq!(native.worker_type, WorkerType::Module);
    assert_eq!(native.module_type, Some(ModuleType::Native));
    assert_eq!(native.module_name.as_deref(), Some("data-processor"));
    let json = serde_json::json!({"port": ":8080", "batch_size": 1000, "timeout": "30s"});
    assert_eq!(native.config, json);
    assert_eq!(other.config["mode"], "development");
    assert_eq!(plugin.module_type, Some(ModuleType::Plugin));
    assert_eq!(plugin.module_name.as_deref(), Some("/opt/plugins/external-processor.so"));
}

#[test]
fn programs_build_what_files_say() {
    let built = MasterConfig::new()
        .name("app")
        .log_level(LevelFilter::Debug)
        .shutdown_timeout(Duration::from_secs(5))
        .worker(WorkerConfig::native("a", "m"));
    let text = "
master: {name: app, log_level: debug, shutdown_timeout: 5s}
workers: [{id: a, type: module, module_type: native, module_name: m}]
";
    let read = MasterConfig::from_yaml(text).unwrap();
    // A program has no text that a digest could stand for.
    assert_eq!(MasterConfig { digest: None, ..read }, built);
    let one = "{id: a, type: module, module_type: native, module_name: m}";
    assert_eq!(WorkerConfig::from_yaml(one).unwrap(), built.workers[0]);
}

#[test]
fn one_worker_is_told_its_problems_with_short_paths() {
    let error = WorkerConfig::from_yaml("id: a\ncommand: x\nrestart: {jitter: 2}\n").unwrap_err();
    assert_eq!(shown(&error), ["3:19: restart.jitter: must be at most 1"]);
    let error = WorkerConfig::from_yaml("").unwrap_err();
    assert_eq!(shown(&error), ["1:1: must be a worker's mapping, such as `id: a`; found nothing"]);
}

#[test]
fn without_a_file_paths_stay_as_they_are() {
    let worker = WorkerConfig::from_yaml("{id: a, command: ./bin/x}").unwrap();
    let execution = worker.execution.unwrap();
    assert_eq!(execution.executable_path, Path::new("./bin/x"));
    assert_eq!(execution.working_directory, None);
}

#[test]
fn directories_give_usable_names() {
    for (directory, name) in [
        ("my-app", Some("my-app")),
        ("My App ä", Some("My-App--")),
        (".hidden", Some("hidden")),
        ("...", None),
        ("", None),
        (&"x".repeat(100), Some(&*"x".repeat(64))),
    ] {
        assert_eq!(as_name(directory).as_deref(), name);
        assert!(name.is_none_or(|name| crate::worker::WorkerId::new(name).is_ok()));
    }
}
