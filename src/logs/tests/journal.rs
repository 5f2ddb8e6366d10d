//! The journal of events: in order, bounded, and honest about what is missing.

use std::fs;
use std::os::unix::fs::symlink;
use std::sync::mpsc::channel;
use std::thread;
use std::time::{Duration, Instant};

use super::Room;
use crate::logs::journal::MOST;
use crate::worker::LogsConfig;

const PATIENCE: Duration = Duration::from_secs(30);

fn events(room: &Room) -> Vec<serde_json::Value> {
    room.logs.past_events(usize::MAX).unwrap()
}

#[test]
fn what_was_told_before_the_end_is_written_in_order() {
    let room = Room::new(LogsConfig::default());
    let scribe = room.logs.scribe().unwrap();
    for n in 0..1000 {
        assert!(scribe.line(Box::new(move || format!("{{\"n\":{n}}}"))));
    }
    room.logs.end();
    let numbers: Vec<_> = events(&room).iter().map(|event| event["n"].as_u64().unwrap()).collect();
    assert_eq!(numbers, (0..1000).collect::<Vec<_>>());
    assert_eq!(room.logs.past_events(3).unwrap().len(), 3);
    assert!(!scribe.line(Box::new(String::new)), "nobody writes any more");
}

#[test]
fn too_many_at_once_are_refused_and_hold_up_nobody() {
    let room = Room::new(LogsConfig::default());
    let scribe = room.logs.scribe().unwrap();
    let (release, released) = channel::<()>();
    let (begun, begins) = channel();
    scribe.line(Box::new(move || {
        begun.send(()).unwrap();
        released.recv().unwrap();
        "{}".to_owned()
    }));
    begins.recv_timeout(PATIENCE).unwrap();
    let told = (0..MOST + 10).filter(|_| scribe.line(Box::new(|| "{}".to_owned()))).count();
    assert_eq!(told, MOST - 1, "one is being written");
    release.send(()).unwrap();
    // There is room again as soon as something is written.
    let end = Instant::now() + PATIENCE;
    let (all, is_all) = channel();
    while !scribe.line(Box::new({
        let all = all.clone();
        move || {
            all.send(()).unwrap();
            "{}".to_owned()
        }
    })) {
        assert!(Instant::now() < end);
        thread::yield_now();
    }
    is_all.recv_timeout(PATIENCE).unwrap();
    room.logs.end();
    assert_eq!(events(&room).len(), MOST + 1);
}

#[test]
fn events_that_cannot_be_written_are_counted() {
    let room = Room::new(LogsConfig::default());
    let scribe = room.logs.scribe().unwrap();
    symlink("/dev/null", room.path("events.jsonl")).unwrap();
    let tell = || {
        let (written, is_written) = channel();
        scribe.line(Box::new(move || {
            written.send(()).unwrap();
            "{}".to_owned()
        }));
        is_written.recv_timeout(PATIENCE).unwrap();
    };
    // One that is written at once, so that the next is not even made before.
    scribe.line(Box::new(|| format!("\"{}\"", "x".repeat(64 << 10))));
    tell();
    let mut told = 2;
    fs::remove_file(room.path("events.jsonl")).unwrap();
    let end = Instant::now() + PATIENCE;
    while events(&room).len() < 3 {
        assert!(Instant::now() < end, "it is not tried again");
        tell();
        told += 1;
        thread::yield_now();
    }
    room.logs.end();
    let events = events(&room);
    assert_eq!(events[0]["event"], "missed");
    let missed = events[0]["count"].as_u64().unwrap();
    assert!(missed >= 2, "{missed}");
    assert_eq!(missed + events.len() as u64 - 1, told);
}
