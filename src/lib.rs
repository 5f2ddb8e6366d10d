//! HSU Master: a unified worker runtime.

mod error;
mod host;
mod module;
mod units;
mod worker;

pub use crossbeam_channel;
pub use error::{Error, ErrorCategory, Failure, Problem, Result};
pub use module::{
    EndpointInfo, EndpointType, Health, Incoming, Listener, ModuleConfig, ModuleContext,
    ModuleError, ModuleFactory, ModuleInfo, ModuleRegistry, ModuleResult, OnStop, StopToken, Ticks,
    WorkerModule, configured, from_config,
};
pub use worker::*;

/// Reading configuration files, and the types modules use in theirs.
pub mod config {
    pub use crate::units::{ListenAddr, duration, size};
}
