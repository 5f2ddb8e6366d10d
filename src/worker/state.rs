//! The eight public states and the one table of edges between them.

use std::fmt;

use serde::{Deserialize, Serialize};

/// What a worker is doing, the same for threads and processes.
///
/// Never assigned: the core computes it from the goal, the incarnation's phase and the last
/// verdict.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum WorkerState {
    /// Known, never started.
    Uninitialized,
    /// Its first launch since it was added is under way.
    Initializing,
    /// Launched; passed through on the way to `Starting`, never rested in.
    Initialized,
    /// Being started, or started again.
    Starting,
    /// Up.
    Running,
    /// Ending because it was told to, or because its work is done.
    Stopping,
    /// Down: told to, done, or given up.
    Stopped,
    /// It failed. It may still be ending, or wait for its retry or for another worker.
    Failed,
}

use WorkerState::{
    Failed, Initialized, Initializing, Running, Starting, Stopped, Stopping, Uninitialized,
};

/// Every edge there is. The core asserts it, the tests walk it and the README prints it.
pub const TRANSITIONS: [(WorkerState, WorkerState); 13] = [
    (Uninitialized, Initializing),
    (Initializing, Initialized),
    (Initializing, Failed),
    (Initialized, Starting),
    (Starting, Running),
    (Starting, Failed),
    (Running, Stopping),
    (Running, Failed),
    (Stopping, Stopped),
    (Stopping, Failed),
    (Stopped, Starting),
    (Failed, Starting),
    (Failed, Stopped),
];

impl WorkerState {
    /// All states, in the order of a life.
    pub const ALL: [Self; 8] =
        [Uninitialized, Initializing, Initialized, Starting, Running, Stopping, Stopped, Failed];

    /// The word used in output, in lower case.
    pub fn as_str(self) -> &'static str {
        match self {
            Uninitialized => "uninitialized",
            Initializing => "initializing",
            Initialized => "initialized",
            Starting => "starting",
            Running => "running",
            Stopping => "stopping",
            Stopped => "stopped",
            Failed => "failed",
        }
    }

    /// True when the table has an edge from `self` to `next`.
    pub fn may_become(self, next: Self) -> bool {
        TRANSITIONS.contains(&(self, next))
    }
}

impl fmt::Display for WorkerState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

/// What `wait_for` waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
#[non_exhaustive]
pub enum WaitFor {
    /// The state `Running`.
    Running,
    /// `Running`, and its last health check succeeded.
    Healthy,
    /// No incarnation, and none coming by itself: told to be down, completed for good, or given up.
    Stopped,
    /// It ended with success.
    Completed,
}

impl WaitFor {
    /// The word used on the command line.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Running => "running",
            Self::Healthy => "healthy",
            Self::Stopped => "stopped",
            Self::Completed => "completed",
        }
    }
}
