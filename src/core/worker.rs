//! One worker as the core knows it: its goal, its incarnation's phase, its last verdict, and the
//! state computed from them.

use std::collections::BTreeSet;
use std::sync::Arc;

use super::Retired;
pub(super) use super::event::Goal;
use super::event::{
    Cause, Condition, Effect, Refusal, Reply, Since, Status, Ticket, Transition, WorkerSpec,
};
use super::health::Probing;
use super::lifecycle::{Step, Why};
use super::moment::Moment;
use super::planted::{Bug, planted};
use super::rng::Rng;
use crate::error::Failure;
use crate::worker::{Exit, HealthStatus, WorkerId, WorkerState};

/// What a worker's methods need of the turn they run in.
pub(super) struct Turn<'a> {
    pub(super) now: Moment,
    pub(super) effects: &'a mut Vec<Effect>,
    pub(super) rng: &'a mut Rng,
}

impl Turn<'_> {
    pub(super) fn reply(&mut self, ticket: Ticket, reply: Reply) {
        self.effects.push(Effect::Reply { ticket, reply });
    }
}

/// Where the incarnation is.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Phase {
    /// There is none.
    None,
    /// Being made and initialized. `finished`: it has said already that its work is done.
    Launching { deadline: Moment, finished: bool },
    /// Between launch and start: passed through within one turn.
    Launched { deadline: Moment, finished: bool },
    /// Being started.
    Starting { deadline: Moment, finished: bool },
    /// Up and ready.
    Up { since: Since, probing: Option<Probing> },
    /// On its way out; only `Gone` leaves this phase.
    Ending(Ending),
    /// Up, and no longer ours: it outlives the master. Nothing leaves this phase.
    LetGo { since: Since },
}

#[derive(Clone, Debug, PartialEq)]
pub(super) struct Ending {
    pub(super) why: Why,
    pub(super) step: Step,
    /// When the next step is taken; `None` once it is abandoned.
    pub(super) deadline: Option<Moment>,
    /// How long it had been up; `None`: it never was.
    pub(super) stayed_up: Option<std::time::Duration>,
    /// True when the failure that led here is one that no retry can mend.
    pub(super) permanent: bool,
}

/// What the last incarnation's end means, once there is none.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    /// There was none yet.
    Uninitialized,
    /// It ended well, or as it was told to, or its failures were given up.
    Stopped { completed: bool },
    /// It failed, and something is still to follow.
    Failed,
}

/// What follows while the goal is up and there is no incarnation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Next {
    /// Nothing by itself.
    Rest,
    /// A launch, as soon as it may be.
    Now(Cause),
    /// A launch at this moment.
    At(Moment, Cause),
}

/// The public state: one pure function, and nothing else names states.
pub(super) fn state(phase: &Phase, verdict: Verdict) -> WorkerState {
    match (phase, verdict) {
        (Phase::None, Verdict::Uninitialized) => WorkerState::Uninitialized,
        (Phase::None, Verdict::Stopped { .. }) => WorkerState::Stopped,
        (Phase::None, Verdict::Failed) => WorkerState::Failed,
        (Phase::Launching { .. }, Verdict::Uninitialized) => WorkerState::Initializing,
        (Phase::Launched { .. }, Verdict::Uninitialized) => WorkerState::Initialized,
        (Phase::Launching { .. } | Phase::Launched { .. } | Phase::Starting { .. }, _) => {
            WorkerState::Starting
        }
        (Phase::Up { .. } | Phase::LetGo { .. }, _) => WorkerState::Running,
        (Phase::Ending(ending), _) if ending.step < Step::Abandon && ending.why.is_orderly() => {
            WorkerState::Stopping
        }
        (Phase::Ending(_), _) => WorkerState::Failed,
    }
}

