//! What is asked of a running master: finds it, asks, and turns its refusals into exit codes.

use std::path::Path;
use std::time::Duration;

use serde_json::json;

use super::args::{Address, Program, Request};
use super::terminal::harmless_lines;
use super::{
    Outcome, call, change, complain, describe, events, explain, find, logs, print, print_json,
    status, warn,
};
use crate::control::Client;
use crate::error::Result;
use crate::host::sys;
use crate::worker::WaitFor;

/// How long a master that has answered a shutdown may take to be gone.
const END: Duration = Duration::from_secs(5);

pub(super) fn ask(program: &Program, address: &Address, request: &Request) -> Outcome {
    let client = match find::connect(program, address) {
        Ok(client) => client,
        Err(missing) => {
            complain(&missing.error);
            return missing.outcome;
        }
    };
    let name = program.name;
    let answered = match request {
        Request::Status(arguments) => status::status(&client, arguments),
        Request::Describe { id, json } => describe::describe(&client, id, *json),
        Request::Explain { id, json } => explain::explain(&client, name, id, *json),
        Request::Change(arguments) => change::change(client, name, arguments),
        Request::Wait { id, condition, timeout, json } => {
            wait(&client, id, *condition, *timeout, *json)
        }
        Request::Plan { config, json } => plan(&client, config.as_deref(), *json),
        Request::Reload { json } => reload(&client, *json),
        Request::Shutdown { keep, json } => shutdown(&client, *keep, *json),
        Request::Logs(arguments) => logs::logs(&client, arguments),
        Request::Events { follow, json } => events::events(&client, *follow, *json),
        Request::Call { id, function, payload, timeout } => {
            call::call(&client, id, function, payload.as_deref(), *timeout)
        }
    };
    answered.unwrap_or_else(|error| {
        // The message may quote what a worker said.
        warn(&format!("error: {}\n", harmless_lines(&error.to_string(), "  ")));
        Outcome::of(&error)
    })
}

fn wait(
    client: &Client,
    id: &str,
    condition: WaitFor,
    timeout: Duration,
    json: bool,
) -> Result<Outcome> {
    let worker = client.wait_for(id, condition, timeout)?;
    if json {
        return Ok(print_json(&worker));
    }
    Ok(print(&format!("{id}: {}\n", condition.as_str())))
}

fn plan(client: &Client, config: Option<&Path>, json: bool) -> Result<Outcome> {
    // The master may run in another directory.
    let config = config.map(|config| std::path::absolute(config).unwrap_or_else(|_| config.into()));
    let plan = client.plan(config.as_deref())?;
    Ok(if json { print_json(&plan) } else { print(&planned(&plan)) })
}

fn reload(client: &Client, json: bool) -> Result<Outcome> {
    let plan = client.reload()?;
    Ok(if json { print_json(&plan) } else { print(&planned(&plan)) })
}

fn planned(plan: &crate::control::PlanReport) -> String {
    format!("{plan:#}\n")
}

/// Ends when the master's process is gone, so that what follows can use what it held.
fn shutdown(client: &Client, keep: bool, json: bool) -> Result<Outcome> {
    let process = sys::pidfd_open(client.hello().pid).ok();
    let report = client.shutdown(keep)?;
    if let Some(process) = process {
        use std::os::fd::AsFd as _;
        let _ = sys::wait_readable([Some(process.as_fd())], Some(END));
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
