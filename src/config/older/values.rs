//! Values of the older format as today's: what cannot be understood is passed on as it is, for the
//! reader to refuse at its place.

use std::time::Duration;

use super::super::yaml::{Mark, Node, Value};
use super::walk::Walk;

/// A node of today's with this value, at the place of the older one.
fn at(node: &Node, value: Value) -> Node {
    Node { at: node.at, value }
}

/// Any text, without a meaning for `$`, which had none.
pub(super) fn text(w: &Walk<'_, '_>, node: &Node) -> Node {
    match &node.value {
        Value::Text(text) => at(node, Value::Text(literally(text))),
        Value::Number(_) | Value::Bool(_) => match w.r.literal(node) {
            Some(literal) => at(node, Value::Text(literally(literal))),
            None => node.clone(),
        },
        Value::Null | Value::List(_) | Value::Map(_) | Value::Unusable(_) => node.clone(),
    }
}

/// A text that comes out of the replacement of variables as it is.
pub(super) fn literally(text: &str) -> String {
    let mut literal = String::with_capacity(text.len());
    let mut chars = text.chars().peekable();
    while let Some(c) = chars.next() {
        literal.push(c);
        if c == '$' && matches!(chars.peek(), Some('$' | '{')) {
            literal.push('$');
        }
    }
    literal
}

/// Texts in a list.
pub(super) fn texts(w: &Walk<'_, '_>, node: &Node) -> Node {
    match &node.value {
        Value::List(nodes) => {
            at(node, Value::List(nodes.iter().map(|node| text(w, node)).collect()))
        }
        Value::Null
        | Value::Bool(_)
        | Value::Number(_)
        | Value::Text(_)
        | Value::Map(_)
        | Value::Unusable(_) => node.clone(),
    }
}

/// A mapping of texts.
pub(super) fn mapping(w: &Walk<'_, '_>, node: &Node) -> Node {
    let mut node = node.clone();
    if let Value::Map(entries) = &mut node.value {
        for entry in entries {
            entry.value = text(w, &entry.value);
        }
    }
    node
}

/// One of some words, of which some are written otherwise today.
pub(super) fn word(w: &Walk<'_, '_>, node: &Node, renamed: &[(&str, &str)]) -> Node {
    let known = renamed.iter().find(|(older, _)| node.text() == Some(*older));
    match known {
        Some((_, today)) => at(node, Value::Text((*today).to_owned())),
        None => text(w, node),
    }
}

/// A boolean: Go's reader took the words of YAML 1.1 for it too.
pub(super) fn boolean(w: &Walk<'_, '_>, node: &Node) -> Node {
    match node.text() {
        Some("yes" | "Yes" | "YES" | "on" | "On" | "ON" | "y" | "Y") => at(node, Value::Bool(true)),
        Some("no" | "No" | "NO" | "off" | "Off" | "OFF" | "n" | "N") => {
            at(node, Value::Bool(false))
        }
        Some(_) | None => match node.value {
            Value::Text(_) => text(w, node),
            Value::Null
            | Value::Bool(_)
            | Value::Number(_)
            | Value::List(_)
            | Value::Map(_)
            | Value::Unusable(_) => node.clone(),
        },
    }
}

/// True when the node is a boolean, or a word for one, that says so.
pub(super) fn is(w: &Walk<'_, '_>, node: &Node, wanted: bool) -> bool {
    boolean(w, node).value == Value::Bool(wanted)
}

/// A duration: Go's words, or a number of nanoseconds.
pub(super) fn duration(w: &Walk<'_, '_>, node: &Node) -> Node {
    match duration_of(node) {
        Some(duration) => at(node, Value::Text(shown(duration))),
        None => text(w, node),
    }
}

/// A duration, if it is one.
pub(super) fn duration_of(node: &Node) -> Option<Duration> {
    let nanos = match &node.value {
        Value::Text(text) => go_nanos(text)?,
        Value::Number(number) => u128::from(number.as_u64()?),
        Value::Null | Value::Bool(_) | Value::List(_) | Value::Map(_) | Value::Unusable(_) => {
            return None;
        }
    };
    from_nanos(nanos)
}

/// Go's own are at most 292 years.
fn from_nanos(nanos: u128) -> Option<Duration> {
    u64::try_from(nanos).ok().map(Duration::from_nanos)
}

