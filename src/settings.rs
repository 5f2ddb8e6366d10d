//! A master's configuration as plain data; `config` reads it from files.

use std::path::PathBuf;
use std::time::Duration;

use log::LevelFilter;

use crate::error::Problem;
use crate::worker::WorkerConfig;

/// The configuration of a master: what its file says, or what a program builds.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct MasterConfig {
    /// Its name; from a file, by default the name of the file's directory.
    pub name: Option<String>,
    /// Where its socket is, and what the next master of this directory must know. `None`: the
    /// command line chooses, and a program's master has none: it then writes no file.
    pub state_dir: Option<PathBuf>,
    /// Where its workers' logs go. `None`: the command line chooses, and a program's master keeps
    /// them in `logs` in its state directory, if it has one.
    pub log_dir: Option<PathBuf>,
    /// What `App` logs. Default `info`. A program with a logger of its own decides for itself.
    pub log_level: LevelFilter,
    /// How long a shutdown may take; at its end what remains is killed or abandoned. Default 30 s.
    pub shutdown_timeout: Duration,
    /// The workers, in the order of the file.
    pub workers: Vec<WorkerConfig>,
    /// What is odd in the file, but not wrong.
    pub warnings: Vec<Problem>,
    /// Stands for the text of its files, as 16 hexadecimal digits: another text, another digest. It
    /// knows nothing of the variables that the text names. `None`: it was not read from a text.
    pub digest: Option<String>,
}

impl Default for MasterConfig {
    fn default() -> Self {
        Self {
            name: None,
            state_dir: None,
            log_dir: None,
            log_level: LevelFilter::Info,
            shutdown_timeout: Duration::from_secs(30),
            workers: Vec::new(),
            warnings: Vec::new(),
            digest: None,
        }
    }
}

impl MasterConfig {
    /// A configuration without workers.
    pub fn new() -> Self {
        Self::default()
    }

    /// Its name: it follows the rule for worker ids.
    #[must_use]
    pub fn name(mut self, name: impl Into<String>) -> Self {
        self.name = Some(name.into());
        self
    }

    /// Where its socket and its state are. One master at a time uses a directory.
    #[must_use]
    pub fn state_dir(mut self, path: impl Into<PathBuf>) -> Self {
        self.state_dir = Some(path.into());
        self
    }

    /// Where its workers' logs go.
    #[must_use]
    pub fn log_dir(mut self, path: impl Into<PathBuf>) -> Self {
        self.log_dir = Some(path.into());
        self
    }

    /// What is logged.
    #[must_use]
    pub fn log_level(mut self, level: LevelFilter) -> Self {
        self.log_level = level;
        self
    }

    /// How long a shutdown may take.
    #[must_use]
    pub fn shutdown_timeout(mut self, timeout: Duration) -> Self {
        self.shutdown_timeout = timeout;
        self
    }

    /// One more worker.
    #[must_use]
    pub fn worker(mut self, worker: WorkerConfig) -> Self {
        self.workers.push(worker);
        self
    }
}
