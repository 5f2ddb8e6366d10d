//! The client: asks a running master over its socket, and waits for the answers.

mod call;
#[cfg(target_os = "linux")]
mod line;
#[cfg(not(target_os = "linux"))]
#[path = "client/unsupported.rs"]
mod line;
mod streams;

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use super::report::{
    Description, Ended, Hello, PlanReport, ShutdownWire, WorkerReport, millis, modules_from,
};
use super::wire;
use crate::error::{Error, ErrorCategory, Result};
use crate::master::{Function, KnownModule};
use crate::runtime::ShutdownReport;
use crate::worker::WaitFor;
use call::RemoteFunction;
use line::Line;
pub use streams::{Events, LogLines};

/// How long a master may take for what it can answer at once.
const TIMEOUT: Duration = Duration::from_secs(5);

/// A connection to a running master.
///
/// Blocking, and usable from several threads at a time: their requests share one connection, and
/// none waits for another's answer. Errors are those that [`Master`](crate::Master) itself gives,
/// with the same category and worker. What else can happen has no worker:
///
/// | category | when |
/// |---|---|
/// | `not_running` | no master answers at that socket, or it ended before it answered |
/// | `timeout` | the master is there and does not answer: it is stopped, or has no processor |
/// | `permission_denied` | the socket belongs to somebody else |
/// | `refused` | it has too many connections |
///
/// A request that takes long (a start, a wait, a call) is bounded by its own deadlines. While it
/// waits, the client makes sure that the master still answers.
pub struct Client {
    line: Arc<Line>,
    hello: Hello,
    timeout: Duration,
}

/// How a command is carried out.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct CommandOptions {
    /// Kill now instead of asking; a start goes past what it would wait for.
    pub force: bool,
    /// Wait no longer than this for the outcome; the command itself goes on. `None`: the
    /// operation's own deadlines end it.
    pub timeout: Option<Duration>,
    /// Wait for the outcome. Default true.
    pub wait: bool,
    /// After a start or restart, watch for 250 ms more, and report an end in that time.
    pub watch: bool,
}

impl Default for CommandOptions {
    fn default() -> Self {
        Self { force: false, timeout: None, wait: true, watch: false }
    }
}

impl CommandOptions {
    /// In order, waiting for the outcome.
    pub fn new() -> Self {
        Self::default()
    }

    /// Kill now instead of asking.
    #[must_use]
    pub fn force(mut self, force: bool) -> Self {
        self.force = force;
        self
    }

    /// How long to wait for the outcome.
    #[must_use]
    pub fn timeout(mut self, timeout: Option<Duration>) -> Self {
        self.timeout = timeout;
        self
    }

    /// False: do not wait for the outcome.
    #[must_use]
    pub fn wait(mut self, wait: bool) -> Self {
        self.wait = wait;
        self
    }

    /// Watch for 250 ms past the start.
    #[must_use]
    pub fn watch(mut self, watch: bool) -> Self {
        self.watch = watch;
        self
    }
}

/// Which lines of which logs.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct LogQuery {
    /// The workers; none: all.
    pub ids: Vec<String>,
    /// So many lines of each that are there already.
    pub lines: usize,
    /// Go on with what is written from now on.
    pub follow: bool,
    /// What they wrote to standard output.
    pub stdout: bool,
    /// What they wrote to standard error.
    pub stderr: bool,
}

impl Default for LogQuery {
    fn default() -> Self {
        Self { ids: Vec::new(), lines: 10, follow: false, stdout: true, stderr: true }
    }
}

impl LogQuery {
    /// The last 10 lines of all workers.
    pub fn new() -> Self {
        Self::default()
    }
}

impl Client {
    /// Connects to the master that listens at `socket`, and says hello.
    ///
    /// Waits 5 s at most.
    ///
    /// # Errors
    /// As the table above says; `configuration` when the master speaks another version.
    pub fn connect(socket: impl AsRef<Path>) -> Result<Self> {
        let line = Line::open(socket.as_ref(), TIMEOUT)?;
        let mut client = Self { line: Arc::new(line), hello: Hello::of_nobody(), timeout: TIMEOUT };
        client.hello = client.hello_again()?;
        let ([theirs, _], [ours, _]) = (client.hello.protocol, wire::VERSION);
        if theirs != ours {
            let [major, minor] = client.hello.protocol;
            let message = format!(
                "the master at {} (version {}) speaks version {major}.{minor} of the protocol, \
                 this program version {ours}",
                client.line.path().display(),
                client.hello.version,
            );
            return Err(Error::configuration(message));
        }
        Ok(client)
    }

