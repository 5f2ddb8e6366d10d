//! How much of the machine a process worker may have.

/// The limits of a process worker.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct LimitsConfig {
    /// Limits that the system itself holds the worker to.
    pub hard: HardLimits,
}

impl LimitsConfig {
    /// Only limits that the system holds a worker to.
    pub fn hard(hard: HardLimits) -> Self {
        Self { hard }
    }
}

/// Limits (`setrlimit`) that a process gets before its program runs, and that whatever it spawns
/// inherits. `None` leaves the master's own; [`UNLIMITED`](Self::UNLIMITED) is none at all.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct HardLimits {
    /// The address space of each process, in bytes.
    pub memory: Option<u64>,
    /// How many descriptors each process may have open.
    pub open_files: Option<u64>,
    /// How many processes and threads its user may have, on the whole machine. Linux does not hold
    /// root to it.
    pub processes: Option<u64>,
    /// The size of a core dump, in bytes.
    pub core: Option<u64>,
}

impl HardLimits {
    /// As much as there is.
    pub const UNLIMITED: u64 = u64::MAX;

    /// The address space of each process, in bytes.
    #[must_use]
    pub fn memory(mut self, bytes: u64) -> Self {
        self.memory = Some(bytes);
        self
    }

    /// How many descriptors each process may have open.
    #[must_use]
    pub fn open_files(mut self, count: u64) -> Self {
        self.open_files = Some(count);
        self
    }

    /// How many processes and threads its user may have, on the whole machine.
    #[must_use]
    pub fn processes(mut self, count: u64) -> Self {
        self.processes = Some(count);
        self
    }

    /// The size of a core dump, in bytes.
    #[must_use]
    pub fn core(mut self, bytes: u64) -> Self {
        self.core = Some(bytes);
        self
    }
}
