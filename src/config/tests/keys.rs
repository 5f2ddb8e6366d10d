//! One list of all keys: each is shown to change what is read, and each is suggested when misspelt.

use std::collections::BTreeSet;
use std::time::Duration;

use super::super::schema::{
    DEFAULTS, FILE, HEALTH_CHECK, INCLUDED, LOGS, MASTER, RESTART, START, STOP, names, parts,
};
use super::super::worker::{ENDPOINT, WORKER};
use super::{MasterConfig, problems, read};
use crate::worker::{
    ExecutionConfig, HardLimits, HealthCheckConfig, HealthCheckType, Integration, LogMode,
    LogOverflow, ModuleType, OnMasterExit, OnUnhealthy, RestartPolicy, UnmanagedConfig,
    WorkerConfig, WorkerType,
};

pub(super) type Shows = fn(&MasterConfig) -> bool;

fn first(config: &MasterConfig) -> &WorkerConfig {
    &config.workers[0]
}

fn unmanaged(config: &MasterConfig) -> &UnmanagedConfig {
    first(config).unmanaged.as_ref().unwrap()
}

fn health(config: &MasterConfig) -> &HealthCheckConfig {
    first(config).health_check.as_ref().unwrap()
}

fn execution(config: &MasterConfig) -> &ExecutionConfig {
    first(config).execution.as_ref().unwrap()
}

fn hard(config: &MasterConfig) -> &HardLimits {
    &first(config).limits.hard
}

const PROGRAM: &str = "id: a, command: x";
const MODULE: &str = "id: a, type: module, module_name: m";
const PLUGIN: &str = "id: a, type: module, module_type: plugin, module_name: ./m.so";

