//! The log of one worker: takes what comes of it, writes it, and counts what could not be written.
//! Whoever writes here is never held up by a file that cannot be written, and never fails.

mod reading;

use std::fs::File;
use std::io;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant, SystemTime};

use log::Level;

use super::Means;
use super::format::{Batch, Lines, Origin, Stamp, index};
use super::home::Home;
use super::last::Last;
use super::rotating::{Limits, Rotating};
use super::trouble::LogNews;
use crate::host::sys::find_last_byte;
use crate::host::{Outlet, Stream};
use crate::worker::{LogMode, LogTrouble, LogsConfig, WorkerId};

/// How long a file that could not be written is left alone.
const RETRY: Duration = Duration::from_secs(2);
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
    /// What last went wrong with the file, for those who must not wait for it.
    shown: Mutex<Option<LogTrouble>>,
    /// The file is to be opened again before it is used.
    reopen: AtomicBool,
    /// `None`: there is no directory for logs. Boxed, since it is large.
    file: Option<Box<Mutex<Written>>>,
}

/// Bytes of one stream: what was taken is what was stored, what was dropped, and a line that has
/// begun and not ended.
#[derive(Default)]
struct Count {
    taken: AtomicU64,
    stored: AtomicU64,
    dropped: AtomicU64,
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

/// The file cannot be written.
pub(super) struct Trouble {
    why: String,
    retry_at: Instant,
    lost: u64,
    /// What was lost before, since the trouble was last told.
    before: u64,
}

impl std::fmt::Debug for WorkerLog {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("WorkerLog").field("worker", &self.worker).finish_non_exhaustive()
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// What a trouble has cost, and why.
fn loss(lost: u64, why: &str) -> String {
    match lost {
        0 => format!("nothing lost but lines of the master's own: {why}"),
        lost => format!("{lost} bytes lost: {why}"),
    }
}

fn add(counter: &AtomicU64, count: u64) {
    counter.fetch_add(count, Ordering::Relaxed);
}

impl WorkerLog {
    pub(super) fn new(worker: &WorkerId, home: Option<&Arc<Home>>, means: &Arc<Means>) -> Self {
        let written = |home: &Arc<Home>| {
            let file = Rotating::new(home, &format!("{worker}.log"));
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
        }
    }

    pub(super) fn worker(&self) -> &str {
        self.worker.as_str()
    }

    /// These settings hold from now on. Never waits for a file.
    pub(crate) fn configure(&self, settings: LogsConfig) {
        *lock(&self.settings) = settings;
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
        lock(&self.shown).clone()
    }

    /// For tests: what was taken, stored and dropped of one stream.
    #[cfg(test)]
    pub(super) fn counts(&self, which: usize) -> [u64; 3] {
        let Count { taken, stored, dropped } = &self.counts[which];
        [taken, stored, dropped].map(|count| count.load(Ordering::Relaxed))
    }

    fn limits(&self, settings: LogsConfig) -> Limits {
        Limits {
            // Beyond the process's own limit nothing could be written.
            max_size: settings.max_size.min(self.means.file_size_limit),
            max_files: settings.max_files,
            whole_lines: settings.timestamps && settings.mode == LogMode::Capture,
        }
    }

    /// The file, if what comes through the master is to be written into it.
    fn captured(&self) -> Option<(MutexGuard<'_, Written>, LogsConfig, Limits)> {
        let settings = self.settings();
        let file = self.file.as_ref().filter(|_| settings.mode == LogMode::Capture)?;
        Some((self.lock_file(file), settings, self.limits(settings)))
    }

    fn lock_file<'f>(&self, file: &'f Mutex<Written>) -> MutexGuard<'f, Written> {
        let mut written = lock(file);
        if self.reopen.swap(false, Ordering::Relaxed) {
            written.file.close();
        }
        written
    }

