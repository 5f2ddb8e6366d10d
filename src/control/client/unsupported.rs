//! Where there are no Unix sockets of ours yet: every connection is refused, in words.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use serde::Serialize;
use serde_json::value::RawValue;

use super::unreachable;
use crate::error::Result;

/// A connection that cannot be.
pub(super) struct Line {
    path: PathBuf,
}

impl Line {
    pub(super) fn open(path: &Path, _patience: Duration) -> Result<Self> {
        Err(unreachable(path, "control sockets are not supported on this system"))
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    pub(super) fn ask(
        &self,
        _method: &str,
        _params: &impl Serialize,
        _deadline: Option<Instant>,
    ) -> Result<Box<RawValue>> {
        Err(unreachable(&self.path, "not supported on this system"))
    }

    pub(super) fn ask_long(
        &self,
        method: &str,
        params: &impl Serialize,
        _timeout: Option<Duration>,
        _patience: Duration,
    ) -> Result<Box<RawValue>> {
        self.ask(method, params, None)
    }
}

/// A stream that cannot be.
pub(super) struct Stream;

impl Stream {
    pub(super) fn open(
        path: &Path,
        patience: Duration,
        _method: &str,
        _params: &impl Serialize,
    ) -> Result<Self> {
        Line::open(path, patience).map(|_| Self)
    }

    pub(super) fn next(&mut self, _patience: Option<Duration>) -> Result<Option<Box<RawValue>>> {
        Ok(None)
    }
}
