//! What the loop hears from its hosts: reports in the core's words, and what is beside a worker's
//! lifecycle.

use std::path::PathBuf;
use std::sync::Arc;

use crossbeam_channel::Sender;

use crate::core::event as core;
use crate::core::event::Event as CoreEvent;
use crate::core::moment::Moment;
use crate::host::Report;
use crate::host::estate::Estate;
use crate::host::state::StateNews;
use crate::logs::{LogNews, Logs};
use crate::module::EndpointInfo;
use crate::worker::WorkerId;

use super::aside::Aside;
use super::feed::{Event, EventKind};
use super::{Input, Loop};

/// Has the loop hear of what becomes of the files of logs.
pub(super) fn listen_to_logs(logs: &Logs, inbox: Sender<Input>) {
    logs.on_trouble(move |worker, news| {
        // After the master's end nobody wants to know.
        let _ = inbox.send(Input::Log { worker: worker.cloned(), news });
    });
}

/// Has the loop hear of what becomes of the state directory.
pub(super) fn listen_to_state(estate: &Estate, inbox: Sender<Input>) {
    estate.on_trouble(move |path, news| {
        let path = path.display().to_string();
        let kind = match news {
            StateNews::Degraded { message } => EventKind::StateDegraded { path, message },
            StateNews::Recovered => EventKind::StateRecovered { path },
        };
        let _ = inbox.send(Input::Tell(Box::new(kind)));
    });
}

impl Loop {
    /// Turns a host's report into the core's words; what is beyond the lifecycle is noted here.
    pub(super) fn hear(&mut self, now: Moment, worker: WorkerId, incarnation: u64, report: Report) {
        let Some(slot) = self.workers.get_mut(&worker) else {
            // A forgotten worker's incarnation that was written off: only its end still counts.
            if let Report::Gone(exit) = report {
                let report = core::Report::Gone(exit);
                self.decide(now, CoreEvent::Report { worker, incarnation, report });
            }
            return;
        };
        let current = slot.current == incarnation;
        let report = match report {
            Report::Launched => core::Report::Launched,
            Report::Started { pid } => {
                if current {
                    slot.facts.pid = pid;
                }
                // Before anybody hears that it runs.
                let listed = slot.config.endpoints.clone();
                self.tell_endpoints(&worker, incarnation, listed);
                core::Report::Started
            }
            Report::Probed { probe, healthy, reason } => {
                core::Report::Probed { probe, healthy, reason }
            }
            Report::Completed => core::Report::Completed,
            Report::Failed(failure) => core::Report::Failed(failure),
            Report::Presumed(failure) => core::Report::Presumed(failure),
            Report::Gone(exit) => {
                slot.hosts.remove(incarnation);
                slot.facts.line.gone(incarnation);
                if current {
                    slot.facts.pid = None;
                    slot.facts.endpoints = Arc::default();
                }
                let gone =
                    Event::of_worker(&worker, incarnation, EventKind::Gone { exit: exit.clone() });
                let status = self.core.status(worker.as_str());
                slot.keep_last_output(incarnation, &exit, status.map(|status| status.state));
                self.parts.logs.close(&worker);
                self.ended = Some((worker.clone(), incarnation, exit.clone()));
                let report = core::Report::Gone(exit);
                self.decide(now, CoreEvent::Report { worker, incarnation, report });
                self.ended = None;
                self.feed.tell(&gone);
                return;
            }
            // Kept aside by the reporter: see `hear_aside`.
            Report::Endpoint(_) | Report::TaskFailed(_) => return,
            // Nobody here has asked.
            Report::Informed(_) => return,
        };
        self.decide(now, CoreEvent::Report { worker, incarnation, report });
    }

    /// Fetches what an incarnation told beside its lifecycle.
    pub(super) fn hear_aside(&mut self, worker: &WorkerId, incarnation: u64, aside: &Aside) {
        let (endpoints, failed_tasks, failures) = aside.take();
        let Some(slot) = self.workers.get_mut(worker) else { return };
        slot.facts.task_failures += failed_tasks;
        self.board.update_facts(worker, &slot.facts);
        // A module says so itself.
        let told_here = !slot.config.is_module();
        for failure in failures {
            if told_here {
                log::warn!("{worker}#{incarnation}: a task failed: {failure}");
            }
            let kind = EventKind::TaskFailed { failure };
            self.feed.tell(&Event::of_worker(worker, incarnation, kind));
        }
        self.tell_endpoints(worker, incarnation, endpoints);
    }

    /// Publishes where an incarnation can be reached, unless it is gone or not the latest.
    pub(super) fn tell_endpoints(
        &mut self,
        worker: &WorkerId,
        incarnation: u64,
        endpoints: Vec<EndpointInfo>,
    ) {
        let Some(slot) = self.workers.get_mut(worker) else { return };
        if slot.current != incarnation || !slot.hosts.contains(incarnation) {
            return;
        }
        let mut moved = endpoints;
        moved.retain(|endpoint| slot.facts.publish(endpoint));
        if moved.is_empty() {
            return;
        }
        self.board.update_facts(worker, &slot.facts);
        for endpoint in moved {
            let kind = EventKind::Endpoint { endpoint };
            self.feed.tell(&Event::of_worker(worker, incarnation, kind));
        }
    }

    /// Tells what has become of a file of logs.
    pub(super) fn hear_of_log(&mut self, worker: Option<&WorkerId>, news: LogNews) {
        let shown = |path: PathBuf| path.display().to_string();
        let kind = match news {
            LogNews::Degraded { path, message } => {
                EventKind::LogDegraded { path: shown(path), message }
            }
            LogNews::Recovered { path, dropped } => {
                EventKind::LogRecovered { path: shown(path), dropped }
            }
        };
        self.feed.tell(&match worker {
            Some(worker) => Event::of_worker(worker, 0, kind),
            None => Event::of_master(kind),
        });
    }
}