    /// Takes bytes as a process wrote them.
    pub(super) fn output(&self, from: Outlet<'_>, bytes: &[u8]) {
        let which = index(from.stream);
        lock(&self.last).take(from.incarnation, which, bytes);
        let Some((mut written, settings, limits)) = self.captured() else { return };
        add(&self.counts[which].taken, bytes.len() as u64);
        if !self.is_ready(&mut written, limits, settings, false) {
            self.drop_bytes(&mut written, from.stream, bytes.len());
            return;
        }
        if settings.timestamps {
            let origin = self.origin(from);
            self.means.with_batch(|batch| {
                let (stamp, mut rest) = (Stamp::now(), bytes);
                while !rest.is_empty() {
                    rest = written.lines.take(origin, &stamp, rest, batch);
                    if !self.write(&mut written, batch, Some(which), limits) {
                        self.drop_bytes(&mut written, from.stream, rest.len());
                        break;
                    }
                }
            });
        } else {
            self.write_raw(&mut written, bytes, which, limits);
        }
        drop(written);
        self.means.bell.ring();
    }

    fn origin<'w>(&'w self, from: Outlet<'w>) -> Origin<'w> {
        let Outlet { incarnation, stream, dialect, .. } = from;
        Origin { worker: self.worker.as_str(), incarnation, stream, dialect }
    }

