//! What the loop last published about every worker: queries read here and never ask the loop.

mod history;
mod watch;

use std::collections::BTreeMap;
use std::ops::Bound;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant, SystemTime};

use super::clock::Clock;
use super::directory::Line;
use crate::core::event::{Goal, Status};
use crate::error::{Error, ErrorCategory, Result};
use crate::logs::WorkerLog;
use crate::module::EndpointInfo;
use crate::worker::{
    Exit, LastError, WaitFor, WorkerCapabilities, WorkerConfig, WorkerDiagnostics, WorkerEndpoint,
    WorkerId, WorkerState, WorkerType,
};

use history::History;
pub use history::Past;
pub(crate) use watch::Watch;
use watch::Watchers;

/// What a shutdown could not do in order.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct ShutdownReport {
    /// Workers that had to be killed.
    pub killed: Vec<String>,
    /// Workers that did not end at all.
    pub stuck: Vec<String>,
}

impl ShutdownReport {
    /// What another process's master says.
    pub(crate) fn of_names(killed: Vec<String>, stuck: Vec<String>) -> Self {
        Self { killed, stuck }
    }

    pub(crate) fn new(killed: &[WorkerId], stuck: &[WorkerId]) -> Self {
        let names = |ids: &[WorkerId]| ids.iter().map(ToString::to_string).collect();
        Self { killed: names(killed), stuck: names(stuck) }
    }
}

/// What hosts tell beside the lifecycle.
#[derive(Clone, Debug)]
pub(super) struct Facts {
    pub(super) pid: Option<u32>,
    pub(super) endpoints: Arc<Vec<EndpointInfo>>,
    pub(super) task_failures: u64,
    /// Where its functions are called.
    pub(super) line: Arc<Line>,
    /// Where what it writes is kept.
    pub(super) log: Arc<WorkerLog>,
    /// The last lines of the incarnation that failed last.
    pub(super) last_output: Arc<[String]>,
}

impl Facts {
    pub(super) fn new(line: Arc<Line>, log: Arc<WorkerLog>) -> Self {
        Self {
            pid: None,
            endpoints: Arc::default(),
            task_failures: 0,
            line,
            log,
            last_output: Arc::default(),
        }
    }

    /// A later endpoint of the same name replaces the earlier one. False: nothing changed.
    pub(super) fn publish(&mut self, endpoint: &EndpointInfo) -> bool {
        if self.endpoints.contains(endpoint) {
            return false;
        }
        let endpoints = Arc::make_mut(&mut self.endpoints);
        match endpoints.iter_mut().find(|known| known.name == endpoint.name) {
            Some(known) => known.clone_from(endpoint),
            None => endpoints.push(endpoint.clone()),
        }
        true
    }

    /// A new incarnation has nothing of the old one's.
    pub(super) fn renew(&mut self) {
        self.pid = None;
        self.endpoints = Arc::default();
    }
}

struct Entry {
    /// Counts workers in the order they were added.
    order: u64,
    config: Arc<WorkerConfig>,
    status: Status,
    facts: Facts,
    past: History,
}

/// A worker as a change of the configuration finds it.
#[derive(Clone, Debug)]
pub(crate) struct Known {
    pub(crate) config: Arc<WorkerConfig>,
    /// It is meant to run.
    pub(crate) up: bool,
    /// It is being removed.
    pub(crate) gone: bool,
}

/// The published state of a master.
pub(crate) struct Board {
    clock: Clock,
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Default)]
struct State {
    // Boxed, since a map has room for more than it holds.
    workers: BTreeMap<WorkerId, Box<Entry>>,
    added: u64,
    end: Option<End>,
    report: ShutdownReport,
    waiting: usize,
    watchers: Watchers,
}

