//! Logs: what workers write and modules log, kept in files, rotated and read back; each worker's
//! last lines; and the journal of events.

mod bell;
mod format;
mod journal;
mod last;
mod reader;
mod rotating;
#[cfg(test)]
#[cfg(target_os = "linux")]
mod tests;
mod worker;

use std::collections::BTreeMap;
use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError, RwLock, Weak};

use log::Level;

use crate::error::{Error, ErrorCategory, Result};
use crate::host::identity::{self, Role};
use crate::host::{Outlet, OutputSink, sys};
use crate::worker::{LogsConfig, WorkerId};
use bell::Bell;
use format::Batch;
use journal::JournalFile;
pub(crate) use journal::Scribe;
pub use reader::{Entry, Query, Reader, Stop};
pub(crate) use worker::WorkerLog;

/// As many idle batches are kept; there may be more in use.
const SPARE_BATCHES: usize = 4;

/// The logs of all workers of a master, and its journal. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Logs(Arc<Shared>);

struct Shared {
    directory: Option<PathBuf>,
    workers: RwLock<BTreeMap<WorkerId, Arc<WorkerLog>>>,
    means: Arc<Means>,
    events: Option<Arc<JournalFile>>,
}

/// What all logs of a master share.
struct Means {
    bell: Bell,
    batches: Mutex<Vec<Batch>>,
    scribe: Option<Scribe>,
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
    /// Logs in `directory`; without one nothing is written, and only last lines are kept. `realm`:
    /// which master they are of.
    ///
    /// # Errors
    /// The directory cannot be made or is not ours, or the system refuses a thread.
    pub(crate) fn open(directory: Option<&Path>, realm: u64) -> Result<Self> {
        let journal = |directory: &Path| {
            sys::own_directory(directory)?;
            Scribe::start(directory)
        };
        let (scribe, events) = match directory.map(|directory| (directory, journal(directory))) {
            None => (None, None),
            Some((_, Ok((scribe, events)))) => (Some(scribe), Some(events)),
            Some((directory, Err(error))) => {
                let what = format!("cannot keep logs in {}", directory.display());
                return Err(Error::io(what, error));
            }
        };
        let file_size_limit = sys::file_size_limit();
        let (bell, batches) = (Bell::default(), Mutex::default());
        let means = Arc::new(Means { bell, batches, scribe, file_size_limit });
        let (directory, workers) = (directory.map(Path::to_owned), RwLock::default());
        let shared = Arc::new(Shared { directory, workers, means, events });
        let mut realms = REALMS.write().unwrap_or_else(PoisonError::into_inner);
        realms.retain(|(_, shared)| shared.strong_count() > 0);
        realms.push((realm, Arc::downgrade(&shared)));
        Ok(Self(shared))
    }

    /// The log of a worker, made if there is none.
    pub(crate) fn worker(&self, worker: &WorkerId) -> Arc<WorkerLog> {
        self.0.worker(worker)
    }

    /// The log of a worker with these settings, from now on.
    pub(crate) fn configured(&self, worker: &WorkerId, settings: LogsConfig) -> Arc<WorkerLog> {
        let log = self.0.worker(worker);
        log.configure(settings);
        log
    }

    /// A worker is no more. Its files stay.
    pub(crate) fn forget(&self, worker: &WorkerId) {
        let mut workers = self.0.workers.write().unwrap_or_else(PoisonError::into_inner);
        // Whoever reads it goes on with the same log should the worker come back.
        if workers.get(worker).is_some_and(|log| Arc::strong_count(log) == 1) {
            workers.remove(worker);
        }
    }

    /// An incarnation is gone: its log is closed until something is written again.
    pub(crate) fn close(&self, worker: &WorkerId) {
        if let Some(scribe) = &self.0.means.scribe {
            scribe.close(self.worker(worker));
        }
    }

    /// Where events are written down, if they are.
    pub(crate) fn scribe(&self) -> Option<Scribe> {
        self.0.means.scribe.clone()
    }

    /// Has all files opened again, by their names, when they are next written.
    pub(crate) fn reopen(&self) {
        let workers = self.0.workers.read().unwrap_or_else(PoisonError::into_inner);
        for log in workers.values() {
            log.reopen();
        }
        if let Some(events) = &self.0.events {
            events.reopen();
        }
    }

    /// Nothing more comes: the journal is written to its end, and readers that follow end.
    pub(crate) fn end(&self) {
        let workers = self.0.workers.read().unwrap_or_else(PoisonError::into_inner);
        workers.values().for_each(|log| log.flush());
        drop(workers);
        if let Some(scribe) = &self.0.means.scribe {
            scribe.end();
        }
        self.0.means.bell.end();
    }

    /// Reads the logs of some workers.
    ///
    /// # Errors
    /// There is no directory for logs; a stream is asked for of a log without time stamps.
    pub(crate) fn read(&self, workers: &[WorkerId], query: &Query) -> Result<Reader> {
        if self.0.directory.is_none() {
            let message = "this master keeps no logs: it was given no state_dir and no log_dir";
            return Err(Error::new(ErrorCategory::Refused, message));
        }
        let logs: Vec<_> = workers.iter().map(|worker| self.worker(worker)).collect();
        if query.stdout != query.stderr
            && let Some(plain) = logs.iter().find(|log| !log.settings().timestamps)
        {
            let message = "its log does not tell the streams apart: logs.timestamps is false";
            return Err(Error::new(ErrorCategory::Refused, message).of_worker(plain.worker()));
        }
        Ok(Reader::new(logs, query, &self.0.means))
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

impl Shared {
    fn worker(&self, worker: &WorkerId) -> Arc<WorkerLog> {
        let known = self.workers.read().unwrap_or_else(PoisonError::into_inner);
        if let Some(log) = known.get(worker) {
            return Arc::clone(log);
        }
        drop(known);
        let mut workers = self.workers.write().unwrap_or_else(PoisonError::into_inner);
        let new = || Arc::new(WorkerLog::new(worker, self.directory.as_deref(), &self.means));
        Arc::clone(workers.entry(worker.clone()).or_insert_with(new))
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

    fn file(&self, worker: &WorkerId) -> io::Result<File> {
        self.worker(worker).file()
    }
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
