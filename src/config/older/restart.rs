//! When a worker of the older format is started again: its policies, and what its profile makes of
//! them.

use std::collections::BTreeMap;

use super::super::yaml::{Mark, Node};
use super::values;
use super::walk::{Key, Tree, Walk};
use super::worker::Work;

/// What the profiles multiply retries and delay by, in thousandths.
const PROFILES: [(&str, u32); 6] = [
    ("batch", 3000),
    ("web", 1000),
    ("database", 5000),
    ("worker", 2000),
    ("scheduler", 2500),
    ("default", 1000),
];
/// Today's longest delay, where nothing else is written.
const MAX_DELAY_SECONDS: u64 = 60;

/// What is written about restarts.
#[derive(Default)]
pub(super) struct Restart {
    pub(super) policy: Option<Node>,
    /// In the earlier shape, `control.restart`.
    earlier: Retries,
    default: Retries,
    health_failures: Option<Retries>,
    resource_violations: Option<Retries>,
    multipliers: BTreeMap<String, u32>,
    grace: Option<Node>,
}

/// How often and how soon.
#[derive(Clone, Default)]
struct Retries {
    max_retries: Option<Node>,
    retry_delay: Option<Node>,
    backoff_rate: Option<Node>,
}

/// `control.restart`
pub(super) const RESTART: &[Key<Restart>] = &[
    ("policy", |w, node, restart| {
        if restart.policy.is_some() {
            w.warn("has no effect: restart_policy says otherwise");
        } else {
            restart.policy = Some(values::text(w, node));
        }
    }),
    ("max_retries", |_, node, restart| restart.earlier.max_retries = Some(node.clone())),
    ("retry_delay", |_, node, restart| restart.earlier.retry_delay = Some(node.clone())),
    ("backoff_rate", |_, node, restart| restart.earlier.backoff_rate = Some(node.clone())),
];

/// `control.context_aware_restart`
pub(super) const CONTEXT_AWARE: &[Key<Work>] = &[
    ("default", |w, node, work| w.mapping(node, RETRIES, &mut work.restart.default)),
    ("health_failures", |w, node, work| {
        w.mapping(node, RETRIES, work.restart.health_failures.get_or_insert_default());
    }),
    ("resource_violations", |w, node, work| {
        w.mapping(node, RETRIES, work.restart.resource_violations.get_or_insert_default());
    }),
    ("severity_multipliers", |w, _, _| {
        w.warn("has no equal: a violation counts alike, however severe");
    }),
    ("worker_profile_multipliers", |w, node, work| {
        for (profile, entry) in w.r.entries(node) {
            match values::thousandths(&entry.value) {
                Some(factor) => drop(work.restart.multipliers.insert(profile.to_owned(), factor)),
                None => w.under(profile, entry.key.at, |w| w.problem("must be a number")),
            }
        }
    }),
    ("startup_grace_period", |w, node, work| {
        work.restart.grace = Some(values::duration(w, node));
    }),
    ("sustained_violation_time", |w, node, work| work.sustained = Some(values::duration(w, node))),
    ("spike_tolerance_time", |w, _, _| w.warn("has no equal, and had no effect")),
];

const RETRIES: &[Key<Retries>] = &[
    ("max_retries", |_, node, retries| retries.max_retries = Some(node.clone())),
    ("retry_delay", |_, node, retries| retries.retry_delay = Some(node.clone())),
    ("backoff_rate", |_, node, retries| retries.backoff_rate = Some(node.clone())),
];

impl Restart {
    /// Writes `restart`, with what the Go version had where nothing was written. `limited`: the
    /// worker has limits, whose violations had restarts of their own.
    pub(super) fn put(
        self,
        w: &mut Walk<'_, '_>,
        at: Mark,
        profile: Option<&str>,
        limited: bool,
        tree: &mut Tree,
    ) {
        let factor = self.factor(w, at, profile);
        if let Some(policy) = self.policy {
            tree.put("restart.policy", policy);
        }
        let Retries { max_retries, retry_delay, backoff_rate } = self.default;
        let default = Retries {
            max_retries: max_retries.or(self.earlier.max_retries),
            retry_delay: retry_delay.or(self.earlier.retry_delay),
            backoff_rate: backoff_rate.or(self.earlier.backoff_rate),
        };
        let default = Retries {
            max_retries: Some(default.max_retries.unwrap_or_else(|| values::number(at, 3))),
            retry_delay: Some(default.retry_delay.unwrap_or_else(|| values::plain(at, "5s"))),
            backoff_rate: Some(default.backoff_rate.unwrap_or_else(|| values::rational(at, 1.5))),
        };
        default.put(w, factor, "restart", tree);
        let grace = self.grace.unwrap_or_else(|| values::plain(at, "2m"));
        tree.put("restart.startup_grace_period", grace);
        if let Some(retries) = self.health_failures {
            retries.put(w, factor, "restart.health_failures", tree);
        }
        match self.resource_violations {
            Some(retries) => retries.put(w, factor, "restart.resource_violations", tree),
            None if limited => {
                default.for_violations(w).put(w, factor, "restart.resource_violations", tree);
            }
            None => {}
        }
    }

    /// What the worker's profile multiplies by.
    fn factor(&self, w: &mut Walk<'_, '_>, at: Mark, profile: Option<&str>) -> u32 {
        let Some(profile) = profile else { return 1000 };
        let usual = PROFILES.iter().find(|(known, _)| *known == profile);
        match self.multipliers.get(profile).copied().or(usual.map(|(_, factor)| *factor)) {
            Some(factor) => {
                let (whole, part) = (factor / 1000, factor % 1000);
                let part = format!("{part:03}");
                let part = part.trim_end_matches('0');
                let dot = if part.is_empty() { "" } else { "." };
                w.comment(format!(
                    "profile {profile}: retries and delay are the file's times {whole}{dot}{part}"
                ));
                factor
            }
            None => {
                w.warn_at(at, format!("the profile {profile:?} is not known: nothing comes of it"));
                1000
            }
        }
    }
}

impl Retries {
    fn put(&self, w: &mut Walk<'_, '_>, factor: u32, path: &str, tree: &mut Tree) {
        if let Some(retries) = &self.max_retries {
            let scaled = values::scaled_count(w, retries, factor);
            if scaled == values::number(retries.at, 0) {
                w.warn_at(retries.at, "max_retries is 0, which means today: never give up");
            }
            tree.put(&format!("{path}.max_retries"), scaled);
        }
        if let Some(delay) = &self.retry_delay {
            let scaled = values::scaled_duration(w, delay, factor);
            let longest = values::duration_of(&scaled).filter(|d| d.as_secs() >= MAX_DELAY_SECONDS);
            tree.put(&format!("{path}.retry_delay"), scaled.clone());
            if longest.is_some() {
                tree.put(&format!("{path}.max_delay"), scaled);
            }
        }
        if let Some(rate) = &self.backoff_rate {
            tree.put(&format!("{path}.backoff_rate"), values::ratio(w, rate));
        }
    }

    /// What the Go version did after violations, where nothing is written about them.
    fn for_violations(&self, w: &Walk<'_, '_>) -> Self {
        let more = |node: &Node| match values::count_of(node) {
            Some(count) => values::number(node.at, count.saturating_add(2)),
            None => node.clone(),
        };
        let longer = |node: &Node| values::scaled_duration(w, node, 2000);
        Self {
            max_retries: self.max_retries.as_ref().map(more),
            retry_delay: self.retry_delay.as_ref().map(longer),
            backoff_rate: self.backoff_rate.clone(),
        }
    }
}
