//! The README's session is executed, line by line, and must show what the README shows.
#![cfg(target_os = "linux")]
#![expect(clippy::unwrap_used, reason = "helpers of tests are tests")]

#[path = "support/running.rs"]
mod running;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Instant;

use running::{LONG, Running};

/// What is typed, and what the README says comes of it.
struct Step {
    line: String,
    shown: String,
}

/// The steps of the block of the section that begins with this heading.
fn steps(heading: &str) -> Vec<Step> {
    let readme = Path::new(env!("CARGO_MANIFEST_DIR")).join("README.md");
    let readme = fs::read_to_string(readme).unwrap();
    let section = readme.split_once(&format!("\n{heading}\n")).unwrap().1;
    let block = section.split_once("\n```console\n").unwrap().1.split_once("\n```").unwrap().0;
    let mut steps: Vec<Step> = Vec::new();
    for line in block.lines() {
        if let Some(line) = line.strip_prefix("$ ") {
            steps.push(Step { line: line.to_owned(), shown: String::new() });
        } else {
            let step = steps.last_mut().unwrap();
            step.shown.push_str(line);
            step.shown.push('\n');
        }
    }
    steps
}

/// A text without what differs from one run to the next: moments, durations, and numbers of more
/// than one digit, such as pids. How wide a column is depends on them.
fn plain(text: &str) -> Vec<String> {
    let line = |line: &str| line.split_whitespace().map(word).collect::<Vec<_>>().join(" ");
    text.lines().map(line).collect()
}

fn word(word: &str) -> String {
    let inner = word.trim_matches(|char: char| "(),.;:".contains(char));
    let digits = inner.chars().filter(char::is_ascii_digit).count();
    let only = |allowed: &str| inner.chars().all(|c| c.is_ascii_digit() || allowed.contains(c));
    let kind = if inner.contains('T') && only("TZ:.-") {
        "<moment>"
    } else if digits > 0 && inner.ends_with(['s', 'm', 'h']) && only("dhms") {
        "<time>"
    } else if digits > 1 && only("") {
        "<number>"
    } else {
        return word.to_owned();
    };
    word.replace(inner, kind)
}

/// The directory of the session, and the master in its background.
struct Session {
    directory: tempfile::TempDir,
    path: String,
    background: Option<Running>,
}

impl Session {
    fn new() -> Self {
        let binary = PathBuf::from(env!("CARGO_BIN_EXE_hsu-master"));
        let found = std::env::var("PATH").unwrap();
        let path = format!("{}:{found}", binary.parent().unwrap().display());
        Self { directory: tempfile::tempdir().unwrap(), path, background: None }
    }

    fn shell(&self, line: &str) -> Command {
        let mut shell = Command::new("/bin/sh");
        shell.args(["-c", line]).current_dir(self.directory.path()).env("PATH", &self.path);
        for name in ["RUST_LOG", "HSU_CONFIG", "HSU_SOCKET"] {
            shell.env_remove(name);
        }
        // Not where a master of this machine could be.
        shell.env("HSU_STATE_DIR", self.directory.path().join("state")).stdin(Stdio::null());
        shell
    }

    /// What a line shows, on both outputs.
    fn type_in(&mut self, line: &str) -> String {
        if let Some(command) = line.strip_suffix(" &") {
            self.put_aside(command);
            return String::new();
        }
        let output = self.shell(&format!("exec 2>&1; {line}")).output().unwrap();
        String::from_utf8(output.stdout).unwrap()
    }

    /// Starts a master, and goes on once it listens. What it writes to a file goes here.
    fn put_aside(&mut self, command: &str) {
        let command = command.split(" 2> ").next().unwrap();
        let mut shell = self.shell(&format!("exec {command}"));
        let mut master = Running::start(shell.stdout(Stdio::null()));
        master.until("listening on ");
        self.background = Some(master);
    }

    /// Does one step. A status may be asked for until it is as it is shown: what led to it is
    /// noticed when it has happened, not when the shell has returned.
    fn step(&mut self, Step { line, shown }: &Step) {
        if let Some(file) = line.strip_prefix("cat ") {
            let file = self.directory.path().join(file);
            if !file.exists() {
                fs::write(file, shown).unwrap();
            }
        }
        let end = Instant::now() + LONG;
        loop {
            let seen = self.type_in(line);
            let (seen_plain, shown_plain) = (plain(&seen), plain(shown));
            if seen_plain == shown_plain {
                return;
            }
            let again = line.starts_with("hsu-master status") && Instant::now() < end;
            assert!(
                again,
                "$ {line}\n{seen}\nbut the README shows\n{shown}\nthat is\n{seen_plain:#?}\n\
                 and not\n{shown_plain:#?}"
            );
        }
    }
}

#[test]
fn the_session_goes_as_the_readme_shows() {
    let mut session = Session::new();
    for step in steps("## A session") {
        session.step(&step);
    }
    assert!(session.background.unwrap().end().0.success());
}

#[test]
fn what_differs_from_run_to_run_is_left_out() {
    let text = "a  4711 1m02s 0 exit 3 (27ms ago), in 4m59s. 2026-11-26T00:07:31.210Z: web#1";
    let expected = "a <number> <time> 0 exit 3 (<time> ago), in <time>. <moment>: web#1";
    assert_eq!(plain(text), [expected]);
}
