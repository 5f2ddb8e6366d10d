//! Who is told that a file of logs cannot be written, and that it is written again.

use std::path::PathBuf;
use std::sync::OnceLock;

use crate::worker::WorkerId;

/// What has become of a file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum LogNews {
    /// It cannot be written, and what comes is lost.
    Degraded { path: PathBuf, message: String },
    /// It is written again. `dropped`: so much was lost, of a worker's log in bytes, of the events
    /// in events.
    Recovered { path: PathBuf, dropped: u64 },
}

/// Called with the worker whose log it is; `None`: it is that of the events.
type Listener = Box<dyn Fn(Option<&WorkerId>, LogNews) + Send + Sync>;

/// The one who is told. It is called by who writes, and waits for nothing.
#[derive(Default)]
pub(super) struct Told(OnceLock<Listener>);

impl Told {
    pub(super) fn listen(&self, listener: Listener) {
        // The first one stays: a master has one loop.
        let _ = self.0.set(listener);
    }

    pub(super) fn tell(&self, worker: Option<&WorkerId>, news: LogNews) {
        if let Some(listener) = self.0.get() {
            listener(worker, news);
        }
    }
}
