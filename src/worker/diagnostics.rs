//! What is known about a worker at a moment: read without asking anybody.

use std::fmt;
use std::time::{Duration, SystemTime};

use serde::{Deserialize, Serialize};

use super::{ModuleType, WorkerState, WorkerType};
use crate::error::{ErrorCategory, Failure};
use crate::module::{EndpointInfo, EndpointType};

/// How an incarnation ended.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum Exit {
    /// The process exited with this code, 0 to 255.
    Code(i32),
    /// A signal ended the process; never folded into a code.
    Signal {
        /// The signal's number.
        signal: i32,
        /// True when the kernel wrote a core.
        core_dumped: bool,
    },
    /// The module's thread wound down in order, or the process was called off before it was
    /// spawned.
    Returned,
    /// It never ran, or broke while ending: what went wrong.
    Failed(Failure),
    /// It is gone, and nobody learned how it ended.
    Unknown,
    /// It lives on: somebody else has started it, and the master has let go of it.
    LetGo,
}

impl fmt::Display for Exit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Code(code) => write!(f, "exit {code}"),
            Self::Signal { signal, core_dumped } => {
                write!(f, "signal {}", signal_name(*signal))?;
                if *core_dumped { f.write_str(" (core dumped)") } else { Ok(()) }
            }
            Self::Returned => f.write_str("returned"),
            Self::Failed(failure) => failure.fmt(f),
            Self::Unknown => f.write_str("ended, exit status unknown"),
            Self::LetGo => f.write_str("let go of, lives on"),
        }
    }
}

/// `SIGTERM (15)`, or the bare number of a signal without a common name.
fn signal_name(signal: i32) -> String {
    match SIGNALS.iter().find(|(_, number)| *number == signal) {
        Some((name, number)) => format!("{name} ({number})"),
        None => signal.to_string(),
    }
}

/// The number of a signal named as `SIGTERM` or `TERM`, or written as a number from 1 to 64.
pub(crate) fn signal_number(text: &str) -> Option<i32> {
    if let Ok(number) = text.parse::<i32>() {
        return (1..=64).contains(&number).then_some(number);
    }
    let upper = text.to_ascii_uppercase();
    let name = upper.strip_prefix("SIG").unwrap_or(&upper);
    SIGNALS.iter().find(|(known, _)| &known[3..] == name).map(|(_, number)| *number)
}

/// Signal numbers as Linux has them on all architectures but MIPS, SPARC, Alpha and PA-RISC.
pub(crate) const SIGNALS: [(&str, i32); 31] = [
    ("SIGHUP", 1),
    ("SIGINT", 2),
    ("SIGQUIT", 3),
    ("SIGILL", 4),
    ("SIGTRAP", 5),
    ("SIGABRT", 6),
    ("SIGBUS", 7),
    ("SIGFPE", 8),
    ("SIGKILL", 9),
    ("SIGUSR1", 10),
    ("SIGSEGV", 11),
    ("SIGUSR2", 12),
    ("SIGPIPE", 13),
    ("SIGALRM", 14),
    ("SIGTERM", 15),
    ("SIGSTKFLT", 16),
    ("SIGCHLD", 17),
    ("SIGCONT", 18),
    ("SIGSTOP", 19),
    ("SIGTSTP", 20),
    ("SIGTTIN", 21),
    ("SIGTTOU", 22),
    ("SIGURG", 23),
    ("SIGXCPU", 24),
    ("SIGXFSZ", 25),
    ("SIGVTALRM", 26),
    ("SIGPROF", 27),
    ("SIGWINCH", 28),
    ("SIGIO", 29),
    ("SIGPWR", 30),
    ("SIGSYS", 31),
];

/// What the last health checks say.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum HealthStatus {
    /// No check is configured, or the worker is not running.
    #[default]
    None,
    /// No check has answered yet.
    Unknown,
    /// The last checks succeeded.
    Healthy,
    /// As many checks in a row failed as the configuration allows.
    Unhealthy,
}

impl HealthStatus {
    /// The word used in output.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::Unknown => "unknown",
            Self::Healthy => "healthy",
            Self::Unhealthy => "unhealthy",
        }
    }
}

impl fmt::Display for HealthStatus {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

/// The last thing that went wrong with a worker.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct LastError {
    /// Its kind.
    pub category: ErrorCategory,
    /// What happened, for people.
    pub message: String,
    /// When, by the wall clock.
    pub at: SystemTime,
    /// True when no retry could mend it, so that none was made.
    pub permanent: bool,
}

