//! What a master says of its workers over its socket: plain data with the names of the wire.
//! Versions are told apart by fields: a reader passes over those it does not know.

use std::time::{Duration, SystemTime};

use serde::{Deserialize, Serialize};

use crate::error::ErrorCategory;
use crate::master::KnownModule;
use crate::module::{EndpointInfo, EndpointType, ModuleInfo};
use crate::runtime::ShutdownReport;
use crate::worker::{
    EndpointKind, Exit, HealthStatus, LogTrouble, ModuleType, WorkerCapabilities,
    WorkerDiagnostics, WorkerEndpoint, WorkerState, WorkerType,
};

mod config;
mod stamp;

pub(super) use config::patience;
pub use config::{ConfigReport, UnmanagedReport};

/// Everything known about one worker at a moment: an object of `status --json`.
///
/// Times are RFC 3339 in UTC on the wire, spans are milliseconds; what does not apply is null.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct WorkerReport {
    /// The worker's id.
    pub id: String,
    /// Where it runs.
    #[serde(rename = "type")]
    pub worker_type: WorkerType,
    /// Where its module comes from, for a module.
    pub module_type: Option<ModuleType>,
    /// The module's name, for a module.
    pub module_name: Option<String>,
    /// The program as it is configured, for a program.
    pub executable_path: Option<String>,
    /// What it is doing.
    pub state: WorkerState,
    /// What its checks say.
    pub health: HealthStatus,
    /// What it is meant to do: `up`, `down` or `gone`.
    pub goal: String,
    /// Where its incarnation is: `none`, `launching`, `starting`, `up` or `ending`.
    pub phase: String,
    /// True while an incarnation is on its way out.
    pub ending: bool,
    /// True while it is up and ready.
    pub ready: bool,
    /// The number of its current or last incarnation; 0 before the first.
    pub incarnation: u64,
    /// The process id of a live process worker.
    pub pid: Option<u32>,
    /// When it entered its state.
    #[serde(with = "stamp")]
    pub since: SystemTime,
    /// How long it has been up, in milliseconds.
    pub uptime_ms: Option<u64>,
    /// Starts that no one asked for: retries, trials and repeats.
    pub restarts: u64,
    /// When it will be started again by itself.
    #[serde(with = "stamp::optional", default)]
    pub retry_at: Option<SystemTime>,
    /// How long until then, in milliseconds.
    pub retry_in_ms: Option<u64>,
    /// True when it failed too often and rests.
    pub gave_up: bool,
    /// True when its last incarnation ended with success.
    #[serde(default)]
    pub completed: bool,
    /// What its start waits for.
    #[serde(default)]
    pub waiting_for: Vec<WaitingFor>,
    /// Why it entered its state, in a word or two.
    pub cause: String,
    /// How its last incarnation ended.
    pub exit: Option<ExitReport>,
    /// The last thing that went wrong.
    pub last_error: Option<ErrorReport>,
    /// An error while it stopped, which did not keep it from stopping.
    pub warning: Option<String>,
    /// Incarnations that never ended and were written off or are stuck.
    pub abandoned_threads: u64,
    /// Tasks of its module that failed without ending it.
    #[serde(default)]
    pub task_failures: u64,
    /// Calls of its functions that panicked, without ending it.
    pub call_panics: u64,
    /// Addresses it can be reached at.
    pub endpoints: Vec<EndpointReport>,
    /// Bytes that were taken for its log.
    #[serde(default)]
    pub log_bytes: u64,
    /// How many of them could not be written, and are lost.
    #[serde(default)]
    pub log_dropped: u64,
    /// What last went wrong with its log.
    #[serde(default)]
    pub log_trouble: Option<LogTroubleReport>,
    /// What its process uses, where that was asked for.
    pub usage: Option<Usage>,
    /// True when the file of the program that runs was replaced, written to or removed since it was
    /// started: a restart runs what is there now. Null where that cannot be told, or was not asked
    /// for.
    #[serde(default)]
    pub program_changed: Option<bool>,
    /// What its deployment allows.
    pub capabilities: Option<WorkerCapabilities>,
}

/// A worker, with a condition, that another one's start waits for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct WaitingFor {
    /// The worker.
    pub id: String,
    /// `started`, `healthy` or `completed`.
    pub condition: String,
}

/// How an incarnation ended.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct ExitReport {
    /// The exit code of a process that exited.
    pub code: Option<i32>,
    /// The number of the signal that ended a process.
    pub signal: Option<i32>,
    /// The same for people: `exit 1`, `signal SIGKILL (9)`, `returned`, or what broke.
    pub text: String,
    /// True when its process lives on, which somebody else has started, and was let go of.
    #[serde(default)]
    pub let_go: bool,
}

