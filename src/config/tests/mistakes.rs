//! What is wrong, where, and what to write instead: exact texts.

use super::{problems, read};

/// One worker that runs a program, with `keys` in line 3, indented by two.
fn program(keys: &str) -> String {
    format!("workers:\n- {{id: a, command: x}}\n- id: b\n  command: x\n  {keys}\n")
}

/// One worker that is a module, with `keys` in line 5.
fn module(keys: &str) -> String {
    format!("workers:\n- id: a\n  type: module\n  module_name: m\n  {keys}\n")
}

fn check(text: &str, expected: &[&str]) {
    assert_eq!(problems(text), expected, "{text}");
}

#[test]
fn wrong_values_of_a_program() {
    for (keys, expected) in [
        ("enabled: yes", "5:12: workers[1].enabled: \"yes\" is not a boolean; write true or false"),
        ("enabled: off", "5:12: workers[1].enabled: \"off\" is not a boolean; write true or false"),
        ("enabled: 1", "5:12: workers[1].enabled: \"1\" is not a boolean; write true or false"),
        ("enabled: []", "5:3: workers[1].enabled: must be true or false, found a list"),
        ("enabled:", "5:11: workers[1].enabled: must be true or false, found nothing"),
        (
            "type: managed",
            "5:9: workers[1].type: \"managed\" is not known here; write one of: process, module",
        ),
        (
            "type: proces",
            "5:9: workers[1].type: \"proces\" is not known here; did you mean process? (one of: process, module)",
        ),
        (
            "stack_size: 1MiB",
            "5:15: workers[1].stack_size: is for modules: a program's stack is its own",
        ),
        (
            "config: {a: 1}",
            "5:12: workers[1].config: is for modules; give a program arguments or variables",
        ),
        (
            "health_check: {}",
            "5:3: workers[1].health_check: only modules can be asked for their health so far; remove it",
        ),
        (
            "module_type: native",
            "5:16: workers[1].module_type: says where a module comes from, but there is no module_name",
        ),
        ("start: {timeout: 0s}", "5:20: workers[1].start.timeout: must be longer than zero"),
        (
            "start: {timeout: 30}",
            "5:20: workers[1].start.timeout: \"30\" has no unit; write \"30s\" or \"30ms\"",
        ),
        (
            "start: {timeout: ~}",
            "5:20: workers[1].start.timeout: must be a duration such as \"30s\", found nothing",
        ),
        (
            "start: {timeout: 200y}",
            "5:20: workers[1].start.timeout: \"200y\" is longer than 100 years",
        ),
        ("start: 30s", "5:10: workers[1].start: must be a mapping (`key: value`), found text"),
        (
            "restart: {policy: no}",
            "5:21: workers[1].restart.policy: \"no\" is not known here; write one of: never, on-failure, always, unless-stopped",
        ),
        (
            "restart: {max_retries: -1}",
            "5:26: workers[1].restart.max_retries: \"-1\" is not a whole number from 0 to 4294967295",
        ),
        (
            "restart: {max_retries: 1.5}",
            "5:26: workers[1].restart.max_retries: \"1.5\" is not a whole number from 0 to 4294967295",
        ),
        (
            "restart: {max_retries: '+1'}",
            "5:26: workers[1].restart.max_retries: \"+1\" is not a whole number from 0 to 4294967295",
        ),
        (
            "restart: {backoff_rate: 0.9}",
            "5:27: workers[1].restart.backoff_rate: must be at least 1",
        ),
        (
            "restart: {backoff_rate: 101}",
            "5:27: workers[1].restart.backoff_rate: must be at most 100",
        ),
        (
            "restart: {backoff_rate: 1e9}",
            "5:27: workers[1].restart.backoff_rate: \"1000000000.0\" is too large",
        ),
        (
            "restart: {backoff_rate: .inf}",
            "5:27: workers[1].restart.backoff_rate: is not a finite number",
        ),
        ("restart: {jitter: 1.001}", "5:21: workers[1].restart.jitter: must be at most 1"),
        (
            "restart: {jitter: 0.0001}",
            "5:21: workers[1].restart.jitter: \"0.0001\" has more than three decimals",
        ),
        (
            "restart: {jitter: -1}",
            "5:21: workers[1].restart.jitter: \"-1\" is not a number; write for example 1.5",
        ),
        (
            "restart: {reset_after: 0s}",
            "5:26: workers[1].restart.reset_after: must be longer than zero",
        ),
        (
            "stop: {signal: SIGFOO}",
            "5:18: workers[1].stop.signal: \"SIGFOO\" is not a signal; write for example SIGTERM",
        ),
        (
            "stop: {signal: 0}",
            "5:18: workers[1].stop.signal: \"0\" is not a signal; write for example SIGTERM",
        ),
        (
            "stop: {kill_group: n}",
            "5:22: workers[1].stop.kill_group: \"n\" is not a boolean; write true or false",
        ),
        (
            "success_codes: [256]",
            "5:19: workers[1].success_codes[0]: \"256\" is neither an exit code, 0 to 255, nor a signal such as SIGTERM",
        ),
        (
            "success_codes: [0, SIGX]",
            "5:22: workers[1].success_codes[1]: \"SIGX\" is neither an exit code, 0 to 255, nor a signal such as SIGTERM",
        ),
        ("success_codes: 0", "5:18: workers[1].success_codes: must be a list, found a number"),
        (
            "execution: {executable_path: y}",
            "5:32: workers[1].execution.executable_path: contradicts command, which names the program too",
        ),
        (
            "execution: {args: []}",
            "5:15: workers[1].execution.args: contradicts command, which has the arguments too",
        ),
        (
            "execution: {working_directory: ''}",
            "5:34: workers[1].execution.working_directory: is empty",
        ),
        (
            "execution: {environment: {A: ~}}",
            "5:32: workers[1].execution.environment.A: must be text, found nothing",
        ),
        (
            "execution: {environment: {A=: x}}",
            "5:33: workers[1].execution.environment.A=: is not a variable's name: it is empty or contains '='",
        ),
        (
            "execution: {environment: [AB]}",
            "5:29: workers[1].execution.environment[0]: \"AB\" has no '='; write NAME=value",
        ),
        (
            "execution: {environment: [A=1, A=2]}",
            "5:34: workers[1].execution.environment[1]: A is written twice",
        ),
        (
            "execution: {environment: {A: '${NO}'}}",
            "5:32: workers[1].execution.environment.A: the variable NO is not set; set it or write ${NO:-default}",
        ),
        (
            "execution: {environment: {A: \"\\0\"}}",
            "5:32: workers[1].execution.environment.A: contains a NUL character",
        ),
        ("package: ''", "5:12: workers[1].package: is empty"),
        (
            "port: 80",
            "5:3: workers[1].port: unknown key; known here: id, type, enabled, command, package, execution, module_type, module_name, stack_size, config, start, health_check, restart, stop, success_codes",
        ),
        (
            "depends_on: [a]",
            "5:3: workers[1].depends_on: unknown key; known here: id, type, enabled, command, package, execution, module_type, module_name, stack_size, config, start, health_check, restart, stop, success_codes",
        ),
    ] {
        check(&program(keys), &[expected]);
    }
}

