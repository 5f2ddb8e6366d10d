//! What can be asked of a master: states, endpoints, functions, modules and events. Nothing here
//! changes a worker.

use std::sync::Arc;
use std::time::Duration;

use crossbeam_channel::Receiver;

use crate::error::Result;
use crate::runtime::{Event, Input, Subscriber};
use crate::worker::{Exit, WaitFor, WorkerConfig, WorkerDiagnostics, WorkerEndpoint};

use super::{Function, KnownModule, Master, ModuleRuntime, Worker, modules};

impl Master {
    /// How the last incarnation of the main worker ended: the one with `main: true`, whose own end
    /// ends the master. `None`: there is no such worker, or none of its incarnations has ended.
    pub fn main_exit(&self) -> Option<Exit> {
        self.shared.handle.board.main_exit()
    }

    /// Waits until a worker is in a condition, at most `timeout`, and returns what is then known of
    /// it.
    ///
    /// # Errors
    /// The time is over, there is no such worker, or the master ended.
    pub fn wait_for(
        &self,
        worker: &str,
        condition: WaitFor,
        timeout: Duration,
    ) -> Result<WorkerDiagnostics> {
        self.refuse_deadlock(Some(worker))?;
        self.shared.handle.board.wait_for(worker, condition, timeout)
    }

    /// Everything known about a worker. Never waits for it.
    ///
    /// # Errors
    /// There is no such worker.
    pub fn worker_diagnostics(&self, worker: &str) -> Result<WorkerDiagnostics> {
        self.shared.handle.board.diagnostics(worker)
    }

    /// Everything known about all workers, in alphabetical order. Never waits for any.
    pub fn all_worker_diagnostics(&self) -> Vec<WorkerDiagnostics> {
        self.shared.handle.board.all_diagnostics()
    }

    /// Where one of a worker's endpoints is now. It moves with every incarnation.
    ///
    /// # Errors
    /// There is no such worker or endpoint, or the worker does not run.
    pub fn endpoint(&self, worker: &str, name: &str) -> Result<WorkerEndpoint> {
        self.shared.handle.board.endpoint(worker, name)
    }

    /// Calls a function that a worker exports, and waits for the reply. See [`Function`], which is
    /// cheaper for many calls and can do more.
    ///
    /// # Errors
    /// As [`Function::call_bytes`].
    pub fn call(&self, worker: &str, function: &str, payload: &[u8]) -> Result<Vec<u8>> {
        self.function(worker, function).call_bytes(payload)
    }

    /// A handle on a function of a worker: on whatever incarnation runs when it is called. Neither
    /// need exist yet.
    pub fn function(&self, worker: &str, function: &str) -> Function {
        Function::new(self.shared.handle.route(worker, function))
    }

    /// A handle with the operations on one worker. It is stateless: the worker need not exist yet.
    pub fn worker(&self, worker: &str) -> Worker<'_> {
        Worker::new(self, worker)
    }

    /// The modules that can be run: the native ones that are registered, in alphabetical order,
    /// then the plugins that are loaded in this process.
    ///
    /// Native modules are asked on this thread, each on an instance made for that.
    pub fn modules(&self) -> Vec<KnownModule> {
        modules::known(&self.shared.registry)
    }

    /// The libraries of plugins: to load them before they are needed, and to let go of them.
    pub fn module_runtime(&self) -> ModuleRuntime {
        ModuleRuntime::new(self.shared.prober.clone())
    }

    /// The workers of the configuration that holds, in its order.
    pub fn configured_workers(&self) -> Vec<WorkerConfig> {
        self.configuration().workers
    }

    /// Events as they happen, from now on. A reader that lags behind by more than 1,024 is told how
    /// many it missed; it never holds up the loop. The channel disconnects after the master's end.
    pub fn subscribe(&self) -> Receiver<Event> {
        self.subscribe_to(Subscriber::new(None))
    }

    /// As [`subscribe`](Self::subscribe), for programs that cannot wait on a channel: `wake` is
    /// called on the loop's thread at the beginning and after each event. It must be short and must
    /// not wait for the master; should it panic, the subscription ends.
    pub fn subscribe_with(&self, wake: impl Fn() + Send + Sync + 'static) -> Receiver<Event> {
        self.subscribe_to(Subscriber::new(Some(Arc::new(wake))))
    }

    /// Whether processes that are to end with the master do so even if it is killed.
    #[cfg(target_os = "linux")]
    pub(crate) fn has_guardian(&self) -> bool {
        self.shared.host != super::Host::Own(false)
    }

    pub(crate) fn subscribe_to(
        &self,
        (subscriber, receiver): (Subscriber, Receiver<Event>),
    ) -> Receiver<Event> {
        self.shared.handle.send(Input::Subscribe(subscriber));
        receiver
    }
}
