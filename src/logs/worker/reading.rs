//! What is still there of a worker's log, for those who read it.

use std::io;

use super::WorkerLog;
use crate::logs::rotating::{Limits, Rotating, Stretch};

impl WorkerLog {
    /// Where what is still there of the log begins and ends, as a stream; see `rotating`.
    pub(in crate::logs) fn span(&self) -> io::Result<(u64, u64)> {
        self.with_file(|file, limits| file.span(limits))
    }

    /// The file that has what is at `offset`, or what is there next.
    pub(in crate::logs) fn stretch(&self, offset: u64) -> io::Result<Stretch> {
        self.with_file(|file, limits| file.stretch(offset, limits))
    }

    fn with_file<T>(
        &self,
        work: impl FnOnce(&mut Rotating, Limits) -> io::Result<T>,
    ) -> io::Result<T> {
        match &self.file {
            Some(file) => work(&mut self.lock_file(file).file, self.limits(self.settings())),
            None => Err(io::Error::new(io::ErrorKind::NotFound, "there is no directory for logs")),
        }
    }
}
