//! What a master does with what a former one left in its state directory.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, MutexGuard, PoisonError, Weak};
use std::time::Duration;

use super::{Master, running};
use crate::core::event::Done;
use crate::error::Result;
use crate::host::estate::{Adoption, Estate, Inheritance, Unclaimed};
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
    /// What is left of workers that may yet be added.
    unclaimed: BTreeMap<WorkerId, Unclaimed>,
    /// Where that is written down. The loop's: with it ends what there is to write.
    estate: Weak<Estate>,
}

impl Inherited {
    /// And the processes that go on at once.
    pub(super) fn of(inheritance: Inheritance, estate: &Arc<Estate>) -> (Self, Vec<Adoption>) {
        let Inheritance { adoptions, past, down, unclaimed } = inheritance;
        let outdated = adoptions.iter().filter(|adoption| adoption.outdated);
        let outdated = outdated.map(|adoption| adoption.worker.clone()).collect();
        let estate = Arc::downgrade(estate);
        (Self { past, down, outdated, unclaimed, estate }, adoptions)
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
    /// whoever else asks for what meanwhile. What is left and does not go on is ended first.
    pub(super) fn add_heir(&self, worker: WorkerId, config: WorkerConfig) -> Ticket<()> {
        let (ticket, reply) =
            self.ticket(Some(&config.id), |done| matches!(done, Done::Added).then_some(()));
        // Held to the end: what is claimed here is nobody else's until the worker is known.
        let mut inherited = self.inherited();
        let past = inherited.past.get(&worker).copied().unwrap_or(0);
        let adoption = self.claim(&mut inherited, &worker, &config).map(|adoption| {
            let (_adopted, reply) = self.ticket(Some(&config.id), running);
            (Box::new(adoption), reply)
        });
        let (config, left) = (Box::new(config), Left { past, adoption });
        self.submit(reply, |reply| Input::Add { worker, config, left, reply });
        ticket
    }

    fn claim(
        &self,
        inherited: &mut Inherited,
        worker: &WorkerId,
        config: &WorkerConfig,
    ) -> Option<Adoption> {
        let unclaimed = inherited.unclaimed.remove(worker)?;
        let claimed = unclaimed.claim(worker, config, self.patience());
        if claimed.down {
            inherited.down.insert(worker.clone());
        }
        if let (Some(pid), Some(estate)) = (claimed.ended, inherited.estate.upgrade()) {
            estate.died(worker, pid, true);
        }
        let adoption = claimed.adoption?;
        if adoption.outdated {
            inherited.outdated.insert(worker.clone());
        }
        Some(adoption)
    }

    /// How long what a former master has left may take to end.
    fn patience(&self) -> Duration {
        self.shared.current.lock().unwrap_or_else(PoisonError::into_inner).shutdown_timeout
    }

    fn inherited(&self) -> MutexGuard<'_, Inherited> {
        self.shared.inherited.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Starts workers; for the first time, as a former master's end has it: what is left of workers
    /// that were not added is then ended, which is waited for.
    pub(super) fn start_enabled(&self, enabled: &[String]) -> Vec<Ticket<u64>> {
        let mut inherited = self.inherited();
        let unclaimed = std::mem::take(&mut inherited.unclaimed);
        let strange = Unclaimed::end(unclaimed, self.patience());
        if let Some(estate) = inherited.estate.upgrade() {
            strange.iter().for_each(|worker| estate.forget(worker));
        }
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
