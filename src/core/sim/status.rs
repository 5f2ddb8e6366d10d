//! What the judge demands after each turn: the contract's "Always" lines, agreement of every status
//! with the model, the bounds of every end, and deadlines that follow from the state.

use std::collections::BTreeMap;

use super::health::Probes;
use super::judge::Judge;
use super::life::{KILL_TIMEOUT, Life, Step, Why};
use super::model::{MAX_WRITTEN_OFF, Rest, Worker};
use super::{Verdict, demand};
use crate::core::event::{Condition, Goal, Status};
use crate::core::lifecycle;
use crate::core::moment::Moment;
use crate::worker::{HealthStatus, WorkerId, WorkerState};

type Conditions = Vec<(WorkerId, Condition)>;

impl Judge {
    pub(super) fn compare(&mut self, now: Moment, before: &BTreeMap<WorkerId, Status>) -> Verdict {
        let unmet: Vec<Conditions> = self.workers.keys().map(|id| self.unmet(id)).collect();
        let over = self.shutdown.as_ref().is_some_and(|shutdown| shutdown.over);
        for ((id, worker), unmet) in self.workers.iter_mut().zip(&unmet) {
            let status = self.statuses.get(id).ok_or("no status")?;
            let place = |error: String| format!("{id}: {error}\n    {status:?}");
            always(status).map_err(place)?;
            adopt_write_off(worker, status).map_err(place)?;
            settle_rest(now, self.tick, worker, status, unmet).map_err(place)?;
            let newest = self.numbers.get(id).copied().unwrap_or(0);
            agree(worker, status, newest).map_err(place)?;
            let told = self.core.ending(id.as_str());
            first_reason_stays(worker, told).map_err(place)?;
            worker.told_health = status.health;
            bounds(now, self.tick, worker, over).map_err(place)?;
            let published = before.get(id) == Some(status) || self.changed.contains(id);
            demand!(
                published,
                "I16: {id} changed unpublished\n    {:?}\n    {status:?}",
                before.get(id)
            );
        }
        let alive = self.workers.values().any(Worker::has_life);
        demand!(self.shutdown.is_none() || alive || self.all_down, "I19: all down is not told");
        self.begin_waits(now);
        self.check_open_tickets(now)?;
        self.check_deadline(now)
    }

    /// I24 and I30: the next deadline is the one that the state implies.
    fn check_deadline(&self, now: Moment) -> Verdict {
        let next = self.core.next_deadline().unwrap_or(Moment::NEVER);
        demand!(!self.tick || next >= now, "I24: {next:?} was due at the tick of {now:?}");
        let (mut earliest, mut latest) = (Moment::NEVER, Moment::NEVER);
        let mut may_be = |first: Moment, last: Moment| {
            (earliest, latest) = (earliest.min(first), latest.min(last));
        };
        if let Some(shutdown) = self.shutdown.as_ref().filter(|_| !self.all_down)
            && !shutdown.over
        {
            may_be(shutdown.end, shutdown.end);
        }
        for (id, worker) in &self.workers {
            if let Rest::Pause { earliest, latest } = worker.rest {
                may_be(earliest, latest);
            }
            if let Rest::Waiting { .. } = worker.rest {
                let mine = self.tickets.values().filter(|open| open.worker.as_ref() == Some(id));
                for until in mine.filter_map(|open| open.until) {
                    may_be(until, until);
                }
            }
            let Some(life) = worker.life.as_ref().filter(|life| !life.abandoned) else { continue };
            let deadline = match (life.phase(), life.forced, life.asked) {
                (_, Some(forced), _) => forced + KILL_TIMEOUT,
                (_, None, Some(asked)) => asked + life.patience,
                ("launching" | "starting", ..) => life.start_by,
                _ => Moment::NEVER,
            };
            may_be(deadline, deadline);
            if let Some(probes) = life.probes.as_ref().filter(|_| life.is_up()) {
                let (first, last) = probes.due();
                may_be(first, last);
            }
        }
        let fits = next >= earliest && next <= latest;
        demand!(
            fits,
            "I30: the next deadline is {next:?}, not from {earliest:?} to {latest:?}: {:?}",
            self.statuses
        );
        Ok(())
    }
}

