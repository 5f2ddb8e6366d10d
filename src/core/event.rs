//! The core's closed vocabulary: what it hears (commands, reports, the passing of time) and what it
//! wants done (effects). Who wants to know what this program can do reads this file.

use std::sync::Arc;
use std::time::Duration;

use super::moment::Moment;
use crate::error::{ErrorCategory, Failure};
use crate::worker::{
    Exit, HealthStatus, OnUnhealthy, RestartConfig, SuccessCodes, WorkerId, WorkerState,
};

/// Names one command; it gets exactly one reply.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Ticket(pub(crate) u64);

/// Everything the core can be told.
#[derive(Clone, Debug)]
pub(crate) enum Event {
    /// Somebody wants something.
    Command { ticket: Ticket, command: Command },
    /// A host tells what happened to an incarnation.
    Report { worker: WorkerId, incarnation: u64, report: Report },
    /// Time has passed: act on every deadline that is due.
    Tick,
}

/// What people and programs ask for.
#[derive(Clone, Debug)]
pub(crate) enum Command {
    /// Make a worker known. Starts nothing. `past`: the last incarnation that a former master knew
    /// of, 0 for none; numbers go on from there.
    Add { worker: WorkerId, spec: Box<WorkerSpec>, past: u64 },
    /// Take over an incarnation of a former master, which has been up for so long.
    Adopt { worker: WorkerId, incarnation: u64, up_for: Duration },
    /// Replace what is known of a worker. `restart`: its incarnation cannot live with the change,
    /// so it gets a new one if it is meant to run.
    Update { worker: WorkerId, spec: Box<WorkerSpec>, restart: bool },
    /// Stop it, then forget it.
    Remove { worker: WorkerId },
    /// Make it run. `force`: also past unmet dependencies.
    Start { worker: WorkerId, force: bool },
    /// Make it end. `force`: kill now.
    Stop { worker: WorkerId, force: bool },
    /// A new incarnation. `force`: kill now, also past a stuck one.
    Restart { worker: WorkerId, force: bool },
    /// What holds for the master as a whole has changed.
    Settle { shutdown_timeout: Duration },
    /// End all workers, launch nothing any more. `force`: kill now. `keep`: let those run that may
    /// outlive the master.
    Shutdown { force: bool, keep: bool },
}

/// What hosts tell about an incarnation.
#[derive(Clone, Debug)]
pub(crate) enum Report {
    /// The launch succeeded: it can be started.
    Launched,
    /// It is up and ready.
    Started,
    /// The answer to a probe.
    Probed { probe: u64, healthy: bool, reason: String },
    /// It says that its work is done.
    Completed,
    /// It failed and is still there.
    Failed(Failure),
    /// It has ended, most likely for this reason; that it is gone is reported next.
    Presumed(Failure),
    /// It is gone: the last report of an incarnation.
    Gone(Exit),
}

/// What the core wants done. The order of effects is part of the contract: transitions are told in
/// the order in which they happened, orders after the transition that led to them.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Effect {
    /// Make and initialize this incarnation.
    Launch { worker: WorkerId, incarnation: u64 },
    /// Start it.
    Start { worker: WorkerId, incarnation: u64 },
    /// Ask for its health.
    Probe { worker: WorkerId, incarnation: u64, probe: u64 },
    /// Ask it to end within `patience`.
    Ask { worker: WorkerId, incarnation: u64, patience: Duration },
    /// End it against its will.
    Force { worker: WorkerId, incarnation: u64 },
    /// It did not end; wait for it no longer.
    Abandon { worker: WorkerId, incarnation: u64 },
    /// It outlives the master: let it run, and have nothing to do with it any more.
    LetGo { worker: WorkerId, incarnation: u64 },
    /// A worker went from one public state to another.
    Transition(Transition),
    /// A worker's health changed.
    Health { worker: WorkerId, incarnation: u64, health: HealthStatus, reason: String },
    /// The one answer to a command.
    Reply { ticket: Ticket, reply: Reply },
    /// Something about this worker changed: publish its status.
    Changed { worker: WorkerId },
    /// A removed worker is forgotten.
    Forgotten { worker: WorkerId },
    /// Every worker is down, or written off as stuck: the loop may end.
    AllDown,
}

/// One edge of the table of states, and why it was taken.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Transition {
    pub(crate) worker: WorkerId,
    pub(crate) incarnation: u64,
    pub(crate) from: WorkerState,
    pub(crate) to: WorkerState,
    pub(crate) cause: Cause,
}

/// Why a worker changed its state.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Cause {
    /// It was just added.
    Added,
    /// A command asked for it.
    Command,
    /// The master shuts down.
    Shutdown,
    /// Another command came in between.
    Cancelled,
    /// The pause before a retry is over.
    Retry,
    /// The pause after giving up is over.
    Trial,
    /// Completed work is done again.
    Repeat,
    /// The host has launched it.
    Launched,
    /// The host has started it.
    Started,
    /// A former master had started it.
    Adopted,
    /// Its configuration changed.
    Reload,
    /// Its work is done.
    Completed,
    /// It failed.
    Failed(ErrorCategory),
    /// It ended as it was told to.
    Ended,
    /// It failed too often.
    GaveUp,
}