    /// Nothing more comes of a stream.
    pub(super) fn end_of_output(&self, from: Outlet<'_>) {
        let Some((mut written, settings, limits)) = self.captured() else { return };
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
    pub(super) fn started(&self, incarnation: u64, pid: u32) {
        self.launched(incarnation);
        let Some((mut written, ..)) = self.captured() else { return };
        written.begun = incarnation;
        self.say(&mut written, &format!("started, pid {pid} (incarnation {incarnation})"));
        drop(written);
        self.means.bell.ring();
    }

    /// Says in the log that what comes now was written while no master ran.
    pub(super) fn unattended(&self, incarnation: u64) {
        self.launched(incarnation);
        let Some((mut written, ..)) = self.captured() else { return };
        let text = format!("written while no master ran (incarnation {incarnation}):");
        self.say(&mut written, &text);
    }

    fn say(&self, written: &mut Written, text: &str) {
        let settings = self.settings();
        let limits = self.limits(settings);
        if settings.timestamps && self.is_ready(written, limits, settings, false) {
            self.write_own(written, Level::Info, text, limits);
        }
    }

    /// Takes what a module's thread logged.
    pub(super) fn record(&self, level: Level, target: &str, text: &str) {
        let incarnation = self.launched.load(Ordering::Relaxed);
        for line in text.split('\n') {
            let line = format!("{level} {target}: {line}\n");
            lock(&self.last).take(incarnation, LOGGED, line.as_bytes());
        }
        let Some((mut written, settings, limits)) = self.captured() else { return };
        add(&self.counts[LOGGED].taken, text.split('\n').map(|line| line.len() as u64).sum());
        if !self.is_ready(&mut written, limits, settings, false) {
            let lost = text.split('\n').map(|line| line.len() as u64).sum();
            self.lose(&mut written, LOGGED, lost);
            return;
        }
        if settings.timestamps && written.begun < incarnation {
            written.begun = incarnation;
            let text = format!("started (incarnation {incarnation})");
            self.write_own(&mut written, Level::Info, &text, limits);
        }
        self.means.with_batch(|batch| {
            let stamp = Stamp::now();
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
        let text = loss(lost, &why);
        let told = if settings.timestamps {
            self.write_own(written, Level::Warn, &text, limits)
        } else {
            written.file.write(format!("({text})\n").as_bytes(), limits, true).is_ok()
        };
        if told {
            written.trouble = None;
            written.mending = Some((before + lost, why));
        }
        told
    }

    /// What could not be written for a while is written again.
    fn mended(&self, written: &mut Written) {
        let Some((dropped, why)) = written.mending.take() else { return };
        if let Some(shown) = &mut *lock(&self.shown) {
            shown.since = None;
        }
        let (worker, path) = (&self.worker, written.file.path().to_owned());
        let notice = format!("{worker}: its log is written again; {}", loss(dropped, &why));
        self.means.notice(Level::Warn, notice);
        self.means.told.tell(Some(worker), LogNews::Recovered { path, dropped });
    }

    /// Begins a trouble, or goes on with the one there is.
    fn trouble(&self, written: &mut Written, error: &io::Error, lost: u64) {
        let (message, at) = (error.to_string(), SystemTime::now());
        let mut shown = lock(&self.shown);
        let since = shown.as_ref().and_then(|shown| shown.since).or(Some(at));
        *shown = Some(LogTrouble { message: message.clone(), at, since });
        drop(shown);
        if let Some(trouble) = &mut written.trouble {
            trouble.lost += lost;
            return;
        }
        let retry_at = Instant::now() + RETRY;
        // One that seemed to be over and was not is told once.
        let (before, is_new) = match written.mending.take() {
            Some((before, _)) => (before, false),
            None => (0, true),
        };
        written.trouble = Some(Trouble { why: message.clone(), retry_at, lost, before });
        if is_new {
            let (worker, path) = (&self.worker, written.file.path().to_owned());
            let notice = format!("{worker}: its log cannot be written, and is lost: {message}");
            self.means.notice(Level::Error, notice);
            self.means.told.tell(Some(worker), LogNews::Degraded { path, message });
        }
    }

    fn lose(&self, written: &mut Written, which: usize, lost: u64) {
        add(&self.counts[which].dropped, lost);
        if let Some(trouble) = &mut written.trouble {
            trouble.lost += lost;
        }
    }

    /// What has just come of a stream is lost, with what its line began with.
    fn drop_bytes(&self, written: &mut Written, stream: Stream, bytes: usize) {
        let lost = written.lines.forget(stream) + bytes as u64;
        self.lose(written, index(stream), lost);
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

    /// Writes a line of the master's own.
    fn write_own(&self, written: &mut Written, level: Level, text: &str, limits: Limits) -> bool {
        self.means.with_batch(|batch| {
            batch.log_line(&Stamp::now(), level, MASTER, text.as_bytes());
            self.write(written, batch, None, limits)
        })
    }

    /// Its file, for a process that is to write into it by itself.
    ///
    /// # Errors
    /// There is no directory for logs, or the file cannot be opened.
    pub(super) fn file(&self) -> io::Result<File> {
        let Some(file) = &self.file else {
            let message =
                "there is no directory for logs: give the master a state_dir or a log_dir";
            return Err(io::Error::new(io::ErrorKind::Unsupported, message));
        };
        let mut written = lock(file);
        written.file.rotate_if_full(self.limits(self.settings()))?;
        written.file.duplicate()
    }

    /// Has the file opened again before it is used. Never waits for it.
    pub(super) fn reopen(&self) {
        self.reopen.store(true, Ordering::Relaxed);
    }

    /// The master ends: a line that has begun is kept as it is. Never waits for who writes now.
    pub(super) fn flush(&self) {
        let Some(file) = &self.file else { return };
        let Ok(mut written) = file.try_lock() else { return };
        let settings = self.settings();
        let limits = self.limits(settings);
        self.means.with_batch(|batch| {
            for stream in [Stream::Stdout, Stream::Stderr] {
                let taken = written.lines.end_any(self.worker.as_str(), stream, batch);
                if taken {
                    self.write_last(&mut written, batch, index(stream), (limits, settings));
                }
            }
        });
    }

    /// Writes what a stream ends with, or counts it as lost.
    fn write_last(
        &self,
        written: &mut Written,
        batch: &mut Batch,
        which: usize,
        (limits, settings): (Limits, LogsConfig),
    ) {
        if self.is_ready(written, limits, settings, false) {
            self.write(written, batch, Some(which), limits);
        } else {
            self.lose(written, which, batch.taken.iter().map(|count| u64::from(*count)).sum());
            batch.clear();
        }
    }

    /// Closes the file, which is opened again when there is something to be written.
    pub(crate) fn close(&self) {
        if let Some(file) = &self.file {
            lock(file).file.close();
        }
    }
}
