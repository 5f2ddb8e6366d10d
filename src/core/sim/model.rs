//! What the contract demands of one worker, written a second time and independently of the core:
//! facts go in, and out come phase, goal and the decision what follows an end.

use std::collections::BTreeMap;
use std::time::Duration;

use super::Verdict;
use super::health::Probes;
use super::life::{Ending, Life, Why};
use crate::core::event::{Goal, Report, WorkerSpec};
use crate::core::moment::Moment;
use crate::worker::{Exit, HealthStatus, OnUnhealthy, RestartPolicy, WorkerState};

/// How many incarnations of one worker may be written off at a time.
pub(super) const MAX_WRITTEN_OFF: usize = 8;

/// What a worker without an incarnation is about to do.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Rest {
    /// Nothing.
    Idle,
    /// Launch now, or wait for dependencies. `automatic`: nobody asked for it in this moment.
    Due { automatic: bool },
    /// Launch once its dependencies are met.
    Waiting { since: Moment },
    /// Launch when a pause between these moments is over.
    Pause { earliest: Moment, latest: Moment },
}

/// Which verdict shows while there is no incarnation.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Shows {
    Uninitialized,
    Stopped,
    Failed,
    /// The contract leaves it open.
    StoppedOrFailed,
}

/// One worker by the contract.
#[derive(Clone, Debug)]
pub(super) struct Worker {
    pub(super) spec: WorkerSpec,
    pub(super) goal: Goal,
    pub(super) life: Option<Life>,
    pub(super) written_off: BTreeMap<u64, Life>,
    pub(super) rest: Rest,
    pub(super) shows: Shows,
    pub(super) gave_up: bool,
    /// A start or restart is wanted as soon as the incarnation is gone.
    pub(super) asked: bool,
    /// A forced restart does not wait for a stuck incarnation.
    pub(super) past_stuck: bool,
    /// A forced start does not wait for dependencies.
    pub(super) past_unmet: bool,
    pub(super) failures: u32,
    /// Automatic starts, by the edges that were told.
    pub(super) restarts: u64,
    pub(super) exit: Option<Exit>,
    /// Its last end needed more than asking.
    pub(super) killed: bool,
    /// State and health as the effects told them so far.
    pub(super) told: WorkerState,
    pub(super) told_completed: bool,
    pub(super) told_health: HealthStatus,
    pub(super) turn: Turn,
}

/// What happened to a worker in the current turn.
#[derive(Clone, Debug, Default)]
pub(super) struct Turn {
    /// A command that ends waiting starts.
    pub(super) cancels: bool,
    /// A command that must be followed by force at once.
    pub(super) force: bool,
    /// This incarnation is gone, and was it forced?
    pub(super) gone: Option<(u64, bool)>,
    /// This incarnation failed.
    pub(super) failed: Option<u64>,
    /// It was found to be stuck.
    pub(super) stuck: bool,
    /// The report was none of its business: nothing may change.
    pub(super) ignored: bool,
}

impl Worker {
    pub(super) fn new(spec: WorkerSpec) -> Self {
        Self {
            spec,
            goal: Goal::Down,
            life: None,
            written_off: BTreeMap::new(),
            rest: Rest::Idle,
            shows: Shows::Uninitialized,
            gave_up: false,
            asked: false,
            past_stuck: false,
            past_unmet: false,
            failures: 0,
            restarts: 0,
            exit: None,
            killed: false,
            told: WorkerState::Uninitialized,
            told_completed: false,
            told_health: HealthStatus::None,
            turn: Turn::default(),
        }
    }

    /// An incarnation that does not end although everything was tried.
    pub(super) fn is_stuck(&self) -> bool {
        self.life.as_ref().is_some_and(|life| life.abandoned)
    }

    /// An incarnation that somebody still waits for.
    pub(super) fn has_life(&self) -> bool {
        self.life.as_ref().is_some_and(|life| !life.abandoned && life.let_go.is_none())
    }

