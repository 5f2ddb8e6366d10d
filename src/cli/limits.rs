//! What holds on this machine, for `check`: how many workers there is room for, and which settings
//! can be heeded.

use std::fs::{self, OpenOptions};

use serde_json::{Value, json};

use crate::host::roles::this_program;
use crate::host::sys;
use crate::host::threads::MAX_THREADS;

/// What a master has open for itself, generously.
const OWN: u64 = 64;
/// What it has open for each process: its end, its two pipes and its log.
const PER_PROCESS: u64 = 4;

/// What holds here.
pub(super) struct Limits {
    /// The soft and the hard limit of descriptors; a master raises the first to the second.
    descriptors: Option<(u64, u64)>,
    /// As many workers there is room for.
    workers: Option<u64>,
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
    pub(super) fn here() -> Self {
        let descriptors = sys::nofile_limit().ok().map(|limit| (limit.soft, limit.hard));
        let room = |(_, hard): (u64, u64)| hard.saturating_sub(OWN) / PER_PROCESS;
        Self {
            descriptors,
            workers: descriptors.map(|limit| room(limit).min(MAX_THREADS as u64)),
            root: sys::effective_uid() == 0,
            again: this_program().is_some(),
            pidfd: sys::pidfd_open(std::process::id()).is_ok(),
            cgroup: cgroup(),
        }
    }

    #[cfg(not(target_os = "linux"))]
    pub(super) fn here() -> Self {
        let (descriptors, workers, cgroup) = (None, None, Cgroup::Missing);
        Self { descriptors, workers, root: false, again: false, pidfd: false, cgroup }
    }

    /// One on each line.
    pub(super) fn text(&self) -> String {
        let descriptors = match (self.descriptors, self.workers) {
            (Some((_, hard)), Some(workers)) => {
                format!("{}: room for about {workers} processes", number(hard))
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
            "processes": self.pidfd,
            "user_settings": self.root,
            "guardian": self.again,
            "cgroup": self.cgroup.word(),
        })
    }
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

    #[test]
    fn what_holds_is_said_in_words_and_numbers() {
        let limits = Limits {
            descriptors: Some((64, 128)),
            workers: Some(16),
            root: false,
            again: true,
            pidfd: true,
            cgroup: Cgroup::NotOurs,
        };
        assert_eq!(
            limits.text(),
            "limits here:\n  descriptors     128: room for about 16 processes\n  processes       \
             watched\n  user and group  refused: they take root\n  the master      guarded, and \
             hosts modules in processes of their own\n  cgroup v2       not delegated to this \
             user\n"
        );
        let json = limits.as_json();
        assert_eq!(json["descriptors"], json!({ "soft": 64, "hard": 128 }));
        let unknown = Limits { descriptors: None, workers: None, ..limits };
        assert!(unknown.text().contains("descriptors     unknown\n"));
        assert_eq!(unknown.as_json()["descriptors"], Value::Null);
    }
}
