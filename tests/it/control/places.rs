//! Places, threads and memory of the server are free again whatever its clients do.

use std::cell::RefCell;
use std::io::Write as _;
use std::os::unix::net::UnixStream;

use hsu_master::control::{Client, CommandOptions};
use hsu_master::crossbeam_channel::bounded;
use hsu_master::{EventKind, Master, MasterConfig, StopConfig, WorkerConfig};
use serde_json::json;

use super::{Operated, Raw, shell};
use crate::support::{Bench, PATIENCE, until};

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
    // A thread that was slow to say that it is idle counts as idle later: which of the older ones
    // are left is not certain, how many are is.
    let mut left = Vec::new();
    for (n, raw) in crowd.iter_mut().enumerate() {
        // Who has lost its place may not be heard any more.
        let _ = raw.socket.write_all(b"{\"id\":7,\"method\":\"hello\"}\n");
        let told = raw.line().unwrap();
        if told["id"] == 7 {
            left.push(n);
        } else {
            assert_eq!(told["error"]["category"], "refused", "{told}");
            assert_eq!(raw.line(), None);
        }
    }
    assert_eq!(left.len(), 64, "{left:?}");
    assert!((150..200).all(|n| left.contains(&n)), "{left:?}");
    operated.bench.finish();
}

/// A master whose configuration is read again by `source`.
fn reloading(
    source: impl Fn(MasterConfig) -> hsu_master::Result<MasterConfig> + Send + Sync + 'static,
) -> (Bench, tempfile::TempDir) {
    let directory = tempfile::tempdir().unwrap();
    let config = MasterConfig::new().state_dir(directory.path().join("state"));
    let again = config.clone();
    let builder = Master::builder().config(config).source(move || source(again.clone()));
    (Bench::new(builder), directory)
}

#[test]
fn so_many_reloads_have_threads_and_more_are_refused() {
    let (held, holds) = bounded::<()>(0);
    let (bench, directory) = reloading(move |config| {
        let _ = holds.recv();
        Ok(config)
    });
    let socket = directory.path().join("state/control.sock");
    let raw = || Raw::new(UnixStream::connect(&socket).unwrap());
    for _ in 0..4 {
        // Who goes leaves its reloads behind.
        let mut raw = raw();
        for id in 0..4 {
            raw.ask(id, "reload", &json!({}));
        }
        raw.answer(4, "hello", &json!({}));
    }
    let mut last = raw();
    for method in ["reload", "plan", "modules"] {
        let answer = last.answer(1, method, &json!({}));
        assert_eq!(answer["error"]["category"], "refused", "{answer}");
        assert!(answer["error"]["message"].as_str().unwrap().starts_with("busy"), "{answer}");
    }
    drop(held);
    let last = RefCell::new(last);
    until(|| last.borrow_mut().answer(1, "modules", &json!({}))["error"].is_null());
    bench.finish();
}

#[test]
fn commands_that_nobody_waits_for_are_counted_until_they_have_ended() {
    let operated = with_deaf();
    let mut raw = operated.raw();
    let unwaited = json!({ "id": "deaf", "wait": false });
    let expired = json!({ "id": "deaf", "timeout_ms": 0 });
    for id in 0..64 {
        let answer = raw.answer(id, "stop", if id % 2 == 0 { &unwaited } else { &expired });
        assert_eq!(answer["id"], id);
        assert_ne!(answer["error"]["category"], "refused", "{answer}");
    }
    for asked in [&unwaited, &expired, &json!({ "id": "deaf" })] {
        let answer = raw.answer(64, "stop", asked);
        assert_eq!(answer["error"]["category"], "refused", "{answer}");
    }
    // Others are heard, and once those have ended so is this one.
    operated.client().stop("deaf", CommandOptions::new().force(true)).unwrap();
    let raw = RefCell::new(raw);
    until(|| raw.borrow_mut().answer(65, "stop", &unwaited)["error"].is_null());
    operated.bench.finish();
}

#[test]
fn a_worker_has_only_so_many_commands_to_answer() {
    let operated = with_deaf();
    let master = &operated.bench.master;
    let stops: Vec<_> = (0..1024).map(|_| master.stop_worker_nowait("deaf", false)).collect();
    let error = master.stop_worker("deaf").unwrap_err();
    assert!(error.is_refused() && error.to_string().contains("busy"), "{error}");
    // One that is forced gets past them.
    master.stop_worker_nowait("deaf", true).wait().unwrap();
    stops.into_iter().for_each(|stop| stop.wait().unwrap());
    operated.bench.finish();
}

#[test]
fn what_came_of_a_reload_is_told_though_its_client_is_gone() {
    let directory = tempfile::tempdir().unwrap();
    let state = directory.path().join("state");
    let before = MasterConfig::new().state_dir(&state);
    let (entered, enters) = bounded(0);
    let (leave, leaves) = bounded::<()>(0);
    let after = before.clone().worker(WorkerConfig::executable("bad", "/no/such"));
    let source = move || {
        entered.send(()).unwrap();
        leaves.recv().unwrap();
        Ok(after.clone())
    };
    let bench = Bench::new(Master::builder().config(before).source(source));
    let mut raw = Raw::new(UnixStream::connect(state.join("control.sock")).unwrap());
    raw.ask(1, "reload", &json!({}));
    enters.recv_timeout(PATIENCE).unwrap();
    drop(raw);
    leave.send(()).unwrap();
    let told = [bench.next_event("").1, bench.next_event("").1];
    assert!(matches!(&told[0], EventKind::Reloaded { added, .. } if added == &["bad"]), "{told:?}");
    assert_eq!(told[1], EventKind::ReloadFinished { failed: vec!["bad".to_owned()] });
    bench.finish();
}
