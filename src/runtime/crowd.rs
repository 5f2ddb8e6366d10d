//! How many commands one worker may have to answer: each takes memory until it is answered, and
//! whoever gave it may be gone.

use super::{Loop, ReplySender};
use crate::core::event::Command;
use crate::core::moment::Moment;

/// So many; as many again if they are forced, so that one can get past those that wait.
const MAX_COMMANDS: usize = 1024;

impl Loop {
    /// Carries out a command, unless its worker has too many to answer already.
    pub(super) fn admit(&mut self, now: Moment, command: Command, reply: ReplySender) {
        let most = match &command {
            Command::Start { worker, force }
            | Command::Stop { worker, force }
            | Command::Restart { worker, force } => {
                let most = if *force { 2 * MAX_COMMANDS } else { MAX_COMMANDS };
                (self.core.unanswered(worker) >= most).then_some(most)
            }
            Command::Add { .. }
            | Command::Adopt { .. }
            | Command::Update { .. }
            | Command::Remove { .. }
            | Command::Settle { .. }
            | Command::Shutdown { .. } => None,
        };
        match most {
            Some(most) => reply.crowded(most),
            None => self.command(now, command, reply),
        }
    }
}
