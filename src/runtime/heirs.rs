//! What the loop does for the end of its master: taking over what a former one left, letting go of
//! what outlives this one, and having written down what people want.

use super::slot::reporter;
use super::{Loop, ReplySender};
use crate::core::event::{Command, Goal, Refusal, Status};
use crate::core::moment::Moment;
use crate::host::estate::Adoption;
use crate::worker::WorkerId;

impl Loop {
    /// A process of a former master becomes its worker's present incarnation.
    pub(super) fn adopt(&mut self, now: Moment, adoption: Adoption, reply: ReplySender) {
        let (worker, incarnation) = (adoption.worker.clone(), adoption.incarnation());
        if self.core.status(worker.as_str()).is_none() {
            // A master that shuts down adds nobody: the process is left to the next one.
            return reply.answer(Err(Refusal::ShuttingDown));
        }
        let up_for = adoption.age();
        let Some(slot) = self.workers.get_mut(&worker) else { return };
        let report = reporter(&worker, incarnation, self.sender.clone());
        slot.adopt(adoption, &self.parts, report);
        let command = Command::Adopt { worker: worker.clone(), incarnation, up_for };
        self.command(now, command, reply);
        let Some(slot) = self.workers.get(&worker) else { return };
        let listed = slot.config.endpoints.clone();
        self.tell_endpoints(&worker, incarnation, listed);
    }

    /// An incarnation lives on without us.
    pub(super) fn let_go(&mut self, worker: &WorkerId, incarnation: u64) {
        log::info!("{worker}#{incarnation} is left to the next master");
        if let Some(slot) = self.workers.get_mut(worker) {
            slot.hosts.remove(&incarnation);
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
