//! A module under test with a window: what is to be seen is shown when its health is asked for,
//! since that is when the runner lets anybody in.

use crossbeam_channel::Receiver;

use crate::module::{Health, ModuleConfig, ModuleContext, ModuleInfo, ModuleResult, WorkerModule};

/// What a probe is for.
pub(super) enum Ask<M> {
    /// The module's health.
    Health,
    /// A look at the module.
    Look(Box<dyn FnOnce(&M) + Send>),
}

pub(super) struct Watched<M> {
    module: M,
    /// One for each probe, in their order.
    asked: Receiver<Ask<M>>,
}

impl<M> Watched<M> {
    pub(super) fn new(module: M, asked: Receiver<Ask<M>>) -> Self {
        Self { module, asked }
    }
}

impl<M: WorkerModule> WorkerModule for Watched<M> {
    fn initialize(&mut self, ctx: &ModuleContext, config: &ModuleConfig) -> ModuleResult {
        self.module.initialize(ctx, config)
    }

    fn start(&mut self, ctx: &ModuleContext) -> ModuleResult {
        self.module.start(ctx)
    }

    fn stop(&mut self, ctx: &ModuleContext) -> ModuleResult {
        self.module.stop(ctx)
    }

    fn is_healthy(&self) -> bool {
        self.module.is_healthy()
    }

    fn health(&self) -> Health {
        match self.asked.try_recv() {
            Ok(Ask::Look(look)) => {
                look(&self.module);
                Health::healthy()
            }
            Ok(Ask::Health) | Err(_) => self.module.health(),
        }
    }

    fn info(&self) -> ModuleInfo {
        self.module.info()
    }
}