/// The nanoseconds of a duration as Go writes it: `1h30m`, `1.5h`, `500ms`, `0`.
fn go_nanos(text: &str) -> Option<u128> {
    let text = text.strip_prefix('+').unwrap_or(text);
    if text == "0" {
        return Some(0);
    }
    let mut nanos = 0_u128;
    let mut rest = text;
    while !rest.is_empty() {
        let number = rest.find(|c: char| !c.is_ascii_digit() && c != '.')?;
        let (number, behind) = rest.split_at(number);
        let unit = behind.find(|c: char| c.is_ascii_digit() || c == '.').unwrap_or(behind.len());
        let (unit, behind) = behind.split_at(unit);
        let factor: u128 = match unit {
            "ns" => 1,
            "us" | "\u{b5}s" | "\u{3bc}s" => 1_000,
            "ms" => 1_000_000,
            "s" => 1_000_000_000,
            "m" => 60_000_000_000,
            "h" => 3_600_000_000_000,
            _ => return None,
        };
        nanos = nanos.checked_add(product(number, factor)?)?;
        rest = behind;
    }
    (!text.is_empty()).then_some(nanos)
}

/// A decimal number times a factor, rounded down.
fn product(number: &str, factor: u128) -> Option<u128> {
    let (whole, part) = number.split_once('.').unwrap_or((number, ""));
    if whole.is_empty() && part.is_empty() {
        return None;
    }
    // Beyond these digits no nanosecond is left.
    let part = &part[..part.len().min(15)];
    let scale = 10_u128.pow(u32::try_from(part.len()).ok()?);
    let read = |digits: &str| match digits {
        "" => Some(0),
        digits => digits.parse::<u64>().ok().map(u128::from),
    };
    let whole = read(whole)?.checked_mul(factor)?;
    let part = read(part)?.checked_mul(factor)? / scale;
    whole.checked_add(part)
}

/// A duration in today's words: in the largest unit that has no rest.
pub(super) fn shown(duration: Duration) -> String {
    let nanos = duration.as_nanos();
    let units = [
        ("h", 3_600_000_000_000),
        ("m", 60_000_000_000),
        ("s", 1_000_000_000),
        ("ms", 1_000_000),
        ("us", 1_000),
    ];
    let fits = units.iter().find(|(_, size)| nanos > 0 && nanos.is_multiple_of(*size));
    match fits {
        Some((unit, size)) => format!("{}{unit}", nanos / size),
        None if nanos == 0 => "0s".to_owned(),
        None => format!("{nanos}ns"),
    }
}

/// A ratio in thousandths, which is as fine as today's are.
pub(super) fn thousandths(node: &Node) -> Option<u32> {
    let Value::Number(number) = &node.value else { return None };
    let thousandths = number.as_f64()? * 1000.0;
    let in_range = (0.0..=1e9).contains(&thousandths);
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "it is in range")]
    in_range.then(|| thousandths.round() as u32)
}

/// A ratio in today's words: with three decimals at most.
pub(super) fn ratio(w: &Walk<'_, '_>, node: &Node) -> Node {
    let ratio = thousandths(node).map(|ratio| f64::from(ratio) / 1000.0);
    match ratio.and_then(serde_json::Number::from_f64) {
        Some(ratio) => at(node, Value::Number(ratio)),
        None => text(w, node),
    }
}

/// A whole number, if it is one.
pub(super) fn count_of(node: &Node) -> Option<u64> {
    let Value::Number(number) = &node.value else { return None };
    number.as_u64()
}

/// A whole number times a factor in thousandths, rounded down.
pub(super) fn scaled_count(w: &Walk<'_, '_>, node: &Node, factor: u32) -> Node {
    match count_of(node).and_then(|count| count.checked_mul(factor.into())) {
        Some(scaled) => number(node.at, scaled / 1000),
        None => text(w, node),
    }
}

/// A duration times a factor in thousandths.
pub(super) fn scaled_duration(w: &Walk<'_, '_>, node: &Node, factor: u32) -> Node {
    let scaled = duration_of(node)
        .and_then(|duration| from_nanos(duration.as_nanos() * u128::from(factor) / 1000));
    match scaled {
        Some(scaled) => at(node, Value::Text(shown(scaled))),
        None => text(w, node),
    }
}

/// A number that the file does not have.
pub(super) fn number(at: Mark, number: u64) -> Node {
    Node { at, value: Value::Number(number.into()) }
}

/// A ratio that the file does not have.
pub(super) fn rational(at: Mark, ratio: f64) -> Node {
    Node { at, value: serde_json::Number::from_f64(ratio).map_or(Value::Null, Value::Number) }
}

/// A text that the file does not have.
pub(super) fn plain(at: Mark, text: impl Into<String>) -> Node {
    Node { at, value: Value::Text(text.into()) }
}
