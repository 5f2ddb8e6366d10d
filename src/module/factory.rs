//! Where fresh module instances come from, and the registry that knows them by name.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use serde::de::DeserializeOwned;

use super::{Health, ModuleConfig, ModuleContext, ModuleInfo, ModuleResult, WorkerModule};

/// Makes instances of a module; any `Fn() -> impl WorkerModule` is one.
///
/// It is called on the worker's own thread, once for each start, and sometimes just to ask for the
/// version: it should be cheap and have no side effects.
pub trait ModuleFactory: Send + Sync + 'static {
    /// A fresh instance.
    fn create(&self) -> Box<dyn WorkerModule>;
}

impl<F, M> ModuleFactory for F
where
    F: Fn() -> M + Send + Sync + 'static,
    M: WorkerModule + 'static,
{
    fn create(&self) -> Box<dyn WorkerModule> {
        Box::new(self())
    }
}

/// The native modules of a program, by name. Cheap to clone; clones share the factories.
#[derive(Clone, Default)]
pub struct ModuleRegistry {
    factories: Arc<BTreeMap<String, Arc<dyn ModuleFactory>>>,
}

impl ModuleRegistry {
    /// An empty registry.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a module under a name; a later one of the same name replaces it.
    #[must_use]
    pub fn module(mut self, name: impl Into<String>, factory: impl ModuleFactory) -> Self {
        self.register_native_module_factory(name, factory);
        self
    }

    /// Adds a module under a name; a later one of the same name replaces it.
    pub fn register_native_module_factory(
        &mut self,
        name: impl Into<String>,
        factory: impl ModuleFactory,
    ) {
        Arc::make_mut(&mut self.factories).insert(name.into(), Arc::new(factory));
    }

    /// The names, in alphabetical order.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.factories.keys().map(String::as_str)
    }

    /// Adds all modules of another registry.
    pub(crate) fn extend(&mut self, other: &Self) {
        let others = other.factories.iter().map(|(name, factory)| (name.clone(), factory.clone()));
        Arc::make_mut(&mut self.factories).extend(others);
    }

    pub(crate) fn get(&self, name: &str) -> Option<Arc<dyn ModuleFactory>> {
        self.factories.get(name).cloned()
    }
}

impl fmt::Debug for ModuleRegistry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.factories.keys()).finish()
    }
}

/// A factory for modules that are built from their parsed configuration: `new` is called in
/// `initialize`, so that a rejected field or an error of `new` fails the start.
pub fn configured<C, M, N>(new: N) -> impl ModuleFactory
where
    C: DeserializeOwned + 'static,
    M: WorkerModule + 'static,
    N: Fn(C) -> ModuleResult<M> + Send + Sync + 'static,
{
    let new = Arc::new(new);
    move || {
        let new = Arc::clone(&new);
        Built { build: move |config: &ModuleConfig| new(config.parse()?), built: None }
    }
}

/// A module that *is* its parsed configuration: `.module("sweeper", from_config::<Sweeper>)`.
pub fn from_config<M: WorkerModule + DeserializeOwned + 'static>() -> impl WorkerModule {
    Built { build: |config: &ModuleConfig| Ok(config.parse::<M>()?), built: None }
}

/// A module that comes into being in `initialize`.
struct Built<B, M> {
    build: B,
    built: Option<M>,
}

impl<B, M> WorkerModule for Built<B, M>
where
    B: Fn(&ModuleConfig) -> ModuleResult<M>,
    M: WorkerModule,
{
    fn initialize(&mut self, ctx: &ModuleContext, config: &ModuleConfig) -> ModuleResult {
        let mut module = (self.build)(config)?;
        module.initialize(ctx, config)?;
        self.built = Some(module);
        Ok(())
    }

    fn start(&mut self, ctx: &ModuleContext) -> ModuleResult {
        match &mut self.built {
            Some(module) => module.start(ctx),
            None => Err("start was called before initialize".into()),
        }
    }

    fn stop(&mut self, ctx: &ModuleContext) -> ModuleResult {
        self.built.as_mut().map_or(Ok(()), |module| module.stop(ctx))
    }

    fn is_healthy(&self) -> bool {
        self.built.as_ref().is_some_and(WorkerModule::is_healthy)
    }

    fn health(&self) -> Health {
        match &self.built {
            Some(module) => module.health(),
            None => Health::unhealthy("not initialized"),
        }
    }

    fn info(&self) -> ModuleInfo {
        match &self.built {
            Some(module) => module.info(),
            // Without its configuration there is no instance to ask; the type's name is what is
            // known.
            None => {
                let name = std::any::type_name::<M>();
                ModuleInfo::new(name.rsplit("::").next().unwrap_or(name), "")
            }
        }
    }
}