/// Something that went wrong.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct ErrorReport {
    /// Its kind.
    #[serde(deserialize_with = "category")]
    pub category: ErrorCategory,
    /// What happened, for people.
    pub message: String,
    /// When.
    #[serde(with = "stamp")]
    pub at: SystemTime,
    /// True when no retry could mend it, so that none was made.
    #[serde(default)]
    pub permanent: bool,
}

/// What keeps, or kept, a worker's log from being written.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct LogTroubleReport {
    /// What the system said last.
    pub message: String,
    /// When.
    #[serde(with = "stamp")]
    pub at: SystemTime,
    /// Since when what comes is lost; null: the log is written again.
    #[serde(with = "stamp::optional", default)]
    pub since: Option<SystemTime>,
}

/// Where a worker can be reached.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct EndpointReport {
    /// Its name within the worker.
    pub name: String,
    /// `http`, `grpc`, `tcp`, `unix` or `function`.
    #[serde(rename = "type")]
    pub endpoint_type: EndpointType,
    /// `url`, `ipc` or `function`.
    pub kind: EndpointKind,
    /// `host:port`, a socket's path, or a function's name.
    pub address: String,
}

/// What a worker's process uses, without those that it has started.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Usage {
    /// Of one processor, in percent: of two that are busy, 200. Over the time since this was asked
    /// before, at least half a second; at first since the process began. Null for a process that
    /// began less than a tenth of a second ago.
    pub cpu_percent: Option<f64>,
    /// Resident memory.
    pub rss_bytes: Option<u64>,
    /// Threads.
    pub threads: Option<u64>,
}

/// Everything there is to say about one worker.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Description {
    /// What `status` says.
    #[serde(flatten)]
    pub worker: WorkerReport,
    /// Failed incarnations in a row, as the restart policy counts them: none any more once it has
    /// been up for `config.reset_after_ms`.
    #[serde(default)]
    pub failures: u32,
    /// How many more failures in a row are followed by a retry. 0 with the policy `never`, and
    /// once it has given up; null: all of them.
    #[serde(default)]
    pub retries_left: Option<u32>,
    /// How it is configured.
    pub config: ConfigReport,
    /// Its last changes of state, the oldest first; at most 64.
    pub history: Vec<PastReport>,
    /// The last lines it wrote before it last failed.
    #[serde(default)]
    pub last_output: Vec<String>,
}

/// One change of a worker's state.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct PastReport {
    /// When.
    #[serde(with = "stamp")]
    pub at: SystemTime,
    /// The state it left.
    pub from: WorkerState,
    /// The state it entered.
    pub to: WorkerState,
    /// Why, in a word or two.
    pub cause: String,
    /// The incarnation it is about.
    pub incarnation: u64,
    /// What went wrong, if that is why.
    pub message: Option<String>,
    /// How the incarnation ended, if it had.
    pub exit: Option<ExitReport>,
}

/// What a command came to.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Ended {
    /// The worker.
    pub id: String,
    /// The incarnation that runs now, after a start or restart that was waited for.
    pub incarnation: Option<u64>,
    /// What the worker is doing now; null when it is not known any more.
    pub state: Option<WorkerState>,
}

/// Whom one talks to.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Hello {
    /// The version of what is spoken: the first number must be equal on both sides.
    pub protocol: [u32; 2],
    /// The program's version.
    #[serde(default)]
    pub version: String,
    /// The master's process.
    #[serde(default)]
    pub pid: u32,
    /// The master's name.
    #[serde(default)]
    pub name: String,
    /// For how long its event loop has not come round, in milliseconds, if that is more than a
    /// second: commands wait then, and what is shown may be old.
    #[serde(default)]
    pub loop_stalled_ms: Option<u64>,
    /// What the loop is at in that case, in words.
    #[serde(default)]
    pub loop_stalled_at: Option<String>,
    /// Stands for the text of the configuration that holds, where it has one: its
    /// [digest](crate::MasterConfig::digest).
    #[serde(default)]
    pub configuration: Option<String>,
    /// Since when that configuration holds.
    #[serde(with = "stamp::optional", default)]
    pub configured_at: Option<SystemTime>,
    /// What is wrong with its state directory now.
    #[serde(default)]
    pub state_trouble: Option<StateTroubleReport>,
}

/// What keeps a master's state directory from being kept: the master goes on, and a next one may
/// not know what this one runs.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct StateTroubleReport {
    /// The directory.
    pub path: String,
    /// What is wrong.
    pub message: String,
    /// Since when.
    #[serde(with = "stamp")]
    pub since: SystemTime,
}

/// One line of a worker's log, or word of what became of it.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct LogEntry {
    /// The worker that wrote it.
    pub worker: String,
    /// The line as it stands in the log, without its newline.
    pub line: Vec<u8>,
    /// True when this is no line of the worker's, but tells that some are missing.
    pub notice: bool,
}

