//! The module runner: one incarnation of a module on its own thread (an apartment), behind
//! plain-data orders and reports. The same runner serves a thread of the master and, over a codec,
//! a child process.

mod backend;
pub(crate) mod functions;
mod orders;
#[cfg(test)]
mod tests;

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Instant;

use super::identity;
use super::panics::{self, guarded};
use super::threads;
use super::{Launch, ModuleSource, Order, Report, Reporter, plugin};
use crate::error::{ErrorCategory, Failure, cut};
use crate::module::{
    Health, ModuleConfig, ModuleContext, ModuleFactory, ModuleInfo, ModuleRegistry, ModuleResult,
    WorkerModule,
};
use crate::worker::Exit;
pub(super) use backend::Backend;
use functions::Functions;
pub(super) use functions::check_call;
use orders::Orders;

/// Takes the orders for one incarnation of a module.
///
/// No order blocks who gives it. Dropping the runner asks the module to end.
pub(crate) struct ModuleRunner {
    setting: Setting,
    apartment: Option<Apartment>,
}

/// Where modules live: the same for all runners of a master.
#[derive(Clone)]
pub(crate) struct Setting {
    /// Where instances come from.
    pub(crate) registry: ModuleRegistry,
    /// Which master this is: see `identity`.
    pub(crate) realm: u64,
    /// The stack of each of the module's threads, in bytes.
    pub(crate) stack_size: usize,
    /// Install the process's panic hook, so that failures know their place.
    pub(crate) panic_hook: bool,
    /// The program that is run to try plugins before they are loaded here.
    pub(crate) prober: Option<PathBuf>,
    /// The process is this one module's, so that nobody else is hurt when a panic ends it.
    pub(crate) contained: bool,
}

struct Apartment {
    backend: Arc<Backend>,
    orders: Arc<Orders>,
}

impl ModuleRunner {
    /// A runner without an apartment: `Order::Launch` opens it.
    pub(crate) fn new(setting: Setting) -> Self {
        Self { setting, apartment: None }
    }

    /// Carries out an order, or hands it to the apartment. `report` is where an incarnation
    /// launched by this order reports.
    pub(crate) fn order(&mut self, order: Order, report: &Reporter) {
        match (order, &self.apartment) {
            (Order::Launch(launch), None) => {
                self.apartment = self.open(*launch, report);
            }
            (Order::Ask { patience }, Some(apartment)) => {
                apartment.backend.fire(Instant::now().checked_add(patience));
                apartment.orders.give(Order::Ask { patience });
            }
            (Order::Force { patience }, Some(apartment)) => {
                apartment.backend.fire(Instant::now().checked_add(patience));
                apartment.orders.give(Order::Force { patience });
            }
            (order @ (Order::Start | Order::Probe { .. } | Order::Info), Some(apartment)) => {
                apartment.orders.give(order);
            }
            // A thread cannot be ended against its will; being forgotten is nothing it could hear.
            (Order::Abandon | Order::Launch(_), Some(_)) => {}
            (_, None) => {}
        }
    }

    /// What the incarnation exports, once it was launched.
    pub(crate) fn functions(&self) -> Option<Arc<Functions>> {
        self.apartment.as_ref().map(|apartment| apartment.backend.functions())
    }

    fn open(&self, launch: Launch, report: &Reporter) -> Option<Apartment> {
        let refuse = |failure: Failure| {
            report(Report::Gone(Exit::Failed(failure)));
            None
        };
        if !panics::CAN_CONTAIN && !self.setting.contained {
            return refuse(uncontained());
        }
        let source = match &launch.module {
            ModuleSource::Native(name) => match self.setting.registry.get(name) {
                Some(factory) => Source::Native(factory),
                None => return refuse(unknown_module(&self.setting.registry, name)),
            },
            ModuleSource::Plugin { path, entry_point } => Source::Plugin {
                path: path.clone(),
                entry_point: entry_point.clone(),
                prober: self.setting.prober.clone(),
            },
        };
        if self.setting.panic_hook {
            panics::install_hook();
        }
        #[cfg(target_os = "linux")]
        super::reaper::others_run();
        let backend = Arc::new(Backend::new(&launch, &self.setting, Arc::clone(report)));
        let orders = Arc::<Orders>::default();
        let given = Arc::clone(&orders);
        let name = format!("{}#{}", launch.worker, launch.incarnation);
        // Boxed, since what a thread begins with is copied through several frames of its stack,
        // which keeps every page that was ever used.
        let life = Box::new(Life { backend: Arc::clone(&backend), source });
        let config = launch.config;
        let (called, told) = (name.clone(), Arc::clone(report));
        let work = move || {
            let lived = threads::ours(&called, || life.run(&called, config, &given));
            given.leave();
            if let Err(fault) = lived {
                told(Report::Gone(Exit::Failed(fault)));
            }
        };
        match threads::spawn(&name, self.setting.stack_size, work) {
            Ok(_) => Some(Apartment { backend, orders }),
            Err(error) => refuse(Failure::new(
                ErrorCategory::ResourceLimit,
                format!("cannot start a thread for the module: {error}"),
            )),
        }
    }
}