    /// An incarnation that outlives the master.
    pub(super) fn is_let_go(&self) -> bool {
        self.life.as_ref().is_some_and(|life| life.let_go.is_some())
    }

    /// Its spec was replaced: what has begun keeps its deadlines.
    pub(super) fn updated(&mut self, now: Moment, spec: &WorkerSpec) {
        self.spec = spec.clone();
        let Some(life) = self.life.as_mut().filter(|life| life.is_up()) else { return };
        let (Some(up_at), before) = (life.up_at, life.up_before) else { return };
        let grace = spec.restart.startup_grace_period.saturating_sub(before);
        if life.probes.as_ref().map(Probes::policy) != spec.health.as_ref() {
            life.probes = spec.health.as_ref().map(|policy| match &life.probes {
                Some(probes) => probes.renewed(policy, now),
                None => Probes::new(policy, now, Duration::ZERO),
            });
        }
        match &mut life.probes {
            Some(probes) => probes.grace_until(up_at + grace),
            None => self.told_health = HealthStatus::None,
        }
    }

    /// An incarnation of a former master was taken over.
    pub(super) fn adopted(&mut self, now: Moment, number: u64, up_for: Duration) {
        let mut life = Life::new(number, now, &self.spec);
        life.up_before = up_for;
        (life.launched, life.start_ordered) = (true, true);
        self.life = Some(life);
        self.goal = Goal::Up;
        (self.rest, self.asked, self.past_unmet) = (Rest::Idle, false, false);
        self.gave_up = false;
        self.ready(now);
    }

    /// Start, or restart, was accepted.
    pub(super) fn wanted_up(&mut self, now: Moment, restart: bool, force: bool) {
        self.goal = Goal::Up;
        self.failures = 0;
        let on_its_way = self.life.as_ref().is_some_and(|life| life.ending.is_none());
        self.past_unmet |= force && !restart && !on_its_way;
        let Some(life) = &mut self.life else {
            self.clear_rest();
            self.rest = Rest::Due { automatic: false };
            return;
        };
        if force && life.abandoned {
            self.write_off();
            self.rest = Rest::Due { automatic: false };
            return;
        }
        if restart {
            self.turn.cancels = true;
            self.turn.force = force;
            self.past_stuck |= force;
            life.end_by_command(now);
        }
        self.asked = life.ending.is_some();
    }

    /// Stop, remove or shutdown.
    pub(super) fn wanted_down(&mut self, goal: Goal) {
        self.goal = self.goal.max(goal);
        self.turn.cancels = true;
        (self.asked, self.past_stuck, self.past_unmet) = (false, false, false);
        self.clear_rest();
        if self.life.is_none() && self.shows != Shows::Uninitialized {
            self.shows = Shows::Stopped;
        }
    }

    fn clear_rest(&mut self) {
        self.rest = Rest::Idle;
        self.gave_up = false;
    }

    /// Takes the stuck incarnation out of the way.
    pub(super) fn write_off(&mut self) {
        self.past_stuck = false;
        self.shows = Shows::StoppedOrFailed;
        if let Some(life) = self.life.take() {
            self.written_off.insert(life.number, life);
        }
    }

    /// A report about incarnation `number`.
    pub(super) fn heard(&mut self, now: Moment, number: u64, report: &Report) -> Verdict {
        let gone = matches!(report, Report::Gone(_));
        if gone && self.written_off.remove(&number).is_some() {
            return Ok(());
        }
        let own = |life: &&mut Life| life.number == number && life.let_go.is_none();
        let Some(life) = self.life.as_mut().filter(own) else {
            self.turn.ignored = true;
            return Ok(());
        };
        if life.abandoned && !gone {
            return Ok(());
        }
        match report {
            Report::Launched => life.launched = true,
            Report::Started => self.ready(now),
            Report::Probed { probe, healthy, .. } => {
                if let Some(probes) = life.probes.as_mut().filter(|_| life.ending.is_none()) {
                    probes.answered(now, *probe, *healthy);
                }
            }
            Report::Completed if life.up_at.is_some() => life.end(Why::Completed, now, false),
            Report::Completed => life.completed_early = true,
            Report::Failed(failure) => self.failed(now, Why::Failed, failure.permanent),
            // It says in which words an end is told, and nothing else.
            Report::Presumed(_) => {}
            Report::Gone(exit) => return self.gone(now, exit),
        }
        Ok(())
    }

