//! Logs: what workers write and modules log, kept in files, rotated and read back; each worker's
//! last lines; and the journal of events.

mod bell;
mod files;
mod format;
mod home;
mod journal;
mod last;
mod reader;
mod rotating;
#[cfg(test)]
#[cfg(target_os = "linux")]
mod tests;
mod trouble;
mod worker;

use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::io;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard, Weak};
use std::time::{Duration, Instant};

use log::Level;

use crate::error::{Error, ErrorCategory, Result};
use crate::host::identity::{self, Role};
use crate::host::{Outlet, OutputSink, sys};
use crate::worker::{LogsConfig, WorkerId};
use bell::Bell;
use files::Files;
use format::Batch;
use home::Home;
use journal::JournalFile;
pub(crate) use journal::Scribe;
use reader::Source;
pub use reader::{Entry, Query, Reader, Stop};
pub(crate) use trouble::LogNews;
use trouble::Told;
pub(crate) use worker::WorkerLog;

/// As many idle batches are kept; there may be more in use.
const SPARE_BATCHES: usize = 4;

/// So long a reader waits for what is still queued, on a disk that is slow.
const SETTLED: Duration = Duration::from_secs(1);

/// The logs of all workers of a master, and its journal. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Logs(Arc<Shared>);

struct Shared {
    home: Option<Arc<Home>>,
    workers: RwLock<Known>,
    means: Arc<Means>,
    events: Option<Arc<JournalFile>>,
}

/// The logs there are.
#[derive(Default)]
struct Known {
    logs: BTreeMap<WorkerId, Arc<WorkerLog>>,
    /// Those of them whose workers are no more, or have not come: they go once nobody uses them.
    leaving: BTreeSet<WorkerId>,
}

impl Known {
    /// Lets go of what is leaving and not in use.
    fn sweep(&mut self) {
        let Self { logs, leaving } = self;
        leaving.retain(|worker| {
            // Whoever reads it goes on with the same log should the worker come back.
            let used = logs.get(worker).is_some_and(|log| Arc::strong_count(log) > 1);
            if !used {
                logs.remove(worker);
            }
            used
        });
    }
}

/// What all logs of a master share.
#[derive(Default)]
struct Means {
    bell: Bell,
    batches: Mutex<Vec<Batch>>,
    scribe: Option<Scribe>,
    told: Arc<Told>,
    file_size_limit: u64,
}

impl Means {
    /// Lends an empty batch to `work`.
    fn with_batch<R>(&self, work: impl FnOnce(&mut Batch) -> R) -> R {
        let spare = self.batches.lock().unwrap_or_else(PoisonError::into_inner).pop();
        let mut batch = spare.unwrap_or_default();
        let result = work(&mut batch);
        batch.clear();
        let mut spares = self.batches.lock().unwrap_or_else(PoisonError::into_inner);
        if spares.len() < SPARE_BATCHES {
            spares.push(batch);
        }
        result
    }

    /// Says something in the master's log, on another thread: this one may be about to log.
    fn notice(&self, level: Level, text: String) {
        if let Some(scribe) = &self.scribe {
            scribe.notice(level, text);
        }
    }
}

impl Logs {
    /// For tests: logs of a master without a name.
    #[cfg(test)]
    pub(crate) fn open(directory: Option<&Path>, realm: u64) -> Result<Self> {
        Self::open_for("test", directory, realm)
    }

    /// The logs of the master `name` in `directory`; without one nothing is written, and only last
    /// lines are kept. `realm`: which master they are of.
    ///
    /// # Errors
    /// The directory cannot be made, is not ours, or is held by another master; or the system
    /// refuses a thread.
    pub(crate) fn open_for(name: &str, directory: Option<&Path>, realm: u64) -> Result<Self> {
        let home = directory.map(|path| Home::take(path, name).map(Arc::new)).transpose()?;
        let told = Arc::<Told>::default();
        let start = |home| Scribe::start(home, &told, journal::limits());
        let (scribe, events) = match home.as_ref().map(start) {
            None => (None, None),
            Some(Ok((scribe, events))) => (Some(scribe), Some(events)),
            Some(Err(error)) => return Err(Error::io("cannot keep logs", error)),
        };
        let file_size_limit = sys::file_size_limit();
        let (bell, batches) = (Bell::default(), Mutex::default());
        let means = Arc::new(Means { bell, batches, scribe, told, file_size_limit });
        let shared = Arc::new(Shared { home, workers: RwLock::default(), means, events });
        let mut realms = REALMS.write().unwrap_or_else(PoisonError::into_inner);
        realms.retain(|(_, shared)| shared.strong_count() > 0);
        realms.push((realm, Arc::downgrade(&shared)));
        Ok(Self(shared))
    }

