//! Clients that send garbage, too much, too little or nothing, never read, or vanish: each harms
//! itself alone.

use std::net::Shutdown;
use std::os::unix::net::UnixListener;
use std::process::{Command, Stdio};

use hsu_master::control::{Client, CommandOptions};
use hsu_master::crossbeam_channel::bounded;
use hsu_master::{ErrorCategory, WaitFor, WorkerState};
use serde_json::{Value, json};

use super::{Operated, Raw, exporting, shell, sleeper};
use crate::support::{PATIENCE, ms, until};

fn category(answer: &Value) -> &str {
    answer["error"]["category"].as_str().unwrap_or_default()
}

#[test]
fn garbage_gets_one_error_and_the_end() {
    let operated = Operated::new();
    let deep = [b"{\"id\":1,\"params\":".to_vec(), vec![b'['; 200_000], b"\n".to_vec()].concat();
    let long = vec![b'x'; (1 << 20) + 1];
    for bytes in [b"\0\xff\xfe garbage\n".to_vec(), b"[1,2]\n".to_vec(), deep, long] {
        let mut raw = operated.raw();
        // The other side may close before it has taken all of it.
        let _ = std::io::Write::write_all(&mut raw.socket, &bytes);
        let answer = raw.line().unwrap();
        assert_eq!((&answer["id"], category(&answer)), (&Value::Null, "configuration"));
        assert_eq!(raw.line(), None);
    }
    // What is a request, but not a good one, is answered and the next one is heard.
    let mut raw = operated.raw();
    for (line, id, text) in [
        (r#"{"method":"status"}"#, Value::Null, "`id`"),
        (r#"{"id":-1,"method":"status"}"#, Value::Null, "`id`"),
        (r#"{"id":1}"#, json!(1), "`method`"),
        (r#"{"id":2,"method":7}"#, json!(2), "`method`"),
        (r#"{"id":3,"method":"sttaus"}"#, json!(3), "did you mean \"status\""),
        (r#"{"id":4,"method":"status","params":{"ids":"a"}}"#, json!(4), "`params.ids`"),
        (r#"{"id":5,"method":"stop","params":{}}"#, json!(5), "`params`: missing field `id`"),
        (r#"{"id":6,"method":"wait","params":{"id":"a","for":"x"}}"#, json!(6), "`params.for`"),
        (
            r#"{"id":7,"method":"call","params":{"worker":"a","function":"f","payload_b64":"!"}}"#,
            json!(7),
            "`params.payload_b64",
        ),
        (r#"{"id":8,"method":"status","params":[]}"#, json!(8), "next"),
    ] {
        raw.send(format!("{line}\n"));
        let answer = raw.line().unwrap();
        assert_eq!(answer["id"], id, "{line}: {answer}");
        let told = answer.to_string().replace("\\\"", "\"");
        assert!(told.contains(text), "{line}: {answer}");
    }
    operated.bench.finish();
}

#[test]
fn half_a_line_is_waited_for_a_moment_and_nobody_else_has_to() {
    let operated = Operated::new();
    operated.bench.add(sleeper("nap"));
    let client = operated.client();
    let mut silent = operated.raw();
    let mut half = operated.raw();
    half.send(b"{\"i");
    let mut late = operated.raw();
    assert_eq!(late.answer(1, "hello", &json!({}))["id"], 1);
    late.send(b"{\"id\":2,");
    assert_eq!(client.status(&["nap"]).unwrap()[0].state, WorkerState::Uninitialized);
    for raw in [&mut silent, &mut half, &mut late] {
        let answer = raw.line().unwrap();
        assert_eq!((&answer["id"], category(&answer)), (&Value::Null, "timeout"));
        assert_eq!(raw.line(), None);
    }
    // Who has said something whole may be silent for as long as it likes.
    assert_eq!(client.status(&["nap"]).unwrap().len(), 1);
    operated.bench.finish();
}

#[test]
fn slow_clients_without_end_are_dropped_one_by_one() {
    let operated = Operated::new();
    let mut slow: Vec<_> = (0..200).map(|_| operated.raw()).collect();
    let (tell, told) = bounded::<()>(0);
    std::thread::scope(|scope| {
        let slow = &mut slow;
        scope.spawn(move || {
            // A byte each, again and again: no line is ever whole.
            while told.recv_timeout(ms(100)).is_err_and(|error| error.is_timeout()) {
                for raw in slow.iter_mut() {
                    let _ = std::io::Write::write_all(&mut raw.socket, b" ");
                }
            }
        });
        // The crowd has every place there is; each must give way when its time is over.
        until(|| Client::connect(operated.socket()).is_ok());
        drop(tell);
    });
    operated.bench.finish();
}

#[test]
fn who_never_reads_is_dropped_and_holds_up_nobody() {
    let operated = Operated::new();
    operated.bench.add(sleeper("nap"));
    let mut raw = operated.raw();
    let line = format!("{}\n", json!({ "id": 1, "method": "describe", "params": { "id": "nap" } }));
    let flood = line.repeat(100_000);
    let client = operated.client();
    std::thread::scope(|scope| {
        let flooding = scope.spawn(|| std::io::Write::write_all(&mut raw.socket, flood.as_bytes()));
        client.start("nap", CommandOptions::new()).unwrap();
        client.stop("nap", CommandOptions::new()).unwrap();
        // It is read no further than there is room for its answers, and then closed.
        assert!(flooding.join().unwrap().is_err(), "a client was read that does not read");
    });
    client.status(&[]).unwrap();
    operated.bench.finish();
}

#[test]
fn a_flood_of_requests_is_answered_one_by_one_and_in_full() {
    const COUNT: u64 = 100_000;
    let operated = Operated::new();
    operated.bench.add(sleeper("nap"));
    let mut raw = operated.raw();
    let mut writer = raw.socket.try_clone().unwrap();
    let client = operated.client();
    std::thread::scope(|scope| {
        scope.spawn(move || {
            for id in 0..COUNT {
                let line = format!("{{\"id\":{id},\"method\":\"hello\"}}\n");
                std::io::Write::write_all(&mut writer, line.as_bytes()).unwrap();
            }
        });
        // Meanwhile others are served.
        client.start("nap", CommandOptions::new()).unwrap();
        client.stop("nap", CommandOptions::new()).unwrap();
        for id in 0..COUNT {
            assert_eq!(raw.line().unwrap()["id"], id);
        }
    });
    operated.bench.finish();
}

#[test]
fn a_command_of_a_client_that_vanishes_is_carried_out_once() {
    let operated = Operated::new();
    operated.bench.add(sleeper("nap"));
    for (method, state) in [("start", WorkerState::Running), ("stop", WorkerState::Stopped)] {
        let mut raw = operated.raw();
        raw.ask(1, method, &json!({ "id": "nap" }));
        drop(raw);
        operated.bench.once("nap", |known| known.state == state);
    }
    assert_eq!(operated.bench.known("nap").incarnation, 1);
    // One that is killed while it waits.
    let socket = operated.socket();
    let line = json!({ "id": 1, "method": "start", "params": { "id": "nap" } });
    let script = format!(
        "import socket, time\ns = socket.socket(socket.AF_UNIX)\ns.connect({:?})\n\
         s.send(b'{line}\\n')\ntime.sleep(99)",
        socket.to_str().unwrap()
    );
    let mut client =
        Command::new("python3").args(["-c", &script]).stdin(Stdio::null()).spawn().unwrap();
    operated.bench.once("nap", |known| known.state == WorkerState::Running);
    client.kill().unwrap();
    client.wait().unwrap();
    assert_eq!(operated.bench.known("nap").incarnation, 2);
    operated.bench.finish();
}

#[test]
fn who_has_said_all_still_gets_its_answers() {
    let (operated, waits) = exporting();
    let mut raw = operated.raw();
    raw.answer(1, "start", &json!({ "id": "m" }));
    raw.ask(2, "call", &json!({ "worker": "m", "function": "wait" }));
    waits.recv_timeout(PATIENCE).unwrap();
    raw.socket.shutdown(Shutdown::Write).unwrap();
    operated.bench.master.stop_worker("m").unwrap();
    assert_eq!(raw.line().unwrap(), json!({ "id": 2, "result": { "payload_b64": "" } }));
    assert_eq!(raw.line(), None);
    operated.bench.finish();
}

#[test]
fn more_requests_than_may_be_open_wait_unread() {
    let (operated, waits) = exporting();
    operated.bench.master.start_worker("m").unwrap();
    let mut raw = operated.raw();
    for id in 0..70 {
        raw.ask(id, "call", &json!({ "worker": "m", "function": "wait" }));
    }
    for _ in 0..64 {
        waits.recv_timeout(PATIENCE).unwrap();
    }
    let other = operated.client();
    assert_eq!(other.status(&["m"]).unwrap()[0].state, WorkerState::Running);
    assert!(waits.try_recv().is_err(), "more than 64 are open");
    operated.bench.master.stop_worker("m").unwrap();
    let mut ids: Vec<_> = (0..70).map(|_| raw.line().unwrap()["id"].as_u64().unwrap()).collect();
    ids.sort_unstable();
    assert_eq!(ids, (0..70).collect::<Vec<_>>());
    operated.bench.finish();
}

#[test]
fn waits_are_forgotten_with_those_who_waited() {
    let operated = Operated::new();
    operated.bench.add(sleeper("nap"));
    for _ in 0..50 {
        let mut raw = operated.raw();
        for id in 0..60 {
            raw.ask(
                id,
                "wait",
                &json!({ "id": "nap", "for": "completed", "timeout_ms": 3_600_000 }),
            );
        }
        // It has read all of them when it answers this.
        raw.ask(60, "hello", &json!({}));
        assert_eq!(raw.line().unwrap()["id"], 60);
    }
    // Were they still served there would be no place for another.
    let client = operated.client();
    let error = client.wait_for("nap", WaitFor::Completed, ms(1)).unwrap_err();
    assert_eq!(error.category(), ErrorCategory::Timeout);
    operated.bench.finish();
}

#[test]
fn the_same_id_twice_is_two_requests_with_an_answer_each() {
    let operated = Operated::new();
    operated.bench.add(sleeper("nap"));
    let mut raw = operated.raw();
    raw.ask(7, "start", &json!({ "id": "nap" }));
    raw.ask(7, "start", &json!({ "id": "nap" }));
    for _ in 0..2 {
        let answer = raw.line().unwrap();
        assert_eq!((&answer["id"], &answer["result"]["incarnation"]), (&json!(7), &json!(1)));
    }
    operated.bench.finish();
}

#[test]
fn a_master_that_does_not_answer_is_told_from_none() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("s");
    let listener = UnixListener::bind(&path).unwrap();
    let error = Client::connect(&path).unwrap_err();
    assert!(error.is_timeout() && error.worker().is_none(), "{error}");
    drop(listener);
    assert!(Client::connect(&path).unwrap_err().is_unavailable());
    assert!(Client::connect(directory.path().join("none")).unwrap_err().is_unavailable());
}

#[test]
fn a_client_notices_a_master_that_stops_answering_while_it_waits() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("s");
    let listener = UnixListener::bind(&path).unwrap();
    std::thread::scope(|scope| {
        let serve = || {
            let mut raw = Raw::new(listener.accept().unwrap().0);
            assert_eq!(raw.line().unwrap()["method"], "hello");
            raw.send("{\"id\":1,\"result\":{\"protocol\":[1,7],\"later\":true}}\n");
            raw
        };
        let server = scope.spawn(serve);
        let client = Client::connect(&path).unwrap().timeout(ms(50));
        let mut held = server.join().unwrap();
        let error = client.start("a", CommandOptions::new()).unwrap_err();
        assert!(error.is_timeout() && error.worker().is_none(), "{error}");
        assert_eq!(held.line().unwrap()["method"], "start");
        assert_eq!(held.line().unwrap()["method"], "hello");
    });
}

#[test]
fn a_shell_without_tools_of_ours_can_operate_a_master() {
    let operated = Operated::new();
    operated.bench.add(shell("one", "exit 0"));
    let mut raw = operated.raw();
    raw.send("\n  \n{\"id\":1,\"method\":\"status\",\"params\":null,\"more\":{\"x\":1}}\r\n");
    let answer = raw.line().unwrap();
    assert_eq!(answer["result"]["workers"][0]["id"], "one");
    operated.bench.finish();
}
