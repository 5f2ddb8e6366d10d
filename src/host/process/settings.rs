//! What a process is to set on itself before it becomes its program: what makes the launcher
//! necessary, and what the launcher is told.

use crate::host::roles::Program;
use crate::worker::{ExecutionConfig, HardLimits};

/// What only the process itself can set, as it is configured.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Settings {
    /// This program, which sets them.
    pub(crate) launcher: Program,
    pub(crate) user: Option<String>,
    pub(crate) group: Option<String>,
    pub(crate) supplementary_groups: Vec<String>,
    pub(crate) umask: Option<u32>,
    pub(crate) nice: Option<i32>,
    pub(crate) oom_score_adj: Option<i32>,
    pub(crate) no_new_privs: bool,
    pub(crate) hard: HardLimits,
}

impl Settings {
    /// The key of the first setting that takes a launcher; `None`: the process needs none.
    pub(crate) fn needed(execution: &ExecutionConfig, hard: &HardLimits) -> Option<&'static str> {
        let written = [
            ("execution.user", execution.user.is_some()),
            ("execution.group", execution.group.is_some()),
            ("execution.supplementary_groups", !execution.supplementary_groups.is_empty()),
            ("execution.umask", execution.umask.is_some()),
            ("execution.nice", execution.nice.is_some()),
            ("execution.oom_score_adj", execution.oom_score_adj.is_some()),
            ("execution.no_new_privs", execution.no_new_privs),
            ("limits.hard", *hard != HardLimits::default()),
        ];
        written.into_iter().find(|(_, written)| *written).map(|(key, _)| key)
    }

    pub(crate) fn new(launcher: Program, execution: &ExecutionConfig, hard: &HardLimits) -> Self {
        Self {
            launcher,
            user: execution.user.clone(),
            group: execution.group.clone(),
            supplementary_groups: execution.supplementary_groups.clone(),
            umask: execution.umask,
            nice: execution.nice,
            oom_score_adj: execution.oom_score_adj,
            no_new_privs: execution.no_new_privs,
            hard: hard.clone(),
        }
    }
}
