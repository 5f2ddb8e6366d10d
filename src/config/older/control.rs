//! The unit of a managed or integrated worker of the older format: what it runs, and under what
//! control.

use std::collections::BTreeMap;

use super::super::yaml::{Node, Value};
use super::walk::{Key, Walk, no_equal};
use super::worker::{METADATA, Work};
use super::{health, limits, logs, restart, values};

/// `unit.managed`
pub(super) const MANAGED: &[Key<Work>] = &[
    ("metadata", |w, node, work| w.mapping(node, METADATA, work)),
    ("control", |w, node, work| w.mapping(node, CONTROL, work)),
    ("health_check", |w, node, work| w.mapping(node, health::CHECK, &mut work.health)),
];

/// `unit.integrated`
pub(super) const INTEGRATED: &[Key<Work>] = &[
    ("metadata", |w, node, work| w.mapping(node, METADATA, work)),
    ("control", |w, node, work| w.mapping(node, CONTROL, work)),
    ("health_check_run_options", |w, node, work| {
        w.mapping(node, health::RUN_OPTIONS, &mut work.health);
    }),
];

const CONTROL: &[Key<Work>] = &[
    ("execution", |w, node, work| w.mapping(node, EXECUTION, work)),
    ("process_file", |w, _, _| {
        w.warn("has no equal: what is known of processes is in the master's state directory");
    }),
    ("restart_policy", |w, node, work| {
        work.restart.policy = Some(values::text(w, node));
    }),
    ("restart", |w, node, work| w.mapping(node, restart::RESTART, &mut work.restart)),
    ("context_aware_restart", |w, node, work| w.mapping(node, restart::CONTEXT_AWARE, work)),
    ("graceful_timeout", |w, node, work| work.stop_timeout = Some(values::duration(w, node))),
    ("limits", |w, node, work| w.mapping(node, limits::LIMITS, work)),
    ("log_collection", |w, node, work| logs::of_worker(w, node, &mut work.logs)),
];

const EXECUTION: &[Key<Work>] = &[
    ("executable_path", |w, node, work| {
        work.program = node.text().map(str::to_owned);
        if work.program.as_ref().is_some_and(|program| program.contains('/')) {
            relative(w, node);
        }
        work.execution.put("executable_path", values::text(w, node));
    }),
    ("args", |w, node, work| {
        work.port = port_in(w, node);
        work.execution.put("args", values::texts(w, node));
    }),
    ("environment", environment),
    ("working_directory", |w, node, work| {
        relative(w, node);
        work.execution.put("working_directory", values::text(w, node));
    }),
    ("wait_delay", no_equal),
];

/// Warns of a path whose meaning has changed.
pub(super) fn relative(w: &mut Walk<'_, '_>, node: &Node) {
    if node.text().is_some_and(|path| !path.starts_with('/')) {
        w.warn("is relative to this file's directory now, and was to the master's own");
    }
}

/// The port that is among the arguments, as `--port N` or `--port=N`.
fn port_in(w: &Walk<'_, '_>, node: &Node) -> Option<String> {
    let Value::List(nodes) = &node.value else { return None };
    let words: Vec<&str> = nodes
        .iter()
        .map(|node| node.text().or_else(|| w.r.literal(node)).unwrap_or_default())
        .collect();
    let named = |word: &str| ["--port", "-port"].contains(&word);
    let apart = words.iter().position(|word| named(word)).and_then(|at| words.get(at + 1));
    let joined = words.iter().filter_map(|word| word.split_once('='));
    let joined = joined.filter(|(name, _)| named(name)).map(|(_, port)| port).next();
    apart.copied().or(joined).map(str::to_owned)
}

/// Variables. Of several with one name the last counted, and today they are a mistake.
fn environment(w: &mut Walk<'_, '_>, node: &Node, work: &mut Work) {
    let Value::List(nodes) = &node.value else {
        // A mapping was none of Go's ways, but what it means is clear.
        return work.execution.put("environment", values::mapping(w, node));
    };
    let name = |node: &Node| node.text().and_then(|text| Some(text.split_once('=')?.0.to_owned()));
    let mut last: BTreeMap<String, usize> = BTreeMap::new();
    for (index, node) in nodes.iter().enumerate() {
        last.extend(name(node).map(|name| (name, index)));
    }
    let mut kept = Vec::new();
    for (index, node) in nodes.iter().enumerate() {
        let later = name(node).is_some_and(|name| last.get(&name).is_some_and(|at| *at > index));
        if later {
            w.under(&format!("[{index}]"), node.at, |w| {
                w.warn("is written again below, which counts");
            });
        } else {
            kept.push(values::text(w, node));
        }
    }
    work.execution.put("environment", Node { at: node.at, value: Value::List(kept) });
}
