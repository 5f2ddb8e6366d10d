//! Masters that are killed, and what is left of them.

use std::fs;
use std::io::{BufRead, BufReader};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use hsu_master::crossbeam_channel::{Receiver, bounded, unbounded};

pub(crate) const LONG: Duration = Duration::from_secs(60);

/// A state directory and a configuration beside it, over the lives of several masters.
pub(crate) struct Site {
    directory: tempfile::TempDir,
}

impl Site {
    pub(crate) fn new(workers: &str) -> Self {
        let site = Self { directory: tempfile::tempdir().unwrap() };
        site.configure(workers);
        site
    }

    pub(crate) fn configure(&self, workers: &str) {
        let yaml = format!("master: {{ state_dir: {} }}\n{workers}", self.state().display());
        fs::write(self.path().join("workers.yaml"), yaml).unwrap();
    }

    pub(crate) fn path(&self) -> &Path {
        self.directory.path()
    }

    pub(crate) fn state(&self) -> PathBuf {
        self.path().join("state")
    }

    pub(crate) fn record_file(&self, worker: &str) -> PathBuf {
        self.state().join("workers").join(format!("{worker}.json"))
    }

    /// What is written down about a worker now.
    pub(crate) fn record(&self, worker: &str) -> serde_json::Value {
        let text = fs::read(self.record_file(worker)).unwrap_or_default();
        serde_json::from_slice(&text).unwrap_or_default()
    }

    /// Waits until a worker's process is written down, and returns its pid.
    pub(crate) fn recorded(&self, worker: &str) -> u32 {
        let pid = || self.record(worker)["process"]["pid"].as_u64();
        until(|| pid().is_some());
        pid().unwrap().try_into().unwrap()
    }

    pub(crate) fn run(&self) -> Running {
        self.run_under(&[])
    }

    /// Runs a master behind a command.
    pub(crate) fn run_under(&self, prefix: &[&str]) -> Running {
        self.run_program(env!("CARGO_BIN_EXE_hsu-master"), prefix)
    }

    /// Runs an application.
    pub(crate) fn run_program(&self, binary: &str, prefix: &[&str]) -> Running {
        let mut command = match prefix {
            [] => Command::new(binary),
            [program, arguments @ ..] => {
                let mut command = Command::new(program);
                command.args(arguments).arg(binary);
                command
            }
        };
        command.args(["run", "-c", "workers.yaml"]).current_dir(self.path());
        command.env_remove("RUST_LOG").env("HSU_STATE_DIR", self.state());
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped());
        // Its group is its own, as under any shell.
        let mut child = command.process_group(0).spawn().unwrap();
        let (sender, lines) = unbounded();
        let stderr = BufReader::new(child.stderr.take().unwrap());
        let read = move || {
            for line in stderr.lines().map_while(Result::ok) {
                let _ = sender.send(line);
            }
        };
        std::thread::Builder::new().spawn(read).unwrap();
        Running { child, lines, seen: Vec::new() }
    }
}

impl Drop for Site {
    /// Nothing of a failed test stays: whoever was started with this state directory.
    fn drop(&mut self) {
        for pid in self.all() {
            kill(pid, "KILL");
        }
    }
}

impl Site {
    /// All processes of masters of this site, whoever they belong to by now: by what they inherit.
    pub(crate) fn all(&self) -> Vec<u32> {
        let mark = format!("HSU_STATE_DIR={}", self.state().display());
        let has_mark = |pid: &u32| environment(*pid).contains(&mark);
        pids().into_iter().filter(has_mark).collect()
    }

    /// The processes of one worker.
    pub(crate) fn of(&self, worker: &str) -> Vec<u32> {
        let mark = format!("HSU_WORKER_ID={worker}");
        let is_of = |pid: &u32| environment(*pid).contains(&mark);
        self.all().into_iter().filter(is_of).collect()
    }

    /// The guardians.
    pub(crate) fn guardians(&self) -> Vec<u32> {
        let is_guardian = |pid: &u32| {
            let command = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
            command.split(|byte| *byte == 0).any(|word| word == b"__hsu-guard")
        };
        self.all().into_iter().filter(is_guardian).collect()
    }
}

/// A running master and what it has said so far.
pub(crate) struct Running {
    child: Child,
    lines: Receiver<String>,
    pub(crate) seen: Vec<String>,
}

impl Running {
    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// The first line that contains `part`; reads on until there is one.
    #[track_caller]
    pub(crate) fn until(&mut self, part: &str) -> String {
        self.until_both(part, "")
    }

