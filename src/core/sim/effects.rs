//! What the judge demands of each effect, in the order in which the core gave them.

use std::time::Duration;

use super::judge::Judge;
use super::life::{KILL_TIMEOUT, Life, Step, Why};
use super::model::{MAX_WRITTEN_OFF, Rest, Shows, Worker};
use super::{Verdict, demand};
use crate::core::event::{Cause, Effect, Goal, Transition};
use crate::core::moment::Moment;
use crate::error::ErrorCategory;
use crate::worker::{HealthStatus, WorkerId, WorkerState};

impl Judge {
    pub(super) fn effect(&mut self, now: Moment, effect: &Effect) -> Verdict {
        match effect {
            Effect::Launch { worker, incarnation } => self.launch(now, worker, *incarnation),
            Effect::Start { worker, incarnation } => self.start(worker, *incarnation),
            Effect::Probe { worker, incarnation, probe } => {
                let life = self.life(worker, *incarnation)?;
                demand!(life.is_up(), "I39: {worker}#{incarnation} probed while not up");
                let probes = life.probes.as_mut().ok_or("I39: a probe without a health policy")?;
                probes.begun(now, *probe)
            }
            Effect::Ask { worker, incarnation, patience } => {
                self.ask(now, worker, *incarnation, *patience)
            }
            Effect::Force { worker, incarnation } => self.force(now, worker, *incarnation),
            Effect::Abandon { worker, incarnation } => self.abandon(now, worker, *incarnation),
            Effect::LetGo { worker, incarnation } => {
                let life = self.life(worker, *incarnation)?;
                demand!(life.let_go == Some(false), "{worker}#{incarnation} is let go unasked");
                life.let_go = Some(true);
                Ok(())
            }
            Effect::Transition(transition) => self.transition(now, transition),
            Effect::Health { worker, incarnation, health, .. } => {
                self.health(worker, *incarnation, *health)
            }
            Effect::Reply { ticket, reply } => self.reply(now, *ticket, reply),
            Effect::Changed { worker } => {
                demand!(self.workers.contains_key(worker), "{worker} changed, but is not known");
                self.changed.insert(worker.clone());
                Ok(())
            }
            Effect::Forgotten { worker } => self.forget(worker),
            Effect::AllDown => {
                demand!(self.shutdown.is_some(), "I40: all down without a shutdown");
                demand!(!self.all_down, "I40: all down twice");
                let alive = self.workers.values().any(Worker::has_life);
                demand!(!alive, "I40: all down while somebody lives");
                self.all_down = true;
                Ok(())
            }
        }
    }

    fn launch(&mut self, now: Moment, id: &WorkerId, number: u64) -> Verdict {
        let expected = self.numbers.get(id).copied().unwrap_or(0) + 1;
        demand!(number == expected, "I3: {id}#{number} launched, {expected} is next");
        demand!(self.shutdown.is_none(), "I19: {id}#{number} launched in a shutdown");
        let unmet = self.unmet(id);
        let worker = self.workers.get_mut(id).ok_or("I8: launch of an unknown worker")?;
        demand!(worker.goal == Goal::Up, "I8: {id} launched with goal {:?}", worker.goal);
        if worker.is_stuck() && worker.past_stuck {
            let room = worker.written_off.len() < MAX_WRITTEN_OFF;
            demand!(room, "rule 20: more than {MAX_WRITTEN_OFF} of {id} are written off");
            worker.write_off();
            worker.rest = Rest::Due { automatic: false };
        }
        demand!(worker.life.is_none(), "I1: {id}#{number} launched beside another");
        let forced = std::mem::take(&mut worker.past_unmet);
        demand!(forced || unmet.is_empty(), "I26: {id} launched without {unmet:?}");
        let due = match worker.rest {
            Rest::Due { .. } | Rest::Waiting { .. } => true,
            Rest::Pause { earliest, .. } => !worker.gave_up && now >= earliest,
            Rest::Idle => false,
        };
        demand!(due, "I10/I21: {id} launched while {:?}", worker.rest);
        let shown = match worker.shows {
            Shows::Uninitialized => WorkerState::Initializing,
            Shows::Stopped | Shows::Failed | Shows::StoppedOrFailed => WorkerState::Starting,
        };
        demand!(worker.told == shown, "I2: {id} launched while told {}", worker.told);
        worker.life = Some(Life::new(number, now, &worker.spec));
        (worker.rest, worker.asked, worker.gave_up) = (Rest::Idle, false, false);
        self.numbers.insert(id.clone(), number);
        // Without time to start, the very tick that launches it also ends it.
        if self.tick && worker.spec.start_timeout.is_zero() {
            worker.failed(now, Why::Timeout, false);
        }
        self.own_tickets(id, number);
        Ok(())
    }

