//! What the contract says about probes, as a model of one incarnation's health.
//!
//! How many failures one late tick counts is left open: the model keeps a lower and an upper bound.

use std::time::Duration;

use super::{Verdict, demand};
use crate::core::event::HealthPolicy;
use crate::core::moment::Moment;
use crate::worker::{HealthStatus, OnUnhealthy};

/// The probes of one incarnation, from its readiness on.
#[derive(Clone, Debug)]
pub(super) struct Probes {
    policy: HealthPolicy,
    up: Moment,
    /// No probe of the policy before had a later number.
    floor: u64,
    /// From here on failures may restart the worker.
    graced: Moment,
    /// The newest probe: its number and its begin.
    newest: Option<(u64, Moment)>,
    in_flight: bool,
    timed_out: bool,
    /// When it was last found unanswered.
    missed_at: Moment,
    /// When the unanswered probe last surely counted as a failure.
    surely_at: Moment,
    /// The failures that the unanswered probe may have counted for.
    counted: u128,
    /// Failures in a row: at least, at most.
    failures: (u128, u128),
    /// Failures in a row that surely came after the grace period.
    after_grace: u128,
    successes: u128,
}

impl Probes {
    pub(super) fn new(policy: &HealthPolicy, up: Moment, grace: Duration) -> Self {
        Self {
            policy: policy.clone(),
            up,
            floor: 0,
            graced: up + grace,
            newest: None,
            in_flight: false,
            timed_out: false,
            missed_at: up,
            surely_at: up,
            counted: 0,
            failures: (0, 0),
            after_grace: 0,
            successes: 0,
        }
    }

    /// The same incarnation's probes by a policy that holds from `now` on.
    pub(super) fn renewed(&self, policy: &HealthPolicy, now: Moment) -> Self {
        let floor = self.newest.map_or(self.floor, |(newest, _)| newest);
        Self { floor, ..Self::new(policy, now, Duration::ZERO) }
    }

    /// From `graced` on failures may restart the worker.
    pub(super) fn grace_until(&mut self, graced: Moment) {
        self.graced = graced;
    }

    pub(super) fn policy(&self) -> &HealthPolicy {
        &self.policy
    }

    /// The probe that waits for its answer.
    pub(super) fn in_flight(&self) -> Option<u64> {
        self.newest.filter(|_| self.in_flight).map(|(probe, _)| probe)
    }

    /// A probe was ordered.
    pub(super) fn begun(&mut self, now: Moment, probe: u64) -> Verdict {
        demand!(!self.in_flight, "I39: probe {probe} ordered while another is in flight");
        let due = match self.newest {
            None => self.up + self.policy.initial_delay,
            Some((_, begin)) => begin + self.policy.interval,
        };
        demand!(now >= due, "I39: probe {probe} ordered at {now:?}, due at {due:?}");
        let fresh = probe > self.newest.map_or(self.floor, |(newest, _)| newest);
        demand!(fresh, "I39: the probe number {probe} is not new");
        self.newest = Some((probe, now));
        (self.in_flight, self.timed_out, self.counted) = (true, false, 0);
        Ok(())
    }

    /// An answer was reported; one that is late or unknown is not judged.
    pub(super) fn answered(&mut self, now: Moment, probe: u64, healthy: bool) {
        if self.in_flight() != Some(probe) {
            return;
        }
        self.in_flight = false;
        if self.timed_out {
            return;
        }
        if healthy {
            self.successes += 1;
            (self.failures, self.after_grace) = ((0, 0), 0);
        } else {
            self.failed(now, 1, 1);
        }
    }

    /// Time passed, and every deadline that was due was acted on.
    pub(super) fn ticked(&mut self, now: Moment) {
        let Some((_, begin)) = self.newest else { return };
        let waited = now.since(begin);
        if !self.in_flight || waited < self.policy.timeout {
            return;
        }
        // A tick that comes late may count all that it missed, or count once and go on from there.
        let surely = !self.timed_out || now >= self.surely_at + self.policy.interval;
        if surely {
            self.surely_at = now;
        }
        let most = 1 + waited.as_nanos() / self.policy.interval.as_nanos().max(1);
        let possibly = most.saturating_sub(self.counted);
        (self.timed_out, self.missed_at, self.counted) = (true, now, most);
        if possibly > 0 {
            self.failed(now, u128::from(surely), possibly);
        }
    }

    fn failed(&mut self, now: Moment, least: u128, most: u128) {
        self.failures.0 += least;
        self.failures.1 += most;
        self.successes = 0;
        if now >= self.graced {
            self.after_grace += least;
        }
    }

    /// May this health be told now?
    pub(super) fn may_be(&self, health: HealthStatus) -> bool {
        match health {
            HealthStatus::None => false,
            HealthStatus::Unknown => self.newest.is_none(),
            HealthStatus::Healthy => self.successes >= u128::from(self.policy.successes),
            HealthStatus::Unhealthy => self.failures.1 >= u128::from(self.policy.retries),
        }
    }

    /// The health that must be told by now, if the answers leave no choice.
    pub(super) fn must_be(&self) -> Option<HealthStatus> {
        if self.successes >= u128::from(self.policy.successes) {
            Some(HealthStatus::Healthy)
        } else if self.failures.0 >= u128::from(self.policy.retries) {
            Some(HealthStatus::Unhealthy)
        } else {
            None
        }
    }

    /// May its health end this incarnation now?
    pub(super) fn may_end(&self, now: Moment) -> bool {
        self.policy.on_unhealthy != OnUnhealthy::Log
            && now >= self.graced
            && self.failures.1 >= u128::from(self.policy.retries)
    }

    /// Must its health have ended this incarnation by now?
    pub(super) fn must_end(&self) -> bool {
        self.policy.on_unhealthy != OnUnhealthy::Log
            && self.after_grace >= u128::from(self.policy.retries)
    }

    /// The earliest and the latest moment at which the next probe or verdict can be due.
    pub(super) fn due(&self) -> (Moment, Moment) {
        let Some((_, begin)) = self.newest else {
            let first = self.up + self.policy.initial_delay;
            return (first, first);
        };
        let (timeout, interval) = (begin + self.policy.timeout, begin + self.policy.interval);
        if !self.in_flight {
            (interval, interval.max(self.missed_at + self.policy.interval))
        } else if !self.timed_out {
            (timeout.min(interval), timeout)
        } else {
            (begin, self.missed_at + self.policy.interval)
        }
    }
}
