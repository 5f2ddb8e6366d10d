//! Standard output and standard error: a reader that went away is no reason to fail, a full disk
//! is.

use std::io::{self, BufWriter, Stdout, Write};

use serde::Serialize;

use super::Outcome;
use crate::error::{Error, ErrorCategory};

/// What is gathered before it is written, where nobody waits for single lines.
const BUFFER: usize = 64 << 10;

/// Says what went wrong, on standard error.
pub(super) fn complain(error: &Error) {
    warn(&format!("error: {error}\n"));
}

/// Prints to standard error. Nobody reading it is no reason to fail.
pub(super) fn warn(text: &str) {
    let _ = io::stderr().write_all(text.as_bytes());
}

/// Prints to standard output.
pub(super) fn print(text: &str) -> Outcome {
    let mut out = io::stdout().lock();
    outcome(out.write_all(text.as_bytes()).and_then(|()| out.flush()))
}

/// Prints JSON for programs, laid out so that people can read it too.
pub(super) fn print_json(value: &impl Serialize) -> Outcome {
    match serde_json::to_string_pretty(value) {
        Ok(text) => print(&format!("{text}\n")),
        Err(error) => {
            complain(&Error::new(ErrorCategory::Internal, error.to_string()));
            Outcome::Internal
        }
    }
}

fn outcome(written: io::Result<()>) -> Outcome {
    match written {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => {
            complain(&Error::io("cannot write to standard output", error));
            Outcome::Failed
        }
        Ok(()) | Err(_) => Outcome::Done,
    }
}

/// Many lines to standard output.
pub(super) struct Stream {
    out: BufWriter<Stdout>,
    /// Each line is waited for: it is written at once.
    live: bool,
}

impl Stream {
    pub(super) fn new(live: bool) -> Self {
        Self { out: BufWriter::with_capacity(BUFFER, io::stdout()), live }
    }

    /// Writes a line.
    ///
    /// # Errors
    /// What the command ends with, since nothing more can be written.
    pub(super) fn line(&mut self, line: &[u8]) -> Result<(), Outcome> {
        let written = self.out.write_all(line).map_err(|error| outcome(Err(error)));
        written.and_then(|()| self.bytes(b"\n"))
    }

    /// Writes bytes as they are.
    ///
    /// # Errors
    /// As [`line`](Self::line) has them.
    pub(super) fn bytes(&mut self, bytes: &[u8]) -> Result<(), Outcome> {
        let written = self.out.write_all(bytes);
        let written = if self.live { written.and_then(|()| self.out.flush()) } else { written };
        written.map_err(|error| outcome(Err(error)))
    }

    /// Writes what is left.
    pub(super) fn end(mut self) -> Outcome {
        outcome(self.out.flush())
    }
}