/// The lines of the contract that hold at any time, whatever happened before.
fn always(status: &Status) -> Verdict {
    let none = status.phase == "none";
    let up = status.goal == Goal::Up;
    let waits = !status.waiting_for.is_empty();
    let state = status.state;
    let down = matches!(state, WorkerState::Failed | WorkerState::Stopped);
    if status.retry_at.is_some() {
        demand!(none && up && down, "always: retry_at needs no incarnation, goal up, and rest");
    }
    demand!(!waits || none && up && !status.gave_up, "always: it must not wait now");
    let failed = state == WorkerState::Failed;
    let reason = status.ending || status.retry_at.is_some() || waits;
    demand!(!failed || reason, "always: failed without ending, retry_at or waiting_for");
    let gave_up = !status.gave_up || state == WorkerState::Stopped && up;
    demand!(gave_up, "always: gave_up needs stopped and goal up");
    demand!(state != WorkerState::Stopped || none, "always: stopped with an incarnation");
    demand!(status.ending == (status.phase == "ending"), "always: ending is a phase");
    demand!((state == WorkerState::Running) == (status.phase == "up"), "I6: running is up");
    demand!(state != WorkerState::Running || status.up_since.is_some(), "I6: running since when?");
    demand!(state != WorkerState::Initialized, "rule 3: initialized is rested in");
    let healthless = status.health == HealthStatus::None || state == WorkerState::Running;
    demand!(healthless, "I39: health {} while {state}", status.health);
    Ok(())
}

/// A forced restart writes a stuck incarnation off also when the next one has to wait.
fn adopt_write_off(worker: &mut Worker, status: &Status) -> Verdict {
    if worker.is_stuck() && worker.past_stuck {
        let room = worker.written_off.len() < MAX_WRITTEN_OFF;
        if status.phase == "none" {
            demand!(room, "rule 20: more than {MAX_WRITTEN_OFF} are written off");
            worker.write_off();
            worker.rest = Rest::Due { automatic: false };
            worker.asked = false;
        } else {
            demand!(
                !room || worker.life.as_ref().is_some_and(|life| life.killable),
                "rule 20: a stuck thread blocks a forced restart"
            );
            worker.past_stuck = false;
        }
    }
    Ok(())
}

/// I20: what is due is launched, or waits for what it says it waits for.
fn settle_rest(
    now: Moment,
    tick: bool,
    worker: &mut Worker,
    status: &Status,
    unmet: &Conditions,
) -> Verdict {
    let waits = !status.waiting_for.is_empty();
    match worker.rest {
        Rest::Idle => {
            demand!(status.retry_at.is_none(), "I10: it must not be started again");
            demand!(!waits, "I20: it waits for nothing");
        }
        Rest::Due { automatic } => match status.retry_at {
            Some(at) if automatic && at <= now && !tick => {
                worker.rest = Rest::Pause { earliest: at, latest: at };
            }
            _ => {
                demand!(waits, "I20: it is due, but neither launched nor waiting");
                demand!(!worker.past_unmet, "rule 14: a forced start waits");
                demand!(status.waiting_for == *unmet, "I20: it waits for {unmet:?}");
                demand!(status.retry_at.is_none(), "I20: it waits and pauses");
                worker.rest = Rest::Waiting { since: now };
            }
        },
        Rest::Waiting { .. } => {
            demand!(!unmet.is_empty(), "I20: nothing is unmet, but it is not launched");
            demand!(status.waiting_for == *unmet, "I20: it waits for {unmet:?}");
            demand!(status.retry_at.is_none(), "I20: it waits and pauses");
        }
        Rest::Pause { earliest, latest } => {
            let at = status.retry_at.unwrap_or(Moment::NEVER);
            let fits = earliest <= at && at <= latest;
            demand!(fits, "I21: retry at {at:?}, not from {earliest:?} to {latest:?}");
            demand!(!waits, "I20: it waits and pauses");
            demand!(!tick || at >= now, "I24: the retry of {at:?} is late");
            worker.rest = Rest::Pause { earliest: at, latest: at };
        }
    }
    Ok(())
}

