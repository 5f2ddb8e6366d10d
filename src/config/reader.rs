//! Walks the tree of a configuration and collects every problem with its path. Knows kinds of
//! values (text, durations, lists, mappings with known keys) and no key by name.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::interpolate::{Lookup, expand};
use super::yaml::{Entry, Fault, Mark, Node, Value, parse};
use crate::error::{Error, Problem};
use crate::suggest::nearest;
use crate::units::{parse_duration, parse_size};
use crate::worker::{Mistake, Ratio, WorkerConfig};

/// How far into a line that is not plain ASCII the text of a number is looked for.
const MAX_COUNTED: usize = 4096;
/// How much text all variables of a file may bring in, in bytes.
const MAX_EXPANDED: usize = 8 << 20;

/// A key that a mapping may have, and what reads its value. The one list of keys is also what reads
/// them: a known key that nothing reads cannot be.
pub(super) type Key<T> = (&'static str, fn(&mut Reader<'_>, &Node, &mut T));

/// Finds what is wrong with a worker.
pub(super) type Check<'a> = &'a dyn Fn(&WorkerConfig) -> Option<Mistake>;

/// Where a configuration comes from, and what it may ask of the place.
#[derive(Clone, Copy)]
pub(super) struct Source<'a> {
    /// The file's name as it was given; empty without one.
    pub(super) file: &'a str,
    /// What relative paths are relative to; `None` leaves them as they are.
    pub(super) directory: Option<&'a Path>,
    /// Where `${VAR}` is looked up.
    pub(super) lookup: Lookup<'a>,
    /// What the program knows to be wrong with a worker, beyond what any program would.
    pub(super) check: Check<'a>,
}

/// The walk: where it is, and what it found.
pub(super) struct Reader<'a> {
    pub(super) source: Source<'a>,
    lines: Vec<Line<'a>>,
    path: String,
    problems: Vec<Problem>,
    /// Problems of files that this one includes, in order.
    foreign: Vec<Problem>,
    pub(super) expansion_left: usize,
    /// Which of several workers is read, if they are made from one.
    pub(super) replica: Option<Replica>,
}

/// One of several workers that are made from one: what `${ID}` and `${INDEX}` are.
#[derive(Clone, Debug)]
pub(super) struct Replica {
    pub(super) id: String,
    /// From 1.
    pub(super) index: u32,
}

/// A line of the file; in plain ASCII a column is found without counting characters.
struct Line<'a> {
    text: &'a str,
    ascii: bool,
}

impl<'a> Reader<'a> {
    pub(super) fn new(source: Source<'a>, text: &'a str) -> Self {
        let lines = text.lines().map(|text| Line { text, ascii: text.is_ascii() }).collect();
        Self {
            source,
            lines,
            path: String::new(),
            problems: Vec::new(),
            foreign: Vec::new(),
            expansion_left: MAX_EXPANDED,
            replica: None,
        }
    }

    /// The walk through a further file; its variables count as this one's.
    pub(super) fn of_file<'b>(&self, source: Source<'b>, text: &'b str) -> Reader<'b> {
        Reader { expansion_left: self.expansion_left, ..Reader::new(source, text) }
    }

    /// Every problem, in the order of the files and of what is in them; and how much variables may
    /// still bring in.
    pub(super) fn into_parts(mut self) -> (Vec<Problem>, usize) {
        self.problems.sort_by_key(|problem| (problem.line, problem.column));
        self.problems.append(&mut self.foreign);
        (self.problems, self.expansion_left)
    }

    /// Notes the problems of a further file.
    pub(super) fn foreign(&mut self, problems: Vec<Problem>) {
        self.foreign.extend(problems);
    }

    /// What the walk gave, unless it found problems.
    pub(super) fn finish<T>(self, read: T) -> Result<T, Error> {
        let (problems, _) = self.into_parts();
        if problems.is_empty() { Ok(read) } else { Err(Error::rejected(problems)) }
    }

    /// Notes a problem at the current path.
    pub(super) fn problem(&mut self, at: Mark, message: impl Into<String>) {
        let problem = self.note("", at, message);
        self.problems.push(problem);
    }

    /// A problem, or something less, at `key` below the current path.
    pub(super) fn note(&self, key: &str, at: Mark, message: impl Into<String>) -> Problem {
        let path = join(&self.path, key);
        Fault { at, path, message: message.into() }.problem(self.source.file)
    }

    /// How many problems were found so far.
    pub(super) fn found(&self) -> usize {
        self.problems.len()
    }

