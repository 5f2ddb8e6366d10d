//! Whole masters with real threads and real processes, through the public face alone.
//!
//! Nothing here sleeps: every step waits for an event, a reply, or something a worker says, each
//! for at most half a minute. Tests that need a process of their own run themselves again in one
//! (`alone`).

#![cfg(target_os = "linux")]
#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod actor;
mod alone;
mod conformance;
mod control;
mod hosted;
mod keys;
mod launching;
mod left;
mod logged;
mod logs;
mod made;
mod modules;
#[cfg(all(feature = "cli", feature = "plugins"))]
mod plugins;
mod process_wide;
mod processes;
mod reaping;
mod reload;
#[cfg(feature = "cli")]
mod signals;
mod support;
mod unmanaged;
