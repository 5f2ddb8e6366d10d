//! What holds on this machine, for `check`: how many workers there is room for, and which settings
//! can be heeded.

use std::fs::{self, OpenOptions};

use serde_json::{Value, json};

use crate::host::roles::this_program;
use crate::host::sys;
use crate::host::threads::MAX_THREADS;
use crate::worker::{LogMode, OnMasterExit, WorkerConfig, WorkerType};

/// What a master has open for itself, generously.
const OWN: u64 = 64;
/// What it has open for a process: its end, its two pipes and its log.
const PER_PROCESS: u64 = 4;
/// For one that may outlive it, and writes into FIFOs.
const PER_KEPT: u64 = 12;
/// What is added by the line to a worker that speaks with it.
const PER_LINE: u64 = 3;

/// What holds here.
pub(super) struct Limits {
    /// The soft and the hard limit of descriptors; a master raises the first to the second.
    descriptors: Option<(u64, u64)>,
    /// As many workers there is room for.
    workers: Option<u64>,
    /// As many descriptors the configured workers take.
    needed: u64,
    root: bool,
    /// The program can be run again: as a guardian, a host of modules, a launcher.
    again: bool,
    /// The system has descriptors of processes.
    pidfd: bool,
    cgroup: Cgroup,
}

#[derive(Clone, Copy)]
enum Cgroup {
    Writable,
    NotOurs,
    Missing,
}

impl Limits {
    #[cfg(target_os = "linux")]
    pub(super) fn here(workers: &[WorkerConfig]) -> Self {
        let descriptors = sys::nofile_limit().ok().map(|limit| (limit.soft, limit.hard));
        let room = |(_, hard): (u64, u64)| hard.saturating_sub(OWN) / PER_PROCESS;
        Self {
            descriptors,
            workers: descriptors.map(|limit| room(limit).min(MAX_THREADS as u64)),
            needed: workers.iter().map(needed).sum(),
            root: sys::effective_uid() == 0,
            again: this_program().is_some(),
            pidfd: sys::pidfd_open(std::process::id()).is_ok(),
            cgroup: cgroup(),
        }
    }

    #[cfg(not(target_os = "linux"))]
    pub(super) fn here(configured: &[WorkerConfig]) -> Self {
        let (descriptors, workers, cgroup) = (None, None, Cgroup::Missing);
        let needed = configured.iter().map(needed).sum();
        Self { descriptors, workers, needed, root: false, again: false, pidfd: false, cgroup }
    }

    /// One on each line.
    pub(super) fn text(&self) -> String {
        let descriptors = match (self.descriptors, self.workers) {
            (Some((_, hard)), Some(workers)) => {
                let needed = self.needed;
                let these = match needed.saturating_add(OWN) <= hard {
                    _ if needed == 0 => String::new(),
                    true => format!("; these workers take about {needed}"),
                    false => format!("; too few for these workers, which take about {needed}"),
                };
                format!("{}: room for about {workers} processes{these}", number(hard))
            }
            (Some(_) | None, _) => "unknown".to_owned(),
        };
        let root = match self.root {
            true => "heeded, as root",
            false => "refused: they take root",
        };
        let again = match self.again {
            true => "guarded, and hosts modules in processes of their own",
            false => "neither guarded nor a host: the program cannot be run again",
        };
        let pidfd = if self.pidfd { "watched" } else { "refused: Linux 5.3 or newer is needed" };
        format!(
            "limits here:\n  descriptors     {descriptors}\n  processes       {pidfd}\n  \
             user and group  {root}\n  the master      {again}\n  cgroup v2       {}\n",
            self.cgroup.text(),
        )
    }

    pub(super) fn as_json(&self) -> Value {
        let limit = |limit: u64| (limit != u64::MAX).then_some(limit);
        json!({
            "descriptors": self.descriptors.map(|(soft, hard)| json!({
                "soft": limit(soft),
                "hard": limit(hard),
            })),
            "workers": self.workers,
            "needed": self.needed,
            "processes": self.pidfd,
            "user_settings": self.root,
            "guardian": self.again,
            "cgroup": self.cgroup.word(),
        })
    }
}