    fn ready(&mut self, now: Moment) {
        let Some(life) = &mut self.life else { return };
        if life.phase() != "starting" {
            return;
        }
        life.up_at = Some(now);
        let grace = self.spec.restart.startup_grace_period.saturating_sub(life.up_before);
        life.probes = self.spec.health.as_ref().map(|policy| Probes::new(policy, now, grace));
        if life.completed_early {
            life.end(Why::Completed, now, false);
        }
    }

    /// Its incarnation failed and is still there.
    pub(super) fn failed(&mut self, now: Moment, why: Why, permanent: bool) {
        let Some(life) = self.life.as_mut().filter(|life| life.ending.is_none()) else { return };
        life.end(why, now, permanent);
        self.turn.failed = Some(life.number);
        let stops =
            |policy: &crate::core::event::HealthPolicy| policy.on_unhealthy == OnUnhealthy::Stop;
        if why == Why::Health && self.spec.health.as_ref().is_some_and(stops) {
            self.goal = self.goal.max(Goal::Down);
        }
    }

    /// Time has passed.
    pub(super) fn ticked(&mut self, now: Moment) {
        if let Rest::Pause { earliest, .. } = self.rest
            && now >= earliest
        {
            self.rest = Rest::Due { automatic: true };
            self.gave_up = false;
        }
        let ours = |life: &&mut Life| life.ending.is_none() && life.let_go.is_none();
        let Some(life) = self.life.as_mut().filter(ours) else { return };
        if let Some(probes) = &mut life.probes {
            probes.ticked(now);
        }
        if life.up_at.is_none() && now >= life.start_by {
            self.failed(now, Why::Timeout, false);
        }
    }

    fn succeeded(&self, exit: &Exit) -> bool {
        match exit {
            Exit::Code(code) => self.spec.success.codes.contains(code),
            Exit::Signal { signal, .. } => self.spec.success.signals.contains(signal),
            Exit::Returned | Exit::Failed(_) | Exit::Unknown | Exit::LetGo => false,
        }
    }

    fn gone(&mut self, now: Moment, exit: &Exit) -> Verdict {
        let success = self.succeeded(exit);
        let up = self.life.as_ref().is_some_and(|life| life.up_at.is_some());
        if success && up {
            if let Some(life) = &mut self.life {
                life.end(Why::Completed, now, false);
            }
        } else {
            let permanent = matches!(exit, Exit::Failed(failure) if failure.permanent);
            self.failed(now, Why::Failed, permanent);
        }
        let Some(life) = self.life.take() else { return Ok(()) };
        let Some(ending) = life.ending else { return Ok(()) };
        self.exit = Some(exit.clone());
        self.killed = life.killable && (life.forced.is_some() || life.abandoned);
        self.turn.gone = Some((life.number, life.forced.is_some()));
        self.past_stuck = false;
        self.settle(now, &life, ending)
    }

