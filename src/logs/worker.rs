//! The log of one worker: takes what comes of it, writes it, and counts what could not be written.
//! Whoever writes here is never held up by a file that cannot be written, and never fails.

mod ending;
mod losing;
mod overflow;
pub(super) mod queue;
mod reading;

use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::Instant;

use log::Level;

use super::Means;
use super::format::{Batch, Lines, Origin, Stamp, index};
use super::home::Home;
use super::last::Last;
use super::rotating::{Limits, Rotating};
use crate::host::Outlet;
use crate::host::sys::find_last_byte;
use crate::worker::{LogMode, LogOverflow, LogTrouble, LogsConfig, WorkerId};
use losing::{RETRY, Shown, Trouble, loss};
use queue::{Message, Piece, Queue};

/// The target of the log lines that the master writes into a worker's log.
const MASTER: &str = "master";
/// Beside the two streams: what a module's threads log.
const LOGGED: usize = 2;

/// The log of one worker.
pub(crate) struct WorkerLog {
    worker: WorkerId,
    means: Arc<Means>,
    settings: Mutex<LogsConfig>,
    last: Mutex<Last>,
    /// The incarnation that was launched last.
    launched: AtomicU64,
    counts: [Count; 3],
    /// What last went wrong, for those who must not wait for the file.
    shown: Mutex<Shown>,
    /// The file is to be opened again before it is used.
    reopen: AtomicBool,
    /// `None`: there is no directory for logs. Boxed, since it is large.
    file: Option<Box<Mutex<Written>>>,
    path: Option<PathBuf>,
    /// Where what comes waits while its worker is not to wait; see `overflow`.
    queue: OnceLock<Box<Queue>>,
    /// Whether who writes what waits stays for what may come.
    stays: Mutex<bool>,
}

/// Bytes of one stream: what was taken is what was stored, what was dropped, and a line that has
/// begun and not ended.
#[derive(Default)]
struct Count {
    taken: AtomicU64,
    stored: AtomicU64,
    dropped: AtomicU64,
}

impl Count {
    /// What was taken, stored and dropped.
    fn all(&self) -> [u64; 3] {
        let Self { taken, stored, dropped } = self;
        [taken, stored, dropped].map(|count| count.load(Ordering::Relaxed))
    }
}

struct Written {
    file: Rotating,
    lines: Lines,
    trouble: Option<Trouble>,
    /// A trouble that seems to be over: what is written next shows whether it is. So many bytes
    /// were lost, and why.
    mending: Option<(u64, String)>,
    /// The incarnation whose begin is in the log.
    begun: u64,
}

impl std::fmt::Debug for WorkerLog {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("WorkerLog").field("worker", &self.worker).finish_non_exhaustive()
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn add(counter: &AtomicU64, count: u64) {
    counter.fetch_add(count, Ordering::Relaxed);
}

/// So much of what was logged counts: not the ends of its lines.
fn record_bytes(text: &str) -> u64 {
    text.split('\n').map(|line| line.len() as u64).sum()
}

impl WorkerLog {
    pub(super) fn new(worker: &WorkerId, home: Option<&Arc<Home>>, means: &Arc<Means>) -> Self {
        let name = format!("{worker}.log");
        let written = |home: &Arc<Home>| {
            let file = Rotating::new(home, &name);
            let (lines, trouble, mending) = (Lines::default(), None, None);
            Box::new(Mutex::new(Written { file, lines, trouble, mending, begun: 0 }))
        };
        Self {
            worker: worker.clone(),
            means: Arc::clone(means),
            settings: Mutex::default(),
            last: Mutex::default(),
            launched: AtomicU64::new(0),
            counts: Default::default(),
            reopen: AtomicBool::new(false),
            shown: Mutex::default(),
            file: home.map(written),
            path: home.map(|home| home.path().join(&name)),
            queue: OnceLock::new(),
            stays: Mutex::default(),
        }
    }

    pub(super) fn worker(&self) -> &str {
        self.worker.as_str()
    }

    /// These settings hold from now on. Never waits for a file.
    pub(crate) fn configure(&self, settings: LogsConfig) {
        *lock(&self.settings) = settings;
        self.stay(settings.overflow == LogOverflow::Drop);
    }

