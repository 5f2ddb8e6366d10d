//! What the closure of one worker must have tried to count as complete.

use std::collections::BTreeSet;

use super::life::{Step, Why};
use crate::core::event::{Command, Event, Report};
use crate::worker::WorkerState;

/// How an end goes on from one of its steps.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Outcome {
    /// Gone before the step's deadline.
    InTime,
    /// Gone after the deadline, but before anybody looked.
    Late,
    /// Not gone when the deadline was acted on.
    Never,
}

/// What the worker was meant to do in that moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Wanted {
    Up,
    Down,
    Gone,
    Shutdown,
}

/// What a search has seen.
#[derive(Default)]
pub(super) struct Seen {
    pub(super) states: usize,
    pub(super) turns: u64,
    /// The queue ran dry: this is all there is.
    pub(super) complete: bool,
    pub(super) edges: BTreeSet<(WorkerState, WorkerState)>,
    pub(super) pairs: BTreeSet<(WorkerState, &'static str)>,
    pub(super) cells: BTreeSet<(Why, Step, Outcome, Wanted)>,
}

impl Seen {
    pub(super) fn add(&mut self, mut other: Self) {
        self.states += other.states;
        self.turns += other.turns;
        self.edges.append(&mut other.edges);
        self.pairs.append(&mut other.pairs);
        self.cells.append(&mut other.cells);
    }
}

/// The kinds of events, the forced commands apart.
pub(super) const KINDS: [&str; 23] = [
    "add",
    "remove",
    "start",
    "start force",
    "stop",
    "stop force",
    "restart",
    "restart force",
    "shutdown",
    "shutdown force",
    "shutdown keep",
    "shutdown keep force",
    "settle",
    "adopt",
    "update",
    "update restart",
    "launched",
    "started",
    "probed",
    "completed",
    "failed",
    "gone",
    "tick",
];

pub(super) fn kind(event: &Event) -> &'static str {
    let forced = |force: bool, plain, forced| if force { forced } else { plain };
    match event {
        Event::Tick => "tick",
        Event::Command { command, .. } => match command {
            Command::Add { .. } => "add",
            Command::Remove { .. } => "remove",
            Command::Start { force, .. } => forced(*force, "start", "start force"),
            Command::Stop { force, .. } => forced(*force, "stop", "stop force"),
            Command::Restart { force, .. } => forced(*force, "restart", "restart force"),
            Command::Shutdown { force, keep: false } => {
                forced(*force, "shutdown", "shutdown force")
            }
            Command::Shutdown { force, keep: true } => {
                forced(*force, "shutdown keep", "shutdown keep force")
            }
            Command::Settle { .. } => "settle",
            Command::Adopt { .. } => "adopt",
            Command::Update { restart, .. } => forced(*restart, "update", "update restart"),
        },
        Event::Report { report, .. } => match report {
            Report::Launched => "launched",
            Report::Started => "started",
            Report::Probed { .. } => "probed",
            Report::Completed => "completed",
            Report::Failed(_) => "failed",
            Report::Presumed(_) => "presumed",
            Report::Gone(_) => "gone",
        },
    }
}

/// Every way to end: why, how far pressed, how it went on, and what was wanted.
pub(super) fn cells() -> BTreeSet<(Why, Step, Outcome, Wanted)> {
    use Outcome::{InTime, Late, Never};
    use Why::{Cancelled, Command, Completed, Failed, Health, Timeout};
    let mut all = BTreeSet::new();
    for why in [Command, Cancelled, Completed, Failed, Timeout, Health] {
        for wanted in [Wanted::Up, Wanted::Down, Wanted::Gone, Wanted::Shutdown] {
            for step in [Step::Ask, Step::Force, Step::Abandon] {
                all.extend([InTime, Late, Never].map(|outcome| (why, step, outcome, wanted)));
            }
            // Impossible: what is abandoned has no time left to be in.
            all.remove(&(why, Step::Abandon, InTime, wanted));
        }
    }
    all
}
