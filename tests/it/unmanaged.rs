//! Processes that somebody else starts, as a master's workers: found, watched, let go of or ended,
//! and looked for again (FAULTS S07; which ones are refused is tested beside the code that finds
//! them).

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use hsu_master::{
    ErrorCategory, Exit, HealthCheckConfig, HealthCheckType, HealthStatus, Master, MasterConfig,
    RestartConfig, StopConfig, UnmanagedConfig, WaitFor, WorkerConfig, WorkerState,
};

use crate::support::{Bench, PATIENCE, ms, quick, until};

const UP: [&str; 4] = ["initializing", "initialized", "starting", "running"];

/// A process of nobody's, by its pid; killed when it is dropped.
pub(crate) struct Stranger {
    pid: u32,
    directory: tempfile::TempDir,
}

impl Stranger {
    /// Runs a program and has its pid written into a file.
    pub(crate) fn new(command: &str) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("pid");
        Self { pid: start(command, &file), directory }
    }

    fn asleep() -> Self {
        Self::new("exec /bin/sleep 1000")
    }

    pub(crate) fn pid_file(&self) -> PathBuf {
        self.directory.path().join("pid")
    }

    /// Starts another one in its place, as its own supervisor would.
    fn start_again(&mut self, command: &str) {
        self.pid = start(command, &self.pid_file());
    }

    pub(crate) fn lives(&self) -> bool {
        lives(self.pid)
    }

    fn kill(&self) {
        signal("KILL", self.pid);
        until(|| !self.lives());
    }
}

impl Drop for Stranger {
    fn drop(&mut self) {
        if self.lives() {
            signal("KILL", self.pid);
        }
    }
}

/// Starts a process whose parent ends at once, so that it is not this test's.
fn start(command: &str, pid_file: &Path) -> u32 {
    let script = format!(
        "{command} </dev/null >/dev/null 2>&1 & echo $! > \"$1.new\"; mv \"$1.new\" \"$1\""
    );
    let mut shell = Command::new("/bin/sh");
    assert!(shell.args(["-c", &script, "sh"]).arg(pid_file).status().unwrap().success());
    let pid = fs::read_to_string(pid_file).unwrap().trim().parse().unwrap();
    // It is the shell's copy until it has become its own program, which nobody tells.
    let is_a_copy =
        || fs::read_to_string(format!("/proc/{pid}/cmdline")).unwrap().contains(&script);
    until(|| !is_a_copy());
    pid
}

pub(crate) fn lives(pid: u32) -> bool {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    stat.rsplit(')').next().is_some_and(|rest| !rest.is_empty() && !rest.starts_with(" Z"))
}

pub(crate) fn signal(name: &str, pid: u32) {
    let pid = pid.to_string();
    let _ = Command::new("kill").args(["-s", name, &pid]).stderr(Stdio::null()).status();
}

fn bench() -> Bench {
    Bench::new(Master::builder())
}

fn worker(id: &str, stranger: &Stranger, may: bool) -> WorkerConfig {
    let what = UnmanagedConfig::pid_file(stranger.pid_file()).can_terminate(may);
    WorkerConfig::unmanaged(id, what)
}

#[test]
fn it_is_shown_and_let_go_of_when_it_is_not_ours_to_end() {
    let (bench, stranger) = (bench(), Stranger::asleep());
    bench.add(worker("w", &stranger, false));
    bench.master.start_worker("w").unwrap();
    bench.sees("w", &UP);
    let known = bench.known("w");
    assert_eq!(known.pid, Some(stranger.pid));
    assert!(!known.capabilities.killable && known.capabilities.isolated);
    assert_eq!((known.health, known.capabilities.health), (HealthStatus::None, false));
    bench.master.stop_worker("w").unwrap();
    bench.sees("w", &["stopping: command", "stopped"]);
    assert!(stranger.lives());
    let known = bench.known("w");
    assert_eq!((known.pid, known.exit), (None, Some(Exit::LetGo)));
    // Found again, and let go of again, also when the whole master ends.
    bench.master.start_worker("w").unwrap();
    assert_eq!(bench.known("w").pid, Some(stranger.pid));
    let story = bench.finish();
    assert_eq!((story.report.killed.len(), story.report.stuck.len()), (0, 0));
    assert!(stranger.lives());
}

#[test]
fn a_stop_ends_what_is_ours_to_end_and_kills_what_does_not_heed_it() {
    let bench = bench();
    let meek = Stranger::asleep();
    let deaf = Stranger::new("exec /bin/sh -c 'trap \"\" TERM; while :; do sleep 1; done'");
    let patient = StopConfig::default().timeout(PATIENCE);
    bench.add(worker("meek", &meek, true).stop(patient));
    bench.add(worker("deaf", &deaf, true).stop(StopConfig::default().timeout(ms(50))));
    for (id, stranger) in [("meek", &meek), ("deaf", &deaf)] {
        bench.master.start_worker(id).unwrap();
        assert!(bench.known(id).capabilities.killable);
        bench.master.stop_worker(id).unwrap();
        assert!(!stranger.lives(), "{id}");
        assert_eq!(bench.known(id).exit, Some(Exit::Unknown), "{id}");
    }
    bench.finish();
}

