//! HSU Master: a unified worker runtime for blocking programs.
//!
//! A service is written once against [`WorkerModule`]; one word of configuration decides whether it
//! runs as a thread of the master or as a process of its own. Ordinary executables are workers too.
//! Every worker, wherever it runs, has the same states, restarts, health checks, status and
//! commands. There is no async runtime: threads, one event loop, and channels.
//!
//! ```
//! use hsu_master::{Master, ModuleContext, ModuleInfo, ModuleResult, WorkerConfig, WorkerModule};
//!
//! struct Ticker;
//!
//! impl WorkerModule for Ticker {
//!     fn start(&mut self, ctx: &ModuleContext) -> ModuleResult {
//!         ctx.spawn("tick", |ctx| {
//!             for tick in ctx.stop_token().every(std::time::Duration::from_secs(1)) {
//!                 log::info!("tick {tick}");
//!             }
//!             Ok(())
//!         })?;
//!         Ok(())
//!     }
//!     fn info(&self) -> ModuleInfo {
//!         ModuleInfo::new("ticker", "1.0.0")
//!     }
//! }
//!
//! # fn main() -> hsu_master::Result<()> {
//! let master = Master::builder().module("ticker", || Ticker).build()?;
//! master.add_worker(WorkerConfig::native("tick-1", "ticker"))?;
//! master.add_worker(WorkerConfig::executable("nap", "/bin/sleep").args(["60"]))?;
//! master.start_all()?;
//! assert_eq!(master.worker_diagnostics("nap")?.state.as_str(), "running");
//! master.shutdown()?;
//! # Ok(())
//! # }
//! ```
//!
//! # The map
//!
//! Imports go downward only; a test checks it.
//!
//! ```text
//! 6  cli, main    what people type: `App`, the master itself, and the commands that ask one
//! 5  config       YAML text -> plain data, or every problem at once
//! 4  master       the facade: Master, MasterBuilder, Worker; the signals of an own process
//! 4  control      a running master's socket: the server inside it, and the client
//! 4  testing      a module's life without a master, for its author's tests
//! 3  runtime      the one loop: inbox + deadline -> core -> hosts; tickets, events, board, calls
//! 2  host         the threads: module runner (apartment), process monitor, panics, system calls;
//!                 the worker protocol, the module host at its other end, plugins on both sides,
//!                 the launcher that processes with settings of their own begin as
//! 2  logs         what workers write and log, kept in files; reading it; the journal of events
//! 1  core         pure: commands, reports and time in, effects out; all decisions
//! 0  words        module, worker, error, settings, units, suggest, fnv, abi: the trait, plain data
//! ```
//!
//! - `core` knows no thread, channel, file, process, clock or logger, and neither modules nor
//!   processes: launch, start, probe, ask, force, abandon, and the reports that answer them. It and
//!   `host` do not know each other; they meet in `runtime`, through effects and events.
//! - Nothing below `config` knows YAML. Only `host/panics.rs` catches panics; only `host/sys`, and
//!   the two sides of the plugin interface (`host/plugin`, `host/export`), are unsafe.
//! - One runner, several links: the apartment takes plain-data orders and gives plain-data reports.
//!   In this process they come and go as they are, in a module host as lines of `host/protocol`,
//!   and a plugin's side runs the same callbacks behind the C table.
//! - The loop never waits for a worker: spawning, starting, probing and stopping happen on the
//!   worker's own thread, and every outcome comes back as an event. Queries read the board and do
//!   not ask the loop.
//! - A call of a module's function does not ask the loop either: the loop only says, for each
//!   worker, whose functions can be called now.
//! - A command has a ticket and gets exactly one reply. A report carries its incarnation; news of
//!   an old one is dropped in one place.
//!
//! # Features
//!
//! - `cli` (default): [`App`] and the `hsu-master` binary. Without it the library has no command
//!   line, and neither clap nor env_logger in its tree.
//! - `plugins` (default): modules from shared libraries (`module_type: plugin`). Without it such a
//!   worker fails, in words. [`export_module!`] is there in any case.

#[doc(hidden)]
pub mod abi;
#[cfg(feature = "bench")]
#[doc(hidden)]
pub mod bench_support;
#[cfg(feature = "cli")]
mod cli;
pub mod config;
pub mod control;
mod core;
mod error;
mod fnv;
mod host;
pub mod logs;
mod master;
mod module;
mod runtime;
mod settings;
mod suggest;
pub mod testing;
mod units;
mod worker;

#[cfg(feature = "cli")]
pub use cli::App;
pub use crossbeam_channel;
pub use error::{Error, ErrorCategory, Failure, Problem, Result};
#[doc(hidden)]
pub use host::export;
pub use host::identity::current_worker;
pub use host::roles::host_if_requested;
pub use master::{
    Function, KnownModule, Master, MasterBuilder, ModuleRuntime, OutputLine, Plan, PlanAction,
    PlanStep, Worker,
};
pub use module::{
    EndpointInfo, EndpointType, Health, Incoming, Listener, ModuleConfig, ModuleContext,
    ModuleError, ModuleFactory, ModuleInfo, ModuleRegistry, ModuleResult, OnStop, StopToken, Ticks,
    WorkerModule, configured, from_config,
};
pub use runtime::{Event, EventKind, Past, ShutdownReport, Ticket};
pub use settings::MasterConfig;
pub use worker::{
    DIFFERENCES, Deployment, Difference, EndpointKind, ExecutionConfig, Exit, HardLimits,
    HealthCheckConfig, HealthCheckType, HealthStatus, Integration, LastError, LimitsConfig,
    LogMode, LogOverflow, LogTrouble, LogsConfig, ModuleType, OnMasterExit, OnUnhealthy, Ratio,
    RestartConfig, RestartPolicy, StartConfig, StopConfig, SuccessCodes, TRANSITIONS,
    UnmanagedConfig, WaitFor, WorkerCapabilities, WorkerConfig, WorkerDiagnostics, WorkerEndpoint,
    WorkerId, WorkerState, WorkerType,
};