#[test]
fn wrong_values_of_a_module() {
    for (keys, expected) in [
        (
            "command: x",
            "5:12: workers[0].command: is for processes; write `type: process`, or remove it",
        ),
        (
            "execution: {args: [x]}",
            "5:15: workers[0].execution: is for processes; write `type: process`, or remove it",
        ),
        (
            "success_codes: [0]",
            "5:19: workers[0].success_codes: is for processes: a module has no exit code",
        ),
        (
            "stop: {signal: TERM}",
            "5:18: workers[0].stop.signal: is for processes: a module is asked by its stop token",
        ),
        (
            "stop: {kill_group: true}",
            "5:22: workers[0].stop.kill_group: is for processes: a module has no process group",
        ),
        (
            "module_type: go",
            "5:16: workers[0].module_type: \"go\" is not known here; write one of: native, plugin",
        ),
        ("stack_size: 65535", "5:15: workers[0].stack_size: must be at least 64KiB"),
        ("stack_size: 2GiB", "5:15: workers[0].stack_size: must be at most 1GiB"),
        (
            "stack_size: 2 MiB",
            "5:15: workers[0].stack_size: \"2 MiB\" has the unknown unit \" mib\"; write KB, MB, GB, KiB, MiB or GiB",
        ),
        ("config: [a]", "5:12: workers[0].config: must be a mapping (`key: value`), found a list"),
        ("config: {a: {b: .nan}}", "5:19: workers[0].config.a.b: is not a finite number"),
        (
            "config: {a: [1, 18446744073709551616]}",
            "5:19: workers[0].config.a[1]: is a number beyond 64 bits; put it in quotes",
        ),
        (
            "config: {a: {x: 1, x: 2}}",
            "5:22: workers[0].config.a.x: is written twice, first in line 5",
        ),
        ("config: {1: x}", "5:12: workers[0].config: a key is a number; put it in quotes"),
        ("config: {~: x}", "5:12: workers[0].config: a key is nothing; put it in quotes"),
        ("config: {[a]: x}", "5:13: workers[0].config: a key is a list; put it in quotes"),
        (
            "health_check: {type: http}",
            "5:24: workers[0].health_check.type: \"http\" is not known here; write one of: module",
        ),
        (
            "health_check: {interval: 0s}",
            "5:28: workers[0].health_check.interval: must be longer than zero",
        ),
        (
            "health_check: {timeout: 0}",
            "5:27: workers[0].health_check.timeout: must be longer than zero",
        ),
        ("health_check: {retries: 0}", "5:27: workers[0].health_check.retries: must be at least 1"),
        (
            "health_check: {successes: 0}",
            "5:29: workers[0].health_check.successes: must be at least 1",
        ),
        (
            "health_check: {on_unhealthy: explode}",
            "5:32: workers[0].health_check.on_unhealthy: \"explode\" is not known here; write one of: restart, log, stop",
        ),
        (
            "limits: {}",
            "5:3: workers[0].limits: unknown key; known here: id, type, enabled, command, package, execution, module_type, module_name, stack_size, config, start, health_check, restart, stop, success_codes",
        ),
    ] {
        check(&module(keys), &[expected]);
    }
}

