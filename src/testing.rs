//! For authors of modules: a module's life without a master, on the runner that a master uses, so
//! that a unit test sees what a deployment would.

#[cfg(test)]
mod tests;
mod told;
mod watched;

use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use crossbeam_channel::{Sender, bounded, unbounded};
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::error::{Error, ErrorCategory, Failure, Result};
use crate::host::identity::next_realm;
use crate::host::panics::guarded;
use crate::host::runner::{ModuleRunner, Setting};
use crate::host::{Launch, ModuleSource, Order, Reporter};
use crate::module::{
    EndpointInfo, Health, ModuleFactory, ModuleRegistry, WorkerModule, read_reply, write_request,
};
use crate::worker::{Exit, WorkerConfig, WorkerId};
use told::{Seen, Told};
use watched::{Ask, Watched};

/// What the module is called between harness and runner.
const MODULE: &str = "module";
/// How long each step may take unless the test says otherwise.
const TIMEOUT: Duration = Duration::from_secs(10);

/// Runs a module for a test: its callbacks on a thread of their own and behind the same guards as
/// in a deployment, its threads, endpoints and functions real.
///
/// ```
/// use hsu_master::testing::ModuleHarness;
/// # use hsu_master::{ModuleConfig, ModuleContext, ModuleInfo, ModuleResult, WorkerModule};
/// # #[derive(Default)]
/// # struct Adder { base: i64 }
/// # impl WorkerModule for Adder {
/// #     fn initialize(&mut self, _: &ModuleContext, config: &ModuleConfig) -> ModuleResult {
/// #         self.base = config.as_json()["base"].as_i64().ok_or("no base")?;
/// #         Ok(())
/// #     }
/// #     fn start(&mut self, ctx: &ModuleContext) -> ModuleResult {
/// #         let base = self.base;
/// #         Ok(ctx.export_json("add", move |n: i64| Ok(base + n))?)
/// #     }
/// #     fn info(&self) -> ModuleInfo {
/// #         ModuleInfo::new("adder", "1.0.0")
/// #     }
/// # }
///
/// # fn main() -> hsu_master::Result<()> {
/// let config = serde_json::json!({ "base": 40 });
/// let adder = ModuleHarness::new(Adder::default).config(config).start()?;
/// assert!(adder.health()?.is_healthy());
/// assert_eq!(adder.call_json::<i64>("add", &2)?, 42);
/// assert_eq!(adder.inspect(|adder| adder.base)?, 40);
/// adder.stop()?;
/// # Ok(())
/// # }
/// ```
pub struct ModuleHarness<M> {
    factory: Arc<dyn Fn() -> M + Send + Sync>,
    worker: String,
    config: serde_json::Value,
    timeout: Duration,
    lives: AtomicU64,
}

impl<M: WorkerModule + 'static> ModuleHarness<M> {
    /// A harness for modules that `factory` makes.
    pub fn new(factory: impl Fn() -> M + Send + Sync + 'static) -> Self {
        Self {
            factory: Arc::new(factory),
            worker: "test".to_owned(),
            config: serde_json::Value::Object(serde_json::Map::new()),
            timeout: TIMEOUT,
            lives: AtomicU64::new(0),
        }
    }

    /// The worker's id, `test` by default.
    #[must_use]
    pub fn worker_id(mut self, id: impl Into<String>) -> Self {
        self.worker = id.into();
        self
    }

    /// What `initialize` is handed; an empty map by default, as in a file.
    #[must_use]
    pub fn config(mut self, config: serde_json::Value) -> Self {
        self.config = config;
        self
    }

    /// How long each step may take: a callback, the stop, and whatever else is waited for. Default
    /// 10 s.
    #[must_use]
    pub fn timeout(mut self, timeout: Duration) -> Self {
        self.timeout = timeout;
        self
    }

    /// Makes a module and initializes it, without starting it.
    ///
    /// # Errors
    /// What the factory or `initialize` failed with, a panic included; `timeout`; the worker's id
    /// cannot be one.
    pub fn initialize(&self) -> Result<Incarnation<M>> {
        let incarnation = self.launch()?;
        incarnation.wait("initialize", |told| told.launched.then_some(()))?;
        Ok(incarnation)
    }

    /// Makes a module, initializes and starts it. Each start is the next incarnation.
    ///
    /// # Errors
    /// As [`initialize`](Self::initialize), and what `start` failed with.
    pub fn start(&self) -> Result<Incarnation<M>> {
        let incarnation = self.initialize()?;
        incarnation.start()?;
        Ok(incarnation)
    }

    fn launch(&self) -> Result<Incarnation<M>> {
        let worker = WorkerId::new(&self.worker)?.to_string();
        let (asks, asked) = unbounded();
        let factory = Arc::clone(&self.factory);
        let watched = move || Watched::new(factory(), asked.clone());
        let setting = Setting {
            registry: ModuleRegistry::new().module(MODULE, watched),
            realm: next_realm(),
            stack_size: WorkerConfig::native(&worker, MODULE).stack_size,
            panic_hook: true,
            contained: false,
            prober: None,
        };
        let told = Arc::<Told>::default();
        let hearing = Arc::clone(&told);
        let incarnation = Incarnation {
            runner: Mutex::new(ModuleRunner::new(setting)),
            report: Arc::new(move |report| hearing.hear(report)),
            told,
            asks,
            probes: AtomicU64::new(0),
            timeout: self.timeout,
            worker: worker.clone(),
        };
        incarnation.order(Order::Launch(Box::new(Launch {
            worker,
            incarnation: self.lives.fetch_add(1, Ordering::Relaxed) + 1,
            module: ModuleSource::Native(MODULE.to_owned()),
            config: self.config.clone(),
        })));
        Ok(incarnation)
    }
}