    /// As above, for a line that contains both.
    #[track_caller]
    pub(crate) fn until_both(&mut self, part: &str, other: &str) -> String {
        let fits = |line: &&String| line.contains(part) && line.contains(other);
        if let Some(line) = self.seen.iter().find(fits) {
            return line.clone();
        }
        // However much else is said meanwhile.
        let end = Instant::now() + 2 * LONG;
        loop {
            let Ok(line) = self.lines.recv_deadline(end) else {
                panic!("no line with {part:?} came; seen:\n{}", self.seen.join("\n"));
            };
            self.seen.push(line.clone());
            if fits(&&line) {
                return line;
            }
        }
    }

    /// Waits until an incarnation runs, and returns its pid.
    #[track_caller]
    pub(crate) fn runs(&mut self, life: &str) -> u32 {
        let line = self.until(&format!("{life} is running, pid "));
        line.rsplit(' ').next().unwrap().parse().unwrap()
    }

    /// Kills it, and only it, and waits until it is gone.
    pub(crate) fn kill(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    pub(crate) fn signal(&self, name: &str) {
        assert!(kill(self.pid(), name));
    }

    /// Everything that is still to be read, once nobody can write it any more.
    pub(crate) fn rest(&mut self) -> String {
        while let Ok(line) = self.lines.recv_timeout(LONG) {
            self.seen.push(line);
        }
        self.seen.join("\n")
    }

    /// Ends it once so many kept workers run.
    pub(crate) fn stop_when_up(mut self, count: usize) -> (ExitStatus, String) {
        for n in 0..count {
            self.until(&format!("keep{n}#1 is running"));
        }
        self.stop()
    }

    /// Waits for its end, by whatever.
    pub(crate) fn end(mut self) -> (ExitStatus, String) {
        let said = self.rest();
        (self.child.wait().unwrap(), said)
    }

    /// Asks it to end and waits for that.
    pub(crate) fn stop(mut self) -> (ExitStatus, String) {
        self.signal("TERM");
        let said = self.rest();
        (self.child.wait().unwrap(), said)
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// What `cargo test` has made of an example.
pub(crate) fn example(name: &str) -> PathBuf {
    let test = std::env::current_exe().unwrap();
    let path = test.parent().and_then(Path::parent).unwrap().join("examples").join(name);
    assert!(path.exists(), "{path:?} is missing: run `cargo build --examples` first");
    path
}

pub(crate) fn kill(pid: u32, signal: &str) -> bool {
    let mut command = Command::new("kill");
    command.args(["-s", signal, &pid.to_string()]).stderr(Stdio::null());
    command.status().unwrap().success()
}

pub(crate) fn pids() -> Vec<u32> {
    let names = fs::read_dir("/proc").unwrap().flatten();
    names.filter_map(|entry| entry.file_name().to_str()?.parse().ok()).collect()
}

/// A process's variables; none for one that has ended.
pub(crate) fn environment(pid: u32) -> Vec<String> {
    let bytes = fs::read(format!("/proc/{pid}/environ")).unwrap_or_default();
    bytes.split(|b| *b == 0).map(|text| String::from_utf8_lossy(text).into_owned()).collect()
}

/// True while the process lives; a zombie does not.
pub(crate) fn lives(pid: u32) -> bool {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat"));
    stat.is_ok_and(|stat| !stat.rsplit(')').next().unwrap_or("").trim_start().starts_with('Z'))
}

/// Waits until something is so that nobody tells: looks again whenever a moment has passed.
#[track_caller]
pub(crate) fn until(so: impl Fn() -> bool) {
    let (_silent, nothing) = bounded::<()>(0);
    let end = Instant::now() + LONG;
    while !so() {
        assert!(Instant::now() < end, "it never came to that");
        let _ = nothing.recv_timeout(Duration::from_millis(5));
    }
}

/// A process in the same session as everything else here, that nobody may touch.
pub(crate) struct Bystander(Child);

impl Bystander {
    pub(crate) fn new() -> Self {
        let mut command = Command::new("/bin/sleep");
        command.arg("1000").stdin(Stdio::null()).process_group(0);
        Self(command.spawn().unwrap())
    }

    pub(crate) fn pid(&self) -> u32 {
        self.0.id()
    }

    pub(crate) fn is_unharmed(&mut self) -> bool {
        self.0.try_wait().unwrap().is_none()
    }
}

impl Drop for Bystander {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}
