//! The judge: the real core beside the model. Every turn goes through it, and it says which rule of
//! the contract the core broke, if it broke one.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use super::life::Life;
use super::model::{MAX_WRITTEN_OFF, Shows, Turn, Worker};
use super::tickets::{Open, Wants};
use super::{Verdict, demand};
use crate::core::Core;
use crate::core::event::{
    Command, Condition, Done, Effect, Event, Goal, Refusal, Reply, Report, Status, Ticket,
    WorkerSpec,
};
use crate::core::moment::Moment;
use crate::worker::{HealthStatus, WorkerId, WorkerState};

/// The end of all.
#[derive(Clone, Debug)]
pub(super) struct Shutdown {
    pub(super) end: Moment,
    /// Its time is over.
    pub(super) over: bool,
}

/// The core under supervision.
#[derive(Clone)]
pub(super) struct Judge {
    pub(super) core: Core,
    pub(super) workers: BTreeMap<WorkerId, Worker>,
    /// The newest incarnation of every id, also of removed ones.
    pub(super) numbers: BTreeMap<WorkerId, u64>,
    /// Written off incarnations of forgotten workers.
    pub(super) retired: BTreeMap<WorkerId, BTreeMap<u64, Life>>,
    pub(super) tickets: BTreeMap<Ticket, Open>,
    pub(super) shutdown: Option<Shutdown>,
    pub(super) all_down: bool,
    /// How the first shutdown was answered.
    pub(super) ended: Option<Reply>,
    pub(super) statuses: BTreeMap<WorkerId, Status>,
    shutdown_timeout: Duration,
    /// The current turn: is it a tick, and which workers were published or forgotten in it?
    pub(super) tick: bool,
    pub(super) changed: BTreeSet<WorkerId>,
    pub(super) forgotten: BTreeSet<WorkerId>,
    pub(super) effects: Vec<Effect>,
}

impl Judge {
    pub(super) fn new(seed: u64, shutdown_timeout: Duration) -> Self {
        Self {
            core: Core::new(seed, shutdown_timeout),
            workers: BTreeMap::new(),
            numbers: BTreeMap::new(),
            retired: BTreeMap::new(),
            tickets: BTreeMap::new(),
            shutdown: None,
            all_down: false,
            ended: None,
            statuses: BTreeMap::new(),
            shutdown_timeout,
            tick: false,
            changed: BTreeSet::new(),
            forgotten: BTreeSet::new(),
            effects: Vec::new(),
        }
    }

    /// One turn of the core, held to the contract.
    pub(super) fn turn(&mut self, now: Moment, event: Event) -> Verdict {
        self.changed.clear();
        self.forgotten.clear();
        self.tick = matches!(event, Event::Tick);
        for worker in self.workers.values_mut() {
            worker.turn = Turn::default();
        }
        for open in self.tickets.values_mut() {
            open.fresh = false;
        }
        let command = matches!(event, Event::Command { .. });
        let nothing_may_change = self.hear(now, &event)?;
        self.effects = self.core.handle(now, event);
        let effects = std::mem::take(&mut self.effects);
        let verdict = effects.iter().try_for_each(|effect| self.effect(now, effect));
        self.effects = effects;
        verdict?;
        let statuses = self.all_statuses()?;
        let before = std::mem::replace(&mut self.statuses, statuses);
        if nothing_may_change {
            let harmless = |effect: &Effect| match effect {
                Effect::Reply { .. } => true,
                Effect::Changed { .. } => command,
                Effect::Launch { .. }
                | Effect::Start { .. }
                | Effect::Probe { .. }
                | Effect::Ask { .. }
                | Effect::Force { .. }
                | Effect::Abandon { .. }
                | Effect::LetGo { .. }
                | Effect::Transition(_)
                | Effect::Health { .. }
                | Effect::Forgotten { .. }
                | Effect::AllDown => false,
            };
            demand!(self.effects.iter().all(harmless), "I4: what must be ignored had effects");
            demand!(before == self.statuses, "I4: what must be ignored changed a status");
        }
        self.compare(now, &before)
    }

    fn all_statuses(&self) -> Verdict<BTreeMap<WorkerId, Status>> {
        let known: Vec<&WorkerId> = self.core.workers().collect();
        let expected: Vec<&WorkerId> = self.workers.keys().collect();
        demand!(known == expected, "the core knows {known:?}, not {expected:?}");
        let status = |id: &WorkerId| {
            self.core.status(id.as_str()).map(|status| (id.clone(), status)).ok_or("no status")
        };
        Ok(self.workers.keys().map(status).collect::<Result<_, _>>()?)
    }

