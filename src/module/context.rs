//! The module's handle on its own incarnation. What stands behind it (threads, reports) is a
//! backend that `host` provides.

use std::fmt;
use std::sync::Arc;

use serde::Serialize;
use serde::de::DeserializeOwned;

use super::json::read_request;
use super::{EndpointInfo, ModuleError, ModuleResult, StopToken};
use crate::error::{Failure, Result};

/// What a spawned thread runs.
pub(crate) type Work = Box<dyn FnOnce(ModuleContext) -> ModuleResult + Send>;

/// What a call runs: it is handed the function's name and the payload.
pub(crate) type Exported = Box<dyn Fn(&str, &[u8]) -> ModuleResult<Vec<u8>> + Send + Sync>;

/// What a [`ModuleContext`] asks of the place it runs in.
pub(crate) trait ContextBackend: Send + Sync {
    fn worker_id(&self) -> &str;
    fn incarnation(&self) -> u64;
    fn stop_token(&self) -> &StopToken;
    fn spawn(&self, ctx: ModuleContext, name: &str, work: Work) -> Result<()>;
    fn spawn_task(&self, ctx: ModuleContext, name: &str, work: Work) -> Result<()>;
    fn export(&self, name: &str, function: Exported) -> Result<()>;
    fn export_rest(&self, function: Exported);
    fn publish(&self, endpoint: EndpointInfo);
    fn fail(&self, failure: Failure);
    fn complete(&self);
    fn adopt_thread(&self);
}

/// A module's handle on its own incarnation: cheap to clone, usable from any thread.
///
/// It outlives the incarnation harmlessly: what it is asked for then does nothing or is an error.
#[derive(Clone)]
pub struct ModuleContext {
    backend: Arc<dyn ContextBackend>,
}

impl ModuleContext {
    pub(crate) fn new(backend: Arc<dyn ContextBackend>) -> Self {
        Self { backend }
    }

    /// The worker's id.
    pub fn worker_id(&self) -> &str {
        self.backend.worker_id()
    }

    /// The number of this life, from 1.
    pub fn incarnation(&self) -> u64 {
        self.backend.incarnation()
    }

    /// Fires when this incarnation is to end.
    pub fn stop_token(&self) -> &StopToken {
        self.backend.stop_token()
    }

    /// Starts a thread of this worker for work that goes on.
    ///
    /// Its panic or error is the worker's crash. It is joined when the worker stops, after
    /// `stop()`; returning `Ok` before that is fine. `name` is for people: the thread is called
    /// `worker#1-name`.
    ///
    /// # Errors
    /// When the incarnation has ended, the name contains a NUL, or the system refuses a thread.
    pub fn spawn(
        &self,
        name: &str,
        work: impl FnOnce(Self) -> ModuleResult + Send + 'static,
    ) -> Result<()> {
        self.backend.spawn(self.clone(), name, Box::new(work))
    }

    /// Starts a thread for one connection or one job: its panic or error is logged and counted, and
    /// the worker lives on. It is joined like the others when the worker stops.
    ///
    /// # Errors
    /// As [`spawn`](Self::spawn), and when 1,024 such threads run already.
    pub fn spawn_task(
        &self,
        name: &str,
        work: impl FnOnce(Self) -> ModuleResult + Send + 'static,
    ) -> Result<()> {
        self.backend.spawn_task(self.clone(), name, Box::new(work))
    }

    /// Offers a function for others to call, by the name of this worker and its own.
    ///
    /// It can be called while the worker is Running, by many at a time: here on the caller's
    /// thread, in a hosted module on one of a pool, never on the module's own. A panic in it is
    /// counted and answered to the caller, and the worker lives on; so is an error, with the
    /// category that a callback's would have. Payload and reply may have 512 KiB at most. When the
    /// worker stops, calls in flight are waited for before `stop()`, and new ones are refused.
    ///
    /// `name` has 1 to 128 bytes: a letter or a digit, then letters, digits, `.`, `_`, `/` and `-`.
    /// It is published as an endpoint too.
    ///
    /// # Errors
    /// The name breaks that rule or was exported before, 256 functions are exported already, or the
    /// stop has begun.
    pub fn export(
        &self,
        name: &str,
        function: impl Fn(&[u8]) -> ModuleResult<Vec<u8>> + Send + Sync + 'static,
    ) -> Result<()> {
        self.backend.export(name, Box::new(move |_, payload| function(payload)))
    }

    /// As [`export`](Self::export), with JSON on both ways. A payload that does not fit `Req` is
    /// answered with `refused`, naming the field; an empty one reads as `null`.
    ///
    /// # Errors
    /// As there.
    pub fn export_json<Req: DeserializeOwned, Resp: Serialize>(
        &self,
        name: &str,
        function: impl Fn(Req) -> ModuleResult<Resp> + Send + Sync + 'static,
    ) -> Result<()> {
        self.export(name, move |payload| {
            Ok(serde_json::to_vec(&function(read_request(payload)?)?)?)
        })
    }

    /// Answers calls of names that are not exported. What it does not know either it answers with
    /// an error of category `unknown_function`. Does nothing once the stop has begun.
    #[cfg_attr(
        not(any(test, feature = "plugins")),
        expect(dead_code, reason = "for plugins alone")
    )]
    pub(crate) fn export_rest(
        &self,
        function: impl Fn(&str, &[u8]) -> ModuleResult<Vec<u8>> + Send + Sync + 'static,
    ) {
        self.backend.export_rest(Box::new(function));
    }

    /// Says where something the module offers can be reached: an address actually bound, so that
    /// port 0 works. A later endpoint of the same name replaces the earlier one.
    pub fn publish(&self, endpoint: EndpointInfo) {
        self.backend.publish(endpoint);
    }

    /// The service died inside: the worker fails with this error, and the restart policy decides.
    pub fn fail(&self, error: impl Into<ModuleError>) {
        self.backend.fail(Failure::from_module_error(self.worker_id(), error.into().as_ref()));
    }

    /// As `fail`, for what is known as plain data already.
    #[cfg_attr(not(feature = "plugins"), expect(dead_code, reason = "for plugins alone"))]
    pub(crate) fn fail_with(&self, failure: Failure) {
        self.backend.fail(failure);
    }

    /// The work is done: the worker stops and counts as completed.
    pub fn complete(&self) {
        self.backend.complete();
    }

    /// Makes the calling thread, started by somebody else (an async runtime, a C library), one of
    /// this worker's: its log lines carry the worker's id, and a panic on it is the worker's crash.
    /// The thread is not joined on stop.
    pub fn adopt_thread(&self) {
        self.backend.adopt_thread();
    }
}

impl fmt::Debug for ModuleContext {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ModuleContext({}#{})", self.worker_id(), self.incarnation())
    }
}
