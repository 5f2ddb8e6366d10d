//! What the older format says of workers' output: of all of it only the rotation has an equal,
//! and had no effect.

use super::super::yaml::Node;
use super::values;
use super::walk::{Key, Tree, Walk, no_equal};

/// `log_collection` of the file: for all workers.
pub(super) fn of_all(w: &mut Walk<'_, '_>, node: &Node, tree: &mut Tree) {
    let mut logs = Tree::default();
    w.mapping(node, COLLECTION, &mut logs);
    if !logs.is_empty() {
        tree.put_all("defaults.logs", logs);
    }
}

/// `log_collection` of a worker.
pub(super) fn of_worker(w: &mut Walk<'_, '_>, node: &Node, logs: &mut Tree) {
    w.mapping(node, COLLECTION, logs);
}

const COLLECTION: &[Key<Tree>] = &[
    ("enabled", captured),
    ("default_worker", |w, node, logs| w.mapping(node, COLLECTION, logs)),
    ("capture_stdout", captured),
    ("capture_stderr", captured),
    ("outputs", |w, node, logs| w.mapping(node, OUTPUTS, logs)),
    ("global_aggregation", no_equal),
    ("enhancement", no_equal),
    ("system", no_equal),
];

/// What is captured today, too, needs no word.
fn captured(w: &mut Walk<'_, '_>, node: &Node, _: &mut Tree) {
    if !values::is(w, node, true) {
        w.warn("has no equal: what workers write is captured");
    }
}

const OUTPUTS: &[Key<Tree>] = &[("separate", |w, node, logs| w.mapping(node, SEPARATE, logs))];

const SEPARATE: &[Key<Tree>] = &[("stdout", outputs), ("stderr", outputs)];

fn outputs(w: &mut Walk<'_, '_>, node: &Node, logs: &mut Tree) {
    w.list(node, |w, node| w.mapping(node, OUTPUT, logs));
}

const OUTPUT: &[Key<Tree>] = &[
    ("type", |w, node, _| {
        if node.text() != Some("file") {
            w.warn("has no equal: what workers write goes into files");
        }
    }),
    ("path", |w, _, _| w.warn("has no equal: the files are in master.log_dir, one for a worker")),
    ("format", no_equal),
    ("rotation", |w, node, logs| w.mapping(node, ROTATION, logs)),
];

const ROTATION: &[Key<Tree>] = &[
    ("max_size", |w, node, logs| first(w, node, "max_size", logs)),
    ("max_files", |w, node, logs| first(w, node, "max_files", logs)),
    ("max_age", no_equal),
];

/// There is one file for both streams of a worker: what is written first counts.
fn first(w: &mut Walk<'_, '_>, node: &Node, key: &str, logs: &mut Tree) {
    let node = match node.text() {
        Some(_) => values::text(w, node),
        None => node.clone(),
    };
    match logs.get(key) {
        None => logs.put(key, node),
        Some(known) if known.value == node.value => {}
        Some(_) => w.warn("has no effect: a worker has one file, and another value is first"),
    }
}
