//! The limits of a worker of the older format.

use super::super::yaml::{Node, Value};
use super::values;
use super::walk::{Key, Tree, Walk, no_equal};
use super::worker::Work;

/// `control.limits`
pub(super) const LIMITS: &[Key<Work>] = &[
    ("memory", |w, node, work| w.mapping(node, MEMORY, &mut work.limits)),
    ("cpu", |w, node, work| w.mapping(node, CPU, &mut work.limits)),
    ("process", |w, node, work| w.mapping(node, PROCESS, &mut work.limits)),
    ("priority", |_, node, work| work.execution.put("nice", node.clone())),
    ("monitoring", |w, node, work| w.mapping(node, MONITORING, &mut work.limits)),
    ("io", no_equal),
    ("cpu_shares", no_equal),
];

const MEMORY: &[Key<Tree>] = &[
    ("max_rss", |w, node, limits| put_limit(w, "memory.max_rss", node.clone(), limits)),
    ("max_virtual", |w, node, limits| put_limit(w, "hard.memory", node.clone(), limits)),
    ("max_swap", no_equal),
    ("warning_threshold", |w, node, limits| {
        put_limit(w, "memory.warning_threshold", node.clone(), limits);
    }),
    ("policy", |w, node, limits| {
        let policy = policy(w, node);
        limits.put("memory.policy", policy);
    }),
];

const CPU: &[Key<Tree>] = &[
    ("max_percent", |w, node, limits| put_limit(w, "cpu.max_percent", node.clone(), limits)),
    ("max_cores", |w, node, limits| {
        if limits.find("cpu.max_percent").is_some() {
            return w.warn("has no effect beside max_percent");
        }
        let percent = values::thousandths(node).map(u64::from);
        // However little it is, it is no 0, which would be none.
        let percent = percent.map(|cores| (cores / 10).max(cores.min(1)));
        match percent {
            Some(percent) => {
                let percent = values::number(node.at, percent);
                put_limit(w, "cpu.max_percent", percent, limits);
            }
            None => w.problem("must be a number of cores"),
        }
    }),
    ("max_time", |w, node, limits| {
        let time = values::duration(w, node);
        put_limit(w, "cpu.max_time", time, limits);
    }),
    ("warning_threshold", |w, node, limits| {
        put_limit(w, "cpu.warning_threshold", node.clone(), limits);
    }),
    ("policy", |w, node, limits| {
        let policy = policy(w, node);
        limits.put("cpu.policy", policy);
    }),
];

const PROCESS: &[Key<Tree>] = &[
    ("max_processes", |w, node, limits| {
        put_limit(w, "process.max_processes", node.clone(), limits);
    }),
    ("max_file_descriptors", |w, node, limits| {
        put_limit(w, "process.max_file_descriptors", node.clone(), limits);
    }),
    ("max_child_processes", |w, node, limits| {
        if limits.find("process.max_processes").is_some() {
            return w.warn("has no equal beside max_processes, and is left out");
        }
        put_limit(w, "process.max_processes", node.clone(), limits);
    }),
    ("warning_threshold", |w, node, limits| {
        put_limit(w, "process.warning_threshold", node.clone(), limits);
    }),
    ("policy", |w, node, limits| {
        let policy = policy(w, node);
        limits.put("process.policy", policy);
    }),
];

const MONITORING: &[Key<Tree>] = &[
    ("enabled", |w, node, _| {
        if values::is(w, node, false) {
            w.warn("has no equal: limits are looked after where there are some");
        }
    }),
    ("interval", |w, node, limits| {
        let interval = values::duration(w, node);
        put_limit(w, "interval", interval, limits);
    }),
    ("history_retention", no_equal),
];

/// Puts a limit in place. One of 0 was none: to a Go program it is the same as one not written.
fn put_limit(w: &mut Walk<'_, '_>, path: &str, limit: Node, limits: &mut Tree) {
    let none = values::thousandths(&limit) == Some(0)
        || values::duration_of(&limit).is_some_and(|limit| limit.is_zero());
    if none {
        w.comment(format!("limits.{path} was 0, which is no limit, and is left out"));
    } else {
        limits.put(path, limit);
    }
}

/// What happens at a violation.
fn policy(w: &mut Walk<'_, '_>, node: &Node) -> Node {
    match node.text() {
        Some("alert") => w.comment("the policy alert is log today: each violation is an event"),
        Some("restart_adjusted") => {
            w.warn("is `restart` today: nothing is adjusted");
        }
        Some(_) | None => {}
    }
    values::word(w, node, &[("alert", "log"), ("restart_adjusted", "restart")])
}

/// Writes `limits`.
pub(super) fn put(limits: Tree, sustained: Option<Node>, tree: &mut Tree) {
    if limits.is_empty() {
        return;
    }
    let parts = ["memory", "cpu", "process"].into_iter().filter(|part| limits.has(part));
    let parts: Vec<&str> = parts.collect();
    tree.put_all("limits", limits);
    if let Some(sustained) = sustained {
        for part in parts {
            tree.put(&format!("limits.{part}.sustained"), sustained.clone());
        }
    }
}

impl Tree {
    /// The value at a path.
    fn find(&self, path: &str) -> Option<&Node> {
        let (part, key) = path.split_once('.')?;
        let part = self.get(part)?;
        if let Value::Map(_) = part.value { part.find(key) } else { None }
    }
}
