//! What a master does with what a former one left in its state directory.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::PoisonError;

use super::{Master, running};
use crate::error::Result;
use crate::host::estate::{Adoption, Inheritance};
use crate::runtime::{Input, ShutdownReport, Ticket};
use crate::worker::WorkerId;

/// What the end of a former master means for the first start of workers.
#[derive(Debug, Default)]
pub(super) struct Inherited {
    past: BTreeMap<WorkerId, u64>,
    /// Stopped by a command, and to stay so.
    down: BTreeSet<WorkerId>,
    /// Adopted, and started with another configuration than theirs is now.
    outdated: BTreeSet<WorkerId>,
    /// The ends of what is left of workers that are none any more.
    pub(super) leaving: BTreeMap<WorkerId, Ticket<()>>,
}

impl Inherited {
    pub(super) fn of(inheritance: &Inheritance) -> Self {
        let outdated = inheritance.adoptions.iter().filter(|adoption| adoption.outdated);
        Self {
            past: inheritance.past.clone(),
            down: inheritance.down.clone(),
            outdated: outdated.map(|adoption| adoption.worker.clone()).collect(),
            leaving: BTreeMap::new(),
        }
    }
}

impl Master {
    /// Goes on with processes that a former master has started.
    pub(super) fn adopt(&self, adoptions: Vec<Adoption>) -> Result<()> {
        for adoption in adoptions {
            let worker = adoption.worker.clone();
            let (ticket, reply) = self.ticket(Some(worker.as_str()), running);
            let adoption = Box::new(adoption);
            self.submit(reply, |reply| Input::Adopt { adoption, reply });
            ticket.wait()?;
        }
        Ok(())
    }

    /// As [`shutdown`](Self::shutdown), but for workers with `on_master_exit: keep` that run: they
    /// are let go, and the next master of the state directory takes them over.
    ///
    /// # Errors
    /// The loop died before.
    pub fn shutdown_keeping(&self) -> Result<ShutdownReport> {
        self.refuse_deadlock(None)?;
        let _begun = self.shutdown_with(false, true);
        self.wait()
    }

    /// The last incarnation of a worker that a former master had.
    pub(super) fn past_of(&self, worker: &WorkerId) -> u64 {
        let inherited = self.shared.inherited.lock().unwrap_or_else(PoisonError::into_inner);
        inherited.past.get(worker).copied().unwrap_or(0)
    }

    /// Starts workers; for the first time, as a former master's end has it.
    pub(super) fn start_enabled(&self, enabled: &[String]) -> Vec<Ticket<u64>> {
        let mut inherited = self.shared.inherited.lock().unwrap_or_else(PoisonError::into_inner);
        let down = std::mem::take(&mut inherited.down);
        let outdated = std::mem::take(&mut inherited.outdated);
        drop(inherited);
        let start = |worker: &String| {
            if down.contains(worker.as_str()) {
                log::info!("{worker} was stopped by a command, and stays so");
                None
            } else if outdated.contains(worker.as_str()) {
                log::info!("{worker}: its configuration has changed, so it is started again");
                Some(self.restart_worker_nowait(worker, false))
            } else {
                Some(self.start_worker_nowait(worker))
            }
        };
        enabled.iter().filter_map(start).collect()
    }
}
