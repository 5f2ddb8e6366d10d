//! What a new configuration asks for: the steps from the workers there are to those there should
//! be, in the order in which they are taken. Pure.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use serde::{Deserialize, Serialize};

use crate::runtime::Known;
use crate::settings::MasterConfig;
use crate::worker::WorkerConfig;

/// What a reload does, or would do, and why: step by step, in this order.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Plan {
    /// Removals come first, backwards; then changes, then additions, in the configuration's order.
    pub steps: Vec<PlanStep>,
    /// The workers that are not touched.
    pub unchanged: Vec<String>,
    /// Keys of the master itself that change in place.
    pub settings: Vec<String>,
    /// Keys of the master itself that differ and hold only for a new master.
    pub needs_new_master: Vec<String>,
    /// The [digest](MasterConfig::digest) of this configuration,
    #[serde(default)]
    pub digest: Option<String>,
    /// and of the one that holds, or held, before.
    #[serde(default)]
    pub digest_before: Option<String>,
}

/// What happens to one worker.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct PlanStep {
    /// The worker.
    pub worker: String,
    /// What is done.
    pub action: PlanAction,
    /// The keys that differ, by their paths.
    pub keys: Vec<String>,
    /// Why, in words.
    pub reason: String,
    /// After a reload: why it did not come to what it was meant to.
    pub failure: Option<String>,
}

/// What is done to a worker.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
#[non_exhaustive]
pub enum PlanAction {
    /// It is stopped and forgotten.
    Remove,
    /// Its configuration is replaced; what it is doing goes on.
    Update,
    /// Its configuration is replaced, and it gets a new incarnation.
    Restart,
    /// It is stopped: it is not enabled any more.
    Stop,
    /// It is started: it is enabled now.
    Start,
    /// It is made known, and started if it is enabled.
    Add,
}

impl PlanAction {
    /// The word used in output.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Remove => "remove",
            Self::Update => "update",
            Self::Restart => "restart",
            Self::Stop => "stop",
            Self::Start => "start",
            Self::Add => "add",
        }
    }
}

impl Plan {
    /// True when there is nothing to do.
    pub fn is_empty(&self) -> bool {
        self.steps.is_empty() && self.settings.is_empty()
    }

    /// The steps that did not come to what they were meant to.
    pub fn failures(&self) -> impl Iterator<Item = &PlanStep> {
        self.steps.iter().filter(|step| step.failure.is_some())
    }

    /// The workers with one of these actions.
    pub(super) fn with(&self, actions: &[PlanAction]) -> Vec<String> {
        let found = self.steps.iter().filter(|step| actions.contains(&step.action));
        found.map(|step| step.worker.clone()).collect()
    }
}

impl fmt::Display for Plan {
    /// A line for each step.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for PlanStep { worker, action, reason, failure, .. } in &self.steps {
            write!(f, "{:<8}{worker}: {reason}", action.as_str())?;
            match failure {
                Some(failure) => writeln!(f, "; failed: {failure}")?,
                None => writeln!(f)?,
            }
        }
        for key in &self.settings {
            writeln!(f, "{:<8}master.{key}: it is another", "set")?;
        }
        for key in &self.needs_new_master {
            writeln!(
                f,
                "{:<8}master.{key}: it is another, for which a new master is needed",
                "keep"
            )?;
        }
        match self.unchanged.len() {
            0 => {}
            1 => writeln!(f, "1 worker is unchanged")?,
            count => writeln!(f, "{count} workers are unchanged")?,
        }
        match (&self.digest, &self.digest_before) {
            (Some(now), Some(before)) if now != before => {
                writeln!(f, "configuration {now}, before {before}")
            }
            (Some(now), _) => writeln!(f, "configuration {now}"),
            (None, _) => Ok(()),
        }
    }
}

/// The way from what there is to `new`. `known`: every worker of the master, in the order of their
/// addition; `old`: the configuration that holds, whose workers alone can be missed in a new one.
pub(super) fn difference(known: &[Known], old: &MasterConfig, new: &MasterConfig) -> Plan {
    let wanted: BTreeSet<&str> = new.workers.iter().map(|worker| worker.id.as_str()).collect();
    let configured: BTreeSet<&str> = old.workers.iter().map(|worker| worker.id.as_str()).collect();
    let present: BTreeMap<&str, &Known> =
        known.iter().filter(|k| !k.gone).map(|known| (known.config.id.as_str(), known)).collect();
    let (digest, digest_before) = (new.digest.clone(), old.digest.clone());
    let mut plan = Plan { digest, digest_before, ..Plan::default() };
    for Known { config, .. } in known.iter().rev() {
        let id = config.id.as_str();
        if configured.contains(id) && !wanted.contains(id) {
            let reason = "it is not in the configuration any more".to_owned();
            plan.steps.push(step(id, PlanAction::Remove, Vec::new(), reason));
        }
    }
    let mut added = Vec::new();
    for worker in &new.workers {
        match present.get(worker.id.as_str()) {
            None => {
                let reason = if worker.enabled { "it is new" } else { "it is new, not enabled" };
                added.push(step(&worker.id, PlanAction::Add, Vec::new(), reason.to_owned()));
            }
            Some(known) => match change(known, worker) {
                Some(step) => plan.steps.push(step),
                None => plan.unchanged.push(worker.id.clone()),
            },
        }
    }
    plan.steps.append(&mut added);
    settings(&mut plan, old, new);
    plan
}

/// What is to be done to a worker that stays; `None`: nothing.
fn change(known: &Known, new: &WorkerConfig) -> Option<PlanStep> {
    let changes = known.config.changes(new);
    let mut keys: Vec<String> = changes.keys.iter().map(|key| (*key).to_owned()).collect();
    let differ = match keys.as_slice() {
        [] => String::new(),
        [only] => format!("{only} is another"),
        keys => format!("{} are others", keys.join(", ")),
    };
    let switched = known.config.enabled != new.enabled;
    if switched {
        keys.push("enabled".to_owned());
    }
    let and = |what: &str| match differ.as_str() {
        "" => what.to_owned(),
        differ => format!("{differ}; {what}"),
    };
    let (action, reason) = match (switched, new.enabled) {
        (true, true) if !known.up => (PlanAction::Start, and("it is enabled now")),
        (true, false) if known.up => (PlanAction::Stop, and("it is not enabled any more")),
        (false, _) if changes.keys.is_empty() => return None,
        (true | false, _) if !known.up => (PlanAction::Update, and("it is not meant to run")),
        (true | false, _) if !changes.restart => (PlanAction::Update, and("what runs goes on")),
        (true | false, _) => (PlanAction::Restart, and("what runs cannot live with that")),
    };
    Some(step(&new.id, action, keys, reason))
}

fn step(worker: &str, action: PlanAction, keys: Vec<String>, reason: String) -> PlanStep {
    PlanStep { worker: worker.to_owned(), action, keys, reason, failure: None }
}

fn settings(plan: &mut Plan, old: &MasterConfig, new: &MasterConfig) {
    for (key, same) in [
        ("log_level", old.log_level == new.log_level),
        ("shutdown_timeout", old.shutdown_timeout == new.shutdown_timeout),
    ] {
        if !same {
            plan.settings.push(key.to_owned());
        }
    }
    for (key, same) in [
        ("name", old.name == new.name),
        ("state_dir", old.state_dir == new.state_dir),
        ("log_dir", old.log_dir == new.log_dir),
    ] {
        if !same {
            plan.needs_new_master.push(key.to_owned());
        }
    }
}