    /// How long the master may take for what it can answer at once. Default 5 s.
    #[must_use]
    pub fn timeout(mut self, timeout: Duration) -> Self {
        self.timeout = timeout;
        self
    }

    /// Whom this is a connection to, as it was when that was made.
    pub fn hello(&self) -> &Hello {
        &self.hello
    }

    /// Asks the master once more who it is, and how it is now.
    ///
    /// # Errors
    /// As the table above says.
    pub fn hello_again(&self) -> Result<Hello> {
        self.quick("hello", &wire::Nothing {})
    }

    /// What is known of these workers, in this order; none named: of all, in alphabetical order.
    ///
    /// # Errors
    /// There is no such worker (`unknown_worker`).
    pub fn status(&self, ids: &[&str]) -> Result<Vec<WorkerReport>> {
        self.list(ids, false)
    }

    /// As [`status`](Self::status), with [`usage`](WorkerReport::usage) and
    /// [`program_changed`](WorkerReport::program_changed). For these the master looks at the
    /// processes' files as it answers: less than a tenth of a millisecond for each worker.
    ///
    /// # Errors
    /// As [`status`](Self::status).
    pub fn status_with_usage(&self, ids: &[&str]) -> Result<Vec<WorkerReport>> {
        self.list(ids, true)
    }

    fn list(&self, ids: &[&str], usage: bool) -> Result<Vec<WorkerReport>> {
        #[derive(Deserialize)]
        struct Page {
            workers: Vec<WorkerReport>,
            next: Option<String>,
        }
        let mut workers = Vec::new();
        for some in ids.chunks(wire::MAX_NAMED) {
            let ids = some.iter().map(|id| (*id).to_owned()).collect();
            let page: Page = self.quick("status", &wire::Status { ids, after: None, usage })?;
            workers.extend(page.workers);
        }
        let mut asked = wire::Status { usage, ..wire::Status::default() };
        while ids.is_empty() {
            let page: Page = self.quick("status", &asked)?;
            workers.extend(page.workers);
            if page.next.is_none() {
                break;
            }
            asked.after = page.next;
        }
        Ok(workers)
    }

    /// Everything there is to say about one worker.
    ///
    /// # Errors
    /// There is no such worker.
    pub fn describe(&self, id: &str) -> Result<Description> {
        self.quick("describe", &wire::Describe { id: id.to_owned() })
    }

    /// Starts a worker.
    ///
    /// # Errors
    /// As [`Master::start_worker`](crate::Master::start_worker), and `timeout`.
    pub fn start(&self, id: &str, options: CommandOptions) -> Result<Ended> {
        self.command("start", id, &options)
    }

    /// Stops a worker.
    ///
    /// # Errors
    /// As [`Master::stop_worker`](crate::Master::stop_worker), and `timeout`.
    pub fn stop(&self, id: &str, options: CommandOptions) -> Result<Ended> {
        self.command("stop", id, &options)
    }

    /// Gives a worker a new incarnation.
    ///
    /// # Errors
    /// As [`Master::restart_worker`](crate::Master::restart_worker), and `timeout`.
    pub fn restart(&self, id: &str, options: CommandOptions) -> Result<Ended> {
        self.command("restart", id, &options)
    }

    fn command(&self, method: &str, id: &str, options: &CommandOptions) -> Result<Ended> {
        let CommandOptions { force, timeout, wait, watch } = *options;
        let timeout_ms = timeout.map(millis);
        let params = wire::Command { id: id.to_owned(), force, timeout_ms, wait, watch };
        self.long(method, &params, timeout)
    }

    /// Waits until a worker is in a condition, at most `timeout`.
    ///
    /// # Errors
    /// As [`Master::wait_for`](crate::Master::wait_for).
    pub fn wait_for(
        &self,
        id: &str,
        condition: WaitFor,
        timeout: Duration,
    ) -> Result<WorkerReport> {
        let timeout_ms = Some(millis(timeout));
        let params = wire::Wait { id: id.to_owned(), condition, timeout_ms };
        self.long("wait", &params, Some(timeout))
    }

    /// Calls a function that a worker exports, wherever it runs, and waits for the reply.
    ///
    /// # Errors
    /// As [`Function`] says.
    pub fn call(&self, worker: &str, function: &str, payload: &[u8]) -> Result<Vec<u8>> {
        self.function(worker, function).call_bytes(payload)
    }

