//! The health of one incarnation that is up: when it is asked, and what its answers and silences
//! mean.

use std::time::Duration;

use super::event::HealthPolicy;
use super::moment::Moment;
use super::planted::{Bug, planted};
use crate::worker::HealthStatus;

/// Two checks are at least this far apart, whatever the configuration says.
const MIN_INTERVAL: Duration = Duration::from_millis(1);

/// The probes of one incarnation. At most one is in flight.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Probing {
    next: Moment,
    in_flight: Option<InFlight>,
    sent: u64,
    failures: u32,
    successes: u32,
    pub(super) status: HealthStatus,
}

#[derive(Clone, Debug, PartialEq)]
struct InFlight {
    probe: u64,
    /// When it counts as failed; `None` once it has: its answer will not be judged any more.
    deadline: Option<Moment>,
}

/// What a passed deadline asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Due {
    /// Nothing yet.
    Nothing,
    /// Send this probe.
    Send(u64),
    /// The last probe was not answered in time, or still is not.
    Silence,
}

/// What an answer or a silence did to the health.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Judgement {
    /// The status changed.
    pub(super) changed: bool,
    /// Enough failures in a row: act.
    pub(super) unhealthy: bool,
}

impl Probing {
    /// For an incarnation that came up at `now`.
    pub(super) fn new(policy: &HealthPolicy, now: Moment) -> Self {
        Self {
            next: now + policy.initial_delay,
            in_flight: None,
            sent: 0,
            failures: 0,
            successes: 0,
            status: HealthStatus::Unknown,
        }
    }

    /// For an incarnation whose policy changed at `now`: probes begin anew, and what was known
    /// stands until they say otherwise. Numbers go on, so that no older answer is mistaken.
    pub(super) fn renewed(policy: &HealthPolicy, now: Moment, before: Option<Self>) -> Self {
        let (sent, status) =
            before.map_or((0, HealthStatus::Unknown), |before| (before.sent, before.status));
        Self { sent, status, ..Self::new(policy, now) }
    }

    /// When something is to be done.
    pub(super) fn deadline(&self) -> Moment {
        match &self.in_flight {
            Some(InFlight { deadline: Some(deadline), .. }) => *deadline,
            Some(InFlight { deadline: None, .. }) | None => self.next,
        }
    }

    /// What is to be done now that `now` has come.
    pub(super) fn due(&mut self, policy: &HealthPolicy, now: Moment) -> Due {
        if self.deadline() > now {
            return Due::Nothing;
        }
        match &mut self.in_flight {
            Some(in_flight) => {
                // The first silence is judged at the deadline, further ones at each interval.
                let again = in_flight.deadline.take().is_none();
                if again || self.next <= now {
                    self.schedule(policy, now);
                }
                Due::Silence
            }
            None => {
                self.schedule(policy, now);
                self.sent += 1;
                let deadline = Some(now + policy.timeout);
                self.in_flight = Some(InFlight { probe: self.sent, deadline });
                Due::Send(self.sent)
            }
        }
    }

    /// The next probe is due one interval after this one began; missed ones are skipped.
    fn schedule(&mut self, policy: &HealthPolicy, now: Moment) {
        self.next = now + policy.interval.max(MIN_INTERVAL);
    }

    /// Takes an answer. False: it came too late, or twice, and is not judged.
    pub(super) fn answered(&mut self, probe: u64) -> bool {
        match &self.in_flight {
            Some(in_flight) if in_flight.probe == probe => {
                let judged = in_flight.deadline.is_none();
                self.in_flight = None;
                !judged || planted(Bug::LateAnswerJudged)
            }
            Some(_) | None => false,
        }
    }

    /// Counts a result.
    pub(super) fn judge(&mut self, policy: &HealthPolicy, healthy: bool) -> Judgement {
        let before = self.status;
        let mut unhealthy = false;
        if healthy {
            self.failures = if planted(Bug::SuccessKeepsFailures) { self.failures } else { 0 };
            self.successes = self.successes.saturating_add(1);
            if self.successes >= policy.successes {
                self.status = HealthStatus::Healthy;
            }
        } else {
            self.successes = 0;
            self.failures = self.failures.saturating_add(1);
            if self.failures >= policy.retries {
                self.status = HealthStatus::Unhealthy;
                unhealthy = true;
            }
        }
        Judgement { changed: self.status != before, unhealthy }
    }

    #[cfg(test)]
    pub(super) fn fingerprint(&self, now: Moment, policy: &HealthPolicy) -> String {
        let next = super::worker::relative(self.next, now);
        let open = self.in_flight.as_ref().map(|in_flight| {
            in_flight.deadline.map(|deadline| super::worker::relative(deadline, now))
        });
        let (failures, successes) =
            (self.failures.min(policy.retries), self.successes.min(policy.successes));
        format!("{next} {open:?} {failures} {successes} {:?}", self.status)
    }
}
