//! Places, threads and memory of the server are free again whatever its clients do.

use hsu_master::StopConfig;
use hsu_master::control::{Client, CommandOptions};
use serde_json::json;

use super::{Operated, Raw, shell};
use crate::support::{PATIENCE, until};

/// A master with a worker that does not end when it is asked to.
fn with_deaf() -> Operated {
    let operated = Operated::new();
    let deaf = shell("deaf", "trap '' TERM; echo up; while :; do sleep 1; done");
    operated.bench.add(deaf.stop(StopConfig::default().timeout(PATIENCE * 100)));
    operated.bench.master.start_worker("deaf").unwrap();
    assert_eq!(operated.bench.line().text, "up");
    operated
}

#[test]
fn commands_whose_clients_are_gone_take_no_place() {
    let operated = with_deaf();
    let mut crowd: Vec<Raw> = (0..63).map(|_| operated.raw()).collect();
    for raw in &mut crowd {
        raw.ask(1, "stop", &json!({ "id": "deaf" }));
        raw.answer(2, "hello", &json!({}));
    }
    operated.bench.once("deaf", |known| known.goal == "down");
    drop(crowd);
    until(|| {
        let clients: Vec<_> = (0..60).map(|_| Client::connect(operated.socket())).collect();
        clients.iter().all(Result::is_ok)
    });
    operated.client().stop("deaf", CommandOptions::new().force(true)).unwrap();
    operated.bench.finish();
}

#[test]
fn who_is_idle_the_longest_gives_way() {
    let operated = Operated::new();
    let mut crowd: Vec<Raw> = Vec::new();
    for n in 0..200 {
        let mut raw = operated.raw();
        assert_eq!(raw.answer(n, "hello", &json!({}))["id"], n);
        crowd.push(raw);
    }
    // Those that are left are the last ones.
    for raw in &mut crowd[..136] {
        let told = raw.line().unwrap();
        assert_eq!(told["error"]["category"], "refused", "{told}");
        assert_eq!(raw.line(), None);
    }
    for raw in &mut crowd[150..] {
        assert_eq!(raw.answer(7, "hello", &json!({}))["id"], 7);
    }
    operated.bench.finish();
}