    pub(super) fn settings(&self) -> LogsConfig {
        *lock(&self.settings)
    }

    /// An incarnation begins. Never waits for a file.
    pub(crate) fn launched(&self, incarnation: u64) {
        self.launched.fetch_max(incarnation, Ordering::Relaxed);
        lock(&self.last).take(incarnation, 0, b"");
    }

    /// The last lines of an incarnation, as far as it is the last one that wrote.
    pub(crate) fn last_lines(&self, incarnation: u64) -> Vec<String> {
        lock(&self.last).lines(incarnation)
    }

    /// How many bytes were taken to be written, and how many of them were dropped.
    pub(crate) fn totals(&self) -> (u64, u64) {
        let sum = |of: fn(&Count) -> &AtomicU64| -> u64 {
            self.counts.iter().map(|count| of(count).load(Ordering::Relaxed)).sum()
        };
        (sum(|count| &count.taken), sum(|count| &count.dropped))
    }

    /// What last went wrong with its file, if anything did. Never waits for it.
    pub(crate) fn last_trouble(&self) -> Option<LogTrouble> {
        lock(&self.shown).first().cloned()
    }

    /// For tests: whether the file, and the speed, are in trouble.
    #[cfg(test)]
    pub(super) fn troubles(&self) -> [bool; 2] {
        lock(&self.shown).now()
    }

    /// For tests: what was taken, stored and dropped of one stream.
    #[cfg(test)]
    pub(super) fn counts(&self, which: usize) -> [u64; 3] {
        self.counts[which].all()
    }

    fn limits(&self, settings: LogsConfig) -> Limits {
        Limits {
            // Beyond the process's own limit nothing could be written.
            max_size: settings.max_size.min(self.means.file_size_limit),
            max_files: settings.max_files,
            whole_lines: settings.timestamps && settings.mode == LogMode::Capture,
        }
    }

    /// The settings by which what comes through the master is to be written, if it is.
    fn captured(&self) -> Option<LogsConfig> {
        let settings = self.settings();
        (self.file.is_some() && settings.mode == LogMode::Capture).then_some(settings)
    }

    /// The file, if there is to be one.
    fn lock_written(&self, settings: LogsConfig) -> Option<(MutexGuard<'_, Written>, Limits)> {
        Some((self.lock_file(self.file.as_ref()?), self.limits(settings)))
    }

