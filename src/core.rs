//! The pure core: events in, effects out. It decides everything about workers' lives and knows no
//! thread, channel, file, process, clock, logger or environment; time is an argument.
//!
//! ```text
//! phase:  none -> launching -> starting -> up -> ending -> none        (up -> let go)
//!                     \            \________/|\     |
//!                      \____________________/  ask -> force -> abandon
//! ```
//!
//! The contract, in the order of the code:
//!
//! 1. Commands set a worker's *goal* (up, down, gone); reports change its *phase*; one `settle` at
//!    the end of each turn moves phases toward goals. All facts first, then acts; no recursion.
//! 2. The public state is computed from phase and verdict ([`worker::state`]) and published edge by
//!    edge.
//! 3. There is one way to end: every reason enters `Ending`, and only the report `Gone` leaves it.
//!    The first reason stays.
//! 4. A deadline lives in the phase that needs it, so leaving the phase destroys it. Deadlines fire
//!    at `Event::Tick` alone: what has already been heard is applied before a timeout is judged.
//! 5. A report carries its incarnation; one that does not match is dropped in one place and
//!    counted.
//! 6. Every command gets exactly one reply.
//! 7. Randomness (jitter) comes from one generator, seeded at construction: the same events at the
//!    same moments give the same effects.

mod change;
mod command;
pub(crate) mod event;
mod health;
pub(crate) mod lifecycle;
pub(crate) mod moment;
pub(crate) mod planted;
mod restart;
mod rng;
#[cfg(test)]
mod sim;
#[cfg(test)]
mod story;
#[cfg(test)]
mod tests;
mod worker;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::Duration;

use event::{Condition, Done, Effect, Event, Refusal, Report, Status, Ticket};
use moment::Moment;
use planted::{Bug, planted};
use rng::Rng;
use worker::{Turn, Worker};

use crate::worker::WorkerId;

/// Of so many removed workers the incarnations are remembered one by one; a program that gives each
/// job an id of its own must not fill the memory.
const MAX_RETIRED: usize = 4096;

/// The decider. See the module's documentation.
#[derive(Clone, Debug)]
pub(crate) struct Core {
    /// Boxed, since a map has room for more than it holds.
    workers: BTreeMap<WorkerId, Box<Worker>>,
    /// What must outlive a removed worker: its incarnations go on when it comes back.
    retired: BTreeMap<WorkerId, Retired>,
    /// No id that is not in `retired` had a later incarnation.
    retired_floor: u64,
    /// Each worker's next deadline: a cache of `Worker::deadline`, kept in `settle`.
    timers: BTreeSet<(Moment, WorkerId)>,
    /// For each worker the ones whose launch may wait for it.
    dependants: BTreeMap<WorkerId, BTreeSet<WorkerId>>,
    shutdown: Option<Shutdown>,
    shutdown_timeout: Duration,
    rng: Rng,
    now: Moment,
    /// Counts workers in the order they were added: shutdown goes through them backwards.
    added: u64,
    stale_reports: u64,
}

#[derive(Clone, Debug, Default)]
struct Retired {
    incarnation: u64,
    written_off: BTreeSet<u64>,
}

#[derive(Clone, Debug)]
struct Shutdown {
    /// When what is left is ended by force; `NEVER` once that has been done.
    deadline: Moment,
    tickets: Vec<Ticket>,
    /// What was answered, once everything is down.
    result: Option<Done>,
}

impl Core {
    /// A core without workers. `seed` determines all jitter.
    pub(crate) fn new(seed: u64, shutdown_timeout: Duration) -> Self {
        Self {
            workers: BTreeMap::new(),
            retired: BTreeMap::new(),
            retired_floor: 0,
            timers: BTreeSet::new(),
            dependants: BTreeMap::new(),
            shutdown: None,
            shutdown_timeout,
            rng: Rng::new(seed),
            now: Moment::ZERO,
            added: 0,
            stale_reports: 0,
        }
    }

    /// Applies one event at `now` and says what is to be done about it. A clock that goes backwards
    /// is taken as standing still.
    pub(crate) fn handle(&mut self, now: Moment, event: Event) -> Vec<Effect> {
        self.now = self.now.max(now);
        let mut effects = Vec::new();
        let mut touched = VecDeque::new();
        match event {
            Event::Command { ticket, command } => {
                self.command(ticket, command, &mut effects, &mut touched);
            }
            Event::Report { worker, incarnation, report } => {
                if self.report(&worker, incarnation, report, &mut effects) {
                    touched.push_back(worker);
                }
            }
            Event::Tick => {
                self.tick(&mut effects);
                return effects;
            }
        }
        self.settle(touched, &mut effects);
        effects
    }