impl ModuleHarness<Box<dyn WorkerModule>> {
    /// A harness for what a factory of another kind makes, such as
    /// [`configured`](crate::configured).
    pub fn of(factory: impl ModuleFactory) -> Self {
        Self::new(move || factory.create())
    }
}

impl<M> fmt::Debug for ModuleHarness<M> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ModuleHarness").field("worker", &self.worker).finish_non_exhaustive()
    }
}

/// One life of a module under test.
///
/// A failure that nothing was waiting for (a thread's panic, say) is what the next step fails with,
/// or the stop: no test passes over it. Dropping it stops the module.
pub struct Incarnation<M> {
    worker: String,
    runner: Mutex<ModuleRunner>,
    report: Reporter,
    told: Arc<Told>,
    asks: Sender<Ask<M>>,
    probes: AtomicU64,
    timeout: Duration,
}

impl<M> Incarnation<M> {
    /// Starts a module that was only initialized.
    ///
    /// # Errors
    /// What `start` failed with, a panic included; `timeout`.
    pub fn start(&self) -> Result<()> {
        self.order(Order::Start);
        self.wait("start", |told| told.started.then_some(()))
    }

    /// Asks the module for its health, on its own thread.
    ///
    /// # Errors
    /// It panicked, has failed before, or does not answer in time. One that has panicked in a
    /// callback is not asked any more.
    pub fn health(&self) -> Result<Health> {
        self.probe(Ask::Health)
    }

