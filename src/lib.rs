//! HSU Master: a unified worker runtime.

#[cfg(feature = "cli")]
mod cli;
mod core;
mod error;
mod host;
mod master;
mod module;
mod runtime;
mod settings;
mod suggest;
mod units;
mod worker;

#[cfg(feature = "cli")]
pub use cli::App;
pub use crossbeam_channel;
pub use error::{Error, ErrorCategory, Failure, Problem, Result};
pub use host::identity::current_worker;
pub use master::{Master, MasterBuilder, OutputLine, Worker};
pub use module::{
    EndpointInfo, EndpointType, Health, Incoming, Listener, ModuleConfig, ModuleContext,
    ModuleError, ModuleFactory, ModuleInfo, ModuleRegistry, ModuleResult, OnStop, StopToken, Ticks,
    WorkerModule, configured, from_config,
};
pub use runtime::{Event, EventKind, ShutdownReport, Ticket};
pub use settings::MasterConfig;
pub use worker::*;

/// Reading configuration files, and the types modules use in theirs.
pub mod config {
    pub use crate::units::{ListenAddr, duration, size};
}
