//! What comes without being asked for each time: events, and lines of logs.

use std::fmt;
use std::path::Path;
use std::time::Duration;

use serde_json::Value;

use super::line::Stream;
use super::understood;
use crate::control::report::LogEntry;
use crate::control::wire;
use crate::error::{Error, Result};
use crate::host::protocol::payload;

/// Events as they happen, each an object as in `events.jsonl`.
///
/// Ends when the master does, or after the last event when it was not asked to follow. An error is
/// the last item.
pub struct Events(Stream);

impl Events {
    pub(super) fn open(path: &Path, patience: Duration, params: &wire::Events) -> Result<Self> {
        Stream::open(path, patience, "events", params).map(Self)
    }

    /// The next event, should it come within `patience`; else an error of category `timeout`, after
    /// which one may ask again. `None`: there are no more.
    pub fn next_within(&mut self, patience: Duration) -> Option<Result<Value>> {
        self.take(Some(patience))
    }

    fn take(&mut self, patience: Option<Duration>) -> Option<Result<Value>> {
        let item = self.0.next(patience).transpose()?;
        Some(item.and_then(|item| understood("events", &item)))
    }
}

impl Iterator for Events {
    type Item = Result<Value>;

    fn next(&mut self) -> Option<Result<Value>> {
        self.take(None)
    }
}

/// Lines of logs.
///
/// Ends as [`Events`] does.
pub struct LogLines(Stream);

impl LogLines {
    pub(super) fn open(path: &Path, patience: Duration, params: &wire::Logs) -> Result<Self> {
        Stream::open(path, patience, "logs", params).map(Self)
    }

    fn read(item: &serde_json::value::RawValue) -> Result<LogEntry> {
        let wire::LogLine { worker, line, line_b64, notice } = understood("logs", item)?;
        let line = match line_b64 {
            Some(text) => payload::read(&text).map_err(Error::configuration)?,
            None => line.unwrap_or_default().into_bytes(),
        };
        Ok(LogEntry { worker, line, notice })
    }
}

impl Iterator for LogLines {
    type Item = Result<LogEntry>;

    fn next(&mut self) -> Option<Result<LogEntry>> {
        let item = self.0.next(None).transpose()?;
        Some(item.and_then(|item| Self::read(&item)))
    }
}

impl fmt::Debug for Events {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Events").finish_non_exhaustive()
    }
}

impl fmt::Debug for LogLines {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LogLines").finish_non_exhaustive()
    }
}
