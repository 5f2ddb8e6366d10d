//! What a master does with what a former one left in its state directory.

use std::collections::{BTreeMap, BTreeSet};
use std::mem;
use std::sync::{Arc, MutexGuard, PoisonError, Weak};

use super::{Master, running};
use crate::core::event::Done;
use crate::error::Result;
use crate::host::estate::{Adoption, Claimed, Estate, Inheritance, Unclaimed};
use crate::runtime::{Input, Left, ShutdownReport, Ticket};
use crate::worker::{WorkerConfig, WorkerId};

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
    /// What is left of workers that may yet be added.
    unclaimed: BTreeMap<WorkerId, Unclaimed>,
    /// Where that is written down. The loop's: with it ends what there is to write.
    estate: Weak<Estate>,
}

impl Inherited {
    pub(super) fn of(inheritance: &mut Inheritance, estate: &Arc<Estate>) -> Self {
        let outdated = inheritance.adoptions.iter().filter(|adoption| adoption.outdated);
        Self {
            outdated: outdated.map(|adoption| adoption.worker.clone()).collect(),
            past: mem::take(&mut inheritance.past),
            down: mem::take(&mut inheritance.down),
            leaving: BTreeMap::new(),
            unclaimed: mem::take(&mut inheritance.unclaimed),
            estate: Arc::downgrade(estate),
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

    /// Makes a worker known, together with what a former master has left of it: one copy of it,
    /// whoever else asks for what meanwhile. What is left and does not go on is its incarnation
    /// until that has ended.
    pub(super) fn add_heir(&self, worker: WorkerId, config: WorkerConfig) -> Ticket<()> {
        // Held to the end: what is claimed here is nobody else's until the worker is known.
        let mut inherited = self.inherited();
        let past = inherited.past.get(&worker).copied().unwrap_or(0);
        let unclaimed = inherited.unclaimed.remove(&worker);
        if unclaimed.as_ref().is_some_and(|unclaimed| unclaimed.stays_down(&config)) {
            inherited.down.insert(worker.clone());
        }
        let adoption = match unclaimed.and_then(|unclaimed| unclaimed.claim(&config)) {
            None => None,
            Some(Claimed::Ends(left)) => return self.replace_leftover(left, config),
            Some(Claimed::GoesOn(adoption)) => {
                if adoption.outdated {
                    inherited.outdated.insert(worker.clone());
                }
                Some(Box::new(adoption))
            }
        };
        let known = |done| matches!(done, Done::Added | Done::Running { .. }).then_some(());
        let (ticket, reply) = self.ticket(Some(&config.id), known);
        // Whoever asks for it afterwards is to find what it goes on with.
        let (_added, added) = self.ticket(Some(&config.id), known);
        let config = Box::new(config);
        self.submit(reply, |reply| {
            let (adoption, reply) = match adoption {
                Some(adoption) => (Some((adoption, reply)), added),
                None => (None, reply),
            };
            Input::Add { worker, config, left: Left { past, adoption }, reply }
        });
        ticket
    }

    pub(super) fn inherited(&self) -> MutexGuard<'_, Inherited> {
        self.shared.inherited.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits until nothing is left of a worker that a former master had, before it is added anew.
    pub(super) fn await_leftover(&self, worker: &str) {
        let leaving = self.inherited().leaving.remove(worker);
        if let Some(gone) = leaving {
            // If it is stuck, adding it says so.
            let _ = gone.wait();
        }
    }

    /// Nobody adds any more what a former master has left: what runs of it is stopped.
    fn give_up_unclaimed(&self, inherited: &mut Inherited) {
        let unclaimed = mem::take(&mut inherited.unclaimed);
        for (worker, unclaimed) in unclaimed {
            if let Some(left) = unclaimed.give_up() {
                inherited.leaving.insert(worker, self.end_leftover(left));
            } else if let Some(estate) = inherited.estate.upgrade() {
                estate.forget(&worker);
            }
        }
    }

    /// Starts workers; for the first time, as a former master's end has it.
    pub(super) fn start_enabled(&self, enabled: &[String]) -> Vec<Ticket<u64>> {
        let mut inherited = self.inherited();
        self.give_up_unclaimed(&mut inherited);
        let down = mem::take(&mut inherited.down);
        let outdated = mem::take(&mut inherited.outdated);
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
