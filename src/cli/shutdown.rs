//! `shutdown`: ends a master, and returns when its process is gone, so that what follows can use
//! what it held.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use serde_json::{Value, json};

use super::progress::Progress;
use super::{Outcome, print, print_json};
use crate::control::{Client, Events};
use crate::error::Result;
use crate::host::{sys, threads};

const STACK: usize = 256 << 10;
/// How long a master that has answered may take to be gone.
const END: Duration = Duration::from_secs(5);

pub(super) fn shutdown(client: &Client, keep: bool, json: bool) -> Result<Outcome> {
    let process = sys::Ending::of(client.hello().pid);
    let countdown = if Progress::is_wanted() { Countdown::start(client) } else { None };
    let report = client.shutdown(keep);
    drop(countdown);
    let report = report?;
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

/// Shows how many workers still run, until it is dropped.
struct Countdown(Arc<Mutex<Progress>>);

impl Countdown {
    /// Nothing hangs on it: where it cannot be shown it is not.
    fn start(client: &Client) -> Option<Self> {
        let events = client.events_to_come(0).ok()?;
        let workers = client.status(&[]).ok()?.into_iter();
        let up: BTreeSet<String> =
            workers.filter(|worker| worker.phase != "none").map(|worker| worker.id).collect();
        let progress = Arc::new(Mutex::new(Progress::new("stopping", up.len())));
        let countdown = Self(Arc::clone(&progress));
        // It ends with the master, which closes the stream. Should it break off, what was counted
        // by then stays.
        threads::spawn("countdown", STACK, move || count(events, up, &progress)).ok()?;
        Some(countdown)
    }
}

impl Drop for Countdown {
    fn drop(&mut self) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).end();
    }
}

fn count(events: Events, mut up: BTreeSet<String>, progress: &Mutex<Progress>) {
    threads::fail_point("countdown");
    for event in events.map_while(Result::ok) {
        let text = |key: &str| event.get(key).and_then(Value::as_str).unwrap_or_default();
        if text("to") == "stopped" && up.remove(text("worker")) {
            progress.lock().unwrap_or_else(PoisonError::into_inner).one_more();
        }
    }
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use super::*;
    use crate::control::SOCKET;
    use crate::host::alone;
    use crate::host::threads::fail_points::{arm, is_armed};
    use crate::master::Master;
    use crate::settings::MasterConfig;

    #[test]
    fn s17_a_shutdown_is_waited_for_though_who_counts_panics() {
        if !alone::here(&[], s17_a_shutdown_is_waited_for_though_who_counts_panics) {
            return;
        }
        let around = tempfile::tempdir().unwrap();
        let state = around.path().join("s");
        let master = Master::builder().config(MasterConfig::new().state_dir(&state)).build();
        let master = master.unwrap();
        let client = Client::connect(state.join(SOCKET)).unwrap();
        arm("countdown");
        let countdown = Countdown::start(&client).unwrap();
        let end = std::time::Instant::now() + Duration::from_secs(30);
        while is_armed("countdown") {
            assert!(std::time::Instant::now() < end, "nobody counts");
            std::thread::yield_now();
        }
        let report = client.shutdown(false).unwrap();
        assert!(report.killed.is_empty() && report.stuck.is_empty());
        drop(countdown);
        master.wait().unwrap();
    }
}
