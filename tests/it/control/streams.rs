//! Events and lines of logs, over the socket.

use std::collections::BTreeSet;
use std::os::unix::net::UnixListener;

use hsu_master::control::{Client, LogEntry, LogQuery};
use serde_json::{Value, json};

use super::{Operated, Raw, shell, sleeper};
use crate::support::{PATIENCE, until};

/// A question about logs.
fn asked(ids: &[&str], lines: usize, follow: bool) -> LogQuery {
    let mut query = LogQuery::new();
    query.ids = ids.iter().map(|id| (*id).to_owned()).collect();
    (query.lines, query.follow) = (lines, follow);
    query
}

/// What a worker itself wrote, without the time.
fn written(entry: LogEntry) -> Option<String> {
    let line = String::from_utf8_lossy(&entry.line).into_owned();
    let (_, rest) = line.split_once(' ')?;
    let (tag, text) = rest.split_once(' ')?;
    (tag != "-" && !entry.notice).then(|| format!("{} {tag} {text}", entry.worker))
}

#[test]
fn lines_of_logs_are_read_and_followed() {
    let operated = Operated::new();
    let script = format!(
        "for n in 1 2 3; do echo line $n; done; printf 'odd \\377\\n'; echo err >&2; \
         while read x < {}; do echo got $x; done",
        operated.bench.gate().display()
    );
    operated.bench.add(shell("talker", &script));
    operated.bench.master.start_worker("talker").unwrap();
    let client = operated.client();
    let mut lines = client.logs(asked(&["talker"], 100, true)).unwrap();
    let mut heard = |count: usize| -> BTreeSet<String> {
        lines.by_ref().filter_map(|line| written(line.unwrap())).take(count).collect()
    };
    let first = ["o line 1", "o line 2", "o line 3", "o odd \u{fffd}", "e err"];
    assert_eq!(heard(5), first.map(|line| format!("talker {line}")).into());
    operated.bench.let_go(1);
    assert_eq!(heard(1), ["talker o got go".to_owned()].into());

    // Without following it ends; with a stream it is that one alone.
    let mut query = asked(&[], 100, false);
    query.stdout = false;
    let all: Vec<_> = client.logs(query).unwrap().map(Result::unwrap).collect();
    let odd = |entry: &LogEntry| !entry.line.ends_with(b"e err");
    assert_eq!(all.iter().filter(|entry| !odd(entry)).count(), 1);
    assert!(all.iter().all(|entry| !entry.line.windows(7).any(|text| text == b"line 1\n")));
    let error = client.logs(asked(&["talked"], 1, true)).unwrap().next().unwrap().unwrap_err();
    assert!(error.is_not_found() && error.worker() == Some("talked"), "{error}");

    // Who follows hears the end.
    operated.bench.master.shutdown().unwrap();
    assert!(lines.all(|line| line.is_ok()));
    operated.bench.finish();
}

#[test]
fn who_goes_away_while_following_leaves_nothing_behind() {
    let operated = Operated::new();
    operated.bench.add(shell("quiet", "exec sleep 3600"));
    operated.bench.master.start_worker("quiet").unwrap();
    let client = operated.client();
    let threads = || {
        let tasks = std::fs::read_dir("/proc/self/task").unwrap();
        let names = tasks
            .filter_map(|task| std::fs::read_to_string(task.unwrap().path().join("comm")).ok());
        // Those of other tests' masters are not ours, but they come to an end too.
        names.filter(|name| name.trim() == "control-logs").count()
    };
    let streams: Vec<_> =
        (0..20).map(|_| client.logs(asked(&["quiet"], 1, true)).unwrap()).collect();
    until(|| threads() >= 20);
    drop(streams);
    until(|| threads() < 20);
    assert_eq!(client.status(&[]).unwrap().len(), 1);
    operated.bench.finish();
}

#[test]
fn a_stream_waits_for_who_reads_a_page_of_it() {
    let operated = Operated::new();
    operated.bench.add(shell("talker", "seq -w 1 50000; exec sleep 3600"));
    operated.bench.master.start_worker("talker").unwrap();
    let mut raw = operated.raw();
    let asked = json!({ "ids": ["talker"], "lines": 100_000, "follow": true });
    raw.ask(1, "logs", &asked);
    // The master's own patience with half a line is our clock: it is over twice.
    for _ in 0..2 {
        let mut half = operated.raw();
        half.send(b"{");
        assert_eq!(half.line().unwrap()["error"]["category"], "timeout");
    }
    let mut text = String::new();
    while !text.contains(" o 50000\n") {
        let line = raw.line().expect("it was dropped");
        text.push_str(line["event"]["text"].as_str().unwrap_or_default());
    }
    assert_eq!(text.matches(" o ").count(), 50_000);
    operated.bench.finish();
}

#[test]
fn a_stream_that_breaks_off_is_told_from_no_master() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("s");
    let listener = UnixListener::bind(&path).unwrap();
    let hello = "{\"id\":1,\"result\":{\"protocol\":[1,0]}}\n";
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let accept = || Raw::new(listener.accept().unwrap().0);
            let mut first = accept();
            first.line().unwrap();
            first.send(hello);
            for said in ["", "{\"id\":1,\"event\":{\"event\":\"removed\"}}\n"] {
                let mut stream = accept();
                stream.line().unwrap();
                stream.send(said);
            }
        });
        let client = Client::connect(&path).unwrap();
        let error = client.events(true).unwrap().next().unwrap().unwrap_err();
        assert!(error.is_unavailable(), "{error}");
        let mut events = client.events(true).unwrap();
        assert_eq!(events.next().unwrap().unwrap()["event"], "removed");
        let error = events.next().unwrap().unwrap_err();
        assert!(error.to_string().starts_with("dropped: "), "{error}");
        assert!(!error.is_unavailable() && events.next().is_none());
    });
}

#[test]
fn the_past_comes_first_and_nothing_is_missed_or_told_twice() {
    let operated = Operated::new();
    operated.bench.add(sleeper("nap"));
    let client = operated.client();
    for _ in 0..3 {
        operated.bench.master.restart_worker("nap", true).unwrap();
    }
    let of_nap = |event: &Value| event["worker"] == "nap" && event["event"] == "state";
    let past: Vec<_> = client.events(false).unwrap().map(Result::unwrap).collect();
    assert_eq!(past.iter().filter(|event| of_nap(event)).count(), 4 + 2 * 4);
    // While somebody begins to listen, more happens.
    std::thread::scope(|scope| {
        let restarts = scope.spawn(|| {
            for _ in 0..12 {
                operated.bench.master.restart_worker("nap", true).unwrap();
            }
        });
        let mut streams: Vec<_> = (0..10).map(|_| client.events(true).unwrap()).collect();
        restarts.join().unwrap();
        operated.bench.master.stop_worker("nap").unwrap();
        for stream in &mut streams {
            let mut state = json!("uninitialized");
            let mut edges = 0;
            loop {
                let event = stream.next_within(PATIENCE).unwrap().unwrap();
                if !of_nap(&event) {
                    continue;
                }
                assert_eq!(event["from"], state, "{event}");
                state = event["to"].clone();
                edges += 1;
                if event["cause"] == "ended" && state == "stopped" && event["incarnation"] == 15 {
                    break;
                }
            }
            assert_eq!(edges, 4 + 14 * 4 + 2);
        }
    });
    operated.bench.finish();
}
