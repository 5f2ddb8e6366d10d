//! Who wants to know when something about a worker changes, without waiting for it on a thread.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::task::Waker;

use super::Board;
use crate::core::event::{Goal, Status};

/// Wakers by worker; those under the empty name are woken by the master's end alone, as are all.
#[derive(Default)]
pub(super) struct Watchers {
    by_worker: BTreeMap<(String, u64), Waker>,
    last: u64,
}

impl Watchers {
    fn add(&mut self, worker: &str, waker: Waker) -> (String, u64) {
        self.last += 1;
        let key = (worker.to_owned(), self.last);
        self.by_worker.insert(key.clone(), waker);
        key
    }

    /// Something about this worker has changed.
    pub(super) fn wake(&self, worker: &str) {
        if self.by_worker.is_empty() {
            return;
        }
        let first = (worker.to_owned(), 0);
        let of_worker = self.by_worker.range(first..).take_while(|((name, _), _)| name == worker);
        of_worker.for_each(|(_, waker)| waker.wake_by_ref());
    }

    /// The master has ended.
    pub(super) fn wake_all(&self) {
        self.by_worker.values().for_each(Waker::wake_by_ref);
    }

    #[cfg(test)]
    pub(super) fn count(&self) -> usize {
        self.by_worker.len()
    }
}

/// As long as it is held, its waker is woken by every change.
pub(crate) struct Watch {
    board: Arc<Board>,
    key: (String, u64),
}

impl Board {
    /// Waits until a worker that is being removed is, or turns out to be stuck.
    pub(crate) fn wait_for_removal(&self, worker: &str) {
        let _ = self.wait(None, |state| {
            let status = state.workers.get(worker).map(|entry| &entry.status);
            let leaves = |status: &Status| status.goal == Goal::Gone && status.abandoned == 0;
            (state.end.is_some() || !status.is_some_and(leaves)).then_some(())
        });
    }

    /// Wakes `waker` at every change of a worker, whether there is one of this name or not, and at
    /// the master's end. It is called on the loop's thread with the board locked: it must be short,
    /// and must not look at the board.
    pub(crate) fn watch(self: &Arc<Self>, worker: &str, waker: Waker) -> Watch {
        let key = self.state().watchers.add(worker, waker);
        Watch { board: Arc::clone(self), key }
    }

    /// As [`watch`](Self::watch), for the master's end alone.
    pub(crate) fn watch_end(self: &Arc<Self>, waker: Waker) -> Watch {
        self.watch("", waker)
    }
}

#[cfg(test)]
impl Board {
    /// How many are to be woken by something.
    pub(crate) fn watching(&self) -> usize {
        self.state().watchers.count()
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        let waker = self.board.state().watchers.by_worker.remove(&self.key);
        // What it holds may be dropped with it: not under our lock.
        drop(waker);
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::task::Wake;

    use super::*;
    use crate::runtime::clock::Clock;

    #[derive(Default)]
    struct Count(AtomicUsize);

    impl Wake for Count {
        fn wake(self: Arc<Self>) {
            self.0.fetch_add(1, Ordering::Relaxed);
        }
    }

    #[test]
    fn who_watches_a_worker_hears_of_it_and_of_the_end_until_it_lets_go() {
        let board = Arc::new(Board::new(Clock::new()));
        let count = Arc::<Count>::default();
        let watches: Vec<_> = ["a", "ab", "b", ""]
            .map(|worker| board.watch(worker, Waker::from(Arc::clone(&count))))
            .into();
        let heard = || count.0.swap(0, Ordering::Relaxed);
        board.state().watchers.wake("a");
        assert_eq!(heard(), 1);
        board.state().watchers.wake("c");
        assert_eq!(heard(), 0);
        board.close(false);
        assert_eq!(heard(), 4);
        drop(watches);
        assert_eq!(board.state().watchers.count(), 0);
    }
}
