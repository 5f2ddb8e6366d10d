//! The way to a running loop: its inbox, and what it publishes.

use std::sync::Arc;

use crossbeam_channel::Sender;

use super::directory::Directory;
use super::{Board, Input, Pulse, Route, Stall};
use crate::worker::WorkerId;

/// The way to a running loop. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Handle {
    pub(super) inbox: Sender<Input>,
    pub(crate) board: Arc<Board>,
    pub(super) directory: Arc<Directory>,
    pub(super) pulse: Arc<Pulse>,
    pub(crate) realm: u64,
}

impl Handle {
    /// Puts an input into the loop's inbox. When the loop has ended the input is dropped, which
    /// answers its command.
    pub(crate) fn send(&self, input: Input) {
        let _ = self.inbox.send(input);
    }

    /// What the loop is at, if it has been at it for too long.
    pub(crate) fn stall(&self) -> Option<Stall> {
        self.pulse.stall()
    }

    /// The way to a function. A name that no worker can have leads nowhere.
    pub(crate) fn route(&self, worker: &str, function: &str) -> Route {
        let id = WorkerId::new(worker);
        let line = id.map_or_else(|_| Arc::default(), |id| self.directory.line(&id));
        Route::new(worker, function, self.realm, Arc::clone(&self.board), line)
    }
}
