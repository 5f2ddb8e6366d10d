//! Commands about what outlives an incarnation or a master: a changed spec, and the incarnations
//! that a former master left.

use std::time::Duration;

use super::Core;
use super::event::{Cause, Done, Effect, Refusal, Ticket, WorkerSpec};
use super::planted::{Bug, planted};
use super::worker::{Goal, Phase, Turn, Verdict, Worker};
use crate::worker::WorkerId;

impl Core {
    /// How many starts, restarts and stops of a worker are not answered yet.
    pub(crate) fn unanswered(&self, id: &WorkerId) -> usize {
        self.workers.get(id.as_str()).map_or(0, |worker| worker.starts.len() + worker.stops.len())
    }

    /// How many shutdowns are not answered yet.
    pub(crate) fn unanswered_shutdowns(&self) -> usize {
        self.shutdown.as_ref().map_or(0, |shutdown| shutdown.tickets.len())
    }

    /// True when a worker's spec may be replaced now.
    pub(crate) fn takes_update(&self, id: &str) -> bool {
        self.refuses_update(id).is_none()
    }

    /// True when a worker of this id may be made known now.
    pub(crate) fn takes_add(&self, id: &str) -> bool {
        self.refuses_add(id).is_none()
    }

    pub(super) fn refuses_add(&self, id: &str) -> Option<Refusal> {
        match self.workers.get(id) {
            _ if self.shutdown.is_some() => Some(Refusal::ShuttingDown),
            Some(worker) if worker.goal == Goal::Gone => Some(Refusal::BeingRemoved),
            Some(_) => Some(Refusal::AlreadyExists),
            None => None,
        }
    }

    /// True when this may become the present incarnation of a worker.
    pub(crate) fn adopts(&self, id: &str, incarnation: u64) -> bool {
        self.refuses_adoption(id, incarnation).is_none()
    }

    fn refuses_adoption(&self, id: &str, incarnation: u64) -> Option<Refusal> {
        self.refuses_update(id).or_else(|| {
            let can = self.workers.get(id).is_some_and(|worker| worker.can_adopt(incarnation));
            (!can).then_some(Refusal::CannotAdopt)
        })
    }

    fn refuses_update(&self, id: &str) -> Option<Refusal> {
        match self.workers.get(id) {
            None => Some(Refusal::UnknownWorker),
            Some(_) if self.shutdown.is_some() => Some(Refusal::ShuttingDown),
            Some(worker) if worker.goal == Goal::Gone => Some(Refusal::BeingRemoved),
            Some(_) => None,
        }
    }

    /// A shutdown that has begun keeps its deadline.
    pub(super) fn settle_master(
        &mut self,
        ticket: Ticket,
        shutdown_timeout: Duration,
        effects: &mut Vec<Effect>,
    ) {
        let reply = match self.shutdown {
            Some(_) => Err(Refusal::ShuttingDown),
            None => {
                self.shutdown_timeout = shutdown_timeout;
                Ok(Done::Updated)
            }
        };
        effects.push(Effect::Reply { ticket, reply });
    }

    pub(super) fn update(
        &mut self,
        ticket: Ticket,
        id: &WorkerId,
        spec: WorkerSpec,
        restart: bool,
        effects: &mut Vec<Effect>,
    ) {
        if let Some(refusal) = self.refuses_update(id.as_str()) {
            Self::refuse(effects, ticket, refusal);
            return;
        }
        if !planted(Bug::DependantsKept) {
            self.forget_dependant(id);
            self.note_dependant(id, &spec);
        }
        self.with_worker(id, effects, |worker, turn| worker.update(turn, ticket, spec, restart));
    }

    pub(super) fn adopt(
        &mut self,
        ticket: Ticket,
        id: &WorkerId,
        (incarnation, up_for): (u64, Duration),
        effects: &mut Vec<Effect>,
    ) {
        if let Some(refusal) = self.refuses_adoption(id.as_str(), incarnation) {
            Self::refuse(effects, ticket, refusal);
            return;
        }
        self.with_worker(id, effects, |worker, turn| {
            worker.goal = Goal::Up;
            worker.adopt(turn, incarnation, up_for);
            turn.reply(ticket, Ok(Done::Running { incarnation }));
        });
    }

    /// The launches of `id` may wait for what its spec names.
    pub(super) fn note_dependant(&mut self, id: &WorkerId, spec: &WorkerSpec) {
        for (dependency, _) in &spec.depends_on {
            self.dependants.entry(dependency.clone()).or_default().insert(id.clone());
        }
    }

    /// The launches of `id` wait for nothing any more.
    pub(super) fn forget_dependant(&mut self, id: &WorkerId) {
        let Some(worker) = self.workers.get(id) else { return };
        for (dependency, _) in worker.depends_on() {
            if let Some(dependants) = self.dependants.get_mut(dependency) {
                dependants.remove(id);
                if dependants.is_empty() {
                    self.dependants.remove(dependency);
                }
            }
        }
    }
}

impl Worker {
    fn update(&mut self, turn: &mut Turn<'_>, ticket: Ticket, spec: WorkerSpec, restart: bool) {
        self.replace_spec(turn, spec);
        if restart && self.goal == Goal::Up && !planted(Bug::ReloadLost) {
            self.restart(turn, ticket, false, Cause::Reload);
        } else {
            turn.reply(ticket, Ok(Done::Updated));
        }
    }

    /// It has no incarnation, and this one comes after all that it had: the last one of a former
    /// master, or a later one.
    fn can_adopt(&self, incarnation: u64) -> bool {
        let unknown_here = self.verdict == Verdict::Uninitialized
            && !self.written_off.contains(&incarnation)
            && incarnation > 0;
        let later = incarnation > self.incarnation;
        self.phase == Phase::None && (later || incarnation == self.incarnation && unknown_here)
    }
}
