//! Hosts run workers: each incarnation has its own thread, an apartment for a module or a monitor
//! for a process. A host takes orders, never blocks who gives them, and tells every outcome as a
//! report.

#[cfg(test)]
#[cfg(unix)]
pub(crate) mod alone;
#[cfg(target_os = "linux")]
pub(crate) mod attached;
#[cfg(target_os = "linux")]
mod child;
#[cfg(target_os = "linux")]
pub(crate) mod estate;
#[cfg(not(target_os = "linux"))]
#[path = "host/estate/unsupported.rs"]
pub(crate) mod estate;
pub mod export;
#[cfg(target_os = "linux")]
mod guard;
pub(crate) mod identity;
pub(crate) mod launch;
pub(crate) mod levels;
pub(crate) mod panics;
pub(crate) mod plugin;
#[cfg(target_os = "linux")]
pub(crate) mod proc;
pub(crate) mod process;
pub(crate) mod protocol;
#[cfg(target_os = "linux")]
pub(crate) mod reaper;
pub(crate) mod roles;
pub(crate) mod runner;
#[cfg(target_os = "linux")]
pub(crate) mod state;
#[cfg(not(target_os = "linux"))]
#[path = "host/state/unsupported.rs"]
pub(crate) mod state;
pub(crate) mod sys;
pub(crate) mod threads;
#[cfg(unix)]
pub(crate) mod trust;
pub(crate) mod unmanaged;

use std::fs::File;
use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};

use crate::error::Failure;
use crate::module::{EndpointInfo, ModuleInfo};
use crate::worker::{Exit, WorkerId};

/// What a host is told to do with one incarnation. Plain data: the same over a channel and a
/// socket.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) enum Order {
    /// Make an instance and initialize it. Modules only; a process is launched by its constructor.
    /// Boxed, since a queue of orders has room for many of the largest.
    Launch(Box<Launch>),
    /// Start: call `start()`, or spawn the process.
    Start,
    /// Ask for health; answered by `Report::Probed` with the same number.
    Probe { probe: u64 },
    /// Ask what it is; answered by `Report::Informed`.
    Info,
    /// End in order, expected within `patience`.
    Ask { patience: Duration },
    /// End against its will, where that is possible; given up after `patience`.
    Force { patience: Duration },
    /// No longer waited for: of this incarnation only `Gone` still matters.
    Abandon,
}

/// What a module's instance is made of.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Launch {
    pub(crate) worker: String,
    pub(crate) incarnation: u64,
    pub(crate) module: ModuleSource,
    pub(crate) config: serde_json::Value,
}

/// Where a module's instances come from.
///
/// On the wire a native module is its name alone: programs of others read it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged)]
pub(crate) enum ModuleSource {
    /// The factory registered under this name.
    Native(String),
    /// A shared library, and the symbol that it exports the module under.
    Plugin { path: PathBuf, entry_point: String },
}

/// What a host tells about one incarnation. Plain data: the same over a channel and a socket.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) enum Report {
    /// Initialized, or checked and ready to be spawned.
    Launched,
    /// `start()` returned `Ok`, or the process was spawned with this pid.
    Started { pid: Option<u32> },
    /// The answer to a probe; the reason says what is wrong when it is not healthy.
    Probed { probe: u64, healthy: bool, reason: String },
    /// What it is. Boxed, since an inbox has room for many of the largest.
    Informed(Box<ModuleInfo>),
    /// Something can be reached at this address.
    Endpoint(EndpointInfo),
    /// The module says that its work is done.
    Completed,
    /// It failed, and is still there to be ended.
    Failed(Failure),
    /// A job of the module's (`spawn_task`) failed; the worker lives on.
    TaskFailed(Failure),
    /// It has ended, most likely for this reason: comes before `Gone`, whose exit says how alone.
    Presumed(Failure),
    /// It is gone, and this is how: the last report of an incarnation.
    Gone(Exit),
}

/// Where the reports of one incarnation go. Never blocks.
pub(crate) type Reporter = Arc<dyn Fn(Report) + Send + Sync>;

/// Where the reply to a remote call goes. Dropped uncalled, it means that the worker is gone.
pub(crate) type Reply = Box<dyn FnOnce(Result<Vec<u8>, Failure>) + Send>;

/// The functions of an incarnation that runs in another process.
pub(crate) trait RemoteFunctions: Send + Sync {
    /// Sends a call, and never waits for the worker. `reply` is called once, on some thread and
    /// never while a lock is held that a call takes; with `timeout` at the latest when `deadline`
    /// has come.
    /// Returns the call's number.
    fn call(&self, function: &str, payload: &[u8], deadline: Option<Instant>, reply: Reply) -> u64;

    /// Has this thread, which waits for the outcome of a call, read what comes from there, unless
    /// another one does: until the outcome is known or `deadline` has come. It may return sooner.
    fn attend(&self, call: u64, deadline: Option<Instant>);

    /// How many calls panicked there. Read under locks: it must not block.
    fn panics(&self) -> u64;
}

/// Which of a process's outputs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Stream {
    Stdout,
    Stderr,
}

/// How the lines are to be read that a process writes to standard error.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Dialect {
    /// As they are.
    Plain,
    /// Those with a level before them are log lines.
    Leveled,
    /// As `Leveled`, and behind the level stands a target: a module host's own log.
    Records,
}

/// Whose output it is, and how to read it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Outlet<'w> {
    pub(crate) worker: &'w WorkerId,
    pub(crate) incarnation: u64,
    pub(crate) stream: Stream,
    pub(crate) dialect: Dialect,
}

/// Where the output of processes goes. Called by monitor threads: it must not block for long, since
/// the process's own writes wait behind it.
pub(crate) trait OutputSink: Send + Sync {
    /// Bytes as they were read; lines may be cut anywhere.
    fn output(&self, from: Outlet<'_>, bytes: &[u8]);

    /// No more will come from there.
    fn end_of_output(&self, from: Outlet<'_>);

    /// A process was started; nothing of its output was handed over yet.
    fn started(&self, _worker: &WorkerId, _incarnation: u64, _pid: u32) {}

    /// What comes now of a worker was written while no master ran, and its process has ended since.
    fn unattended(&self, _worker: &WorkerId, _incarnation: u64) {}

    /// The file that a process writes its output into by itself.
    ///
    /// # Errors
    /// There is none, or it cannot be opened.
    fn file(&self, _worker: &WorkerId) -> io::Result<File> {
        Err(io::ErrorKind::Unsupported.into())
    }
}