    /// Notes mistakes within `node`, as near to their paths as there is something written. A path
    /// that got a problem after the first `since` ones is not told again.
    pub(super) fn mistakes(&mut self, since: usize, node: &Node, mistakes: Vec<Mistake>) {
        for (path, message) in mistakes {
            let told = self.note(&path, node.place(&path), message);
            if !self.problems[since..].iter().any(|problem| problem.path == told.path) {
                self.problems.push(told);
            }
        }
    }

    /// Does `read` with the path extended by `key`.
    pub(super) fn under<R>(&mut self, key: &str, read: impl FnOnce(&mut Self) -> R) -> R {
        let step = self.step_into(key);
        let result = read(self);
        self.step_out(step);
        result
    }

    /// Extends the path by `key`, until [`step_out`](Self::step_out) with what this returns.
    pub(super) fn step_into(&mut self, key: &str) -> usize {
        let length = self.path.len();
        self.path = join(&self.path, key);
        length
    }

    pub(super) fn step_out(&mut self, step: usize) {
        self.path.truncate(step);
    }

    /// The entries of a mapping, each key once.
    pub(super) fn entries<'n>(&mut self, node: &'n Node) -> Vec<(&'n str, &'n Entry)> {
        let mut unique = Vec::new();
        let Value::Map(entries) = &node.value else {
            if node.value != Value::Null {
                self.mismatch(node, "a mapping (`key: value`)");
            }
            return unique;
        };
        let mut seen: BTreeMap<&str, Mark> = BTreeMap::new();
        for entry in entries {
            let Some(key) = entry.key.text() else {
                let message = format!("a key is {}; put it in quotes", entry.key.kind());
                self.problem(entry.key.at, message);
                continue;
            };
            match seen.get(key).map(|first| first.line) {
                None => {
                    seen.insert(key, entry.key.at);
                    unique.push((key, entry));
                }
                Some(line) => {
                    let message = format!("is written twice, first in line {line}");
                    self.under(key, |reader| reader.problem(entry.key.at, message));
                }
            }
        }
        unique
    }

    /// Reads a mapping whose keys are known, in the order of `keys`.
    pub(super) fn mapping<T>(&mut self, node: &Node, keys: &[Key<T>], target: &mut T) {
        let entries = self.entries(node);
        for (written, entry) in &entries {
            if !keys.iter().any(|(key, _)| key == written) {
                let known = || keys.iter().map(|(key, _)| *key);
                let advice = match nearest(written, known()) {
                    Some(key) => format!("did you mean `{key}`?"),
                    None => format!("known here: {}", known().collect::<Vec<_>>().join(", ")),
                };
                let message = format!("unknown key; {advice}");
                self.under(written, |reader| reader.problem(entry.key.at, message));
            }
        }
        for (key, read) in keys {
            if let Some((_, entry)) = entries.iter().find(|(written, _)| written == key) {
                self.under(key, |reader| read(reader, &entry.value, target));
            }
        }
    }

    /// Reads each element of a list; nothing at all is an empty list.
    pub(super) fn list<T>(
        &mut self,
        node: &Node,
        mut read: impl FnMut(&mut Self, &Node) -> Option<T>,
    ) -> Option<Vec<T>> {
        let Value::List(nodes) = &node.value else {
            if node.value == Value::Null {
                return Some(Vec::new());
            }
            self.mismatch(node, "a list");
            return None;
        };
        let each = nodes.iter().enumerate().filter_map(|(index, node)| {
            self.under(&format!("[{index}]"), |reader| read(reader, node))
        });
        Some(each.collect())
    }

    /// Stores what `read` makes of the value, if it makes anything of it.
    pub(super) fn set<T>(
        &mut self,
        node: &Node,
        target: &mut T,
        read: impl FnOnce(&mut Self, &Node) -> Option<T>,
    ) {
        if let Some(value) = read(self, node) {
            *target = value;
        }
    }

    /// A path, relative to the file's directory, without its `.` steps.
    pub(super) fn path(&mut self, node: &Node) -> Option<PathBuf> {
        let text = self.text(node)?;
        if text.is_empty() {
            self.problem(node.at, "is empty; write a path");
            return None;
        }
        let path = Path::new(&text);
        Some(self.source.directory.map_or_else(|| path.to_owned(), |from| below(from, path)))
    }

    /// A text, with its variables replaced. A number or a boolean counts as it is written.
    pub(super) fn text(&mut self, node: &Node) -> Option<String> {
        match &node.value {
            Value::Text(text) => self.expanded(node.at, text),
            Value::Number(_) | Value::Bool(_) => {
                let literal = self.literal(node).map(str::to_owned);
                if literal.is_none() {
                    self.problem(node.at, format!("is {}; put it in quotes", node.kind()));
                }
                literal
            }
            Value::Null | Value::List(_) | Value::Map(_) | Value::Unusable(_) => {
                self.mismatch(node, "text");
                None
            }
        }
    }

    /// `text` with its variables replaced.
    pub(super) fn expanded(&mut self, at: Mark, text: &str) -> Option<String> {
        let replica = self.replica.clone();
        let lookup = |name: &str| match (&replica, name) {
            (Some(replica), "ID") => Some(replica.id.clone().into()),
            (Some(replica), "INDEX") => Some(replica.index.to_string().into()),
            (Some(_) | None, name) => (self.source.lookup)(name),
        };
        // The first of several is what is written; the others multiply it.
        let copied = replica.as_ref().is_some_and(|replica| replica.index > 1);
        let written = if copied { 0 } else { text.len() };
        let expanded = expand(text, &lookup).and_then(|expanded| {
            match self.expansion_left.checked_sub(expanded.len().saturating_sub(written)) {
                Some(left) => {
                    self.expansion_left = left;
                    Ok(expanded)
                }
                None => Err("the variables and replicas of this file are more than 8 MiB of text"
                    .to_owned()),
            }
        });
        expanded.map_err(|problem| self.problem(at, problem)).ok()
    }

    /// A number or a boolean as it is written: `1.10` keeps its zero.
    pub(super) fn literal(&self, node: &Node) -> Option<&'a str> {
        let Line { text, ascii } = self.lines.get(node.at.line - 1)?;
        let skipped = node.at.column - 1;
        let start = match *ascii {
            true => skipped,
            false if skipped < MAX_COUNTED => text.char_indices().nth(skipped)?.0,
            false => return None,
        };
        let rest = text.get(start..)?;
        // An anchor stands before the value it names.
        let anchored = rest.strip_prefix('&').map(|anchor| anchor.split_once(' '));
        let rest = anchored.map_or(Some(rest), |anchored| Some(anchored?.1.trim_start()))?;
        let end = rest.find(|c: char| c.is_whitespace() || ",]}".contains(c));
        let literal = &rest[..end.unwrap_or(rest.len())];
        (parse(literal).ok()?.value == node.value).then_some(literal)
    }

    /// A value written as one scalar, read from its text.
    fn scalar<T>(
        &mut self,
        node: &Node,
        expected: &str,
        parse: impl FnOnce(&str) -> Result<T, String>,
    ) -> Option<T> {
        let text = match &node.value {
            Value::Text(text) => self.expanded(node.at, text)?,
            Value::Number(number) => number.to_string(),
            Value::Bool(value) => value.to_string(),
            Value::Null | Value::List(_) | Value::Map(_) | Value::Unusable(_) => {
                self.mismatch(node, expected);
                return None;
            }
        };
        let shown: String = text.chars().take(60).collect();
        parse(&text).map_err(|why| self.problem(node.at, format!("{shown:?} {why}"))).ok()
    }

    pub(super) fn boolean(&mut self, node: &Node) -> Option<bool> {
        self.scalar(node, "true or false", |text| match text {
            "true" => Ok(true),
            "false" => Ok(false),
            _ => Err("is not a boolean; write true or false".to_owned()),
        })
    }

    pub(super) fn duration(&mut self, node: &Node) -> Option<Duration> {
        self.scalar(node, "a duration such as \"30s\"", parse_duration)
    }

    /// A size in bytes that the machine can address.
    pub(super) fn size(&mut self, node: &Node) -> Option<usize> {
        self.scalar(node, "a size such as \"2MiB\"", |text| {
            usize::try_from(parse_size(text)?).map_err(|_| "is too large".to_owned())
        })
    }

    /// A count from 0.
    pub(super) fn count(&mut self, node: &Node) -> Option<u32> {
        self.scalar(node, "a whole number", |text| {
            let wrong = || format!("is not a whole number from 0 to {}", u32::MAX);
            let digits = text.bytes().all(|byte| byte.is_ascii_digit());
            text.parse().ok().filter(|_| digits).ok_or_else(wrong)
        })
    }

    /// A TCP port.
    pub(super) fn port(&mut self, node: &Node) -> Option<u16> {
        self.scalar(node, "a port", |text| {
            let digits = text.bytes().all(|byte| byte.is_ascii_digit());
            let port = text.parse().ok().filter(|port| digits && *port > 0);
            port.ok_or_else(|| "is not a port, 1 to 65535".to_owned())
        })
    }

    /// A whole number that may be below zero.
    pub(super) fn integer(&mut self, node: &Node) -> Option<i32> {
        self.scalar(node, "a whole number", |text| {
            let digits = text.strip_prefix('-').unwrap_or(text);
            let plain = digits.bytes().all(|byte| byte.is_ascii_digit());
            let wrong = || "is not a whole number such as -5".to_owned();
            text.parse().ok().filter(|_| plain).ok_or_else(wrong)
        })
    }

    pub(super) fn ratio(&mut self, node: &Node) -> Option<Ratio> {
        self.scalar(node, "a number such as 1.5", parse_ratio)
    }

    /// One of some words.
    pub(super) fn word<T: Copy>(&mut self, node: &Node, words: &[(&str, T)]) -> Option<T> {
        let known = words.iter().map(|(word, _)| *word);
        let list = known.clone().collect::<Vec<_>>().join(", ");
        self.scalar(node, &format!("one of {list}"), |text| {
            match (words.iter().find(|(word, _)| *word == text), nearest(text, known)) {
                (Some((_, value)), _) => Ok(*value),
                (None, Some(word)) => {
                    Err(format!("is not known here; did you mean {word}? (one of: {list})"))
                }
                (None, None) => Err(format!("is not known here; write one of: {list}")),
            }
        })
    }

    /// Any value, as JSON, with the variables in its texts replaced.
    pub(super) fn json(&mut self, node: &Node) -> Option<serde_json::Value> {
        Some(match &node.value {
            Value::Null => serde_json::Value::Null,
            Value::Bool(value) => serde_json::Value::Bool(*value),
            Value::Number(number) => serde_json::Value::Number(number.clone()),
            Value::Text(text) => serde_json::Value::String(self.expanded(node.at, text)?),
            Value::List(_) => serde_json::Value::Array(self.list(node, Self::json)?),
            Value::Map(_) => serde_json::Value::Object(self.json_object(node)),
            Value::Unusable(_) => {
                self.mismatch(node, "a value that JSON has");
                return None;
            }
        })
    }

    /// A mapping with any keys, as JSON.
    pub(super) fn json_object(
        &mut self,
        node: &Node,
    ) -> serde_json::Map<String, serde_json::Value> {
        let mut object = serde_json::Map::new();
        for (key, entry) in self.entries(node) {
            if let Some(value) = self.under(key, |reader| reader.json(&entry.value)) {
                object.insert(key.to_owned(), value);
            }
        }
        object
    }

    /// Notes that the value is not of the expected kind.
    pub(super) fn mismatch(&mut self, node: &Node, expected: &str) {
        match node.value {
            Value::Unusable(why) => self.problem(node.at, why),
            Value::Null
            | Value::Bool(_)
            | Value::Number(_)
            | Value::Text(_)
            | Value::List(_)
            | Value::Map(_) => {
                self.problem(node.at, format!("must be {expected}; found {}", node.kind()));
            }
        }
    }
}

