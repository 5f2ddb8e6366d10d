//! Logs of whole masters: what is kept of every kind of worker, wherever it runs, and what happened
//! (FAULTS, group e).

mod kept;
mod modes;
mod quiet;
mod slow;
mod told;
mod vanished;

use std::fs;
use std::path::PathBuf;

use hsu_master::{Master, MasterBuilder, MasterConfig, RestartConfig, RestartPolicy, WorkerConfig};

use crate::support::{Bench, quick};

/// A master with a directory for logs.
struct Kept {
    bench: Bench,
    room: tempfile::TempDir,
}

impl Kept {
    fn new() -> Self {
        Self::of(Master::builder())
    }

    fn of(builder: MasterBuilder) -> Self {
        let room = tempfile::tempdir().unwrap();
        let config = MasterConfig::new().log_dir(room.path().join("logs"));
        Self { bench: Bench::new(builder.config(config)), room }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.room.path().join("logs").join(name)
    }

    /// The lines of a worker's log over all its files, without time stamps.
    fn lines(&self, worker: &str) -> Vec<String> {
        let name = format!("{worker}.log");
        let older = |number: u32| self.path(&format!("{name}.{number}"));
        let count = (1..).take_while(|number| older(*number).exists()).count();
        let older = (1..=count).rev().map(|number| older(u32::try_from(number).unwrap()));
        let text: Vec<u8> = older
            .chain([self.path(&name)])
            .flat_map(|path| fs::read(path).unwrap_or_default())
            .collect();
        let text = String::from_utf8_lossy(&text).into_owned();
        text.lines().map(|line| line[25..].to_owned()).collect()
    }
}

/// A worker that runs a shell script, and is given up when it fails.
fn shell(id: &str, script: &str) -> WorkerConfig {
    WorkerConfig::executable(id, "/bin/sh").args(["-c", script]).restart(never())
}

fn never() -> RestartConfig {
    let mut restart = quick();
    restart.policy = RestartPolicy::Never;
    restart
}
