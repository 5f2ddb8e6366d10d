//! Masters that answer strangely, or not at all: what the command line makes of it.

use std::fs;
use std::io::Read;
use std::os::unix::net::UnixListener;
use std::process::Stdio;

use serde_json::{Value, json};

use crate::support::{Place, Ran, error, pretend, worker, workers};

#[test]
fn without_a_master_the_code_is_three_and_the_way_is_shown() {
    let place = Place::new();
    let ran = place.run("status").expect(3);
    let tried = place.state().join("control.sock");
    assert!(ran.err.contains(tried.to_str().unwrap()), "{ran:?}");
    assert!(ran.err.contains("start one with `hsu-master run`"), "{ran:?}");
    for line in ["start a", "shutdown", "wait a --for running", "logs", "events", "call a f"] {
        place.run(&format!("{line} --socket nothing.sock")).expect(3);
    }
}

#[test]
fn a_socket_left_by_a_dead_master_is_no_master() {
    let place = Place::new();
    drop(UnixListener::bind(place.path().join("dead.sock")).unwrap());
    let ran = place.run("status --socket dead.sock").expect(3);
    assert!(ran.err.contains("dead.sock"), "{ran:?}");
}

#[test]
fn a_master_that_holds_its_directory_and_has_no_socket_yet_is_starting() {
    let place = Place::new();
    fs::create_dir(place.state()).unwrap();
    let lock = fs::File::create(place.state().join("lock")).unwrap();
    let pid = std::process::id();
    fs::write(place.state().join("lock"), format!("mine, pid {pid}, since just now\n")).unwrap();
    let ran = place.run("status").expect(3);
    assert!(ran.err.contains("start one with `hsu-master run`"), "it held it once: {ran:?}");
    lock.lock().unwrap();
    let ran = place.run("status").expect(3);
    let told = format!("held by mine, pid {pid}, since just now, which is starting");
    assert!(ran.err.contains(&told) && !ran.err.contains("start one"), "{ran:?}");
}

#[test]
fn a_master_that_takes_no_notice_is_told_apart_from_none() {
    let place = Place::new();
    // Connections are made, since there is room for them to wait; nobody takes them.
    let _listener = UnixListener::bind(place.path().join("deaf.sock")).unwrap();
    let ran = place.run("status --socket deaf.sock").expect(1);
    assert!(ran.err.contains("does not answer"), "{ran:?}");
}

#[test]
fn what_goes_wrong_there_has_its_exit_code_here() {
    let place = Place::new();
    let socket = pretend(&place, |method, params| match (method, params["id"].as_str()) {
        ("describe", Some("gone")) => None,
        ("describe", Some("broken")) => error("internal", "the loop died"),
        ("describe", Some("strange")) => error("word_of_tomorrow", "it is strange"),
        ("describe", _) => error("unknown_worker", "there is no such worker; did you mean web?"),
        _ => error("timeout", "it took too long"),
    });
    let run = |line: &str| place.run(&format!("{line} --socket {}", socket.display()));
    assert!(run("describe wbe").expect(4).err.contains("did you mean web?"));
    run("explain gone").expect(3);
    run("describe broken").expect(70);
    assert!(run("describe strange").expect(1).err.contains("it is strange"));
    assert!(run("wait a --for running").expect(1).err.contains("it took too long"));
    run("status").expect(1);
}

#[test]
fn each_result_is_told_on_its_own_and_the_worst_is_the_code() {
    let place = Place::new();
    let socket = pretend(&place, |method, params| match (method, params["id"].as_str()) {
        ("start", Some("a")) => {
            let ended = json!({ "id": "a", "incarnation": 7, "state": "running" });
            Some(vec![json!({ "result": ended })])
        }
        ("start", Some("b")) => error("crash", "exit 3\u{1b}[2J"),
        ("start", _) => error("unknown_worker", "there is no such worker"),
        _ => error("unknown_worker", "nothing is known of it"),
    });
    let run = |line: &str| place.run(&format!("{line} --socket {}", socket.display()));
    assert_eq!(run("start a").expect(0).out, "a: running, incarnation 7\n");
    let ran = run("start a b").expect(1);
    assert_eq!(ran.out, "a: running, incarnation 7\n");
    assert!(ran.err.contains("exit 3\\u{1b}[2J"), "{ran:?}");
    let ran = run("start c b a").expect(4);
    assert_eq!(ran.out, "a: running, incarnation 7\n");
    let json = run("start b a --json").expect(1).json();
    assert_eq!(json[0]["error"]["category"], "crash");
    assert_eq!(json[1]["incarnation"], 7, "{json}");
}