    /// Has somebody told of files that cannot be written, and that are written again.
    pub(crate) fn on_trouble(
        &self,
        tell: impl Fn(Option<&WorkerId>, LogNews) + Send + Sync + 'static,
    ) {
        self.0.means.told.listen(Box::new(tell));
    }

    /// The log of a worker, made if there is none; one without settings of its own does not last.
    pub(crate) fn worker(&self, worker: &WorkerId) -> Arc<WorkerLog> {
        self.0.worker(worker)
    }

    /// The log of a worker with these settings, from now on.
    pub(crate) fn configured(&self, worker: &WorkerId, settings: LogsConfig) -> Arc<WorkerLog> {
        let log = self.0.worker(worker);
        log.configure(settings);
        if self.0.known().leaving.contains(worker) {
            self.0.known_mut().leaving.remove(worker);
        }
        log
    }

    /// A worker is no more. Its files stay.
    pub(crate) fn forget(&self, worker: &WorkerId) {
        let mut known = self.0.known_mut();
        if let Some(log) = known.logs.get(worker) {
            log.stay(false);
            known.leaving.insert(worker.clone());
        }
        known.sweep();
    }

    /// An incarnation is gone: its log is closed until something is written again.
    pub(crate) fn close(&self, worker: &WorkerId) {
        let log = self.0.known().logs.get(worker).map(Arc::downgrade);
        if let (Some(scribe), Some(log)) = (&self.0.means.scribe, log) {
            // What waits to be closed keeps no log: one that is gone by then is closed.
            scribe.close(log);
        }
    }

    /// Where events are written down, if they are.
    pub(crate) fn scribe(&self) -> Option<Scribe> {
        self.0.means.scribe.clone()
    }

    /// Has all files opened again, by their names, when they are next written.
    pub(crate) fn reopen(&self) {
        for log in self.0.known().logs.values() {
            log.reopen();
        }
        if let Some(events) = &self.0.events {
            events.reopen();
        }
    }

    /// Nothing more comes: what is queued and the journal are written to their ends, which is
    /// waited for, for a while, and readers that follow end.
    pub(crate) fn end(&self) {
        let logs: Vec<_> = self.0.known().logs.values().cloned().collect();
        logs.iter().for_each(WorkerLog::flush);
        let until = Instant::now() + journal::LAST;
        logs.iter().for_each(|log| log.finish(until));
        if let Some(scribe) = &self.0.means.scribe {
            scribe.end();
        }
        if let Some(home) = &self.0.home {
            home.give_up();
        }
        self.0.means.bell.end();
    }

    /// Reads the logs of some workers, also of those that are no more.
    ///
    /// # Errors
    /// There is no directory for logs; a stream is asked for of a log without time stamps.
    pub(crate) fn read(&self, workers: &[WorkerId], query: &Query) -> Result<Reader> {
        if self.0.home.is_none() {
            let message = "this master keeps no logs: it was given no state_dir and no log_dir";
            return Err(Error::new(ErrorCategory::Refused, message));
        }
        let until = Instant::now() + SETTLED;
        let mut sources = Vec::new();
        for worker in workers {
            if let Some(left) = self.left_of(worker) {
                sources.push(Source::of_files(worker, left, query));
                continue;
            }
            let log = self.worker(worker);
            log.settle(until);
            if query.stdout != query.stderr && !log.settings().timestamps {
                let message = "its log does not tell the streams apart: logs.timestamps is false";
                return Err(Error::new(ErrorCategory::Refused, message).of_worker(log.worker()));
            }
            sources.push(Source::of_log(log, query));
        }
        if let [only] = &mut sources[..] {
            only.say_where_it_goes();
        }
        Ok(Reader::new(sources, query, &self.0.means))
    }

    /// The files of a worker that is not known any more, if there are any.
    fn left_of(&self, worker: &WorkerId) -> Option<Files> {
        let is_known = self.0.known().logs.contains_key(worker);
        if is_known { None } else { self.files_of(worker) }
    }

    fn files_of(&self, worker: &WorkerId) -> Option<Files> {
        let directory = self.0.home.as_ref()?.path();
        Files::of(directory, worker).ok().flatten()
    }

    /// True when there is a log of this worker, whether it is known or not.
    pub(crate) fn has_left(&self, worker: &WorkerId) -> bool {
        self.files_of(worker).is_some()
    }

    /// The last `count` events, each as it was written down; all that were told before are.
    ///
    /// # Errors
    /// They cannot be read.
    pub(crate) fn past_events(&self, count: usize) -> Result<Vec<serde_json::Value>> {
        let Some(events) = &self.0.events else { return Ok(Vec::new()) };
        if let Some(scribe) = &self.0.means.scribe {
            scribe.flush();
        }
        let lines = reader::last_lines(&**events, count)
            .map_err(|error| Error::io("cannot read events.jsonl", error))?;
        // What is no JSON was cut short by a disk that was full.
        Ok(lines.iter().filter_map(|line| serde_json::from_slice(line).ok()).collect())
    }
}

