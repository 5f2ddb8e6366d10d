//! Reading logs: the last lines, and then what comes, over all rotations. A reader reads the files
//! at its own pace: it never holds up who writes, and is told what was rotated away meanwhile.

use std::collections::VecDeque;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use super::Means;
use super::files::Files;
use super::format::{Stamp, tag};
use super::journal::JournalFile;
use super::rotating::Stretch;
use super::worker::WorkerLog;
use crate::host::sys::{self, find_byte, find_last_byte};
use crate::worker::{LogMode, WorkerId};

/// So much is read at once.
const BLOCK: usize = 64 << 10;
/// A line without an end is told when it is this long.
const LONGEST: usize = 64 << 10;
/// How often a file is looked at that is written by a process of its own.
const LOOK: Duration = Duration::from_millis(250);

/// Which lines of logs to read.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Query {
    /// So many of the last lines of each worker.
    pub lines: usize,
    /// Then wait for more.
    pub follow: bool,
    /// Only what came from standard output, unless `stderr` is set too.
    pub stdout: bool,
    /// Only what came from standard error and log lines, unless `stdout` is set too.
    pub stderr: bool,
}

impl Query {
    /// The last `lines` lines.
    pub fn last(lines: usize) -> Self {
        Self { lines, follow: false, stdout: false, stderr: false }
    }

    /// The same, and what comes after them.
    #[must_use]
    pub fn follow(mut self) -> Self {
        self.follow = true;
        self
    }

    /// The same, of standard output alone.
    #[must_use]
    pub fn stdout(mut self) -> Self {
        self.stdout = true;
        self
    }

    /// The same, of standard error and log lines alone.
    #[must_use]
    pub fn stderr(mut self) -> Self {
        self.stderr = true;
        self
    }

    pub(super) fn filter(&self) -> Filter {
        match (self.stdout, self.stderr) {
            (true, false) => Filter::Stdout,
            (false, true) => Filter::Stderr,
            (true, true) | (false, false) => Filter::All,
        }
    }
}

/// Which records are wanted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Filter {
    All,
    Stdout,
    Stderr,
}

impl Filter {
    /// Whether a line that begins like this is wanted. What is no record always is.
    fn wants(self, line: &[u8]) -> bool {
        match self {
            Self::All => true,
            Self::Stdout => tag(line).is_none_or(|tag| tag == b'o'),
            Self::Stderr => tag(line).is_none_or(|tag| tag != b'o'),
        }
    }
}

/// What a reader tells.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Entry {
    /// Whose log it is.
    pub worker: String,
    /// One or more whole lines, each with its newline, as they are in the log; at most about 64
    /// KiB. Only a line that is longer, and the last one of a log without time stamps, may be
    /// without one.
    pub bytes: Vec<u8>,
    /// True: this is no part of the log, but is said about it, such as that a part is gone.
    pub notice: bool,
}

/// Ends a reader from another thread. Cheap to clone.
#[derive(Clone)]
pub struct Stop {
    stopped: Arc<AtomicBool>,
    means: Arc<Means>,
}

impl Stop {
    /// The reader's iteration ends, also if it waits now.
    pub fn stop(&self) {
        self.stopped.store(true, Ordering::SeqCst);
        self.means.bell.ring();
    }
}

/// Reads the logs of some workers: an iterator that blocks while there is nothing to read and the
/// query follows. Its iteration ends when all was read, when it is stopped, or, for one that
/// follows, after the master's end.
pub struct Reader {
    sources: Vec<Source>,
    follow: bool,
    /// The source that is asked first.
    turn: usize,
    stop: Stop,
}

impl Reader {
    pub(super) fn new(sources: Vec<Source>, query: &Query, means: &Arc<Means>) -> Self {
        means.bell.listen(true);
        let stop = Stop { stopped: Arc::default(), means: Arc::clone(means) };
        Self { sources, follow: query.follow, turn: 0, stop }
    }

