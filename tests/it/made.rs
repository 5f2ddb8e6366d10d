//! A module made of what a test hands it: one closure for each callback.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use hsu_master::crossbeam_channel::{Receiver, Sender, unbounded};
use hsu_master::{
    Health, ModuleConfig, ModuleContext, ModuleFactory, ModuleInfo, ModuleResult, WorkerModule,
};

type WithContext = Arc<dyn Fn(&ModuleContext) -> ModuleResult + Send + Sync>;
type Alone = Arc<dyn Fn() + Send + Sync>;

/// What the module does in each callback; nothing where nothing is given.
#[derive(Clone, Default)]
pub(crate) struct Made {
    factory: Option<Alone>,
    initialize: Option<WithContext>,
    start: Option<WithContext>,
    stop: Option<WithContext>,
    health: Option<Arc<dyn Fn() -> Health + Send + Sync>>,
    info: Option<Alone>,
    dropped: Option<Alone>,
}

impl Made {
    pub(crate) fn new() -> Self {
        Self::default()
    }

    pub(crate) fn in_factory(mut self, act: impl Fn() + Send + Sync + 'static) -> Self {
        self.factory = Some(Arc::new(act));
        self
    }

    pub(crate) fn initialize(
        mut self,
        act: impl Fn(&ModuleContext) -> ModuleResult + Send + Sync + 'static,
    ) -> Self {
        self.initialize = Some(Arc::new(act));
        self
    }

    pub(crate) fn start(
        mut self,
        act: impl Fn(&ModuleContext) -> ModuleResult + Send + Sync + 'static,
    ) -> Self {
        self.start = Some(Arc::new(act));
        self
    }

    pub(crate) fn stop(
        mut self,
        act: impl Fn(&ModuleContext) -> ModuleResult + Send + Sync + 'static,
    ) -> Self {
        self.stop = Some(Arc::new(act));
        self
    }

    pub(crate) fn health(mut self, act: impl Fn() -> Health + Send + Sync + 'static) -> Self {
        self.health = Some(Arc::new(act));
        self
    }

    pub(crate) fn in_info(mut self, act: impl Fn() + Send + Sync + 'static) -> Self {
        self.info = Some(Arc::new(act));
        self
    }

    pub(crate) fn in_drop(mut self, act: impl Fn() + Send + Sync + 'static) -> Self {
        self.dropped = Some(Arc::new(act));
        self
    }

    /// The factory of such modules.
    pub(crate) fn made(self) -> impl ModuleFactory {
        move || {
            run(self.factory.as_ref());
            Instance(self.clone())
        }
    }
}

fn run(act: Option<&Alone>) {
    if let Some(act) = act {
        act();
    }
}

struct Instance(Made);

impl WorkerModule for Instance {
    fn initialize(&mut self, ctx: &ModuleContext, _config: &ModuleConfig) -> ModuleResult {
        self.0.initialize.as_ref().map_or(Ok(()), |act| act(ctx))
    }

    fn start(&mut self, ctx: &ModuleContext) -> ModuleResult {
        self.0.start.as_ref().map_or(Ok(()), |act| act(ctx))
    }

    fn stop(&mut self, ctx: &ModuleContext) -> ModuleResult {
        self.0.stop.as_ref().map_or(Ok(()), |act| act(ctx))
    }

    fn health(&self) -> Health {
        self.0.health.as_ref().map_or_else(Health::healthy, |act| act())
    }

    fn info(&self) -> ModuleInfo {
        run(self.0.info.as_ref());
        ModuleInfo::new("made", "1")
    }
}

impl Drop for Instance {
    fn drop(&mut self) {
        run(self.0.dropped.as_ref());
    }
}

/// Runs an action the first time it is asked to, and never again.
pub(crate) fn once(act: impl Fn() + Send + Sync + 'static) -> impl Fn() + Send + Sync + 'static {
    let times = AtomicU64::new(0);
    move || {
        if times.fetch_add(1, Ordering::SeqCst) == 0 {
            act();
        }
    }
}

/// A place to hang at: whoever passes waits until the other end is dropped.
pub(crate) fn hanging() -> (Sender<()>, impl Fn() + Clone + Send + Sync + 'static) {
    let (release, released) = unbounded::<()>();
    let hang = move || {
        let _ = released.recv();
    };
    (release, hang)
}

/// A slot for what modules need and is made after them, such as their master.
pub(crate) struct Later<T>(Arc<Mutex<Option<T>>>);

impl<T: Clone> Later<T> {
    pub(crate) fn new() -> Self {
        Self(Arc::default())
    }

    pub(crate) fn set(&self, value: T) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some(value);
    }

    pub(crate) fn get(&self) -> T {
        let value = self.0.lock().unwrap_or_else(PoisonError::into_inner).clone();
        value.expect("it was set before the worker started")
    }
}

impl<T> Clone for Later<T> {
    fn clone(&self) -> Self {
        Self(Arc::clone(&self.0))
    }
}

/// The next thing that a module told over a channel.
pub(crate) fn next<T>(told: &Receiver<T>) -> T {
    told.recv_timeout(crate::support::PATIENCE).expect("the module told nothing more")
}
