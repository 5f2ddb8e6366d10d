//! The variables of a process: the master's, those of its user, of its file, of its configuration,
//! and those that tell it what it is; the later wins.

use std::collections::BTreeMap;
use std::env;
use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::process::Command;

use super::accounts::Identity;
use super::{ProcessPlan, env_file};
use crate::error::Failure;

/// What is left of the master's variables when they are cleared.
const KEPT: [&str; 5] = ["PATH", "HOME", "USER", "LANG", "TZ"];

/// How a process's variables differ from the master's.
pub(super) struct Variables {
    cleared: bool,
    /// `None`: it has none of this name.
    changes: BTreeMap<OsString, Option<OsString>>,
}

impl Variables {
    /// As a plan has them, its file read now.
    ///
    /// # Errors
    /// The file cannot be read.
    pub(super) fn of(plan: &ProcessPlan, identity: Option<&Identity>) -> Result<Self, Failure> {
        let mut variables = Self { cleared: plan.clear_environment, changes: BTreeMap::new() };
        if let (Some(identity), true) = (identity, plan.names_user()) {
            variables.set_user(identity);
        }
        if let Some(file) = &plan.env_file {
            for (name, value) in env_file::read(file)? {
                variables.set(name, value);
            }
        }
        for (name, value) in &plan.environment {
            variables.set(name, value);
        }
        Ok(variables)
    }

    /// What a login would set. Better none than those of another user.
    fn set_user(&mut self, Identity { user, .. }: &Identity) {
        for (name, value) in [
            ("HOME", user.as_ref().map(|user| &user.home)),
            ("USER", user.as_ref().map(|user| &user.name)),
            ("LOGNAME", user.as_ref().map(|user| &user.name)),
            ("SHELL", user.as_ref().map(|user| &user.shell)),
        ] {
            self.changes.insert(name.into(), value.cloned());
        }
    }

    pub(super) fn set(&mut self, name: impl Into<OsString>, value: impl Into<OsString>) {
        self.changes.insert(name.into(), Some(value.into()));
    }

    pub(super) fn unset(&mut self, name: impl Into<OsString>) {
        self.changes.insert(name.into(), None);
    }

    pub(super) fn get(&self, name: &str) -> Option<OsString> {
        match self.changes.get(OsStr::new(name)) {
            Some(change) => change.clone(),
            None if self.cleared && !KEPT.contains(&name) => None,
            None => env::var_os(name),
        }
    }

    /// Gives them to a command, which has the master's.
    pub(super) fn apply(&self, command: &mut Command) {
        if self.cleared {
            command.env_clear();
            command.envs(KEPT.iter().filter_map(|name| Some((*name, env::var_os(name)?))));
        }
        for (name, value) in &self.changes {
            match value {
                Some(value) => command.env(name, value),
                None => command.env_remove(name),
            };
        }
    }

    /// All of them, each as `NAME=value`.
    pub(super) fn all(&self) -> Vec<Vec<u8>> {
        let kept = |name: &OsStr| !self.cleared || KEPT.iter().any(|kept| name == *kept);
        let mut all: BTreeMap<OsString, OsString> =
            env::vars_os().filter(|(name, _)| kept(name)).collect();
        for (name, value) in &self.changes {
            match value {
                Some(value) => drop(all.insert(name.clone(), value.clone())),
                None => drop(all.remove(name)),
            }
        }
        let pair = |(name, value): (OsString, OsString)| {
            let mut pair = name.into_vec();
            pair.push(b'=');
            pair.extend_from_slice(value.as_bytes());
            pair
        };
        all.into_iter().map(pair).collect()
    }
}