    /// What ends it from another thread.
    pub fn stopper(&self) -> Stop {
        self.stop.clone()
    }

    /// The next entry that is there already.
    fn look(&mut self) -> Option<Entry> {
        let count = self.sources.len();
        for _ in 0..count {
            if let Some(entry) = self.sources[self.turn].next(self.follow) {
                if self.follow {
                    self.turn = (self.turn + 1) % count;
                }
                return Some(entry);
            }
            self.turn = (self.turn + 1) % count;
        }
        None
    }
}

impl Iterator for Reader {
    type Item = Entry;

    fn next(&mut self) -> Option<Entry> {
        loop {
            let heard = self.stop.means.bell.heard();
            if self.stop.stopped.load(Ordering::SeqCst) {
                return None;
            }
            if let Some(entry) = self.look() {
                return Some(entry);
            }
            if !self.follow || heard.ended {
                return None;
            }
            let unheard = self.sources.iter().any(|source| source.log.is_written_unheard());
            self.stop.means.bell.wait(heard, unheard.then_some(LOOK));
        }
    }
}

impl Drop for Reader {
    fn drop(&mut self) {
        self.stop.means.bell.listen(false);
    }
}

impl std::fmt::Debug for Reader {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Reader").field("follow", &self.follow).finish_non_exhaustive()
    }
}

impl std::fmt::Debug for Stop {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Stop").finish_non_exhaustive()
    }
}

/// Something that was written over several files.
pub(super) trait Recorded {
    /// Where what is still there begins and ends.
    fn span(&self) -> io::Result<(u64, u64)>;
    /// The file that has what is at `offset`, or what is there next.
    fn stretch(&self, offset: u64) -> io::Result<Stretch>;
    /// Whether nobody here hears of it when something is written.
    fn is_written_unheard(&self) -> bool {
        false
    }
}

impl Recorded for WorkerLog {
    fn span(&self) -> io::Result<(u64, u64)> {
        Self::span(self)
    }

    fn stretch(&self, offset: u64) -> io::Result<Stretch> {
        Self::stretch(self, offset)
    }

    fn is_written_unheard(&self) -> bool {
        self.settings().mode == LogMode::File
    }
}

impl Recorded for JournalFile {
    fn span(&self) -> io::Result<(u64, u64)> {
        Self::span(self)
    }

    fn stretch(&self, offset: u64) -> io::Result<Stretch> {
        Self::stretch(self, offset)
    }
}

/// One log, and how far it was read.
pub(super) struct Source {
    worker: String,
    log: Arc<dyn Recorded + Send + Sync>,
    /// Where else its output goes, if it is not kept.
    mode: LogMode,
    /// Something to be said first.
    said: Option<String>,
    filter: Filter,
    /// It was said that there are lines that do not say which stream they are of.
    mixed: bool,
    at: u64,
    /// Who does not follow is told what was there at the beginning: of a worker that never stops
    /// writing, there would be no end.
    until: u64,
    open: Option<Stretch>,
    /// A line that has begun.
    rest: Vec<u8>,
    /// It cannot be read, which is still to be said.
    failed: Option<io::Error>,
    ended: bool,
}

impl Source {
    pub(super) fn of_log(log: Arc<WorkerLog>, query: &Query) -> Self {
        let (worker, mode) = (log.worker().to_owned(), log.settings().mode);
        Self::new(worker, log, mode, query)
    }

    pub(super) fn of_files(worker: &WorkerId, files: Files, query: &Query) -> Self {
        Self::new(worker.to_string(), Arc::new(files), LogMode::Capture, query)
    }

    fn new(
        worker: String,
        log: Arc<dyn Recorded + Send + Sync>,
        mode: LogMode,
        query: &Query,
    ) -> Self {
        let filter = query.filter();
        let (at, end, failed) = match start_of_last(&*log, query.lines, filter) {
            Ok((at, end)) => (at, end, None),
            Err(error) => (0, 0, Some(error)),
        };
        let until = if query.follow { u64::MAX } else { end };
        let (open, rest, said, ended) = (None, Vec::new(), None, false);
        let mixed = false;
        Self { worker, log, mode, said, filter, mixed, at, until, open, rest, failed, ended }
    }

