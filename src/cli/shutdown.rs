//! `shutdown`: ends a master, and returns when its process is gone, so that what follows can use
//! what it held.

use std::time::Duration;

use serde_json::json;

use super::{Outcome, print, print_json};
use crate::control::Client;
use crate::error::Result;
use crate::host::sys;

/// How long a master that has answered may take to be gone.
const END: Duration = Duration::from_secs(5);

pub(super) fn shutdown(client: &Client, keep: bool, json: bool) -> Result<Outcome> {
    let process = sys::Ending::of(client.hello().pid);
    let report = client.shutdown(keep)?;
    if let Ok(process) = process {
        process.wait(END);
    }
    let clean = report.killed.is_empty() && report.stuck.is_empty();
    let outcome = if clean { Outcome::Done } else { Outcome::Failed };
    if json {
        let report = json!({ "killed": report.killed, "stuck": report.stuck });
        return Ok(outcome.max(print_json(&report)));
    }
    let mut text = String::new();
    if !report.killed.is_empty() {
        text.push_str(&format!("had to be killed: {}\n", report.killed.join(", ")));
    }
    if !report.stuck.is_empty() {
        text.push_str(&format!("did not end: {}\n", report.stuck.join(", ")));
    }
    if clean {
        text.push_str(if keep { "the master has ended\n" } else { "all workers are stopped\n" });
    }
    Ok(outcome.max(print(&text)))
}
