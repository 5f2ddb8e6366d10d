//! hsu-master's older format, that of its Go version: recognised, and translated as a whole, tree
//! to tree, before anything is read. Places stay those of the file: problems are told there.

mod control;
mod health;
mod limits;
mod logs;
mod pending;
mod print;
mod restart;
mod unmanaged;
mod values;
mod walk;
mod worker;

use super::reader::Reader;
use super::yaml::{Mark, Node, Value};
use crate::error::Problem;
use pending::Pending;
use walk::{Key, Tree, Walk};

/// What the workers of an older file may call themselves.
const TYPES: [&str; 3] = ["managed", "integrated", "unmanaged"];

/// An older file in today's words.
pub(super) struct Translation {
    /// All of it, with what this version does not know yet.
    whole: Node,
    /// What of it this version knows.
    pub(super) known: Node,
    pending: Vec<Pending>,
    notes: Vec<Note>,
}

/// Something to be said about the translation.
struct Note {
    /// The worker that it is about.
    worker: Option<usize>,
    text: String,
    /// Where it is, if it is a warning.
    warning: Option<Problem>,
}

impl Translation {
    /// What the file's author should know, in the order of the file.
    pub(super) fn warnings(&self) -> Vec<Problem> {
        let told = self.notes.iter().filter_map(|note| note.warning.clone());
        let mut warnings: Vec<Problem> =
            told.chain(self.pending.iter().map(|pending| pending.warning.clone())).collect();
        warnings.sort_by_key(|warning| (warning.line, warning.column));
        warnings
    }

    /// The text of a file in today's format. `file`: what it was translated from.
    pub(super) fn text(&self, file: &str) -> String {
        print::print(self, file)
    }
}

/// Translates a file if it is in the older format. What is wrong with it is noted in `r`.
pub(super) fn translate(r: &mut Reader<'_>, root: &Node) -> Option<Translation> {
    let workers = workers_of(root)?;
    let older = workers.iter().position(is_older)?;
    let is_of_today = |node: &Node| matches!(node.value, Value::Map(_)) && !is_older(node);
    if let Some(other) = workers.iter().position(is_of_today) {
        let line = workers[other].at.line;
        let message = format!(
            "is in the format of hsu-master's Go version, and workers[{other}] in line {line} is \
             not: a file is wholly in one format"
        );
        let at = mark_of_format(&workers[older]);
        let step = r.step_into(&format!("workers[{older}]"));
        r.problem(at, message);
        r.step_out(step);
        return None;
    }
    let mut walk = Walk::new(r);
    let mut tree = Tree::default();
    walk.mapping(root, FILE, &mut tree);
    let whole = tree.into_node(root.at);
    let notes = walk.into_notes();
    let (known, pending) = pending::split(r, &whole);
    Some(Translation { whole, known, pending, notes })
}

fn workers_of(root: &Node) -> Option<&[Node]> {
    let workers = root.entry("workers").map(|entry| &entry.value.value);
    if let Some(Value::List(workers)) = workers { Some(workers) } else { None }
}

/// Where a file shows that it is in the older format, if it is.
pub(super) fn mark(root: &Node) -> Option<Mark> {
    workers_of(root)?.iter().find(|worker| is_older(worker)).map(mark_of_format)
}

fn is_older(worker: &Node) -> bool {
    let kind = worker.entry("type").and_then(|entry| entry.value.text());
    worker.entry("unit").is_some() || kind.is_some_and(|kind| TYPES.contains(&kind))
}

/// Where a worker shows that it is in the older format.
fn mark_of_format(worker: &Node) -> Mark {
    let shown = worker.entry("unit").or_else(|| worker.entry("type"));
    shown.map_or(worker.at, |entry| entry.key.at)
}

const FILE: &[Key<Tree>] = &[
    ("master", |w, node, tree| w.mapping(node, MASTER, tree)),
    ("log_collection", |w, node, tree| logs::of_all(w, node, tree)),
    ("workers", workers),
    ("defaults", not_older),
    ("include", not_older),
    ("groups", not_older),
];

const MASTER: &[Key<Tree>] = &[
    ("port", |w, _, _| {
        w.warn("has no equal: nothing listens there; programs and people use the control socket");
    }),
    ("log_level", |w, node, tree| {
        let level = values::word(w, node, &[("warning", "warn")]);
        tree.put("master.log_level", level);
    }),
    ("force_shutdown_timeout", |w, node, tree| {
        tree.put("master.shutdown_timeout", values::duration(w, node));
    }),
];

fn not_older(w: &mut Walk<'_, '_>, _: &Node, _: &mut Tree) {
    let message = "is not of the format of hsu-master's Go version, in which the workers are: a \
                   file is wholly in one format";
    w.problem(message);
}

fn workers(w: &mut Walk<'_, '_>, node: &Node, tree: &mut Tree) {
    let Value::List(nodes) = &node.value else { return };
    let translated = nodes
        .iter()
        .enumerate()
        .map(|(index, node)| w.worker(index, node.at, |w| worker::worker(w, node)));
    let list = Node { at: node.at, value: Value::List(translated.collect()) };
    tree.put("workers", list);
}
