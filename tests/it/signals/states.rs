//! Requests to end in states that are hard to come by: while workers start, while one is stuck, and
//! while the master itself is stopped.

use std::fs;
use std::io::Write as _;
use std::process::{Command, Stdio};

use serde_json::Value;

use super::{DEAF, NAP, PATIENT, Program};
use crate::support::{Fifo, skipped, until};

#[test]
fn s08_a_master_ends_in_order_while_a_worker_starts() {
    // It speaks the worker protocol no more than it speaks anything.
    let worker = "- {id: w, start: {timeout: 10m}, execution: {executable_path: /bin/sh, \
                  args: [-c, 'echo here >&2; exec sleep 1000'], integration: protocol}}\n";
    for signal in ["TERM", "INT", "QUIT"] {
        let mut program = Program::run(&format!("{PATIENT}workers:\n{worker}"));
        program.says("w | here");
        program.signal(signal);
        let (status, said) = program.end();
        assert_eq!(status.code(), Some(0), "{said}");
        assert!(said.contains("w#1 is cancelled") && !said.contains("w#1 is running"), "{said}");
    }
}

#[test]
fn s08_while_it_shuts_down_the_next_request_is_the_second() {
    for signal in ["TERM", "INT", "QUIT"] {
        let mut program = Program::run(&format!("{PATIENT}workers:\n{DEAF}{NAP}"));
        program.says("deaf | on");
        program.signal(if signal == "TERM" { "INT" } else { "TERM" });
        program.says("nap#1 is stopped");
        program.signal(signal);
        let (status, said) = program.end();
        assert_eq!(status.code(), Some(1), "{said}");
        assert!(said.contains("had to be killed: deaf"), "{said}");
    }
}

/// The state in which the system has a process: `T` for one that is stopped.
fn state_of(pid: &str) -> Option<String> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    stat.rsplit(") ").next()?.split(' ').next().map(str::to_owned)
}

#[test]
fn s10_told_to_end_while_it_starts_500_workers_a_master_starts_no_more() {
    let logs = tempfile::tempdir().unwrap();
    // The first that runs stops the master in the midst of it.
    let script = "mkdir once 2> /dev/null && kill -STOP $$PPID; exec sleep 1000";
    let program = Program::run(&format!(
        "master: {{shutdown_timeout: 10m, log_dir: {}}}\ndefaults: {{stop: {{timeout: 10m}}}}\n\
         workers:\n- {{id: w, replicas: 500, command: [/bin/sh, -c, '{script}']}}\n",
        logs.path().display()
    ));
    until(|| state_of(&program.pid.to_string()).as_deref() == Some("T"));
    program.signal("TERM");
    program.signal("CONT");
    let (status, said) = program.end();
    assert_eq!(status.code(), Some(0), "{said}");
    let events = fs::read_to_string(logs.path().join("events.jsonl")).unwrap();
    let events: Vec<Value> =
        events.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let to = |event: &Value, state: &str| event["to"] == state;
    assert!(events.iter().filter(|event| to(event, "running")).count() < 500, "{said}");
    let ends = |event: &Value| event["cause"] == "cancelled" || event["cause"] == "shutdown";
    let first_end = events.iter().position(ends).unwrap();
    let last_start = events.iter().rposition(|event| to(event, "starting")).unwrap();
    assert!(last_start < first_end, "started: {}", events[last_start]);
}

#[test]
fn s26_a_master_that_job_control_stops_goes_on_and_its_workers_never_stopped() {
    let has_script = Command::new("script").arg("--version").output();
    if !has_script.is_ok_and(|ended| ended.status.success()) {
        skipped("there is no script(1) here");
        return;
    }
    let (gate, resume) = (Fifo::new(), Fifo::new());
    let directory = tempfile::tempdir().unwrap();
    let script = format!("read x < {}; echo alive > alive; exec sleep 1000", gate.path.display());
    let worker = format!("workers:\n- {{id: w, command: [/bin/sh, -c, '{script}']}}\n");
    fs::write(directory.path().join("workers.yaml"), worker).unwrap();
    // A shell with job control: what is stopped in the foreground gives the terminal back to it.
    let inner = format!(
        "sh -mc '{} run 2> log; echo stopped > said; read x < {}; fg'",
        env!("CARGO_BIN_EXE_hsu-master"),
        resume.path.display()
    );
    let mut script = Command::new("script");
    script.args(["-q", "-e", "-c", &inner, "/dev/null"]).current_dir(directory.path());
    script.env("HSU_STATE_DIR", directory.path().join("state")).env_remove("RUST_LOG");
    script.stdin(Stdio::piped()).stdout(Stdio::null());
    let mut script = script.spawn().unwrap();
    let read = |name: &str| fs::read_to_string(directory.path().join(name)).unwrap_or_default();
    until(|| read("log").contains("w#1 is running"));
    let mut keyboard = script.stdin.take().unwrap();
    keyboard.write_all(b"\x1a").unwrap();
    until(|| read("said") == "stopped\n");
    // The worker does its work meanwhile.
    gate.write("go\n");
    until(|| read("alive") == "alive\n");
    let lock = read("state/lock");
    let master = lock.split("pid ").nth(1).unwrap().split(',').next().unwrap();
    assert_eq!(state_of(master).as_deref(), Some("T"));
    resume.write("go\n");
    // In the foreground again, it hears ^C.
    until(|| state_of(master).as_deref() != Some("T"));
    keyboard.write_all(b"\x03").unwrap();
    assert!(script.wait().unwrap().success(), "{}", read("log"));
    assert!(read("log").contains("all workers are stopped"), "{}", read("log"));
}

#[test]
fn a19_what_had_left_its_workers_group_is_listed_when_it_is_ended() {
    let script = "setsid sh -c 'echo here $$$$; trap \"\" TERM; sleep 3600' & wait";
    let script = script.replace('\'', "''");
    let mut program =
        Program::run(&format!("workers:\n- {{id: w, command: [/bin/sh, -c, '{script}']}}\n"));
    let line = program.says("here ");
    let escaped = line.rsplit(' ').next().unwrap();
    program.signal("TERM");
    let (status, said) = program.end();
    assert_eq!(status.code(), Some(0), "{said}");
    let list = said.lines().find(|line| line.contains("had left its group")).unwrap();
    let pids: Vec<_> = list.rsplit(": ").next().unwrap().split(", ").collect();
    assert!(pids.contains(&escaped) && state_of(escaped).is_none(), "{said}");
}
