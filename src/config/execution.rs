//! The keys of a process's settings and limits, and the kinds of values that they alone have.

use super::reader::{Key, Reader};
use super::yaml::Node;
use crate::worker::{HardLimits, LimitsConfig};

pub(super) const LIMITS: &[Key<LimitsConfig>] =
    &[("hard", |r, node, limits| r.mapping(node, HARD, &mut limits.hard))];

pub(super) const HARD: &[Key<HardLimits>] = &[
    ("memory", |r, node, hard| r.set(node, &mut hard.memory, |r, node| limit(r, node, bytes))),
    ("open_files", |r, node, hard| {
        r.set(node, &mut hard.open_files, |r, node| limit(r, node, count));
    }),
    ("processes", |r, node, hard| {
        r.set(node, &mut hard.processes, |r, node| limit(r, node, count));
    }),
    ("core", |r, node, hard| r.set(node, &mut hard.core, |r, node| limit(r, node, bytes))),
];

fn bytes(r: &mut Reader<'_>, node: &Node) -> Option<u64> {
    r.size(node).and_then(|size| u64::try_from(size).ok())
}

fn count(r: &mut Reader<'_>, node: &Node) -> Option<u64> {
    r.count(node).map(u64::from)
}

/// How much of something there may be, or that it is not limited.
fn limit(
    r: &mut Reader<'_>,
    node: &Node,
    read: fn(&mut Reader<'_>, &Node) -> Option<u64>,
) -> Option<Option<u64>> {
    if node.text() == Some("unlimited") {
        return Some(Some(HardLimits::UNLIMITED));
    }
    read(r, node).map(Some)
}

/// A user or a group, by name or number.
pub(super) fn account(r: &mut Reader<'_>, node: &Node) -> Option<Option<String>> {
    r.text(node).map(Some)
}

/// Permission bits in octal, as every tool has them: `027` with or without quotes.
pub(super) fn umask(r: &mut Reader<'_>, node: &Node) -> Option<Option<u32>> {
    let text = r.text(node)?;
    let octal = !text.is_empty() && text.bytes().all(|byte| matches!(byte, b'0'..=b'7'));
    let read = u32::from_str_radix(&text, 8).ok().filter(|_| octal);
    if read.is_none() {
        let shown: String = text.chars().take(60).collect();
        let message = format!("{shown:?} is no umask; write octal digits such as \"027\"");
        r.problem(node.at, message);
    }
    read.map(Some)
}

/// A whole number that may be below zero.
pub(super) fn number(r: &mut Reader<'_>, node: &Node) -> Option<Option<i32>> {
    r.integer(node).map(Some)
}
