//! The ledger: one thread writes the records of workers as they change, so that neither the loop
//! nor a launch waits for a disk. Between two writes only the latest state of a worker counts.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use super::record::Record;
use crate::host::state::StateDir;
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
        let book = Mutex::new(Book { records, unwritten, closed: false });
        let shared = Arc::new(Shared { state, book, changed: Condvar::new() });
        let writer = Arc::clone(&shared);
        let thread = threads::spawn("hsu-ledger", STACK, move || writer.run())?;
        Ok(Self { shared, thread: Mutex::new(Some(thread)) })
    }

    /// Changes a worker's record, made by `new` if there is none, and has it written soon.
    pub(crate) fn change(
        &self,
        worker: &WorkerId,
        new: impl FnOnce() -> Record,
        change: impl FnOnce(&mut Record),
    ) {
        let mut book = self.shared.lock();
        let record = book.records.entry(worker.clone()).or_insert_with(new);
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
        let mut book = self.lock();
        loop {
            let Some(worker) = book.unwritten.pop_first() else {
                if book.closed {
                    return;
                }
                book = self.changed.wait(book).unwrap_or_else(PoisonError::into_inner);
                continue;
            };
            let record = book.records.get(&worker).cloned();
            drop(book);
            let written = self.write(&worker, record.as_ref());
            book = self.lock();
            match written {
                Ok(()) if failing => {
                    log::info!("the state of workers is written again");
                    failing = false;
                }
                Ok(()) => {}
                Err(error) => {
                    if !std::mem::replace(&mut failing, true) {
                        log::warn!(
                            "{worker}: its state cannot be written, so that a next master may not \
                             know it: {error}"
                        );
                    }
                    if book.closed {
                        return;
                    }
                    book.unwritten.insert(worker);
                    let waited = self.changed.wait_timeout_while(book, RETRY, |book| !book.closed);
                    book = waited.unwrap_or_else(PoisonError::into_inner).0;
                }
            }
        }
    }

    fn write(&self, worker: &WorkerId, record: Option<&Record>) -> io::Result<()> {
        let workers = self.state.workers();
        match record {
            Some(record) => workers.replace(&file_of(worker), &record.to_json()),
            None => workers.remove(&file_of(worker)).map(drop),
        }
    }
}
