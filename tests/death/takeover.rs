//! A master that finds processes of a former one which it does not want, and which take their time
//! to end (FAULTS S08, S11; contract, section 9).

use std::fs;
use std::process::{Command, Output};

use crate::support::{Running, Site, kill, lives, until};

/// Does not end when asked.
const DEAF: &str =
    "command: [/bin/sh, -c, \"trap '' TERM; echo on; while :; do sleep 1000 & wait; done\"]";
const SLOW: &str = "stop: {timeout: 10m}";
const OTHER: &str = "- { id: other, command: [sleep, '1000'] }\n";

fn ask(site: &Site, arguments: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_hsu-master"));
    command.args(arguments).arg("--socket").arg(site.state().join("control.sock"));
    command.output().unwrap()
}

/// A killed master, and what it left: the process of `w`, which does not want to end.
fn abandoned(stop: &str) -> (Site, u32) {
    let worker = format!("- {{ id: w, {DEAF}, {stop}, on_master_exit: keep }}\n");
    let site = Site::new(&format!("workers:\n{worker}"));
    let mut first = site.run();
    let pid = first.runs("w#1");
    // Only then it is deaf.
    first.until("w | on");
    site.recorded("w");
    first.kill();
    (site, pid)
}

/// The next master, which waits for the end of `w`.
fn next(site: &Site, pid: u32) -> Running {
    let mut master = site.run();
    master.until(&format!("w: process {pid} of a former master is ended"));
    master
}

#[test]
fn what_is_left_and_ends_slowly_holds_up_nobody_else() {
    let (site, pid) = abandoned(SLOW);
    site.configure(&format!("workers:\n{OTHER}"));
    let mut master = next(&site, pid);
    master.runs("other#1");
    let told = ask(&site, &["status", "--json"]);
    let told: serde_json::Value = serde_json::from_slice(&told.stdout).unwrap();
    let w = told.as_array().unwrap().iter().find(|worker| worker["id"] == "w").unwrap();
    assert_eq!((&w["state"], &w["pid"]), (&"stopping".into(), &pid.into()));
    // It is no worker of this master's that could be started.
    assert_eq!(ask(&site, &["start", "w"]).status.code(), Some(1));
    assert!(kill(pid, "KILL"));
    until(|| ask(&site, &["status", "w"]).status.code() == Some(4));
    until(|| !site.record_file("w").exists());
    assert!(master.stop().0.success());
}

#[test]
fn s08_signals_are_heard_while_what_is_left_ends() {
    let (site, pid) = abandoned(SLOW);
    site.configure(&format!("workers:\n{OTHER}"));
    let mut master = next(&site, pid);
    master.signal("USR2");
    master.signal("USR1");
    master.signal("HUP");
    master.until("SIGUSR2: log files are opened again");
    master.until("SIGUSR1: ");
    master.until("reload: 1 worker is unchanged");
    master.signal("TERM");
    master.until("asked to end: stopping all workers");
    assert!(lives(pid));
    master.signal("INT");
    let said = master.rest();
    assert!(said.contains("asked to end again: killing all workers"), "{said}");
    assert!(!lives(pid) && site.all().is_empty(), "{said}");
}

#[test]
fn s08_signals_that_come_as_it_finds_what_is_left_end_nothing_unawares() {
    // Whatever it is doing by then: it hears signals before it looks at what is left.
    for signals in [&["HUP", "USR1", "USR2", "TERM"][..], &["TERM"], &["INT"], &["USR1"]] {
        let (site, pid) = abandoned("stop: {timeout: 300ms}");
        site.configure(&format!("workers:\n{OTHER}"));
        let master = site.run();
        until(|| hears_signals(master.pid()));
        master.signal("STOP");
        signals.iter().for_each(|signal| master.signal(signal));
        master.signal("CONT");
        let (status, said) = master.stop();
        // The one that was left had to be killed.
        assert!([Some(0), Some(1)].contains(&status.code()), "{signals:?}: {status} {said}");
        assert!(said.contains("asked to end"), "{said}");
        assert!(!lives(pid) && site.all().is_empty(), "{said}");
    }
}

/// Whether the last signal that a master wants to hear has its handler.
fn hears_signals(pid: u32) -> bool {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    let caught = status.lines().find_map(|line| line.strip_prefix("SigCgt:"));
    let caught = caught.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok());
    caught.is_some_and(|mask| mask >> 63 == 1)
}