impl Drop for Shared {
    /// Where it did not come to an orderly end: threads may still hold files.
    fn drop(&mut self) {
        self.known().logs.values().for_each(|log| log.stay(false));
        if let Some(home) = &self.home {
            home.give_up();
        }
    }
}

impl Shared {
    fn known(&self) -> RwLockReadGuard<'_, Known> {
        self.workers.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn known_mut(&self) -> RwLockWriteGuard<'_, Known> {
        self.workers.write().unwrap_or_else(PoisonError::into_inner)
    }

    fn worker(&self, worker: &WorkerId) -> Arc<WorkerLog> {
        if let Some(log) = self.known().logs.get(worker) {
            return Arc::clone(log);
        }
        let mut known = self.known_mut();
        // What was still in use when its worker was forgotten makes room for who is new.
        known.sweep();
        if let Some(log) = known.logs.get(worker) {
            return Arc::clone(log);
        }
        let log = Arc::new(WorkerLog::new(worker, self.home.as_ref(), &self.means));
        known.logs.insert(worker.clone(), Arc::clone(&log));
        // Its settings say that it is to stay: what a forgotten worker has left may still write.
        known.leaving.insert(worker.clone());
        log
    }
}

impl OutputSink for Logs {
    fn output(&self, from: Outlet<'_>, bytes: &[u8]) {
        self.worker(from.worker).output(from, bytes);
    }

    fn end_of_output(&self, from: Outlet<'_>) {
        self.worker(from.worker).end_of_output(from);
    }

    fn started(&self, worker: &WorkerId, incarnation: u64, pid: u32) {
        self.worker(worker).started(incarnation, pid);
    }

    fn unattended(&self, worker: &WorkerId, incarnation: u64) {
        self.worker(worker).unattended(incarnation);
    }

    fn file(&self, worker: &WorkerId) -> io::Result<File> {
        self.worker(worker).file()
    }
}

/// Reads the logs in a directory without a master; no `workers` means all. Nothing more comes.
///
/// # Errors
/// The directory cannot be read; of category `unknown_worker` when a worker has no log there.
#[cfg(any(test, feature = "cli"))]
pub(crate) fn read_left(directory: &Path, workers: &[&str], query: &Query) -> Result<Reader> {
    let cannot = |error| Error::io(format!("cannot read {}", directory.display()), error);
    let workers = match workers {
        [] => files::workers(directory).map_err(cannot)?,
        named => named.iter().copied().map(WorkerId::new).collect::<Result<_>>()?,
    };
    let mut sources = Vec::new();
    for worker in &workers {
        let Some(left) = Files::of(directory, worker).map_err(cannot)? else {
            let message = format!("it has no log in {}", directory.display());
            let error = Error::new(ErrorCategory::UnknownWorker, message);
            return Err(error.of_worker(worker.as_str()));
        };
        sources.push(Source::of_files(worker, left, query));
    }
    Ok(Reader::new(sources, query, &Arc::default()))
}

/// The logs of the masters of this process, so that a logger finds those that a thread belongs to.
static REALMS: RwLock<Vec<(u64, Weak<Shared>)>> = RwLock::new(Vec::new());

thread_local! {
    /// What is logged now is in the worker's log already.
    static IS_KEPT: std::cell::Cell<bool> = const { std::cell::Cell::new(false) };
}

/// Runs `work`, which logs lines that are in the worker's log already.
pub(crate) fn while_kept<R>(work: impl FnOnce() -> R) -> R {
    struct Before(bool);
    impl Drop for Before {
        fn drop(&mut self) {
            IS_KEPT.set(self.0);
        }
    }
    let _before = Before(IS_KEPT.replace(true));
    work()
}

/// Puts a record into the log of the worker on whose thread this is; of other threads, it does
/// nothing. For programs with a logger of their own: it is to be called for each record that the
/// logger lets pass, and a module's log lines are then in its worker's log, as they are for one in
/// a process of its own. [`App`](crate::App)'s logger does so.
pub fn record(record: &log::Record<'_>) {
    if IS_KEPT.try_with(std::cell::Cell::get).unwrap_or(true) {
        return;
    }
    let Some(identity) = identity::current() else { return };
    let worker = match &identity.role {
        Role::Loop => return,
        Role::Module { worker } | Role::Adopted { worker, .. } => worker,
    };
    let realms = REALMS.read().unwrap_or_else(PoisonError::into_inner);
    let shared = realms.iter().find(|(realm, _)| *realm == identity.realm);
    let Some(shared) = shared.and_then(|(_, shared)| shared.upgrade()) else { return };
    drop(realms);
    if let Ok(worker) = WorkerId::new(worker) {
        let text = record.args().to_string();
        shared.worker(&worker).record(record.level(), record.target(), &text);
    }
}
