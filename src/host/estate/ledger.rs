//! The ledger: one thread writes the records of workers as they change, so that neither the loop
//! nor a launch waits for a disk. Between two writes only the latest state of a worker counts.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use super::record::Record;
use crate::host::state::{Part, StateDir};
use crate::host::threads;
use crate::worker::WorkerId;

const STACK: usize = 128 << 10;
/// How long after a failure it is tried again.
const RETRY: Duration = Duration::from_secs(2);

/// Writes until it is closed.
pub(crate) struct Ledger {
    shared: Arc<Shared>,
    thread: Mutex<Option<JoinHandle<()>>>,
}

struct Shared {
    state: Arc<StateDir>,
    book: Mutex<Book>,
    changed: Condvar,
}

#[derive(Default)]
struct Book {
    records: BTreeMap<WorkerId, Record>,
    /// Those that differ from their files. One that is in here alone has its file removed.
    unwritten: BTreeSet<WorkerId>,
    /// Those of them that could not be written, until it is tried again.
    failed: BTreeSet<WorkerId>,
    closed: bool,
}

impl Ledger {
    /// Writes these records, and removes the files of those that are `strange`.
    ///
    /// # Errors
    /// When the system refuses the thread.
    pub(crate) fn open(
        state: Arc<StateDir>,
        records: BTreeMap<WorkerId, Record>,
        strange: BTreeMap<WorkerId, Record>,
    ) -> io::Result<Self> {
        let unwritten = records.keys().chain(strange.keys()).cloned().collect();
        let book = Mutex::new(Book { records, unwritten, ..Book::default() });
        let shared = Arc::new(Shared { state, book, changed: Condvar::new() });
        let writer = Arc::clone(&shared);
        let thread = threads::vital("hsu-ledger", STACK, move || writer.run())?;
        Ok(Self { shared, thread: Mutex::new(Some(thread)) })
    }

    /// Changes a worker's record, made by `new` if there is none, and has it written soon.
    pub(crate) fn change(
        &self,
        worker: &WorkerId,
        new: impl FnOnce() -> Record,
        change: impl FnOnce(&mut Record),
    ) {
        self.shared.lock().records.entry(worker.clone()).or_insert_with(new);
        self.change_known(worker, change);
    }

    /// As above, if there is a record.
    pub(crate) fn change_known(&self, worker: &WorkerId, change: impl FnOnce(&mut Record)) {
        let mut book = self.shared.lock();
        let Some(record) = book.records.get_mut(worker) else { return };
        let before = record.clone();
        change(record);
        if *record != before {
            book.unwritten.insert(worker.clone());
            self.shared.changed.notify_one();
        }
    }

    /// Forgets a worker.
    pub(crate) fn forget(&self, worker: &WorkerId) {
        let mut book = self.shared.lock();
        if book.records.remove(worker).is_some() {
            book.unwritten.insert(worker.clone());
            self.shared.changed.notify_one();
        }
    }
}

impl Ledger {
    /// What has all records written again, for as long as there is somebody who writes them.
    pub(crate) fn renewal(&self) -> impl Fn() + Send + Sync + 'static {
        let shared = Arc::downgrade(&self.shared);
        move || {
            let Some(shared) = shared.upgrade() else { return };
            let mut book = shared.lock();
            let all: Vec<_> = book.records.keys().cloned().collect();
            book.unwritten.extend(all);
            shared.changed.notify_one();
        }
    }

    /// Writes what is left to be written, and nothing afterwards. True: no process is in it.
    pub(crate) fn close(&self) -> bool {
        self.shared.lock().closed = true;
        self.shared.changed.notify_one();
        let thread = self.thread.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(thread) = thread {
            // It runs no code but ours.
            let _ = thread.join();
        }
        self.shared.lock().records.values().all(|record| record.process.is_none())
    }
}

impl Drop for Ledger {
    fn drop(&mut self) {
        self.close();
    }
}

