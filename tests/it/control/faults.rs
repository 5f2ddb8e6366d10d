//! What a master and its clients must stand: another version, a flood, shutdowns without end.

use std::io::{BufRead as _, BufReader, Write as _};
use std::os::unix::net::UnixListener;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use hsu_master::control::Client;
use hsu_master::{ErrorCategory, EventKind, StopConfig};
use serde_json::json;

use super::{Operated, Raw, shell, sleeper};
use crate::support::{PATIENCE, quick};

/// What masters of other versions answer to `hello`.
const OF_MAJOR_2: &str = concat!(
    r#"{"id":1,"result":{"protocol":[2,0],"version":"2.0.0","pid":4711,"name":"newer","#,
    r#""features":["streams"]}}"#,
    "\n"
);
const OF_MINOR_9: &str = concat!(
    r#"{"id":1,"result":{"protocol":[1,9],"version":"1.9.0","pid":4711,"name":"newer","#,
    r#""features":["streams"]}}"#,
    "\n"
);

#[test]
fn p18_a_client_refuses_a_master_of_another_major_version_and_says_which() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("s");
    let listener = UnixListener::bind(&path).unwrap();
    let connect = |hello: &str| {
        std::thread::scope(|scope| {
            let serve = || {
                let mut raw = Raw::new(listener.accept().unwrap().0);
                assert_eq!(raw.line().unwrap()["method"], "hello");
                raw.send(hello);
                // Nothing is asked of whom one does not understand.
                raw.line()
            };
            let server = scope.spawn(serve);
            let connected = Client::connect(&path).map(|client| client.hello().clone());
            assert_eq!(server.join().unwrap(), None);
            connected
        })
    };
    let error = connect(OF_MAJOR_2).unwrap_err();
    assert_eq!(error.category(), ErrorCategory::Configuration);
    for part in ["version 2.0.0", "speaks version 2.0", "this program version 1"] {
        assert!(error.to_string().contains(part), "{error}");
    }
    // A later minor version only adds what need not be understood.
    let hello = connect(OF_MINOR_9).unwrap();
    assert_eq!((hello.protocol, hello.name.as_str(), hello.pid), ([1, 9], "newer", 4711));
}

#[test]
fn p20_a_flood_holds_up_neither_the_end_of_a_worker_nor_the_timer_of_its_restart() {
    const LEAST: u64 = 10_000;
    let operated = Operated::new();
    operated.bench.add(sleeper("nap"));
    let limitless = quick().max_retries(0).max_delay(crate::support::ms(5));
    operated.bench.add(shell("crashing", "exit 1").restart(limitless));
    operated.bench.master.start_worker("nap").unwrap();
    let raw = operated.raw();
    let (answered, enough) = (AtomicU64::new(0), AtomicBool::new(false));
    std::thread::scope(|scope| {
        let (answered, enough) = (&answered, &enough);
        let mut sending = raw.socket.try_clone().unwrap();
        scope.spawn(move || {
            // Every tenth goes to the loop, which waits for those of the moment and no more.
            for id in 0_u64.. {
                let line = if id.is_multiple_of(10) {
                    format!("{{\"id\":{id},\"method\":\"start\",\"params\":{{\"id\":\"nap\"}}}}\n")
                } else {
                    format!("{{\"id\":{id},\"method\":\"hello\"}}\n")
                };
                sending.write_all(line.as_bytes()).unwrap();
                if enough.load(Ordering::Relaxed) {
                    break;
                }
            }
            sending.shutdown(std::net::Shutdown::Write).unwrap();
        });
        let reading = scope.spawn(move || {
            for line in BufReader::new(&raw.socket).lines() {
                assert!(line.unwrap().contains("result"));
                answered.fetch_add(1, Ordering::Relaxed);
            }
        });
        crate::support::until(|| answered.load(Ordering::Relaxed) > 1000);
        let _begun = operated.bench.master.start_worker_nowait("crashing");
        // Ends that are heard, and restarts that are due, while the flood goes on and on.
        let ends = (0..).map(|_| operated.bench.next_event("crashing")).filter_map(|event| {
            let (incarnation, kind) = event;
            matches!(kind, EventKind::Gone { .. }).then_some(incarnation)
        });
        let ends: Vec<u64> = ends.take(10).collect();
        assert_eq!(ends, (1..=10).collect::<Vec<_>>());
        assert!(!reading.is_finished(), "there was no flood any more");
        crate::support::until(|| answered.load(Ordering::Relaxed) >= LEAST);
        enough.store(true, Ordering::Relaxed);
    });
    // Nobody has heard all that was told meanwhile.
    operated.bench.master.shutdown().unwrap();
}

#[test]
fn shutdowns_whose_clients_are_gone_are_counted() {
    let operated = Operated::new();
    let deaf = shell("deaf", "trap '' TERM; echo up; while :; do sleep 1; done");
    operated.bench.add(deaf.stop(StopConfig::default().timeout(PATIENCE * 100)));
    operated.bench.master.start_worker("deaf").unwrap();
    assert_eq!(operated.bench.line().text, "up");
    let ask = |raw: &mut Raw, count: u64| {
        for id in 0..count {
            raw.ask(id, "shutdown", &json!({}));
        }
        assert_eq!(raw.answer(count, "hello", &json!({}))["id"], count);
    };
    // Nobody is refused before what was asked last is answered.
    for _ in 0..17 {
        ask(&mut operated.raw(), 60);
    }
    let mut last = operated.raw();
    (0..5).for_each(|id| last.ask(id, "shutdown", &json!({})));
    let answer = last.line().unwrap();
    assert_eq!(answer["error"]["category"], "refused", "{answer}");
    let message = answer["error"]["message"].as_str().unwrap();
    assert!(message.starts_with("busy: 1024 shutdowns"), "{answer}");
    // One that is forced gets past them.
    operated.bench.master.shutdown_nowait(true).wait().unwrap();
    operated.bench.finish();
}
