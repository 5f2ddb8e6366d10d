//! Operating a running master from the command line: the real binary, its output and exit codes.
#![cfg(target_os = "linux")]
#![expect(clippy::unwrap_used, reason = "helpers of tests are tests")]

mod fake;
mod live;
mod logs;
mod reload;
#[path = "../support/running.rs"]
mod running;
mod shortage;
mod support;
mod terminal;
mod told;
