//! The directory of running functions: for each worker a line, on which callers find what its
//! running incarnation exports, without asking the loop.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::host::RemoteFunctions;
use crate::host::runner::functions::Functions;
use crate::worker::WorkerId;

/// Who answers the calls of a worker while it runs.
#[derive(Clone)]
pub(crate) enum Callee {
    /// A module on a thread of this process.
    Local(Arc<Functions>),
    /// A module in a process of its own, or a program that speaks the worker protocol.
    Remote(Arc<dyn RemoteFunctions>),
}

impl Callee {
    fn panics(&self) -> u64 {
        match self {
            Self::Local(functions) => functions.panics(),
            Self::Remote(functions) => functions.panics(),
        }
    }
}

/// The lines of a master's workers, by id.
#[derive(Default)]
pub(crate) struct Directory(Mutex<Lines>);

#[derive(Default)]
struct Lines {
    by_id: BTreeMap<WorkerId, Arc<Line>>,
    /// At so many, those that nobody holds are taken out before one is added.
    prune_at: usize,
}

impl Directory {
    /// A worker's line, whether there is such a worker or not.
    pub(crate) fn line(&self, worker: &WorkerId) -> Arc<Line> {
        let mut lines = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(known) = lines.by_id.get(worker) {
            return Arc::clone(known);
        }
        if lines.by_id.len() >= lines.prune_at {
            lines.by_id.retain(|_, line| Arc::strong_count(line) > 1);
            lines.prune_at = 2 * lines.by_id.len() + 8;
        }
        let line = Arc::<Line>::default();
        lines.by_id.insert(worker.clone(), Arc::clone(&line));
        line
    }
}

/// Where the calls of one worker go. The loop connects and disconnects it; callers look.
#[derive(Default)]
pub(crate) struct Line {
    /// Changes whenever what is connected changes, so that callers need not look twice.
    version: AtomicU64,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    connected: bool,
    /// The incarnation that is or was connected last, until it is gone: its calls in flight may
    /// still panic.
    callee: Option<(u64, Callee)>,
    /// Panics of calls to incarnations that are gone.
    panics: u64,
}

impl State {
    fn retire(&mut self) -> Option<Callee> {
        let (_, callee) = self.callee.take()?;
        self.panics += callee.panics();
        Some(callee)
    }
}

impl Line {
    /// The incarnation runs: calls go to it from now on.
    pub(super) fn connect(&self, incarnation: u64, callee: Callee) {
        let mut state = self.state();
        let before = state.retire();
        state.callee = Some((incarnation, callee));
        state.connected = true;
        self.turn_page(state);
        drop(before);
    }

    /// Nothing of the worker runs any more: calls are refused from now on.
    pub(super) fn disconnect(&self) {
        let mut state = self.state();
        if std::mem::replace(&mut state.connected, false) {
            self.turn_page(state);
        }
    }

    /// The incarnation is gone, and with it all calls in flight.
    pub(super) fn gone(&self, incarnation: u64) {
        let mut state = self.state();
        if state.callee.as_ref().is_some_and(|(known, _)| *known == incarnation) {
            state.connected = false;
            let before = state.retire();
            self.turn_page(state);
            drop(before);
        }
    }

    /// The worker was removed: one that is added under its name begins anew.
    pub(super) fn forget(&self) {
        let mut state = self.state();
        let before = std::mem::take(&mut *state);
        self.turn_page(state);
        drop(before);
    }

    fn turn_page(&self, state: MutexGuard<'_, State>) {
        self.version.fetch_add(1, Ordering::Release);
        drop(state);
    }

    /// What a callee that was found must have been found under to be the present one.
    pub(super) fn version(&self) -> u64 {
        self.version.load(Ordering::Acquire)
    }

    /// Whom calls go to now, and the version this is true of.
    pub(super) fn callee(&self) -> Option<(u64, Callee)> {
        let state = self.state();
        let (_, callee) = state.callee.as_ref().filter(|_| state.connected)?;
        Some((self.version(), callee.clone()))
    }

    /// How many calls panicked since the worker was added.
    pub(super) fn panics(&self) -> u64 {
        let state = self.state();
        state.panics + state.callee.as_ref().map_or(0, |(_, callee)| callee.panics())
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl fmt::Debug for Line {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Line").field("connected", &self.state().connected).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_shared_while_somebody_holds_them_and_do_not_pile_up() {
        let directory = Directory::default();
        let held = directory.line(&WorkerId::new("held").unwrap());
        for n in 0..1000 {
            directory.line(&WorkerId::new(&format!("w{n}")).unwrap());
        }
        assert!(Arc::ptr_eq(&held, &directory.line(&WorkerId::new("held").unwrap())));
        let count = directory.0.lock().unwrap().by_id.len();
        assert!(count < 20, "{count} lines are kept");
    }
}
