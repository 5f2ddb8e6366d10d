//! What comes without being asked for each time: events, and lines of logs.

use std::collections::VecDeque;
use std::fmt;
use std::path::Path;
use std::time::Duration;

use serde_json::Value;
use serde_json::value::RawValue;

use super::line::Stream;
use super::understood;
use crate::control::report::LogEntry;
use crate::control::wire;
use crate::error::{Error, Result};

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
pub struct LogLines {
    stream: Stream,
    /// Lines that have come and were not taken yet.
    come: VecDeque<LogEntry>,
}

impl LogLines {
    pub(super) fn open(path: &Path, patience: Duration, params: &wire::Logs) -> Result<Self> {
        let stream = Stream::open(path, patience, "logs", params)?;
        Ok(Self { stream, come: VecDeque::new() })
    }

    fn read(&mut self, item: &RawValue) -> Result<()> {
        let text: wire::LogText<'_> = understood("logs", item)?;
        let notice = text.notice;
        let (worker, bytes) = text.into_parts().map_err(Error::configuration)?;
        for line in bytes.split_inclusive(|byte| *byte == b'\n') {
            let line = line.strip_suffix(b"\n").unwrap_or(line).to_vec();
            self.come.push_back(LogEntry { worker: worker.clone(), line, notice });
        }
        Ok(())
    }
}

impl Iterator for LogLines {
    type Item = Result<LogEntry>;

    fn next(&mut self) -> Option<Result<LogEntry>> {
        loop {
            if let Some(line) = self.come.pop_front() {
                return Some(Ok(line));
            }
            let read = match self.stream.next(None).transpose()? {
                Ok(item) => self.read(&item),
                Err(error) => Err(error),
            };
            if let Err(error) = read {
                return Some(Err(error));
            }
        }
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
