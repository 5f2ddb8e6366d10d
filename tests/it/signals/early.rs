//! Signals that come before there is a master to command.

use std::fs;

use super::{NAP, Program};
use crate::support::{skipped, until};

impl Program {
    /// Stops it, as soon as it hears signals, in whatever it does by then; these wait for it when
    /// it goes on.
    fn gets_early(&self, signals: &[&str]) {
        until(|| self.hears_signals());
        self.signal("STOP");
        signals.iter().for_each(|signal| self.signal(signal));
        self.signal("CONT");
    }

    /// Whether the last signal that it wants to hear has its handler.
    fn hears_signals(&self) -> bool {
        self.mask("SigCgt") >> 63 == 1
    }

    /// The names of all threads that hold back a signal, and what.
    fn threads_that_hold_back(&self) -> Vec<String> {
        let threads = fs::read_dir(format!("/proc/{}/task", self.pid)).unwrap();
        let statuses = threads.flatten().map(|thread| thread.path().join("status"));
        // One that is gone has none.
        let statuses = statuses.filter_map(|status| fs::read_to_string(status).ok());
        let held_back = statuses.filter_map(|status| {
            let mut lines = status.lines();
            let name = lines.next()?;
            let mask = lines.find(|line| line.starts_with("SigBlk:"))?;
            (!mask.ends_with("0000000000000000")).then(|| format!("{name} {mask}"))
        });
        held_back.collect()
    }

    /// A set of signals of its main thread's.
    pub(super) fn mask(&self, name: &str) -> u64 {
        let status = fs::read_to_string(format!("/proc/{}/status", self.pid)).unwrap_or_default();
        let mask = status.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
        mask.map_or(0, |mask| u64::from_str_radix(mask.trim(), 16).unwrap())
    }
}

/// A configuration that takes a while to read.
fn long() -> String {
    let workers: Vec<_> = (0..400)
        .map(|n| format!("- {{id: w{n}, command: sleep 1000, enabled: false}}\n"))
        .collect();
    format!("workers:\n{}{NAP}", workers.concat())
}

#[test]
fn s08_a_master_that_is_told_to_end_at_once_ends_in_order() {
    for signals in [&["TERM"][..], &["INT"], &["QUIT"], &["HUP", "USR1", "USR2", "TERM"]] {
        let program = Program::run(&long());
        program.gets_early(signals);
        program.ends_in_order();
    }
}

#[test]
fn s08_what_else_is_asked_for_early_is_done_when_the_master_is_there() {
    let mut program = Program::run(&long());
    program.gets_early(&["HUP", "USR1", "USR2"]);
    program.says("nap#1 is running");
    program.signal("USR1");
    program.says("nap#1 (pid ");
    program.signal("TERM");
    let (status, said) = program.end();
    assert_eq!(status.code(), Some(0), "{said}");
    for done in ["SIGHUP: reloading", "SIGUSR1: 401 workers", "SIGUSR2: log files are opened"] {
        assert!(said.contains(done), "{done}: {said}");
    }
}

#[test]
fn s24_signals_that_were_held_back_at_the_start_are_heard_and_reach_workers() {
    let hold = ["env", "--block-signal=TERM", "--block-signal=HUP", "--block-signal=USR1"];
    let mut trial = std::process::Command::new(hold[0]);
    if !trial.args(&hold[1..]).arg("true").output().is_ok_and(|ended| ended.status.success()) {
        skipped("env(1) cannot hold back signals here");
        return;
    }
    let worker = "- {id: w, command: [/bin/sh, -c, 'grep SigBlk /proc/self/status; sleep 1000']}";
    let mut program = Program::behind(&hold, &format!("workers:\n{worker}\n"));
    program.pid = program.child.id();
    assert!(program.says("SigBlk").ends_with("0000000000000000"));
    assert_eq!(program.mask("SigBlk"), 0);
    // Nor does any thread, not the one either that hears them or what that one starts.
    program.signal("HUP");
    program.says("SIGHUP: ");
    program.signal("USR1");
    program.says("SIGUSR1: ");
    // But for the one that is still in a signal's handler.
    until(|| program.threads_that_hold_back().is_empty());
    program.signal("TERM");
    program.ends_in_order();
}