impl Cause {
    /// A word or two for people and programs.
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Added => "added",
            Self::Command => "command",
            Self::Shutdown => "shutdown",
            Self::Cancelled => "cancelled",
            Self::Retry => "retry",
            Self::Trial => "trial",
            Self::Repeat => "repeat",
            Self::Launched => "launched",
            Self::Started => "started",
            Self::Adopted => "adopted",
            Self::Reload => "reload",
            Self::Completed => "completed",
            Self::Failed(category) => category.as_str(),
            Self::Ended => "ended",
            Self::GaveUp => "gave up",
        }
    }
}

/// The one answer to a command.
pub(crate) type Reply = Result<Done, Refusal>;

/// What a command achieved.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Done {
    /// Added.
    Added,
    /// The change holds; no incarnation has to follow it.
    Updated,
    /// This incarnation is up.
    Running { incarnation: u64 },
    /// No incarnation is left; `forced`: it had to be killed.
    Stopped { forced: bool },
    /// Stopped and forgotten.
    Removed,
    /// Everything is down but `stuck`; `killed` did not end when asked.
    ShutDown { killed: Vec<WorkerId>, stuck: Vec<WorkerId> },
}

/// Why a command did not do what it asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Refusal {
    /// No worker has this id.
    UnknownWorker,
    /// A worker has this id already.
    AlreadyExists,
    /// The worker is about to be forgotten.
    BeingRemoved,
    /// The master launches nothing any more.
    ShuttingDown,
    /// Another command took its place.
    Cancelled,
    /// An incarnation does not end.
    Stuck,
    /// It has an incarnation, or had this one or a later one.
    CannotAdopt,
    /// What it waits for did not come in time; the worker's goal stays up.
    StillWaiting(Vec<(WorkerId, Condition)>),
    /// The incarnation it was about failed.
    Failed(Failure),
}

/// What a worker is meant to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum Goal {
    /// Run.
    Up,
    /// Not run.
    Down,
    /// End and be forgotten.
    Gone,
}

/// What must be true of another worker before this one is launched.
#[cfg_attr(not(test), expect(dead_code, reason = "configuration has no key for it yet"))]
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum Condition {
    /// It is running.
    Started,
    /// It is running and its last check succeeded.
    Healthy,
    /// It ended with success.
    Completed,
}

impl Condition {
    /// The word used in configuration and output.
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Started => "started",
            Self::Healthy => "healthy",
            Self::Completed => "completed",
        }
    }
}

/// All that the core needs to know of a worker: times, limits and policies.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct WorkerSpec {
    /// How long launch and start may take together.
    pub(crate) start_timeout: Duration,
    /// How long an end may take after it was asked for.
    pub(crate) stop_timeout: Duration,
    /// True when force ends it; a thread cannot be forced.
    pub(crate) killable: bool,
    /// True when it may outlive the master.
    pub(crate) keeps: bool,
    /// When it is started again.
    pub(crate) restart: RestartConfig,
    /// How it is asked for its health.
    pub(crate) health: Option<HealthPolicy>,
    /// Which ends are completed work.
    pub(crate) success: SuccessCodes,
    /// What must be true before it is launched.
    pub(crate) depends_on: Vec<(WorkerId, Condition)>,
}

/// When a worker is probed, and what follows from the answers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct HealthPolicy {
    pub(crate) interval: Duration,
    pub(crate) timeout: Duration,
    pub(crate) initial_delay: Duration,
    pub(crate) retries: u32,
    pub(crate) successes: u32,
    pub(crate) on_unhealthy: OnUnhealthy,
}

/// Since when an incarnation is up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Since {
    /// When it came up, or was taken over.
    pub(crate) moment: Moment,
    /// How long it had been up then, under a former master.
    pub(crate) before: Duration,
}

impl Since {
    /// How long it has been up.
    pub(crate) fn uptime(self, now: Moment) -> Duration {
        now.since(self.moment).saturating_add(self.before)
    }
}

/// Everything the core knows of a worker that others may want to see.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Status {
    pub(crate) state: WorkerState,
    pub(crate) cause: Cause,
    pub(crate) since: Moment,
    pub(crate) goal: Goal,
    pub(crate) phase: &'static str,
    pub(crate) ending: bool,
    pub(crate) incarnation: u64,
    pub(crate) up_since: Option<Since>,
    pub(crate) health: HealthStatus,
    pub(crate) restarts: u64,
    /// Consecutive incarnations that failed before they had stayed up long enough.
    pub(crate) failures: u32,
    pub(crate) retry_at: Option<Moment>,
    pub(crate) gave_up: bool,
    /// Its last incarnation ended with success.
    pub(crate) completed: bool,
    pub(crate) waiting_for: Vec<(WorkerId, Condition)>,
    pub(crate) exit: Option<Exit>,
    pub(crate) last_failure: Option<Arc<(Failure, Moment)>>,
    pub(crate) warning: Option<String>,
    /// Incarnations that did not end: written off, or stuck now.
    pub(crate) abandoned: usize,
}