#[derive(Clone, Debug)]
pub(super) struct Worker {
    pub(super) id: WorkerId,
    sequence: u64,
    pub(super) spec: WorkerSpec,
    pub(super) goal: Goal,
    pub(super) phase: Phase,
    pub(super) verdict: Verdict,
    pub(super) next: Next,
    pub(super) gave_up: bool,
    /// The number of the current or last incarnation.
    pub(super) incarnation: u64,
    /// Consecutive incarnations that failed before they had stayed up for `reset_after`.
    pub(super) failures: u32,
    /// Launches that no command asked for.
    pub(super) restarts: u64,
    /// Incarnations that a forced command went past; of them only the end is still heard.
    pub(super) written_off: BTreeSet<u64>,
    /// The next launch does not wait for dependencies.
    pub(super) forced_start: bool,
    /// When the present incarnation turns out to be stuck, it is written off.
    pub(super) past_stuck: bool,
    /// The last end needed force.
    pub(super) killed: bool,
    /// Force ends the present incarnation: what the spec said when it was launched.
    pub(super) killable: bool,
    /// Starts and restarts to be answered by the next or present incarnation, with the moment until
    /// which they wait for dependencies.
    pub(super) starts: Vec<(Ticket, Moment)>,
    /// Stops to be answered when the present incarnation is gone.
    pub(super) stops: Vec<Ticket>,
    /// Removals to be answered when the worker is forgotten.
    pub(super) removals: Vec<Ticket>,
    /// What was last published, why and when.
    published: WorkerState,
    cause: Cause,
    since: Moment,
    /// Published or judged healthy in this turn: dependants look again.
    pub(super) news: bool,
    pub(super) exit: Option<Exit>,
    /// Why the present incarnation has ended, as long as how it did is not known.
    pub(super) presumed: Option<Box<Failure>>,
    /// Shared with every status that is told.
    pub(super) last_failure: Option<Arc<(Failure, Moment)>>,
    pub(super) warning: Option<String>,
    timer: Option<Moment>,
}

impl Worker {
    pub(super) fn new(
        id: WorkerId,
        sequence: u64,
        spec: WorkerSpec,
        retired: Retired,
        now: Moment,
    ) -> Self {
        Self {
            id,
            sequence,
            killable: spec.killable,
            spec,
            goal: Goal::Down,
            phase: Phase::None,
            verdict: Verdict::Uninitialized,
            next: Next::Rest,
            gave_up: false,
            incarnation: retired.incarnation,
            failures: 0,
            restarts: 0,
            written_off: retired.written_off,
            forced_start: false,
            past_stuck: false,
            killed: false,
            starts: Vec::new(),
            stops: Vec::new(),
            removals: Vec::new(),
            published: WorkerState::Uninitialized,
            cause: Cause::Added,
            since: now,
            news: false,
            exit: None,
            presumed: None,
            last_failure: None,
            warning: None,
            timer: None,
        }
    }

    /// Tells the state if it changed. Called after every step, so that no edge is skipped.
    pub(super) fn publish(&mut self, turn: &mut Turn<'_>, cause: Cause) {
        let (from, to) = (self.published, state(&self.phase, self.verdict));
        if from == to {
            return;
        }
        assert!(from.may_become(to), "worker {}: no edge from {from} to {to}", self.id);
        self.published = to;
        self.cause = cause;
        self.since = turn.now;
        self.news = true;
        turn.effects.push(Effect::Transition(Transition {
            worker: self.id.clone(),
            incarnation: self.incarnation,
            from,
            to,
            cause,
        }));
    }

    /// The one moment at which something is due, from the phase that needs it.
    pub(super) fn deadline(&self) -> Option<Moment> {
        match &self.phase {
            Phase::None if self.goal != Goal::Up => None,
            Phase::None => match self.next {
                Next::Rest => None,
                Next::At(moment, _) => Some(moment),
                Next::Now(_) => self.starts.iter().map(|(_, deadline)| *deadline).min(),
            },
            Phase::Launching { deadline, .. }
            | Phase::Launched { deadline, .. }
            | Phase::Starting { deadline, .. } => Some(*deadline),
            Phase::Up { probing, .. } => probing.as_ref().map(Probing::deadline),
            Phase::Ending(ending) => ending.deadline,
            Phase::LetGo { .. } => None,
        }
    }

