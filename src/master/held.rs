//! The configuration that holds. Its workers are the very ones that the loop has: a copy of each
//! would be a good part of what an idle worker takes.

use std::collections::BTreeMap;
use std::mem;
use std::sync::Arc;
use std::time::SystemTime;

use crate::runtime::Known;
use crate::settings::MasterConfig;
use crate::worker::WorkerConfig;

/// A configuration, and since when it holds.
pub(super) struct Held {
    /// Without its workers.
    master: MasterConfig,
    workers: Vec<Arc<WorkerConfig>>,
    since: SystemTime,
}

impl Held {
    /// Holds from now on.
    pub(super) fn new(mut master: MasterConfig) -> Self {
        let workers = mem::take(&mut master.workers).into_iter().map(Arc::new).collect();
        Self { master, workers, since: SystemTime::now() }
    }

    /// As `new`, for a master that knows these workers: those that are the same are shared.
    pub(super) fn sharing(mut master: MasterConfig, known: &[Known]) -> Self {
        let known: BTreeMap<&str, &Arc<WorkerConfig>> =
            known.iter().map(|known| (known.config.id.as_str(), &known.config)).collect();
        let shared = |worker: WorkerConfig| match known.get(worker.id.as_str()) {
            Some(known) if ***known == worker => Arc::clone(known),
            Some(_) | None => Arc::new(worker),
        };
        let workers = mem::take(&mut master.workers).into_iter().map(shared).collect();
        Self { master, workers, since: SystemTime::now() }
    }

    /// All of it, as a copy.
    pub(super) fn config(&self) -> MasterConfig {
        let workers = self.workers.iter().map(|worker| WorkerConfig::clone(worker)).collect();
        MasterConfig { workers, ..self.master.clone() }
    }

    pub(super) fn workers(&self) -> &[Arc<WorkerConfig>] {
        &self.workers
    }

    /// What stands for its text, and since when it holds.
    #[cfg(target_os = "linux")]
    pub(super) fn digest(&self) -> (Option<String>, SystemTime) {
        (self.master.digest.clone(), self.since)
    }

    /// Another one takes its place. What needs a new master is still as this one began with it.
    pub(super) fn replace(&mut self, other: Self) {
        let MasterConfig { name, state_dir, log_dir, .. } = mem::take(&mut self.master);
        let master = MasterConfig { name, state_dir, log_dir, ..other.master };
        *self = Self { master, workers: other.workers, since: SystemTime::now() };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reload_shares_the_workers_that_are_the_same() {
        let config = |path: &str| {
            let same = WorkerConfig::executable("same", "/bin/true");
            MasterConfig::new().worker(same).worker(WorkerConfig::executable("other", path))
        };
        let before = Held::new(config("/bin/true").name("n"));
        let known = |config: &Arc<WorkerConfig>| {
            let config = Arc::clone(config);
            Known { config, up: true, gone: false }
        };
        let known: Vec<_> = before.workers().iter().map(known).collect();
        let after = Held::sharing(config("/bin/false"), &known);
        let is_shared = |n: usize| Arc::ptr_eq(&before.workers()[n], &after.workers()[n]);
        assert_eq!([is_shared(0), is_shared(1)], [true, false]);
        let mut held = before;
        held.replace(after);
        assert_eq!(held.config(), config("/bin/false").name("n"));
    }
}
