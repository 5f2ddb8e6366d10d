//! What became of each worker: its last changes of state, so that one can ask why it is where it
//! is.

use std::collections::VecDeque;
use std::time::SystemTime;

use super::Board;
use crate::core::event::{Cause, Status, Transition};
use crate::error::Result;
use crate::worker::{Exit, WorkerState};

/// So many changes of each worker are remembered.
const MAX_PAST: usize = 64;

/// One change of a worker's state.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Past {
    /// When, by the wall clock as it was then.
    pub at: SystemTime,
    /// The state it left.
    pub from: WorkerState,
    /// The state it entered.
    pub to: WorkerState,
    /// Why, in a word or two.
    pub cause: &'static str,
    /// The incarnation it is about; 0 when there was none yet.
    pub incarnation: u64,
    /// What went wrong, where that is why.
    pub message: Option<String>,
    /// How the incarnation ended, where it had.
    pub exit: Option<Exit>,
}

/// One change as it is kept: most have nothing to tell beside.
#[derive(Debug)]
struct Kept {
    at: SystemTime,
    incarnation: u64,
    from: WorkerState,
    to: WorkerState,
    cause: Cause,
    beside: Option<Box<Beside>>,
}

/// What went wrong, and how the incarnation ended.
#[derive(Debug, Default, PartialEq)]
struct Beside {
    message: Option<String>,
    exit: Option<Exit>,
}

impl Kept {
    /// A change that has just happened, and the status that it led to.
    fn new(transition: &Transition, status: Option<&Status>) -> Self {
        let &Transition { worker: _, incarnation, from, to, cause } = transition;
        let failed = matches!(cause, Cause::Failed(_) | Cause::GaveUp);
        let failure = status.filter(|_| failed).and_then(|status| status.last_failure.as_deref());
        let down = matches!(to, WorkerState::Failed | WorkerState::Stopped);
        let beside = Beside {
            message: failure.map(|(failure, _)| failure.to_string()),
            exit: status
                .filter(|status| down && status.phase == "none")
                .and_then(|status| status.exit.clone()),
        };
        let beside = (beside != Beside::default()).then(|| Box::new(beside));
        Self { at: SystemTime::now(), incarnation, from, to, cause, beside }
    }

    fn told(&self) -> Past {
        let &Self { at, incarnation, from, to, cause, .. } = self;
        let beside = self.beside.as_deref();
        Past {
            at,
            from,
            to,
            cause: cause.as_str(),
            incarnation,
            message: beside.and_then(|beside| beside.message.clone()),
            exit: beside.and_then(|beside| beside.exit.clone()),
        }
    }
}

/// The past of one worker.
#[derive(Debug, Default)]
pub(super) struct History(VecDeque<Kept>);

impl History {
    pub(super) fn note(&mut self, transition: &Transition, status: Option<&Status>) {
        if self.0.len() == MAX_PAST {
            self.0.pop_front();
        }
        self.0.push_back(Kept::new(transition, status));
    }

    /// The oldest first.
    pub(super) fn all(&self) -> Vec<Past> {
        self.0.iter().map(Kept::told).collect()
    }
}

impl Board {
    /// Remembers a change of a worker's state, and the status that it led to.
    pub(in crate::runtime) fn note(&self, transition: &Transition, status: Option<&Status>) {
        if let Some(entry) = self.state().workers.get_mut(&transition.worker) {
            entry.past.note(transition, status);
        }
    }

    /// The last changes of a worker's state, the oldest first.
    pub(crate) fn history(&self, worker: &str) -> Result<Vec<Past>> {
        let state = self.state();
        match state.workers.get(worker) {
            Some(entry) => Ok(entry.past.all()),
            None => Err(self.unknown(worker, &state)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::worker::WorkerId;

    #[test]
    fn the_last_changes_are_kept_and_no_more() {
        let mut history = History::default();
        for incarnation in 0..1000 {
            let worker = WorkerId::new("w").unwrap();
            let (from, to) = (WorkerState::Running, WorkerState::Failed);
            let cause = Cause::Completed;
            history.note(&Transition { worker, incarnation, from, to, cause }, None);
        }
        let kept: Vec<_> = history.all().iter().map(|past| past.incarnation).collect();
        assert_eq!(kept, (936..1000).collect::<Vec<_>>());
    }
}