    fn lock_file<'f>(&self, file: &'f Mutex<Written>) -> MutexGuard<'f, Written> {
        let mut written = lock(file);
        if self.reopen.swap(false, Ordering::Relaxed) {
            written.file.close();
        }
        written
    }

    /// Takes bytes as a process wrote them.
    pub(super) fn output(self: &Arc<Self>, from: Outlet<'_>, bytes: &[u8]) {
        let which = index(from.stream);
        lock(&self.last).take(from.incarnation, which, bytes);
        let Some(settings) = self.captured() else { return };
        if let Some(queue) = self.queue(settings) {
            return self.queue_output(queue, from, bytes);
        }
        add(&self.counts[which].taken, bytes.len() as u64);
        self.write_output(settings, from, &[(None, bytes)]);
    }

    /// Writes what a process wrote, in one piece or several.
    fn write_output(&self, settings: LogsConfig, from: Outlet<'_>, pieces: &[Piece<'_>]) {
        let Some((mut written, limits)) = self.lock_written(settings) else { return };
        let which = index(from.stream);
        let mut left: usize = pieces.iter().map(|(_, bytes)| bytes.len()).sum();
        if !self.is_ready(&mut written, limits, settings, false) {
            self.drop_bytes(&mut written, from.stream, left);
            return;
        }
        if settings.timestamps {
            let origin = self.origin(from);
            self.means.with_batch(|batch| {
                for (stamp, bytes) in pieces {
                    let (stamp, mut rest) = (stamp.unwrap_or_else(Stamp::now), *bytes);
                    while !rest.is_empty() {
                        left -= rest.len();
                        rest = written.lines.take(origin, &stamp, rest, batch);
                        left += rest.len();
                        let is_due = left == 0 || batch.is_full();
                        if is_due && !self.write(&mut written, batch, Some(which), limits) {
                            self.drop_bytes(&mut written, from.stream, left);
                            return;
                        }
                    }
                }
            });
        } else if let [(_, bytes)] = pieces {
            self.write_raw(&mut written, bytes, which, limits);
        } else {
            let bytes: Vec<&[u8]> = pieces.iter().map(|(_, bytes)| *bytes).collect();
            self.write_raw(&mut written, &bytes.concat(), which, limits);
        }
        drop(written);
        self.means.bell.ring();
    }

    fn origin<'w>(&'w self, from: Outlet<'w>) -> Origin<'w> {
        let Outlet { incarnation, stream, dialect, .. } = from;
        Origin { worker: self.worker.as_str(), incarnation, stream, dialect }
    }

    /// Nothing more comes of a stream.
    pub(super) fn end_of_output(self: &Arc<Self>, from: Outlet<'_>) {
        let Some(settings) = self.captured() else { return };
        let Outlet { incarnation, stream, dialect, .. } = from;
        self.do_in_turn(settings, incarnation, Message::End { stream, dialect });
    }

    fn write_end(&self, settings: LogsConfig, from: Outlet<'_>) {
        let Some((mut written, limits)) = self.lock_written(settings) else { return };
        let which = index(from.stream);
        if written.trouble.is_some() && !self.is_ready(&mut written, limits, settings, true) {
            self.drop_bytes(&mut written, from.stream, 0);
        } else {
            self.means.with_batch(|batch| {
                written.lines.end(self.origin(from), &Stamp::now(), batch);
                if !batch.bytes.is_empty() {
                    self.write_last(&mut written, batch, which, (limits, settings));
                }
            });
        }
        if written.trouble.is_none() {
            self.mended(&mut written);
        }
        // Whoever writes next opens it again.
        written.file.close();
        drop(written);
        self.means.bell.ring();
    }

    /// Says in the log that a process was started.
    pub(super) fn started(self: &Arc<Self>, incarnation: u64, pid: u32) {
        let text = format!("started, pid {pid} (incarnation {incarnation})");
        self.say(incarnation, text, true);
    }

    /// Says in the log that what comes now was written while no master ran.
    pub(super) fn unattended(self: &Arc<Self>, incarnation: u64) {
        let text = format!("written while no master ran (incarnation {incarnation}):");
        self.say(incarnation, text, false);
    }

    fn say(self: &Arc<Self>, incarnation: u64, text: String, begins: bool) {
        self.launched(incarnation);
        let Some(settings) = self.captured() else { return };
        self.do_in_turn(settings, incarnation, Message::Own { text, begins });
    }

    /// Writes a line of the master's own; with it an incarnation may begin.
    fn write_line(
        &self,
        settings: LogsConfig,
        (incarnation, begins): (u64, bool),
        text: &str,
        stamp: &Stamp,
    ) {
        let Some((mut written, limits)) = self.lock_written(settings) else { return };
        if begins {
            written.begun = incarnation;
        }
        if settings.timestamps && self.is_ready(&mut written, limits, settings, false) {
            self.write_own(&mut written, (Level::Info, text), stamp, limits);
        }
        drop(written);
        self.means.bell.ring();
    }

    /// Takes what a module's thread logged.
    pub(super) fn record(self: &Arc<Self>, level: Level, target: &str, text: &str) {
        let incarnation = self.launched.load(Ordering::Relaxed);
        for line in text.split('\n') {
            let line = format!("{level} {target}: {line}\n");
            lock(&self.last).take(incarnation, LOGGED, line.as_bytes());
        }
        let Some(settings) = self.captured() else { return };
        let record = (level, target, text);
        if let Some(queue) = self.queue(settings) {
            return self.queue_record(queue, incarnation, record);
        }
        add(&self.counts[LOGGED].taken, record_bytes(text));
        self.write_record(settings, incarnation, record, None);
    }

    fn write_record(
        &self,
        settings: LogsConfig,
        incarnation: u64,
        (level, target, text): (Level, &str, &str),
        stamp: Option<Stamp>,
    ) {
        let Some((mut written, limits)) = self.lock_written(settings) else { return };
        if !self.is_ready(&mut written, limits, settings, false) {
            return self.lose(&mut written, LOGGED, record_bytes(text));
        }
        let stamp = stamp.unwrap_or_else(Stamp::now);
        if settings.timestamps && written.begun < incarnation {
            written.begun = incarnation;
            let text = format!("started (incarnation {incarnation})");
            self.write_own(&mut written, (Level::Info, &text), &stamp, limits);
        }
        self.means.with_batch(|batch| {
            for line in text.split('\n') {
                if settings.timestamps {
                    batch.log_line(&stamp, level, target, line.as_bytes());
                } else {
                    batch.bare_line(level, target, line.as_bytes());
                }
            }
            self.write(&mut written, batch, Some(LOGGED), limits);
        });
        drop(written);
        self.means.bell.ring();
    }

    /// Has the file ready to be written. False: it cannot be, and is not tried again for a while
    /// unless `now` is to be tried.
    fn is_ready(
        &self,
        written: &mut Written,
        limits: Limits,
        settings: LogsConfig,
        now: bool,
    ) -> bool {
        let moment = Instant::now();
        let lost = match &mut written.trouble {
            Some(trouble) if !now && moment < trouble.retry_at => return false,
            Some(trouble) => {
                trouble.retry_at = moment + RETRY;
                written.file.close();
                Some((trouble.lost, trouble.before, trouble.why.clone()))
            }
            None => None,
        };
        if let Err(error) = written.file.ready(limits, moment) {
            self.trouble(written, &error, 0);
            return false;
        }
        let Some((lost, before, why)) = lost else { return true };
        let now = Stamp::now();
        let told = self.write_mark(written, &loss(lost, &why), &now, (limits, settings));
        if told {
            written.trouble = None;
            written.mending = Some((before + lost, why));
        }
        told
    }

    /// Writes the records of a batch. False: not all of them could be.
    fn write(
        &self,
        written: &mut Written,
        batch: &mut Batch,
        which: Option<usize>,
        limits: Limits,
    ) -> bool {
        let result = written.file.write(&batch.bytes, limits, false);
        let taken: u64 = batch.taken.iter().map(|count| u64::from(*count)).sum();
        let stored = match &result {
            Ok(()) => taken,
            Err(short) => {
                let whole = find_last_byte(b'\n', &batch.bytes[..short.written]);
                let whole = whole.map_or(0, |end| end + 1);
                // Where that fails, the part of a line is ended when the file is opened again.
                let _ = written.file.take_back(short.written - whole);
                batch.taken_within(whole)
            }
        };
        batch.clear();
        if let Some(which) = which {
            add(&self.counts[which].stored, stored);
            add(&self.counts[which].dropped, taken - stored);
        }
        match result {
            Ok(()) => {
                self.mended(written);
                true
            }
            Err(short) => {
                let lost = which.map_or(0, |_| taken - stored);
                self.trouble(written, &short.error, lost);
                false
            }
        }
    }

    fn write_raw(&self, written: &mut Written, bytes: &[u8], which: usize, limits: Limits) {
        let count = &self.counts[which];
        match written.file.write(bytes, limits, true) {
            Ok(()) => {
                add(&count.stored, bytes.len() as u64);
                self.mended(written);
            }
            Err(short) => {
                let lost = (bytes.len() - short.written) as u64;
                add(&count.stored, short.written as u64);
                add(&count.dropped, lost);
                self.trouble(written, &short.error, lost);
            }
        }
    }

    /// Writes what is lost here. False: it cannot be.
    fn write_mark(
        &self,
        written: &mut Written,
        text: &str,
        stamp: &Stamp,
        (limits, settings): (Limits, LogsConfig),
    ) -> bool {
        if settings.timestamps {
            return self.write_own(written, (Level::Warn, text), stamp, limits);
        }
        let before = if written.file.is_at_a_line() { "" } else { "\n" };
        match written.file.write(format!("{before}({text})\n").as_bytes(), limits, true) {
            Ok(()) => true,
            Err(short) => {
                self.trouble(written, &short.error, 0);
                false
            }
        }
    }

    /// Writes a line of the master's own.
    fn write_own(
        &self,
        written: &mut Written,
        (level, text): (Level, &str),
        stamp: &Stamp,
        limits: Limits,
    ) -> bool {
        self.means.with_batch(|batch| {
            batch.log_line(stamp, level, MASTER, text.as_bytes());
            self.write(written, batch, None, limits)
        })
    }
}
