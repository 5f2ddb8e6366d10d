//! What is wrong, where, and what to write instead: the exact texts are in `mistakes.txt`.

use super::{problems, read};

/// A whole file around the text of one case, by the section it is in.
fn file(section: &str, text: &str) -> String {
    let program = "workers:\n- {id: a, command: x}\n- id: b\n  command: x\n  ";
    let module = "workers:\n- id: a\n  type: module\n  module_name: m\n  ";
    match section {
        "program" => format!("{program}{text}\n"),
        "module" => format!("{module}{text}\n"),
        "worker" => format!("workers: [{text}]\n"),
        "file" => format!("{text}\n"),
        other => panic!("no section {other}"),
    }
}

#[test]
fn every_mistake_is_told_with_its_place_and_what_to_write() {
    let mut cases = 0;
    let mut wrong = Vec::new();
    let (mut section, mut text) = ("", String::new());
    for line in include_str!("mistakes.txt").lines() {
        if let Some(name) = line.strip_prefix("== ") {
            section = name;
        } else if let Some(expected) = line.strip_prefix("=> ") {
            let file = file(section, text.trim_end());
            let told = problems(&file);
            if told != [expected] {
                wrong.push(format!("{file}  is: {told:?}\nnot: {expected:?}\n"));
            }
            text.clear();
            cases += 1;
        } else {
            text.push_str(line);
            text.push('\n');
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    assert!(cases > 90, "{cases}");
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
master: {shutdown_timeout: []}
";
    let expected = [
        "5:22: workers[0].start.timeout: must be longer than zero",
        "6:5: workers[0].restrat: unknown key; did you mean `restart`?",
        "7:9: workers[1].id: \"a\" is already used by workers[0] in line 3",
        "11:13: workers[1].config.port: is not a finite number",
        "12:7: workers[1].config.port: is written twice, first in line 11",
        "13:9: workers[2].id: \"A\" is already used by workers[0] in line 3",
        "15:10: master.shutdown_timeout: must be a duration such as \"30s\"; found a list",
    ];
    assert_eq!(problems(text), expected);
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
  - {id: a, command: x, restart: {<<: *base, max_retries: many}}
  - {id: b, command: x, stop: *base}
";
    let expected = [
        "3:19: workers[1].stop.jitter: unknown key; known here: signal, timeout, kill_group",
        "5:59: workers[0].restart.max_retries: \"many\" is not a whole number from 0 to 4294967295",
    ];
    assert_eq!(problems(text), expected);
}

#[test]
fn a_module_in_a_process_of_its_own_has_no_success_codes() {
    let text = "workers: [{id: a, type: process, module_name: m, success_codes: [3]}]\n";
    let error = read(text).unwrap_err().to_string();
    assert!(error.contains("workers[0].success_codes: is for programs"), "{error}");
}