    fn start(&mut self, id: &WorkerId, number: u64) -> Verdict {
        demand!(self.shutdown.is_none(), "I19: {id}#{number} started in a shutdown");
        let life = self.life(id, number)?;
        demand!(life.phase() == "starting", "I8: start of {id}#{number} while {}", life.phase());
        demand!(!life.start_ordered, "{id}#{number} started twice");
        life.start_ordered = true;
        self.expect_told(id, &[WorkerState::Starting])
    }

    /// An order to end needs a reason, and the transition that it led to.
    fn must_end(&mut self, id: &WorkerId, number: u64) -> Verdict {
        let ending = self.life(id, number)?.ending;
        demand!(ending.is_some(), "I10: {id}#{number} is told to end without a reason");
        self.expect_told(id, &[WorkerState::Stopping, WorkerState::Failed])
    }

    fn ask(&mut self, now: Moment, id: &WorkerId, number: u64, patience: Duration) -> Verdict {
        self.must_end(id, number)?;
        let worker = self.workers.get(id).ok_or("unknown")?;
        let stop_timeout = worker.spec.stop_timeout;
        let life = self.life(id, number)?;
        demand!(life.asked.is_none(), "I14: {id}#{number} asked twice");
        demand!(life.step() == Step::Ask, "order: {id}#{number} asked after force");
        demand!(patience == stop_timeout, "I17: {id} gets {patience:?}, not {stop_timeout:?}");
        (life.asked, life.patience) = (Some(now), patience);
        Ok(())
    }

    fn force(&mut self, now: Moment, id: &WorkerId, number: u64) -> Verdict {
        self.must_end(id, number)?;
        let over = self.tick && self.shutdown.as_ref().is_some_and(|shutdown| shutdown.over);
        let worker = self.workers.get(id).ok_or("unknown")?;
        let commanded = worker.turn.force;
        let tick = self.tick;
        let life = self.life(id, number)?;
        let (patience, killable) = (life.patience, life.killable);
        demand!(life.forced.is_none(), "{id}#{number} forced twice");
        demand!(!life.abandoned, "order: {id}#{number} forced after it was abandoned");
        let out_of_time = tick && life.asked.is_some_and(|asked| now >= asked + patience);
        let allowed = commanded || killable && (over || out_of_time);
        demand!(allowed, "order: {id}#{number} forced too early");
        life.forced = Some(now);
        Ok(())
    }

    fn abandon(&mut self, now: Moment, id: &WorkerId, number: u64) -> Verdict {
        demand!(self.tick, "I24: {id}#{number} abandoned without a tick");
        let over = self.shutdown.as_ref().is_some_and(|shutdown| shutdown.over);
        self.must_end(id, number)?;
        let worker = self.workers.get_mut(id).ok_or("unknown")?;
        let life = worker.life.as_mut().ok_or("unknown")?;
        let (patience, killable) = (life.patience, life.killable);
        demand!(!life.abandoned, "{id}#{number} abandoned twice");
        let killed = life.forced.is_some_and(|forced| now >= forced + KILL_TIMEOUT);
        let asked = life.asked.is_some_and(|asked| now >= asked + patience);
        let allowed = killed || !killable && (over || asked && life.forced.is_none());
        demand!(allowed, "order: {id}#{number} abandoned too early, or without force");
        life.abandoned = true;
        worker.turn.stuck = true;
        Ok(())
    }

