//! Processes that the kernel kills for want of memory, told apart from those that others kill
//! (FAULTS S15).

use std::fs;
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use hsu_master::{ErrorCategory, Exit, RestartConfig, RestartPolicy, WorkerConfig, WorkerState};

use super::{bench, shell};
use crate::support::{Bench, NEVER, skipped, until};

/// Processes may have so much there: enough for a shell, and soon eaten.
const ROOM: u64 = 16 << 20;

/// A memory cgroup of its own, while it lives.
struct Narrow(PathBuf);

impl Narrow {
    /// `None`: there is none to be had here.
    fn new() -> Option<Self> {
        let name = format!("hsu-test-{}", std::process::id());
        // Version 1 and version 2, and the files that bound memory there, with swap.
        let kinds = [
            ("/sys/fs/cgroup/memory", "memory.limit_in_bytes", "memory.memsw.limit_in_bytes"),
            ("/sys/fs/cgroup", "memory.max", "memory.swap.max"),
        ];
        kinds.into_iter().find_map(|(root, limit, swap)| {
            let root = Path::new(root);
            let narrow = root.join("cgroup.procs").exists().then(|| Self(root.join(&name)))?;
            fs::create_dir(&narrow.0).ok()?;
            fs::write(narrow.0.join(limit), ROOM.to_string()).ok()?;
            let most = if limit == "memory.max" { 0 } else { ROOM };
            // Where there is no swap there may be no such file.
            let _ = fs::write(narrow.0.join(swap), most.to_string());
            Some(narrow)
        })
    }
}

impl Drop for Narrow {
    /// It can be removed once nobody is in it any more, who is killed first.
    fn drop(&mut self) {
        let procs = self.0.join("cgroup.procs");
        let has_ended = || {
            let inside = fs::read_to_string(&procs).unwrap_or_default();
            inside.lines().for_each(|pid| drop(Command::new("kill").args(["-9", pid]).status()));
            fs::remove_dir(&self.0).is_ok() || !self.0.exists()
        };
        until(has_ended);
    }
}

/// What the kernel counts on the whole machine.
fn counted() -> String {
    let text = fs::read_to_string("/proc/vmstat").unwrap();
    text.lines().find(|line| line.starts_with("oom_kill ")).unwrap_or_default().to_owned()
}

/// Is not started again while the test looks at it.
fn once(config: WorkerConfig) -> WorkerConfig {
    let restart = RestartConfig::policy(RestartPolicy::OnFailure);
    config.restart(restart.retry_delay(NEVER).max_delay(NEVER))
}

/// What is told of the worker's last end, once it is gone.
fn end(bench: &Bench, worker: &str) -> (ErrorCategory, String) {
    let known = bench.once(worker, |known| known.retry_at.is_some());
    assert_eq!(known.exit, Some(Exit::Signal { signal: 9, core_dumped: false }));
    assert_eq!((known.state, known.gave_up), (WorkerState::Failed, false));
    let error = known.last_error.unwrap();
    assert!(!error.permanent);
    (error.category, error.message)
}

/// What is told of a worker that somebody else has killed.
fn killed(bench: &Bench, worker: &str) -> (ErrorCategory, String) {
    bench.add(once(shell(worker, "exec sleep 1000")));
    bench.master.start_worker(worker).unwrap();
    let pid = bench.known(worker).pid.unwrap().to_string();
    assert!(Command::new("kill").args(["-9", &pid]).status().unwrap().success());
    end(bench, worker)
}

/// What is told of an end of which nothing more is known.
fn crash() -> (ErrorCategory, String) {
    (ErrorCategory::Crash, "signal SIGKILL (9)".to_owned())
}

#[test]
fn s15_a_process_that_ran_out_of_memory_is_told_as_such_and_one_that_was_killed_is_not() {
    let before = counted();
    let bench = bench();
    let told = killed(&bench, "killed");
    // Others on this machine may have run out of memory meanwhile: what is told is wrong then.
    if counted() == before {
        assert_eq!(told, crash());
    }
    let Some(narrow) = Narrow::new() else {
        return skipped("no memory cgroup can be made here: nothing runs out of memory");
    };
    let procs = narrow.0.join("cgroup.procs");
    let eat = format!("echo $$ > {} && exec tail /dev/zero", procs.display());
    bench.add(once(shell("hungry", &eat)));
    bench.master.start_worker("hungry").unwrap();
    let (category, message) = end(&bench, "hungry");
    assert_eq!(category, ErrorCategory::ResourceLimit, "{message}");
    // The kernel's log is exact, where it is for us to read.
    let exact =
        message.starts_with("signal SIGKILL (9), out of memory: so says the kernel's log; ");
    let likely = message.starts_with("signal SIGKILL (9), most likely out of memory: since ");
    assert!(exact || likely, "{message}");
    // Version 1 has forgotten by then where it was.
    let place = match narrow.0.starts_with("/sys/fs/cgroup/memory") {
        true => " on this machine",
        false => " in its memory cgroup, ",
    };
    assert!(message.contains(place), "{message}");
    if exact {
        // Nor is anybody taken for one whom the kernel has killed elsewhere meanwhile.
        let stranger = Command::new("/bin/sh").args(["-c", &eat]).status().unwrap();
        assert_eq!(stranger.signal(), Some(9));
        assert_eq!(killed(&bench, "neighbour"), crash());
    }
    bench.finish();
}
