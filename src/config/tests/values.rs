//! Kinds of values: what is accepted for each, beyond the obvious.

use std::path::Path;

use super::{problems, read, worker_of};

fn execution(text: &str) -> crate::worker::ExecutionConfig {
    worker_of(text).execution.unwrap()
}

#[test]
fn numbers_and_booleans_are_text_as_they_are_written() {
    let args = execution(
        "workers: [{id: 7, command: [x, 8080, 1.10, 0x1F, true, &a -0.50, *a, 017, yes, 1e3]}]",
    );
    assert_eq!(args.args, ["8080", "1.10", "0x1F", "true", "-0.50", "-0.50", "017", "yes", "1e3"]);
    let text = "
workers:
- id: 7
  command: x
  execution:
    environment:
      A: 1.10 # c
      B: TRUE
";
    assert_eq!(worker_of(text).id, "7");
    let environment = execution(text).environment;
    assert_eq!((&*environment["A"], &*environment["B"]), ("1.10", "TRUE"));
    // The first argument is not ASCII: columns are characters.
    assert_eq!(execution("workers: [{id: a, command: [ä, ü, 1.10]}]").args, ["ü", "1.10"]);
}

#[test]
fn a_number_whose_text_is_out_of_reach_is_refused() {
    let far = format!("workers: [{{id: a, command: [ä, {}1.10]}}]", " ".repeat(5000));
    let found = problems(&far);
    assert_eq!(found, ["1:5032: workers[0].command[1]: is a number; put it in quotes"]);
}

#[test]
fn commands_are_split_before_variables_are_replaced() {
    let text =
        r#"workers: [{id: a, command: "./run '${SPACED}' --port=${PORT} $$HOME ${NO:-x y}"}]"#;
    let execution = execution(text);
    assert_eq!(execution.executable_path, Path::new("/etc/app/run"));
    assert_eq!(execution.args, ["a b: [c] ${PORT}", "--port=8080", "$HOME", "x y"]);
}

#[test]
fn variables_are_replaced_once_and_in_values_only() {
    let text = "
workers:
  - id: a
    type: module
    module_name: m
    start: {timeout: '${EMPTY:-3}s'}
    stack_size: ${PORT}00
    enabled: ${NO:-false}
    restart: {max_retries: '${PORT}', jitter: '${NO:-0.5}'}
    config: {port: '${PORT}', list: ['${SPACED}'], '${PORT}': '$$'}
";
    let worker = worker_of(text);
    assert_eq!(worker.start.timeout.as_secs(), 3);
    assert_eq!((worker.stack_size, worker.enabled), (808_000, false));
    assert_eq!(worker.restart.max_retries, 8080);
    assert_eq!(worker.restart.jitter.thousandths(), 500);
    // A number in a variable is text: what the module's author reads does not depend on its digits.
    let json = serde_json::json!({
        "port": "8080", "list": ["a b: [c] ${PORT}"], "${PORT}": "$"
    });
    assert_eq!(worker.config, json);
}

#[test]
fn relative_paths_are_relative_to_the_file() {
    for (command, directory, program, runs_in) in [
        ("./bin/x", "", "/etc/app/bin/x", "/etc/app"),
        ("bin/x", "data", "/etc/app/bin/x", "/etc/app/data"),
        ("x", "./data", "x", "/etc/app/data"),
        ("../x", "/srv", "/etc/app/../x", "/srv"),
        ("/bin/x", ".", "/bin/x", "/etc/app"),
    ] {
        let directory = if directory.is_empty() {
            String::new()
        } else {
            format!(", execution: {{working_directory: {directory}}}")
        };
        let execution = execution(&format!("workers: [{{id: a, command: {command}{directory}}}]"));
        assert_eq!(execution.executable_path, Path::new(program));
        assert_eq!(execution.working_directory.as_deref(), Some(Path::new(runs_in)));
    }
    let packaged = "workers: [{id: a, package: p, execution: {executable_path: bin/x}}]";
    assert_eq!(execution(packaged).executable_path, Path::new("bin/x"));
    let plugin = "workers: [{id: a, type: module, module_type: plugin, module_name: ./l.so}]";
    assert_eq!(worker_of(plugin).module_name.as_deref(), Some("/etc/app/l.so"));
    let native = "workers: [{id: a, type: module, module_name: m}]";
    assert_eq!(worker_of(native).module_name.as_deref(), Some("m"));
}

