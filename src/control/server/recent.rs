//! What was found out about workers a moment ago: who asks again and again is told it again, and
//! the system is not asked each time.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// What is told is no older than this.
const FRESH: Duration = Duration::from_millis(100);
/// So many workers are kept in mind.
const MOST: usize = 256;

/// What was found out last about each worker.
pub(super) struct Recent<T> {
    by_worker: Mutex<BTreeMap<String, Found<T>>>,
}

struct Found<T> {
    /// Whose it is: an incarnation and its process, since another one has other figures.
    of: (u64, u32),
    at: Instant,
    what: T,
}

impl<T> Found<T> {
    fn is_fresh(&self, now: Instant) -> bool {
        now.saturating_duration_since(self.at) < FRESH
    }
}

impl<T> Default for Recent<T> {
    fn default() -> Self {
        Self { by_worker: Mutex::default() }
    }
}

impl<T: Clone> Recent<T> {
    /// What was found out about this incarnation and process of a worker a moment ago, or else what
    /// `look` finds, which may take a while.
    pub(super) fn of(&self, worker: &str, life: (u64, u32), look: impl FnOnce() -> T) -> T {
        self.of_at(Instant::now(), worker, life, look)
    }

    fn of_at(&self, now: Instant, worker: &str, life: (u64, u32), look: impl FnOnce() -> T) -> T {
        let known = |found: &&Found<T>| found.of == life && found.is_fresh(now);
        if let Some(found) = self.by_worker().get(worker).filter(known) {
            return found.what.clone();
        }
        // Nobody else waits for it meanwhile.
        let what = look();
        let mut by_worker = self.by_worker();
        if by_worker.len() >= MOST {
            by_worker.retain(|_, found| found.is_fresh(now));
        }
        if by_worker.len() < MOST {
            let found = Found { of: life, at: now, what: what.clone() };
            by_worker.insert(worker.to_owned(), found);
        }
        what
    }

    fn by_worker(&self) -> MutexGuard<'_, BTreeMap<String, Found<T>>> {
        self.by_worker.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_found_a_moment_ago_is_not_looked_for_again() {
        let recent = Recent::default();
        let start = Instant::now();
        let late = FRESH - Duration::from_nanos(1);
        for (after, worker, life, expected) in [
            (Duration::ZERO, "a", (1, 7), 0),
            (late, "a", (1, 7), 0),
            (late, "b", (1, 7), 2),
            (late, "a", (2, 7), 3),
            (late, "a", (2, 8), 4),
            (late + FRESH, "a", (2, 8), 5),
        ] {
            let looked = recent.of_at(start + after, worker, life, || expected);
            assert_eq!(looked, expected, "{worker} {life:?} after {after:?}");
            assert_eq!(recent.of_at(start + after, worker, life, || 9), expected);
        }
    }

    #[test]
    fn only_so_many_are_kept_in_mind_and_the_stale_make_room() {
        let recent = Recent::default();
        let start = Instant::now();
        for n in 0..2 * MOST {
            recent.of_at(start, &n.to_string(), (1, 1), || n);
        }
        assert_eq!(recent.by_worker().len(), MOST);
        for n in [1, 2] {
            assert_eq!(recent.of_at(start, "new", (1, 1), || n), n, "there is no room for it");
        }
        for n in [3, 4] {
            assert_eq!(recent.of_at(start + FRESH, "new", (1, 1), || n), 3);
        }
        assert_eq!(recent.by_worker().len(), 1);
    }
}
