//! A life, step by step: launch, start, up, and the one way to end.

use std::sync::Arc;
use std::time::Duration;

use super::event::{Cause, Condition, Done, Effect, Refusal, Report, Since, WorkerSpec};
use super::health::{Due, Judgement, Probing};
use super::moment::Moment;
use super::planted::{Bug, planted};
use super::restart::{self, Decision};
use super::worker::{Ending, Goal, Next, Phase, Turn, Verdict, Worker};
use crate::error::{ErrorCategory, Failure};
use crate::worker::{Exit, OnUnhealthy, WorkerId};

/// How long force may take to show before an incarnation counts as stuck.
pub(crate) const FORCE_PATIENCE: Duration = Duration::from_secs(5);

/// How many incarnations of one worker forced commands may go past.
pub(crate) const MAX_WRITTEN_OFF: usize = 8;

/// Why an incarnation ends. The first reason stays.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum Why {
    /// A command ended it while it was up.
    Command,
    /// The master's shutdown ended it while it was up.
    Shutdown,
    /// A command or the shutdown ended it before it was up.
    Cancelled,
    /// Its work is done.
    Completed,
    /// It failed.
    Crashed,
    /// It was not up in time.
    TimedOut,
    /// Its health checks failed.
    Unhealthy,
}

impl Why {
    /// True for ends that are shown as `Stopping`.
    pub(super) fn is_orderly(self) -> bool {
        match self {
            Self::Command | Self::Shutdown | Self::Completed => true,
            Self::Cancelled | Self::Crashed | Self::TimedOut | Self::Unhealthy => false,
        }
    }
}

/// How far an end has come. Later steps are stronger; none is ever taken back.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum Step {
    /// It was asked to end.
    Ask,
    /// It is being ended against its will.
    Force,
    /// It does not end: stuck.
    Abandon,
}

impl Worker {
    /// Begins a new incarnation.
    pub(super) fn launch(&mut self, turn: &mut Turn<'_>) {
        let cause = match self.next {
            Next::Now(cause) | Next::At(_, cause) => cause,
            Next::Rest => Cause::Command,
        };
        let by_itself = matches!(cause, Cause::Retry | Cause::Trial | Cause::Repeat);
        self.restarts += u64::from(by_itself);
        self.begin(turn, self.incarnation.saturating_add(1), cause);
        turn.effects
            .push(Effect::Launch { worker: self.id.clone(), incarnation: self.incarnation });
    }

    /// What every new incarnation begins with.
    fn begin(&mut self, turn: &mut Turn<'_>, incarnation: u64, cause: Cause) {
        self.incarnation = incarnation;
        self.phase =
            Phase::Launching { deadline: turn.now + self.spec.start_timeout, finished: false };
        self.killable = self.spec.killable;
        self.next = Next::Rest;
        self.gave_up = false;
        self.forced_start = false;
        self.past_stuck = false;
        self.killed = false;
        self.presumed = None;
        self.warning = None;
        self.publish(turn, cause);
    }

    /// Goes on with an incarnation of a former master: through all its states at once, without an
    /// order. It has been up for `up_for`, which counts as time up under this core does.
    pub(super) fn adopt(&mut self, turn: &mut Turn<'_>, incarnation: u64, up_for: Duration) {
        self.begin(turn, incarnation, Cause::Adopted);
        self.pass_launched(turn, Cause::Adopted);
        let before = if planted(Bug::AdoptedYoung) { Duration::ZERO } else { up_for };
        self.come_up(turn, Cause::Adopted, before);
    }

    /// Replaces the spec. What the present incarnation has begun keeps its deadlines.
    pub(super) fn replace_spec(&mut self, turn: &Turn<'_>, spec: WorkerSpec) {
        let before = std::mem::replace(&mut self.spec, spec);
        if self.phase == Phase::None || planted(Bug::KillableReplaced) {
            self.killable = self.spec.killable;
        }
        if let Phase::Up { probing, .. } = &mut self.phase
            && before.health != self.spec.health
        {
            let policy = self.spec.health.as_ref();
            *probing = policy.map(|policy| Probing::renewed(policy, turn.now, probing.take()));
            // Who waits for its health looks again.
            self.news = true;
        }
    }

