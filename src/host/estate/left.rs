//! What workers of former masters have written and no master has read: it waits in their FIFOs,
//! also when they have ended since, if a guardian holds these.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::io;
use std::os::fd::AsFd;

use super::{Inheritance, fifos_of};
use crate::host::state::StateDir;
use crate::host::sys::{self, Dir, FifoEnd};
use crate::worker::WorkerId;

/// What one worker has written.
pub(crate) struct Left {
    pub(crate) worker: WorkerId,
    /// Its last one that is known.
    pub(crate) incarnation: u64,
    /// Nobody watches its process, because that is gone.
    pub(super) ended: bool,
    /// Our ends of what its output and its errors are in.
    pub(crate) fifos: [Option<File>; 2],
}

/// Finds all of it in a state directory, and removes what is empty of workers that have ended.
///
/// # Errors
/// The directory cannot be read.
pub(super) fn find(
    state: &StateDir,
    inheritance: &Inheritance,
) -> io::Result<BTreeMap<WorkerId, Left>> {
    let Inheritance { adoptions, leftovers, past, unclaimed, .. } = inheritance;
    let workers = state.workers();
    let of = |name: String| {
        let stem = name.strip_suffix(".out").or_else(|| name.strip_suffix(".err"))?;
        WorkerId::new(stem).ok()
    };
    let named: BTreeSet<WorkerId> = workers.names()?.into_iter().filter_map(of).collect();
    let mut all = BTreeMap::new();
    for worker in named {
        let fifos = open(&workers, &worker);
        let watched = adoptions.iter().chain(leftovers).any(|known| known.worker == worker);
        let waits = unclaimed.get(&worker).is_some_and(|unclaimed| unclaimed.lives());
        let ended = !watched && !waits;
        let holds_any =
            |fifo: &File| sys::readable_bytes(fifo.as_fd()).is_ok_and(|in_it| in_it > 0);
        if ended && !fifos.iter().flatten().any(holds_any) {
            for (name, _) in fifos_of(&worker).iter().zip(&fifos).filter(|(_, fifo)| fifo.is_some())
            {
                let _ = workers.remove(name);
            }
            continue;
        }
        let incarnation = past.get(&worker).copied().unwrap_or(0);
        all.insert(worker.clone(), Left { worker, incarnation, ended, fifos });
    }
    Ok(all)
}

/// Our ends of a worker's FIFOs; none where there is no FIFO.
pub(super) fn open(workers: &Dir, worker: &WorkerId) -> [Option<File>; 2] {
    fifos_of(worker).map(|name| workers.open_fifo(&name, FifoEnd::Reader).ok())
}