/// The name of a worker's file.
pub(crate) fn file_of(worker: &WorkerId) -> String {
    format!("{worker}.json")
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, Book> {
        // Every change leaves the book whole.
        self.book.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn run(&self) {
        let mut failing = false;
        let mut retry = Instant::now();
        let mut book = self.lock();
        // Of what an earlier run was at when it panicked.
        let known: Vec<_> = book.records.keys().cloned().collect();
        book.unwritten.extend(known);
        loop {
            let Some(worker) = book.unwritten.pop_first() else {
                if book.closed {
                    return;
                }
                if failing && book.failed.is_empty() {
                    log::info!("the state of workers is written again");
                    self.state.troubled(Part::Records, None);
                    failing = false;
                }
                book = self.wait(book, retry);
                continue;
            };
            let record = book.records.get(&worker).cloned();
            drop(book);
            threads::fail_point("ledger");
            let written = self.write(&worker, record.as_ref());
            book = self.lock();
            book.failed.remove(&worker);
            if let Err(error) = written {
                if !std::mem::replace(&mut failing, true) {
                    log::warn!(
                        "{worker}: its state cannot be written, so that a next master may not know \
                         it: {error}"
                    );
                    let text = format!("cannot write down what {worker} does: {error}");
                    self.state.troubled(Part::Records, Some(text));
                }
                if book.failed.is_empty() {
                    retry = Instant::now() + RETRY;
                }
                // It holds up no other.
                book.failed.insert(worker);
            }
        }
    }

    /// Waits for something to write: what has changed, or at `retry` what has failed.
    fn wait<'b>(&'b self, book: MutexGuard<'b, Book>, retry: Instant) -> MutexGuard<'b, Book> {
        if book.failed.is_empty() {
            return self.changed.wait(book).unwrap_or_else(PoisonError::into_inner);
        }
        let left = retry.saturating_duration_since(Instant::now());
        let nothing = |book: &mut Book| !book.closed && book.unwritten.is_empty();
        let waited = self.changed.wait_timeout_while(book, left, nothing);
        let (mut book, waited) = waited.unwrap_or_else(PoisonError::into_inner);
        if waited.timed_out() || book.closed {
            let failed = std::mem::take(&mut book.failed);
            book.unwritten.extend(failed);
        }
        book
    }

    fn write(&self, worker: &WorkerId, record: Option<&Record>) -> io::Result<()> {
        let workers = self.state.workers();
        match record {
            Some(record) => workers.replace(&file_of(worker), &record.to_json()),
            None => workers.remove(&file_of(worker)).map(drop),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(id: &str) -> (WorkerId, Record) {
        let worker = WorkerId::new(id).unwrap();
        let record = Record::new(&worker, "boot", "nonce");
        (worker, record)
    }

    #[test]
    fn what_cannot_be_written_holds_up_no_other() {
        let around = tempfile::tempdir().unwrap();
        let path = around.path().join("s");
        let state = StateDir::open(&path, "n").unwrap();
        // Nothing can be renamed over a directory that is not empty.
        std::fs::create_dir_all(path.join("workers/a.json/x")).unwrap();
        let records = [record("a"), record("b"), record("c")].into();
        let ledger = Ledger::open(Arc::clone(&state), records, BTreeMap::new()).unwrap();
        assert!(ledger.close());
        for worker in ["b", "c"] {
            assert!(path.join(format!("workers/{worker}.json")).is_file(), "{worker}");
        }
    }

    #[test]
    fn a_forgotten_worker_gets_no_record_by_its_end() {
        let around = tempfile::tempdir().unwrap();
        let path = around.path().join("s");
        let state = StateDir::open(&path, "n").unwrap();
        let (worker, new) = record("a");
        let records = [(worker.clone(), new.clone())].into();
        let ledger = Ledger::open(Arc::clone(&state), records, BTreeMap::new()).unwrap();
        ledger.forget(&worker);
        ledger.change_known(&worker, |record| record.incarnation = 7);
        ledger.close();
        assert!(!path.join("workers/a.json").exists());
        let ledger = Ledger::open(state, BTreeMap::new(), BTreeMap::new()).unwrap();
        ledger.change(&worker, || new, |record| record.incarnation = 7);
        ledger.close();
        assert!(path.join("workers/a.json").exists());
    }
}