#[test]
fn its_end_is_noticed_and_whoever_comes_next_is_found() {
    let (bench, mut stranger) = (bench(), Stranger::asleep());
    let restart = quick().max_retries(0).max_delay(ms(20));
    bench.add(worker("w", &stranger, false).restart(restart));
    bench.master.start_worker("w").unwrap();
    bench.sees("w", &UP);
    stranger.kill();
    bench.sees("w", &["failed: unknown"]);
    // The file names one that has ended: looked for again and again, never given up.
    let known = bench.once("w", |known| known.restarts > 8);
    let error = known.last_error.unwrap();
    assert_eq!(error.category, ErrorCategory::NotRunning, "{}", error.message);
    assert!(!known.gave_up);
    stranger.start_again("exec /bin/sleep 1000");
    let known = bench.once("w", |known| known.state == WorkerState::Running);
    assert_eq!(known.pid, Some(stranger.pid));
    bench.finish();
    assert!(stranger.lives());
}

#[test]
fn without_a_word_it_is_looked_for_for_ever_and_every_few_seconds() {
    let config = WorkerConfig::unmanaged("w", UnmanagedConfig::pid_file("/nowhere/pid"));
    let read = "{id: w, unmanaged: {pid_file: /nowhere/pid}}";
    assert_eq!(WorkerConfig::from_yaml(read).unwrap(), config);
    assert_eq!(config.restart.max_retries, 0);
    assert_eq!(config.restart.max_delay, Duration::from_secs(5));
    let text = "
defaults: {restart: {policy: on-failure, max_delay: 9s}}
workers: [{id: w, unmanaged: {port: 1}, restart: {retry_delay: 7s}}, {id: x, command: y}]
";
    let read = MasterConfig::from_yaml(text).unwrap();
    let told: Vec<_> = read.workers.iter().map(|worker| worker.restart.clone()).collect();
    let mine = RestartConfig::default().max_delay(Duration::from_secs(9));
    let others = mine.clone().max_retries(0).retry_delay(Duration::from_secs(7));
    assert_eq!(told, [others, mine]);

    let bench = bench();
    bench.add(config.restart(quick().max_retries(0)));
    let error = bench.master.start_worker("w").unwrap_err();
    assert_eq!(error.category(), ErrorCategory::NotRunning);
    assert!(error.to_string().contains("pid file /nowhere/pid does not exist"), "{error}");
    bench.once("w", |known| known.restarts > 3);
    bench.finish();
}

#[test]
fn it_is_healthy_while_it_is_there() {
    let (bench, stranger) = (bench(), Stranger::asleep());
    let check = HealthCheckConfig::every(ms(5)).check_type(HealthCheckType::Process);
    bench.add(worker("w", &stranger, false).health_check(check.clone()));
    bench.add(WorkerConfig::executable("own", "/bin/sleep").args(["1000"]).health_check(check));
    for id in ["w", "own"] {
        bench.master.start_worker(id).unwrap();
        bench.master.wait_for(id, WaitFor::Healthy, PATIENCE).unwrap();
        assert!(bench.known(id).capabilities.health);
    }
    stranger.kill();
    bench.once("w", |known| known.state == WorkerState::Failed);
    assert_eq!(bench.known("w").health, HealthStatus::None);
    bench.finish();
}

#[test]
fn it_is_found_by_what_it_is_called_and_by_its_port() {
    let bench = bench();
    // This very test may be running twice.
    let argument = format!("7654.{}", std::process::id());
    let named = Stranger::new(&format!("exec /bin/sleep {argument}"));
    let what = UnmanagedConfig::process_name("sleep").process_args([argument]);
    bench.add(WorkerConfig::unmanaged("named", what));
    bench.master.start_worker("named").unwrap();
    assert_eq!(bench.known("named").pid, Some(named.pid));

    if Command::new("python3").arg("-V").stdout(Stdio::null()).status().is_err() {
        crate::support::skipped("no python3: who listens on a port is not looked for");
        return;
    }
    let listen = "import socket, sys, time; s = socket.socket(); s.bind((\"127.0.0.1\", 0)); \
                  s.listen(); open(sys.argv[1], \"w\").write(str(s.getsockname()[1]) + \"\\n\"); \
                  time.sleep(1000)";
    let listener =
        Stranger::new(&format!("exec python3 -c '{listen}' '{}'", bench.voice().display()));
    let port = bench.hears().parse().unwrap();
    bench.add(WorkerConfig::unmanaged("listener", UnmanagedConfig::port(port)));
    bench.master.start_worker("listener").unwrap();
    assert_eq!(bench.known("listener").pid, Some(listener.pid));
    listener.kill();
    bench.sees("listener", &UP);
    bench.sees("listener", &["failed: unknown"]);
    bench.finish();
}

#[test]
fn a_restart_asked_for_ends_one_and_waits_for_the_next() {
    let (bench, mut stranger) = (bench(), Stranger::asleep());
    bench.add(worker("w", &stranger, true).restart(quick().max_retries(0).max_delay(ms(20))));
    bench.master.start_worker("w").unwrap();
    let first = stranger.pid;
    let _ = bench.master.restart_worker("w", false);
    assert!(!lives(first));
    stranger.start_again("exec /bin/sleep 1000");
    let known = bench.once("w", |known| known.state == WorkerState::Running);
    assert_eq!(known.pid, Some(stranger.pid));
    bench.finish();
    assert!(!stranger.lives());
}
