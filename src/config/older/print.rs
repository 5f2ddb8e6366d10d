//! Writes a translation as the text of a file in today's format.

use std::fmt::Write;

use super::super::yaml::{Node, Value};
use super::Translation;

/// The text of a translation. `file`: what it was translated from.
pub(super) fn print(translation: &Translation, file: &str) -> String {
    let mut page = Page { translation, text: String::new() };
    page.comment(0, &format!("Translated from {file}, a file of hsu-master's Go version."));
    page.comment(0, "Relative paths in it are relative to the directory that it is put into.");
    page.notes(0, None);
    page.mapping(0, "", &translation.whole);
    page.text
}

struct Page<'t> {
    translation: &'t Translation,
    text: String,
}

impl Page<'_> {
    fn line(&mut self, indent: usize, text: &str) {
        // Nothing can be written to that fails.
        let _ = writeln!(self.text, "{:indent$}{text}", "");
    }

    /// A comment; each of its lines on one of its own.
    fn comment(&mut self, indent: usize, text: &str) {
        for line in text.lines() {
            let printable = |c: char| if is_harmless(c) { c } else { '?' };
            let line: String = line.chars().map(printable).collect();
            self.line(indent, format!("# {line}").trim_end());
        }
    }

    /// What is to be said of a worker, or of the whole.
    fn notes(&mut self, indent: usize, worker: Option<usize>) {
        for note in self.translation.notes.iter().filter(|note| note.worker == worker) {
            self.comment(indent, &note.text);
        }
    }

    fn mapping(&mut self, indent: usize, path: &str, node: &Node) {
        let Value::Map(entries) = &node.value else { return };
        for entry in entries {
            let key = entry.key.text().unwrap_or_default();
            let dot = if path.is_empty() { "" } else { "." };
            let path = format!("{path}{dot}{key}");
            let begin = self.text.len();
            self.entry(indent, &path, &scalar_text(key), &entry.value);
            let pending = |path: &String| self.translation.pending.iter().any(|p| p.path == *path);
            if pending(&path) {
                self.comment_out(begin, indent);
            }
        }
    }

    /// Makes what was written since `begin` a comment.
    fn comment_out(&mut self, begin: usize, indent: usize) {
        let written = self.text.split_off(begin);
        self.comment(indent, "pending, for a version that knows it:");
        for line in written.lines() {
            let line = line.get(indent..).unwrap_or(line);
            self.line(indent, &format!("# {line}"));
        }
    }

    fn entry(&mut self, indent: usize, path: &str, key: &str, value: &Node) {
        match &value.value {
            Value::Map(entries) if !entries.is_empty() => {
                self.line(indent, &format!("{key}:"));
                self.mapping(indent + 2, path, value);
            }
            Value::List(nodes) if nodes.iter().any(|node| matches!(node.value, Value::Map(_))) => {
                self.line(indent, &format!("{key}:"));
                self.list(indent + 2, path, nodes);
            }
            Value::Null
            | Value::Bool(_)
            | Value::Number(_)
            | Value::Text(_)
            | Value::List(_)
            | Value::Map(_)
            | Value::Unusable(_) => self.line(indent, &format!("{key}: {}", flow(value))),
        }
    }

    fn list(&mut self, indent: usize, path: &str, nodes: &[Node]) {
        for (index, node) in nodes.iter().enumerate() {
            let path = format!("{path}[{index}]");
            if path.starts_with("workers[") {
                self.notes(indent, Some(index));
            }
            match &node.value {
                Value::Map(entries) if !entries.is_empty() => {
                    let begin = self.text.len();
                    self.mapping(indent + 2, &path, node);
                    self.dash(begin, indent);
                }
                Value::Null
                | Value::Bool(_)
                | Value::Number(_)
                | Value::Text(_)
                | Value::List(_)
                | Value::Map(_)
                | Value::Unusable(_) => self.line(indent, &format!("- {}", flow(node))),
            }
        }
    }

    /// Puts the dash of a list's element before its first line that is no comment.
    fn dash(&mut self, begin: usize, indent: usize) {
        let written = self.text.split_off(begin);
        let mut dashed = false;
        for line in written.lines() {
            if dashed || line.trim_start().starts_with('#') {
                self.line(0, line);
            } else {
                let rest = line.get(indent + 2..).unwrap_or(line);
                self.line(indent, &format!("- {rest}"));
                dashed = true;
            }
        }
    }
}

/// A value in one line.
fn flow(node: &Node) -> String {
    match &node.value {
        Value::Null | Value::Unusable(_) => "null".to_owned(),
        Value::Bool(value) => value.to_string(),
        Value::Number(number) => number.to_string(),
        Value::Text(text) => scalar_text(text),
        Value::List(nodes) => {
            let nodes: Vec<String> = nodes.iter().map(flow).collect();
            format!("[{}]", nodes.join(", "))
        }
        Value::Map(entries) => {
            let entries = entries.iter().map(|entry| {
                format!(
                    "{}: {}",
                    scalar_text(entry.key.text().unwrap_or_default()),
                    flow(&entry.value)
                )
            });
            format!("{{{}}}", entries.collect::<Vec<_>>().join(", "))
        }
    }
}

/// A text as YAML has it: as it is where nobody could take it for anything else, else in quotes.
fn scalar_text(text: &str) -> String {
    let begins = text.starts_with(|c: char| c.is_ascii_alphabetic() || c == '/' || c == '.');
    let plain = |c: char| c.is_ascii_alphanumeric() || "/._-".contains(c);
    let word = ["true", "false", "yes", "no", "on", "off", "null", "y", "n", ".inf", ".nan"];
    let is_a_word = word.contains(&text.to_ascii_lowercase().as_str());
    let number = text.trim_start_matches('.').starts_with(|c: char| c.is_ascii_digit());
    // Durations begin with a digit and are no numbers.
    let duration = text.ends_with(['s', 'm', 'h'])
        && text
            .trim_end_matches(|c: char| c.is_ascii_lowercase())
            .bytes()
            .all(|b| b.is_ascii_digit())
        && text.starts_with(|c: char| c.is_ascii_digit());
    if duration || (begins && text.chars().all(plain) && !is_a_word && !number) {
        return text.to_owned();
    }
    let mut quoted = String::from("\"");
    for c in text.chars() {
        match c {
            '"' | '\\' => quoted.extend(['\\', c]),
            '\n' => quoted.push_str("\\n"),
            '\t' => quoted.push_str("\\t"),
            c if is_harmless(c) => quoted.push(c),
            c => {
                let _ = write!(quoted, "\\U{:08X}", u32::from(c));
            }
        }
    }
    quoted.push('"');
    quoted
}

/// A character that is itself wherever it stands in a text in quotes, or in a comment.
fn is_harmless(c: char) -> bool {
    matches!(c, ' '..='~' | '\u{A1}'..='\u{2027}' | '\u{202A}'..='\u{D7FF}'
        | '\u{E000}'..='\u{FEFE}' | '\u{FF00}'..='\u{FFFD}' | '\u{10000}'..='\u{10FFFF}')
}
