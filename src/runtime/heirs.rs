//! What the loop does for the end of its master: taking over what a former one left, letting go of
//! what outlives this one, and having written down what people want.

use super::slot::reporter;
use super::{Loop, ReplySender};
use crate::core::event::{Command, Goal, Status};
use crate::core::moment::Moment;
use crate::host::estate::Adoption;
use crate::worker::WorkerId;

impl Loop {
    /// A process of a former master becomes its worker's present incarnation.
    pub(super) fn adopt(&mut self, now: Moment, adoption: Adoption, reply: ReplySender) {
        let (worker, incarnation) = (adoption.worker.clone(), adoption.incarnation());
        let Some(slot) = self.workers.get_mut(&worker) else { return };
        let report = reporter(&worker, incarnation, self.sender.clone());
        slot.adopt(adoption, &self.parts, report);
        self.command(now, Command::Adopt { worker: worker.clone(), incarnation }, reply);
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

    /// Has written down what people want of a worker. That the master shuts down is no wish.
    pub(super) fn note_goal(&mut self, worker: &WorkerId, status: &Status) {
        let Some(slot) = self.workers.get_mut(worker).filter(|_| !self.leaving) else { return };
        let up = status.goal == Goal::Up;
        if std::mem::replace(&mut slot.wanted_up, up) != up {
            self.parts.processes.estate().wants(worker, up);
        }
    }
}
