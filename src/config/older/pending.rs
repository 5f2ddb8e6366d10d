//! What a translation has that this version's reader does not know yet: kept in the text, left out
//! when the file is run.

use super::super::reader::Reader;
use super::super::schema::{self, HEALTH_TYPES};
use super::super::worker::WORKER;
use super::super::yaml::{Entry, Mark, Node, Value};
use crate::error::Problem;

/// A part that is left out for now.
pub(super) struct Pending {
    /// In the translation, such as `workers[0].limits`.
    pub(super) path: String,
    pub(super) warning: Problem,
}

/// The part of a translation that the reader knows, and what it does not.
pub(super) fn split(r: &mut Reader<'_>, whole: &Node) -> (Node, Vec<Pending>) {
    let mut pending = Vec::new();
    let mut known = whole.clone();
    let Value::Map(entries) = &mut known.value else { return (known, pending) };
    let mut tell = |path: String, at: Mark| {
        let message = "is pending: this version does not know it yet, and goes without";
        pending.push(Pending { warning: r.note(&path, at, message), path });
    };
    for entry in entries {
        match (entry.key.text(), &mut entry.value.value) {
            (Some("defaults"), Value::Map(parts)) => {
                keep_known("", "defaults", parts, &schema::names(schema::DEFAULTS), &mut tell);
            }
            (Some("workers"), Value::List(workers)) => {
                for (index, worker) in workers.iter_mut().enumerate() {
                    let path = format!("workers[{index}]");
                    if let Value::Map(keys) = &mut worker.value {
                        keep_known("", &path, keys, &schema::names(WORKER), &mut tell);
                    }
                }
            }
            _ => {}
        }
    }
    (known, pending)
}

/// Keeps the entries of a worker, or of the defaults, that the reader knows. `part`: the path
/// within the worker, `place`: that within the file.
fn keep_known(
    part: &str,
    place: &str,
    entries: &mut Vec<Entry>,
    known: &[&str],
    tell: &mut impl FnMut(String, Mark),
) {
    let parts = schema::parts();
    entries.retain_mut(|entry| {
        let key = entry.key.text().unwrap_or_default().to_owned();
        let place = format!("{place}.{key}");
        if !known.contains(&&*key) || is_unknown_check(&key, &entry.value) {
            tell(place, entry.key.at);
            return false;
        }
        let dot = if part.is_empty() { "" } else { "." };
        let part = format!("{part}{dot}{key}");
        let below = parts.iter().find(|(known, _)| *known == part);
        if let (Some((_, known)), Value::Map(entries)) = (below, &mut entry.value.value) {
            keep_known(&part, &place, entries, known, tell);
        }
        true
    });
}

/// The kinds of checks that there will be.
const CHECKS_TO_COME: [&str; 4] = ["http", "tcp", "grpc", "exec"];

/// True for a health check of a kind that the reader has no word for yet.
fn is_unknown_check(key: &str, value: &Node) -> bool {
    let kind = value.entry("type").and_then(|entry| entry.value.text());
    key == "health_check"
        && kind.is_some_and(|kind| {
            let known = HEALTH_TYPES.iter().any(|(word, _)| *word == kind);
            CHECKS_TO_COME.contains(&kind) && !known
        })
}