    /// Has it said first that a worker's output is not kept, where it is not.
    pub(super) fn say_where_it_goes(&mut self) {
        self.said = match self.mode {
            LogMode::Capture | LogMode::File => None,
            LogMode::Inherit => Some("(logs.mode is inherit: its output goes to the master's)\n"),
            LogMode::Discard => Some("(logs.mode is discard: its output is not kept)\n"),
        }
        .map(str::to_owned);
    }

    fn entry(&self, bytes: Vec<u8>, notice: bool) -> Entry {
        Entry { worker: self.worker.clone(), bytes, notice }
    }

    /// What comes next, if it is there.
    fn next(&mut self, follow: bool) -> Option<Entry> {
        if let Some(said) = self.said.take() {
            return Some(self.entry(said.into_bytes(), true));
        }
        if self.ended {
            return None;
        }
        let result = match self.failed.take() {
            Some(error) => Err(error),
            None => self.read(follow),
        };
        result.unwrap_or_else(|error| {
            self.ended = true;
            Some(self.entry(format!("(cannot be read: {error})\n").into_bytes(), true))
        })
    }

    fn read(&mut self, follow: bool) -> io::Result<Option<Entry>> {
        let mut buffer = vec![0; BLOCK];
        loop {
            if self.at >= self.until {
                self.ended = true;
                return Ok(self.rest_of(follow));
            }
            if let Some(open) = &self.open {
                let most = open.most.min(self.until);
                let left = usize::try_from(most.saturating_sub(self.at)).unwrap_or(BLOCK);
                let part = &mut buffer[..left.min(BLOCK)];
                let read = sys::read_at(&open.file, part, self.at - open.start)?;
                self.at += read as u64;
                if read > 0 {
                    match self.lines(&buffer[..read]) {
                        Some(bytes) => return Ok(Some(self.entry(bytes, false))),
                        None => continue,
                    }
                }
            }
            let before = self.open.as_ref().map(|open| open.start);
            let next = self.log.stretch(self.at)?;
            let gone = next.start.min(self.until).saturating_sub(self.at);
            if gone > 0 || next.end.is_some_and(|end| self.at > end) {
                // Rotated away, or removed or cut short by somebody.
                self.at = next.end.map_or(next.start, |end| self.at.clamp(next.start, end));
                self.rest.clear();
            }
            let all = before == Some(next.start) && next.end.is_none_or(|end| end <= self.at);
            self.open = Some(next);
            if gone > 0 {
                let notice = format!("({gone} bytes are gone)\n");
                return Ok(Some(self.entry(notice.into_bytes(), true)));
            }
            // There may be more now where there was none: in a file that has just been made.
            if all {
                // Who is to be told all that is there is not asked again for what comes later.
                self.ended = !follow;
                return Ok(self.rest_of(follow));
            }
        }
    }

    /// All is read; a line that has begun is told if nobody waits for its end.
    fn rest_of(&mut self, follow: bool) -> Option<Entry> {
        if follow || self.rest.is_empty() {
            return None;
        }
        let bytes = std::mem::take(&mut self.rest);
        self.note_mixed(&bytes);
        self.filter.wants(&bytes).then(|| self.entry(bytes, false))
    }

    /// Has it said once, where a stream is asked for, that there are lines that do not tell.
    fn note_mixed(&mut self, line: &[u8]) {
        if !self.mixed && self.filter != Filter::All && tag(line).is_none() {
            self.mixed = true;
            let said = "(lines that do not say which stream they are of are shown too)\n";
            self.said = Some(said.to_owned());
        }
    }

