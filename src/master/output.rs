//! Cuts what process workers write into lines, for whoever wants to see them.

use std::collections::BTreeMap;
use std::fs::File;
use std::io;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use log::Level;

use crate::host::identity::{self, Identity, Role};
use crate::host::levels;
use crate::host::panics::guarded;
use crate::host::{Dialect, Outlet, OutputSink, Stream};
use crate::logs::{self, Logs};
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

/// All that output goes through: first it is kept, then whoever wants to see lines does.
pub(super) struct Outputs {
    pub(super) logs: Logs,
    pub(super) lines: LineSink,
}

impl OutputSink for Outputs {
    fn output(&self, from: Outlet<'_>, bytes: &[u8]) {
        self.logs.output(from, bytes);
        self.lines.output(from, bytes);
    }

    fn end_of_output(&self, from: Outlet<'_>) {
        self.logs.end_of_output(from);
        self.lines.end_of_output(from);
    }

    fn started(&self, worker: &WorkerId, incarnation: u64, pid: u32) {
        self.logs.started(worker, incarnation, pid);
    }

    fn unattended(&self, worker: &WorkerId, incarnation: u64) {
        self.logs.unattended(worker, incarnation);
    }

    fn file(&self, worker: &WorkerId) -> io::Result<File> {
        self.logs.file(worker)
    }
}

/// What lines are handed to.
pub(super) type Output = Box<dyn Fn(OutputLine<'_>) + Send + Sync>;

/// Hands lines to a function, and those that are log lines to the log. Begun lines wait here for
/// their rest.
pub(super) struct LineSink {
    output: Option<Output>,
    /// Which master this is: see `identity`.
    realm: u64,
    complained: AtomicBool,
    begun: Mutex<BTreeMap<Key, Begun>>,
}

/// A line that waits for its rest.
#[derive(Default)]
struct Begun {
    bytes: Vec<u8>,
    /// A piece of it was logged before, with this level and target.
    logged: Option<(Level, String)>,
}

/// What a begun line is kept under: the worker, its incarnation, and whether it is on stderr.
type Key = (WorkerId, u64, bool);

fn key(from: Outlet<'_>) -> Key {
    (from.worker.clone(), from.incarnation, from.stream == Stream::Stderr)
}

/// Level, target and text of a line that is a log line.
fn record<'l>(from: Outlet<'l>, line: &'l [u8]) -> Option<(Level, &'l str, &'l [u8])> {
    if from.stream != Stream::Stderr {
        return None;
    }
    let target = from.worker.as_str();
    let leveled = || levels::level(line).map(|(level, text)| (level, target, text));
    match from.dialect {
        Dialect::Plain => None,
        Dialect::Leveled => leveled(),
        Dialect::Records => levels::record(line).or_else(leveled),
    }
}

impl LineSink {
    pub(super) fn new(output: Option<Output>, realm: u64) -> Self {
        Self { output, realm, complained: AtomicBool::new(false), begun: Mutex::default() }
    }

    /// Hands over a piece of a line. `logged` goes from piece to piece.
    fn tell(
        &self,
        from: Outlet<'_>,
        line: &[u8],
        complete: bool,
        logged: &mut Option<(Level, String)>,
    ) {
        let known = logged.take();
        let known = known.as_ref().map(|(level, target)| (*level, target.as_str(), line));
        let Some((level, target, text)) = known.or_else(|| record(from, line)) else {
            return self.put_out(from, line, complete);
        };
        self.log(from, level, target, text);
        if !complete {
            *logged = Some((level, target.to_owned()));
        }
    }

    /// A panic of the program's function is not the worker's.
    fn put_out(&self, from: Outlet<'_>, line: &[u8], complete: bool) {
        let Some(output) = &self.output else { return };
        let Outlet { worker, incarnation, stream, .. } = from;
        let (worker, stderr) = (worker.as_str(), stream == Stream::Stderr);
        let line = OutputLine { worker, incarnation, stderr, line, complete };
        if let Err(failure) = guarded("the output function", || output(line))
            && !self.complained.swap(true, Ordering::Relaxed)
        {
            log::error!("{failure}; lines may be missing, and no more is said about it");
        }
    }

    /// Puts a worker's log line into the log, as if it had been logged by a thread of ours.
    fn log(&self, from: Outlet<'_>, level: Level, target: &str, text: &[u8]) {
        if level > log::max_level() {
            return;
        }
        let role = Role::Module { worker: from.worker.as_str().into() };
        let identity = Identity { realm: self.realm, role, requests: Arc::default() };
        let _lent = identity::lend(&Arc::new(identity));
        // The program's logger on the worker's monitor: its panic must not be the worker's.
        let _ = guarded("the logger", || {
            logs::while_kept(|| {
                log::log!(target: target, level, "{}", String::from_utf8_lossy(text));
            });
        });
    }

    fn take_begun(&self, from: Outlet<'_>) -> Begun {
        let mut begun = self.begun.lock().unwrap_or_else(PoisonError::into_inner);
        begun.remove(&key(from)).unwrap_or_default()
    }
}

impl OutputSink for LineSink {
    fn output(&self, from: Outlet<'_>, bytes: &[u8]) {
        if self.output.is_none() && from.dialect == Dialect::Plain {
            return;
        }
        let Begun { bytes: mut begun, mut logged } = self.take_begun(from);
        let mut tell = |line: &[u8], complete| self.tell(from, line, complete, &mut logged);
        let mut rest = bytes;
        while let Some(end) = rest.iter().position(|byte| *byte == b'\n') {
            let (line, after) = (&rest[..end], &rest[end + 1..]);
            rest = after;
            if begun.is_empty() {
                in_pieces(line, &mut tell);
            } else {
                begun.extend_from_slice(line);
                in_pieces(&begun, &mut tell);
                begun.clear();
            }
        }
        begun.extend_from_slice(rest);
        while begun.len() > MAX_LINE {
            tell(&begun[..MAX_LINE], false);
            begun.drain(..MAX_LINE);
        }
        if !begun.is_empty() || logged.is_some() {
            let begun = Begun { bytes: begun, logged };
            self.begun.lock().unwrap_or_else(PoisonError::into_inner).insert(key(from), begun);
        }
    }

    fn end_of_output(&self, from: Outlet<'_>) {
        let Begun { bytes, mut logged } = self.take_begun(from);
        if !bytes.is_empty() {
            self.tell(from, &bytes, false, &mut logged);
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

    type Lines = Vec<(Vec<u8>, bool)>;

    fn lines_of(chunks: &[&[u8]]) -> Lines {
        let seen: Arc<Mutex<Lines>> = Arc::default();
        let told = Arc::clone(&seen);
        let tell = move |line: OutputLine<'_>| {
            told.lock().unwrap().push((line.line.to_vec(), line.complete));
        };
        let sink = LineSink::new(Some(Box::new(tell)), 0);
        let worker = WorkerId::new("w").unwrap();
        let (stream, dialect) = (Stream::Stdout, Dialect::Plain);
        let from = Outlet { worker: &worker, incarnation: 1, stream, dialect };
        for chunk in chunks {
            sink.output(from, chunk);
        }
        sink.end_of_output(from);
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