    /// Tells the model what the core is about to hear. True: nothing may change by it.
    fn hear(&mut self, now: Moment, event: &Event) -> Verdict<bool> {
        match event {
            Event::Command { ticket, command } => {
                let (worker, wants, refused) = self.command(now, command);
                let open = Open { at: now, worker, wants, fresh: true, until: None };
                demand!(
                    self.tickets.insert(*ticket, open).is_none(),
                    "the world reused {ticket:?}"
                );
                Ok(refused)
            }
            Event::Report { worker, incarnation, report } => match self.workers.get_mut(worker) {
                Some(known) => {
                    known.heard(now, *incarnation, report)?;
                    Ok(known.turn.ignored)
                }
                None => {
                    if let (Some(lives), Report::Gone(_)) = (self.retired.get_mut(worker), report) {
                        lives.remove(incarnation);
                    }
                    Ok(true)
                }
            },
            Event::Tick => {
                for worker in self.workers.values_mut() {
                    worker.ticked(now);
                }
                if let Some(shutdown) = &mut self.shutdown {
                    shutdown.over |= now >= shutdown.end;
                }
                Ok(false)
            }
        }
    }

    /// What the ticket now waits for, and whether the command is refused.
    fn command(&mut self, now: Moment, command: &Command) -> (Option<WorkerId>, Wants, bool) {
        let refuse =
            |refusals: &[Refusal]| (Wants::Now(refusals.iter().cloned().map(Err).collect()), true);
        let (worker, (wants, refused)) = match command {
            Command::Add { worker, spec, past } => (Some(worker), self.add(worker, spec, *past)),
            Command::Shutdown { force, keep } => {
                (None, (self.shut_down(now, *force, *keep), false))
            }
            Command::Settle { shutdown_timeout } => (None, self.settle(*shutdown_timeout)),
            Command::Adopt { worker, incarnation, up_for } => {
                (Some(worker), self.adopt(now, worker, *incarnation, *up_for))
            }
            Command::Update { worker, spec, restart } => {
                (Some(worker), self.update(now, worker, spec, *restart))
            }
            Command::Start { worker, force } => {
                (Some(worker), self.up(now, worker, false, *force).unwrap_or_else(|no| refuse(&no)))
            }
            Command::Restart { worker, force } => {
                (Some(worker), self.up(now, worker, true, *force).unwrap_or_else(|no| refuse(&no)))
            }
            Command::Stop { worker, force } => {
                (Some(worker), self.down(now, worker, Goal::Down, *force))
            }
            Command::Remove { worker } => (Some(worker), self.down(now, worker, Goal::Gone, false)),
        };
        (worker.cloned(), wants, refused)
    }

    fn add(&mut self, id: &WorkerId, spec: &WorkerSpec, past: u64) -> (Wants, bool) {
        match self.workers.get(id) {
            Some(known) if known.goal == Goal::Gone => {
                (Wants::Now(vec![Err(Refusal::BeingRemoved), Err(Refusal::ShuttingDown)]), true)
            }
            Some(_) => {
                (Wants::Now(vec![Err(Refusal::AlreadyExists), Err(Refusal::ShuttingDown)]), true)
            }
            None if self.shutdown.is_some() => (Wants::Now(vec![Err(Refusal::ShuttingDown)]), true),
            None => {
                let mut worker = Worker::new(spec.clone());
                worker.written_off = self.retired.remove(id).unwrap_or_default();
                self.workers.insert(id.clone(), worker);
                let newest = self.numbers.entry(id.clone()).or_default();
                *newest = past.max(*newest);
                (Wants::Now(vec![Ok(Done::Added)]), false)
            }
        }
    }

    fn settle(&mut self, shutdown_timeout: Duration) -> (Wants, bool) {
        if self.shutdown.is_some() {
            return (Wants::Now(vec![Err(Refusal::ShuttingDown)]), true);
        }
        self.shutdown_timeout = shutdown_timeout;
        (Wants::Now(vec![Ok(Done::Updated)]), false)
    }

    /// Why a worker takes neither a change nor an incarnation of a former master.
    fn is_closed(&self, id: &WorkerId) -> Option<(Wants, bool)> {
        let refusals = match self.workers.get(id) {
            None => vec![Err(Refusal::UnknownWorker)],
            Some(worker) => {
                let gone = worker.goal == Goal::Gone;
                let removed = gone.then_some(Err(Refusal::BeingRemoved));
                let ends = self.shutdown.is_some().then_some(Err(Refusal::ShuttingDown));
                removed.into_iter().chain(ends).collect()
            }
        };
        (!refusals.is_empty()).then_some((Wants::Now(refusals), true))
    }

    fn update(
        &mut self,
        now: Moment,
        id: &WorkerId,
        spec: &WorkerSpec,
        restart: bool,
    ) -> (Wants, bool) {
        if let Some(refused) = self.is_closed(id) {
            return refused;
        }
        let Some(worker) = self.workers.get_mut(id) else { return (Wants::Now(vec![]), true) };
        worker.updated(now, spec);
        if !restart || worker.goal != Goal::Up {
            return (Wants::Now(vec![Ok(Done::Updated)]), false);
        }
        let refuse =
            |no: Vec<Refusal>| (Wants::Now(no.into_iter().map(Err).collect::<Vec<_>>()), false);
        match self.up(now, id, true, false) {
            Err(refusals) => refuse(refusals),
            Ok(wants) => wants,
        }
    }