    /// Leaves an incarnation that is up to itself.
    pub(super) fn let_go(&mut self, turn: &mut Turn<'_>) {
        let Phase::Up { since, .. } = self.phase else { return };
        self.phase = Phase::LetGo { since };
        turn.effects.push(Effect::LetGo { worker: self.id.clone(), incarnation: self.incarnation });
    }

    /// Its launch is due and must wait for a dependency.
    pub(super) fn wait(&mut self, turn: &mut Turn<'_>) {
        // The clock of a start that had to let an older incarnation end begins with the wait.
        for (_, deadline) in self.starts.iter_mut().filter(|(_, d)| *d == Moment::NEVER) {
            *deadline = turn.now + self.spec.start_timeout;
        }
    }

    /// Applies a report of the living incarnation. False: it changed nothing.
    pub(super) fn hear(&mut self, turn: &mut Turn<'_>, report: Report) -> bool {
        match report {
            Report::Launched => self.launched(turn),
            Report::Started => self.started(turn),
            Report::Probed { probe, healthy, reason } => self.probed(turn, probe, healthy, reason),
            Report::Completed => self.completed(turn),
            Report::Failed(failure) => self.failed(turn, failure),
            Report::Presumed(failure) => {
                self.presumed = Some(Box::new(failure));
                false
            }
            Report::Gone(exit) => {
                self.gone(turn, exit);
                true
            }
        }
    }

    fn launched(&mut self, turn: &mut Turn<'_>) -> bool {
        if !self.pass_launched(turn, Cause::Launched) {
            return false;
        }
        turn.effects.push(Effect::Start { worker: self.id.clone(), incarnation: self.incarnation });
        true
    }

    /// From launching to starting. False: it is not launching.
    fn pass_launched(&mut self, turn: &mut Turn<'_>, cause: Cause) -> bool {
        let Phase::Launching { deadline, finished } = self.phase else { return false };
        self.phase = Phase::Launched { deadline, finished };
        self.publish(turn, cause);
        let restarted = planted(Bug::StartClockRestarted);
        let deadline = if restarted { turn.now + self.spec.start_timeout } else { deadline };
        self.phase = Phase::Starting { deadline, finished };
        self.publish(turn, cause);
        true
    }

    fn started(&mut self, turn: &mut Turn<'_>) -> bool {
        let Phase::Starting { finished, .. } = self.phase else { return false };
        self.come_up(turn, Cause::Started, Duration::ZERO);
        if finished {
            self.end(turn, Why::Completed, Cause::Completed, Step::Ask);
        }
        true
    }

    fn come_up(&mut self, turn: &mut Turn<'_>, cause: Cause, before: Duration) {
        let probing = self.spec.health.as_ref().map(|policy| Probing::new(policy, turn.now));
        self.phase = Phase::Up { since: Since { moment: turn.now, before }, probing };
        self.verdict = Verdict::Stopped { completed: false };
        self.publish(turn, cause);
        self.answer_starts(turn, &Ok(Done::Running { incarnation: self.incarnation }));
    }

    fn completed(&mut self, turn: &mut Turn<'_>) -> bool {
        match &mut self.phase {
            // It counts once the start has succeeded.
            Phase::Launching { finished, .. } | Phase::Starting { finished, .. } => {
                !std::mem::replace(finished, true)
            }
            Phase::Up { .. } => {
                self.end(turn, Why::Completed, Cause::Completed, Step::Ask);
                true
            }
            Phase::None | Phase::Launched { .. } | Phase::Ending(_) | Phase::LetGo { .. } => false,
        }
    }

    fn failed(&mut self, turn: &mut Turn<'_>, failure: Failure) -> bool {
        match &self.phase {
            Phase::Launching { .. } | Phase::Starting { .. } | Phase::Up { .. } => {
                self.fail(turn, Why::Crashed, failure);
                true
            }
            // What breaks while it ends keeps nobody from ending it.
            Phase::Ending(ending) if ending.why.is_orderly() => {
                self.warning = Some(failure.to_string());
                true
            }
            Phase::None | Phase::Launched { .. } | Phase::Ending(_) | Phase::LetGo { .. } => false,
        }
    }