/// Everything known about one worker: a copy of what the event loop last published.
///
/// Fields that do not apply are `None`. Reading it never waits for the worker.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct WorkerDiagnostics {
    /// The worker's id.
    pub id: String,
    /// Where it runs.
    pub worker_type: WorkerType,
    /// Where its module comes from, for a worker that is a module.
    pub module_type: Option<ModuleType>,
    /// The module's name, for a worker that is a module.
    pub module_name: Option<String>,
    /// The program as it is configured, for a worker that is an executable.
    pub executable_path: Option<String>,
    /// What it is doing.
    pub state: WorkerState,
    /// What it is meant to do: `up`, `down` or `gone`.
    pub goal: &'static str,
    /// Where its incarnation is: `none`, `launching`, `starting`, `up` or `ending`.
    pub phase: &'static str,
    /// True while an incarnation is on its way out.
    pub ending: bool,
    /// True while it is up and ready.
    pub ready: bool,
    /// What its checks say.
    pub health: HealthStatus,
    /// The number of its current or last incarnation; 0 before the first.
    pub incarnation: u64,
    /// The process id of a live process worker.
    pub pid: Option<u32>,
    /// When it entered its state, by the wall clock.
    pub since: SystemTime,
    /// How long it has been up.
    pub uptime: Option<Duration>,
    /// Starts that no one asked for: retries, trials and repeats.
    pub restarts: u64,
    /// When it will be started again by itself, by the wall clock.
    pub retry_at: Option<SystemTime>,
    /// How long until then.
    pub retry_in: Option<Duration>,
    /// True when it failed too often and rests.
    pub gave_up: bool,
    /// True when its last incarnation ended with success.
    pub completed: bool,
    /// The workers, with conditions, that its start waits for.
    pub waiting_for: Vec<(String, &'static str)>,
    /// Why it entered its state.
    pub cause: String,
    /// How its last incarnation ended.
    pub exit: Option<Exit>,
    /// The last thing that went wrong.
    pub last_error: Option<LastError>,
    /// An error while it stopped, which did not keep it from stopping.
    pub warning: Option<String>,
    /// Incarnations that never ended and were written off or are stuck.
    pub abandoned_threads: usize,
    /// Tasks of its module that failed without ending it.
    pub task_failures: u64,
    /// Calls of its functions that panicked, without ending it.
    pub call_panics: u64,
    /// Addresses it can be reached at.
    pub endpoints: Vec<EndpointInfo>,
    /// The last lines, at most ten, of the incarnation that failed last; what could command a
    /// terminal is spelled out.
    pub last_output: Vec<String>,
    /// Bytes that were taken for its log since the worker was added.
    pub log_bytes: u64,
    /// How many of them could not be written, and are lost.
    pub log_dropped: u64,
    /// What last went wrong with its log, if anything did.
    pub log_trouble: Option<LogTrouble>,
    /// What its deployment allows.
    pub capabilities: WorkerCapabilities,
}

/// What keeps, or kept, a worker's log from being written in full.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct LogTrouble {
    /// What the system said last, or that the worker writes faster than the disk takes it.
    pub message: String,
    /// When that was, by the wall clock.
    pub at: SystemTime,
    /// Since when something is lost; `None`: the log is written in full again.
    pub since: Option<SystemTime>,
}

impl WorkerDiagnostics {
    /// True when `condition` holds for this picture of the worker.
    pub fn satisfies(&self, condition: super::WaitFor) -> bool {
        let down = self.phase == "none";
        match condition {
            super::WaitFor::Running => self.state == WorkerState::Running,
            super::WaitFor::Healthy => {
                self.state == WorkerState::Running && self.health == HealthStatus::Healthy
            }
            super::WaitFor::Stopped => {
                let resting = self.completed && self.retry_at.is_none();
                down && (self.goal != "up" || resting || self.gave_up)
            }
            super::WaitFor::Completed => self.completed,
        }
    }
}

/// What depends on where a worker runs; said by its type, never guessed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[non_exhaustive]
pub struct WorkerCapabilities {
    /// A crash beyond a panic (a segmentation fault, an abort) stays the worker's own.
    pub isolated: bool,
    /// It can be ended against its will.
    pub killable: bool,
    /// Its memory, processor and descriptors can be limited.
    pub limitable: bool,
    /// It can outlive its master and be taken over by the next one.
    pub adoptable: bool,
    /// It can export functions.
    pub functions: bool,
    /// It can be asked for its health.
    pub health: bool,
}

/// What an endpoint is, in the design document's words.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
#[non_exhaustive]
pub enum EndpointKind {
    /// An address with a protocol.
    Url,
    /// A Unix socket.
    Ipc,
    /// A function of the module.
    Function,
}

/// Where a worker's endpoint is now.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct WorkerEndpoint {
    /// The worker.
    pub worker: String,
    /// The incarnation that published it.
    pub incarnation: u64,
    /// What sort of address it is.
    pub kind: EndpointKind,
    /// The endpoint as the worker published it: name, type and address.
    pub info: EndpointInfo,
}

impl WorkerEndpoint {
    pub(crate) fn new(worker: &str, incarnation: u64, info: EndpointInfo) -> Self {
        let kind = match info.endpoint_type {
            EndpointType::Http | EndpointType::Grpc | EndpointType::Tcp => EndpointKind::Url,
            EndpointType::Unix => EndpointKind::Ipc,
            EndpointType::Function => EndpointKind::Function,
        };
        Self { worker: worker.to_owned(), incarnation, kind, info }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn signals_are_named_and_read_in_the_usual_spellings() {
        assert_eq!(signal_number("SIGTERM"), Some(15));
        assert_eq!(signal_number("term"), Some(15));
        assert_eq!(signal_number("9"), Some(9));
        assert_eq!(signal_number("SIGWHAT"), None);
        assert_eq!(signal_number("0"), None);
        assert_eq!(signal_number("65"), None);
        let killed = Exit::Signal { signal: 9, core_dumped: false };
        assert_eq!(killed.to_string(), "signal SIGKILL (9)");
        let dumped = Exit::Signal { signal: 11, core_dumped: true };
        assert_eq!(dumped.to_string(), "signal SIGSEGV (11) (core dumped)");
    }
}
