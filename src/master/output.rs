//! Cuts what process workers write into lines, for whoever wants to see them.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError};

use crate::host::panics::guarded;
use crate::host::{OutputSink, Stream};
use crate::worker::WorkerId;

/// A line longer than this is cut into pieces.
const MAX_LINE: usize = 16 << 10;

/// One line that a process worker wrote.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct OutputLine<'a> {
    /// The worker.
    pub worker: &'a str,
    /// The incarnation.
    pub incarnation: u64,
    /// True for standard error.
    pub stderr: bool,
    /// The line's bytes, without the newline; any bytes at all, at most 16 KiB.
    pub line: &'a [u8],
    /// False when the line goes on in the next one, or ended without a newline.
    pub complete: bool,
}

/// What lines are handed to.
pub(super) type Output = Box<dyn Fn(OutputLine<'_>) + Send + Sync>;

/// Hands lines to a function. Begun lines wait here for their rest.
pub(super) struct LineSink {
    output: Option<Output>,
    complained: AtomicBool,
    begun: Mutex<BTreeMap<(WorkerId, u64, bool), Vec<u8>>>,
}

impl LineSink {
    pub(super) fn new(output: Option<Output>) -> Self {
        Self { output, complained: AtomicBool::new(false), begun: Mutex::default() }
    }

    /// Hands over one line. A panic of the program's function is not the worker's.
    fn tell(&self, line: OutputLine<'_>) {
        let Some(output) = &self.output else { return };
        if let Err(failure) = guarded("the output function", || output(line))
            && !self.complained.swap(true, Ordering::Relaxed)
        {
            log::error!("{failure}; lines may be missing, and no more is said about it");
        }
    }

    fn take_begun(&self, key: &(WorkerId, u64, bool)) -> Vec<u8> {
        let mut begun = self.begun.lock().unwrap_or_else(PoisonError::into_inner);
        begun.remove(key).unwrap_or_default()
    }
}

impl OutputSink for LineSink {
    fn output(&self, worker: &WorkerId, incarnation: u64, stream: Stream, bytes: &[u8]) {
        if self.output.is_none() {
            return;
        }
        let stderr = stream == Stream::Stderr;
        let tell = |line: &[u8], complete| {
            let worker = worker.as_str();
            self.tell(OutputLine { worker, incarnation, stderr, line, complete });
        };
        let key = (worker.clone(), incarnation, stderr);
        let mut begun = self.take_begun(&key);
        let mut rest = bytes;
        while let Some(end) = rest.iter().position(|byte| *byte == b'\n') {
            let (line, after) = (&rest[..end], &rest[end + 1..]);
            rest = after;
            if begun.is_empty() {
                in_pieces(line, &mut |piece, last| tell(piece, last));
            } else {
                begun.extend_from_slice(line);
                in_pieces(&begun, &mut |piece, last| tell(piece, last));
                begun.clear();
            }
        }
        begun.extend_from_slice(rest);
        while begun.len() > MAX_LINE {
            tell(&begun[..MAX_LINE], false);
            begun.drain(..MAX_LINE);
        }
        if !begun.is_empty() {
            self.begun.lock().unwrap_or_else(PoisonError::into_inner).insert(key, begun);
        }
    }

    fn end_of_output(&self, worker: &WorkerId, incarnation: u64, stream: Stream) {
        let stderr = stream == Stream::Stderr;
        let begun = self.take_begun(&(worker.clone(), incarnation, stderr));
        if !begun.is_empty() {
            let (worker, line) = (worker.as_str(), begun.as_slice());
            self.tell(OutputLine { worker, incarnation, stderr, line, complete: false });
        }
    }
}

/// Hands over a line in pieces of at most `MAX_LINE` bytes; the last one is told to be the last.
fn in_pieces(mut line: &[u8], tell: &mut dyn FnMut(&[u8], bool)) {
    while line.len() > MAX_LINE {
        tell(&line[..MAX_LINE], false);
        line = &line[MAX_LINE..];
    }
    tell(line, true);
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Arc;

    type Lines = Vec<(Vec<u8>, bool)>;

    fn lines_of(chunks: &[&[u8]]) -> Lines {
        let seen: Arc<Mutex<Lines>> = Arc::default();
        let told = Arc::clone(&seen);
        let sink = LineSink::new(Some(Box::new(move |line: OutputLine<'_>| {
            told.lock().unwrap().push((line.line.to_vec(), line.complete));
        })));
        let worker = WorkerId::new("w").unwrap();
        for chunk in chunks {
            sink.output(&worker, 1, Stream::Stdout, chunk);
        }
        sink.end_of_output(&worker, 1, Stream::Stdout);
        assert!(sink.begun.lock().unwrap().is_empty());
        let seen = seen.lock().unwrap();
        seen.clone()
    }

    #[test]
    fn lines_are_put_together_whatever_the_cuts() {
        let whole = lines_of(&[b"one\ntwo\n\n\xff\0x\nrest"]);
        let expected: Lines = vec![
            (b"one".to_vec(), true),
            (b"two".to_vec(), true),
            (b"".to_vec(), true),
            (b"\xff\0x".to_vec(), true),
            (b"rest".to_vec(), false),
        ];
        assert_eq!(whole, expected);
        let bytes: Vec<&[u8]> = b"one\ntwo\n\n\xff\0x\nrest".chunks(1).collect();
        assert_eq!(lines_of(&bytes), expected);
    }

    #[test]
    fn endless_lines_come_in_pieces_and_are_not_kept() {
        let long = vec![b'x'; 3 * MAX_LINE + 7];
        for lines in [lines_of(&[&long, b"\n"]), lines_of(&[&[long.as_slice(), b"\n"].concat()])] {
            assert_eq!(lines.iter().map(|(line, _)| line.len()).sum::<usize>(), long.len());
            assert!(lines.iter().all(|(line, _)| line.len() <= MAX_LINE));
            assert_eq!(lines.iter().filter(|(_, complete)| *complete).count(), 1);
        }
    }
}
