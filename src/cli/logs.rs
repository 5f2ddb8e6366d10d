//! `logs`: what the workers have written, as it is to a pipe, and without commands to a terminal.

use std::io::IsTerminal as _;
use std::path::Path;

use serde_json::{Value, json};

use super::args::Logs;
use super::terminal::harmless_bytes;
use super::{Outcome, Stream, complain, warn};
use crate::control::{Client, LogEntry, LogQuery};
use crate::error::{self, Error};
use crate::host::protocol::payload;
use crate::logs::{Query, read_left};

pub(super) fn logs(client: &Client, arguments: &Logs) -> error::Result<Outcome> {
    let query = LogQuery {
        ids: arguments.ids.clone(),
        lines: arguments.lines,
        follow: arguments.follow,
        stdout: !arguments.stderr,
        stderr: !arguments.stdout,
    };
    let mut out = Stream::new(arguments.follow);
    let escaped = std::io::stdout().is_terminal();
    for entry in client.logs(query)? {
        if let Err(end) = tell(&mut out, &entry?, arguments, escaped) {
            return Ok(end);
        }
    }
    Ok(out.end())
}

/// Reads the files that a master has left in `directory`, which is no more.
pub(super) fn left(directory: &Path, arguments: &Logs, missing: &Error) -> Outcome {
    warn(&format!("{missing}\n"));
    let mut query = Query::last(arguments.lines);
    (query.stdout, query.stderr) = (!arguments.stderr, !arguments.stdout);
    let ids: Vec<_> = arguments.ids.iter().map(String::as_str).collect();
    let reader = match read_left(directory, &ids, &query) {
        Ok(reader) => reader,
        Err(error) => {
            complain(&error);
            return Outcome::NoMaster;
        }
    };
    warn(&format!("this is what is in {}:\n", directory.display()));
    let mut out = Stream::new(false);
    let escaped = std::io::stdout().is_terminal();
    for entry in reader {
        for line in entry.bytes.split_inclusive(|byte| *byte == b'\n') {
            let line = line.strip_suffix(b"\n").unwrap_or(line).to_vec();
            let entry = LogEntry { worker: entry.worker.clone(), line, notice: entry.notice };
            if let Err(end) = tell(&mut out, &entry, arguments, escaped) {
                return end;
            }
        }
    }
    let end = out.end();
    // Nothing can be followed.
    if end == Outcome::Done && arguments.follow { Outcome::NoMaster } else { end }
}

/// Prints an entry. An error is what the command ends with.
fn tell(
    out: &mut Stream,
    entry: &LogEntry,
    arguments: &Logs,
    escaped: bool,
) -> Result<(), Outcome> {
    if arguments.json {
        return out.line(as_json(entry).to_string().as_bytes());
    }
    if entry.notice {
        warn(&format!("{}: {}\n", entry.worker, harmless_bytes(&entry.line)));
        return Ok(());
    }
    out.line(&shown(entry, arguments.ids.len() != 1, escaped))
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