    /// Gives the verdict "failed" and asks the incarnation to end.
    fn fail(&mut self, turn: &mut Turn<'_>, why: Why, failure: Failure) {
        self.condemn(turn, why, failure);
        self.take_step(turn, Step::Ask);
    }

    /// Gives the verdict "failed".
    fn condemn(&mut self, turn: &mut Turn<'_>, why: Why, failure: Failure) {
        let category = failure.category;
        self.answer_starts(turn, &Err(Refusal::Failed(failure.clone())));
        self.enter_ending(turn, why, failure.permanent);
        self.last_failure = Some(Arc::new((failure, turn.now)));
        self.publish(turn, Cause::Failed(category));
    }

    /// Ends an incarnation that did not fail.
    pub(super) fn end(&mut self, turn: &mut Turn<'_>, why: Why, cause: Cause, step: Step) {
        self.enter_ending(turn, why, false);
        self.publish(turn, cause);
        self.take_step(turn, step);
    }

    /// The one way to end.
    fn enter_ending(&mut self, turn: &Turn<'_>, why: Why, permanent: bool) {
        let stayed_up = match &self.phase {
            Phase::Up { since, .. } => Some(since.uptime(turn.now)),
            Phase::None
            | Phase::Launching { .. }
            | Phase::Launched { .. }
            | Phase::Starting { .. }
            | Phase::Ending(_)
            | Phase::LetGo { .. } => None,
        };
        let (step, deadline) = (Step::Ask, None);
        self.phase = Phase::Ending(Ending { why, step, deadline, stayed_up, permanent });
    }

    /// Asks or forces the ending incarnation, and sets the deadline of that step.
    pub(super) fn take_step(&mut self, turn: &mut Turn<'_>, step: Step) {
        let Phase::Ending(ending) = &mut self.phase else { return };
        assert!(step < Step::Abandon, "abandoning is no order");
        ending.step = step;
        let (worker, incarnation) = (self.id.clone(), self.incarnation);
        let (patience, order) = if step == Step::Ask {
            let patience = self.spec.stop_timeout;
            (patience, Effect::Ask { worker, incarnation, patience })
        } else {
            (FORCE_PATIENCE, Effect::Force { worker, incarnation })
        };
        ending.deadline = Some(turn.now + patience);
        turn.effects.push(order);
    }

    /// The deadline of the present phase has come. `unmet`: what its launch waits for, if it does.
    pub(super) fn deadline_passed(&mut self, turn: &mut Turn<'_>, unmet: &[(WorkerId, Condition)]) {
        match &self.phase {
            Phase::None => self.pause_is_over(turn, unmet),
            Phase::Launching { .. } | Phase::Launched { .. } => self.is_late(turn, "initializing"),
            Phase::Starting { .. } => self.is_late(turn, "starting"),
            Phase::Up { .. } => self.probe_due(turn),
            Phase::Ending(ending) => match ending.step {
                Step::Ask if self.killable => self.take_step(turn, Step::Force),
                Step::Ask | Step::Force => self.abandon(turn),
                Step::Abandon => {}
            },
            Phase::LetGo { .. } => {}
        }
    }

    /// The time for launch and start is over: `doing` is what has not come to its end.
    fn is_late(&mut self, turn: &mut Turn<'_>, doing: &str) {
        let message = format!("not running after {:?}: still {doing}", self.spec.start_timeout);
        let failure = Failure::new(ErrorCategory::Timeout, message);
        self.fail(turn, Why::TimedOut, failure);
    }

