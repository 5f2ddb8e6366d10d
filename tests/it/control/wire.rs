//! The protocol as it is documented: the document and the master name the same things.

use std::collections::BTreeSet;

use serde_json::{Value, json};

use super::{exporting, shell};
use crate::support::quick;

const DOCUMENT: &str = include_str!("../../../docs/control.md");

/// Every name between backticks.
fn words() -> BTreeSet<&'static str> {
    let quoted = DOCUMENT.split('`').skip(1).step_by(2);
    quoted.flat_map(|text| text.split([',', ' ', '.', ':', '{', '}', '"'])).collect()
}

/// Every key of an object, however deep.
fn keys(value: &Value, found: &mut BTreeSet<String>) {
    match value {
        Value::Object(object) => {
            for (key, value) in object {
                found.insert(key.clone());
                keys(value, found);
            }
        }
        Value::Array(items) => items.iter().for_each(|item| keys(item, found)),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
    }
}

#[test]
fn the_document_names_every_method_and_no_other() {
    let (operated, _) = exporting();
    let mut raw = operated.raw();
    let answer = raw.answer(1, "?", &json!({}));
    let told = answer["error"]["message"].as_str().unwrap();
    let known: BTreeSet<_> = told.split("known are ").nth(1).unwrap().split(", ").collect();
    let documented: BTreeSet<_> =
        DOCUMENT.lines().filter_map(|line| line.strip_prefix("### `")?.strip_suffix('`')).collect();
    assert_eq!(known, documented);
    operated.bench.finish();
}

#[test]
fn the_document_names_every_key() {
    let (operated, _) = exporting();
    operated.bench.add(shell("broken", "exit 3").restart(quick().max_retries(1)));
    operated.bench.master.start_worker("m").unwrap();
    let _ = operated.bench.master.start_worker("broken");
    operated.bench.once("broken", |known| known.gave_up);
    let mut raw = operated.raw();
    let mut found = BTreeSet::new();
    for (method, params) in [
        ("hello", json!({})),
        ("status", json!({})),
        ("describe", json!({ "id": "broken" })),
        ("start", json!({ "id": "m" })),
        ("modules", json!({})),
        ("call", json!({ "worker": "m", "function": "echo" })),
        ("stop", json!({ "id": "none" })),
        ("shutdown", json!({})),
    ] {
        let answer = raw.answer(1, method, &params);
        keys(&answer, &mut found);
    }
    let words = words();
    let missing: Vec<_> = found.iter().filter(|key| !words.contains(key.as_str())).collect();
    assert!(missing.is_empty(), "docs/control.md does not name {missing:?}");
    assert!(found.contains("retry_in_ms") && found.contains("signal"), "{found:?}");
    operated.bench.finish();
}
