//! The words for workers: their names, states, configuration and what is known about them. Plain
//! data, used on every floor.

mod changes;
mod config;
mod diagnostics;
mod differences;
mod limits;
mod logs;
mod policy;
mod state;
mod unmanaged;
mod validate;

use std::borrow::Borrow;
use std::fmt;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

pub use config::{ExecutionConfig, Integration, ModuleType, OnMasterExit, WorkerConfig};
pub(crate) use diagnostics::signal_number;
pub use diagnostics::{
    EndpointKind, Exit, HealthStatus, LastError, LogTrouble, WorkerCapabilities, WorkerDiagnostics,
    WorkerEndpoint,
};
pub use differences::{DIFFERENCES, Deployment, Difference};
pub use limits::{HardLimits, LimitsConfig};
pub use logs::{LogMode, LogOverflow, LogsConfig};
pub use policy::{
    HealthCheckConfig, HealthCheckType, OnUnhealthy, Ratio, RestartConfig, RestartPolicy,
    StartConfig, StopConfig, SuccessCodes,
};
pub use state::{TRANSITIONS, WaitFor, WorkerState};
pub use unmanaged::UnmanagedConfig;
pub(crate) use validate::Mistake;

use crate::error::Error;

/// The longest worker id, in bytes.
const MAX_ID: usize = 64;

/// A worker's name: `[A-Za-z0-9][A-Za-z0-9._-]{0,63}`. Cheap to clone.
///
/// The rule makes every id safe as a file name, a thread name and a word on the command line.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct WorkerId(Arc<str>);

impl WorkerId {
    /// Checks `id` against the rule above.
    ///
    /// # Errors
    /// Of category `configuration`, saying what is wrong with the id.
    pub fn new(id: &str) -> Result<Self, Error> {
        let allowed = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-');
        let complaint = if id.is_empty() {
            "is empty".to_owned()
        } else if id.len() > MAX_ID {
            format!("is {} bytes long; at most {MAX_ID} are allowed", id.len())
        } else if !id.starts_with(|c: char| c.is_ascii_alphanumeric()) {
            "must begin with a letter or a digit".to_owned()
        } else if let Some(bad) = id.chars().find(|c| !allowed(*c)) {
            format!("contains {bad:?}; use letters, digits, '.', '_' and '-'")
        } else {
            return Ok(Self(id.into()));
        };
        let shown: String = id.chars().take(MAX_ID).collect();
        Err(Error::configuration(format!("worker id {shown:?} {complaint}")))
    }

    /// The id as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl Borrow<str> for WorkerId {
    fn borrow(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for WorkerId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0)
    }
}

impl fmt::Debug for WorkerId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Where a worker runs: the one word of configuration that decides it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum WorkerType {
    /// A child process.
    Process,
    /// A thread of the master's own process.
    Module,
}

impl WorkerType {
    /// The word used in configuration and output.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Process => "process",
            Self::Module => "module",
        }
    }
}

impl fmt::Display for WorkerType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_are_safe_as_file_and_thread_names() {
        for good in ["a", "data-processor-1", "A.b_c-9", &"x".repeat(64)] {
            assert_eq!(WorkerId::new(good).unwrap().as_str(), good);
        }
        for bad in ["", ".a", "-a", "a/b", "../x", "a b", "a\0", "ä", &"x".repeat(65)] {
            let error = WorkerId::new(bad).unwrap_err();
            assert!(error.to_string().contains("worker id"), "{error}");
        }
    }
}