/// A path with one more step: a key, or an index such as `[2]`.
fn join(path: &str, step: &str) -> String {
    let dot = if path.is_empty() || step.is_empty() || step.starts_with('[') { "" } else { "." };
    format!("{path}{dot}{step}")
}

impl Fault {
    /// The same as a problem of `file`.
    pub(super) fn problem(self, file: &str) -> Problem {
        let Mark { line, column } = self.at;
        Problem { file: file.to_owned(), line, column, path: self.path, message: self.message }
    }
}

/// Reads a ratio such as `2`, `1.5` or `0.25`, exactly.
fn parse_ratio(text: &str) -> Result<Ratio, String> {
    let wrong = "is not a number; write for example 1.5";
    let (whole, part) = text.split_once('.').unwrap_or((text, "0"));
    let digits = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    if !digits(whole) || !digits(part) {
        return Err(wrong.to_owned());
    }
    let part = part.trim_end_matches('0');
    if part.len() > 3 {
        return Err("has more than three decimals".to_owned());
    }
    let thousandths = format!("{whole}{part:0<3}").parse().map_err(|_| "is too large")?;
    Ok(Ratio::from_thousandths(thousandths))
}

/// `path`, relative to `directory`, without its `.` steps.
pub(super) fn below(directory: &Path, path: &Path) -> PathBuf {
    directory.join(path).components().collect()
}