/// So many descriptors of the master's a worker takes while it runs.
fn needed(worker: &WorkerConfig) -> u64 {
    if worker.worker_type == WorkerType::Module || worker.unmanaged.is_some() {
        return 1;
    }
    let output = match worker.logs.mode {
        LogMode::Capture if worker.on_master_exit == Some(OnMasterExit::Keep) => PER_KEPT,
        LogMode::Capture => PER_PROCESS,
        LogMode::File => 2,
        LogMode::Inherit | LogMode::Discard => 1,
    };
    if worker.is_conversant() { output + PER_LINE } else { output }
}

fn number(limit: u64) -> String {
    if limit == u64::MAX { "unlimited".to_owned() } else { limit.to_string() }
}

impl Cgroup {
    fn word(self) -> &'static str {
        match self {
            Self::Writable => "writable",
            Self::NotOurs => "not_ours",
            Self::Missing => "missing",
        }
    }

    fn text(self) -> &'static str {
        match self {
            Self::Writable => "writable",
            Self::NotOurs => "not delegated to this user",
            Self::Missing => "missing",
        }
    }
}

#[cfg(target_os = "linux")]
/// Whether the group that we are in lets us make groups of our own.
fn cgroup() -> Cgroup {
    let groups = fs::read_to_string("/proc/self/cgroup").unwrap_or_default();
    let Some(own) = groups.lines().find_map(|line| line.strip_prefix("0::")) else {
        return Cgroup::Missing;
    };
    let group = format!("/sys/fs/cgroup{own}");
    if !fs::exists(format!("{group}/cgroup.controllers")).unwrap_or(false) {
        return Cgroup::Missing;
    }
    // To open it changes nothing.
    match OpenOptions::new().write(true).open(format!("{group}/cgroup.subtree_control")) {
        Ok(_) => Cgroup::Writable,
        Err(_) => Cgroup::NotOurs,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::worker::{Integration, LogsConfig};

    #[test]
    fn what_holds_is_said_in_words_and_numbers() {
        let limits = Limits {
            descriptors: Some((64, 128)),
            workers: Some(16),
            needed: 64,
            root: false,
            again: true,
            pidfd: true,
            cgroup: Cgroup::NotOurs,
        };
        assert_eq!(
            limits.text(),
            "limits here:\n  descriptors     128: room for about 16 processes; these workers \
             take about 64\n  processes       watched\n  user and group  refused: they take \
             root\n  the master      guarded, and hosts modules in processes of their own\n  \
             cgroup v2       not delegated to this user\n"
        );
        let json = limits.as_json();
        assert_eq!(json["descriptors"], json!({ "soft": 64, "hard": 128 }));
        assert_eq!(json["needed"], 64);
        let short = Limits { needed: 65, ..limits };
        let words = "room for about 16 processes; too few for these workers, which take about 65\n";
        assert!(short.text().contains(words), "{}", short.text());
        let none = Limits { needed: 0, ..short };
        assert!(none.text().contains("128: room for about 16 processes\n"), "{}", none.text());
        let unknown = Limits { descriptors: None, workers: None, ..none };
        assert!(unknown.text().contains("descriptors     unknown\n"));
        assert_eq!(unknown.as_json()["descriptors"], Value::Null);
    }

    #[test]
    fn each_worker_takes_what_the_table_of_the_documentation_says() {
        let program = || WorkerConfig::executable("w", "/bin/true");
        let logs = |mode| LogsConfig { mode, ..LogsConfig::default() };
        let table = [
            (program(), 4),
            (program().on_master_exit(OnMasterExit::Keep), 12),
            (program().integration(Integration::Protocol), 7),
            (WorkerConfig::native("w", "m").worker_type(WorkerType::Process), 7),
            (program().logs(logs(LogMode::File)), 2),
            (program().logs(logs(LogMode::Inherit)), 1),
            (program().logs(logs(LogMode::Discard)), 1),
            (WorkerConfig::native("w", "m"), 1),
        ];
        for (worker, expected) in table {
            assert_eq!(needed(&worker), expected, "{worker:?}");
        }
    }
}