    /// When `Event::Tick` is due next; `None`: nothing is pending.
    pub(crate) fn next_deadline(&self) -> Option<Moment> {
        let shutdown = self.shutdown.as_ref().map(|shutdown| shutdown.deadline);
        let worker = self.timers.first().map(|(moment, _)| *moment);
        let next = [shutdown, worker].into_iter().flatten().min();
        next.filter(|moment| *moment != Moment::NEVER)
    }

    /// What is known of a worker.
    pub(crate) fn status(&self, worker: &str) -> Option<Status> {
        let worker = self.workers.get(worker)?;
        Some(worker.status(self.unmet(worker)))
    }

    /// Runs `act` on a worker with what it needs of the core.
    fn with_worker<T>(
        &mut self,
        worker: &WorkerId,
        effects: &mut Vec<Effect>,
        act: impl FnOnce(&mut Worker, &mut Turn<'_>) -> T,
    ) -> Option<T> {
        let worker = self.workers.get_mut(worker)?;
        let mut turn = Turn { now: self.now, effects, rng: &mut self.rng };
        Some(act(worker, &mut turn))
    }

    /// Applies a report. False: it was stale and changed nothing.
    fn report(
        &mut self,
        id: &WorkerId,
        incarnation: u64,
        report: Report,
        effects: &mut Vec<Effect>,
    ) -> bool {
        let is_end = matches!(report, Report::Gone(_));
        let Some(worker) = self.workers.get_mut(id) else {
            let is_end = is_end && !planted(Bug::WrittenOffKept);
            if let (true, Some(retired)) = (is_end, self.retired.get_mut(id)) {
                retired.written_off.remove(&incarnation);
            }
            self.stale_reports += 1;
            return false;
        };
        if is_end && worker.forget_written_off(incarnation) {
            return true;
        }
        if !worker.lives_as(incarnation) {
            self.stale_reports += 1;
            return false;
        }
        let heard = self.with_worker(id, effects, |worker, turn| worker.hear(turn, report));
        heard == Some(true)
    }

    /// Fires every deadline that is due, in the order of the deadlines.
    fn tick(&mut self, effects: &mut Vec<Effect>) {
        // Each firing moves its deadline on; a bound turns a mistake of ours into a clear failure.
        let mut budget = 64 + 64 * self.workers.len();
        while let Some((due, id)) = self.timers.first().cloned()
            && due <= self.now
        {
            assert!(budget > 0, "a deadline of {id} does not move on");
            budget -= 1;
            let unmet = self.workers.get(&id).map_or_else(Vec::new, |worker| self.unmet(worker));
            self.with_worker(&id, effects, |worker, turn| worker.deadline_passed(turn, &unmet));
            self.settle(VecDeque::from([id]), effects);
        }
        if let Some(shutdown) = &mut self.shutdown
            && shutdown.deadline <= self.now
        {
            shutdown.deadline = Moment::NEVER;
            let touched = self.ids_backwards();
            for id in &touched {
                self.with_worker(id, effects, Worker::out_of_patience);
            }
            self.settle(touched, effects);
        }
    }

    /// Worker ids, the last added first.
    fn ids_backwards(&self) -> VecDeque<WorkerId> {
        let mut ids: Vec<_> =
            self.workers.iter().map(|(id, worker)| (worker.sequence(), id.clone())).collect();
        ids.sort_unstable_by(|a, b| b.cmp(a));
        ids.into_iter().map(|(_, id)| id).collect()
    }

    /// The end of a turn: launches what is wanted and may be launched, forgets what is gone, keeps
    /// the timers, and says who changed.
    fn settle(&mut self, mut touched: VecDeque<WorkerId>, effects: &mut Vec<Effect>) {
        let mut changed = BTreeSet::new();
        while let Some(id) = touched.pop_front() {
            let Some(worker) = self.workers.get(&id) else { continue };
            if self.shutdown.is_none() && worker.wants_launch() {
                let waits = !worker.is_forced_start() && !self.unmet(worker).is_empty();
                self.with_worker(&id, effects, |worker, turn| {
                    if waits { worker.wait(turn) } else { worker.launch(turn) }
                });
            }
            if self.workers.get_mut(&id).is_some_and(|worker| worker.take_news()) {
                touched.extend(self.waiting_for(&id));
            }
            if self.retire(&id, effects) {
                changed.remove(&id);
                touched.extend(self.waiting_for(&id));
            } else {
                self.keep_timer(&id);
                changed.insert(id);
            }
        }
        effects.extend(changed.into_iter().map(|worker| Effect::Changed { worker }));
        self.end_shutdown(effects);
    }

    /// The workers whose launch may wait for this one, and is due.
    fn waiting_for(&self, id: &WorkerId) -> Vec<WorkerId> {
        let due = |dependant: &&WorkerId| {
            self.workers.get(*dependant).is_some_and(|worker| worker.wants_launch())
        };
        let dependants = self.dependants.get(id).into_iter().flatten();
        dependants.filter(due).cloned().collect()
    }

    /// Brings the timer cache in line with the worker's own deadline.
    fn keep_timer(&mut self, id: &WorkerId) {
        let Some(worker) = self.workers.get_mut(id) else { return };
        let deadline = worker.deadline().filter(|moment| *moment != Moment::NEVER);
        let before = worker.replace_timer(deadline);
        if before == deadline {
            return;
        }
        if let Some(before) = before {
            self.timers.remove(&(before, id.clone()));
        }
        if let Some(deadline) = deadline {
            self.timers.insert((deadline, id.clone()));
        }
    }

    /// Forgets a worker that is to be gone and has no incarnation. True if it did.
    fn retire(&mut self, id: &WorkerId, effects: &mut Vec<Effect>) -> bool {
        let Some(worker) = self.workers.get(id).filter(|worker| worker.is_removed()) else {
            return false;
        };
        let retired = worker.retired();
        self.forget_dependant(id);
        self.remember(id, retired);
        self.with_worker(id, effects, Worker::forget);
        if let Some(worker) = self.workers.remove(id)
            && let Some(timer) = worker.timer()
        {
            self.timers.remove(&(timer, id.clone()));
        }
        effects.push(Effect::Forgotten { worker: id.clone() });
        true
    }

    /// Keeps what must outlive a removed worker, for so many ids.
    fn remember(&mut self, id: &WorkerId, retired: Retired) {
        self.retired.insert(id.clone(), retired);
        if self.retired.len() > MAX_RETIRED
            && let Some((_, oldest)) = self.retired.pop_first()
        {
            self.retired_floor = self.retired_floor.max(oldest.incarnation);
        }
    }

    /// Ends the shutdown once nothing but stuck incarnations is left.
    fn end_shutdown(&mut self, effects: &mut Vec<Effect>) {
        let Some(shutdown) = &mut self.shutdown else { return };
        let holds = |worker: &Worker| worker.holds_shutdown();
        if shutdown.result.is_some() || self.workers.values().any(|worker| holds(worker)) {
            return;
        }
        let of = |wanted: fn(&Worker) -> bool| -> Vec<WorkerId> {
            let found = self.workers.iter().filter(|(_, worker)| wanted(worker));
            found.map(|(id, _)| id.clone()).collect()
        };
        let result = Done::ShutDown { killed: of(Worker::was_killed), stuck: of(Worker::is_stuck) };
        shutdown.deadline = Moment::NEVER;
        shutdown.result = Some(result.clone());
        for ticket in shutdown.tickets.drain(..) {
            effects.push(Effect::Reply { ticket, reply: Ok(result.clone()) });
        }
        effects.push(Effect::AllDown);
    }

    /// The dependencies of a worker that are not met now; empty unless it wants to be launched.
    fn unmet(&self, worker: &Worker) -> Vec<(WorkerId, Condition)> {
        if !worker.wants_launch() {
            return Vec::new();
        }
        let unmet = worker.depends_on().iter().filter(|(id, condition)| {
            let missing = planted(Bug::MissingDependencyMet);
            !self.workers.get(id).map_or(missing, |dependency| dependency.meets(*condition))
        });
        unmet.cloned().collect()
    }

    fn refuse(effects: &mut Vec<Effect>, ticket: Ticket, refusal: Refusal) {
        effects.push(Effect::Reply { ticket, reply: Err(refusal) });
    }
}

#[cfg(test)]
impl Core {
    /// Everything that can influence the future, with moments relative to `now` and incarnations
    /// relative to the newest: two cores with equal fingerprints behave alike.
    pub(crate) fn fingerprint(&self, now: Moment) -> String {
        use std::fmt::Write as _;
        let mut text = String::new();
        for worker in self.workers.values() {
            worker.fingerprint(now, &mut text);
        }
        if let Some(shutdown) = &self.shutdown {
            let left = worker::relative(shutdown.deadline, now);
            let open = shutdown.tickets.len();
            let _ = write!(text, "shutdown {left} {open} {}", shutdown.result.is_some());
        }
        text
    }

    /// All workers, in alphabetical order.
    pub(crate) fn workers(&self) -> impl Iterator<Item = &WorkerId> {
        self.workers.keys()
    }

    /// Why and how far a worker is ending.
    pub(crate) fn ending(&self, worker: &str) -> Option<(lifecycle::Why, lifecycle::Step)> {
        match &self.workers.get(worker)?.phase {
            worker::Phase::Ending(ending) => Some((ending.why, ending.step)),
            worker::Phase::None
            | worker::Phase::Launching { .. }
            | worker::Phase::Launched { .. }
            | worker::Phase::Starting { .. }
            | worker::Phase::Up { .. }
            | worker::Phase::LetGo { .. } => None,
        }
    }

    /// Reports that came too late to matter.
    pub(crate) fn stale_reports(&self) -> u64 {
        self.stale_reports
    }
}
