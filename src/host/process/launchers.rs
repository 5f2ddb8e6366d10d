//! The threads that launch processes, lent for one launch each.
//!
//! A launch needs deep stack and much memory for a moment, and a thread keeps the pages of both.
//! The monitors, of which there are as many as processes, stay small because these few do it.

use std::collections::VecDeque;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};

use super::{Life, launcher};
use crate::error::{ErrorCategory, Failure};
use crate::host::{Report, threads};
use crate::worker::Exit;

/// The standard library's spawn and the search for a program take a good part of it; to look up a
/// user the C library may load others.
pub(super) const STACK: usize = 256 << 10;
/// As many launches go on at once, so that a program on a file system that hangs delays nobody.
pub(super) const MOST: usize = 32;
/// As many threads stay and wait for the next launch.
const KEPT: usize = 2;

/// Dropped, its threads end once nothing is left to be launched.
pub(super) struct Launchers(Arc<Shared>);

#[derive(Default)]
struct Shared {
    state: Mutex<State>,
    /// Told when something is there to be launched, and at the end.
    called: Condvar,
}

#[derive(Default)]
struct State {
    /// Not launched yet, in their order.
    lives: VecDeque<Life>,
    threads: usize,
    /// How many of the threads wait.
    idle: usize,
    closed: bool,
}

impl Launchers {
    pub(super) fn new() -> Self {
        Self(Arc::default())
    }

    /// Has a life launched: at once, unless very many are being launched now. Never blocks.
    pub(super) fn launch(&self, life: Life) {
        let mut state = self.0.lock();
        state.lives.push_back(life);
        if state.lives.len() <= state.idle || state.threads == MOST {
            self.0.called.notify_one();
            return;
        }
        state.threads += 1;
        drop(state);
        let here = Here(Arc::clone(&self.0));
        let work = move || {
            threads::fail_point("launchers");
            here.0.work();
        };
        if let Err(error) = threads::vital("hsu-launcher", STACK, work) {
            self.0.give_up(&format!("cannot start a thread to launch the process: {error}"));
        }
    }
}

impl Drop for Launchers {
    fn drop(&mut self) {
        self.0.lock().closed = true;
        self.0.called.notify_all();
    }
}

/// A launching thread is counted as long as it has this.
struct Here(Arc<Shared>);

impl Drop for Here {
    fn drop(&mut self) {
        self.0.lock().threads -= 1;
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        // Nothing that can panic runs under the lock.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Launches what is there, until nothing is and enough others wait for more.
    fn work(&self) {
        let mut state = self.lock();
        loop {
            if let Some(life) = state.lives.pop_front() {
                drop(state);
                let name = life.to_string();
                // What it owes it has paid by then; the next in the queue must not wait for ever.
                let _said = threads::ours(&name, || launcher::launch(life));
                state = self.lock();
            } else if state.closed || state.idle == KEPT {
                return;
            } else {
                state.idle += 1;
                state = self.called.wait(state).unwrap_or_else(PoisonError::into_inner);
                state.idle -= 1;
            }
        }
    }

    /// Refuses what waits if there is no thread left that would come to it.
    fn give_up(&self, why: &str) {
        let mut state = self.lock();
        if state.threads > 0 {
            return;
        }
        let lives = std::mem::take(&mut state.lives);
        drop(state);
        for life in lives {
            let failure = Failure::new(ErrorCategory::ResourceLimit, why);
            (life.report)(Report::Gone(Exit::Failed(failure)));
        }
    }
}
