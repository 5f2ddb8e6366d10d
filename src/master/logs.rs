//! Logs and past events, as a program reads them.

use super::Master;
use crate::error::Result;
use crate::logs::{Query, Reader};
use crate::worker::WorkerId;

impl Master {
    /// Reads the logs of some workers: their last lines and, if the query follows, what comes after
    /// them, until the reader is stopped or the master ends. The reader blocks on the files alone,
    /// and holds up no worker.
    ///
    /// # Errors
    /// There is no such worker, nor a log of one; the master keeps no logs, having neither a state
    /// directory nor a directory for logs; a stream is asked for of a log without time stamps.
    pub fn read_logs(&self, workers: &[&str], query: &Query) -> Result<Reader> {
        let known = |worker: &&str| {
            let known = self.shared.handle.board.diagnostics(worker);
            let id = WorkerId::new(worker);
            match (known, id) {
                (Ok(_), id) => id,
                // It was removed, and its log is there.
                (Err(_), Ok(id)) if self.shared.logs.has_left(&id) => Ok(id),
                (Err(error), _) => Err(error),
            }
        };
        let workers = workers.iter().map(known).collect::<Result<Vec<_>>>()?;
        self.shared.logs.read(&workers, query)
    }

    /// The last `count` events that were written down, the oldest first, also those of earlier
    /// masters: objects as [`Event::to_json`](crate::Event::to_json) makes them. None if the master
    /// keeps no logs.
    ///
    /// # Errors
    /// They cannot be read.
    pub fn past_events(&self, count: usize) -> Result<Vec<serde_json::Value>> {
        self.shared.logs.past_events(count)
    }

    /// Has every log file opened again by its name before it is written next: for those who have
    /// moved one. It would be noticed without this within a second of writing.
    pub fn reopen_logs(&self) {
        self.shared.logs.reopen();
    }
}