/// What a reload does or would do: as the master itself says it.
pub type PlanReport = crate::master::Plan;

impl Hello {
    pub(super) fn of_nobody() -> Self {
        Self {
            protocol: [0, 0],
            version: String::new(),
            pid: 0,
            name: String::new(),
            loop_stalled_ms: None,
            loop_stalled_at: None,
            configuration: None,
            configured_at: None,
            state_trouble: None,
        }
    }
}

/// What a shutdown came to, as it is written.
#[derive(Debug, Deserialize, Serialize)]
pub(super) struct ShutdownWire {
    #[serde(default)]
    killed: Vec<String>,
    #[serde(default)]
    stuck: Vec<String>,
}

impl From<ShutdownReport> for ShutdownWire {
    fn from(report: ShutdownReport) -> Self {
        Self { killed: report.killed, stuck: report.stuck }
    }
}

impl From<ShutdownWire> for ShutdownReport {
    fn from(wire: ShutdownWire) -> Self {
        Self::of_names(wire.killed, wire.stuck)
    }
}

/// A module, as it is written.
#[derive(Debug, Deserialize, Serialize)]
pub(super) struct ModuleWire {
    name: String,
    #[serde(rename = "type")]
    module_type: ModuleType,
    info: ModuleInfo,
}

impl From<KnownModule> for ModuleWire {
    fn from(known: KnownModule) -> Self {
        let KnownModule { name, module_type, info } = known;
        Self { name, module_type, info }
    }
}

pub(super) fn modules_from(wire: Vec<ModuleWire>) -> Vec<KnownModule> {
    let known = |ModuleWire { name, module_type, info }| KnownModule { name, module_type, info };
    wire.into_iter().map(known).collect()
}

/// A span in milliseconds, as it is written.
pub(crate) fn millis(span: Duration) -> u64 {
    u64::try_from(span.as_millis()).unwrap_or(u64::MAX)
}

/// A word of a later version is no reason to lose the rest.
fn category<'de, D: serde::Deserializer<'de>>(from: D) -> Result<ErrorCategory, D::Error> {
    let word = serde_json::Value::deserialize(from)?;
    Ok(serde_json::from_value(word).unwrap_or(ErrorCategory::Unknown))
}

impl From<&Exit> for ExitReport {
    fn from(exit: &Exit) -> Self {
        let (code, signal) = match exit {
            Exit::Code(code) => (Some(*code), None),
            Exit::Signal { signal, .. } => (None, Some(*signal)),
            Exit::Returned | Exit::Failed(_) | Exit::Unknown | Exit::LetGo => (None, None),
        };
        Self { code, signal, text: exit.to_string(), let_go: *exit == Exit::LetGo }
    }
}

impl From<WorkerDiagnostics> for WorkerReport {
    fn from(known: WorkerDiagnostics) -> Self {
        let endpoint = |info| {
            let WorkerEndpoint { kind, info, .. } = WorkerEndpoint::new("", 0, info);
            let EndpointInfo { name, endpoint_type, address } = info;
            EndpointReport { name, endpoint_type, kind, address }
        };
        let waiting = known.waiting_for.into_iter();
        Self {
            id: known.id,
            worker_type: known.worker_type,
            module_type: known.module_type,
            module_name: known.module_name,
            executable_path: known.executable_path,
            state: known.state,
            health: known.health,
            goal: known.goal.to_owned(),
            phase: known.phase.to_owned(),
            ending: known.ending,
            ready: known.ready,
            incarnation: known.incarnation,
            pid: known.pid,
            since: known.since,
            uptime_ms: known.uptime.map(millis),
            restarts: known.restarts,
            retry_at: known.retry_at,
            retry_in_ms: known.retry_in.map(millis),
            gave_up: known.gave_up,
            completed: known.completed,
            waiting_for: waiting
                .map(|(id, condition)| WaitingFor { id, condition: condition.to_owned() })
                .collect(),
            cause: known.cause,
            exit: known.exit.as_ref().map(ExitReport::from),
            last_error: known.last_error.map(|error| ErrorReport {
                category: error.category,
                message: error.message,
                at: error.at,
                permanent: error.permanent,
            }),
            warning: known.warning,
            abandoned_threads: known.abandoned_threads as u64,
            task_failures: known.task_failures,
            call_panics: known.call_panics,
            endpoints: known.endpoints.into_iter().map(endpoint).collect(),
            log_bytes: known.log_bytes,
            log_dropped: known.log_dropped,
            log_trouble: known
                .log_trouble
                .map(|LogTrouble { message, at, since }| LogTroubleReport { message, at, since }),
            usage: None,
            program_changed: None,
            capabilities: Some(known.capabilities),
        }
    }
}
