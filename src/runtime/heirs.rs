//! What the loop does for the end of its master: taking over what a former one left, letting go of
//! what outlives this one, and having written down what people want.

use std::sync::Arc;

use super::slot::reporter;
use super::{Loop, ReplySender};
use crate::core::event::{Command, Done, Goal, Refusal, Status};
use crate::core::moment::Moment;
use crate::host::estate::Adoption;
use crate::worker::{WorkerConfig, WorkerId};

/// What a former master has left of a worker.
#[derive(Default)]
pub(crate) struct Left {
    /// Its last incarnation.
    pub(crate) past: u64,
    /// A command has stopped it, which is to stay written down.
    pub(crate) down: bool,
    /// Its process.
    pub(crate) process: Option<Remnant>,
}

/// A process that a former master has left, and what becomes of it.
pub(crate) enum Remnant {
    /// It is its worker's present incarnation.
    GoesOn(Box<Adoption>),
    /// It is that, too, and ends: the next one comes after it.
    Ends(Box<Adoption>),
}

impl Loop {
    /// Makes a worker known together with what a former master has left of it, in one turn: nobody
    /// sees the one without the other. A process that is refused with its worker is left to the
    /// next master, which finds it where it is written down: this one shuts down.
    pub(super) fn add_heir(
        &mut self,
        now: Moment,
        worker: WorkerId,
        (config, left): (Arc<WorkerConfig>, Left),
        reply: ReplySender,
    ) {
        let Left { past, down, process } = left;
        if !self.core.takes_add(worker.as_str()) {
            return self.add(now, worker, (config, past), reply);
        }
        if down {
            self.parts.processes.estate().wants(&worker, false);
        }
        match process {
            None => self.add(now, worker, (config, past), reply),
            Some(Remnant::GoesOn(adoption)) => {
                self.add(now, worker, (config, past), ReplySender::nobody());
                self.adopt(now, *adoption);
                // Who hears that it is known finds its process, too.
                reply.answer(Ok(Done::Added));
            }
            Some(Remnant::Ends(left)) => {
                self.take_left(now, *left);
                let command = Command::Stop { worker: worker.clone(), force: false };
                self.command(now, command, ReplySender::nobody());
                self.update(now, worker, config, false, reply);
            }
        }
    }

    /// See [`Input::End`](super::Input::End).
    pub(super) fn end_left(
        &mut self,
        now: Moment,
        left: Adoption,
        noted: bool,
        reply: ReplySender,
    ) {
        let worker = left.worker.clone();
        if !self.core.takes_add(worker.as_str()) {
            // A master that shuts down adds nobody: the process is left to the next one.
            return reply.answer(Err(Refusal::ShuttingDown));
        }
        self.take_left(now, left);
        if let Some(slot) = self.workers.get_mut(&worker) {
            slot.noted = noted;
        }
        self.command(now, Command::Remove { worker }, reply);
    }

    /// A worker that is what is left of it, and nothing else.
    fn take_left(&mut self, now: Moment, left: Adoption) {
        let (worker, config) = (left.worker.clone(), Arc::new(left.as_leftover()));
        self.add(now, worker, (config, left.incarnation()), ReplySender::nobody());
        self.adopt(now, left);
    }

    /// A process of a former master becomes the present incarnation of its worker, which was just
    /// made known. Nothing is ever started beside it: where it cannot have its number, which this
    /// master has given away, it gets the next one.
    fn adopt(&mut self, now: Moment, mut adoption: Adoption) {
        let worker = adoption.worker.clone();
        if !self.core.adopts(worker.as_str(), adoption.incarnation()) {
            let last = self.core.status(worker.as_str()).map_or(0, |status| status.incarnation);
            adoption.renumber(last.saturating_add(1));
            self.parts.processes.estate().lives(&worker, adoption.incarnation());
        }
        let (incarnation, up_for) = (adoption.incarnation(), adoption.age());
        let Some(slot) = self.workers.get_mut(&worker) else { return };
        let report = reporter(&worker, incarnation, self.sender.clone());
        slot.adopt(adoption, &self.parts, report);
        let command = Command::Adopt { worker: worker.clone(), incarnation, up_for };
        self.command(now, command, ReplySender::nobody());
        let Some(slot) = self.workers.get(&worker) else { return };
        let listed = slot.config.endpoints.clone();
        self.tell_endpoints(&worker, incarnation, listed);
    }

    /// See [`Input::GiveUp`](super::Input::GiveUp).
    pub(super) fn give_up(&mut self, worker: &WorkerId) {
        match self.workers.get_mut(worker) {
            // Its removal forgets it.
            Some(slot) => slot.noted = false,
            None => self.parts.processes.estate().forget(worker),
        }
    }

    /// An incarnation lives on without us.
    pub(super) fn let_go(&mut self, worker: &WorkerId, incarnation: u64) {
        log::info!("{worker}#{incarnation} is left to the next master");
        if let Some(slot) = self.workers.get_mut(worker) {
            slot.hosts.remove(incarnation);
        }
    }

    /// Notes that the master is to shut down, and has written down that a command is to stop a
    /// worker. One that is not enabled is not started anyway: its configuration stops it.
    pub(super) fn note_command(&mut self, command: &Command) {
        self.leaving |= matches!(command, Command::Shutdown { .. });
        let Command::Stop { worker, .. } = command else { return };
        let Some(slot) = self.workers.get_mut(worker).filter(|_| !self.leaving) else { return };
        if slot.config.enabled {
            slot.noted_up = false;
            self.parts.processes.estate().wants(worker, false);
        }
    }

    /// Has written down that a worker is to run. That it is not to run any more is written down
    /// only where people say so: what its health or its configuration stops may run again.
    pub(super) fn note_goal(&mut self, worker: &WorkerId, status: &Status) {
        let Some(slot) = self.workers.get_mut(worker).filter(|_| !self.leaving) else { return };
        if status.goal == Goal::Up && !std::mem::replace(&mut slot.noted_up, true) {
            self.parts.processes.estate().wants(worker, true);
        }
    }
}
