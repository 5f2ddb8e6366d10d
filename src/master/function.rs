//! A handle on one function of one worker, wherever that runs.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::error::{Error, Result};
use crate::module::{read_reply, write_request};
use crate::runtime::{Origin, ReplySender, Route, Ticket};

/// How long a call to another process may take unless the caller says otherwise.
const TIMEOUT: Duration = Duration::from_secs(30);

/// A function that a worker exports: see [`ModuleContext::export`](crate::ModuleContext::export).
///
/// Cheap to clone, usable from any thread, and independent of the incarnation: each call goes to
/// the one that runs then. Where the worker runs makes no difference to its errors, of which each
/// names the worker:
///
/// | category | when |
/// |---|---|
/// | `unknown_worker`, `unknown_function` | there is none of this name |
/// | `not_running` | the worker does not run, or ended before it answered |
/// | `timeout` | no answer in time; whether the function ran is not known |
/// | `panic` | the function panicked; the worker lives on |
/// | `refused` | payload or reply has more than 512 KiB; the request does not fit; too many calls |
/// | any other | the function's own error |
///
/// A function of a module in this process runs on the calling thread, so [`timeout`](Self::timeout)
/// does not bound it. On a hosted one's it does.
///
/// ```
/// # use hsu_master::{Master, ModuleContext, ModuleInfo, ModuleResult, WorkerConfig, WorkerModule};
/// struct Adder;
///
/// impl WorkerModule for Adder {
///     fn start(&mut self, ctx: &ModuleContext) -> ModuleResult {
///         ctx.export_json("add", |(a, b): (i64, i64)| Ok(a + b))?;
///         Ok(())
///     }
///     fn info(&self) -> ModuleInfo {
///         ModuleInfo::new("adder", "1.0.0")
///     }
/// }
///
/// # fn main() -> hsu_master::Result<()> {
/// let master = Master::builder().module("adder", || Adder).build()?;
/// let add = master.function("adder-1", "add");
/// master.add_worker(WorkerConfig::native("adder-1", "adder"))?;
/// assert!(add.call::<i64>(&(1, 2)).unwrap_err().is_unavailable());
/// master.start_worker("adder-1")?;
/// assert_eq!(add.call::<i64>(&(1, 2))?, 3);
/// # Ok(())
/// # }
/// ```
#[derive(Clone)]
pub struct Function {
    route: Arc<dyn Callable>,
    timeout: Duration,
}

/// The way to one function of one worker: in this process, or over a master's socket.
pub(crate) trait Callable: Send + Sync {
    fn worker(&self) -> &str;
    fn function(&self) -> &str;
    /// Whom the outcome of a call is told of.
    fn origin(&self) -> Origin;
    /// Calls and waits for the reply.
    fn call(&self, payload: &[u8], timeout: Duration) -> Result<Vec<u8>>;
    /// Calls without waiting: the outcome goes to `answer`.
    fn call_nowait(self: Arc<Self>, payload: Vec<u8>, timeout: Duration, answer: ReplySender);
}

impl Callable for Route {
    fn worker(&self) -> &str {
        Self::worker(self)
    }

    fn function(&self) -> &str {
        Self::function(self)
    }

    fn origin(&self) -> Origin {
        Self::origin(self)
    }

    fn call(&self, payload: &[u8], timeout: Duration) -> Result<Vec<u8>> {
        Self::call(self, payload, timeout)
    }

    fn call_nowait(self: Arc<Self>, payload: Vec<u8>, timeout: Duration, answer: ReplySender) {
        Self::call_nowait(&self, payload, timeout, answer);
    }
}

impl Function {
    pub(super) fn new(route: Route) -> Self {
        Self::of(Arc::new(route))
    }

    pub(crate) fn of(route: Arc<dyn Callable>) -> Self {
        Self { route, timeout: TIMEOUT }
    }

    /// The worker's id.
    pub fn worker(&self) -> &str {
        self.route.worker()
    }

    /// The function's name.
    pub fn name(&self) -> &str {
        self.route.function()
    }

    /// How long a call to another process may take. Default 30 s.
    #[must_use]
    pub fn timeout(mut self, timeout: Duration) -> Self {
        self.timeout = timeout;
        self
    }

    /// Calls with a request and waits for the reply, both as JSON.
    ///
    /// # Errors
    /// As the table above says. A reply that is no `Resp` is of category `unknown`, naming the
    /// field; the function has then run.
    pub fn call<Resp: DeserializeOwned>(&self, request: &impl Serialize) -> Result<Resp> {
        let named = |error: Error| error.of_worker(self.worker());
        let reply = self.call_bytes(&write_request(request).map_err(named)?)?;
        read_reply(&reply).map_err(named)
    }

    /// As [`call`](Self::call), without waiting. It never blocks: what runs in this process gets a
    /// thread for the call, and at most 1,024 of one incarnation's run at a time.
    pub fn call_nowait<Resp: DeserializeOwned>(&self, request: &impl Serialize) -> Ticket<Resp> {
        let (ticket, answer) = Ticket::of_call(self.route.origin(), |reply| read_reply(&reply));
        match write_request(request) {
            Ok(payload) => Arc::clone(&self.route).call_nowait(payload, self.timeout, answer),
            Err(error) => answer.of_call(Err(error.of_worker(self.worker()))),
        }
        ticket
    }

    /// Calls with these bytes and waits for the reply.
    ///
    /// # Errors
    /// As the table above says; `would_deadlock` where a master's event loop would wait for another
    /// process.
    pub fn call_bytes(&self, payload: &[u8]) -> Result<Vec<u8>> {
        self.route.call(payload, self.timeout)
    }

    /// As [`call_bytes`](Self::call_bytes), without waiting, as in
    /// [`call_nowait`](Self::call_nowait).
    pub fn call_bytes_nowait(&self, payload: impl Into<Vec<u8>>) -> Ticket<Vec<u8>> {
        let (ticket, answer) = Ticket::of_call(self.route.origin(), Ok);
        Arc::clone(&self.route).call_nowait(payload.into(), self.timeout, answer);
        ticket
    }
}

impl fmt::Debug for Function {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Function")
            .field("worker", &self.worker())
            .field("name", &self.name())
            .finish_non_exhaustive()
    }
}
