//! YAML text as a tree whose every node knows its line and column. The only file that names the
//! YAML library; what the tree means is `reader`'s and `schema`'s business.

use std::collections::BTreeSet;
use std::fmt;

use serde::de::{DeserializeSeed, Deserializer, EnumAccess, Error, MapAccess, SeqAccess, Visitor};

/// How deep lists and mappings may be nested.
const MAX_DEPTH: usize = 64;
/// How many brackets may be open at once: the library's time grows with their square.
const MAX_BRACKETS: usize = 128;
/// How many values a file may have, counting what aliases repeat. Keys are bounded by their values.
const MAX_VALUES: usize = 100_000;
/// How much text a file may have, counting what aliases repeat.
const MAX_TEXT: usize = 8 << 20;
/// The longest key, in bytes.
const MAX_KEY: usize = 256;

/// A place in the file: line and column, from 1.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Mark {
    pub(super) line: usize,
    pub(super) column: usize,
}

impl Mark {
    pub(super) const START: Self = Self { line: 1, column: 1 };
}

/// One value and where it stands. A list or a mapping stands where its first entry does, an empty
/// one where the scalar before it does.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Node {
    pub(super) at: Mark,
    pub(super) value: Value,
}

/// What a node holds.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Value {
    Null,
    Bool(bool),
    Number(serde_json::Number),
    Text(String),
    List(Vec<Node>),
    Map(Vec<Entry>),
    /// A scalar that no key accepts, and why.
    Unusable(&'static str),
}

/// One key and its value. A mapping keeps a key that was written twice.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Entry {
    pub(super) key: Node,
    pub(super) value: Node,
}

impl Node {
    /// What it is, for people.
    pub(super) fn kind(&self) -> &'static str {
        match self.value {
            Value::Null => "nothing",
            Value::Bool(_) => "a boolean",
            Value::Number(_) => "a number",
            Value::Text(_) => "text",
            Value::List(_) => "a list",
            Value::Map(_) => "a mapping",
            Value::Unusable(_) => "a value out of range",
        }
    }

    /// The entry of this mapping whose key is `key`.
    pub(super) fn entry(&self, key: &str) -> Option<&Entry> {
        let Value::Map(entries) = &self.value else { return None };
        entries.iter().find(|entry| entry.key.is_text(key))
    }

    /// The value at a path such as `stop.signal`.
    pub(super) fn find(&self, path: &str) -> Option<&Self> {
        path.split('.').try_fold(self, |node, key| Some(&node.entry(key)?.value))
    }

    /// Where the value at `path` stands, or the innermost value on the way to it that is there.
    pub(super) fn place(&self, path: &str) -> Mark {
        let mut node = self;
        for step in path.split(['.', '[']) {
            let next = match (step.strip_suffix(']'), &node.value) {
                (Some(index), Value::List(nodes)) => {
                    index.parse().ok().and_then(|index: usize| nodes.get(index))
                }
                _ => node.entry(step).map(|entry| &entry.value),
            };
            match next {
                Some(next) => node = next,
                None => break,
            }
        }
        node.at
    }

    /// Its text, if it is text.
    pub(super) fn text(&self) -> Option<&str> {
        if let Value::Text(text) = &self.value { Some(text) } else { None }
    }

    fn is_text(&self, wanted: &str) -> bool {
        self.text() == Some(wanted)
    }
}

/// Why a text is not YAML that is accepted here.
#[derive(Debug, PartialEq)]
pub(super) struct Fault {
    pub(super) at: Mark,
    pub(super) path: String,
    pub(super) message: String,
}

/// Reads one YAML document. A text without any content is [`Value::Null`].
pub(super) fn parse(text: &str) -> Result<Node, Fault> {
    if let Some(at) = too_many_brackets(text) {
        let message = format!("more than {MAX_BRACKETS} brackets are open here");
        return Err(Fault { at, path: String::new(), message });
    }
    let mut parser = Parser::new();
    let mut documents = serde_yaml::Deserializer::from_str(text);
    let root = match documents.next() {
        Some(first) => Seed(&mut parser).deserialize(first),
        None => return Ok(Node { at: Mark::START, value: Value::Null }),
    };
    let root = root.map_err(|error| parser.fault(text, &error))?;
    match documents.next() {
        None => Ok(root),
        Some(second) => {
            let second = Seed(&mut parser).deserialize(second);
            let at = second.map_err(|error| parser.fault(text, &error))?.at;
            let message = "a second document begins here; a file is one document".to_owned();
            Err(Fault { at, path: String::new(), message })
        }
    }
}