#[test]
fn what_runs_is_one_thing() {
    for (worker, expected) in [
        (
            "{id: a}",
            "1:12: workers[0]: has nothing to run; write command, execution, package or module_name",
        ),
        ("{id: a, type: module}", "1:12: workers[0].module_name: is missing: the module to run"),
        (
            "{id: a, module_name: m}",
            "1:12: workers[0].type: is missing: with module_name, write module (a thread of the master) or process (a process of its own)",
        ),
        (
            "{id: a, execution: {args: [x]}}",
            "1:31: workers[0].execution.executable_path: is missing: the program to run",
        ),
        ("{id: a, command: []}", "1:20: workers[0].command: is missing: the program to run"),
        ("{id: a, command: ''}", "1:28: workers[0].command: is missing: the program to run"),
        ("{id: a, command: \"x 'y\"}", "1:28: workers[0].command: has a ' that is not closed"),
        (
            "{id: a, command: {x: y}}",
            "1:29: workers[0].command: must be a text or a list, such as `./server --port 80`, found a mapping",
        ),
        ("{id: a, command: [x, [y]]}", "1:33: workers[0].command[1]: must be text, found a list"),
        ("{id: a, command: [x, \"\\0\"]}", "1:29: workers[0].command: contains a NUL character"),
        (
            "{id: a, command: 'x ${NO}'}",
            "1:28: workers[0].command: the variable NO is not set; set it or write ${NO:-default}",
        ),
        (
            "{id: a, type: process, module_name: m, command: x}",
            "1:59: workers[0].command: contradicts module_name: a worker runs a program or a module",
        ),
        (
            "{id: a, type: process, module_name: m, execution: {args: [x]}}",
            "1:62: workers[0].execution: contradicts module_name: a worker runs a program or a module",
        ),
        ("{id: a, type: module, module_name: ''}", "1:46: workers[0].module_name: is empty"),
        (
            "{id: a, type: module, module_name: [x]}",
            "1:47: workers[0].module_name: must be text, found a list",
        ),
        (
            "{id: a, type: module, module_name: ./m.so}",
            "1:46: workers[0].module_name: is a library's path; write `module_type: plugin`, or a name",
        ),
        ("x", "1:11: workers[0]: must be a worker's mapping, such as `id: a`, found text"),
        ("{command: x}", "1:12: workers[0].id: is missing: the worker's name"),
        ("{id: [], command: x}", "1:12: workers[0].id: must be text, found a list"),
        (
            "{id: '${PORT}', command: x}",
            "1:16: workers[0].id: worker id \"${PORT}\" must begin with a letter or a digit",
        ),
        (
            "{id: 'a${PORT}', command: x}",
            "1:16: workers[0].id: worker id \"a${PORT}\" contains '$'; use letters, digits, '.', '_' and '-'",
        ),
        (
            "{id: ../x, command: x}",
            "1:16: workers[0].id: worker id \"../x\" must begin with a letter or a digit",
        ),
    ] {
        check(&format!("workers: [{worker}]\n"), &[expected]);
    }
}

