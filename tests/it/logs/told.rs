//! What happened, in `events.jsonl` and live.

use std::fs;

use hsu_master::{EventKind, Master, MasterConfig, WaitFor};
use serde_json::Value;

use super::{Kept, shell};
use crate::support::PATIENCE;

fn events(text: &str) -> Vec<Value> {
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

#[test]
fn every_event_is_written_down_before_the_end_as_it_is_told() {
    let kept = Kept::new();
    let told = kept.bench.master.subscribe();
    kept.bench.add(shell("w", "echo out; exit 3"));
    kept.bench.master.start_worker("w").unwrap();
    kept.bench.once("w", |known| known.gave_up);
    let Kept { bench, room } = kept;
    bench.finish();
    let written = events(&fs::read_to_string(room.path().join("logs/events.jsonl")).unwrap());
    let told: Vec<Value> = told.try_iter().map(|event| event.to_json()).collect();
    assert_eq!(written, told);
    let failed = written.iter().find(|event| event["to"] == "failed").unwrap();
    assert_eq!(failed["event"], "state");
    assert_eq!((&failed["worker"], &failed["incarnation"]), (&"w".into(), &1.into()));
    assert_eq!((&failed["from"], &failed["cause"]), (&"running".into(), &"crash".into()));
    assert_eq!((&failed["message"], &failed["exit"]["code"]), (&"exit 3".into(), &3.into()));
    assert_eq!(written.last().unwrap()["event"], "shut_down");

    // The next master goes on with the file.
    let config = MasterConfig::new().log_dir(room.path().join("logs"));
    let master = Master::builder().config(config).build().unwrap();
    assert_eq!(master.past_events(2).unwrap(), written[written.len() - 2..]);
    assert_eq!(master.past_events(usize::MAX).unwrap().len(), written.len());
    master.shutdown().unwrap();
    drop(master);
    let text = fs::read_to_string(room.path().join("logs/events.jsonl")).unwrap();
    assert_eq!(events(&text).len(), written.len() + 1);
}

#[test]
fn an_end_in_order_carries_no_failure() {
    let kept = Kept::new();
    let told = kept.bench.master.subscribe();
    kept.bench.add(shell("w", "exit 0"));
    kept.bench.master.start_worker("w").unwrap();
    kept.bench.master.wait_for("w", WaitFor::Completed, PATIENCE).unwrap();
    kept.bench.finish();
    for event in told.try_iter() {
        if let EventKind::State { message, .. } = event.kind {
            assert_eq!(message, None);
        }
    }
}

#[test]
fn a_master_without_directories_writes_nothing_down() {
    let master = Master::builder().build().unwrap();
    assert!(master.past_events(10).unwrap().is_empty());
    master.shutdown().unwrap();
}