/// Where more brackets are open than allowed. It knows quotes and comments only roughly, and rather
/// counts too many; text with that many unmatched brackets is not expected in a configuration.
fn too_many_brackets(text: &str) -> Option<Mark> {
    let (mut open, mut last, mut last_visible) = (0_usize, b'\n', b'\n');
    // Within quotes or a comment: what ends them, and how many brackets were open before. A closing
    // bracket in there closes none of those.
    let mut aside: Option<(u8, usize)> = None;
    for (index, byte) in text.bytes().enumerate() {
        let floor = aside.map_or(0, |(_, floor)| floor);
        match byte {
            b'[' | b'{' => open += 1,
            b']' | b'}' => open = open.saturating_sub(1).max(floor),
            _ if aside.is_some_and(|(end, _)| end == byte) => aside = None,
            b'#' if aside.is_none() && last.is_ascii_whitespace() => aside = Some((b'\n', open)),
            b'"' | b'\'' if aside.is_none() && b"[{,:-\n".contains(&last_visible) => {
                aside = Some((byte, open));
            }
            _ => {}
        }
        if open > MAX_BRACKETS {
            return Some(mark_of(text, index));
        }
        last = byte;
        if byte == b'\n' || !byte.is_ascii_whitespace() {
            last_visible = byte;
        }
    }
    None
}

/// The line and column of the byte at `index`.
pub(super) fn mark_of(text: &str, index: usize) -> Mark {
    let before = text.get(..index).unwrap_or(text);
    let line_start = before.rfind('\n').map_or(0, |newline| newline + 1);
    Mark {
        line: before.bytes().filter(|byte| *byte == b'\n').count() + 1,
        column: before[line_start..].chars().count() + 1,
    }
}

/// What is left of the limits, and the reason when one of them, or a rule, ended the parse.
struct Parser {
    depth: usize,
    values: usize,
    text: usize,
    /// Where the last scalar stood.
    last: Mark,
    refusal: Option<String>,
}

impl Parser {
    fn new() -> Self {
        Self { depth: 0, values: MAX_VALUES, text: MAX_TEXT, last: Mark::START, refusal: None }
    }

    /// Ends the parse: the library's error carries the place, `refusal` the reason.
    fn refuse<E: Error>(&mut self, message: String) -> E {
        let error = E::custom(&message);
        self.refusal = Some(message);
        error
    }

    fn spend<E: Error>(&mut self, bytes: usize) -> Result<(), E> {
        match (self.values.checked_sub(1), self.text.checked_sub(bytes)) {
            (Some(values), Some(text)) => {
                self.values = values;
                self.text = text;
                Ok(())
            }
            (None, _) => Err(self.refuse(format!("more than {MAX_VALUES} values, with aliases"))),
            (_, None) => Err(self.refuse(format!("more than {MAX_TEXT} bytes, with aliases"))),
        }
    }

    fn enter<E: Error>(&mut self) -> Result<(), E> {
        self.spend(0)?;
        self.depth += 1;
        if self.depth > MAX_DEPTH {
            return Err(self.refuse(format!("nested more than {MAX_DEPTH} levels deep")));
        }
        Ok(())
    }

    /// The library's error in our words. Its own text is `path: message at line 1 column 2`.
    fn fault(&mut self, text: &str, error: &serde_yaml::Error) -> Fault {
        let at = error.location().map_or(Mark::START, |location| Mark {
            line: location.line(),
            column: location.column(),
        });
        let said = error.to_string();
        if let Some(message) = self.refusal.take() {
            let path = said.rfind(&message).map_or("", |end| said[..end].trim_end_matches(": "));
            return Fault { at, path: path.to_owned(), message };
        }
        let line = text.lines().nth(at.line - 1).unwrap_or_default();
        let rest = line.chars().skip(at.column - 1);
        let message = if rest.clone().next() == Some('\t') {
            "a tab cannot indent; use spaces".to_owned()
        } else {
            let place = format!(" at line {} column {}", at.line, at.column);
            let near: String = rest.take(40).collect();
            let near = if near.is_empty() { String::new() } else { format!(" near {near:?}") };
            format!("not valid YAML: {}{near}", said.replacen(&place, "", 1))
        };
        Fault { at, path: String::new(), message }
    }
}

/// Reads one node.
///
/// The library tells where a node stands only in an error, and an error about a scalar leaves it
/// behind that scalar, able to go on. So the visitor puts every scalar aside and fails on purpose,
/// and the place is taken from that error's text. The same does not work for lists and mappings:
/// an error leaves the library inside them. They stand where their first entry does.
struct Seed<'p>(&'p mut Parser);

impl<'de> DeserializeSeed<'de> for Seed<'_> {
    type Value = Node;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Node, D::Error> {
        let mut scalar = None;
        let visitor = NodeVisitor { parser: self.0, scalar: &mut scalar };
        match (deserializer.deserialize_any(visitor), scalar) {
            (Ok(node), _) => Ok(node),
            (Err(error), Some(value)) => {
                let at = mark_in(&error.to_string());
                self.0.last = at;
                Ok(Node { at, value })
            }
            (Err(error), None) => Err(error),
        }
    }
}

