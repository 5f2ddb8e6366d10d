//! One worker of the older format: what kind it is, and its unit.

use super::super::yaml::{Mark, Node, Value};
use super::control::{INTEGRATED, MANAGED};
use super::health::Health;
use super::restart::Restart;
use super::unmanaged::{Discovery, UNMANAGED};
use super::values;
use super::walk::{Key, Tree, Walk};

/// The kinds of workers there were.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Managed,
    Integrated,
    Unmanaged,
}

impl Kind {
    const ALL: [Self; 3] = [Self::Managed, Self::Integrated, Self::Unmanaged];

    fn as_str(self) -> &'static str {
        match self {
            Self::Managed => "managed",
            Self::Integrated => "integrated",
            Self::Unmanaged => "unmanaged",
        }
    }
}

/// A worker while it is translated.
pub(super) struct Work {
    pub(super) at: Mark,
    pub(super) kind: Option<Kind>,
    /// What is translated already.
    pub(super) tree: Tree,
    pub(super) execution: Tree,
    pub(super) program: Option<String>,
    /// The port that an integrated worker's arguments name.
    pub(super) port: Option<String>,
    pub(super) health: Health,
    pub(super) profile: Option<String>,
    pub(super) restart: Restart,
    pub(super) stop_timeout: Option<Node>,
    pub(super) limits: Tree,
    pub(super) sustained: Option<Node>,
    pub(super) discovery: Discovery,
    pub(super) logs: Tree,
}

impl Work {
    fn new(at: Mark) -> Self {
        Self {
            at,
            kind: None,
            tree: Tree::default(),
            execution: Tree::default(),
            program: None,
            port: None,
            health: Health::default(),
            profile: None,
            restart: Restart::default(),
            stop_timeout: None,
            limits: Tree::default(),
            sustained: None,
            discovery: Discovery::default(),
            logs: Tree::default(),
        }
    }
}

/// Translates a worker.
pub(super) fn worker(w: &mut Walk<'_, '_>, node: &Node) -> Node {
    if !matches!(node.value, Value::Map(_)) {
        // The reader says what is wrong with it.
        return node.clone();
    }
    let mut work = Work::new(node.at);
    w.mapping(node, WORKER, &mut work);
    if node.entry("unit").is_none() {
        let message = "has no unit, in which a worker of hsu-master's Go version says what it runs";
        w.problem(message);
    }
    finish(w, work)
}

const WORKER: &[Key<Work>] = &[
    ("id", |w, node, work| {
        // The reader does not replace variables in it.
        let id = if node.text().is_some() { node.clone() } else { values::text(w, node) };
        work.tree.put("id", id);
    }),
    ("type", |w, node, work| {
        work.kind = Kind::ALL.into_iter().find(|kind| node.text() == Some(kind.as_str()));
        if work.kind.is_none() {
            w.problem("must be managed, integrated or unmanaged");
        }
    }),
    ("enabled", |w, node, work| work.tree.put("enabled", values::boolean(w, node))),
    ("profile_type", |w, node, work| match node.text() {
        Some(profile) => work.profile = Some(profile.to_owned()),
        None => w.r.mismatch(node, "text"),
    }),
    ("unit", unit),
];

/// The part of a worker that its kind says.
fn unit(w: &mut Walk<'_, '_>, node: &Node, work: &mut Work) {
    let written: Vec<Kind> =
        Kind::ALL.into_iter().filter(|kind| node.entry(kind.as_str()).is_some()).collect();
    let ((Some(kind), _) | (None, &[kind])) = (work.kind, &written[..]) else {
        return w.problem("must be of one kind; write `type: managed`");
    };
    work.kind = Some(kind);
    if !written.contains(&kind) {
        w.problem(format!("has no `{}`, which the worker's type asks for", kind.as_str()));
    }
    w.mapping(node, UNIT, work);
}

const UNIT: &[Key<Work>] = &[
    ("managed", |w, node, work| section(w, node, work, Kind::Managed, MANAGED)),
    ("integrated", |w, node, work| section(w, node, work, Kind::Integrated, INTEGRATED)),
    ("unmanaged", |w, node, work| section(w, node, work, Kind::Unmanaged, UNMANAGED)),
];

fn section(w: &mut Walk<'_, '_>, node: &Node, work: &mut Work, kind: Kind, keys: &[Key<Work>]) {
    if work.kind == Some(kind) {
        w.mapping(node, keys, work);
    } else {
        w.warn("has no effect: the worker's type is another");
    }
}

/// Names for people.
pub(super) const METADATA: &[Key<Work>] =
    &[("name", |w, node, _| described(w, node)), ("description", |w, node, _| described(w, node))];

fn described(w: &mut Walk<'_, '_>, node: &Node) {
    match node.text() {
        Some(text) => w.comment(text),
        None => w.warn("is not text, and is left out"),
    }
}

/// Puts together what was found, in the order in which it is read best.
fn finish(w: &mut Walk<'_, '_>, work: Work) -> Node {
    let at = work.at;
    let unmanaged = work.kind == Some(Kind::Unmanaged);
    let Work { mut tree, mut execution, program, port, health, profile, restart, .. } = work;
    tree.put_text("type", at, "process");
    if let Some(program) = program
        && work.kind != Some(Kind::Unmanaged)
    {
        // Where the Go version ran it, unless it was told otherwise.
        if !execution.has("working_directory") {
            let directory = values::literally(directory_of(&program));
            execution.put_text("working_directory", at, directory);
        }
        if work.kind == Some(Kind::Integrated) && port.is_none() {
            let message = "the Go version gave it a free port as `--port N`; choose one, and \
                           write `--port` and the number into its args";
            w.warn_at(at, message);
        }
    }
    tree.put_all("execution", execution);
    let may_end = work.discovery.put(w, &mut tree);
    health.put(w, at, work.kind == Some(Kind::Integrated), port.as_deref(), &mut tree);
    if unmanaged {
        if profile.is_some() {
            w.comment("its profile has no effect: it is looked for, not restarted");
        }
    } else {
        restart.put(w, at, profile.as_deref(), !work.limits.is_empty(), &mut tree);
    }
    match (work.stop_timeout, unmanaged) {
        (Some(timeout), true) if !may_end => {
            w.warn_at(timeout.at, "graceful_timeout has no effect without can_terminate");
        }
        (Some(timeout), _) => tree.put("stop.timeout", timeout),
        (None, true) if may_end => tree.put_text("stop.timeout", at, "30s"),
        (None, true) => {}
        (None, false) => tree.put_text("stop.timeout", at, "20s"),
    }
    super::limits::put(work.limits, work.sustained, &mut tree);
    tree.put_all("logs", work.logs);
    tree.into_node(at)
}

/// The directory that a program is in, as text.
fn directory_of(program: &str) -> &str {
    match program.rfind('/') {
        Some(0) => "/",
        Some(slash) => &program[..slash],
        None => ".",
    }
}
