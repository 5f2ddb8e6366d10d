//! What wakes a connection's thread, beside its socket: answers that have come, and the master's
//! end.

use std::collections::BTreeSet;
use std::fs::File;
use std::io::{self, Read as _, Write as _};
use std::net::Shutdown;
use std::os::fd::{AsFd as _, BorrowedFd};
use std::os::unix::net::UnixStream;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::task::{Wake, Waker};
use std::time::Instant;

use crate::error::Result;
use crate::host::sys;

/// A descriptor that becomes readable when it is raised, until it is cleared.
pub(super) struct Signal(File);

impl Signal {
    pub(super) fn new() -> io::Result<Self> {
        Ok(Self(File::from(sys::eventfd()?)))
    }

    pub(super) fn raise(&self) {
        // A counter that is full is readable anyway.
        let _ = (&self.0).write(&1_u64.to_ne_bytes());
    }

    pub(super) fn clear(&self) {
        let _ = (&self.0).read(&mut [0; 8]);
    }

    pub(super) fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

impl Wake for Signal {
    fn wake(self: Arc<Self>) {
        self.raise();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        self.raise();
    }
}

/// Where a connection's thread finds out what it was woken for.
pub(super) struct Mailbox {
    socket: Arc<UnixStream>,
    signal: Signal,
    letters: Mutex<Letters>,
    used: Mutex<Use>,
}

/// Whether a connection could be spared.
#[derive(Clone, Copy, Debug)]
enum Use {
    Busy,
    /// It has waited since then for its client to ask for something.
    Idle(Instant),
    /// Another one has its place.
    Evicted,
}

/// What has come since the thread last looked.
#[derive(Default)]
pub(super) struct Letters {
    /// Requests that may have their answer now.
    pub(super) ready: BTreeSet<u64>,
    /// Results, as text, of requests that had threads of their own.
    pub(super) results: Vec<(u64, Result<Vec<u8>>)>,
    /// The master's loop died.
    pub(super) died: bool,
    /// The master has ended.
    pub(super) closed: bool,
}

impl Letters {
    fn is_empty(&self) -> bool {
        self.ready.is_empty() && self.results.is_empty() && !self.died && !self.closed
    }
}

impl Mailbox {
    pub(super) fn new(socket: Arc<UnixStream>) -> io::Result<Self> {
        Ok(Self {
            socket,
            signal: Signal::new()?,
            letters: Mutex::default(),
            used: Mutex::new(Use::Busy),
        })
    }

    /// The connection itself.
    pub(super) fn socket(&self) -> Arc<UnixStream> {
        Arc::clone(&self.socket)
    }

    /// What wakes the thread for this request.
    pub(super) fn waker(self: &Arc<Self>, request: u64) -> Waker {
        Waker::from(Arc::new(Bell { mailbox: Arc::downgrade(self), request }))
    }

    pub(super) fn deliver(&self, request: u64, result: Result<Vec<u8>>) {
        self.put(|letters| letters.results.push((request, result)));
    }

    /// The master's loop died: what is open comes to nothing, and so does what will be asked.
    pub(super) fn tell_death(&self) {
        self.put(|letters| letters.died = true);
    }

    /// The master has ended: what can be answered is, and then the connection is closed.
    pub(super) fn close(&self) {
        self.put(|letters| letters.closed = true);
        // Its thread may wait for nothing but what the client says.
        let _ = self.socket.shutdown(Shutdown::Read);
    }

    /// Nothing is to be done but to wait for the client.
    pub(super) fn rest(&self) {
        let mut used = self.used();
        if matches!(*used, Use::Busy) {
            *used = Use::Idle(Instant::now());
        }
    }

    /// There is something to be done again. False: another connection has the place by now.
    pub(super) fn resume(&self) -> bool {
        let mut used = self.used();
        if matches!(*used, Use::Evicted) {
            return false;
        }
        *used = Use::Busy;
        true
    }

    /// Since when the connection has been idle; `None`: it is not.
    pub(super) fn idle_since(&self) -> Option<Instant> {
        match *self.used() {
            Use::Idle(since) => Some(since),
            Use::Busy | Use::Evicted => None,
        }
    }

    /// Ends the connection if it is still idle. False: it is not.
    pub(super) fn evict(&self) -> bool {
        let mut used = self.used();
        if !matches!(*used, Use::Idle(_)) {
            return false;
        }
        *used = Use::Evicted;
        drop(used);
        // Its thread may wait for what the client says, or for this.
        let _ = self.socket.shutdown(Shutdown::Read);
        self.signal.raise();
        true
    }

    fn used(&self) -> MutexGuard<'_, Use> {
        self.used.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn take(&self) -> Letters {
        self.signal.clear();
        std::mem::take(&mut *self.letters())
    }

    pub(super) fn as_fd(&self) -> BorrowedFd<'_> {
        self.signal.as_fd()
    }

    fn put(&self, change: impl FnOnce(&mut Letters)) {
        let mut letters = self.letters();
        let first = letters.is_empty();
        change(&mut letters);
        drop(letters);
        if first {
            self.signal.raise();
        }
    }

    fn letters(&self) -> MutexGuard<'_, Letters> {
        self.letters.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// One request's way to wake its connection, which it does not keep open: who is to answer may
/// take longer than the client stays.
struct Bell {
    mailbox: Weak<Mailbox>,
    request: u64,
}

impl Wake for Bell {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        if let Some(mailbox) = self.mailbox.upgrade() {
            mailbox.put(|letters| {
                letters.ready.insert(self.request);
            });
        }
    }
}