/// Model and status say the same.
fn agree(worker: &Worker, status: &Status, newest: u64) -> Verdict {
    let phase = worker.life.as_ref().map_or("none", Life::phase);
    demand!(status.phase == phase, "I7: the phase is {phase}");
    demand!(status.goal == worker.goal, "I15: the goal is {:?}", worker.goal);
    demand!(status.state == worker.told, "I2: told {}", worker.told);
    demand!(worker.allows(status.state), "section 2: {:?} does not allow this state", worker.shows);
    demand!(status.incarnation == newest, "I3: the newest incarnation is {newest}");
    demand!(status.gave_up == worker.gave_up, "I23: gave_up is {}", worker.gave_up);
    demand!(status.restarts == worker.restarts, "I33: {} restarts were told", worker.restarts);
    let stuck = usize::from(worker.is_stuck()) + worker.written_off.len();
    demand!(status.abandoned == stuck, "rule 18: {stuck} are stuck or written off");
    if matches!(worker.rest, Rest::Pause { .. }) {
        demand!(status.failures == worker.failures, "I22: {} failures", worker.failures);
    }
    demand!(status.completed == worker.told_completed, "rule 7: completed is not told");
    if worker.turn.gone.is_some() && phase == "none" {
        demand!(status.exit == worker.exit, "I32: it ended with {:?}", worker.exit);
    }
    if phase == "up" {
        let life = worker.life.as_ref();
        let since = life.and_then(|life| Some((life.up_at?, life.up_before)));
        let told = status.up_since.map(|since| (since.moment, since.before));
        demand!(told == since, "I6: it is up since {since:?}");
        let probes = worker.life.as_ref().and_then(|life| life.probes.as_ref());
        let must_be = probes.and_then(Probes::must_be);
        let told = must_be.is_none_or(|health| health == status.health);
        demand!(told, "I39: its health is {must_be:?}");
    }
    demand!(worker.goal != Goal::Gone || worker.life.is_some(), "rule 16: it is not forgotten");
    Ok(())
}

/// Rule 1: the first reason stays, and steps are never taken back.
fn first_reason_stays(worker: &Worker, told: Option<(lifecycle::Why, lifecycle::Step)>) -> Verdict {
    let why = |why| match why {
        lifecycle::Why::Command | lifecycle::Why::Shutdown => Why::Command,
        lifecycle::Why::Cancelled => Why::Cancelled,
        lifecycle::Why::Completed => Why::Completed,
        lifecycle::Why::Crashed => Why::Failed,
        lifecycle::Why::TimedOut => Why::Timeout,
        lifecycle::Why::Unhealthy => Why::Health,
    };
    let step = |step| match step {
        lifecycle::Step::Ask => Step::Ask,
        lifecycle::Step::Force => Step::Force,
        lifecycle::Step::Abandon => Step::Abandon,
    };
    let told = told.map(|(reason, pressed)| (why(reason), step(pressed)));
    let life = worker.life.as_ref();
    let known = life.and_then(|life| life.ending.map(|ending| (ending.why, life.step())));
    demand!(told == known, "rule 1: it ends by {told:?}, the model says {known:?}");
    Ok(())
}

/// I17 to I19: ends are begun, pressed and given up on time.
fn bounds(now: Moment, tick: bool, worker: &Worker, over: bool) -> Verdict {
    let Some(life) = worker.life.as_ref().filter(|life| !life.abandoned) else { return Ok(()) };
    if let Some(told) = life.let_go {
        demand!(told, "it outlives the master, and nobody lets it go");
        return Ok(());
    }
    let Some(ending) = life.ending else {
        let must_end = life.probes.as_ref().is_some_and(Probes::must_end);
        demand!(!must_end, "I39: too many failures, and it goes on");
        demand!(worker.goal == Goal::Up, "rule 13: the goal is down, and it goes on");
        let expired = tick && now >= life.start_by;
        let patient = life.up_at.is_some() || !expired || life.ordered_at == now;
        demand!(patient, "I18: its time to start is over");
        let ordered = life.start_ordered || !life.launched;
        demand!(ordered, "I20: launched, but not started");
        return Ok(());
    };
    let told = life.asked.or(life.forced);
    demand!(told.is_some(), "I17: it ends by {:?}, and nobody told it", ending.why);
    demand!(!worker.turn.force || life.forced.is_some(), "I17: the force is lost");
    if !tick {
        return Ok(());
    }
    if over {
        demand!(life.killable || life.forced.is_some(), "I19: a thread is waited for");
        demand!(life.forced.is_some(), "I19: it is not forced at the end");
    }
    let late = match (life.forced, life.asked) {
        (Some(forced), _) => now >= forced + KILL_TIMEOUT,
        (None, Some(asked)) => asked != now && now >= asked + life.patience,
        (None, None) => false,
    };
    demand!(!late, "I17: its time to end is over");
    Ok(())
}
