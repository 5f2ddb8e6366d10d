//! The worker whose own end is the master's: `main: true`.

use super::Loop;
use crate::core::event::{Cause, Command, Effect, Goal};
use crate::error::ErrorCategory;
use crate::runtime::{Input, Origin, Ticket};
use crate::worker::WorkerId;

impl Loop {
    /// Begins the shutdown when the main worker has come to rest and nobody asked it to.
    pub(super) fn watch_main(&mut self, effect: &Effect) {
        match effect {
            Effect::Transition(transition)
                if transition.cause == Cause::Failed(ErrorCategory::Health)
                    && self.is_main(&transition.worker) =>
            {
                // Its checks can put the goal down, which else only a command does.
                let status = self.core.status(transition.worker.as_str());
                self.main_unwell = status.is_some_and(|status| status.goal == Goal::Down);
            }
            Effect::Launch { worker, .. } if self.is_main(worker) => self.main_unwell = false,
            Effect::Changed { worker } if self.is_main(worker) && self.is_over(worker) => {
                log::info!("{worker} has ended, and so does the master");
                let (board, realm) = (self.board.clone(), self.parts.setting.realm);
                let (_unread, reply) =
                    Ticket::<()>::new(Origin { board, realm, worker: None }, |_| None);
                let command = Command::Shutdown { force: false, keep: false };
                let _ = self.sender.send(Input::Command { command, reply });
            }
            Effect::Launch { .. }
            | Effect::Start { .. }
            | Effect::Probe { .. }
            | Effect::Ask { .. }
            | Effect::Force { .. }
            | Effect::Abandon { .. }
            | Effect::LetGo { .. }
            | Effect::Transition(_)
            | Effect::Health { .. }
            | Effect::Reply { .. }
            | Effect::Changed { .. }
            | Effect::Forgotten { .. }
            | Effect::AllDown => {}
        }
    }

    fn is_main(&self, worker: &WorkerId) -> bool {
        self.workers.get(worker).is_some_and(|slot| slot.config.main)
    }

    /// True when it has lived and no further life is to be expected soon: its work is done, or it
    /// gave up, be there a trial or not.
    fn is_over(&self, worker: &WorkerId) -> bool {
        let Some(status) = self.core.status(worker.as_str()) else { return false };
        let rests = status.phase == "none" && status.exit.is_some();
        match status.goal {
            Goal::Up => rests && (status.gave_up || status.completed && status.retry_at.is_none()),
            Goal::Down => rests && self.main_unwell,
            Goal::Gone => false,
        }
    }
}
