//! HSU Master: a unified worker runtime.

pub mod config;
mod error;
mod module;
mod units;
mod worker;

pub use config::MasterConfig;
pub use crossbeam_channel;
pub use error::{Error, ErrorCategory, Failure, Problem, Result};
pub use module::{
    EndpointInfo, EndpointType, Health, Incoming, Listener, ModuleConfig, ModuleContext, ModuleError,
    ModuleFactory, ModuleInfo, ModuleRegistry, ModuleResult, OnStop, StopToken, Ticks, WorkerModule,
    configured, from_config,
};
pub use worker::*;
