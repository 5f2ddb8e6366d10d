//! `plan` and `reload`: what another configuration asks for, step by step, and what came of it.

use std::path::Path;

use super::terminal::harmless_lines;
use super::{Outcome, print, print_json};
use crate::control::{Client, PlanReport};
use crate::error::Result;

pub(super) fn plan(client: &Client, config: Option<&Path>, json: bool) -> Result<Outcome> {
    // The master may run in another directory.
    let config = config.map(|file| std::path::absolute(file).unwrap_or_else(|_| file.into()));
    let plan = client.plan(config.as_deref())?;
    Ok(if json { print_json(&plan) } else { print(&told(&plan)) })
}

pub(super) fn reload(client: &Client, json: bool) -> Result<Outcome> {
    let plan = client.reload()?;
    let outcome = if plan.failures().next().is_some() { Outcome::Failed } else { Outcome::Done };
    Ok(outcome.max(if json { print_json(&plan) } else { print(&told(&plan)) }))
}

fn told(plan: &PlanReport) -> String {
    let nothing = if plan.is_empty() { "nothing to do\n" } else { "" };
    let steps = plan.to_string();
    let end = if steps.is_empty() { "" } else { "\n" };
    format!("{nothing}{}{end}", harmless_lines(&steps, ""))
}