/// The place at the end of an error's text. The library leaves it out for the first character.
fn mark_in(error: &str) -> Mark {
    let place = error.rsplit_once(" at line ").and_then(|(_, place)| place.split_once(" column "));
    let numbers = place.and_then(|(line, column)| Some((line.parse().ok()?, column.parse().ok()?)));
    numbers.map_or(Mark::START, |(line, column)| Mark { line, column })
}

struct NodeVisitor<'p, 's> {
    parser: &'p mut Parser,
    scalar: &'s mut Option<Value>,
}

impl NodeVisitor<'_, '_> {
    fn put<E: Error>(self, value: Value) -> Result<Node, E> {
        let bytes = if let Value::Text(text) = &value { text.len() } else { 0 };
        self.parser.spend(bytes)?;
        *self.scalar = Some(value);
        Err(E::custom("put aside"))
    }
}

impl<'de> Visitor<'de> for NodeVisitor<'_, '_> {
    type Value = Node;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a value")
    }

    fn visit_unit<E: Error>(self) -> Result<Node, E> {
        self.put(Value::Null)
    }

    fn visit_none<E: Error>(self) -> Result<Node, E> {
        self.put(Value::Null)
    }

    fn visit_bool<E: Error>(self, value: bool) -> Result<Node, E> {
        self.put(Value::Bool(value))
    }

    fn visit_i64<E: Error>(self, value: i64) -> Result<Node, E> {
        self.put(Value::Number(value.into()))
    }

    fn visit_u64<E: Error>(self, value: u64) -> Result<Node, E> {
        self.put(Value::Number(value.into()))
    }

    fn visit_i128<E: Error>(self, _: i128) -> Result<Node, E> {
        self.put(Value::Unusable("is a number beyond 64 bits; put it in quotes"))
    }

    fn visit_u128<E: Error>(self, _: u128) -> Result<Node, E> {
        self.put(Value::Unusable("is a number beyond 64 bits; put it in quotes"))
    }

    fn visit_f64<E: Error>(self, value: f64) -> Result<Node, E> {
        // JSON has no infinity and no NaN: they would reach a module as null.
        let unusable = Value::Unusable("is not a finite number");
        self.put(serde_json::Number::from_f64(value).map_or(unusable, Value::Number))
    }

    fn visit_str<E: Error>(self, value: &str) -> Result<Node, E> {
        self.put(Value::Text(value.to_owned()))
    }

    fn visit_enum<A: EnumAccess<'de>>(self, _: A) -> Result<Node, A::Error> {
        Err(self.parser.refuse("tags (`!name`) are not understood; remove it".to_owned()))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Node, A::Error> {
        self.parser.enter()?;
        let mut nodes = Vec::new();
        while let Some(node) = list.next_element_seed(Seed(self.parser))? {
            nodes.push(node);
        }
        self.parser.depth -= 1;
        let at = nodes.first().map_or(self.parser.last, |first: &Node| first.at);
        Ok(Node { at, value: Value::List(nodes) })
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Node, A::Error> {
        self.parser.enter()?;
        let mut entries = Vec::new();
        while let Some(key) = map.next_key_seed(Seed(self.parser))? {
            if key.text().is_some_and(|text| text.len() > MAX_KEY) {
                let message = format!("a key is longer than {MAX_KEY} bytes");
                return Err(self.parser.refuse(message));
            }
            // Only values count: ten thousand small workers are fine.
            self.parser.values += 1;
            let value = map.next_value_seed(Seed(self.parser))?;
            entries.push(Entry { key, value });
        }
        self.parser.depth -= 1;
        let at = entries.first().map_or(self.parser.last, |first: &Entry| first.key.at);
        let value = Value::Map(merged(entries).map_err(|message| self.parser.refuse(message))?);
        Ok(Node { at, value })
    }
}

/// The entries with those of `<<` added, as far as their keys are not there already.
fn merged(entries: Vec<Entry>) -> Result<Vec<Entry>, String> {
    let (merges, mut entries): (Vec<Entry>, Vec<Entry>) =
        entries.into_iter().partition(|entry| entry.key.is_text("<<"));
    if merges.is_empty() {
        return Ok(entries);
    }
    if merges.len() > 1 {
        return Err("`<<` is written twice; give it one list of mappings".to_owned());
    }
    let mut known: BTreeSet<String> = keys(&entries);
    for base in merges.into_iter().flat_map(|merge| match merge.value {
        Node { value: Value::List(bases), .. } => bases,
        base => vec![base],
    }) {
        let Value::Map(inherited) = base.value else {
            return Err("`<<` takes a mapping or a list of mappings".to_owned());
        };
        let new = keys(&inherited);
        let unknown = |entry: &Entry| entry.key.text().is_none_or(|key| !known.contains(key));
        entries.extend(inherited.into_iter().filter(unknown));
        known.extend(new);
    }
    Ok(entries)
}

fn keys(entries: &[Entry]) -> BTreeSet<String> {
    entries.iter().filter_map(|entry| entry.key.text().map(str::to_owned)).collect()
}