    fn adopt(
        &mut self,
        now: Moment,
        id: &WorkerId,
        number: u64,
        up_for: Duration,
    ) -> (Wants, bool) {
        if let Some(refused) = self.is_closed(id) {
            return refused;
        }
        let newest = self.numbers.get(id).copied().unwrap_or(0);
        let Some(worker) = self.workers.get_mut(id) else { return (Wants::Now(vec![]), true) };
        let unknown_here =
            worker.shows == Shows::Uninitialized && !worker.written_off.contains_key(&number);
        let fits = number > newest || number == newest && number > 0 && unknown_here;
        if worker.life.is_some() || !fits {
            return (Wants::Now(vec![Err(Refusal::CannotAdopt)]), true);
        }
        worker.adopted(now, number, up_for);
        self.numbers.insert(id.clone(), number);
        self.own_tickets(id, number);
        (Wants::Now(vec![Ok(Done::Running { incarnation: number })]), false)
    }

    fn up(
        &mut self,
        now: Moment,
        id: &WorkerId,
        restart: bool,
        force: bool,
    ) -> Result<(Wants, bool), Vec<Refusal>> {
        let shutting_down = self.shutdown.is_some();
        let Some(worker) = self.workers.get_mut(id) else {
            return Err(match shutting_down {
                true => vec![Refusal::UnknownWorker, Refusal::ShuttingDown],
                false => vec![Refusal::UnknownWorker],
            });
        };
        if shutting_down || worker.goal == Goal::Gone {
            let mut refusals = vec![];
            refusals.extend(shutting_down.then_some(Refusal::ShuttingDown));
            refusals.extend((worker.goal == Goal::Gone).then_some(Refusal::BeingRemoved));
            return Err(refusals);
        }
        let past = force && worker.written_off.len() < MAX_WRITTEN_OFF;
        if worker.is_stuck() && !past {
            return Err(vec![Refusal::Stuck]);
        }
        worker.wanted_up(now, restart, force);
        let own = worker.life.as_ref().filter(|life| life.ending.is_none());
        Ok(match own {
            Some(life) if life.is_up() => {
                (Wants::Now(vec![Ok(Done::Running { incarnation: life.number })]), false)
            }
            own => (Wants::Up { own: own.map(|life| life.number) }, false),
        })
    }

    fn down(&mut self, now: Moment, id: &WorkerId, goal: Goal, force: bool) -> (Wants, bool) {
        let Some(worker) = self.workers.get_mut(id) else {
            return (Wants::Now(vec![Err(Refusal::UnknownWorker)]), true);
        };
        if worker.is_let_go() {
            return (Wants::Now(vec![Err(Refusal::ShuttingDown)]), true);
        }
        worker.wanted_down(goal);
        let remove = goal == Goal::Gone;
        let wants = match &mut worker.life {
            Some(life) if life.abandoned => Wants::Now(vec![Err(Refusal::Stuck)]),
            Some(life) => {
                life.end_by_command(now);
                worker.turn.force = force;
                if remove { Wants::Removed } else { Wants::Down }
            }
            None if remove => Wants::Now(vec![Ok(Done::Removed)]),
            None => Wants::Now(vec![Ok(Done::Stopped { forced: false })]),
        };
        (wants, false)
    }

    fn shut_down(&mut self, now: Moment, force: bool, keep: bool) -> Wants {
        let end = now + self.shutdown_timeout;
        let first = self.shutdown.is_none();
        self.shutdown.get_or_insert(Shutdown { end, over: false });
        for worker in self.workers.values_mut() {
            let keeps = first && keep && worker.spec.keeps && worker.goal == Goal::Up;
            if let Some(life) = worker.life.as_mut().filter(|life| keeps && life.is_up()) {
                (life.let_go, life.probes) = (Some(false), None);
                worker.killed = false;
            }
            if worker.is_let_go() {
                continue;
            }
            if first {
                worker.wanted_down(Goal::Down);
                // What is told of the shutdown counts only what happens in it.
                worker.killed = false;
            }
            if let Some(life) = &mut worker.life {
                life.end_by_command(now);
                worker.turn.force |= force;
            }
        }
        Wants::AllDown
    }

    /// The conditions of `id` that do not hold, as the effects told it so far.
    pub(super) fn unmet(&self, id: &WorkerId) -> Vec<(WorkerId, Condition)> {
        let Some(worker) = self.workers.get(id) else { return Vec::new() };
        let holds = |(id, condition): &&(WorkerId, Condition)| {
            let Some(other) = self.workers.get(id) else { return false };
            let running = other.told == WorkerState::Running;
            match condition {
                Condition::Started => running,
                Condition::Healthy => running && other.told_health == HealthStatus::Healthy,
                Condition::Completed => other.told == WorkerState::Stopped && other.told_completed,
            }
        };
        worker.spec.depends_on.iter().filter(|condition| !holds(condition)).cloned().collect()
    }

    pub(super) fn life(&mut self, id: &WorkerId, number: u64) -> Verdict<&mut Life> {
        let life = self.workers.get_mut(id).and_then(|worker| worker.life.as_mut());
        life.filter(|life| life.number == number)
            .ok_or_else(|| format!("I5: an order to {id}#{number}, which does not live"))
    }
}