    /// I10: what follows the end of an incarnation, by policy, cause, goal and shutdown.
    fn settle(&mut self, now: Moment, life: &Life, ending: Ending) -> Verdict {
        let restart = &self.spec.restart;
        let steady = life
            .up_at
            .is_some_and(|up| ending.at.since(up) + life.up_before >= restart.reset_after);
        self.shows = match ending.why {
            Why::Completed | Why::Command => Shows::Stopped,
            Why::Cancelled | Why::Failed | Why::Timeout | Why::Health => Shows::Failed,
        };
        if self.goal != Goal::Up {
            self.shows = Shows::Stopped;
            return Ok(());
        }
        if std::mem::take(&mut self.asked) {
            if life.abandoned {
                // What was stuck and is wanted again has no verdict of its own.
                self.shows = Shows::StoppedOrFailed;
            }
            self.rest = Rest::Due { automatic: false };
            return Ok(());
        }
        if steady {
            self.failures = 0;
        }
        match ending.why {
            Why::Command | Why::Cancelled => {
                return Err(
                    "the model expects no commanded end with goal up and nothing asked".into()
                );
            }
            Why::Completed => {
                let again = [RestartPolicy::Always, RestartPolicy::UnlessStopped];
                if again.contains(&restart.policy) {
                    self.rest =
                        if steady { Rest::Due { automatic: true } } else { self.pause(now, 1) };
                }
            }
            Why::Failed | Why::Timeout | Why::Health => self.retry(now, steady, ending.permanent),
        }
        Ok(())
    }

    /// I21 to I23: the pause before a retry, the budget, and the trial after giving up.
    fn retry(&mut self, now: Moment, steady: bool, permanent: bool) {
        let restart = &self.spec.restart;
        if !steady {
            self.failures = self.failures.saturating_add(1);
        }
        let hopeless = permanent || restart.policy == RestartPolicy::Never;
        if hopeless || (restart.max_retries > 0 && self.failures > restart.max_retries) {
            self.gave_up = true;
            self.shows = Shows::Stopped;
            if !hopeless && !restart.half_open_after.is_zero() {
                let trial = now + restart.half_open_after;
                self.rest = Rest::Pause { earliest: trial, latest: trial };
            }
        } else if steady {
            self.rest = Rest::Due { automatic: true };
        } else {
            self.rest = self.pause(now, self.failures);
        }
    }

    /// The pause before the retry after so many failures, with all that jitter allows.
    fn pause(&self, now: Moment, failures: u32) -> Rest {
        let restart = &self.spec.restart;
        let longest = restart.max_delay.as_nanos();
        let mut delay = restart.retry_delay.as_nanos();
        for _ in 1..failures.min(10_000) {
            if delay >= longest || delay == 0 {
                break;
            }
            delay = delay.saturating_mul(u128::from(restart.backoff_rate.thousandths())) / 1000;
        }
        let delay = delay.min(longest);
        let stray = delay.saturating_mul(u128::from(restart.jitter.thousandths())) / 1000;
        // Integer arithmetic may round each step down by a nanosecond.
        let tolerance = 1000 + delay / 1_000_000;
        let nanos = |nanos: u128| Duration::from_nanos(u64::try_from(nanos).unwrap_or(u64::MAX));
        Rest::Pause {
            earliest: now + nanos((delay - stray.min(delay)).saturating_sub(tolerance)),
            latest: now + nanos(delay.saturating_add(stray).saturating_add(tolerance)),
        }
    }

    /// The states that the contract's function of goal, phase and verdict allows.
    pub(super) fn allows(&self, state: WorkerState) -> bool {
        use WorkerState as S;
        let Some(life) = &self.life else {
            return match self.shows {
                Shows::Uninitialized => state == S::Uninitialized,
                Shows::Stopped => state == S::Stopped,
                Shows::Failed => state == S::Failed,
                Shows::StoppedOrFailed => matches!(state, S::Stopped | S::Failed),
            };
        };
        let first = self.shows == Shows::Uninitialized;
        match life.ending {
            Some(Ending { why: Why::Command | Why::Completed, .. }) if !life.abandoned => {
                state == S::Stopping
            }
            Some(_) => state == S::Failed,
            None if life.up_at.is_some() => state == S::Running,
            None if first && !life.launched => state == S::Initializing,
            None => state == S::Starting,
        }
    }
}
