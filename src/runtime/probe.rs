//! Asks incarnations for their health, or answers for them.

use super::{Input, Loop};
use crate::host::{Order, Report};
use crate::worker::WorkerId;

impl Loop {
    /// Asks an incarnation for its health, or answers for it where it counts that it is there.
    pub(super) fn probe(&mut self, worker: WorkerId, incarnation: u64, probe: u64) {
        let slot = self.workers.get(&worker);
        if slot.is_some_and(|slot| slot.config.is_checked_by_presence()) {
            let report = Report::Probed { probe, healthy: true, reason: String::new() };
            // What it was told of its end meanwhile is heard first.
            let _ = self.sender.send(Input::Report { worker, incarnation, report });
        } else {
            self.order(&worker, incarnation, Order::Probe { probe });
        }
    }
}
