//! A worker that somebody else starts: how its process is found, and what may be done to it.

use std::path::PathBuf;
use std::time::Duration;

use super::policy::{RestartConfig, RestartPolicy};

/// A process that somebody else starts. The master finds it in exactly one of three ways, watches
/// it, and signals it only if it may.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct UnmanagedConfig {
    /// The file that has its process id.
    pub pid_file: Option<PathBuf>,
    /// Its name: that of its program, or the one it goes by.
    pub process_name: Option<String>,
    /// Arguments that it has, in this order, maybe among others.
    pub process_args: Vec<String>,
    /// The TCP port that it listens on.
    pub port: Option<u16>,
    /// True: a stop ends it. False: a stop lets go of it, and it lives on. Default false.
    pub can_terminate: bool,
}

impl UnmanagedConfig {
    /// The process whose id is in the file at `path`.
    pub fn pid_file(path: impl Into<PathBuf>) -> Self {
        Self { pid_file: Some(path.into()), ..Self::default() }
    }

    /// The process of this name.
    pub fn process_name(name: impl Into<String>) -> Self {
        Self { process_name: Some(name.into()), ..Self::default() }
    }

    /// The process that listens on this TCP port.
    pub fn port(port: u16) -> Self {
        Self { port: Some(port), ..Self::default() }
    }

    /// The arguments that it has, beside its name.
    #[must_use]
    pub fn process_args<A: Into<String>>(mut self, args: impl IntoIterator<Item = A>) -> Self {
        self.process_args = args.into_iter().map(Into::into).collect();
        self
    }

    /// Whether a stop ends it.
    #[must_use]
    pub fn can_terminate(mut self, may: bool) -> Self {
        self.can_terminate = may;
        self
    }

    /// When such a worker is looked for again, unless its configuration says otherwise: for ever,
    /// every few seconds. Somebody else starts it, at a time of theirs.
    pub(crate) fn restart() -> RestartConfig {
        RestartConfig::policy(RestartPolicy::Always)
            .max_retries(0)
            .max_delay(Duration::from_secs(5))
    }
}
