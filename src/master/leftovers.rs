//! What a former master has left and this one does not want: watched and ended like any worker of
//! ours, while the others start.

use std::collections::BTreeMap;

use super::{Master, running};
use crate::core::event::Done;
use crate::error::Result;
use crate::host::estate::Adoption;
use crate::runtime::{Input, Left, Ticket};
use crate::worker::{WorkerConfig, WorkerId};

/// The processes that are to end, by their workers.
pub(super) type Leftovers = BTreeMap<WorkerId, Adoption>;

pub(super) fn by_worker(leftovers: Vec<Adoption>) -> Leftovers {
    leftovers.into_iter().map(|left| (left.worker.clone(), left)).collect()
}

impl Master {
    /// Makes the configured workers known. What is left of one is its incarnation until it has
    /// ended, so that the next one comes after it.
    pub(super) fn add_configured(&self, leftovers: &mut Leftovers) -> Result<()> {
        for worker in self.configured_workers() {
            match leftovers.remove(worker.id.as_str()) {
                Some(left) => self.replace_leftover(left, worker).wait()?,
                None => self.add_worker(worker)?,
            }
        }
        Ok(())
    }

    /// Ends what is left of workers that are none any more. `wait`: until it is gone, and no longer
    /// than a shutdown may take.
    pub(super) fn end_strangers(&self, leftovers: Leftovers, wait: bool) {
        let end = |(worker, left)| (worker, self.end_leftover(left));
        let leaving: BTreeMap<_, _> = leftovers.into_iter().map(end).collect();
        if !wait {
            self.inherited().leaving = leaving;
            return;
        }
        let patience = self.configuration().shutdown_timeout;
        for (worker, gone) in leaving {
            if gone.wait_timeout(patience).is_none() {
                let _killed = self.stop_worker_nowait(worker.as_str(), true);
                // One that is stuck has said so in the log.
                let _ = gone.wait();
            }
        }
    }

    /// Has what is left of a worker end, and be forgotten then.
    pub(super) fn end_leftover(&self, left: Adoption) -> Ticket<()> {
        let worker = left.worker.clone();
        self.take_leftover(left);
        self.remove_worker_nowait(worker.as_str())
    }

    /// Has what is left of a worker end, as the worker's present incarnation. It is not waited for
    /// here, but by whatever starts the worker.
    pub(super) fn replace_leftover(&self, left: Adoption, config: WorkerConfig) -> Ticket<()> {
        let worker = left.worker.clone();
        self.take_leftover(left);
        let _gone = self.stop_worker_nowait(worker.as_str(), false);
        let (ticket, reply) =
            self.ticket(Some(worker.as_str()), |done| matches!(done, Done::Updated).then_some(()));
        let config = Box::new(config);
        self.submit(reply, |reply| Input::Update { worker, config, restart: false, reply });
        ticket
    }

    /// A worker that is what is left of it, and nothing else.
    fn take_leftover(&self, left: Adoption) {
        let (worker, config) = (left.worker.clone(), Box::new(left.as_leftover()));
        let past = left.incarnation();
        let (_adopted, reply) = self.ticket(Some(worker.as_str()), running);
        let left = Left { past, adoption: Some((Box::new(left), reply)) };
        let (_added, reply) =
            self.ticket(Some(worker.as_str()), |done| matches!(done, Done::Added).then_some(()));
        self.submit(reply, |reply| Input::Add { worker, config, left, reply });
    }
}
