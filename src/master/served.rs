//! What the server of a master's socket asks of it, beside what all programs may: the past of its
//! workers, what the loop publishes, and to be told of its end.

#![cfg_attr(not(target_os = "linux"), expect(dead_code, reason = "nothing is served there yet"))]

use std::path::Path;
use std::sync::Arc;
use std::task::Waker;

use super::{Master, Plan, running};
#[cfg(target_os = "linux")]
use crate::control::Server;
use crate::core::event::Command;
use crate::error::{Error, ErrorCategory, Result};
#[cfg(target_os = "linux")]
use crate::host::state::StateTrouble;
use crate::runtime::{Board, Past, Stall, Ticket, Watch};

impl Master {
    /// The last changes of a worker's state, the oldest first; at most 64 are remembered.
    ///
    /// # Errors
    /// There is no such worker.
    pub fn history(&self, worker: &str) -> Result<Vec<Past>> {
        self.shared.handle.board.history(worker)
    }

    /// What the loop publishes.
    pub(crate) fn board(&self) -> &Arc<Board> {
        &self.shared.handle.board
    }

    /// What the loop is at, if it has been at it for more than a second.
    pub(crate) fn stall(&self) -> Option<Stall> {
        self.shared.handle.stall()
    }

    /// What is wrong with its state directory, and where that is.
    #[cfg(target_os = "linux")]
    pub(crate) fn state_trouble(&self) -> Option<(&Path, StateTrouble)> {
        let state = self.shared.state.as_ref()?;
        Some((state.path(), state.trouble()?))
    }

    /// True once the loop has ended, in whatever way.
    pub(crate) fn has_ended(&self) -> bool {
        self.board().has_ended()
    }

    /// True once the loop has ended by a fault of its own.
    pub(crate) fn has_died(&self) -> bool {
        self.board().has_died()
    }

    /// Has `waker` called when the loop ends.
    pub(crate) fn watch_end(&self, waker: Waker) -> Watch {
        self.board().watch_end(waker)
    }

    /// Lets others operate this master, if it has a place to listen at.
    #[cfg(target_os = "linux")]
    pub(super) fn listen(&mut self, name: &str) -> Result<()> {
        let share = self.share();
        if let Some(owned) = &mut self.owned
            && let Some(state) = &owned._state
        {
            owned._server = Some(Server::start(share, name, Arc::clone(&state.0))?);
        }
        Ok(())
    }

    /// Has the state directory made again, and what belongs in it, if somebody has removed it.
    pub(super) fn look_after_state(&self) {
        if let Some(state) = &self.shared.state {
            state.look_after();
        }
    }

    /// `force`: also past what it would wait for.
    pub(crate) fn start_nowait(&self, worker: &str, force: bool) -> Ticket<u64> {
        self.about(worker, move |worker| Command::Start { worker, force }, running)
    }

    /// What a reload with the file at `config` would do; without one, with what it was made from.
    pub(crate) fn plan_served(&self, config: Option<&Path>) -> Result<Plan> {
        let config = match (config, &self.shared.reader) {
            (None, _) => self.read_source()?,
            (Some(path), Some(reader)) => reader(path)?,
            (Some(_), None) => {
                let message = "this master reads no files but its own configuration";
                return Err(Error::new(ErrorCategory::Refused, message));
            }
        };
        self.plan(&config)
    }
}