    /// A handle on a function of a worker, as [`Master::function`](crate::Master::function) gives.
    pub fn function(&self, worker: &str, function: &str) -> Function {
        let line = Arc::clone(&self.line);
        Function::of(Arc::new(RemoteFunction::new(line, self.timeout, worker, function)))
    }

    /// The modules that the master's workers can name.
    ///
    /// # Errors
    /// As the table above says.
    pub fn modules(&self) -> Result<Vec<KnownModule>> {
        self.long("modules", &wire::Nothing {}, None).map(modules_from)
    }

    /// Has the master read its configuration again and take over what has changed.
    ///
    /// # Errors
    /// The configuration is wrong (nothing was changed), or the master has none to read again.
    pub fn reload(&self) -> Result<PlanReport> {
        self.long("reload", &wire::Nothing {}, None)
    }

    /// What a reload would do, touching nothing; with `config`, as if that file were its own.
    ///
    /// # Errors
    /// As [`reload`](Self::reload).
    pub fn plan(&self, config: Option<&Path>) -> Result<PlanReport> {
        self.long("plan", &wire::Plan { config: config.map(Path::to_owned) }, None)
    }

    /// Stops every worker and ends the master. `keep`: leaves those running that may outlive it.
    ///
    /// # Errors
    /// As the table above says.
    pub fn shutdown(&self, keep: bool) -> Result<ShutdownReport> {
        let report: ShutdownWire = self.long("shutdown", &wire::Shutdown { keep }, None)?;
        Ok(report.into())
    }

    /// The last events, and with `follow` those that happen from now on. On a connection of its
    /// own, which ends when the iterator is dropped.
    ///
    /// # Errors
    /// As the table above says.
    pub fn events(&self, follow: bool) -> Result<Events> {
        let params = wire::Events { follow, ..wire::Events::default() };
        Events::open(self.line.path(), self.timeout, &params)
    }

    /// As [`events`](Self::events), with so many of the past: from the first one on none is missed.
    #[cfg(feature = "cli")]
    pub(crate) fn events_to_come(&self, last: usize) -> Result<Events> {
        let params = wire::Events { follow: true, last };
        Events::open(self.line.path(), self.timeout, &params)
    }

    /// Lines of workers' logs. On a connection of its own, which ends when the iterator is dropped.
    ///
    /// # Errors
    /// There is no such worker, or the master keeps no logs.
    pub fn logs(&self, query: LogQuery) -> Result<LogLines> {
        let LogQuery { ids, lines, follow, stdout, stderr } = query;
        let params = wire::Logs { ids, lines, follow, stdout, stderr };
        LogLines::open(self.line.path(), self.timeout, &params)
    }

    /// Asks for what the master can answer at once.
    fn quick<T: DeserializeOwned>(&self, method: &str, params: &impl Serialize) -> Result<T> {
        let answer = self.line.ask(method, params, Instant::now().checked_add(self.timeout))?;
        understood(method, &answer)
    }

    /// Asks for what may take long, at most `timeout` by the master's clock.
    fn long<T: DeserializeOwned>(
        &self,
        method: &str,
        params: &impl Serialize,
        timeout: Option<Duration>,
    ) -> Result<T> {
        let answer = self.line.ask_long(method, params, timeout, self.timeout)?;
        understood(method, &answer)
    }
}

fn understood<'a, T: Deserialize<'a>>(method: &str, answer: &'a RawValue) -> Result<T> {
    serde_json::from_str(answer.get()).map_err(|error| {
        let message = format!("the master's answer to {method:?} is not understood: {error}");
        Error::new(ErrorCategory::Unknown, message)
    })
}

/// Nobody answers at a socket.
fn unreachable(path: &Path, why: impl fmt::Display) -> Error {
    let message = format!("no master answers at {}: {why}", path.display());
    Error::new(ErrorCategory::NotRunning, message)
}

/// A master is there, but does not answer.
fn hangs(path: &Path, waited: Duration) -> Error {
    let message = format!(
        "the master at {} does not answer within {waited:.1?}: it is stopped, or has no processor",
        path.display()
    );
    Error::new(ErrorCategory::Timeout, message)
}

impl fmt::Debug for Client {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Client")
            .field("socket", &PathBuf::from(self.line.path()))
            .field("hello", &self.hello)
            .finish_non_exhaustive()
    }
}
