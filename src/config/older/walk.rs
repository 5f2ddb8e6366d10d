//! Walks an older file by tables of its keys, notes what has no equal, and builds the new tree.

use super::super::reader::Reader;
use super::super::yaml::{Entry, Mark, Node, Value};
use super::Note;

/// A key of the older format, and what becomes of its value.
pub(super) type Key<T> = (&'static str, fn(&mut Walk<'_, '_>, &Node, &mut T));

/// The walk: where it is, and what is to be said.
pub(super) struct Walk<'w, 'r> {
    pub(super) r: &'w mut Reader<'r>,
    worker: Option<usize>,
    /// Where the current key stands.
    at: Mark,
    notes: Vec<Note>,
}

impl<'w, 'r> Walk<'w, 'r> {
    pub(super) fn new(r: &'w mut Reader<'r>) -> Self {
        Self { r, worker: None, at: Mark::START, notes: Vec::new() }
    }

    /// What is to be said: what needs no place first, then the warnings in the file's order.
    pub(super) fn into_notes(mut self) -> Vec<Note> {
        let place = |note: &Note| note.warning.as_ref().map(|told| (told.line, told.column));
        self.notes.sort_by_key(place);
        self.notes
    }

    /// Walks through one worker.
    pub(super) fn worker<R>(
        &mut self,
        index: usize,
        at: Mark,
        walk: impl FnOnce(&mut Self) -> R,
    ) -> R {
        self.worker = Some(index);
        let result = self.under(&format!("[{index}]"), at, walk);
        self.worker = None;
        result
    }

    /// Does `walk` with the path extended by `key`, which stands at `at`.
    pub(super) fn under<R>(&mut self, key: &str, at: Mark, walk: impl FnOnce(&mut Self) -> R) -> R {
        let before = std::mem::replace(&mut self.at, at);
        let step = self.r.step_into(key);
        let result = walk(self);
        self.r.step_out(step);
        self.at = before;
        result
    }

    /// Goes through a mapping, in the order of `keys`. What is written and empty was not meant.
    pub(super) fn mapping<T>(&mut self, node: &Node, keys: &[Key<T>], target: &mut T) {
        let entries = self.r.entries(node);
        for (written, entry) in &entries {
            if !keys.iter().any(|(key, _)| key == written) {
                self.under(written, entry.key.at, |w| {
                    w.warn("is no key of hsu-master's Go version here, and is left out");
                });
            }
        }
        for (key, walk) in keys {
            let written = entries.iter().find(|(written, _)| written == key);
            if let Some((_, entry)) = written.filter(|(_, e)| e.value.value != Value::Null) {
                self.under(key, entry.key.at, |w| walk(w, &entry.value, target));
            }
        }
    }

    /// Each element of a list.
    pub(super) fn list(&mut self, node: &Node, mut walk: impl FnMut(&mut Self, &Node)) {
        match &node.value {
            Value::List(nodes) => {
                for (index, node) in nodes.iter().enumerate() {
                    self.under(&format!("[{index}]"), node.at, |w| walk(w, node));
                }
            }
            Value::Null => {}
            Value::Bool(_)
            | Value::Number(_)
            | Value::Text(_)
            | Value::Map(_)
            | Value::Unusable(_) => self.r.mismatch(node, "a list"),
        }
    }

    /// Says that the current key is not what its author may think.
    pub(super) fn warn(&mut self, message: impl Into<String>) {
        let problem = self.r.note("", self.at, message);
        let text = format!("warning, line {}: {}: {}", problem.line, problem.path, problem.message);
        self.notes.push(Note { worker: self.worker, text, warning: Some(problem) });
    }

    /// As [`warn`](Self::warn), of another place of the worker.
    pub(super) fn warn_at(&mut self, at: Mark, message: impl Into<String>) {
        let before = std::mem::replace(&mut self.at, at);
        self.warn(message);
        self.at = before;
    }

    /// Says something about the translation.
    pub(super) fn comment(&mut self, text: impl Into<String>) {
        self.notes.push(Note { worker: self.worker, text: text.into(), warning: None });
    }

    /// Notes that the current key's value cannot be translated.
    pub(super) fn problem(&mut self, message: impl Into<String>) {
        self.r.problem(self.at, message);
    }
}

/// For a key without an equal.
pub(super) fn no_equal<T>(w: &mut Walk<'_, '_>, _: &Node, _: &mut T) {
    w.warn("has no equal, and is left out");
}

/// A mapping that is being built.
#[derive(Default)]
pub(super) struct Tree(Vec<Entry>);

impl Tree {
    /// Puts a value at a path such as `stop.timeout`, in place of what was there.
    pub(super) fn put(&mut self, path: &str, node: Node) {
        let (key, rest) = path.split_once('.').map_or((path, None), |(k, rest)| (k, Some(rest)));
        let at = node.at;
        let known = self.0.iter().position(|entry| entry.key.text() == Some(key));
        let known = known.unwrap_or_else(|| {
            self.0.push(entry(key, Node { at, value: Value::Map(Vec::new()) }));
            self.0.len() - 1
        });
        let value = &mut self.0[known].value;
        match (rest, &mut value.value) {
            (None, _) => *value = node,
            (Some(rest), Value::Map(entries)) => {
                let mut below = Self(std::mem::take(entries));
                below.put(rest, node);
                *entries = below.0;
            }
            (Some(rest), _) => {
                let mut below = Self::default();
                below.put(rest, node);
                *value = below.into_node(at);
            }
        }
    }

    /// Puts a text that the file does not have.
    pub(super) fn put_text(&mut self, path: &str, at: Mark, text: impl Into<String>) {
        self.put(path, Node { at, value: Value::Text(text.into()) });
    }

    pub(super) fn get(&self, key: &str) -> Option<&Node> {
        let entry = self.0.iter().find(|entry| entry.key.text() == Some(key));
        entry.map(|entry| &entry.value)
    }

    pub(super) fn into_entries(self) -> Vec<Entry> {
        self.0
    }

    pub(super) fn has(&self, key: &str) -> bool {
        self.0.iter().any(|entry| entry.key.text() == Some(key))
    }

    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// All of another one, below `path`.
    pub(super) fn put_all(&mut self, path: &str, other: Self) {
        for Entry { key, value } in other.0 {
            let key = key.text().unwrap_or_default();
            self.put(&format!("{path}.{key}"), value);
        }
    }

    pub(super) fn into_node(self, at: Mark) -> Node {
        Node { at, value: Value::Map(self.0) }
    }
}

/// An entry whose key stands where its value does.
fn entry(key: &str, value: Node) -> Entry {
    Entry { key: Node { at: value.at, value: Value::Text(key.to_owned()) }, value }
}
