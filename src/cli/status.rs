//! `status`: what the workers are doing, as a table for people or as JSON for programs.

use super::args::Status;
use super::table::{Cell, Column, render};
use super::terminal::Look;
use super::words::{colour_of, colour_of_health, matter, millis};
use super::{Outcome, print, print_json, watch};
use crate::control::{Client, WorkerReport};
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

pub(super) fn status(client: &Client, arguments: &Status) -> Result<Outcome> {
    if arguments.watch {
        return watch::watch(client, arguments);
    }
    let ids: Vec<_> = arguments.ids.iter().map(String::as_str).collect();
    let workers = client.status(&ids)?;
    if arguments.json {
        return Ok(print_json(&workers));
    }
    Ok(print(&table(&workers, Look::of_stdout())))
}

/// The workers, one on each line.
pub(super) fn table(workers: &[WorkerReport], look: Look) -> String {
    if workers.is_empty() {
        return "no workers\n".to_owned();
    }
    let rows: Vec<_> = workers.iter().map(row).collect();
    render(&COLUMNS, &rows, look)
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