impl Drop for ModuleRunner {
    fn drop(&mut self) {
        if let Some(apartment) = &self.apartment {
            // First: what a stop wakes may fail, and the apartment hears of its end all the same.
            apartment.orders.close();
            apartment.backend.fire(None);
        }
    }
}

/// Why modules cannot run in a program whose panics abort.
pub(crate) fn uncontained() -> Failure {
    let message = "this program is built with panic = \"abort\", so a module's panic would end the \
                   master: build it with panic = \"unwind\"";
    Failure::new(ErrorCategory::Configuration, message).permanent()
}

/// A module that nobody registered.
pub(crate) fn unknown_module(registry: &ModuleRegistry, name: &str) -> Failure {
    let known: Vec<_> = registry.names().collect();
    let known = match known.as_slice() {
        [] => "none is registered".to_owned(),
        names => format!("registered are {}", names.join(", ")),
    };
    let message = format!("no native module is called {name:?}; {known}");
    Failure::new(ErrorCategory::Configuration, message).permanent()
}

/// One incarnation, as its own thread sees it.
pub(super) struct Life {
    pub(super) backend: Arc<Backend>,
    pub(super) source: Source,
}

/// Where the instance comes from.
pub(super) enum Source {
    Native(Arc<dyn ModuleFactory>),
    Plugin { path: PathBuf, entry_point: String, prober: Option<PathBuf> },
}

impl Source {
    /// A fresh instance. A library is looked at, tried and loaded first, which may take a while.
    fn create(&self) -> Result<Box<dyn WorkerModule>, Broken> {
        match self {
            Self::Native(factory) => {
                guarded("the factory", || factory.create()).map_err(Broken::Panicked)
            }
            Self::Plugin { path, entry_point, prober } => {
                plugin::instance(path, entry_point, prober.as_deref()).map_err(Broken::Returned)
            }
        }
    }
}

/// The instance and how far it came.
#[derive(Default)]
pub(super) struct Instance {
    module: Option<Box<dyn WorkerModule>>,
    started: bool,
    panicked: bool,
}

impl Life {
    fn run(&self, name: &str, config: serde_json::Value, orders: &Orders) {
        identity::assume(self.backend.identity());
        let ctx = ModuleContext::new(self.backend.clone());
        let mut instance = Instance::default();
        // The module's own panics are caught where they happen: these are ours.
        let lived = threads::ours(name, || self.live(&mut instance, &ctx, config, orders));
        if let Err(fault) = lived {
            self.backend.report(Report::Failed(fault));
            // It is to be ended as any that has failed.
            while orders.take().is_some_and(|order| !is_end(&order)) {}
        }
        self.end(name, instance, &ctx);
    }

    /// From its making until it is to end. The steps are not inlined: each has a frame that goes
    /// when it is done. In one frame they would all have room for ever, which is a page more for
    /// each module that idles.
    fn live(
        &self,
        instance: &mut Instance,
        ctx: &ModuleContext,
        config: serde_json::Value,
        orders: &Orders,
    ) {
        self.launch(instance, ctx, config);
        // Without a master there is nobody to live for.
        while let Some(order) = orders.take() {
            match order {
                Order::Start => self.start(instance, ctx),
                Order::Probe { probe } => self.probe(instance, probe),
                Order::Info => self.inform(instance),
                Order::Ask { .. } | Order::Force { .. } => return,
                Order::Launch(_) | Order::Abandon => {}
            }
            threads::fail_point("module");
        }
    }

    #[inline(never)]
    fn launch(&self, instance: &mut Instance, ctx: &ModuleContext, config: serde_json::Value) {
        let created = self.create(instance);
        match created.and_then(|()| self.initialize(instance, ctx, config)) {
            Ok(()) => self.backend.report(Report::Launched),
            Err(failure) => self.backend.report(Report::Failed(failure)),
        }
    }

    #[inline(never)]
    fn end(&self, name: &str, mut instance: Instance, ctx: &ModuleContext) {
        let ended = threads::ours(name, || self.wind_down(&mut instance, ctx));
        // There may be something left of it if that broke off.
        let dropped = guarded("drop", move || drop(instance));
        let ended = ended.and_then(|ended| ended).and(dropped);
        self.backend.report(Report::Gone(ended.map_or_else(Exit::Failed, |()| Exit::Returned)));
    }

    pub(super) fn create(&self, instance: &mut Instance) -> Result<(), Failure> {
        let made = instance.note(self.source.create())?;
        instance.module = Some(made);
        Ok(())
    }

    #[inline(never)]
    pub(super) fn initialize(
        &self,
        instance: &mut Instance,
        ctx: &ModuleContext,
        config: serde_json::Value,
    ) -> Result<(), Failure> {
        let config = ModuleConfig::new(ctx.worker_id(), config);
        let module = instance.usable().ok_or_else(nothing_usable)?;
        let initialized = self.call("initialize", || module.initialize(ctx, &config));
        instance.note(initialized)
    }

