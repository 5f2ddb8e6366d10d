//! `status`: what the workers are doing, as a table for people or as JSON for programs.

use std::time::SystemTime;

use super::args::Status;
use super::table::{Cell, Column, render, width};
use super::terminal::{Colour, Look, harmless};
use super::words::{ago, colour_of, colour_of_health, matter, millis, size, stamp};
use super::{Outcome, print, print_json, watch};
use crate::control::{Client, Hello, StateTroubleReport, WorkerReport};
use crate::error::Result;
use crate::worker::HealthStatus;

const COLUMNS: [Column; 8] = [
    Column { head: "ID", right: false, spare: 0 },
    Column { head: "TYPE", right: false, spare: 5 },
    Column { head: "STATE", right: false, spare: 0 },
    Column { head: "HEALTH", right: false, spare: 2 },
    Column { head: "PID", right: true, spare: 3 },
    Column { head: "UPTIME", right: true, spare: 1 },
    Column { head: "RESTARTS", right: true, spare: 4 },
    Column { head: "", right: false, spare: 0 },
];

/// The same with what each worker uses: shown whole, or not at all.
const WIDE: [Column; 10] = {
    let [id, kind, state, health, pid, uptime, restarts, matter] = COLUMNS;
    let cpu = Column { head: "CPU", right: true, spare: 0 };
    let memory = Column { head: "MEM", right: true, spare: 0 };
    [id, kind, state, health, pid, uptime, restarts, cpu, memory, matter]
};

pub(super) fn status(client: &Client, arguments: &Status) -> Result<Outcome> {
    if arguments.watch {
        return watch::watch(client, arguments);
    }
    let ids: Vec<_> = arguments.ids.iter().map(String::as_str).collect();
    let workers = client.status_with_usage(&ids)?;
    if arguments.json {
        return Ok(print_json(&workers));
    }
    let look = Look::of_stdout();
    Ok(print(&format!("{}{}", table(&workers, look), trouble(client.hello(), look))))
}

/// What is wrong with the master itself, below the table; nothing where nothing is.
pub(super) fn trouble(hello: &Hello, look: Look) -> String {
    let Some(StateTroubleReport { path, message, since, .. }) = &hello.state_trouble else {
        return String::new();
    };
    let (since, ago) = (stamp(*since), ago(*since, SystemTime::now()));
    let told = format!(
        "state directory {path}, since {since} ({ago} ago): {message}; a next master may not know \
         these workers"
    );
    format!("\n{}\n", look.paint(Colour::Bad, &harmless(&told)))
}

/// The workers, one on each line.
pub(super) fn table(workers: &[WorkerReport], look: Look) -> String {
    if workers.is_empty() {
        return "no workers\n".to_owned();
    }
    let rows: Vec<_> = workers.iter().map(row).collect();
    if let Some(wide) = look.width.and_then(|room| with_usage(workers, &rows, room)) {
        return render(&WIDE, &wide, look);
    }
    render(&COLUMNS, &rows, look)
}

/// The rows with what each worker uses, if a terminal has room for all of that. A pipe has the same
/// columns wherever it leads.
fn with_usage(
    workers: &[WorkerReport],
    rows: &[[Cell; 8]],
    room: usize,
) -> Option<Vec<[Cell; 10]>> {
    let wide = |(worker, row): (&WorkerReport, &[Cell; 8])| {
        let [id, kind, state, health, pid, uptime, restarts, matter] = row.clone();
        let usage = worker.usage.clone().unwrap_or_default();
        let cpu = usage.cpu_percent.map_or("-".to_owned(), |percent| format!("{percent:.1}%"));
        let memory = usage.rss_bytes.map_or("-".to_owned(), size);
        [id, kind, state, health, pid, uptime, restarts, cpu.into(), memory.into(), matter]
    };
    let wide: Vec<_> = workers.iter().zip(rows).map(wide).collect();
    let told = workers.iter().any(|worker| worker.usage.is_some());
    (told && width(&WIDE, &wide) <= room).then_some(wide)
}

