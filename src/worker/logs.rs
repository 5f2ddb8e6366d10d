//! Where a worker's output goes: the `logs` of its configuration.

use super::Mistake;

/// What happens to what a worker writes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum LogMode {
    /// The master reads it and keeps it in the worker's log file.
    #[default]
    Capture,
    /// The process writes into its log file itself; it is rotated only when an incarnation starts.
    File,
    /// It goes where the master's own output goes.
    Inherit,
    /// It is dropped.
    Discard,
}

impl LogMode {
    /// All of them, in the order of the documentation.
    pub const ALL: [Self; 4] = [Self::Capture, Self::File, Self::Inherit, Self::Discard];

    /// The word used in configuration.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Capture => "capture",
            Self::File => "file",
            Self::Inherit => "inherit",
            Self::Discard => "discard",
        }
    }
}

/// What happens when a worker writes faster than the disk takes it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum LogOverflow {
    /// The worker waits, and nothing is lost.
    #[default]
    Block,
    /// The worker never waits: what does not fit into a bounded queue is dropped and counted.
    Drop,
}

impl LogOverflow {
    /// All of them, in the order of the documentation.
    pub const ALL: [Self; 2] = [Self::Block, Self::Drop];

    /// The word used in configuration.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Block => "block",
            Self::Drop => "drop",
        }
    }
}

/// Where a worker's output goes, and how much of it is kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub struct LogsConfig {
    /// What happens to it. Default capture. A module's can only be captured or discarded.
    pub mode: LogMode,
    /// The log file is rotated before it becomes larger, in bytes. Default 10 MB.
    pub max_size: u64,
    /// How many files there are at most, the one that is written included. Default 5.
    pub max_files: u32,
    /// True: each line is kept with its time and stream. False: the bytes as they were written.
    /// Default true.
    pub timestamps: bool,
    /// What happens when it writes faster than the disk takes it. Default block. Of no meaning but
    /// where it is captured.
    pub overflow: LogOverflow,
}

impl Default for LogsConfig {
    fn default() -> Self {
        Self {
            mode: LogMode::Capture,
            max_size: 10_000_000,
            max_files: 5,
            timestamps: true,
            overflow: LogOverflow::Block,
        }
    }
}

impl LogsConfig {
    /// The defaults in another mode.
    pub fn mode(mode: LogMode) -> Self {
        Self { mode, ..Self::default() }
    }

    /// How large the log file becomes before it is rotated, in bytes.
    #[must_use]
    pub fn max_size(mut self, bytes: u64) -> Self {
        self.max_size = bytes;
        self
    }

    /// How many files there are at most, the one that is written included.
    #[must_use]
    pub fn max_files(mut self, count: u32) -> Self {
        self.max_files = count;
        self
    }

    /// Whether each line is kept with its time and stream.
    #[must_use]
    pub fn timestamps(mut self, timestamps: bool) -> Self {
        self.timestamps = timestamps;
        self
    }

    /// What happens when it writes faster than the disk takes it.
    #[must_use]
    pub fn overflow(mut self, overflow: LogOverflow) -> Self {
        self.overflow = overflow;
        self
    }

    /// What is wrong in itself.
    pub(crate) fn mistakes(&self) -> Vec<Mistake> {
        let mut found = Vec::new();
        let mut add = |path: &str, message: &str| found.push((path.to_owned(), message.to_owned()));
        if !(MIN_SIZE..=MAX_SIZE).contains(&self.max_size) {
            add("max_size", "must be from 4KiB to 1TiB");
        }
        if !(1..=MAX_FILES).contains(&self.max_files) {
            add("max_files", "must be from 1 to 1000");
        }
        found
    }

    /// As a module can have it.
    pub(crate) fn for_module(self) -> Self {
        let mode = match self.mode {
            LogMode::Capture | LogMode::Discard => self.mode,
            LogMode::File | LogMode::Inherit => LogMode::Capture,
        };
        Self { mode, ..self }
    }

    /// What is wrong for a module, wherever it runs.
    pub(crate) fn mistakes_of_module(&self) -> Vec<Mistake> {
        let message = match self.mode {
            LogMode::Capture | LogMode::Discard => return Vec::new(),
            LogMode::File => "must be capture or discard: a module's log comes through its master",
            LogMode::Inherit => {
                "must be capture or discard: a module's log is in the master's own anyway"
            }
        };
        vec![("mode".to_owned(), message.to_owned())]
    }
}

const MIN_SIZE: u64 = 4 << 10;
const MAX_SIZE: u64 = 1 << 40;
const MAX_FILES: u32 = 1000;
