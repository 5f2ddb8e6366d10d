//! How a worker of the older format is checked.

use super::super::yaml::{Mark, Node};
use super::values;
use super::walk::{Key, Tree, Walk};

/// What is written about a worker's check.
#[derive(Default)]
pub(super) struct Health {
    kind: Option<Node>,
    /// For each kind what is asked: `http.url` and so on.
    asked: Tree,
    options: Tree,
    disabled: bool,
    written: bool,
}

/// `health_check`
pub(super) const CHECK: &[Key<Health>] = &[
    ("type", |w, node, health| {
        health.written = true;
        health.kind = Some(values::text(w, node));
    }),
    ("http", |w, node, health| w.mapping(node, HTTP, &mut health.asked)),
    ("grpc", |w, node, health| w.mapping(node, GRPC, &mut health.asked)),
    ("tcp", tcp),
    ("exec", |w, node, health| w.mapping(node, EXEC, &mut health.asked)),
    ("run_options", |w, node, health| w.mapping(node, RUN_OPTIONS, health)),
];

const HTTP: &[Key<Tree>] = &[
    ("url", |w, node, asked| asked.put("http.url", values::text(w, node))),
    ("method", |w, node, asked| asked.put("http.method", values::text(w, node))),
    ("headers", |w, node, asked| asked.put("http.headers", values::mapping(w, node))),
];

const GRPC: &[Key<Tree>] = &[
    ("address", |w, node, asked| asked.put("grpc.address", values::text(w, node))),
    ("service", |w, node, asked| asked.put("grpc.service", values::text(w, node))),
];

const EXEC: &[Key<Tree>] = &[
    ("command", |w, node, asked| asked.put("exec.command", values::text(w, node))),
    ("args", |w, node, asked| asked.put("exec.args", values::texts(w, node))),
];

/// `run_options`, and an integrated worker's `health_check_run_options`
pub(super) const RUN_OPTIONS: &[Key<Health>] = &[
    ("enabled", |w, node, health| health.disabled = values::is(w, node, false)),
    ("interval", |w, node, health| health.options.put("interval", values::duration(w, node))),
    ("timeout", |w, node, health| health.options.put("timeout", values::duration(w, node))),
    ("initial_delay", |w, node, health| {
        health.options.put("initial_delay", values::duration(w, node));
    }),
    ("retries", |w, node, health| {
        if values::count_of(node) == Some(0) {
            return w.warn("is 0, which had no effect, and is left out");
        }
        w.comment("the check's retries hold now; they had no effect");
        health.options.put("retries", node.clone());
    }),
];

/// An address and a port, which are one today.
fn tcp(w: &mut Walk<'_, '_>, node: &Node, health: &mut Health) {
    let mut written = Tree::default();
    w.mapping(node, TCP, &mut written);
    let text = |key: &str| written.get(key).and_then(Node::text).map(str::to_owned);
    let Some(at) = written.get("address").or_else(|| written.get("port")).map(|node| node.at)
    else {
        return;
    };
    let host = text("address").unwrap_or_else(|| "127.0.0.1".to_owned());
    let address = match text("port") {
        Some(port) if host.contains(':') && !host.starts_with('[') => format!("[{host}]:{port}"),
        Some(port) => format!("{host}:{port}"),
        None => host,
    };
    health.asked.put_text("tcp.address", at, address);
}

const TCP: &[Key<Tree>] = &[
    ("address", |w, node, written| written.put("address", values::text(w, node))),
    ("port", |w, node, written| written.put("port", values::text(w, node))),
];

impl Health {
    /// Writes `health_check`. An integrated worker's was a connection to its port.
    pub(super) fn put(
        mut self,
        w: &mut Walk<'_, '_>,
        at: Mark,
        integrated: bool,
        port: Option<&str>,
        tree: &mut Tree,
    ) {
        if self.disabled {
            return w.comment("its health check was not enabled, and is left out");
        }
        if integrated && !self.written {
            let Some(port) = port else { return };
            let address = values::literally(&format!("127.0.0.1:{port}"));
            self.kind = Some(values::plain(at, "tcp"));
            self.asked.put_text("tcp.address", at, address);
            for (key, usual) in [("interval", "30s"), ("timeout", "5s")] {
                if !self.options.has(key) {
                    self.options.put_text(key, at, usual);
                }
            }
        }
        let Some(kind) = self.kind else {
            if !self.asked.is_empty() || !self.options.is_empty() {
                w.warn_at(at, "its health check has no type, and is left out");
            }
            return;
        };
        let word = kind.text().unwrap_or_default().to_owned();
        tree.put("health_check.type", kind);
        for entry in self.asked.into_entries() {
            let key = entry.key.text().unwrap_or_default();
            if key == word {
                tree.put(&format!("health_check.{key}"), entry.value);
            } else {
                w.warn_at(
                    entry.key.at,
                    format!("health_check.{key} has no effect: its type is {word}"),
                );
            }
        }
        tree.put_all("health_check", self.options);
    }
}