#[test]
fn a_reader_that_goes_away_is_no_failure() {
    let place = Place::new();
    let many: Vec<_> = (0..500).map(|n| worker(json!({ "id": format!("w{n}") }))).collect();
    let socket = pretend(&place, move |method, _| match method {
        "status" => workers(&many),
        "events" => Some(vec![json!({ "event": { "event": "removed" } }); 20_000]),
        _ => Some(vec![json!({ "event": { "worker": "a", "text": "xxx\n".repeat(50) } }); 20_000]),
    });
    for line in ["status", "status --json", "status --watch", "events", "events --json", "logs"] {
        let mut command = place.command(&format!("{line} --socket {}", socket.display()));
        let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        let mut first = [0];
        child.stdout.take().unwrap().read_exact(&mut first).unwrap();
        let ran = Ran::of(child.wait_with_output().unwrap());
        assert_eq!((ran.code, ran.err.as_str()), (Some(0), ""), "{line}");
    }
}

#[test]
fn lines_of_logs_are_as_they_were_written_when_they_go_to_a_pipe() {
    let place = Place::new();
    let socket = pretend(&place, |_, params| {
        let mut lines = vec![
            json!({ "event": { "worker": "a", "text": "\u{1b}[31mred\n" } }),
            json!({ "event": { "worker": "a", "text_b64": "/wAK" } }),
            json!({ "event": { "worker": "a", "text": "(7 are missing)\n", "notice": true } }),
            json!({ "result": null }),
        ];
        if params["stdout"] == false {
            lines.remove(0);
        }
        Some(lines)
    });
    let run = |line: &str| place.command(&format!("{line} --socket {}", socket.display()));
    let output = run("logs a").output().unwrap();
    assert_eq!(output.stdout, b"\x1b[31mred\n\xff\0\n");
    assert_eq!(output.stderr, b"a: (7 are missing)\n");
    let output = run("logs a b").output().unwrap();
    assert_eq!(output.stdout, b"a | \x1b[31mred\na | \xff\0\n");
    assert_eq!(run("logs a --stderr").output().unwrap().stdout, b"\xff\0\n");
    // For programs each is an object, and nothing is lost.
    let output = run("logs a --json").output().unwrap();
    let told = String::from_utf8(output.stdout).unwrap();
    let told: Vec<Value> = told.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(
        told,
        [
            json!({ "worker": "a", "line": "\u{1b}[31mred", "notice": false }),
            json!({ "worker": "a", "line_b64": "/wA=", "notice": false }),
            json!({ "worker": "a", "line": "(7 are missing)", "notice": true }),
        ]
    );
    assert!(output.stderr.is_empty());
}

#[test]
fn the_reply_of_a_call_is_an_object_for_programs() {
    let place = Place::new();
    let socket = pretend(&place, |_, params| {
        let reply = if params["function"] == "text" { "aGkK" } else { "/wA=" };
        Some(vec![json!({ "result": { "payload_b64": reply } })])
    });
    for (function, told) in
        [("text", "{\"payload\":\"hi\\n\"}\n"), ("bytes", "{\"payload_b64\":\"/wA=\"}\n")]
    {
        let line = format!("call a {function} --json --socket {}", socket.display());
        let output = place.command(&line).output().unwrap();
        assert_eq!(String::from_utf8(output.stdout).unwrap(), told);
    }
}

#[test]
fn the_table_is_the_same_in_every_pipe() {
    let place = Place::new();
    let socket = pretend(&place, |_, _| {
        workers(&[
            worker(json!({ "last_error": null })),
            worker(json!({ "id": "very-long-name-of-a-worker-that-needs-room", "pid": null })),
        ])
    });
    let expected = "\
ID                                          TYPE     STATE    HEALTH   PID  UPTIME  RESTARTS
web                                         process  running  -       4711      3s         2
very-long-name-of-a-worker-that-needs-room  process  running  -          -      3s         2
";
    let line = format!("status --socket {}", socket.display());
    assert_eq!(place.run(&line).expect(0).out, expected);
    let narrow = place.command(&line).env("COLUMNS", "20").env("TERM", "xterm").output().unwrap();
    assert_eq!(Ran::of(narrow).out, expected);
}

#[test]
fn what_the_master_knows_of_modules_is_listed_too() {
    let place = Place::new();
    let socket = pretend(&place, |method, _| {
        assert_eq!(method, "modules");
        let info = json!({ "name": "resize", "version": "1.2", "description": "", "author": "",
            "endpoints": [] });
        let module = json!({ "name": "/opt/libresize.so", "type": "plugin", "info": info });
        Some(vec![json!({ "result": [module] })])
    });
    let line = format!("modules --socket {}", socket.display());
    assert_eq!(place.run(&line).expect(0).out, "/opt/libresize.so  plugin  resize 1.2\n");
    let json = place.run(&format!("{line} --json")).expect(0).json();
    assert_eq!(json[0]["version"], "1.2", "{json}");
    place.run("modules").expect(0);
    place.run("modules --socket nothing.sock").expect(3);
}
