//! `logs`: what the workers have written, as it is to a pipe, and without commands to a terminal.

use std::io::IsTerminal as _;

use serde_json::{Value, json};

use super::args::Logs;
use super::terminal::harmless_bytes;
use super::{Outcome, Stream, warn};
use crate::control::{Client, LogEntry, LogQuery};
use crate::error::Result;
use crate::host::protocol::payload;

pub(super) fn logs(client: &Client, arguments: &Logs) -> Result<Outcome> {
    let labelled = arguments.ids.len() != 1;
    let escaped = std::io::stdout().is_terminal();
    let query = LogQuery {
        ids: arguments.ids.clone(),
        lines: arguments.lines,
        follow: arguments.follow,
        stdout: !arguments.stderr,
        stderr: !arguments.stdout,
    };
    let mut out = Stream::new(arguments.follow);
    for entry in client.logs(query)? {
        let entry = entry?;
        if arguments.json {
            if let Err(end) = out.line(as_json(&entry).to_string().as_bytes()) {
                return Ok(end);
            }
        } else if entry.notice {
            warn(&format!("{}: {}\n", entry.worker, harmless_bytes(&entry.line)));
        } else if let Err(end) = out.line(&shown(&entry, labelled, escaped)) {
            return Ok(end);
        }
    }
    Ok(out.end())
}

fn shown(entry: &LogEntry, labelled: bool, escaped: bool) -> Vec<u8> {
    let mut line = Vec::with_capacity(entry.worker.len() + 3 + entry.line.len());
    if labelled {
        line.extend_from_slice(entry.worker.as_bytes());
        line.extend_from_slice(b" | ");
    }
    match escaped {
        true => line.extend_from_slice(harmless_bytes(&entry.line).as_bytes()),
        false => line.extend_from_slice(&entry.line),
    }
    line
}

fn as_json(entry: &LogEntry) -> Value {
    let LogEntry { worker, line, notice, .. } = entry;
    match std::str::from_utf8(line) {
        Ok(line) => json!({ "worker": worker, "line": line, "notice": notice }),
        Err(_) => json!({ "worker": worker, "line_b64": payload::text(line), "notice": notice }),
    }
}