/// Everything there is to say about one worker.
pub(crate) struct Described {
    pub(crate) diagnostics: WorkerDiagnostics,
    pub(crate) config: Arc<WorkerConfig>,
    /// Failed incarnations in a row, as the restart policy counts them.
    pub(crate) failures: u32,
    pub(crate) history: Vec<Past>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum End {
    Orderly,
    Died,
}

impl End {
    /// What it means to whoever waits for something else.
    fn error(self) -> Error {
        match self {
            Self::Orderly => Error::new(ErrorCategory::Cancelled, "the master has ended"),
            Self::Died => Error::new(ErrorCategory::Internal, "the master's event loop died"),
        }
    }
}

impl Board {
    pub(super) fn new(clock: Clock) -> Self {
        Self { clock, state: Mutex::default(), changed: Condvar::new() }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn update(
        &self,
        worker: &WorkerId,
        config: &Arc<WorkerConfig>,
        status: Status,
        facts: &Facts,
    ) {
        let mut state = self.state();
        let (config, facts) = (Arc::clone(config), facts.clone());
        if let Some(entry) = state.workers.get_mut(worker) {
            (entry.config, entry.status, entry.facts) = (config, status, facts);
        } else {
            state.added += 1;
            let (order, past) = (state.added, History::default());
            let entry = Entry { order, config, status, facts, past };
            state.workers.insert(worker.clone(), Box::new(entry));
        }
        self.tell(&state, worker);
    }

    pub(super) fn update_facts(&self, worker: &WorkerId, facts: &Facts) {
        let mut state = self.state();
        if let Some(entry) = state.workers.get_mut(worker) {
            entry.facts = facts.clone();
        }
        self.tell(&state, worker);
    }

    pub(super) fn forget(&self, worker: &WorkerId) {
        let mut state = self.state();
        state.workers.remove(worker);
        self.tell(&state, worker);
    }

    /// What the shutdown came to, for whoever waits for the end.
    pub(super) fn note_shutdown(&self, killed: &[WorkerId], stuck: &[WorkerId]) {
        self.state().report = ShutdownReport::new(killed, stuck);
    }

    /// What the shutdown came to, once the loop has ended.
    pub(crate) fn shutdown_report(&self) -> ShutdownReport {
        self.state().report.clone()
    }

    /// The loop has ended, or died.
    pub(super) fn close(&self, died: bool) {
        let mut state = self.state();
        state.end = Some(if died { End::Died } else { End::Orderly });
        state.watchers.wake_all();
        if state.waiting > 0 {
            self.changed.notify_all();
        }
    }

    fn tell(&self, state: &State, worker: &WorkerId) {
        state.watchers.wake(worker.as_str());
        if state.waiting > 0 {
            self.changed.notify_all();
        }
    }

    pub(crate) fn has_ended(&self) -> bool {
        self.state().end.is_some()
    }

    pub(crate) fn has_died(&self) -> bool {
        self.state().end == Some(End::Died)
    }

    /// Why a request comes to nothing, once the loop has ended.
    pub(crate) fn end_error(&self) -> Error {
        self.state().end.unwrap_or(End::Orderly).error()
    }

    /// Waits until `done` says so, the loop has ended, or the deadline has come. `None`: a
    /// deadline.
    fn wait<T>(
        &self,
        deadline: Option<Instant>,
        mut done: impl FnMut(&State) -> Option<T>,
    ) -> Option<T> {
        let mut state = self.state();
        state.waiting += 1;
        let result = loop {
            if let Some(result) = done(&state) {
                break Some(result);
            }
            let left = deadline.map(|deadline| deadline.saturating_duration_since(Instant::now()));
            state = match left {
                Some(left) if left.is_zero() => break None,
                Some(left) => {
                    let waited = self.changed.wait_timeout(state, left);
                    waited.unwrap_or_else(PoisonError::into_inner).0
                }
                None => self.changed.wait(state).unwrap_or_else(PoisonError::into_inner),
            };
        };
        state.waiting -= 1;
        result
    }

    /// Waits until the loop has ended.
    pub(crate) fn wait_for_end(&self, deadline: Option<Instant>) -> bool {
        self.wait(deadline, |state| state.end).is_some()
    }

    /// Waits until a worker satisfies `condition`.
    pub(crate) fn wait_for(
        &self,
        worker: &str,
        condition: WaitFor,
        timeout: Duration,
    ) -> Result<WorkerDiagnostics> {
        let mut last = None;
        let found = self.wait(Instant::now().checked_add(timeout), |state| {
            let Some((id, entry)) = state.workers.get_key_value(worker) else {
                // Seen before and forgotten now: it is stopped for good.
                return Some(match last.take() {
                    Some(last) if condition == WaitFor::Stopped => Ok(last),
                    Some(_) | None => Err(self.unknown(worker, state)),
                });
            };
            let diagnostics = self.diagnose(id, entry);
            if diagnostics.satisfies(condition) {
                return Some(Ok(diagnostics));
            }
            last = Some(diagnostics);
            state.end.map(|end| Err(end.error().of_worker(worker)))
        });
        found.unwrap_or_else(|| {
            let state = last.map_or("unknown", |diagnostics| diagnostics.state.as_str());
            let message = format!("not {} within {timeout:?}: it is {state}", condition.as_str());
            Err(Error::new(ErrorCategory::Timeout, message).of_worker(worker))
        })
    }

    pub(crate) fn knows(&self, worker: &str) -> bool {
        self.state().workers.contains_key(worker)
    }

    pub(crate) fn diagnostics(&self, worker: &str) -> Result<WorkerDiagnostics> {
        let state = self.state();
        match state.workers.get_key_value(worker) {
            Some((id, entry)) => Ok(self.diagnose(id, entry)),
            None => Err(self.unknown(worker, &state)),
        }
    }

    pub(crate) fn describe(&self, worker: &str) -> Result<Described> {
        let state = self.state();
        let Some((id, entry)) = state.workers.get_key_value(worker) else {
            return Err(self.unknown(worker, &state));
        };
        Ok(Described {
            diagnostics: self.diagnose(id, entry),
            config: Arc::clone(&entry.config),
            failures: entry.status.failures,
            history: entry.past.all(),
        })
    }

    /// The next so many workers in alphabetical order, after the one called `after`.
    pub(crate) fn some_diagnostics(
        &self,
        after: Option<&str>,
        count: usize,
    ) -> Vec<WorkerDiagnostics> {
        let state = self.state();
        let first = after.map_or(Bound::Unbounded, Bound::Excluded);
        let rest = state.workers.range::<str, _>((first, Bound::Unbounded));
        rest.take(count).map(|(id, entry)| self.diagnose(id, entry)).collect()
    }

    pub(crate) fn all_diagnostics(&self) -> Vec<WorkerDiagnostics> {
        let state = self.state();
        state.workers.iter().map(|(id, entry)| self.diagnose(id, entry)).collect()
    }

    /// The ids of all workers that are to be started, in the order they were added.
    pub(crate) fn enabled(&self) -> Vec<String> {
        let state = self.state();
        let enabled = state.workers.iter().filter(|(_, entry)| entry.config.enabled);
        let mut ids: Vec<_> = enabled.map(|(id, entry)| (entry.order, id.to_string())).collect();
        ids.sort_unstable();
        ids.into_iter().map(|(_, id)| id).collect()
    }

    /// How the last incarnation of the main worker ended, if there is one and it did.
    pub(crate) fn main_exit(&self) -> Option<Exit> {
        let state = self.state();
        let main = state.workers.values().find(|entry| entry.config.main)?;
        main.status.exit.clone()
    }

    /// Every worker's configuration and whether it is meant to run, in the order of addition.
    pub(crate) fn known(&self) -> Vec<Known> {
        let known = |entry: &Entry| {
            let (up, gone) = (entry.status.goal == Goal::Up, entry.status.goal == Goal::Gone);
            (entry.order, Known { config: Arc::clone(&entry.config), up, gone })
        };
        let all: BTreeMap<_, _> = self.state().workers.values().map(|entry| known(entry)).collect();
        all.into_values().collect()
    }

    pub(crate) fn endpoint(&self, worker: &str, name: &str) -> Result<WorkerEndpoint> {
        let state = self.state();
        let Some(entry) = state.workers.get(worker) else {
            return Err(self.unknown(worker, &state));
        };
        let known = entry.facts.endpoints.iter().find(|endpoint| endpoint.name == name);
        match known {
            Some(info) => Ok(WorkerEndpoint::new(worker, entry.status.incarnation, info.clone())),
            None if entry.status.state != WorkerState::Running => {
                let message =
                    format!("it is {}, so its endpoints are not known", entry.status.state);
                Err(Error::new(ErrorCategory::NotRunning, message).of_worker(worker))
            }
            None => {
                let names: Vec<_> = entry.facts.endpoints.iter().map(|e| e.name.as_str()).collect();
                let message = format!("it has no endpoint {name:?}; it has [{}]", names.join(", "));
                Err(Error::new(ErrorCategory::Configuration, message).of_worker(worker))
            }
        }
    }

    /// Why a function of a worker that takes no calls cannot be called.
    pub(super) fn no_calls(&self, worker: &str, function: &str) -> Error {
        let state = self.state();
        let Some(entry) = state.workers.get(worker) else {
            return self.unknown(worker, &state);
        };
        let (category, message) = if state.end == Some(End::Died) {
            (ErrorCategory::Internal, "the master's event loop died".to_owned())
        } else if !capabilities(&entry.config).functions {
            let message = format!("it exports no function {function:?}: a program exports none");
            (ErrorCategory::UnknownFunction, message)
        } else if entry.status.state == WorkerState::Running {
            // It has just come up or is just going down.
            (ErrorCategory::NotRunning, "it takes no calls at this moment".to_owned())
        } else {
            let message = format!("it is {} and takes no calls", entry.status.state);
            (ErrorCategory::NotRunning, message)
        };
        Error::new(category, message).of_worker(worker)
    }

    /// "; did you mean ...?" for a name that is close to known ones, else nothing.
    pub(crate) fn near_names(&self, worker: &str) -> String {
        near(worker, &self.state())
    }

    fn unknown(&self, worker: &str, state: &State) -> Error {
        let message = format!("there is no such worker{}", near(worker, state));
        Error::new(ErrorCategory::UnknownWorker, message).of_worker(worker)
    }

    /// Since when it is in its state. One that a former master has started runs since then.
    fn since(&self, status: &Status) -> SystemTime {
        let since = self.clock.wall(status.since);
        let before = status.up_since.filter(|_| status.state == WorkerState::Running);
        before.and_then(|up| since.checked_sub(up.before)).unwrap_or(since)
    }

    fn diagnose(&self, id: &WorkerId, entry: &Entry) -> WorkerDiagnostics {
        let Entry { order: _, config, status, facts, past: _ } = entry;
        let running = status.state == WorkerState::Running;
        let (log_bytes, log_dropped) = facts.log.totals();
        WorkerDiagnostics {
            id: id.to_string(),
            worker_type: config.worker_type,
            module_type: config.source_of_module(),
            module_name: config.module_name.clone(),
            executable_path: config
                .execution
                .as_ref()
                .filter(|_| !config.is_module())
                .map(|execution| execution.executable_path.to_string_lossy().into_owned()),
            state: status.state,
            goal: match status.goal {
                Goal::Up => "up",
                Goal::Down => "down",
                Goal::Gone => "gone",
            },
            phase: status.phase,
            ending: status.ending,
            ready: running,
            health: status.health,
            incarnation: status.incarnation,
            pid: facts.pid,
            since: self.since(status),
            uptime: status.up_since.map(|since| since.uptime(self.clock.now())),
            restarts: status.restarts,
            retry_at: status.retry_at.map(|moment| self.clock.wall(moment)),
            retry_in: status.retry_at.map(|moment| self.clock.until(moment)),
            gave_up: status.gave_up,
            completed: status.completed,
            waiting_for: status
                .waiting_for
                .iter()
                .map(|(worker, condition)| (worker.to_string(), condition.as_str()))
                .collect(),
            cause: status.cause.as_str().to_owned(),
            exit: status.exit.clone(),
            last_error: status.last_failure.as_deref().map(|(failure, at)| LastError {
                category: failure.category,
                message: failure.to_string(),
                at: self.clock.wall(*at),
                permanent: failure.permanent,
            }),
            warning: status.warning.clone(),
            abandoned_threads: status.abandoned,
            task_failures: facts.task_failures,
            call_panics: facts.line.panics(),
            endpoints: facts.endpoints.to_vec(),
            last_output: facts.last_output.to_vec(),
            log_bytes,
            log_dropped,
            log_trouble: facts.log.last_trouble(),
            capabilities: capabilities(config),
        }
    }
}

/// What a deployment allows, in this version.
fn capabilities(config: &WorkerConfig) -> WorkerCapabilities {
    let process = config.worker_type == WorkerType::Process;
    WorkerCapabilities {
        isolated: process,
        killable: process && config.can_be_killed(),
        limitable: false,
        adoptable: config.is_kept(),
        functions: config.is_conversant(),
        health: config.is_conversant() || config.is_checked_by_presence(),
    }
}

fn near(worker: &str, state: &State) -> String {
    let known = state.workers.keys().map(WorkerId::as_str);
    let nearest = crate::suggest::nearest(worker, known);
    nearest.map_or(String::new(), |name| format!("; did you mean {name:?}?"))
}
