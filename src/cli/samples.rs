//! Workers as a master would describe them: what the tests of the texts are about.

use std::time::{Duration, SystemTime};

use serde_json::{Value, json};

use crate::control::{Description, WorkerReport};

/// Three seconds after the samples' last change.
pub(super) fn now() -> SystemTime {
    SystemTime::UNIX_EPOCH + Duration::from_secs(1_700_000_003)
}

fn merge(into: &mut Value, from: Value) {
    if let (Value::Object(into), Value::Object(from)) = (into, from) {
        into.extend(from);
    }
}

/// A running program, but for what `differing` says.
fn object(differing: Value) -> Value {
    let mut worker = json!({
        "id": "web", "type": "process", "module_type": null, "module_name": null,
        "executable_path": "/bin/web", "state": "running", "health": "none", "goal": "up",
        "phase": "up", "ending": false, "ready": true, "incarnation": 3, "pid": 4711,
        "since": "2023-11-14T22:13:20Z", "uptime_ms": 3000, "restarts": 2, "retry_at": null,
        "retry_in_ms": null, "gave_up": false, "completed": false, "waiting_for": [],
        "cause": "started", "exit": null, "last_error": null, "warning": null,
        "abandoned_threads": 0, "task_failures": 0, "call_panics": 0, "endpoints": [],
        "usage": null, "capabilities": null,
    });
    merge(&mut worker, differing);
    worker
}

pub(super) fn worker(differing: Value) -> WorkerReport {
    serde_json::from_value(object(differing)).unwrap()
}

/// The same with everything there is to say.
pub(super) fn description(differing: Value) -> Description {
    let mut known = object(json!({}));
    merge(
        &mut known,
        json!({
            "failures": 0, "history": [], "last_output": [],
            "config": {
                "enabled": true, "command": ["/bin/web", "--motd", "it's\u{7} on"],
                "working_directory": "/srv", "environment": ["HOME", "PORT"],
                "start_timeout_ms": 30000, "stop_timeout_ms": 10000, "stop_signal": 15,
                "kill_group": true, "on_master_exit": "stop",
                "restart_policy": "on-failure", "max_retries": 5, "reset_after_ms": 60000,
                "half_open_after_ms": 300_000, "health_interval_ms": null, "success_codes": [0],
            },
        }),
    );
    merge(&mut known, differing);
    serde_json::from_value(known).unwrap()
}

/// What a failed one has beside.
pub(super) fn failed() -> Value {
    json!({
        "state": "failed", "phase": "none", "pid": null, "uptime_ms": null, "ready": false,
        "cause": "crash", "exit": { "code": 3, "signal": null, "text": "exit 3" },
        "last_error": {
            "category": "crash", "message": "exit 3", "at": "2023-11-14T22:13:20Z",
        },
        "retry_at": "2023-11-14T22:13:25Z", "retry_in_ms": 2000, "failures": 2,
        "last_output": ["opening the database", "cannot: \u{1b}[31mrefused"],
        "history": [
            { "at": "2023-11-14T22:13:19Z", "from": "starting", "to": "running",
              "cause": "started", "incarnation": 3, "message": null, "exit": null },
            { "at": "2023-11-14T22:13:20Z", "from": "running", "to": "failed",
              "cause": "crash", "incarnation": 3, "message": "exit 3",
              "exit": { "code": 3, "signal": null, "text": "exit 3" } },
        ],
    })
}
