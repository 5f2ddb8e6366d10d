//! What is said of a worker in a few words: for the table, and for what is told at length.

use std::time::{Duration, SystemTime};

use super::terminal::{Colour, brief, harmless};
use crate::control::{EndpointReport, ExitReport, WorkerReport};
use crate::module::EndpointType;
use crate::worker::{HealthStatus, WorkerState};

/// A moment as it is shown: UTC, to the second.
pub(super) fn stamp(at: SystemTime) -> String {
    // What is out of its range is no moment that a worker could know.
    let at =
        at.clamp(SystemTime::UNIX_EPOCH, SystemTime::UNIX_EPOCH + Duration::from_secs(1 << 37));
    humantime::format_rfc3339_seconds(at).to_string()
}

/// How long ago something was. A clock that was set back makes it now.
pub(super) fn ago(at: SystemTime, now: SystemTime) -> String {
    brief(now.duration_since(at).unwrap_or_default())
}

pub(super) fn millis(millis: u64) -> String {
    brief(Duration::from_millis(millis))
}

/// An amount of memory, as `812K`, `1.7M` or `2.0G`.
pub(super) fn size(bytes: u64) -> String {
    const STEP: u64 = 1024;
    // Tenths, so that nothing is said to be larger than it is.
    let tenths = |unit: u64| (bytes / unit, bytes % unit * 10 / unit);
    if bytes < STEP * STEP {
        return format!("{}K", bytes / STEP);
    }
    let (unit, letter) =
        if bytes < STEP * STEP * STEP { (STEP * STEP, 'M') } else { (STEP * STEP * STEP, 'G') };
    let (whole, tenth) = tenths(unit);
    format!("{whole}.{tenth}{letter}")
}

pub(super) fn colour_of(worker: &WorkerReport) -> Colour {
    match worker.state {
        WorkerState::Running => Colour::Good,
        WorkerState::Failed => Colour::Bad,
        WorkerState::Stopped if worker.gave_up => Colour::Bad,
        WorkerState::Uninitialized | WorkerState::Stopped => Colour::Faint,
        WorkerState::Initializing
        | WorkerState::Initialized
        | WorkerState::Starting
        | WorkerState::Stopping => Colour::Changing,
    }
}

pub(super) fn colour_of_health(health: HealthStatus) -> Colour {
    match health {
        HealthStatus::None | HealthStatus::Unknown => Colour::Faint,
        HealthStatus::Healthy => Colour::Good,
        HealthStatus::Unhealthy => Colour::Bad,
    }
}

/// What matters most about a worker now, beyond its state; empty: nothing does.
pub(super) fn matter(worker: &WorkerReport) -> String {
    let retry = worker.retry_in_ms.map(millis);
    let text = if worker.gave_up {
        let trial = retry.map_or(String::new(), |wait| format!(", trial in {wait}"));
        format!("gave up{}{trial}", in_brackets(&end(worker)))
    } else if let Some(wait) = retry {
        let what = if worker.state == WorkerState::Failed { "retry" } else { "again" };
        format!("{what} in {wait}{}", in_brackets(&end(worker)))
    } else if !worker.waiting_for.is_empty() {
        format!("waits for {}", waited(worker))
    } else if worker.abandoned_threads > 0 && worker.ending {
        "does not end".to_owned()
    } else {
        match worker.state {
            WorkerState::Running if worker.health == HealthStatus::Unhealthy => error(worker),
            WorkerState::Running if worker.program_changed == Some(true) => {
                let addresses = addresses(&worker.endpoints);
                let comma = if addresses.is_empty() { "" } else { ", " };
                format!("{addresses}{comma}program changed")
            }
            WorkerState::Running => addresses(&worker.endpoints),
            WorkerState::Stopped if worker.completed && worker.goal == "down" => {
                "completed, meant to be down".to_owned()
            }
            WorkerState::Stopped if worker.completed => "completed".to_owned(),
            WorkerState::Failed => end(worker),
            WorkerState::Uninitialized
            | WorkerState::Initializing
            | WorkerState::Initialized
            | WorkerState::Starting
            | WorkerState::Stopping
            | WorkerState::Stopped => String::new(),
        }
    };
    let degraded = worker.log_trouble.as_ref().is_some_and(|trouble| trouble.since.is_some());
    let log = match (degraded, text.is_empty()) {
        (false, _) => "",
        (true, true) => "its log is lost",
        (true, false) => "its log is lost; ",
    };
    harmless(&format!("{log}{text}")).into_owned()
}

/// What is lost of its log, and why; nothing where nothing is.
pub(super) fn lost_log(worker: &WorkerReport, now: SystemTime) -> Option<String> {
    let dropped = worker.log_dropped;
    let Some(trouble) = &worker.log_trouble else {
        return (dropped > 0).then(|| format!("{dropped} bytes dropped"));
    };
    let state = match trouble.since {
        Some(since) => format!("degraded since {} ({} ago)", stamp(since), ago(since, now)),
        None => "written again".to_owned(),
    };
    let (when, message) = (stamp(trouble.at), &trouble.message);
    Some(format!("{dropped} bytes dropped, {state}, last error at {when}: {message}"))
}

/// What a worker waits for before it is started, as `db healthy, cache started`.
pub(super) fn waited(worker: &WorkerReport) -> String {
    let each = worker.waiting_for.iter();
    let each = each.map(|waiting| format!("{} {}", waiting.id, waiting.condition));
    each.collect::<Vec<_>>().join(", ")
}

/// True when its last incarnation was let go of, and its process lives on.
pub(super) fn let_go(worker: &WorkerReport) -> bool {
    worker.exit.as_ref().is_some_and(|exit| exit.let_go)
}

/// How it last ended: as the process's end says it, and what that was most likely due to; else what
/// went wrong.
pub(super) fn end(worker: &WorkerReport) -> String {
    let told = |exit: &&ExitReport| exit.code.is_some() || exit.signal.is_some();
    let error = error(worker);
    let Some(exit) = worker.exit.as_ref().filter(told) else { return error };
    // Where the error goes on from the end it is about that end. What speaks for it is for those
    // who want to know more.
    let more = error.strip_prefix(&exit.text).filter(|more| more.starts_with(", "));
    match more.filter(|_| !worker.completed) {
        Some(more) => format!("{}{}", exit.text, more.split(": ").next().unwrap_or(more)),
        None => exit.text.clone(),
    }
}

/// The first line of what last went wrong; empty: nothing did.
fn error(worker: &WorkerReport) -> String {
    let message = worker.last_error.as_ref().map_or("", |error| error.message.as_str());
    message.lines().next().unwrap_or("").to_owned()
}

fn in_brackets(text: &str) -> String {
    if text.is_empty() { String::new() } else { format!(" ({text})") }
}

/// Where it can be reached. Its functions are not told here: they may be many.
fn addresses(endpoints: &[EndpointReport]) -> String {
    let reached = endpoints.iter().filter(|known| known.endpoint_type != EndpointType::Function);
    reached.map(address).collect::<Vec<_>>().join(", ")
}

/// One endpoint's address as one would use it.
pub(super) fn address(endpoint: &EndpointReport) -> String {
    let address = &endpoint.address;
    match endpoint.endpoint_type {
        EndpointType::Http if !address.contains("://") => format!("http://{address}"),
        EndpointType::Grpc if !address.contains("://") => format!("grpc://{address}"),
        EndpointType::Unix => format!("unix:{address}"),
        EndpointType::Http | EndpointType::Grpc | EndpointType::Tcp | EndpointType::Function => {
            address.clone()
        }
    }
}
