//! The real binary and the signals it gets, in every state it can be in (FAULTS S08 to S11, S13,
//! S24, S26; contract, section 9).

mod early;
mod states;
mod storm;
#[cfg(feature = "plugins")]
mod stuck;

use std::fs;
use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};

use hsu_master::crossbeam_channel::{Receiver, unbounded};

use crate::support::{Fifo, PATIENCE, skipped};

/// A master in a directory of its own, and what it has said so far.
struct Program {
    directory: tempfile::TempDir,
    child: Child,
    /// The master, where something stands before it.
    pid: u32,
    lines: Receiver<String>,
    seen: Vec<String>,
}

impl Program {
    fn run(yaml: &str) -> Self {
        let mut program = Self::behind(&[], yaml);
        program.pid = program.child.id();
        program
    }

    /// A master that the command `prefix` runs.
    fn behind(prefix: &[&str], yaml: &str) -> Self {
        let directory = tempfile::tempdir().unwrap();
        fs::write(directory.path().join("workers.yaml"), yaml).unwrap();
        let binary = env!("CARGO_BIN_EXE_hsu-master");
        let words: Vec<&str> = prefix.iter().copied().chain([binary, "run"]).collect();
        let mut command = Command::new(words[0]);
        command.args(&words[1..]).current_dir(directory.path()).env_remove("RUST_LOG");
        command.env("HSU_STATE_DIR", directory.path().join("state"));
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped());
        let mut child = command.spawn().unwrap();
        let (tell, lines) = unbounded();
        let from = BufReader::new(child.stderr.take().unwrap());
        let read = move || {
            for line in from.lines().map_while(Result::ok) {
                let _ = tell.send(line);
            }
        };
        std::thread::Builder::new().spawn(read).unwrap();
        Self { directory, child, pid: 0, lines, seen: Vec::new() }
    }

    fn path(&self) -> &Path {
        self.directory.path()
    }

    fn configure(&self, yaml: &str) {
        fs::write(self.path().join("workers.yaml"), yaml).unwrap();
    }

    /// Waits for the next line with this text.
    #[track_caller]
    fn says(&mut self, part: &str) -> String {
        loop {
            let Ok(line) = self.lines.recv_timeout(PATIENCE) else {
                panic!("no line with {part:?} came; seen:\n{}", self.seen.join("\n"));
            };
            self.seen.push(line.clone());
            if line.contains(part) {
                return line;
            }
        }
    }

    fn signal(&self, signal: &str) {
        let pid = self.pid.to_string();
        assert!(Command::new("kill").args(["-s", signal, &pid]).status().unwrap().success());
    }

    /// Waits for the end.
    fn end(mut self) -> (ExitStatus, String) {
        while let Ok(line) = self.lines.recv_timeout(PATIENCE) {
            self.seen.push(line);
        }
        (self.child.wait().unwrap(), self.seen.join("\n"))
    }

    #[track_caller]
    fn ends_in_order(self) {
        let (status, said) = self.end();
        assert_eq!(status.code(), Some(0), "{said}");
        assert!(said.contains("all workers are stopped"), "{said}");
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

const NAP: &str = "- {id: nap, command: sleep 1000}\n";

#[test]
fn s11_a_hangup_reloads_and_a_file_with_mistakes_changes_nothing() {
    let mut program = Program::run(&format!("workers:\n{NAP}"));
    program.says("nap#1 is running");
    program.configure("workers:\n- {id: nap, comand: sleep 1000}\n");
    program.signal("HUP");
    program.says("not reloaded, nothing changed: ");
    program.configure(&format!(
        "master: {{log_level: debug}}\nworkers:\n{NAP}- {{id: b, command: sleep 9999}}\n"
    ));
    program.signal("HUP");
    program.says("reload: add     b: it is new");
    program.says("reload: set     master.log_level");
    program.says("reload: 1 worker is unchanged");
    program.says("DEBUG master | b#1: ");
    program.says("b#1 is running");
    program.configure(&format!("workers:\n{NAP}"));
    program.signal("HUP");
    program.says("reload: remove  b: ");
    program.signal("USR1");
    program.says("SIGUSR1: 1 workers");
    program.says("nap#1 (pid ");
    program.signal("TERM");
    program.ends_in_order();
}

const PATIENT: &str = "master: {shutdown_timeout: 10m}\n";
/// Does not end when asked. It says "on".
const DEAF: &str = "- {id: deaf, stop: {timeout: 10m}, command: [/bin/sh, -c, \
    \"trap '' TERM; echo on; while :; do sleep 1000 & wait; done\"]}\n";

#[test]
fn s11_during_the_shutdown_a_hangup_is_logged_and_nothing_else() {
    let mut program = Program::run(&format!("{PATIENT}workers:\n{DEAF}"));
    program.says("deaf | on");
    program.signal("TERM");
    program.says("asked to end: stopping all workers");
    program.configure(&format!("workers:\n{NAP}"));
    program.signal("HUP");
    program.says("not reloaded, nothing changed: the master is shutting down");
    program.signal("INT");
    let (status, said) = program.end();
    assert_eq!(status.code(), Some(1), "{said}");
    assert!(said.contains("had to be killed: deaf") && !said.contains("nap#1"), "{said}");
}

#[test]
fn s09_the_first_asks_the_second_kills_and_the_third_leaves_with_a_list() {
    // All three at once, so that the third finds the worker that the second kills.
    let mut program = Program::run(&format!("{PATIENT}workers:\n{DEAF}"));
    program.says("deaf | on");
    program.signal("STOP");
    for signal in ["TERM", "INT", "QUIT"] {
        program.signal(signal);
    }
    program.signal("CONT");
    // What was logged just before may be lost in the haste.
    let (status, said) = program.end();
    assert_eq!(status.code(), Some(1), "{said}");
    assert!(said.contains("leaving at once; left: "), "{said}");
}

#[test]
fn s10_a_master_that_starts_500_workers_ends_when_it_is_told_to() {
    // However slow the machine is, none of them is killed.
    let mut program = Program::run(&format!(
        "{PATIENT}defaults: {{stop: {{timeout: 10m}}}}\n\
         workers:\n- {{id: w, replicas: 500, command: sleep 1000}}\n"
    ));
    program.says("#1 is running");
    program.signal("TERM");
    program.ends_in_order();
}

#[test]
fn s08_a_master_ends_in_order_from_every_state() {
    for (workers, state) in [
        ("[]", "starting 0 workers"),
        ("[{id: w, command: /no/such, restart: {policy: never}}]", "giving up"),
        ("[{id: w, command: 'false', restart: {retry_delay: 10m}}]", "w#1 failed"),
        ("[{id: w, command: 'true'}]", "has completed"),
    ] {
        for signal in ["TERM", "INT", "QUIT"] {
            let mut program = Program::run(&format!("workers: {workers}\n"));
            program.says(state);
            program.signal(signal);
            program.ends_in_order();
        }
    }
}

#[test]
fn s08_a_master_ends_in_order_while_it_reloads() {
    // The reload waits for the end of one that takes its time to go, until it is told to.
    let gate = Fifo::new();
    let script = "trap 'echo asked; read x < $GATE; exit' TERM; echo on; \
                  while :; do sleep 1000 & wait; done";
    let mut program = Program::run(&format!(
        "{PATIENT}workers:\n- {{id: slow, stop: {{timeout: 10m}}, \
         command: [/bin/sh, -c, \"{script}\"], execution: {{environment: {{GATE: {}}}}}}}\n",
        gate.path.display()
    ));
    program.says("slow | on");
    program.configure(&format!("{PATIENT}workers:\n{NAP}"));
    program.signal("HUP");
    program.says("slow | asked");
    program.signal("TERM");
    program.says("asked to end");
    gate.write("go\n");
    let (status, said) = program.end();
    assert_eq!(status.code(), Some(0), "{said}");
    assert!(!said.contains("nap#1 is running"), "{said}");
}

/// SIGKILL and SIGSTOP cannot be handled; these mean that the program itself is broken.
const FATAL: [i32; 7] = [4, 5, 6, 7, 8, 11, 31];
/// The C library's own, for which nobody can have a handler.
const OF_THE_C_LIBRARY: [i32; 2] = [32, 33];
/// They end the master in order.
const END: [i32; 3] = [2, 3, 15];

#[test]
fn s13_no_signal_ends_the_master_unawares() {
    let mut program = Program::run(&format!("workers:\n{NAP}"));
    program.says("nap#1 is running");
    for signal in 1..=64 {
        let not_meant = [&[9, 19], &FATAL[..], &OF_THE_C_LIBRARY, &END].concat();
        if not_meant.contains(&signal) {
            continue;
        }
        program.signal(&signal.to_string());
        // Those that stop it need this, and the others do not mind.
        program.signal("CONT");
    }
    program.signal("USR1");
    program.says("signal 64 has no meaning here, ignored");
    program.signal("USR1");
    program.says("nap#1 (pid ");
    program.signal("TERM");
    program.ends_in_order();
}

#[test]
fn s24_as_the_first_process_it_ends_when_told_and_reaps_what_others_leave() {
    let first = ["unshare", "--map-root-user", "--pid", "--fork", "--mount-proc", "--kill-child"];
    let mut trial = Command::new(first[0]);
    if !trial.args(&first[1..]).arg("true").output().is_ok_and(|ended| ended.status.success()) {
        skipped("no process namespaces here");
        return;
    }
    let orphans = "for n in 1 2 3 4 5; do setsid -f true; done; echo left; exec sleep 1000";
    let mut program = Program::behind(
        &first,
        &format!("workers:\n- {{id: w, command: [/bin/sh, -c, '{orphans}']}}\n"),
    );
    program.says("w | left");
    // The first process of a namespace is the only child of what made it.
    let unshare = program.child.id();
    let children = fs::read_to_string(format!("/proc/{unshare}/task/{unshare}/children")).unwrap();
    program.pid = children.trim().parse().unwrap();
    let zombies = || {
        let list = format!("/proc/{0}/task/{0}/children", program.pid);
        let all = fs::read_to_string(list).unwrap();
        all.split_whitespace().any(|pid| {
            fs::read_to_string(format!("/proc/{pid}/stat")).is_ok_and(|stat| stat.contains(") Z "))
        })
    };
    crate::support::until(|| !zombies());
    program.signal("TERM");
    program.ends_in_order();
}

#[test]
fn s26_when_its_terminal_goes_a_hangup_is_the_end() {
    // `script` gives it a terminal of its own, and takes that away when it ends itself.
    let has_script = Command::new("script").arg("--version").output();
    if !has_script.is_ok_and(|ended| ended.status.success()) {
        skipped("there is no script(1) here");
        return;
    }
    let directory = tempfile::tempdir().unwrap();
    let yaml = format!("workers:\n{NAP}");
    fs::write(directory.path().join("workers.yaml"), yaml).unwrap();
    let binary = env!("CARGO_BIN_EXE_hsu-master");
    let inner = format!("exec {binary} run 2> log");
    let mut script = Command::new("script");
    script.args(["-q", "-c", &inner, "/dev/null"]).current_dir(directory.path());
    script.env("HSU_STATE_DIR", directory.path().join("state")).env_remove("RUST_LOG");
    let mut script = script.stdin(Stdio::piped()).stdout(Stdio::null()).spawn().unwrap();
    let log = || fs::read_to_string(directory.path().join("log")).unwrap_or_default();
    crate::support::until(|| log().contains("nap#1 is running"));
    script.kill().unwrap();
    script.wait().unwrap();
    crate::support::until(|| log().contains("all workers are stopped"));
    assert!(log().contains("SIGHUP: the terminal is gone"), "{}", log());
}

#[test]
fn the_main_workers_exit_code_is_the_masters() {
    for (script, code) in
        [("exit 0", 0), ("exit 42", 42), ("kill -KILL $$$$", 137), ("kill -TERM $$$$", 143)]
    {
        let program = Program::run(&format!(
            "workers:\n{NAP}- {{id: main, main: true, command: [/bin/sh, -c, '{script}']}}\n"
        ));
        let (status, said) = program.end();
        assert_eq!(status.code(), Some(code), "{script}: {said}");
    }
    let missing = Program::run("workers: [{id: main, main: true, command: /no/such}]\n");
    assert_eq!(missing.end().0.code(), Some(1));
    // The master is told to end: the main worker's own end still counts.
    let mut told = Program::run("workers: [{id: main, main: true, command: sleep 1000}]\n");
    told.says("main#1 is running");
    told.signal("TERM");
    assert_eq!(told.end().0.code(), Some(143));
}
