//! Which worker the current thread belongs to: for log lines, for the panic hook, and to refuse a
//! thread that would wait for itself.

use std::cell::RefCell;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

use super::Reporter;

thread_local! {
    static CURRENT: RefCell<Option<Arc<Identity>>> = const { RefCell::new(None) };
}

/// Whom a thread works for.
#[derive(Clone)]
pub(crate) struct Identity {
    /// Which master of this process: there may be several.
    pub(crate) realm: u64,
    pub(crate) role: Role,
    /// Requests to the master that this worker's threads have made and that are not answered yet.
    pub(crate) requests: Arc<AtomicUsize>,
}

#[derive(Clone)]
pub(crate) enum Role {
    /// A master's event loop.
    Loop,
    /// A module's thread that we started: panics on it are caught by us.
    Module { worker: Arc<str> },
    /// A thread of others that a module adopted: a panic on it is told to `report` by the hook.
    Adopted { worker: Arc<str>, report: Reporter },
}

/// Numbers the masters of this process, and whoever else hosts modules in it, so that threads know
/// whose they are.
pub(crate) fn next_realm() -> u64 {
    static NEXT: AtomicU64 = AtomicU64::new(1);
    NEXT.fetch_add(1, Ordering::Relaxed)
}

/// Makes the current thread one of `identity`'s, until it ends or is given another identity.
pub(crate) fn assume(identity: impl Into<Arc<Identity>>) {
    replace(Some(identity.into()));
}

/// Makes the current thread one of `identity`'s until the returned guard is dropped.
pub(crate) fn lend(identity: &Arc<Identity>) -> Lent {
    Lent { before: replace(Some(Arc::clone(identity))) }
}

/// Gives a thread back the identity it had.
#[must_use = "dropping it ends the loan"]
pub(crate) struct Lent {
    before: Option<Arc<Identity>>,
}

impl Drop for Lent {
    fn drop(&mut self) {
        replace(self.before.take());
    }
}

fn replace(identity: Option<Arc<Identity>>) -> Option<Arc<Identity>> {
    // A thread that is being torn down has no identity to give.
    CURRENT.try_with(|current| current.replace(identity)).ok().flatten()
}

/// The current thread's identity, if it has one.
pub(crate) fn current() -> Option<Arc<Identity>> {
    CURRENT.try_with(|current| current.borrow().clone()).ok().flatten()
}

/// The id of the worker whose thread this is: for loggers that want to name it.
///
/// Threads a module starts by itself, beside [`ModuleContext::spawn`](crate::ModuleContext::spawn),
/// belong to nobody until they are adopted.
pub fn current_worker() -> Option<String> {
    match &current()?.role {
        Role::Loop => None,
        Role::Module { worker } | Role::Adopted { worker, .. } => Some(worker.to_string()),
    }
}
