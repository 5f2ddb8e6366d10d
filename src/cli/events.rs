//! `events`: what happened to the workers, a line for each, and what happens now.

use serde::Deserialize;
use serde_json::Value;

use super::terminal::harmless;
use super::words::address;
use super::{Outcome, Stream};
use crate::control::{Client, EndpointReport};
use crate::error::Result;
use crate::module::EndpointType;
use crate::worker::Exit;

pub(super) fn events(client: &Client, follow: bool, json: bool) -> Result<Outcome> {
    let mut out = Stream::new(follow);
    for event in client.events(follow)? {
        let event = event?;
        let line = if json { event.to_string() } else { told(&event) };
        if let Err(end) = out.line(line.as_bytes()) {
            return Ok(end);
        }
    }
    Ok(out.end())
}

/// An event in words. What is not known here is told as it is.
fn told(event: &Value) -> String {
    let text = |key: &str| event.get(key).and_then(Value::as_str).unwrap_or("");
    let (worker, kind) = (text("worker"), text("event"));
    let who = match event.get("incarnation").and_then(Value::as_u64) {
        _ if worker.is_empty() => "master".to_owned(),
        Some(incarnation) if incarnation > 0 => format!("{worker}#{incarnation}"),
        Some(_) | None => worker.to_owned(),
    };
    let detail = |key: &str| match text(key) {
        "" => String::new(),
        text => format!(": {text}"),
    };
    let what = match kind {
        "state" => {
            let (from, to, cause) = (text("from"), text("to"), text("cause"));
            format!("{from} -> {to} ({cause}){}", detail("message"))
        }
        "health" => format!("is {}{}", text("health"), detail("reason")),
        "gone" => format!("is gone{}", event.get("exit").map_or(String::new(), exit)),
        "endpoint" => endpoint(event).unwrap_or_else(|| rest(event, kind)),
        "log_degraded" => {
            format!("cannot keep all of its log, {}{}", text("path"), detail("message"))
        }
        "log_recovered" => {
            let dropped = event.get("dropped").and_then(Value::as_u64).unwrap_or(0);
            let unit = if worker.is_empty() { "events" } else { "bytes" };
            format!("writes {} again; {dropped} {unit} are lost", text("path"))
        }
        "state_degraded" => {
            format!("cannot keep its state directory, {}{}", text("path"), detail("message"))
        }
        "state_recovered" => format!("keeps its state directory, {}, again", text("path")),
        "task_failed" => format!("a task failed{}", detail("message")),
        "reloaded" => reloaded(event),
        "reload_finished" => match names(event, "failed") {
            failed if failed.is_empty() => "has finished the reload".to_owned(),
            failed => format!("has finished the reload, but for {failed}"),
        },
        "reload_failed" => format!("has not reloaded its configuration{}", detail("message")),
        "missed" => {
            let count = event.get("count").and_then(Value::as_u64).unwrap_or(0);
            format!("{count} events are missing here")
        }
        _ => rest(event, kind),
    };
    harmless(&format!("{}  {who}  {what}", text("at"))).into_owned()
}

/// Where a worker can be reached by now.
fn endpoint(event: &Value) -> Option<String> {
    let known = EndpointReport::deserialize(event.get("endpoint")?).ok()?;
    Some(match known.endpoint_type {
        EndpointType::Function => format!("has the function {}", known.name),
        EndpointType::Http | EndpointType::Grpc | EndpointType::Tcp | EndpointType::Unix => {
            format!("has {} at {}", known.name, address(&known))
        }
    })
}

/// What a reload has begun.
fn reloaded(event: &Value) -> String {
    let kinds = ["removed", "changed", "added"];
    let each = kinds.map(|kind| (kind, names(event, kind)));
    let told = each.iter().filter(|(_, names)| !names.is_empty());
    let told: Vec<_> = told.map(|(kind, names)| format!("{kind} {names}")).collect();
    match told.as_slice() {
        [] => "has reloaded its configuration: no worker differs".to_owned(),
        told => format!("has reloaded its configuration: {}", told.join("; ")),
    }
}

/// A list of workers, as people write it.
fn names(event: &Value, key: &str) -> String {
    let names = event.get(key).and_then(Value::as_array).into_iter().flatten();
    names.filter_map(Value::as_str).collect::<Vec<_>>().join(", ")
}

