//! Many clients at a time, and many workers.

use std::fs::File;
use std::os::unix::net::UnixStream;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use hsu_master::control::{Client, CommandOptions};
use hsu_master::{ErrorCategory, WaitFor, WorkerConfig};
use serde_json::{Value, json};

use super::{Operated, Raw, sleeper};
use crate::support::{PATIENCE, ms, until};
use crate::{alone, logged};

#[test]
fn a_thousand_connections_are_served_or_told_that_there_is_no_room() {
    let operated = Operated::new();
    operated.bench.add(sleeper("nap"));
    let first = operated.client();
    let mut crowd: Vec<Raw> = Vec::new();
    let mut busy = 0;
    let waits = json!({ "id": 1, "method": "wait", "params": { "id": "nap", "for": "completed" }});
    for n in 0..1000 {
        let mut raw = operated.raw();
        // Who is turned away may have been closed already.
        let lines = format!("{waits}\n{}\n", json!({ "id": 1, "method": "hello" }));
        let _ = std::io::Write::write_all(&mut raw.socket, lines.as_bytes());
        let answer = raw.line().unwrap();
        if answer["error"].is_null() {
            assert_eq!(answer["id"], 1, "{n}");
            crowd.push(raw);
        } else {
            assert_eq!(answer["error"]["category"], "refused", "{answer}");
            assert!(answer["error"]["message"].as_str().unwrap().starts_with("busy"), "{answer}");
            assert_eq!(answer["id"], Value::Null);
            assert_eq!(raw.line(), None);
            busy += 1;
        }
    }
    assert_eq!((crowd.len(), busy), (64, 936));
    let error = Client::connect(operated.socket()).unwrap_err();
    assert_eq!(error.category(), ErrorCategory::Refused, "{error}");
    // Who was idle has given way to them, and is told so.
    let error = first.status(&[]).unwrap_err();
    assert_eq!(error.category(), ErrorCategory::Refused, "{error}");
    assert!(error.to_string().contains("idle the longest"), "{error}");
    drop(crowd);
    until(|| Client::connect(operated.socket()).is_ok());
    operated.bench.finish();
}

/// A process that has no descriptor left but those that it gives itself.
struct Short {
    files: Vec<File>,
}

impl Short {
    fn of_descriptors() -> Self {
        let mut short = Self { files: Vec::new() };
        short.take_all();
        short
    }

    fn take_all(&mut self) {
        while let Ok(file) = File::open("/dev/null") {
            self.files.push(file);
            assert!(self.files.len() < 100, "there is no limit");
        }
    }

    /// Connects with as many descriptors as that takes, and none more.
    fn connect(&mut self, operated: &Operated) -> UnixStream {
        loop {
            assert!(self.files.pop().is_some(), "not even with all descriptors");
            let connected = UnixStream::connect(operated.socket());
            self.take_all();
            if let Ok(socket) = connected {
                socket.set_read_timeout(Some(PATIENCE)).unwrap();
                return socket;
            }
        }
    }
}

/// As a [`Raw`], without a descriptor more. The lines to read are to come at once.
fn told(socket: &UnixStream, lines: &str) -> Value {
    let mut sending = socket;
    std::io::Write::write_all(&mut sending, lines.as_bytes()).unwrap();
    let mut line = String::new();
    std::io::BufRead::read_line(&mut std::io::BufReader::new(socket), &mut line).unwrap();
    serde_json::from_str(&line).unwrap()
}

const WAIT: &str =
    "{\"id\":1,\"method\":\"wait\",\"params\":{\"id\":\"nap\",\"for\":\"running\"}}\n";
