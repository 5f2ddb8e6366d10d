//! Operating a running master over its Unix socket: a client for programs, the server inside the
//! master, and what they say to each other.
//!
//! A master that has a state directory listens at `control.sock` in it. [`Client`] is what the
//! command line is made of; `docs/control.md` has the format for programs in other languages.
//!
//! ```no_run
//! use hsu_master::control::{Client, CommandOptions};
//!
//! # fn main() -> hsu_master::Result<()> {
//! let client = Client::connect("/run/hsu-master/my-app/control.sock")?;
//! for worker in client.status(&[])? {
//!     println!("{} is {}", worker.id, worker.state);
//! }
//! client.restart("api", CommandOptions::new().force(true))?;
//! # Ok(())
//! # }
//! ```

mod client;
mod redact;
mod report;
#[cfg(target_os = "linux")]
mod server;
mod wire;

pub use client::{Client, CommandOptions, Events, LogLines, LogQuery};
pub use report::{
    ConfigReport, Description, Ended, EndpointReport, ErrorReport, ExitReport, Hello, LogEntry,
    LogTroubleReport, PastReport, PlanReport, StateTroubleReport, UnmanagedReport, Usage,
    WaitingFor, WorkerReport,
};
#[cfg(target_os = "linux")]
pub(crate) use server::Server;

/// The socket's name in the state directory.
#[cfg(any(target_os = "linux", feature = "cli"))]
pub(crate) const SOCKET: &str = "control.sock";
