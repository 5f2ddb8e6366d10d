//! What a former master has left of workers that this one does not know yet, because its program
//! adds them later: kept until they are added, or until it is clear that they will not be.

use super::former::{Adoption, fingerprint, is_wanted};
use super::record::Wanted;
use crate::worker::{RestartPolicy, WorkerConfig};

/// What is left of one worker.
#[derive(Debug)]
pub(crate) struct Unclaimed {
    pub(super) wanted: Wanted,
    /// Its process, if that may go on.
    pub(super) process: Option<Adoption>,
}

/// What becomes of a process once its worker is known.
#[derive(Debug)]
pub(crate) enum Claimed {
    GoesOn(Adoption),
    Ends(Adoption),
}

impl Unclaimed {
    pub(super) fn lives(&self) -> bool {
        self.process.is_some()
    }

    /// True if a command has stopped the worker, which is this, and is to stay so.
    pub(crate) fn stays_down(&self, config: &WorkerConfig) -> bool {
        self.wanted == Wanted::Down && config.restart.policy == RestartPolicy::UnlessStopped
    }

    /// The worker is known now.
    pub(crate) fn claim(&mut self, config: &WorkerConfig) -> Option<Claimed> {
        let left = self.process.take()?;
        if !is_wanted(config) {
            return Some(Claimed::Ends(left));
        }
        let known = left.record.process.as_ref();
        let outdated = known.is_some_and(|known| known.configuration != fingerprint(config));
        Some(Claimed::GoesOn(Adoption { outdated, ..left }))
    }

    /// The worker will not be known: its process, which is to end.
    pub(crate) fn give_up(self) -> Option<Adoption> {
        self.process
    }
}