#[test]
fn wrong_sections() {
    for (text, expected) in [
        (
            "master: {name: ../x}\nworkers: []\n",
            "1:16: master.name: is not a name; use at most 64 letters, digits, '.', '_' and '-', the first of which is a letter or a digit",
        ),
        (
            "master: {log_level: loud}\nworkers: []\n",
            "1:21: master.log_level: \"loud\" is not known here; write one of: error, warn, info, debug, trace, off",
        ),
        (
            "master: {state_dir: /x}\nworkers: []\n",
            "1:10: master.state_dir: unknown key; known here: name, log_level, shutdown_timeout",
        ),
        (
            "defaults: {restart: {backoff_rate: 0}}\nworkers: [{id: a, command: x}]\n",
            "1:36: defaults.restart.backoff_rate: must be at least 1",
        ),
        (
            "defaults: {logs: {}}\nworkers: []\n",
            "1:12: defaults.logs: unknown key; known here: restart, stop, start, health_check",
        ),
        ("worker: []\nworkers: []\n", "1:1: worker: unknown key; did you mean `workers`?"),
        ("workers: {a: b}\n", "1:11: workers: must be a list, found a mapping"),
        ("workers:\n", "1:9: workers: no workers defined; write `workers: []` if none are meant"),
        ("master: {}\n", "1:1: no workers defined; write `workers: []` if none are meant"),
        ("just text\n", "1:1: must be a mapping (`key: value`), found text"),
        ("- a\n", "1:3: must be a mapping (`key: value`), found a list"),
    ] {
        check(text, &[expected]);
    }
    assert!(read("workers: []").unwrap().workers.is_empty());
}

#[test]
fn every_problem_is_told_at_once_in_the_order_of_the_file() {
    let text = "
workers:
  - id: a
    command: x
    start: {timeout: 0s}
    restrat: {policy: always}
  - id: a
    type: module
    module_name: m
    config:
      port: .inf
      port: 1
  - id: A
    command: x
master: {log_level: 3}
";
    check(
        text,
        &[
            "5:22: workers[0].start.timeout: must be longer than zero",
            "6:5: workers[0].restrat: unknown key; did you mean `restart`?",
            "7:9: workers[1].id: \"a\" is already used by workers[0] in line 3",
            "11:13: workers[1].config.port: is not a finite number",
            "12:7: workers[1].config.port: is written twice, first in line 11",
            "13:9: workers[2].id: \"A\" is already used by workers[0] in line 3",
            "15:21: master.log_level: \"3\" is not known here; write one of: error, warn, info, debug, trace, off",
        ],
    );
}

#[test]
fn of_many_problems_fifty_are_told_and_the_rest_counted() {
    let error = read(&format!("workers: [{}]", "x,\n".repeat(123))).unwrap_err();
    assert_eq!(error.problems().len(), 50);
    let text = error.to_string();
    assert!(text.starts_with("123 problems in the configuration\n  w.yaml:1:11: workers[0]: "));
    assert!(text.ends_with("\n  and 73 more"), "{text}");
    assert!(error.permanent());
}

#[test]
fn what_comes_through_an_alias_is_placed_where_it_is_written() {
    let text = "
defaults:
  restart: &base {jitter: 0.5}
workers:
  - {id: a, command: x, restart: {<<: *base, policy: nevr}}
  - {id: b, command: x, stop: *base}
";
    check(
        text,
        &[
            "3:19: workers[1].stop.jitter: unknown key; known here: signal, timeout, kill_group",
            "5:54: workers[0].restart.policy: \"nevr\" is not known here; did you mean never? (one of: never, on-failure, always, unless-stopped)",
        ],
    );
}