#[test]
fn an_environment_is_a_mapping_or_a_list() {
    let list = execution(
        "workers: [{id: a, command: x, execution: {environment: [A=1, B=b=c, 'C=${PORT}', D=]}}]",
    );
    let map = execution(
        "workers: [{id: a, command: x,
          execution: {environment: {A: 1, B: b=c, C: '${PORT}', D: ''}}}]",
    );
    assert_eq!(list, map);
    assert_eq!(list.environment.len(), 4);
}

#[test]
fn merge_keys_and_aliases_share_parts() {
    let text = "
defaults:
  restart: &base {policy: always, max_retries: 3}
workers:
  - {id: a, command: x, restart: &a {<<: *base, max_retries: 4}}
  - {id: b, command: x, restart: {<<: [{jitter: 0}, *a], policy: never}}
  - {id: c, command: x, restart: *a}
";
    let workers = read(text).unwrap().workers;
    let seen = workers.iter().map(|worker| {
        let restart = &worker.restart;
        (restart.policy.as_str(), restart.max_retries, restart.jitter.thousandths())
    });
    let expected = [("always", 4, 100), ("never", 4, 0), ("always", 4, 100)];
    assert_eq!(seen.collect::<Vec<_>>(), expected);
}

#[test]
fn where_nothing_is_written_nothing_is_meant() {
    let text = "
master:
defaults:
workers:
  - id: a
    type: module
    module_name: m
    config:
    restart:
    start:
";
    let plain = "workers: [{id: a, type: module, module_name: m}]";
    let (mut long, plain) = (read(text).unwrap(), read(plain).unwrap());
    // The same settings, from another text.
    assert_ne!(long.digest, plain.digest);
    long.digest.clone_from(&plain.digest);
    assert_eq!(long, plain);
}

#[test]
fn the_type_follows_from_what_runs() {
    for what in ["command: x", "execution: {executable_path: x}", "package: p"] {
        let worker = worker_of(&format!("workers: [{{id: a, {what}}}]"));
        assert_eq!(worker.worker_type, crate::worker::WorkerType::Process, "{what}");
    }
    // The same module as a process of its own, with its own directory and variables.
    let hosted = worker_of(
        "workers: [{id: a, type: process, module_name: m, execution: {environment: {A: b}}}]",
    );
    assert!(hosted.is_module());
}

#[test]
fn a_stop_longer_than_the_shutdown_is_a_warning() {
    let text = "
master: {shutdown_timeout: 5s}
workers:
- {id: a, command: x}
- {id: b, command: x, stop: {timeout: 6s}}
";
    let warnings = read(text).unwrap().warnings;
    let [warning] = &warnings[..] else { panic!("one warning: {warnings:?}") };
    let expected = "w.yaml:5:39: workers[1].stop.timeout: is longer than master.shutdown_timeout, \
                    at whose end it is cut short";
    assert_eq!(warning.to_string(), expected);
    let text = "defaults: {stop: {timeout: 31s}}\nworkers: []\n";
    assert_eq!(read(text).unwrap().warnings[0].path, "defaults.stop.timeout");
}

#[test]
fn brackets_in_text_and_comments_are_no_nesting() {
    let line = "  - { id: w@, command: [/bin/sh, -c, \"[ -f x ] && echo ']' don't\"] } # see [1]\n";
    let text: String = (0..200).map(|n| line.replace('@', &n.to_string())).collect();
    let config = crate::MasterConfig::from_yaml(&format!("workers:\n{text}")).unwrap();
    assert_eq!(config.workers.len(), 200);
}
