//! A function of a worker of another process's master: what [`Function`](crate::Function) is made
//! of there.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use super::line::Line;
use super::{millis, understood, wire};
use crate::error::{Error, ErrorCategory, Result};
use crate::host::protocol::payload;
use crate::host::runner::functions::check_size;
use crate::host::threads;
use crate::master::Callable;
use crate::runtime::{Origin, ReplySender};

/// The stack of the thread that waits for the answer to one call.
const STACK: usize = 128 << 10;
/// So many calls of one handle may be on their way without anybody waiting for them.
const MAX_ASIDE: usize = 64;

/// The way to a function over a master's socket.
pub(super) struct RemoteFunction {
    line: Arc<Line>,
    patience: Duration,
    worker: String,
    function: String,
    aside: Arc<AtomicUsize>,
}

impl RemoteFunction {
    pub(super) fn new(line: Arc<Line>, patience: Duration, worker: &str, function: &str) -> Self {
        let (worker, function) = (worker.to_owned(), function.to_owned());
        Self { line, patience, worker, function, aside: Arc::default() }
    }
}

impl Callable for RemoteFunction {
    fn worker(&self) -> &str {
        &self.worker
    }

    fn function(&self) -> &str {
        &self.function
    }

    fn origin(&self) -> Origin {
        Origin::elsewhere(&self.worker)
    }

    fn call(&self, bytes: &[u8], timeout: Duration) -> Result<Vec<u8>> {
        let named = |failure| Error::of_failure(&self.worker, &failure);
        check_size("payload", bytes).map_err(named)?;
        let params = wire::Call {
            worker: self.worker.clone(),
            function: self.function.clone(),
            payload_b64: payload::text(bytes),
            timeout_ms: Some(millis(timeout)),
        };
        let answer = self.line.ask_long("call", &params, Some(timeout), self.patience)?;
        let called: wire::Called = understood("call", &answer)?;
        payload::read(&called.payload_b64).map_err(Error::configuration)
    }

    fn call_nowait(self: Arc<Self>, payload: Vec<u8>, timeout: Duration, answer: ReplySender) {
        let busy = |message: String| {
            Err(Error::new(ErrorCategory::Refused, message).of_worker(&self.worker))
        };
        let counted = Counted(Arc::clone(&self.aside));
        if counted.0.fetch_add(1, Ordering::Relaxed) >= MAX_ASIDE {
            return answer.of_call(busy(format!("busy: {MAX_ASIDE} calls are on their way")));
        }
        let route = Arc::clone(&self);
        let work = move || {
            let called = threads::ours("call", || {
                threads::fail_point("call");
                route.call(&payload, timeout)
            });
            let outcome =
                called.unwrap_or_else(|fault| Err(Error::of_failure(&route.worker, &fault)));
            drop(counted);
            answer.of_call(outcome);
        };
        // Without a thread the sender is dropped, which answers the ticket.
        if let Err(error) = threads::spawn("call", STACK, work) {
            log::warn!("a call of {}.{} has no thread: {error}", self.worker, self.function);
        }
    }
}

/// One call that nobody waits for.
struct Counted(Arc<AtomicUsize>);

impl Drop for Counted {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}
