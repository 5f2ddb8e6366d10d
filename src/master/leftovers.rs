//! What a former master has left and this one does not want: watched and ended like any worker of
//! ours, while the others start.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::Master;
use crate::core::event::Done;
use crate::error::Result;
use crate::host::estate::{Adoption, Inheritance};
use crate::runtime::{Input, Remnant, Ticket};
use crate::worker::WorkerId;

/// What is left of workers, and what becomes of it.
pub(super) type Remnants = BTreeMap<WorkerId, Remnant>;

pub(super) fn by_worker(inheritance: Inheritance) -> Remnants {
    let Inheritance { adoptions, leftovers, .. } = inheritance;
    let ends = leftovers.into_iter().map(|left| (left.worker.clone(), Remnant::Ends(left.into())));
    let go_on = adoptions.into_iter().map(|a| (a.worker.clone(), Remnant::GoesOn(a.into())));
    ends.chain(go_on).collect()
}

impl Master {
    /// Makes the configured workers known. What is left of one is its incarnation: if it does not
    /// go on, until it has ended, so that the next one comes after it.
    pub(super) fn add_configured(&self, remnants: &mut Remnants) -> Result<()> {
        let workers = self.held().workers().to_vec();
        for worker in workers {
            match remnants.remove(worker.id.as_str()) {
                Some(process) => self.add_with(process, worker)?,
                None => self.make_known(worker)?,
            }
        }
        Ok(())
    }

    /// Ends what is left of workers that are none any more.
    pub(super) fn end_strangers(&self, remnants: Remnants) {
        let mut inherited = self.inherited();
        for (worker, Remnant::Ends(left) | Remnant::GoesOn(left)) in remnants {
            let noted = inherited.is_awaited(&worker);
            let gone = self.end_leftover(*left, noted);
            inherited.leaving.insert(worker, Arc::new(gone));
        }
    }

    /// Waits until these are gone, no longer than a shutdown may take: then they are killed.
    pub(super) fn await_strangers(&self) {
        let leaving = self.inherited().leaving.clone();
        let deadline = Instant::now().checked_add(self.configuration().shutdown_timeout);
        let left = || match deadline {
            Some(deadline) => deadline.saturating_duration_since(Instant::now()),
            None => Duration::MAX,
        };
        let is_late = |gone: &Ticket<()>| gone.wait_timeout(left()).is_none();
        let late: Vec<_> = leaving.iter().filter(|(_, gone)| is_late(gone)).collect();
        for (worker, _) in &late {
            let _killed = self.stop_worker_nowait(worker.as_str(), true);
        }
        for (_, gone) in late {
            // One that is stuck has said so in the log.
            let _ = gone.wait_timeout(Duration::MAX);
        }
    }

    /// Has what is left of a worker end, and be forgotten then; `noted`: not what is written down.
    pub(super) fn end_leftover(&self, left: Adoption, noted: bool) -> Ticket<()> {
        let (ticket, reply) = self
            .ticket(Some(left.worker.as_str()), |done| matches!(done, Done::Removed).then_some(()));
        let left = Box::new(left);
        self.shared.handle.send(Input::End { left, noted, reply });
        ticket
    }
}