fn row(worker: &WorkerReport) -> [Cell; 8] {
    let health = match worker.health {
        HealthStatus::None => "-",
        HealthStatus::Unknown | HealthStatus::Healthy | HealthStatus::Unhealthy => {
            worker.health.as_str()
        }
    };
    [
        worker.id.as_str().into(),
        worker.worker_type.as_str().into(),
        Cell::new(colour_of(worker), worker.state.as_str()),
        Cell::new(colour_of_health(worker.health), health),
        worker.pid.map_or("-".to_owned(), |pid| pid.to_string()).into(),
        worker.uptime_ms.map_or("-".to_owned(), |uptime| millis(uptime / 1000 * 1000)).into(),
        worker.restarts.to_string().into(),
        matter(worker).into(),
    ]
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::super::samples::{failed, worker};
    use super::*;

    fn with(mut differing: Value, more: Value) -> WorkerReport {
        differing.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        worker(differing)
    }

    fn workers() -> Vec<WorkerReport> {
        let endpoint = json!({
            "name": "api", "type": "http", "kind": "url", "address": "127.0.0.1:8080",
        });
        let down = json!({
            "id": "rest", "state": "stopped", "phase": "none", "pid": null, "uptime_ms": null,
            "gave_up": true, "exit": { "code": 1, "signal": null, "text": "exit 1" },
        });
        let waiting = json!({
            "id": "api", "type": "module", "state": "uninitialized", "phase": "none", "pid": null,
            "uptime_ms": null, "waiting_for": [{ "id": "db", "condition": "healthy" }],
        });
        vec![
            worker(waiting),
            with(failed(), json!({ "id": "data-processor-1" })),
            worker(down),
            worker(json!({ "health": "healthy", "endpoints": [endpoint] })),
        ]
    }

    #[test]
    fn a_wide_terminal_and_a_pipe_get_the_whole_table() {
        let expected = "\
ID                TYPE     STATE          HEALTH    PID  UPTIME  RESTARTS
api               module   uninitialized  -           -       -         2  waits for db healthy
data-processor-1  process  failed         -           -       -         2  retry in 2s (exit 3)
rest              process  stopped        -           -       -         2  gave up (exit 1)
web               process  running        healthy  4711      3s         2  http://127.0.0.1:8080
";
        assert_eq!(table(&workers(), Look::PLAIN), expected);
        assert_eq!(table(&workers(), Look { width: Some(100), ..Look::PLAIN }), expected);
    }

    #[test]
    fn what_workers_use_is_shown_where_there_is_room_for_all_of_it() {
        let used = |percent: Value| {
            json!({ "health": "healthy", "program_changed": true,
                "usage": { "cpu_percent": percent, "rss_bytes": 1_800_000, "threads": 3 } })
        };
        let workers = [
            worker(json!({ "id": "api", "type": "module", "pid": null })),
            worker(used(12.5.into())),
            with(used(Value::Null), json!({ "id": "young" })),
        ];
        let expected = "\
ID     TYPE     STATE    HEALTH    PID  UPTIME  RESTARTS    CPU   MEM
api    module   running  -           -      3s         2      -     -
web    process  running  healthy  4711      3s         2  12.5%  1.7M  program changed
young  process  running  healthy  4711      3s         2      -  1.7M  program changed
";
        let shown = |width| table(&workers, Look { width, ..Look::PLAIN });
        assert_eq!(shown(Some(86)), expected);
        for width in [None, Some(85)] {
            let shown = shown(width);
            assert!(!shown.contains("CPU") && shown.contains("program changed"), "{shown}");
        }
    }

    #[test]
    fn a_narrow_terminal_gets_what_matters() {
        assert_eq!(
            table(&workers(), Look { width: Some(40), ..Look::PLAIN }),
            "\
ID        STATE
api       uninitialized  waits for db h…
data-pr…  failed         retry in 2s (e…
rest      stopped        gave up (exit …
web       running        http://127.0.0…
"
        );
    }

    #[test]
    fn texts_of_workers_command_no_terminal() {
        let error = json!({
            "category": "crash", "message": "\u{1b}]0;x\u{7}\nmore", "at": "2023-11-14T22:13:20Z",
        });
        let exit = Value::Null;
        let row = with(failed(), json!({ "retry_in_ms": null, "exit": exit, "last_error": error }));
        let shown = table(&[row], Look::PLAIN);
        assert!(shown.ends_with("\\u{1b}]0;x\\u{7}\n"), "{shown}");
    }

    #[test]
    fn what_an_end_was_most_likely_due_to_is_told_in_brief() {
        let exit = json!({ "code": null, "signal": 9, "text": "signal SIGKILL (9)" });
        let error = |message: &str| {
            json!({ "exit": exit, "last_error": { "category": "resource_limit",
                "message": message, "at": "2023-11-14T22:13:20Z" } })
        };
        for (message, brief) in [
            ("signal SIGKILL (9), most likely so: it counts", "signal SIGKILL (9), most likely so"),
            ("signal SIGKILL (9)", "signal SIGKILL (9)"),
            // Of another end.
            ("exit 3", "signal SIGKILL (9)"),
            ("signal SIGKILL (9)9", "signal SIGKILL (9)"),
        ] {
            let shown = table(&[with(failed(), error(message))], Look::PLAIN);
            assert!(shown.ends_with(&format!("  retry in 2s ({brief})\n")), "{shown}");
        }
    }

    #[test]
    fn a_log_that_is_lost_is_marked_while_it_is() {
        let trouble = |since: Value| {
            json!({ "log_dropped": 7, "log_trouble": {
                "message": "full", "at": "2023-11-14T22:13:22Z", "since": since,
            } })
        };
        let lost = || trouble(json!("2023-11-14T22:13:22Z"));
        let shown = table(&[worker(lost()), with(failed(), lost())], Look::PLAIN);
        let mut lines = shown.lines().skip(1);
        assert!(lines.next().unwrap().ends_with("2  its log is lost"), "{shown}");
        assert!(lines.next().unwrap().ends_with("  its log is lost; retry in 2s (exit 3)"));
        let shown = table(&[worker(trouble(Value::Null))], Look::PLAIN);
        assert!(!shown.contains("log"), "{shown}");
    }

    #[test]
    fn what_is_wrong_with_the_state_directory_is_told_below() {
        let hello = |trouble: Value| {
            let hello = json!({ "protocol": [1, 0], "state_trouble": trouble });
            super::trouble(&serde_json::from_value(hello).unwrap(), Look::PLAIN)
        };
        assert_eq!(hello(Value::Null), "");
        let told =
            hello(json!({ "path": "/s", "message": "no\u{1b}", "since": "2023-11-14T22:13:20Z" }));
        assert!(told.starts_with("\nstate directory /s, since 2023-11-14T22:13:20Z ("), "{told}");
        let end = " ago): no\\u{1b}; a next master may not know these workers\n";
        assert!(told.ends_with(end), "{told}");
    }

    #[test]
    fn nothing_is_told_as_nothing() {
        assert_eq!(table(&[], Look::PLAIN), "no workers\n");
    }
}