    fn transition(&mut self, now: Moment, transition: &Transition) -> Verdict {
        let Transition { worker: id, incarnation, from, to, cause } = transition;
        let worker = self.workers.get_mut(id).ok_or("I2: a transition of an unknown worker")?;
        demand!(*from == worker.told, "I2: {id} goes from {from}, but was told {}", worker.told);
        demand!(from.may_become(*to), "I2: {id} goes from {from} to {to}");
        let newest = self.numbers.get(id).copied().unwrap_or(0);
        let begins = matches!(to, WorkerState::Initializing | WorkerState::Starting);
        let expected = *incarnation == newest || begins && *incarnation == newest + 1;
        demand!(expected, "I3: {id} told as incarnation {incarnation}, newest is {newest}");
        worker.told = *to;
        worker.told_completed = *to == WorkerState::Stopped && *cause == Cause::Completed;
        if *to != WorkerState::Running {
            worker.told_health = HealthStatus::None;
        }
        if matches!(cause, Cause::Retry | Cause::Trial | Cause::Repeat) {
            demand!(begins, "{id} goes to {to} because of {cause:?}");
            worker.restarts += 1;
        }
        if *to == WorkerState::Failed {
            return self.failure(now, id, *cause);
        }
        Ok(())
    }

    /// The cause of a failure must be the reason that the model knows.
    fn failure(&mut self, now: Moment, id: &WorkerId, cause: Cause) -> Verdict {
        let worker = self.workers.get_mut(id).ok_or("unknown")?;
        let unhealthy = cause == Cause::Failed(ErrorCategory::Health);
        if let Some(life) = worker.life.as_ref().filter(|life| unhealthy && life.is_up()) {
            let may = life.probes.as_ref().is_some_and(|probes| probes.may_end(now));
            demand!(may, "I39: {id} ended by health without enough failures");
            worker.failed(now, Why::Health, false);
        }
        let stuck = cause == Cause::Failed(ErrorCategory::Stuck);
        let Some(ending) = worker.life.as_ref().and_then(|life| life.ending) else {
            return Ok(());
        };
        let fits = match ending.why {
            Why::Cancelled => matches!(cause, Cause::Cancelled | Cause::Failed(_)),
            Why::Command | Why::Completed => stuck,
            Why::Timeout | Why::Health => ending.why.category().map(Cause::Failed) == Some(cause),
            Why::Failed => matches!(cause, Cause::Failed(_)),
        };
        demand!(fits, "{id} failed because of {cause:?}, the model says {:?}", ending.why);
        Ok(())
    }

    fn health(&mut self, id: &WorkerId, number: u64, health: HealthStatus) -> Verdict {
        let worker = self.workers.get_mut(id).ok_or("health of an unknown worker")?;
        demand!(health != worker.told_health, "{id} is told {health} again");
        worker.told_health = health;
        if health == HealthStatus::None {
            return Ok(());
        }
        let life = worker.life.as_ref().filter(|life| life.number == number);
        let probes = life.and_then(|life| life.probes.as_ref());
        let may = probes.is_some_and(|probes| probes.may_be(health));
        demand!(may, "I39: {id}#{number} is told {health}");
        Ok(())
    }

    fn forget(&mut self, id: &WorkerId) -> Verdict {
        let worker = self.workers.remove(id).ok_or("an unknown worker is forgotten")?;
        self.retired.insert(id.clone(), worker.written_off);
        demand!(worker.goal == Goal::Gone, "{id} is forgotten with goal {:?}", worker.goal);
        demand!(worker.life.is_none(), "rule 18: {id} is forgotten while it lives");
        self.forgotten.insert(id.clone());
        Ok(())
    }

    fn expect_told(&self, id: &WorkerId, states: &[WorkerState]) -> Verdict {
        let told = self.workers.get(id).map(|worker| worker.told);
        let fits = told.is_some_and(|told| states.contains(&told));
        demand!(fits, "I2: {id} gets an order while told {told:?}");
        Ok(())
    }
}