    #[inline(never)]
    fn start(&self, instance: &mut Instance, ctx: &ModuleContext) {
        match self.try_start(instance, ctx).and_then(|()| self.info(instance)) {
            Ok(info) => {
                self.backend.declare(info.endpoints);
                self.backend.report(Report::Started { pid: None });
            }
            Err(failure) => self.backend.report(Report::Failed(failure)),
        }
    }

    /// The callback alone: a plugin's host asks for the info itself.
    pub(super) fn try_start(
        &self,
        instance: &mut Instance,
        ctx: &ModuleContext,
    ) -> Result<(), Failure> {
        let module = instance.usable().ok_or_else(nothing_usable)?;
        let started = self.call("start", || module.start(ctx));
        instance.note(started)?;
        instance.started = true;
        Ok(())
    }

    #[inline(never)]
    fn probe(&self, instance: &mut Instance, probe: u64) {
        // A module that failed is about to be ended; its health is no news.
        if instance.usable().is_none() {
            return;
        }
        match self.health(instance) {
            Ok(health) => {
                let reason = cut(health.reason().unwrap_or_default().to_owned());
                let healthy = health.is_healthy();
                self.backend.report(Report::Probed { probe, healthy, reason });
            }
            Err(failure) => self.backend.report(Report::Failed(failure)),
        }
    }

    pub(super) fn health(&self, instance: &mut Instance) -> Result<Health, Failure> {
        let module = instance.usable().ok_or_else(nothing_usable)?;
        let health = guarded("health", || module.health()).map_err(Broken::Panicked);
        instance.note(health)
    }

    #[inline(never)]
    fn inform(&self, instance: &mut Instance) {
        if instance.usable().is_none() {
            return;
        }
        match self.info(instance) {
            Ok(info) => self.backend.report(Report::Informed(info.into())),
            Err(failure) => self.backend.report(Report::Failed(failure)),
        }
    }

    pub(super) fn info(&self, instance: &mut Instance) -> Result<ModuleInfo, Failure> {
        let module = instance.usable().ok_or_else(nothing_usable)?;
        let info = guarded("info", || module.info()).map_err(Broken::Panicked);
        instance.note(info)
    }

    /// Let calls finish, stop, join, drop: whatever breaks on the way is remembered, and the way
    /// goes on.
    pub(super) fn wind_down(
        &self,
        instance: &mut Instance,
        ctx: &ModuleContext,
    ) -> Result<(), Failure> {
        threads::fail_point("module-end");
        let stopped = self.stop(instance, ctx);
        let module = instance.module.take();
        let dropped = guarded("drop", move || drop(module));
        stopped.and(dropped)
    }

    /// The token, the end of the calls, `stop()` where there is something to be stopped, and the
    /// end of the threads.
    pub(super) fn stop(&self, instance: &mut Instance, ctx: &ModuleContext) -> Result<(), Failure> {
        self.backend.fire(None);
        self.backend.run_late_actions();
        let closed = self.backend.functions().close();
        let mut result = Ok(());
        if std::mem::take(&mut instance.started)
            && let Some(module) = instance.usable()
        {
            let stopped = self.call("stop", || module.stop(ctx));
            result = instance.note(stopped);
        }
        self.backend.join_threads();
        // Of those for which there was a thread, but not to the end.
        self.backend.run_late_actions();
        result.and(closed)
    }

    /// Calls a callback that may fail in two ways.
    fn call<T>(&self, name: &str, callback: impl FnOnce() -> ModuleResult<T>) -> Result<T, Broken> {
        match guarded(name, callback) {
            Ok(Ok(value)) => Ok(value),
            Ok(Err(error)) => {
                // Reading an error runs the module's code too, and so does dropping it.
                let read = guarded(name, move || {
                    Failure::from_module_error(self.backend.worker(), error.as_ref())
                });
                Err(read.map_or_else(Broken::Panicked, Broken::Returned))
            }
            Err(failure) => Err(Broken::Panicked(failure)),
        }
    }
}

/// True for an order after which there are no more.
fn is_end(order: &Order) -> bool {
    match order {
        Order::Ask { .. } | Order::Force { .. } => true,
        Order::Launch(_) | Order::Start | Order::Probe { .. } | Order::Info | Order::Abandon => {
            false
        }
    }
}

/// Nothing was made, or it has panicked: there is nothing to be called.
fn nothing_usable() -> Failure {
    Failure::new(ErrorCategory::Refused, "nothing was initialized")
}

/// How a callback broke.
enum Broken {
    Returned(Failure),
    Panicked(Failure),
}

impl Instance {
    /// Remembers a panic: the instance must then not be used again, except to drop it.
    fn note<T>(&mut self, result: Result<T, Broken>) -> Result<T, Failure> {
        result.map_err(|broken| match broken {
            Broken::Returned(failure) => failure,
            Broken::Panicked(failure) => {
                self.panicked = true;
                failure
            }
        })
    }

    /// The module, unless it is missing or has panicked.
    fn usable(&mut self) -> Option<&mut Box<dyn WorkerModule>> {
        self.module.as_mut().filter(|_| !self.panicked)
    }
}