/// How an incarnation ended.
fn exit(exit: &Value) -> String {
    let number = |key: &str| i32::try_from(exit.get(key)?.as_i64()?).ok();
    let core_dumped = exit.get("core_dumped").and_then(Value::as_bool).unwrap_or(false);
    let failed = || exit.pointer("/failed/message").and_then(Value::as_str);
    let exit = match (number("code"), number("signal"), failed()) {
        (Some(code), ..) => Exit::Code(code).to_string(),
        (None, Some(signal), _) => Exit::Signal { signal, core_dumped }.to_string(),
        (None, None, Some(message)) => message.to_owned(),
        (None, None, None) => return String::new(),
    };
    format!(": {exit}")
}

/// The kind, and everything that was not told yet.
fn rest(event: &Value, kind: &str) -> String {
    let mut what = kind.replace('_', " ");
    let told = ["at", "event", "worker", "incarnation"];
    for (key, value) in event.as_object().into_iter().flatten() {
        if !told.contains(&key.as_str()) && !value.is_null() {
            let value = value.as_str().map_or_else(|| value.to_string(), str::to_owned);
            what.push_str(&format!(" {key}={value}"));
        }
    }
    what
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn events_are_told_in_words_and_strange_ones_as_they_are() {
        let event = json!({ "at": "T", "event": "state", "worker": "a", "incarnation": 3,
            "from": "running", "to": "failed", "cause": "crash", "message": "exit 3\u{1b}" });
        assert_eq!(told(&event), "T  a#3  running -> failed (crash): exit 3\\u{1b}");
        let event = json!({ "at": "T", "event": "health", "worker": "a", "incarnation": 1,
            "health": "unhealthy", "reason": "no answer" });
        assert_eq!(told(&event), "T  a#1  is unhealthy: no answer");
        let event = json!({ "at": "T", "event": "gone", "worker": "a", "incarnation": 1,
            "exit": { "signal": 9, "core_dumped": false } });
        assert_eq!(told(&event), "T  a#1  is gone: signal SIGKILL (9)");
        let event = json!({ "at": "T", "event": "endpoint", "worker": "a", "incarnation": 1,
            "endpoint": { "name": "f", "type": "function", "kind": "function", "address": "f" } });
        assert_eq!(told(&event), "T  a#1  has the function f");
        let event = json!({ "at": "T", "event": "endpoint", "worker": "a", "incarnation": 1,
            "endpoint": { "name": "api", "type": "http", "kind": "url", "address": "[::1]:80" } });
        assert_eq!(told(&event), "T  a#1  has api at http://[::1]:80");
        let event = json!({ "at": "T", "event": "log_degraded", "worker": "a",
            "path": "/l/a.log", "message": "full" });
        assert_eq!(told(&event), "T  a  cannot keep all of its log, /l/a.log: full");
        let event = json!({ "at": "T", "event": "log_recovered", "path": "/l/e", "dropped": 7 });
        assert_eq!(told(&event), "T  master  writes /l/e again; 7 events are lost");
        let event = json!({ "at": "T", "event": "state_degraded", "path": "/s", "message": "no" });
        assert_eq!(told(&event), "T  master  cannot keep its state directory, /s: no");
        let event = json!({ "at": "T", "event": "state_recovered", "path": "/s" });
        assert_eq!(told(&event), "T  master  keeps its state directory, /s, again");
        let event = json!({ "at": "T", "event": "reloaded", "added": ["a", "b"], "changed": [],
            "removed": ["c"] });
        let words = "T  master  has reloaded its configuration: removed c; added a, b";
        assert_eq!(told(&event), words);
        let event = json!({ "at": "T", "event": "reloaded", "added": [], "changed": [],
            "removed": [] });
        let words = "T  master  has reloaded its configuration: no worker differs";
        assert_eq!(told(&event), words);
        let event = json!({ "at": "T", "event": "reload_finished", "failed": [] });
        assert_eq!(told(&event), "T  master  has finished the reload");
        let event = json!({ "at": "T", "event": "reload_finished", "failed": ["a", "b"] });
        assert_eq!(told(&event), "T  master  has finished the reload, but for a, b");
        let event = json!({ "at": "T", "event": "shut_down", "worker": "", "incarnation": 0 });
        assert_eq!(told(&event), "T  master  shut down");
        let event = json!({ "at": "T", "event": "new_one", "worker": "a", "n": 2, "none": null });
        assert_eq!(told(&event), "T  a  new one n=2");
        assert_eq!(told(&json!(7)), "  master  ");
    }
}