    /// The pause before a retry is over, or starts have waited long enough for a dependency: those
    /// are answered, and the worker's goal stays.
    fn pause_is_over(&mut self, turn: &mut Turn<'_>, unmet: &[(WorkerId, Condition)]) {
        if let Next::At(_, cause) = self.next {
            self.next = Next::Now(cause);
            self.gave_up &= planted(Bug::GaveUpKept);
            return;
        }
        let now = turn.now;
        let late: Vec<_> = self.starts.extract_if(.., |(_, deadline)| *deadline <= now).collect();
        for (ticket, _) in late {
            turn.reply(ticket, Err(Refusal::StillWaiting(unmet.to_vec())));
        }
    }

    /// The shutdown's time is up: what was only asked is now forced, or waited for no longer.
    pub(super) fn out_of_patience(&mut self, turn: &mut Turn<'_>) {
        let Phase::Ending(ending) = &self.phase else { return };
        match (ending.step, self.killable) {
            _ if planted(Bug::ShutdownPatienceIgnored) => {}
            (Step::Ask, true) => self.take_step(turn, Step::Force),
            (Step::Ask | Step::Force, false) => self.abandon(turn),
            (Step::Force, true) | (Step::Abandon, _) => {}
        }
    }

    /// The incarnation does not end. Nobody waits for it any longer.
    fn abandon(&mut self, turn: &mut Turn<'_>) {
        let Phase::Ending(ending) = &mut self.phase else { return };
        ending.step = Step::Abandon;
        ending.deadline = None;
        self.verdict = Verdict::Failed;
        let message = "it did not end although everything was tried";
        let stuck = Failure::new(ErrorCategory::Stuck, message);
        self.last_failure = Some(Arc::new((stuck, turn.now)));
        self.publish(turn, Cause::Failed(ErrorCategory::Stuck));
        let (worker, incarnation) = (self.id.clone(), self.incarnation);
        turn.effects.push(Effect::Abandon { worker, incarnation });
        self.answer_stuck(turn);
        if self.past_stuck && self.written_off.len() < MAX_WRITTEN_OFF {
            self.write_off();
        } else {
            self.past_stuck = false;
            self.answer_starts(turn, &Err(Refusal::Stuck));
        }
    }

    /// Goes past a stuck incarnation: it holds nothing back any more.
    pub(super) fn write_off(&mut self) {
        self.written_off.insert(self.incarnation);
        self.phase = Phase::None;
    }

    /// The incarnation is gone: the verdict, and what follows.
    fn gone(&mut self, turn: &mut Turn<'_>, exit: Exit) {
        let stop_failed = planted(Bug::StopErrorFails) && matches!(exit, Exit::Failed(_));
        if stop_failed || !matches!(self.phase, Phase::Ending(_)) {
            self.ended_by_itself(turn, &exit);
        }
        let Phase::Ending(ending) = std::mem::replace(&mut self.phase, Phase::None) else {
            return;
        };
        if let (true, Exit::Failed(failure)) = (ending.why.is_orderly(), &exit) {
            self.warning = Some(failure.to_string());
        }
        self.exit = Some(exit);
        self.past_stuck = false;
        let forced = ending.step > Step::Ask;
        self.killed = forced && self.killable;
        let stopped = Done::Stopped { forced };
        for ticket in self.stops.drain(..) {
            turn.reply(ticket, Ok(stopped.clone()));
        }
        if self.goal != Goal::Up {
            self.verdict = Verdict::Stopped { completed: false };
            self.publish(turn, Cause::Ended);
        } else if let Next::Now(_) = self.next {
            // Asked for meanwhile. An orderly end shows as such before the next start.
            let orderly = ending.why.is_orderly() && ending.step < Step::Abandon;
            self.verdict =
                if orderly { Verdict::Stopped { completed: false } } else { Verdict::Failed };
            self.publish(turn, Cause::Ended);
        } else {
            self.decide(turn, &ending);
        }
    }

