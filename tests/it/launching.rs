//! Processes that set something on themselves before they become their program: what they are then,
//! and what is said of each step that fails (FAULTS F4, F5, A09, A33; section 5.2 items 9 to 11).

mod life;
mod refusals;
mod settings;

use std::fs;
use std::os::unix::fs::MetadataExt;

use hsu_master::{Master, RestartPolicy, WorkerConfig};

use crate::support::{Bench, example, quick};

/// A uid and a gid that nobody here has, and no other test.
const UID: u32 = 54_323;

fn is_root() -> bool {
    fs::metadata("/proc/self").unwrap().uid() == 0
}

/// True when the test can go on; otherwise it says that it was skipped.
fn as_root() -> bool {
    if !is_root() {
        crate::support::skipped("only root can become somebody else");
    }
    is_root()
}

fn bench() -> Bench {
    Bench::new(Master::builder().host_program(example("actor_host")))
}

/// A worker that runs a shell script, and is given up when it fails.
fn shell(script: &str) -> WorkerConfig {
    let mut restart = quick();
    restart.policy = RestartPolicy::Never;
    WorkerConfig::executable("w", "/bin/sh").args(["-c", script]).restart(restart)
}

/// As the user that nobody is.
fn as_nobody(config: WorkerConfig) -> WorkerConfig {
    config.execution(|execution| {
        execution.user = Some(UID.to_string());
        execution.group = Some(UID.to_string());
    })
}

/// Runs a script to its end, and returns what it writes.
fn told(bench: &Bench, config: WorkerConfig) -> Vec<String> {
    bench.add(config);
    bench.master.start_worker("w").unwrap();
    let mut lines = Vec::new();
    loop {
        let line = bench.line().text;
        if line == "end" {
            bench.master.stop_worker("w").unwrap();
            bench.master.remove_worker("w").unwrap();
            return lines;
        }
        lines.push(line);
    }
}
