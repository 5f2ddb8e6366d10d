//! Events as JSON, in the one shape that `events.jsonl`, the control socket and programs share.

use serde_json::{Map, Value, json};

use super::{Event, EventKind};
use crate::error::Failure;
use crate::worker::Exit;

impl EventKind {
    /// The word that stands for the kind in JSON.
    pub fn as_str(&self) -> &'static str {
        match self {
            Self::State { .. } => "state",
            Self::Health { .. } => "health",
            Self::Endpoint { .. } => "endpoint",
            Self::Gone { .. } => "gone",
            Self::TaskFailed { .. } => "task_failed",
            Self::Reloaded { .. } => "reloaded",
            Self::ReloadFinished { .. } => "reload_finished",
            Self::ReloadFailed { .. } => "reload_failed",
            Self::LogDegraded { .. } => "log_degraded",
            Self::LogRecovered { .. } => "log_recovered",
            Self::StateDegraded { .. } => "state_degraded",
            Self::StateRecovered { .. } => "state_recovered",
            Self::Removed => "removed",
            Self::Missed(_) => "missed",
            Self::ShutDown => "shut_down",
            Self::Died => "died",
        }
    }

    /// What the kind says beyond its word.
    fn details(&self) -> Value {
        match self {
            Self::State { from, to, cause, message, exit } => {
                let mut details = json!({
                    "from": from.as_str(), "to": to.as_str(), "cause": cause,
                });
                if let Some(message) = message {
                    details["message"] = json!(message);
                }
                if let Some(exit) = exit {
                    details["exit"] = exit_json(exit);
                }
                details
            }
            Self::Health { health, reason } => {
                json!({ "health": health.as_str(), "reason": reason })
            }
            Self::Endpoint { endpoint } => json!({ "endpoint": endpoint }),
            Self::Gone { exit } => json!({ "exit": exit_json(exit) }),
            Self::TaskFailed { failure } => failure_json(failure),
            Self::Reloaded { added, removed, changed } => {
                json!({ "added": added, "removed": removed, "changed": changed })
            }
            Self::ReloadFinished { failed } => json!({ "failed": failed }),
            Self::ReloadFailed { message } => json!({ "message": message }),
            Self::LogDegraded { path, message } | Self::StateDegraded { path, message } => {
                json!({ "path": path, "message": message })
            }
            Self::LogRecovered { path, dropped } => json!({ "path": path, "dropped": dropped }),
            Self::StateRecovered { path } => json!({ "path": path }),
            Self::Missed(count) => json!({ "count": count }),
            Self::Removed | Self::ShutDown | Self::Died => Value::Null,
        }
    }
}

impl Event {
    /// The event as an object: `at` (RFC 3339 with milliseconds), `event` (the kind), `worker` and
    /// `incarnation` where it is about one, and what the kind has beside.
    pub fn to_json(&self) -> Value {
        let mut object = Map::new();
        let at = humantime::format_rfc3339_millis(self.at);
        object.insert("at".to_owned(), json!(at.to_string()));
        object.insert("event".to_owned(), json!(self.kind.as_str()));
        if !self.worker.is_empty() {
            object.insert("worker".to_owned(), json!(self.worker));
        }
        if self.incarnation > 0 {
            object.insert("incarnation".to_owned(), json!(self.incarnation));
        }
        if let Value::Object(details) = self.kind.details() {
            object.extend(details);
        }
        Value::Object(object)
    }
}

/// How an incarnation ended: an object with one of `code`, `signal`, `returned`, `failed`,
/// `unknown` and `let_go`.
pub(crate) fn exit_json(exit: &Exit) -> Value {
    match exit {
        Exit::Code(code) => json!({ "code": code }),
        Exit::Signal { signal, core_dumped } => {
            json!({ "signal": signal, "core_dumped": core_dumped })
        }
        Exit::Returned => json!({ "returned": true }),
        Exit::Failed(failure) => json!({ "failed": failure_json(failure) }),
        Exit::Unknown => json!({ "unknown": true }),
        Exit::LetGo => json!({ "let_go": true }),
    }
}