    /// An end that nobody asked for: completed work or a failure. There is no one left to give
    /// orders to.
    fn ended_by_itself(&mut self, turn: &mut Turn<'_>, exit: &Exit) {
        let success = self.spec.success.accept(exit);
        if success && matches!(self.phase, Phase::Up { .. }) {
            self.enter_ending(turn, Why::Completed, false);
            self.publish(turn, Cause::Completed);
            return;
        }
        let failure = match (exit, self.presumed.take()) {
            (Exit::Failed(failure), _) => failure.clone(),
            (Exit::Signal { .. }, Some(presumed)) if !success => *presumed,
            (
                Exit::Code(_) | Exit::Signal { .. } | Exit::Returned | Exit::Unknown | Exit::LetGo,
                _,
            ) => {
                let what = if success { "ended before it was ready" } else { &exit.to_string() };
                // Nobody saw how it ended: that of a process of a former master. It counts as a
                // failure, for work that was not seen to be done is not done.
                let unseen = *exit == Exit::Unknown;
                let category = if unseen { ErrorCategory::Unknown } else { ErrorCategory::Crash };
                Failure::new(category, what)
            }
        };
        self.condemn(turn, Why::Crashed, failure);
    }

    /// What the restart policy makes of an end while the goal is up.
    fn decide(&mut self, turn: &mut Turn<'_>, ending: &Ending) {
        let (policy, failures, stayed_up) =
            (&self.spec.restart, &mut self.failures, ending.stayed_up);
        let completed = ending.why == Why::Completed;
        let decision = if completed {
            restart::after_completion(policy, failures, stayed_up, turn.rng)
        } else {
            restart::after_failure(policy, failures, stayed_up, ending.permanent, turn.rng)
        };
        let cause = if completed { Cause::Repeat } else { Cause::Retry };
        self.next = match decision {
            Decision::Again(pause) => Next::At(turn.now + pause, cause),
            Decision::GiveUp(Some(pause)) => Next::At(turn.now + pause, Cause::Trial),
            Decision::GiveUp(None) | Decision::Rest => Next::Rest,
        };
        self.gave_up = matches!(decision, Decision::GiveUp(_));
        self.verdict = if completed || self.gave_up {
            Verdict::Stopped { completed }
        } else {
            Verdict::Failed
        };
        self.publish(turn, if completed { Cause::Completed } else { Cause::GaveUp });
    }

    fn probe_due(&mut self, turn: &mut Turn<'_>) {
        let (Phase::Up { probing: Some(probing), .. }, Some(policy)) =
            (&mut self.phase, &self.spec.health)
        else {
            return;
        };
        match probing.due(policy, turn.now) {
            Due::Nothing => {}
            Due::Send(probe) => turn.effects.push(Effect::Probe {
                worker: self.id.clone(),
                incarnation: self.incarnation,
                probe,
            }),
            Due::Silence => {
                let reason = format!("no answer within {:?}", policy.timeout);
                self.judge(turn, false, reason);
            }
        }
    }

    fn probed(&mut self, turn: &mut Turn<'_>, probe: u64, healthy: bool, reason: String) -> bool {
        let Phase::Up { probing: Some(probing), .. } = &mut self.phase else { return false };
        let judged = probing.answered(probe);
        if judged {
            self.judge(turn, healthy, reason);
        }
        judged
    }

    /// Counts a health result and acts when there were enough bad ones.
    fn judge(&mut self, turn: &mut Turn<'_>, healthy: bool, reason: String) {
        let (Phase::Up { since, probing: Some(probing) }, Some(policy)) =
            (&mut self.phase, &self.spec.health)
        else {
            return;
        };
        let Judgement { changed, unhealthy } = probing.judge(policy, healthy);
        if changed {
            self.news = !planted(Bug::HealthNewsLost);
            turn.effects.push(Effect::Health {
                worker: self.id.clone(),
                incarnation: self.incarnation,
                health: probing.status,
                reason: reason.clone(),
            });
        }
        let in_grace = since.uptime(turn.now) < self.spec.restart.startup_grace_period;
        if !unhealthy || in_grace {
            return;
        }
        match policy.on_unhealthy {
            OnUnhealthy::Log => return,
            OnUnhealthy::Restart => {}
            OnUnhealthy::Stop => self.goal = Goal::Down,
        }
        self.fail(turn, Why::Unhealthy, Failure::new(ErrorCategory::Health, reason));
    }
}
