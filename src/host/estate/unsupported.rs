//! What a master leaves behind, where it runs no processes yet: nothing.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::sync::Arc;
use std::time::Duration;

use crate::host::roles::Program;
use crate::host::state::StateDir;
use crate::worker::{WorkerConfig, WorkerId};

/// No arrangements are made.
pub(crate) struct Estate(());

/// Nothing is taken over.
#[derive(Debug, Default)]
pub(crate) struct Inheritance {
    pub(crate) adoptions: Vec<Adoption>,
    pub(crate) past: BTreeMap<WorkerId, u64>,
    pub(crate) down: BTreeSet<WorkerId>,
    pub(crate) unclaimed: BTreeMap<WorkerId, Unclaimed>,
}

/// Nothing is left.
#[derive(Debug)]
pub(crate) enum Unclaimed {}

/// Nothing was left.
#[derive(Debug)]
pub(crate) struct Claimed {
    pub(crate) adoption: Option<Adoption>,
    pub(crate) ended: Option<u32>,
    pub(crate) down: bool,
}

impl Unclaimed {
    pub(crate) fn claim(
        self,
        _worker: &WorkerId,
        _config: &WorkerConfig,
        _patience: Duration,
    ) -> Claimed {
        match self {}
    }

    pub(crate) fn end(
        _unclaimed: impl IntoIterator<Item = (WorkerId, Self)>,
        _patience: Duration,
    ) -> Vec<WorkerId> {
        Vec::new()
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

    pub(crate) fn pid(&self) -> u32 {
        0
    }
}

impl Estate {
    pub(crate) fn open(
        _program: Option<Program>,
        _state: Option<Arc<StateDir>>,
        _workers: &[WorkerConfig],
        _keep_unknown: bool,
        _patience: Duration,
    ) -> io::Result<(Self, Inheritance)> {
        Ok((Self(()), Inheritance::default()))
    }

    pub(crate) fn lives(&self, _worker: &WorkerId, _incarnation: u64) {}

    pub(crate) fn wants(&self, _worker: &WorkerId, _up: bool) {}

    pub(crate) fn died(&self, _worker: &WorkerId, _pid: u32, _kept: bool) {}

    pub(crate) fn forget(&self, _worker: &WorkerId) {}

    pub(crate) fn close(&self, _orderly: bool) {}
}