    /// The wanted ones of the lines that are whole now.
    fn lines(&mut self, read: &[u8]) -> Option<Vec<u8>> {
        let whole = match find_last_byte(b'\n', read) {
            Some(end) => end + 1,
            None if self.rest.len() + read.len() > LONGEST => read.len(),
            None => 0,
        };
        let (now, later) = read.split_at(whole);
        let mut lines = Vec::new();
        if !now.is_empty() {
            lines = std::mem::take(&mut self.rest);
            lines.extend_from_slice(now);
        }
        self.rest.extend_from_slice(later);
        if self.filter != Filter::All {
            let filter = self.filter;
            let all = std::mem::take(&mut lines);
            for line in all.split_inclusive(|byte| *byte == b'\n') {
                self.note_mixed(line);
                if filter.wants(line) {
                    lines.extend_from_slice(line);
                }
            }
        }
        (!lines.is_empty()).then_some(lines)
    }
}

/// Where the last `lines` lines begin, and end: looked for from the end, a block at a time.
fn start_of_last(
    log: &(impl Recorded + ?Sized),
    lines: usize,
    filter: Filter,
) -> io::Result<(u64, u64)> {
    let (oldest, end) = log.span()?;
    let (mut left, mut place) = (lines, end);
    let (mut upto, mut bound) = (end, end);
    let mut buffer = vec![0; BLOCK + 2 * Stamp::LENGTH];
    while left > 0 && upto > oldest {
        let stretch = log.stretch(upto - 1)?;
        if stretch.start >= upto {
            // It was rotated away meanwhile, or somebody removed it.
            let Some(before) = stretch.before.filter(|before| *before < upto) else { break };
            (upto, bound) = (before, before);
            continue;
        }
        let top = upto;
        while left > 0 && upto > stretch.start {
            let from = stretch.start.max(upto.saturating_sub(BLOCK as u64));
            let size = usize::try_from(upto - from).unwrap_or(BLOCK);
            // A little more, so that every line's tag can be seen.
            let mut known = 0;
            while known < buffer.len() {
                let read = sys::read_at(
                    &stretch.file,
                    &mut buffer[known..],
                    from - stretch.start + known as u64,
                )?;
                known += read;
                if read == 0 {
                    break;
                }
            }
            // A record never goes over two files, and only in its own file its tag is seen.
            let by_file = filter != Filter::All;
            let mut begins = VecDeque::new();
            let is_cut = stretch.before != Some(stretch.start);
            if from == stretch.start && (by_file || is_cut) {
                begins.push_back(0);
            }
            let mut at = 0;
            let block = &buffer[..size.min(known)];
            while let Some(newline) = find_byte(b'\n', &block[at..]) {
                at += newline + 1;
                begins.push_back(at);
            }
            while let Some(begin) = begins.pop_back() {
                let above = if by_file { top } else { bound };
                let is_line = from + (begin as u64) < above;
                if is_line && left > 0 && filter.wants(&buffer[begin..known.max(begin)]) {
                    left -= 1;
                    place = from + begin as u64;
                }
            }
            upto = from;
        }
    }
    // All of it: also what is to be said of a part that is gone.
    Ok((if left > 0 { oldest } else { place }, end))
}

/// The last `lines` lines of something, each without its newline.
pub(super) fn last_lines(log: &impl Recorded, lines: usize) -> io::Result<Vec<Vec<u8>>> {
    let (mut at, end) = start_of_last(log, lines, Filter::All)?;
    let mut bytes = Vec::new();
    while at < end {
        let stretch = log.stretch(at)?;
        at = at.max(stretch.start);
        let left = usize::try_from(end.saturating_sub(at)).unwrap_or(BLOCK);
        let mut buffer = vec![0; left.min(BLOCK)];
        let read = sys::read_at(&stretch.file, &mut buffer, at - stretch.start)?;
        if read == 0 {
            break;
        }
        at += read as u64;
        bytes.extend_from_slice(&buffer[..read]);
    }
    let whole = bytes.split(|byte| *byte == b'\n').filter(|line| !line.is_empty());
    Ok(whole.map(<[u8]>::to_vec).collect())
}