    /// Looks inside: runs `look` on the module's own thread and returns what it returns.
    ///
    /// # Errors
    /// As [`health`](Self::health); of category `panic` when `look` panicked, which the module
    /// survives.
    pub fn inspect<R: Send + 'static>(
        &self,
        look: impl FnOnce(&M) -> R + Send + 'static,
    ) -> Result<R> {
        let (tell, seen) = bounded(1);
        let look = move |module: &M| {
            let _ = tell.send(guarded("the look inside", || look(module)));
        };
        self.probe(Ask::Look(Box::new(look)))?;
        let gone = || Failure::new(ErrorCategory::NotRunning, "it was not there to look into");
        let seen = seen.try_recv().unwrap_or_else(|_| Err(gone()));
        seen.map_err(|failure| self.error(&failure))
    }

    /// Calls an exported function, on this thread.
    ///
    /// # Errors
    /// As those of a [`Function`](crate::Function) of a running worker; the module has failed
    /// before.
    pub fn call(&self, function: &str, payload: &[u8]) -> Result<Vec<u8>> {
        let functions = self.runner().functions();
        let ready = self.told.seen().check_started();
        let reply = ready.and_then(|()| match functions {
            Some(functions) => functions.call(function, payload),
            None => Err(told::not_started()),
        });
        reply.map_err(|failure| self.error(&failure))
    }

    /// As [`call`](Self::call), with JSON both ways.
    ///
    /// # Errors
    /// As there; the reply is no `Resp`.
    pub fn call_json<Resp: DeserializeOwned>(
        &self,
        function: &str,
        request: &impl Serialize,
    ) -> Result<Resp> {
        let named = |error: Error| error.of_worker(&self.worker);
        let payload = write_request(request).map_err(named)?;
        read_reply(&self.call(function, &payload)?).map_err(named)
    }

    /// What the module has published so far, exported functions included.
    pub fn endpoints(&self) -> Vec<EndpointInfo> {
        self.told.seen().endpoints.clone()
    }

    /// Waits until the module has published an endpoint.
    ///
    /// # Errors
    /// `timeout`; the module has failed.
    pub fn wait_for_endpoint(&self, name: &str) -> Result<EndpointInfo> {
        self.wait("publish it", |told| {
            told.endpoints.iter().find(|endpoint| endpoint.name == name).cloned()
        })
    }

    /// Waits until the module says that its work is done.
    ///
    /// # Errors
    /// `timeout`; the module has failed.
    pub fn completed(&self) -> Result<()> {
        self.wait("complete", |told| told.completed.then_some(()))
    }

    /// Waits until the module fails by itself, and takes the failure: later steps do not fail with
    /// it.
    ///
    /// # Errors
    /// `timeout`.
    pub fn failure(&self) -> Result<Failure> {
        self.wait("fail", |told| told.failure.take())
    }

    /// Waits until a task of the module (`spawn_task`) fails, and takes the failure.
    ///
    /// # Errors
    /// `timeout`; the module itself has failed.
    pub fn task_failure(&self) -> Result<Failure> {
        self.wait("fail in a task", |told| {
            (!told.task_failures.is_empty()).then(|| told.task_failures.remove(0))
        })
    }

    /// Stops the module as a master does, and waits until its threads are joined and it is dropped.
    ///
    /// # Errors
    /// What it failed with before, unless that was taken; what `stop` or the drop failed with;
    /// `stuck` when it does not end in time.
    pub fn stop(self) -> Result<()> {
        let exit = self.end().ok_or_else(|| {
            let message = format!("it did not end within {:?}", self.timeout);
            Error::new(ErrorCategory::Stuck, message).of_worker(&self.worker)
        })?;
        let unheard = self.told.seen().unheard();
        let failure = match (unheard, exit) {
            (Some(failure), _) | (None, Exit::Failed(failure)) => failure,
            (
                None,
                Exit::Returned | Exit::Code(_) | Exit::Signal { .. } | Exit::Unknown | Exit::LetGo,
            ) => {
                return Ok(());
            }
        };
        Err(self.error(&failure))
    }

    /// Asks it to end. `None`: it does not, in time.
    fn end(&self) -> Option<Exit> {
        self.told.seen().ending = true;
        self.order(Order::Ask { patience: self.timeout });
        self.told.wait(self.timeout, |told| told.gone.clone())
    }

    fn probe(&self, ask: Ask<M>) -> Result<Health> {
        let probe = self.probes.fetch_add(1, Ordering::Relaxed);
        {
            // One lock for both, so that each ask meets its own probe.
            let mut runner = self.runner();
            let _ = self.asks.send(ask);
            runner.order(Order::Probe { probe }, &self.report);
        }
        self.wait("answer", |told| {
            let at = told.probed.iter().position(|(known, _)| *known == probe)?;
            Some(told.probed.remove(at).1)
        })
    }

    /// Waits until `done` finds what it looks for, or the module has failed.
    fn wait<T>(&self, what: &str, mut done: impl FnMut(&mut Seen) -> Option<T>) -> Result<T> {
        let found = self.told.wait(self.timeout, |told| match done(told) {
            Some(found) => Some(Ok(found)),
            None => told.check().err().map(Err),
        });
        let late = || {
            let message = format!("it did not {what} within {:?}", self.timeout);
            Err(Failure::new(ErrorCategory::Timeout, message))
        };
        found.unwrap_or_else(late).map_err(|failure| self.error(&failure))
    }

    fn order(&self, order: Order) {
        self.runner().order(order, &self.report);
    }

    fn runner(&self) -> MutexGuard<'_, ModuleRunner> {
        self.runner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn error(&self, failure: &Failure) -> Error {
        Error::of_failure(&self.worker, failure)
    }
}

impl<M> Drop for Incarnation<M> {
    fn drop(&mut self) {
        // Who has waited for the end in vain need not wait again.
        let ending = self.told.seen().ending;
        if !ending {
            let _ = self.end();
        }
    }
}

impl<M> fmt::Debug for Incarnation<M> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Incarnation").field("worker", &self.worker).finish_non_exhaustive()
    }
}
