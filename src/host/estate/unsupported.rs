//! What a master leaves behind, where it runs no processes yet: nothing.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use crate::host::roles::Program;
use crate::host::state::{StateDir, StateNews};
use crate::worker::{WorkerConfig, WorkerId};

/// No arrangements are made.
pub(crate) struct Estate(());

/// Nothing is taken over.
#[derive(Debug, Default)]
pub(crate) struct Inheritance {
    pub(crate) adoptions: Vec<Adoption>,
    pub(crate) leftovers: Vec<Adoption>,
    pub(crate) past: BTreeMap<WorkerId, u64>,
    pub(crate) down: BTreeSet<WorkerId>,
    pub(crate) unclaimed: BTreeMap<WorkerId, Unclaimed>,
}

/// Nothing is left.
#[derive(Debug)]
pub(crate) enum Unclaimed {}

/// Nothing was left.
#[derive(Debug)]
pub(crate) enum Claimed {
    GoesOn(Adoption),
    Ends(Adoption),
}

impl Unclaimed {
    pub(crate) fn stays_down(&self, _config: &WorkerConfig) -> bool {
        match *self {}
    }

    pub(crate) fn claim(&mut self, _config: &WorkerConfig) -> Option<Claimed> {
        match *self {}
    }

    pub(crate) fn give_up(self) -> Option<Adoption> {
        match self {}
    }
}

/// There is none.
#[derive(Debug)]
pub(crate) struct Adoption {
    pub(crate) worker: WorkerId,
    pub(crate) outdated: bool,
}

impl Adoption {
    pub(crate) fn incarnation(&self) -> u64 {
        0
    }

    pub(crate) fn renumber(&mut self, _incarnation: u64) {}

    pub(crate) fn pid(&self) -> u32 {
        0
    }

    pub(crate) fn as_leftover(&self) -> WorkerConfig {
        WorkerConfig::executable(self.worker.as_str(), "unknown")
    }

    pub(crate) fn age(&self) -> Duration {
        Duration::ZERO
    }
}

impl Estate {
    pub(crate) fn open(
        _program: Option<Program>,
        _state: Option<Arc<StateDir>>,
        _workers: &[WorkerConfig],
        _keep_unknown: bool,
    ) -> io::Result<(Self, Inheritance)> {
        Ok((Self(()), Inheritance::default()))
    }

    pub(crate) fn on_trouble(&self, _listener: impl Fn(&Path, StateNews) + Send + Sync + 'static) {}

    pub(crate) fn lives(&self, _worker: &WorkerId, _incarnation: u64) {}

    pub(crate) fn wants(&self, _worker: &WorkerId, _up: bool) {}

    pub(crate) fn died(&self, _worker: &WorkerId, _pid: u32) {}

    pub(crate) fn forget(&self, _worker: &WorkerId) {}

    pub(crate) fn await_let_go(&self, _orderly: bool) {}

    pub(crate) fn close(&self, _orderly: bool) {}
}
