//! What an operator finds in the log: one line for each thing that happens to a worker.

use crate::core::event::{Cause, Status, Transition};
use crate::worker::{Exit, WorkerState};

/// Logs an edge. `status` is the worker's at the end of the turn in which the edge was taken.
pub(super) fn transition(transition: &Transition, status: Option<&Status>, pid: Option<u32>) {
    let Transition { worker, incarnation, from, to, cause } = transition;
    let life = format_args!("{worker}#{incarnation}");
    match (to, cause) {
        (WorkerState::Running, _) => {
            // It was started by a former master.
            let adopted = if *cause == Cause::Adopted { ", adopted" } else { "" };
            let pid = pid.map_or_else(String::new, |pid| format!(", pid {pid}"));
            log::info!("{life} is running{adopted}{pid}");
        }
        (WorkerState::Failed, Cause::Cancelled) => log::info!("{life} is cancelled"),
        (WorkerState::Failed, _) => {
            let failure = status.and_then(|status| status.last_failure.as_deref());
            let failure = failure.map_or_else(String::new, |(failure, _)| failure.to_string());
            log::warn!("{life} failed: {failure}");
        }
        (WorkerState::Stopped, Cause::GaveUp) => {
            let failures = status.map_or(0, |status| status.failures);
            let times = if failures == 1 { "time" } else { "times in a row" };
            log::error!("{life} failed {failures} {times}: giving up");
        }
        (WorkerState::Stopped, Cause::Completed) => log::info!("{life} has completed its work"),
        (WorkerState::Stopped, _)
            if status.is_some_and(|status| status.exit == Some(Exit::LetGo)) =>
        {
            log::info!("{life} is let go of, and lives on");
        }
        (WorkerState::Stopped, _) => log::info!("{life} is stopped"),
        (WorkerState::Starting, Cause::Retry | Cause::Trial | Cause::Repeat) => {
            log::info!("{life} starts again ({})", cause.as_str());
        }
        _ => log::debug!("{life}: {from} -> {to} ({})", cause.as_str()),
    }
}
