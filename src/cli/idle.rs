//! Notices when the last worker has come to rest: a master that supervises nothing any more says
//! so.

use std::collections::BTreeSet;
use std::time::Instant;

use crossbeam_channel::{Receiver, RecvTimeoutError};

use crate::master::Master;
use crate::runtime::{Event, EventKind};
use crate::worker::{WaitFor, WorkerState};

/// The workers that run, or will again by themselves.
#[derive(Default)]
struct Busy {
    workers: BTreeSet<String>,
    shutting_down: bool,
}

/// Follows the events until the master has ended (true) or `deadline` (false).
pub(super) fn follow(
    master: &Master,
    name: &str,
    events: &Receiver<Event>,
    deadline: Option<Instant>,
) -> bool {
    let mut busy = Busy::default();
    loop {
        let event = match deadline {
            Some(deadline) => events.recv_deadline(deadline),
            None => events.recv().map_err(RecvTimeoutError::from),
        };
        match event {
            Ok(event) => {
                if busy.heard(event, master) {
                    log::info!("{name}: no worker is left running");
                }
            }
            Err(RecvTimeoutError::Timeout) => return false,
            Err(RecvTimeoutError::Disconnected) => return true,
        }
    }
}

impl Busy {
    /// True: with this event the last worker has come to rest.
    fn heard(&mut self, event: Event, master: &Master) -> bool {
        let some = !self.workers.is_empty();
        if let EventKind::State { to, cause, .. } = event.kind {
            self.shutting_down |= cause == "shutdown";
            if to == WorkerState::Stopped && rests(master, &event.worker) {
                self.workers.remove(&event.worker);
            } else {
                self.workers.insert(event.worker);
            }
        } else if event.kind == EventKind::Removed {
            self.workers.remove(&event.worker);
        } else if let EventKind::Missed(_) = event.kind {
            let known = master.all_worker_diagnostics().into_iter();
            let busy = known.filter(|known| !known.satisfies(WaitFor::Stopped));
            self.workers = busy.map(|known| known.id).collect();
        }
        some && self.workers.is_empty() && !self.shutting_down
    }
}

/// True when nothing starts the worker again by itself.
fn rests(master: &Master, worker: &str) -> bool {
    master.worker_diagnostics(worker).is_ok_and(|known| known.satisfies(WaitFor::Stopped))
}
