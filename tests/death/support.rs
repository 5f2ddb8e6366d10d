//! Masters that are killed, and what is left of them.

use std::fs;
use std::io::Write as _;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use hsu_master::crossbeam_channel::bounded;

pub(crate) use crate::running::{LONG, Running, signal as kill};

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
        self.run_at(Path::new(env!("CARGO_BIN_EXE_hsu-master")), prefix)
    }

    /// Runs the master at a path, behind a command.
    pub(crate) fn run_at(&self, binary: &Path, prefix: &[&str]) -> Running {
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
        self.run_command(command)
    }

    /// Runs a command that ends in a master.
    pub(crate) fn run_command(&self, mut command: Command) -> Running {
        command.stdout(Stdio::null());
        // Its group is its own, as under any shell.
        Running::start(command.process_group(0))
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

    /// The guardians that have a master, or have not yet ended what it has left.
    pub(crate) fn guardians(&self) -> Vec<u32> {
        self.guarding(false)
    }

    /// The guardians of former masters that hold what kept workers write into.
    pub(crate) fn keepers(&self) -> Vec<u32> {
        self.guarding(true)
    }

    fn guarding(&self, keeping: bool) -> Vec<u32> {
        let of = |pid: &u32, file| fs::read(format!("/proc/{pid}/{file}")).unwrap_or_default();
        let is_meant = |pid: &u32| {
            let keeps = of(pid, "comm") == b"hsu-keeper\n";
            let words = of(pid, "cmdline");
            keeps == keeping && words.split(|byte| *byte == 0).any(|word| word == b"__hsu-guard")
        };
        self.all().into_iter().filter(is_meant).collect()
    }
}

impl Running {
    pub(crate) fn signal(&self, name: &str) {
        assert!(kill(self.pid(), name));
    }

    /// Stops it without ending it, and waits until none of its threads runs.
    pub(crate) fn halt(&self) {
        self.signal("STOP");
        let tasks = format!("/proc/{}/task", self.pid());
        let is_halted = |task: fs::DirEntry| {
            let stat = fs::read_to_string(task.path().join("stat"));
            stat.map_or(true, |stat| stat.contains(") T "))
        };
        until(|| fs::read_dir(&tasks).unwrap().flatten().all(is_halted));
    }

    /// The first line that contains both; reads on until there is one.
    #[track_caller]
    pub(crate) fn until_both(&mut self, part: &str, other: &str) -> String {
        self.until_nth(1, part, |line| line.contains(part) && line.contains(other))
    }

    /// Reads until there is a line that contains `part`; false: it has ended without one.
    pub(crate) fn until_or_end(&mut self, part: &str) -> bool {
        while let Ok(line) = self.lines.recv_timeout(LONG) {
            self.seen.push(line);
            if self.seen.last().is_some_and(|line| line.contains(part)) {
                return true;
            }
        }
        false
    }

    /// Asks it to end. False: it has ended already.
    pub(crate) fn ask_to_end(&self) -> bool {
        kill(self.pid(), "TERM")
    }

    /// Reads so many lines more.
    #[track_caller]
    pub(crate) fn hear(&mut self, lines: usize) {
        if lines > 0 {
            self.until_nth(self.seen.len() + lines, "anything", |_| true);
        }
    }

    /// Waits until an incarnation runs, started or adopted, and returns its pid.
    #[track_caller]
    pub(crate) fn runs(&mut self, life: &str) -> u32 {
        let line = self.until(&format!("{life} is running, "));
        line.rsplit(' ').next().unwrap().parse().unwrap()
    }

    /// Kills it, and only it, and waits until it is gone.
    pub(crate) fn kill(&mut self) {
        self.signal("KILL");
        self.reap();
    }

    /// Ends it once so many kept workers run.
    pub(crate) fn stop_when_up(mut self, count: usize) -> (ExitStatus, String) {
        for n in 0..count {
            self.until(&format!("keep{n}#1 is running"));
        }
        self.stop()
    }

    /// Asks it to end and waits for that.
    pub(crate) fn stop(self) -> (ExitStatus, String) {
        self.signal("TERM");
        self.end()
    }
}

/// Says why a test did nothing here.
pub(crate) fn skipped(why: &str) {
    let _ = writeln!(std::io::stderr(), "SKIPPED: {why}");
}

/// What `cargo test` has made of an example.
pub(crate) fn example(name: &str) -> PathBuf {
    let test = std::env::current_exe().unwrap();
    let path = test.parent().and_then(Path::parent).unwrap().join("examples").join(name);
    assert!(path.exists(), "{path:?} is missing: run `cargo build --examples` first");
    path
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