const HELLO: &str = "{\"id\":2,\"method\":\"hello\"}\n";
const STATUS: &str = "{\"id\":3,\"method\":\"status\",\"params\":{\"ids\":[\"nap\"]}}\n";
/// Has a hundred descriptors.
const LIMITED: [&str; 4] = ["sh", "-c", r#"ulimit -n 100; exec "$@""#, "sh"];

/// A master with a worker, and a connection that is in use: what it takes is taken.
fn in_use() -> (Operated, UnixStream) {
    logged::capture();
    let operated = Operated::new();
    operated.bench.add(sleeper("nap"));
    let used = UnixStream::connect(operated.socket()).unwrap();
    used.set_read_timeout(Some(PATIENCE)).unwrap();
    assert_eq!(told(&used, &format!("{WAIT}{HELLO}"))["id"], 2);
    (operated, used)
}

#[test]
fn a12_without_descriptors_a_master_answers_one_who_asks_after_the_other() {
    if !alone::here(&LIMITED, a12_without_descriptors_a_master_answers_one_who_asks_after_the_other)
    {
        return;
    }
    let (operated, _used) = in_use();
    let mut short = Short::of_descriptors();
    // Each is served by what is kept for that: who is idle gives way to the next.
    let asking: Vec<UnixStream> = (0..5)
        .map(|_| {
            let socket = short.connect(&operated);
            let answer = told(&socket, STATUS);
            assert_eq!(answer["result"]["workers"][0]["id"], "nap", "{answer}");
            socket
        })
        .collect();
    // What it cannot do now it says.
    let started = operated.bench.master.start_worker("nap");
    assert!(started.is_err(), "there were descriptors");
    drop((short, asking));
    operated.bench.once("nap", |known| known.state == hsu_master::WorkerState::Running);
    operated.bench.finish();
}

#[test]
fn without_descriptors_connections_wait_and_are_told_and_nothing_spins() {
    if !alone::here(&LIMITED, without_descriptors_connections_wait_and_are_told_and_nothing_spins) {
        return;
    }
    let (operated, _used) = in_use();
    let mut short = Short::of_descriptors();
    let also_used = short.connect(&operated);
    assert_eq!(told(&also_used, &format!("{WAIT}{HELLO}"))["id"], 2);
    let waiting: Vec<_> = (0..3).map(|_| short.connect(&operated)).collect();
    let begun = Instant::now();
    let before = logged::lines(0, "a connection waits").len();
    logged::lines(before + 5, "a connection waits");
    // Each attempt is a moment after the one before.
    assert!(begun.elapsed() >= ms(300), "{:?}", begun.elapsed());
    // One that stays has all there is: the others are told, one after the other.
    for waiting in &waiting {
        let answer = told(waiting, "");
        assert_eq!(answer["error"]["category"], "refused", "{answer}");
        assert_eq!(answer["error"]["message"], "busy: no descriptor is left", "{answer}");
    }
    // And it may do anything but stay on and on.
    let follow = "{\"id\":4,\"method\":\"events\",\"params\":{\"follow\":true}}\n";
    let answer = told(&also_used, follow);
    assert_eq!(answer["error"]["message"], "busy: no descriptor is left to follow with");
    assert_eq!(told(&also_used, STATUS)["id"], 3);
    drop(short);
    // Who comes while the last are still turned away may be told the same.
    until(|| Client::connect(operated.socket()).is_ok());
    operated.bench.finish();
}

#[test]
fn every_command_is_written_down_with_who_gave_it() {
    if !alone::here(&[], every_command_is_written_down_with_who_gave_it) {
        return;
    }
    logged::capture();
    let operated = Operated::new();
    operated.bench.add(sleeper("nap"));
    let client = operated.client();
    client.start("nap", CommandOptions::new()).unwrap();
    client.stop("nab\n", CommandOptions::new().force(true)).unwrap_err();
    client.restart("nap", CommandOptions::new().wait(false)).unwrap();
    client.shutdown(false).unwrap();
    let who = format!("control: pid {} (uid ", std::process::id());
    let told: Vec<_> = logged::lines(4, &who).into_iter().map(|line| line.text).collect();
    let what: Vec<_> = told.iter().map(|line| line.split_once("): ").unwrap().1).collect();
    assert_eq!(what[0], "start nap: done");
    assert!(what[1].starts_with(r"stop nab\n --force: unknown_worker: "), "{}", what[1]);
    assert_eq!(what[2..], ["restart nap, not waited for: done", "shutdown: done"]);
    operated.bench.finish();
}

/// A number that looks random and is the same in every run.
fn dice(state: &mut u64) -> u64 {
    *state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
    *state >> 33
}

#[test]
fn conflicting_commands_of_many_get_one_order_and_one_answer_each() {
    let operated = Operated::new();
    let workers = ["a", "b", "c"];
    workers.iter().for_each(|id| operated.bench.add(sleeper(id)));
    let answers = AtomicU64::new(0);
    std::thread::scope(|scope| {
        for client in 0..50_u64 {
            let (operated, answers) = (&operated, &answers);
            scope.spawn(move || {
                let mut state = client;
                let mut raw = operated.raw();
                for id in 0..20 {
                    let worker = workers[usize::try_from(dice(&mut state) % 3).unwrap()];
                    let method = ["start", "stop", "restart"]
                        [usize::try_from(dice(&mut state) % 3).unwrap()];
                    let force = dice(&mut state).is_multiple_of(2);
                    raw.ask(id, method, &json!({ "id": worker, "force": force }));
                }
                let mut seen: Vec<_> = (0..20)
                    .map(|_| {
                        let answer = raw.line().unwrap();
                        let category = &answer["error"]["category"];
                        assert!(
                            !answer["result"].is_null() || category == "cancelled",
                            "neither done nor overtaken: {answer}"
                        );
                        answers.fetch_add(1, Ordering::Relaxed);
                        answer["id"].as_u64().unwrap()
                    })
                    .collect();
                seen.sort_unstable();
                assert_eq!(seen, (0..20).collect::<Vec<_>>());
            });
        }
    });
    assert_eq!(answers.into_inner(), 1000);
    // What is wanted last is what is.
    let client = operated.client();
    for id in workers {
        client.stop(id, CommandOptions::new()).unwrap();
        client.start(id, CommandOptions::new()).unwrap();
        client.wait_for(id, WaitFor::Running, PATIENCE).unwrap();
    }
    operated.bench.finish();
}

#[test]
fn the_status_of_any_number_of_workers_is_whole() {
    let operated = Operated::new();
    let ids: Vec<_> = (0..1100).map(|n| format!("w-{n:04}")).collect();
    for id in &ids {
        let worker = WorkerConfig::executable(id, "/bin/true").args(["x".repeat(100)]);
        operated.bench.master.add_worker_nowait(worker).unwrap().wait().unwrap();
    }
    let client = operated.client();
    let known: Vec<_> = client.status(&[]).unwrap().into_iter().map(|worker| worker.id).collect();
    assert_eq!(known, ids);
    let mut raw = operated.raw();
    let page = raw.answer(1, "status", &json!({ "after": "w-1095" }));
    assert_eq!(page["result"]["next"], Value::Null);
    assert_eq!(page["result"]["workers"].as_array().unwrap().len(), 4);
    let named: Vec<_> = ids.iter().map(String::as_str).collect();
    assert_eq!(client.status(&named).unwrap().len(), 1100);
    operated.bench.finish();
}
