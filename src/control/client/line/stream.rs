//! A connection on which one question has many answers, as they come.

use std::path::Path;
use std::time::{Duration, Instant};

use serde::Serialize;
use serde_json::value::RawValue;

use super::{Ear, Line};
#[cfg(feature = "cli")]
use crate::control::client::hangs;
#[cfg(feature = "cli")]
use crate::control::wire::Nothing;
use crate::control::wire::{FromMaster, Said};
use crate::error::{Error, ErrorCategory, Result};

/// So many items that come before a stream is settled are kept.
#[cfg(feature = "cli")]
const AHEAD: usize = 4096;

/// One connection for one stream of items.
pub(in crate::control::client) struct Stream {
    line: Line,
    id: u64,
    ear: Ear,
    /// Read, and not taken yet; the next one is the last.
    waiting: Vec<FromMaster>,
    /// Something has come.
    begun: bool,
    ended: bool,
}

impl Stream {
    pub(in crate::control::client) fn open(
        path: &Path,
        patience: Duration,
        method: &str,
        params: &impl Serialize,
    ) -> Result<Self> {
        let line = Line::open(path, patience)?;
        let open = line.send(method, params)?;
        let id = open.id;
        drop(open);
        let ear = line.state().ear.take().unwrap_or_else(Ear::new);
        Ok(Self { line, id, ear, waiting: Vec::new(), begun: false, ended: false })
    }

    /// Waits until the master has taken it in: what happens from then on is not missed.
    ///
    /// # Errors
    /// It refuses the connection, or does not answer within `patience`.
    #[cfg(feature = "cli")]
    pub(in crate::control::client) fn settle(&mut self, patience: Duration) -> Result<()> {
        // Requests are heard in their order.
        let settled = self.line.send("hello", &Nothing {})?.id;
        let deadline = Instant::now().checked_add(patience);
        loop {
            let left = deadline.map(|end| end.saturating_duration_since(Instant::now()));
            if left.is_some_and(|left| left.is_zero()) {
                return Err(hangs(&self.line.path, patience));
            }
            let come = self.line.read(&mut self.ear, left)?;
            for FromMaster { id, said } in &come {
                match (id, said) {
                    (None, Said::Error(error)) => return Err(error.clone()),
                    (_, Said::Event(_) | Said::Result(_) | Said::Error(_)) => {}
                }
            }
            let taken_in = come.iter().any(|said| said.id == Some(settled));
            self.begun |= !come.is_empty();
            self.waiting.splice(0..0, come.into_iter().rev());
            // The oldest are the last.
            self.waiting.truncate(AHEAD);
            if taken_in {
                return Ok(());
            }
        }
    }

    /// The next item; `None`: there is none any more.
    ///
    /// # Errors
    /// What ended the stream; or `timeout`, when nothing came within `patience`.
    pub(in crate::control::client) fn next(
        &mut self,
        patience: Option<Duration>,
    ) -> Result<Option<Box<RawValue>>> {
        let deadline = patience.and_then(|patience| Instant::now().checked_add(patience));
        while !self.ended {
            let Some(said) = self.waiting.pop() else {
                let left = deadline.map(|end| end.saturating_duration_since(Instant::now()));
                if left.is_some_and(|left| left.is_zero()) {
                    return Err(Error::new(ErrorCategory::Timeout, "nothing came"));
                }
                self.waiting = self.line.read(&mut self.ear, left).map_err(|error| {
                    self.ended = true;
                    self.lost(error)
                })?;
                self.waiting.reverse();
                self.begun |= !self.waiting.is_empty();
                continue;
            };
            if said.id.is_some_and(|id| id != self.id) {
                continue;
            }
            match said.said {
                Said::Event(item) => return Ok(Some(item)),
                Said::Result(_) => self.ended = true,
                Said::Error(error) => {
                    self.ended = true;
                    return Err(error);
                }
            }
        }
        Ok(None)
    }

    /// Why nothing more comes. Who has answered was there, and is not told to be missing.
    fn lost(&self, error: Error) -> Error {
        if !self.begun || error.category() != ErrorCategory::NotRunning {
            return error;
        }
        let message = "dropped: it was read too slowly, or the master ended";
        Error::new(ErrorCategory::Cancelled, message)
    }
}
