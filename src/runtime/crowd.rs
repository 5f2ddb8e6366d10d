//! How many commands one worker may have to answer, and how many shutdowns the master: each takes
//! memory until it is answered, and whoever gave it may be gone.

use super::{Loop, ReplySender};
use crate::core::event::Command;
use crate::core::moment::Moment;

/// So many; as many again if they are forced, so that one can get past those that wait.
const MAX_COMMANDS: usize = 1024;

impl Loop {
    /// Carries out a command, unless too many of its kind are to be answered already.
    pub(super) fn admit(&mut self, now: Moment, command: Command, reply: ReplySender) {
        let (force, open, what) = match &command {
            Command::Start { worker, force }
            | Command::Stop { worker, force }
            | Command::Restart { worker, force } => {
                let open = self.core.unanswered(worker);
                (*force, open, "commands to this worker are not answered yet")
            }
            Command::Shutdown { force, keep: _ } => {
                let open = self.core.unanswered_shutdowns();
                (*force, open, "shutdowns are not answered yet")
            }
            Command::Add { .. }
            | Command::Adopt { .. }
            | Command::Update { .. }
            | Command::Remove { .. }
            | Command::Settle { .. } => return self.command(now, command, reply),
        };
        let most = if force { 2 * MAX_COMMANDS } else { MAX_COMMANDS };
        if open >= most {
            return reply.crowded(most, what);
        }
        self.command(now, command, reply);
    }
}
