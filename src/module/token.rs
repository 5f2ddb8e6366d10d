//! The stop token: how a module's threads learn, without polling, that it is time to end.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::fmt;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, RecvTimeoutError, Sender, bounded};

use super::listener::{Incoming, Listener};

/// One action to wake a blocked thread.
pub(crate) type StopAction = Box<dyn FnOnce() + Send>;

/// Fires once, when its incarnation is to end. Cheap to clone; all clones are one token.
#[derive(Clone)]
pub struct StopToken(Arc<Shared>);

struct Shared {
    fired: AtomicBool,
    state: Mutex<State>,
    /// Carries no message; it disconnects when the sender in `state` is dropped.
    receiver: Receiver<Infallible>,
}

struct State {
    sender: Option<Sender<Infallible>>,
    deadline: Option<Instant>,
    actions: BTreeMap<u64, StopAction>,
    next_action: u64,
}

impl StopToken {
    pub(crate) fn new() -> Self {
        let (sender, receiver) = bounded(0);
        let state = State {
            sender: Some(sender),
            deadline: None,
            actions: BTreeMap::new(),
            next_action: 0,
        };
        Self(Arc::new(Shared { fired: AtomicBool::new(false), state: Mutex::new(state), receiver }))
    }

    /// Fires the token, with the moment by which the end is expected. Returns the actions to run,
    /// in the order they were registered; none when it had fired before.
    pub(crate) fn fire(&self, deadline: Option<Instant>) -> Vec<StopAction> {
        let mut state = self.state();
        if self.0.fired.swap(true, Ordering::SeqCst) {
            // A later call only brings the deadline closer.
            state.deadline = [state.deadline, deadline].into_iter().flatten().min();
            return Vec::new();
        }
        state.deadline = deadline;
        state.sender = None;
        std::mem::take(&mut state.actions).into_values().collect()
    }

    /// True once the incarnation is to end.
    pub fn is_stopped(&self) -> bool {
        self.0.fired.load(Ordering::SeqCst)
    }

    /// Waits for the stop, at most `timeout`. True once stopped.
    pub fn wait(&self, timeout: Duration) -> bool {
        match self.0.receiver.recv_timeout(timeout) {
            Ok(never) => match never {},
            Err(RecvTimeoutError::Disconnected) => true,
            Err(RecvTimeoutError::Timeout) => self.is_stopped(),
        }
    }

    /// Waits for the stop.
    pub fn wait_stopped(&self) {
        if let Ok(never) = self.0.receiver.recv() {
            match never {}
        }
    }

    /// For `select!` beside other channels: it never carries a message and disconnects on stop.
    pub fn receiver(&self) -> &Receiver<Infallible> {
        &self.0.receiver
    }

    /// The moment by which the end is expected, once stopped.
    pub fn deadline(&self) -> Option<Instant> {
        self.state().deadline
    }

    /// Registers an action that wakes something blocked, for as long as the returned guard lives.
    ///
    /// It runs once, on a short-lived thread of the worker; at once, on this thread, when the token
    /// has fired already. Keep it short: actions run one after another.
    pub fn on_stop(&self, action: impl FnOnce() + Send + 'static) -> OnStop {
        let mut state = self.state();
        if self.is_stopped() {
            drop(state);
            action();
            return OnStop { token: Weak::new(), id: 0 };
        }
        let id = state.next_action;
        state.next_action += 1;
        state.actions.insert(id, Box::new(action));
        OnStop { token: Arc::downgrade(&self.0), id }
    }

    /// An iterator that yields every `period`, first after one period, until stopped.
    ///
    /// It does not drift: tick `n` is due `n` periods after this call. Ticks that were missed
    /// because the work took longer are skipped. A period of zero is taken as one nanosecond.
    pub fn every(&self, period: Duration) -> Ticks {
        let period = period.max(Duration::from_nanos(1));
        Ticks { token: self.clone(), start: Instant::now(), period, count: 0 }
    }

    /// The connections of `listener`, until stopped. See [`Incoming`].
    pub fn incoming<'l, L: Listener>(&self, listener: &'l L) -> Incoming<'l, L> {
        Incoming::new(self.clone(), listener)
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl fmt::Debug for StopToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("StopToken").field("stopped", &self.is_stopped()).finish_non_exhaustive()
    }
}

/// Keeps an [`on_stop`](StopToken::on_stop) action registered; dropping it takes the action back.
#[must_use = "dropping it takes the action back"]
pub struct OnStop {
    token: Weak<Shared>,
    id: u64,
}

impl Drop for OnStop {
    fn drop(&mut self) {
        let Some(shared) = self.token.upgrade() else { return };
        let mut state = shared.state.lock().unwrap_or_else(PoisonError::into_inner);
        let action = state.actions.remove(&self.id);
        // What the action captured may use the token in its own drop.
        drop(state);
        drop(action);
    }
}

impl fmt::Debug for OnStop {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("OnStop").finish_non_exhaustive()
    }
}

/// See [`StopToken::every`]. Yields the number of the tick, from 1; skipped ticks are counted.
#[derive(Debug)]
pub struct Ticks {
    token: StopToken,
    start: Instant,
    period: Duration,
    count: u64,
}

impl Iterator for Ticks {
    type Item = u64;

    fn next(&mut self) -> Option<u64> {
        let elapsed = self.start.elapsed().as_nanos();
        let passed = elapsed / self.period.as_nanos();
        let due = u64::try_from(passed).unwrap_or(u64::MAX).max(self.count).saturating_add(1);
        let due_nanos = self.period.as_nanos().saturating_mul(u128::from(due));
        let wait = due_nanos.saturating_sub(elapsed);
        let wait = Duration::from_nanos(u64::try_from(wait).unwrap_or(u64::MAX));
        if self.token.wait(wait) {
            return None;
        }
        self.count = due;
        Some(due)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn firing_disconnects_runs_actions_once_and_ends_iterators() {
        let token = StopToken::new();
        let (told, heard) = bounded(2);
        let kept = token.on_stop({
            let told = told.clone();
            move || told.send("kept").unwrap()
        });
        drop(token.on_stop({
            let told = told.clone();
            move || told.send("taken back").unwrap()
        }));
        assert!(!token.wait(Duration::ZERO));
        for action in token.fire(None) {
            action();
        }
        assert!(token.fire(None).is_empty());
        assert_eq!(heard.try_recv(), Ok("kept"));
        assert!(heard.try_recv().is_err());
        drop(kept);
        token.wait_stopped();
        assert!(token.receiver().try_recv().is_err());
        assert_eq!(token.every(Duration::from_secs(3600)).next(), None);
        let _late = token.on_stop(move || told.send("late").unwrap());
        assert_eq!(heard.try_recv(), Ok("late"));
    }

    #[test]
    fn ticks_skip_what_was_missed_and_keep_the_grid() {
        let token = StopToken::new();
        let mut ticks = token.every(Duration::from_millis(1));
        ticks.start -= Duration::from_millis(10);
        let first = ticks.next().unwrap();
        assert!(first >= 11, "{first}");
        assert!(ticks.next().unwrap() > first);
    }
}
