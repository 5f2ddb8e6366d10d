//! A handle on one worker: the master's operations without repeating the name.

use std::time::Duration;

use super::{Function, Master};
use crate::error::Result;
use crate::worker::{WaitFor, WorkerDiagnostics, WorkerEndpoint};

/// The operations on one worker of a master. Stateless: it holds a name and nothing else.
#[derive(Clone, Debug)]
pub struct Worker<'m> {
    master: &'m Master,
    id: String,
}

impl<'m> Worker<'m> {
    pub(super) fn new(master: &'m Master, id: &str) -> Self {
        Self { master, id: id.to_owned() }
    }

    /// The worker's id.
    pub fn id(&self) -> &str {
        &self.id
    }

    /// See [`Master::start_worker`].
    ///
    /// # Errors
    /// As there.
    pub fn start(&self) -> Result<u64> {
        self.master.start_worker(&self.id)
    }

    /// See [`Master::stop_worker`].
    ///
    /// # Errors
    /// As there.
    pub fn stop(&self) -> Result<()> {
        self.master.stop_worker(&self.id)
    }

    /// See [`Master::restart_worker`].
    ///
    /// # Errors
    /// As there.
    pub fn restart(&self, force: bool) -> Result<u64> {
        self.master.restart_worker(&self.id, force)
    }

    /// See [`Master::wait_for`].
    ///
    /// # Errors
    /// As there.
    pub fn wait_for(&self, condition: WaitFor, timeout: Duration) -> Result<WorkerDiagnostics> {
        self.master.wait_for(&self.id, condition, timeout)
    }

    /// See [`Master::worker_diagnostics`].
    ///
    /// # Errors
    /// As there.
    pub fn diagnostics(&self) -> Result<WorkerDiagnostics> {
        self.master.worker_diagnostics(&self.id)
    }

    /// See [`Master::endpoint`].
    ///
    /// # Errors
    /// As there.
    pub fn endpoint(&self, name: &str) -> Result<WorkerEndpoint> {
        self.master.endpoint(&self.id, name)
    }

    /// See [`Master::call`].
    ///
    /// # Errors
    /// As there.
    pub fn call(&self, function: &str, payload: &[u8]) -> Result<Vec<u8>> {
        self.master.call(&self.id, function, payload)
    }

    /// See [`Master::function`].
    pub fn function(&self, function: &str) -> Function {
        self.master.function(&self.id, function)
    }
}