#[test]
fn the_next_life_of_a_worker_begins_when_what_is_left_of_it_has_ended() {
    let (site, pid) = abandoned(SLOW);
    // It is not to outlive its master any more, so it does not go on either.
    site.configure(&format!("workers:\n- {{ id: w, command: [sleep, '1000'] }}\n{OTHER}"));
    let mut master = next(&site, pid);
    master.runs("other#1");
    assert!(ask(&site, &["start", "w", "--no-wait"]).status.success());
    assert_eq!(ask(&site, &["status", "w"]).status.code(), Some(0));
    assert!(lives(pid));
    assert!(!master.seen.iter().any(|line| line.contains("w#2 is running")));
    assert!(kill(pid, "KILL"));
    let next = master.runs("w#2");
    assert_eq!(site.of("w"), [next]);
    until(|| site.record("w")["process"]["pid"] == next);
    assert!(master.stop().0.success());
}

#[test]
fn what_is_left_is_killed_in_time_whatever_its_worker_has_become() {
    let (site, pid) = abandoned("stop: {timeout: 300ms}");
    // Nothing that this master could kill by itself.
    let unmanaged = "- { id: w, unmanaged: { pid_file: /nowhere/pid } }\n";
    site.configure(&format!("workers:\n{unmanaged}{OTHER}"));
    let mut master = next(&site, pid);
    master.runs("other#1");
    until(|| !lives(pid));
    let (status, said) = master.stop();
    assert!(status.success(), "{status}: {said}");
}

#[test]
fn what_is_put_back_into_the_configuration_comes_when_what_is_left_has_gone() {
    let (site, pid) = abandoned(SLOW);
    site.configure(&format!("workers:\n{OTHER}"));
    let mut master = next(&site, pid);
    master.runs("other#1");
    site.configure(&format!("workers:\n{OTHER}- {{ id: w, command: [sleep, '1000'] }}\n"));
    master.signal("HUP");
    master.until("reload: add     w: it is new");
    assert!(lives(pid));
    assert!(kill(pid, "KILL"));
    let next = master.runs("w#2");
    master.until("reload: 1 of 1 steps are done");
    assert_eq!(site.of("w"), [next]);
    assert!(master.stop().0.success());
}

#[test]
fn what_no_record_knows_ends_in_its_own_time() {
    let (site, pid) = abandoned(SLOW);
    let record = fs::read_to_string(site.record_file("w")).unwrap();
    fs::write(site.record_file("w"), &record[..record.len() / 2]).unwrap();
    // As if it had had lives before.
    site.configure(&format!("workers:\n- {{ id: w, command: [sleep, '1000'], {SLOW} }}\n{OTHER}"));
    let mut master = next(&site, pid);
    master.runs("other#1");
    assert!(lives(pid), "it has ten minutes");
    assert_eq!(site.record("w")["process"]["pid"], pid);
    assert!(kill(pid, "KILL"));
    let next = master.runs("w#2");
    assert_eq!(site.of("w"), [next]);
    assert!(master.stop().0.success());
}

#[test]
fn what_has_left_the_group_of_what_is_left_does_not_end_before_it() {
    let command = "command: [/bin/sh, -c, \"trap '' TERM; setsid sleep 1000 & echo on; \
                   while :; do sleep 1000 & wait; done\"]";
    let worker = format!("- {{ id: w, {command}, {SLOW}, on_master_exit: keep }}\n");
    let site = Site::new(&format!("workers:\n{worker}"));
    let mut first = site.run();
    let pid = first.runs("w#1");
    first.until("w | on");
    let is_apart = |other: &u32| *other != pid && group_of(*other) == Some(*other);
    until(|| site.of("w").iter().any(is_apart));
    let apart = site.of("w").into_iter().find(is_apart).unwrap();
    site.recorded("w");
    first.kill();
    site.configure(&format!("workers:\n{OTHER}"));
    let mut master = next(&site, pid);
    master.runs("other#1");
    assert!(lives(pid) && lives(apart));
    assert!(kill(pid, "KILL"));
    assert!(master.stop().0.success());
}

fn group_of(pid: u32) -> Option<u32> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    stat.rsplit(')').next()?.split_whitespace().nth(2)?.parse().ok()
}