fn seconds(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

/// Every key: its path, the worker it is given to, its value, and what shows that it was heard.
pub(super) const KEYS: &[(&str, &str, &str, Shows)] = &[
    ("master.name", PROGRAM, "n", |c| c.name.as_deref() == Some("n")),
    ("master.state_dir", PROGRAM, "/s", |c| c.state_dir == Some("/s".into())),
    ("master.log_dir", PROGRAM, "/l", |c| c.log_dir == Some("/l".into())),
    ("master.log_level", PROGRAM, "trace", |c| c.log_level == log::LevelFilter::Trace),
    ("master.shutdown_timeout", PROGRAM, "1s", |c| c.shutdown_timeout == seconds(1)),
    ("id", "command: x", "other", |c| first(c).id == "other"),
    ("type", "id: a, module_name: m", "module", |c| first(c).worker_type == WorkerType::Module),
    ("enabled", PROGRAM, "false", |c| !first(c).enabled),
    ("replicas", PROGRAM, "2", |c| c.workers.len() == 2 && first(c).id == "a-1"),
    ("main", PROGRAM, "true", |c| first(c).main),
    ("command", "id: a", "y", |c| {
        first(c).execution.as_ref().unwrap().executable_path.as_os_str() == "y"
    }),
    ("package", PROGRAM, "p:1", |c| first(c).package.as_deref() == Some("p:1")),
    ("execution.executable_path", "id: a", "/z", |c| {
        first(c).execution.as_ref().unwrap().executable_path.as_os_str() == "/z"
    }),
    ("execution.args", "id: a, package: p", "[b]", |c| {
        first(c).execution.as_ref().unwrap().args == ["b"]
    }),
    ("execution.environment", PROGRAM, "{A: b}", |c| {
        first(c).execution.as_ref().unwrap().environment["A"] == "b"
    }),
    ("execution.integration", PROGRAM, "protocol", |c| {
        first(c).execution.as_ref().unwrap().integration == Integration::Protocol
    }),
    ("execution.working_directory", PROGRAM, "/w", |c| {
        first(c).execution.as_ref().unwrap().working_directory == Some("/w".into())
    }),
    ("unmanaged.pid_file", "id: a", "/p", |c| unmanaged(c).pid_file == Some("/p".into())),
    ("unmanaged.process_name", "id: a", "n", |c| unmanaged(c).process_name.as_deref() == Some("n")),
    ("unmanaged.process_args", "id: a, unmanaged: {process_name: n", "[b]", |c| {
        unmanaged(c).process_args == ["b"]
    }),
    ("unmanaged.port", "id: a", "80", |c| unmanaged(c).port == Some(80)),
    ("unmanaged.can_terminate", "id: a, unmanaged: {port: 1", "true", |c| {
        unmanaged(c).can_terminate
    }),
    ("execution.env_file", PROGRAM, "/e", |c| execution(c).env_file == Some("/e".into())),
    ("execution.clear_environment", PROGRAM, "true", |c| execution(c).clear_environment),
    ("execution.user", PROGRAM, "1000", |c| execution(c).user.as_deref() == Some("1000")),
    ("execution.group", PROGRAM, "svc", |c| execution(c).group.as_deref() == Some("svc")),
    ("execution.supplementary_groups", PROGRAM, "[audio, 7]", |c| {
        execution(c).supplementary_groups == ["audio", "7"]
    }),
    ("execution.umask", PROGRAM, "027", |c| execution(c).umask == Some(0o27)),
    ("execution.nice", PROGRAM, "-5", |c| execution(c).nice == Some(-5)),
    ("execution.oom_score_adj", PROGRAM, "-100", |c| execution(c).oom_score_adj == Some(-100)),
    ("execution.no_new_privs", PROGRAM, "true", |c| execution(c).no_new_privs),
    ("limits.hard.memory", PROGRAM, "512MiB", |c| hard(c).memory == Some(512 << 20)),
    ("limits.hard.open_files", PROGRAM, "64", |c| hard(c).open_files == Some(64)),
    ("limits.hard.processes", PROGRAM, "unlimited", |c| {
        hard(c).processes == Some(HardLimits::UNLIMITED)
    }),
    ("limits.hard.core", PROGRAM, "0", |c| hard(c).core == Some(0)),
    ("module_type", MODULE, "plugin", |c| first(c).module_type == Some(ModuleType::Plugin)),
    ("module_name", "id: a, type: module", "n", |c| first(c).module_name.as_deref() == Some("n")),
    ("entry_point", PLUGIN, "other", |c| first(c).entry_point.as_deref() == Some("other")),
    ("stack_size", MODULE, "1MiB", |c| first(c).stack_size == 1 << 20),
    ("config", MODULE, "{a: [1]}", |c| first(c).config == serde_json::json!({"a": [1]})),
    ("endpoints", PROGRAM, "[{name: n, type: tcp, address: a}]", |c| {
        first(c).endpoints == [crate::EndpointInfo::tcp("n", "a")]
    }),
    ("start.timeout", PROGRAM, "1s", |c| first(c).start.timeout == seconds(1)),
    ("health_check.type", PROGRAM, "process", |c| {
        health(c).check_type == Some(HealthCheckType::Process)
    }),
    ("health_check.interval", MODULE, "1s", |c| health(c).interval == seconds(1)),
    ("health_check.timeout", MODULE, "1s", |c| health(c).timeout == seconds(1)),
    ("health_check.initial_delay", MODULE, "1s", |c| health(c).initial_delay == seconds(1)),
    ("health_check.retries", MODULE, "9", |c| health(c).retries == 9),
    ("health_check.successes", MODULE, "9", |c| health(c).successes == 9),
    ("health_check.on_unhealthy", MODULE, "log", |c| health(c).on_unhealthy == OnUnhealthy::Log),
    ("restart.policy", PROGRAM, "always", |c| first(c).restart.policy == RestartPolicy::Always),
    ("restart.max_retries", PROGRAM, "0", |c| first(c).restart.max_retries == 0),
    ("restart.retry_delay", PROGRAM, "0s", |c| first(c).restart.retry_delay.is_zero()),
    ("restart.backoff_rate", PROGRAM, "1.25", |c| {
        first(c).restart.backoff_rate.thousandths() == 1250
    }),
    ("restart.max_delay", PROGRAM, "1s", |c| first(c).restart.max_delay == seconds(1)),
    ("restart.jitter", PROGRAM, "0", |c| first(c).restart.jitter.thousandths() == 0),
    ("restart.reset_after", PROGRAM, "1s", |c| first(c).restart.reset_after == seconds(1)),
    ("restart.half_open_after", PROGRAM, "0", |c| first(c).restart.half_open_after.is_zero()),
    ("restart.startup_grace_period", PROGRAM, "1s", |c| {
        first(c).restart.startup_grace_period == seconds(1)
    }),
    ("stop.signal", PROGRAM, "int", |c| first(c).stop.signal == 2),
    ("stop.timeout", PROGRAM, "0s", |c| first(c).stop.timeout.is_zero()),
    ("stop.kill_group", PROGRAM, "false", |c| !first(c).stop.kill_group),
    ("logs.mode", PROGRAM, "discard", |c| first(c).logs.mode == LogMode::Discard),
    ("logs.max_size", PROGRAM, "1MiB", |c| first(c).logs.max_size == 1 << 20),
    ("logs.max_files", PROGRAM, "7", |c| first(c).logs.max_files == 7),
    ("logs.timestamps", PROGRAM, "false", |c| !first(c).logs.timestamps),
    ("logs.overflow", PROGRAM, "drop", |c| first(c).logs.overflow == LogOverflow::Drop),
    ("success_codes", PROGRAM, "[3, SIGTERM]", |c| {
        first(c).success_codes.codes == [3] && first(c).success_codes.signals == [15]
    }),
    ("on_master_exit", PROGRAM, "keep", |c| first(c).on_master_exit == Some(OnMasterExit::Keep)),
];

/// `a.b` and `v` as `a: {b: v}`.
fn nested(path: &str, value: &str) -> String {
    match path.split_once('.') {
        Some((part, rest)) => format!("{part}: {{{}}}", nested(rest, value)),
        None => format!("{path}: {value}"),
    }
}

/// A file with one worker and a key at `path`, in the worker or outside.
pub(super) fn file_with(path: &str, worker: &str, value: &str) -> String {
    let key = nested(path, value);
    if path.starts_with("master.") || path.starts_with("defaults.") {
        format!("{key}\nworkers: [{{{worker}}}]\n")
    } else if let Some((part, _)) = worker.rsplit_once('{') {
        // The worker is in the middle of the key's own part.
        assert!(part.ends_with(&format!("{}: ", path.split('.').next().unwrap())), "{path}");
        let (_, key) = path.split_once('.').unwrap();
        format!("workers: [{{{worker}, {key}: {value}}}}}]\n")
    } else {
        format!("workers: [{{{worker}, {key}}}]\n")
    }
}

#[test]
fn the_list_has_every_key_that_is_read() {
    let mut known: BTreeSet<String> = BTreeSet::new();
    known.extend(names(MASTER).iter().map(|key| format!("master.{key}")));
    known.extend(names(WORKER).into_iter().map(str::to_owned));
    for (part, keys) in parts() {
        assert!(known.remove(part), "{part}");
        known.extend(keys.iter().map(|key| format!("{part}.{key}")));
    }
    let listed: BTreeSet<String> = KEYS.iter().map(|(path, ..)| (*path).to_owned()).collect();
    assert_eq!(listed, known);
    // The list of `tests/it/keys.rs`, which shows for each key what it does.
    known.extend(names(DEFAULTS).iter().map(|key| format!("defaults.{key}")));
    let parts_of_a_file = ["master", "defaults", "workers"];
    let whole = names(FILE).into_iter().filter(|key| !parts_of_a_file.contains(key));
    known.extend(whole.map(str::to_owned));
    assert!(known.remove("endpoints"));
    known.extend(names(ENDPOINT).iter().map(|key| format!("endpoints.{key}")));
    let text: String = known.iter().map(|key| format!("{key}\n")).collect();
    assert_eq!(include_str!("keys.txt"), text);
    assert_eq!(names(FILE), ["master", "defaults", "workers", "include"]);
    assert_eq!(names(INCLUDED), ["workers", "include"]);
    assert_eq!(names(DEFAULTS), ["restart", "stop", "start", "health_check", "logs"]);
}

#[test]
fn every_key_is_heard() {
    for (path, worker, value, shows) in KEYS {
        let text = file_with(path, worker, value);
        let with = read(&text).unwrap_or_else(|error| panic!("{text}: {error}"));
        assert!(shows(&with), "{text}");
        let end = if worker.contains('{') { "}" } else { "" };
        if let Ok(without) = read(&format!("workers: [{{{worker}{end}}}]\n")) {
            assert_ne!(with, without, "{text}");
        }
    }
}

#[test]
fn every_default_reaches_the_workers_and_is_overridden_key_by_key() {
    let mut tried = 0;
    for (path, _, value, shows) in KEYS {
        let part = path.split('.').next().unwrap();
        if !names(DEFAULTS).contains(&part) {
            continue;
        }
        tried += 1;
        let key = path.split_once('.').unwrap().1;
        let program = ["stop", "restart", "logs"].contains(&part);
        let worker = match *path {
            // A module that has a process of its own, and can be asked.
            "health_check.type" => "id: a, type: process, module_name: m",
            _ if program => PROGRAM,
            _ => MODULE,
        };
        let text = file_with(&format!("defaults.{path}"), worker, value);
        assert!(shows(&read(&text).unwrap()), "{text}");

        // Another key of the same part leaves the default in force.
        let (other, other_value) = match part {
            "restart" if key != "jitter" => ("jitter", "0.3"),
            "restart" => ("max_retries", "7"),
            "stop" if key != "timeout" => ("timeout", "3s"),
            "stop" => ("signal", "HUP"),
            "health_check" if key != "retries" => ("retries", "7"),
            "health_check" => ("successes", "7"),
            "logs" if key == "mode" => continue,
            "logs" if key != "max_files" => ("max_files", "3"),
            "logs" => ("max_size", "5MiB"),
            _ => continue,
        };
        let both = format!(
            "defaults: {{{}}}\nworkers: [{{{worker}, {part}: {{{other}: {other_value}}}}}]\n",
            nested(path, value)
        );
        assert!(shows(&read(&both).unwrap()), "{both}");
    }
    assert_eq!(tried, RESTART.len() + STOP.len() + START.len() + HEALTH_CHECK.len() + LOGS.len());
}

#[test]
fn a_worker_overrides_a_default() {
    let text = "
defaults:
  restart: {max_retries: 1}
  stop: {timeout: 1s}
  start: {timeout: 1s}
  health_check: {retries: 1}
workers:
  - {id: a, type: module, module_name: m}
  - id: b
    type: module
    module_name: m
    restart: {max_retries: 2}
    stop: {timeout: 2s}
    start: {timeout: 2s}
    health_check: {retries: 2}
  - {id: c, command: x}
  - {id: d, command: x, execution: {integration: protocol}}
";
    let workers = read(text).unwrap().workers;
    let seen = workers.iter().map(|worker| {
        let check = worker.health_check.as_ref().map(|check| check.retries);
        let (stop, start) = (worker.stop.timeout.as_secs(), worker.start.timeout.as_secs());
        (worker.restart.max_retries, stop, start, check)
    });
    // Not every program can be asked for its health: the default is meant for those that can.
    let expected = [(1, 1, 1, Some(1)), (2, 2, 2, Some(2)), (1, 1, 1, None), (1, 1, 1, Some(1))];
    assert_eq!(seen.collect::<Vec<_>>(), expected);
}

#[test]
fn every_misspelt_key_is_told_with_the_key_that_was_meant() {
    let mut mappings: Vec<(&str, Vec<&str>)> =
        vec![("", names(FILE)), ("master", names(MASTER)), ("defaults", names(DEFAULTS))];
    mappings.push(("worker", names(WORKER)));
    mappings.extend(parts());
    for (mapping, keys) in mappings {
        for key in keys {
            let typo = format!("{key}x");
            let (text, column, path) = match mapping {
                "" => (format!("{typo}: 1\nworkers: []\n"), 1, typo.clone()),
                "master" | "defaults" => {
                    let text = format!("{mapping}: {{{typo}: 1}}\nworkers: []\n");
                    (text, mapping.len() + 4, format!("{mapping}.{typo}"))
                }
                "worker" => (
                    format!("workers: [{{{typo}: 1, id: a, package: p}}]\n"),
                    12,
                    format!("workers[0].{typo}"),
                ),
                part => (
                    format!(
                        "workers: [{{{}, {MODULE}}}]\n",
                        nested(&format!("{part}.{typo}"), "1")
                    ),
                    15 + part.len() + 2 * part.matches('.').count(),
                    format!("workers[0].{part}.{typo}"),
                ),
            };
            let expected = format!("1:{column}: {path}: unknown key; did you mean `{key}`?");
            let found = problems(&text);
            assert!(found.contains(&expected), "{text}: {found:?}, not {expected}");
        }
    }
}

#[test]
fn every_key_is_documented_and_the_example_is_read() {
    let page = include_str!("../../../docs/configuration.md");
    for (path, ..) in KEYS {
        let key = path.rsplit('.').next().unwrap();
        assert!(page.contains(&format!("\n| `{key}` |")), "{path}");
    }
    let example = page.split("```yaml\n").nth(1).unwrap().split("```").next().unwrap();
    let config = read(example).unwrap();
    assert_eq!(config.workers.len(), 2);
    assert_eq!(config.workers[0].execution.as_ref().unwrap().args, ["--port", "8080"]);
}