    /// True when it is to be launched as soon as its dependencies are met.
    pub(super) fn wants_launch(&self) -> bool {
        matches!(self.next, Next::Now(_)) && self.goal == Goal::Up && self.phase == Phase::None
    }

    /// True when `incarnation` is the one that lives now.
    pub(super) fn lives_as(&self, incarnation: u64) -> bool {
        let current = self.incarnation == incarnation || planted(Bug::StaleReport);
        current && !matches!(self.phase, Phase::None | Phase::LetGo { .. })
    }

    /// The end of an incarnation that was written off. False if it was not.
    pub(super) fn forget_written_off(&mut self, incarnation: u64) -> bool {
        self.written_off.remove(&incarnation)
    }

    /// True when others may count on it in this way.
    pub(super) fn meets(&self, condition: Condition) -> bool {
        match condition {
            Condition::Started => matches!(self.phase, Phase::Up { .. } | Phase::LetGo { .. }),
            Condition::Healthy => self.health() == HealthStatus::Healthy,
            Condition::Completed => {
                self.phase == Phase::None && self.verdict == Verdict::Stopped { completed: true }
            }
        }
    }

    fn health(&self) -> HealthStatus {
        match &self.phase {
            Phase::Up { probing: Some(probing), .. } => probing.status,
            Phase::Up { probing: None, .. }
            | Phase::None
            | Phase::Launching { .. }
            | Phase::Launched { .. }
            | Phase::Starting { .. }
            | Phase::Ending(_)
            | Phase::LetGo { .. } => HealthStatus::None,
        }
    }

    pub(super) fn take_news(&mut self) -> bool {
        std::mem::take(&mut self.news)
    }

    pub(super) fn replace_timer(&mut self, timer: Option<Moment>) -> Option<Moment> {
        std::mem::replace(&mut self.timer, timer)
    }

    pub(super) fn timer(&self) -> Option<Moment> {
        self.timer
    }

    pub(super) fn sequence(&self) -> u64 {
        self.sequence
    }

    pub(super) fn depends_on(&self) -> &[(WorkerId, Condition)] {
        &self.spec.depends_on
    }

    pub(super) fn is_forced_start(&self) -> bool {
        self.forced_start
    }

    pub(super) fn is_removed(&self) -> bool {
        let ended = self.phase == Phase::None || planted(Bug::StuckForgotten) && self.is_stuck();
        self.goal == Goal::Gone && ended
    }

    pub(super) fn is_stuck(&self) -> bool {
        matches!(&self.phase, Phase::Ending(ending) if ending.step == Step::Abandon)
    }

    pub(super) fn holds_shutdown(&self) -> bool {
        !matches!(self.phase, Phase::None | Phase::LetGo { .. }) && !self.is_stuck()
    }

    pub(super) fn was_killed(&self) -> bool {
        self.killed && !self.is_stuck()
    }

    pub(super) fn retired(&self) -> Retired {
        Retired { incarnation: self.incarnation, written_off: self.written_off.clone() }
    }

    /// Answers every waiting start.
    pub(super) fn answer_starts(&mut self, turn: &mut Turn<'_>, reply: &Reply) {
        for (ticket, _) in self.starts.drain(..) {
            turn.reply(ticket, reply.clone());
        }
    }

    /// Answers every waiting stop and removal as stuck.
    pub(super) fn answer_stuck(&mut self, turn: &mut Turn<'_>) {
        for ticket in self.stops.drain(..).chain(self.removals.drain(..)) {
            turn.reply(ticket, Err(Refusal::Stuck));
        }
    }

