//! What a module under test has told, for whoever waits for more.

use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use crate::error::{ErrorCategory, Failure};
use crate::host::Report;
use crate::module::{EndpointInfo, Health};
use crate::worker::Exit;

#[derive(Default)]
pub(super) struct Told {
    seen: Mutex<Seen>,
    more: Condvar,
}

/// Everything told so far.
#[derive(Default)]
pub(super) struct Seen {
    pub(super) launched: bool,
    pub(super) started: bool,
    pub(super) completed: bool,
    pub(super) probed: Vec<(u64, Health)>,
    pub(super) endpoints: Vec<EndpointInfo>,
    pub(super) task_failures: Vec<Failure>,
    /// The first, until a test takes it.
    pub(super) failure: Option<Failure>,
    /// Some step has failed with it.
    heard: bool,
    /// It was asked to end.
    pub(super) ending: bool,
    pub(super) gone: Option<Exit>,
}

impl Told {
    pub(super) fn hear(&self, report: Report) {
        self.seen().note(report);
        self.more.notify_all();
    }

    pub(super) fn seen(&self) -> MutexGuard<'_, Seen> {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits until `done` finds what it looks for. `None`: not in time.
    pub(super) fn wait<T>(
        &self,
        timeout: Duration,
        mut done: impl FnMut(&mut Seen) -> Option<T>,
    ) -> Option<T> {
        let deadline = Instant::now().checked_add(timeout);
        let mut seen = self.seen();
        loop {
            if let Some(found) = done(&mut seen) {
                return Some(found);
            }
            let left = deadline.map(|deadline| deadline.saturating_duration_since(Instant::now()));
            seen = match left {
                Some(left) if left.is_zero() => return None,
                Some(left) => {
                    let waited = self.more.wait_timeout(seen, left);
                    waited.unwrap_or_else(PoisonError::into_inner).0
                }
                None => self.more.wait(seen).unwrap_or_else(PoisonError::into_inner),
            };
        }
    }
}

impl Seen {
    fn note(&mut self, report: Report) {
        match report {
            Report::Launched => self.launched = true,
            Report::Started { pid: _ } => self.started = true,
            Report::Probed { probe, healthy, reason } => {
                let health = if healthy { Health::healthy() } else { Health::unhealthy(reason) };
                self.probed.push((probe, health));
            }
            Report::Endpoint(endpoint) => {
                self.endpoints.retain(|known| known.name != endpoint.name);
                self.endpoints.push(endpoint);
            }
            // Nobody here has asked; and what has no process is not killed.
            Report::Informed(_) | Report::Presumed(_) => {}
            Report::Completed => self.completed = true,
            Report::Failed(failure) => {
                self.failure.get_or_insert(failure);
            }
            Report::TaskFailed(failure) => self.task_failures.push(failure),
            Report::Gone(exit) => self.gone = Some(exit),
        }
    }

    /// What keeps the module from doing more.
    pub(super) fn check(&mut self) -> Result<(), Failure> {
        if let Some(failure) = &self.failure {
            self.heard = true;
            return Err(failure.clone());
        }
        match &self.gone {
            None => Ok(()),
            Some(Exit::Failed(failure)) => Err(failure.clone()),
            Some(
                Exit::Returned | Exit::Code(_) | Exit::Signal { .. } | Exit::Unknown | Exit::LetGo,
            ) => Err(Failure::new(ErrorCategory::NotRunning, "it has ended")),
        }
    }

    pub(super) fn check_started(&mut self) -> Result<(), Failure> {
        self.check()?;
        if self.started { Ok(()) } else { Err(not_started()) }
    }

    /// The failure that no step has failed with.
    pub(super) fn unheard(&mut self) -> Option<Failure> {
        self.failure.take().filter(|_| !self.heard)
    }
}

pub(super) fn not_started() -> Failure {
    Failure::new(ErrorCategory::NotRunning, "it was not started and takes no calls")
}
