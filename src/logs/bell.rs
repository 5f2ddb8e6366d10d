//! Wakes those who wait for more to read. Rung after each write, it costs nothing while nobody
//! waits.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

#[derive(Default)]
pub(super) struct Bell {
    rings: Mutex<Rings>,
    rung: Condvar,
    listeners: AtomicUsize,
}

#[derive(Clone, Copy, Default)]
pub(super) struct Rings {
    count: u64,
    /// Nothing more will come.
    pub(super) ended: bool,
}

impl Bell {
    fn rings(&self) -> MutexGuard<'_, Rings> {
        self.rings.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Something may be there to be read.
    pub(super) fn ring(&self) {
        if self.listeners.load(Ordering::SeqCst) > 0 {
            self.rings().count += 1;
            self.rung.notify_all();
        }
    }

    /// Nothing more will come.
    pub(super) fn end(&self) {
        self.rings().ended = true;
        self.rung.notify_all();
    }

    /// To be asked before one looks for something to read, and again when there is nothing more to
    /// listen for.
    pub(super) fn listen(&self, listens: bool) {
        if listens {
            self.listeners.fetch_add(1, Ordering::SeqCst);
        } else {
            self.listeners.fetch_sub(1, Ordering::SeqCst);
        }
    }

    pub(super) fn heard(&self) -> Rings {
        *self.rings()
    }

    /// Waits for a ring beyond those that were heard, at most for `patience`.
    pub(super) fn wait(&self, heard: Rings, patience: Option<Duration>) {
        let nothing_new = |now: &mut Rings| now.count == heard.count && !now.ended;
        let rings = self.rings();
        match patience {
            Some(patience) => drop(self.rung.wait_timeout_while(rings, patience, nothing_new)),
            None => drop(self.rung.wait_while(rings, nothing_new)),
        }
    }
}