fn failure_json(failure: &Failure) -> Value {
    json!({ "category": failure.category.as_str(), "message": failure.to_string() })
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, SystemTime};

    use super::*;
    use crate::error::ErrorCategory;
    use crate::module::EndpointInfo;
    use crate::worker::{HealthStatus, WorkerState};

    fn text(worker: &str, incarnation: u64, kind: EventKind) -> String {
        let at = SystemTime::UNIX_EPOCH + Duration::from_millis(1_500);
        Event { worker: worker.to_owned(), incarnation, at, kind }.to_json().to_string()
    }

    #[test]
    fn every_kind_has_its_shape() {
        let failure = Failure::new(ErrorCategory::Crash, "it broke");
        let state = EventKind::State {
            from: WorkerState::Running,
            to: WorkerState::Failed,
            cause: "crash",
            message: Some("exit 3".to_owned()),
            exit: Some(Exit::Code(3)),
        };
        let start = r#"{"at":"1970-01-01T00:00:01.500Z","#;
        let health =
            EventKind::Health { health: HealthStatus::Unhealthy, reason: "no answer".to_owned() };
        let endpoint = EventKind::Endpoint { endpoint: EndpointInfo::http("api", "127.0.0.1:80") };
        let killed = Exit::Signal { signal: 9, core_dumped: false };
        let cases = [
            (
                text("a", 3, state),
                concat!(
                    r#""cause":"crash","event":"state","exit":{"code":3},"#,
                    r#""from":"running","incarnation":3,"message":"exit 3","#,
                    r#""to":"failed","worker":"a"}"#,
                ),
            ),
            (
                text("a", 1, health),
                concat!(
                    r#""event":"health","health":"unhealthy","incarnation":1,"#,
                    r#""reason":"no answer","worker":"a"}"#,
                ),
            ),
            (
                text("a", 1, endpoint),
                concat!(
                    r#""endpoint":{"address":"127.0.0.1:80","name":"api","#,
                    r#""type":"http"},"event":"endpoint","incarnation":1,"worker":"a"}"#,
                ),
            ),
            (
                text("a", 1, EventKind::Gone { exit: killed }),
                concat!(
                    r#""event":"gone","exit":{"core_dumped":false,"signal":9},"#,
                    r#""incarnation":1,"worker":"a"}"#,
                ),
            ),
            (
                text("a", 1, EventKind::TaskFailed { failure }),
                concat!(
                    r#""category":"crash","event":"task_failed","incarnation":1,"#,
                    r#""message":"it broke","worker":"a"}"#,
                ),
            ),
            (
                text("", 0, EventKind::ReloadFailed { message: "no".to_owned() }),
                r#""event":"reload_failed","message":"no"}"#,
            ),
            (
                text(
                    "a",
                    0,
                    EventKind::LogDegraded { path: "/l".to_owned(), message: "no".to_owned() },
                ),
                r#""event":"log_degraded","message":"no","path":"/l","worker":"a"}"#,
            ),
            (
                text("a", 0, EventKind::LogRecovered { path: "/l".to_owned(), dropped: 7 }),
                r#""dropped":7,"event":"log_recovered","path":"/l","worker":"a"}"#,
            ),
            (
                text(
                    "",
                    0,
                    EventKind::StateDegraded { path: "/s".to_owned(), message: "no".to_owned() },
                ),
                r#""event":"state_degraded","message":"no","path":"/s"}"#,
            ),
            (
                text("", 0, EventKind::StateRecovered { path: "/s".to_owned() }),
                r#""event":"state_recovered","path":"/s"}"#,
            ),
            (text("a", 0, EventKind::Removed), r#""event":"removed","worker":"a"}"#),
            (text("", 0, EventKind::Missed(5)), r#""count":5,"event":"missed"}"#),
            (text("", 0, EventKind::ShutDown), r#""event":"shut_down"}"#),
            (text("", 0, EventKind::Died), r#""event":"died"}"#),
        ];
        for (seen, expected) in cases {
            assert_eq!(seen, format!("{start}{expected}"));
        }
        let (added, removed, changed) = (vec!["n".to_owned()], Vec::new(), vec!["c".to_owned()]);
        let reloaded = text("", 0, EventKind::Reloaded { added, removed, changed });
        assert!(reloaded.starts_with(r#"{"added":["n"],"at":"#), "{reloaded}");
        let end = r#""changed":["c"],"event":"reloaded","removed":[]}"#;
        assert!(reloaded.ends_with(end), "{reloaded}");
    }
}