    pub(super) fn status(&self, waiting_for: Vec<(WorkerId, Condition)>) -> Status {
        let up_since = match &self.phase {
            Phase::Up { since, .. } | Phase::LetGo { since } => Some(*since),
            Phase::None
            | Phase::Launching { .. }
            | Phase::Launched { .. }
            | Phase::Starting { .. }
            | Phase::Ending(_) => None,
        };
        let retry_at = match self.next {
            Next::At(moment, _) if self.phase == Phase::None => Some(moment),
            Next::At(..) | Next::Now(_) | Next::Rest => None,
        };
        Status {
            state: self.published,
            cause: self.cause,
            since: self.since,
            goal: self.goal,
            phase: self.phase_name(),
            ending: matches!(self.phase, Phase::Ending(_)),
            incarnation: self.incarnation,
            up_since,
            health: self.health(),
            restarts: self.restarts,
            failures: self.failures,
            retry_at,
            gave_up: self.gave_up,
            completed: self.meets(Condition::Completed),
            waiting_for,
            exit: self.exit.clone(),
            last_failure: self.last_failure.clone(),
            warning: self.warning.clone(),
            abandoned: self.written_off.len() + usize::from(self.is_stuck()),
        }
    }

    fn phase_name(&self) -> &'static str {
        match self.phase {
            Phase::None => "none",
            Phase::Launching { .. } | Phase::Launched { .. } => "launching",
            Phase::Starting { .. } => "starting",
            Phase::Up { .. } | Phase::LetGo { .. } => "up",
            Phase::Ending(_) => "ending",
        }
    }
}

/// A moment seen from `now`, in nanoseconds; -1 for never.
#[cfg(test)]
pub(super) fn relative(moment: Moment, now: Moment) -> i64 {
    if moment == Moment::NEVER {
        return -1;
    }
    i64::try_from(moment.since(now).as_nanos()).unwrap_or(i64::MAX)
}

#[cfg(test)]
impl Worker {
    pub(super) fn fingerprint(&self, now: Moment, text: &mut String) {
        use std::fmt::Write as _;
        let reset = self.spec.restart.reset_after;
        let phase = match &self.phase {
            Phase::None => "none".to_owned(),
            Phase::Launching { deadline, finished } => {
                format!("launching {} {finished}", relative(*deadline, now))
            }
            Phase::Launched { deadline, finished } => {
                format!("launched {} {finished}", relative(*deadline, now))
            }
            Phase::Starting { deadline, finished } => {
                format!("starting {} {finished}", relative(*deadline, now))
            }
            Phase::Up { since, probing } => {
                let policy = self.spec.health.as_ref();
                let probing = probing.as_ref().zip(policy);
                let probing = probing.map(|(probing, policy)| probing.fingerprint(now, policy));
                let grace = self.spec.restart.startup_grace_period;
                let up = since.uptime(now);
                format!("up {:?} {:?} {probing:?}", up.min(reset), up.min(grace))
            }
            Phase::Ending(ending) => format!(
                "ending {:?} {:?} {:?} {:?} {}",
                ending.why,
                ending.step,
                ending.deadline.map(|deadline| relative(deadline, now)),
                ending.stayed_up.map(|stayed_up| stayed_up >= reset),
                ending.permanent
            ),
            Phase::LetGo { .. } => "let go".to_owned(),
        };
        let next = match self.next {
            Next::Rest => "rest".to_owned(),
            Next::Now(cause) => format!("now {cause:?}"),
            Next::At(moment, cause) => format!("at {} {cause:?}", relative(moment, now)),
        };
        let starts: Vec<_> = self.starts.iter().map(|(_, d)| relative(*d, now)).collect();
        let off: Vec<_> = self.written_off.iter().map(|n| self.incarnation - n).collect();
        let budget = self.spec.restart.max_retries.saturating_add(1);
        let _ = write!(
            text,
            "{} {:?} {} [{phase}] {:?} [{next}] {} {} {off:?} {} {} {} {} {starts:?} {} {};",
            self.id,
            self.goal,
            // Of two specs in one search this tells which it is.
            relative(Moment::ZERO + self.spec.stop_timeout, Moment::ZERO),
            self.verdict,
            self.gave_up,
            self.failures.min(budget),
            self.forced_start,
            self.past_stuck,
            self.killed,
            self.killable,
            self.stops.len(),
            self.removals.len(),
        );
    }
}
