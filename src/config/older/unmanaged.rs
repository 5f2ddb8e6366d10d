//! A process of others in the older format: how it is found, and what may be done to it.

use super::super::yaml::Node;
use super::control::relative;
use super::health;
use super::values;
use super::walk::{Key, Tree, Walk, no_equal};
use super::worker::{METADATA, Work};

/// What is written about how a process is found.
#[derive(Default)]
pub(super) struct Discovery {
    method: Option<String>,
    /// By the key of `unmanaged` that it becomes.
    ways: Tree,
    can_terminate: Option<Node>,
}

/// `unit.unmanaged`
pub(super) const UNMANAGED: &[Key<Work>] = &[
    ("metadata", |w, node, work| w.mapping(node, METADATA, work)),
    ("discovery", |w, node, work| {
        w.mapping(node, DISCOVERY, &mut work.discovery);
    }),
    ("control", |w, node, work| w.mapping(node, CONTROL, work)),
    ("health_check", |w, node, work| w.mapping(node, health::CHECK, &mut work.health)),
];

const DISCOVERY: &[Key<Discovery>] = &[
    ("method", |w, node, found| match node.text() {
        Some("service-name") => w.problem(
            "services are not looked up; write its pid file, its process's name or its port",
        ),
        Some(method @ ("process-name" | "port" | "pid-file")) => {
            found.method = Some(method.to_owned());
        }
        Some(_) | None => w.problem("must be process-name, port or pid-file"),
    }),
    ("pid_file", |w, node, found| {
        relative(w, node);
        found.ways.put("pid_file", values::text(w, node));
    }),
    ("process_name", |w, node, found| found.ways.put("process_name", values::text(w, node))),
    ("process_args", |w, node, found| found.ways.put("process_args", values::texts(w, node))),
    ("port", |_, node, found| found.ways.put("port", node.clone())),
    ("protocol", |w, node, _| {
        if node.text() != Some("tcp") {
            w.problem("must be tcp: only those who listen on a TCP port are found");
        }
    }),
    ("service_name", no_equal),
    ("check_interval", |w, _, _| w.warn("has no equal: its end is learnt of when it comes")),
];

const CONTROL: &[Key<Work>] = &[
    ("can_terminate", |w, node, work| {
        work.discovery.can_terminate = Some(values::boolean(w, node));
    }),
    ("can_restart", |w, _, _| w.warn("has no equal: it is looked for again, not started")),
    ("service_manager", no_equal),
    ("service_name", no_equal),
    ("allowed_signals", |w, _, _| {
        w.warn("has no equal: with can_terminate it gets stop.signal, then SIGKILL, else nothing");
    }),
    ("graceful_timeout", |w, node, work| work.stop_timeout = Some(values::duration(w, node))),
];

impl Discovery {
    /// Writes `unmanaged`, if there is one. True when the process may be ended.
    pub(super) fn put(self, w: &mut Walk<'_, '_>, tree: &mut Tree) -> bool {
        let wanted: &[&str] = match self.method.as_deref() {
            Some("pid-file") => &["pid_file"],
            Some("process-name") => &["process_name", "process_args"],
            Some("port") => &["port"],
            // The reader says what there must be one of.
            Some(_) | None => &["pid_file", "process_name", "process_args", "port"],
        };
        for entry in self.ways.into_entries() {
            let key = entry.key.text().unwrap_or_default();
            if wanted.contains(&key) {
                tree.put(&format!("unmanaged.{key}"), entry.value);
            } else {
                w.warn_at(entry.key.at, format!("discovery.{key} has no effect with its method"));
            }
        }
        let Some(can_terminate) = self.can_terminate else { return false };
        let may = values::is(w, &can_terminate, true);
        tree.put("unmanaged.can_terminate", can_terminate);
        may
    }
}
