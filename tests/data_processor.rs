//! The example's service: what it answers, what it refuses, and that no client can hold up its end.
#![expect(clippy::unwrap_used, reason = "a helper's failure is the test's")]

#[path = "data_processor/operating.rs"]
mod operating;
#[path = "../examples/data_processor/service.rs"]
mod service;
mod support;
#[path = "data_processor/switching.rs"]
mod switching;

use std::fs;
use std::io::{Read, Write};
use std::net::TcpListener;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use hsu_master::crossbeam_channel;
use hsu_master::{ErrorCategory, EventKind, Exit, Master, WorkerConfig, WorkerState};
use serde_json::{Value, json};

use service::DataProcessor;
use support::{LONG, Program, answer, connect, path, raw, request, signal};

const MIB: usize = 1 << 20;

/// The service as a thread of a master, at a free port.
fn start(mut config: Value) -> (Master, String) {
    config["port"] = ":0".into();
    let master = with_config(config);
    master.start_worker("dp").unwrap();
    let address = master.endpoint("dp", "api").unwrap().info.address;
    (master, address)
}

fn with_config(config: Value) -> Master {
    let master = Master::builder().module("data-processor", DataProcessor::default);
    let master = master.build().unwrap();
    master.add_worker(WorkerConfig::native("dp", "data-processor").config(config)).unwrap();
    master
}

#[test]
fn each_path_answers_to_its_method() {
    let (_master, address) = start(json!({ "mode": "test", "batch_size": 2 }));
    for (method, path, body, status, answer) in [
        ("GET", "/health", "", 200, "ok\n"),
        ("POST", "/process", "straße, ĳ!", 200, "STRASSE, Ĳ!"),
        ("POST", "/process?trace=1", "", 200, ""),
        ("POST", "/health", "", 405, "use GET\n"),
        ("GET", "/process", "", 405, "use POST\n"),
        ("HEAD", "/crash", "", 405, "use POST\n"),
        ("GET", "/", "", 404, "try /health, /process, /stats or /crash\n"),
    ] {
        let answered = request(&address, method, path, body);
        assert_eq!((answered.status(), answered.body.as_str()), (status, answer), "{answered:?}");
        assert!(answered.head.contains("\r\nConnection: close"), "{answered:?}");
    }
    assert!(request(&address, "PUT", "/stats", "").head.contains("\r\nAllow: GET\r\n"));
    let expected = json!({
        "worker": "dp", "pid": std::process::id(), "processed": 2, "batch_size": 2, "mode": "test"
    });
    assert_eq!(request(&address, "GET", "/stats", "").json(), expected);
}

#[test]
fn what_is_no_request_is_refused() {
    let (_master, address) = start(json!({}));
    let long = format!("GET / HTTP/1.1\r\nHost: x\r\nX: {}\r\n\r\n", "x".repeat(8 << 10));
    for (status, request) in [
        (400, "GET /health\r\n\r\n"),
        (400, "GET  /health HTTP/1.1\r\n\r\n"),
        (400, "GET health HTTP/1.1\r\nHost: x\r\n\r\n"),
        (400, "GET /health HTTP/2.0\r\nHost: x\r\n\r\n"),
        (400, "GET /health HTTP/1.1\r\n\r\n"),
        (400, "GET /health HTTP/1.1\r\nHost: x\r\nHost: y\r\n\r\n"),
        (400, "GET /health HTTP/1.1\r\nHost: x\r\nnonsense\r\n\r\n"),
        (400, "GET /health HTTP/1.1\r\nHost: x\r\n folded: x\r\n\r\n"),
        (400, "POST /process HTTP/1.1\r\nHost: x\r\nContent-Length: +1\r\n\r\na"),
        (400, "POST /process HTTP/1.1\r\nHost: x\r\nContent-Length:\r\n\r\n"),
        (
            400,
            "POST /process HTTP/1.1\r\nHost: x\r\nContent-Length: 1\r\nContent-length: 2\r\n\r\na",
        ),
        (411, "POST /process HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n"),
        (431, &long),
        (200, "GET /health HTTP/1.0\r\n\r\n"),
        (200, "GET /health HTTP/1.1\nhOST: x\n\n"),
    ] {
        assert_eq!(raw(&address, request.as_bytes()).status(), status, "{request:?}");
    }
    let head = b"POST /process HTTP/1.0\r\nContent-Length: 1\r\n\r\n".to_vec();
    assert_eq!(raw(&address, &[&head[..], b"\xff"].concat()).status(), 400);
    assert_eq!(raw(&address, b"GET /\xff HTTP/1.0\r\n\r\n").status(), 400);
    assert_eq!(request(&address, "GET", "/stats", "").json()["processed"], 0);
}

#[test]
fn a_body_that_is_too_large_is_refused_whether_it_is_sent_or_not() {
    let (_master, address) = start(json!({}));
    let largest = request(&address, "POST", "/process", &"x".repeat(MIB));
    assert_eq!((largest.status(), largest.body), (200, "X".repeat(MIB)));
    for length in ["1048577", "99999999999999999999999"] {
        let head = format!("POST /process HTTP/1.1\r\nHost: x\r\nContent-Length: {length}\r\n\r\n");
        assert_eq!(raw(&address, head.as_bytes()).status(), 413);
    }
    assert_eq!(request(&address, "POST", "/process", &"x".repeat(4 * MIB)).status(), 413);
}

#[test]
fn who_asks_before_sending_is_told_to_go_on() {
    let (_master, address) = start(json!({}));
    let mut client = connect(&address);
    let head =
        "POST /process HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\nExpect: 100-continue\r\n\r\n";
    client.write_all(head.as_bytes()).unwrap();
    let mut go_on = [0; 25];
    client.read_exact(&mut go_on).unwrap();
    assert_eq!(&go_on, b"HTTP/1.1 100 Continue\r\n\r\n");
    client.write_all(b"ok").unwrap();
    assert_eq!(answer(client).body, "OK");
}

#[test]
fn a_slow_client_is_told_that_its_time_is_over() {
    let (_master, address) = start(json!({ "timeout": "50ms" }));
    for part in ["", "GET /hea", "POST /process HTTP/1.0\r\nContent-Length: 9\r\n\r\nabc"] {
        assert_eq!(raw(&address, part.as_bytes()).status(), 408, "{part:?}");
    }
    assert_eq!(request(&address, "GET", "/health", "").status(), 200);
}

#[test]
fn a_stop_does_not_wait_for_clients() {
    let (master, address) = start(json!({ "timeout": "1h" }));
    let mut client = connect(&address);
    let head =
        "POST /process HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\nExpect: 100-continue\r\n\r\n";
    client.write_all(head.as_bytes()).unwrap();
    // The answer shows that a thread of the service now waits for the body.
    client.read_exact(&mut [0; 25]).unwrap();
    // Were the client waited for, the stop would fail as stuck.
    master.stop_worker("dp").unwrap();
    assert_eq!(master.worker_diagnostics("dp").unwrap().exit, Some(Exit::Returned));
    assert_eq!(client.read(&mut [0]).unwrap(), 0);
}

#[test]
fn a_crash_is_answered_first_and_the_next_life_starts_afresh() {
    let (master, address) = start(json!({}));
    let events = master.subscribe();
    request(&address, "POST", "/process", "x");
    let answered = request(&address, "POST", "/crash", "");
    assert_eq!((answered.status(), answered.body.as_str()), (202, "crashing\n"));
    let runs_again =
        |kind: &EventKind| matches!(kind, EventKind::State { to: WorkerState::Running, .. });
    while !runs_again(&events.recv_timeout(LONG).unwrap().kind) {}
    let worker = master.worker_diagnostics("dp").unwrap();
    assert_eq!(worker.incarnation, 2);
    let error = worker.last_error.unwrap();
    assert_eq!(error.category, ErrorCategory::Panic);
    assert!(error.message.contains("asked to crash"), "{}", error.message);
    let address = master.endpoint("dp", "api").unwrap().info.address;
    assert_eq!(request(&address, "GET", "/stats", "").json()["processed"], 0);
}

#[test]
fn a_wrong_configuration_is_not_tried_twice() {
    for (config, part) in [
        (json!({ "prot": ":0" }), "unknown field `prot`"),
        (json!({ "port": "here" }), "config.port: "),
        (json!({ "batch_size": 0 }), "config.batch_size: "),
        (json!({ "timeout": 30 }), "config.timeout: 30 has no unit"),
        (json!({ "timeout": "0s" }), "config.timeout: must be more than 0s"),
    ] {
        let error = with_config(config).start_worker("dp").unwrap_err();
        assert!(error.permanent(), "{error}");
        assert!(error.to_string().contains(part), "{error}");
    }
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    let error = with_config(json!({ "port": address })).start_worker("dp").unwrap_err();
    assert_eq!(error.category(), ErrorCategory::Network);
    assert!(error.to_string().contains(&format!("cannot listen at {address}: ")), "{error}");
}

#[test]
fn its_functions_do_what_its_paths_do() {
    let (master, address) = start(json!({ "mode": "test" }));
    assert_eq!(master.call("dp", "process", "straße".as_bytes()).unwrap(), b"STRASSE");
    let refused = master.call("dp", "process", b"\xff").unwrap_err();
    assert_eq!(refused.category(), ErrorCategory::Refused);
    assert_eq!(refused.to_string(), "worker dp: the text is not UTF-8");
    request(&address, "POST", "/process", "x");
    let stats: Value = master.function("dp", "stats").call(&()).unwrap();
    assert_eq!(stats, request(&address, "GET", "/stats", "").json());
    assert_eq!(stats["processed"], 2);
}

/// The example's own program, with a file that says what it runs.
struct Own {
    program: Program,
    _directory: tempfile::TempDir,
}

impl Own {
    /// Begins with one worker, as a thread or as a process, at `address`.
    fn start(program: impl AsRef<Path>, kind: &str, address: &str, more: &str) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("workers.yaml");
        let text = format!(
            "workers:\n- id: dp\n  type: {kind}\n  module_name: data-processor\n  \
             config: {{ port: \"{address}\", batch_size: 7, mode: alone }}\n{more}"
        );
        fs::write(&file, text).unwrap();
        let arguments = ["run", "-c", file.to_str().unwrap()];
        let mut program = Program::at(program.as_ref(), &arguments, &[]);
        program.wait_for_lines(1, "dp | listening at http://");
        Self { program, _directory: directory }
    }

    fn stats(address: &str) -> Value {
        request(address, "GET", "/stats", "").json()
    }

    /// The process that answers at this address.
    fn pid(address: &str) -> u32 {
        Self::stats(address)["pid"].as_u64().unwrap().try_into().unwrap()
    }
}

fn free_address() -> String {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().to_string()
}

#[test]
fn its_own_program_tells_how_it_ended() {
    let address = free_address();
    for kind in ["module", "process"] {
        let mut own = Own::start(path("data_processor"), kind, &address, "");
        let stats = Own::stats(&address);
        assert_eq!(stats["pid"] == own.program.pid(), kind == "module", "{stats}");
        assert_eq!((&stats["batch_size"], &stats["mode"]), (&7.into(), &"alone".into()));

        assert_eq!(request(&address, "POST", "/crash", "").status(), 202);
        own.program.wait_for_lines(1, "asked to crash");
        own.program.wait_for_lines(2, "dp | listening at http://");
        let pid = Own::pid(&address);

        assert!(signal(own.program.pid(), "TERM"));
        let (code, output) = own.program.end();
        assert_eq!(code, Some(0), "{output}");
        assert!(kind == "module" || !signal(pid, "0"), "the process is left behind");
        TcpListener::bind(&address).unwrap();
    }
    let wrong = [&["run"][..], &["run", "-c"], &["run", "-c", "/nowhere.yaml"], &["fly"]];
    for arguments in wrong {
        let (code, output) = Program::start("data_processor", arguments, &[]).end();
        assert_eq!(code, Some(2), "{arguments:?}: {output}");
    }
}

/// FAULTS: the master is killed, and nothing of it is left a moment later.
#[test]
fn a_hosted_module_ends_with_a_master_that_is_killed() {
    let address = free_address();
    let own = Own::start(path("data_processor"), "process", &address, "");
    let pid = Own::pid(&address);
    assert_ne!(pid, own.program.pid());
    // It is to end by itself: nobody signals it.
    let killed = Instant::now();
    assert!(signal(own.program.pid(), "KILL"));
    let (code, _) = own.program.end();
    assert_eq!(code, None);
    until(|| !is_alive(pid));
    assert!(killed.elapsed() < LONG / 2, "it ended by itself, but late");
    TcpListener::bind(&address).unwrap();
}

#[test]
fn a_hosted_module_that_is_asked_by_a_signal_stops_in_order_and_starts_again() {
    let address = free_address();
    let more = "  restart: { retry_delay: 1ms }\n";
    let mut own = Own::start(path("data_processor"), "process", &address, more);
    let pid = Own::pid(&address);
    assert!(signal(pid, "TERM"));
    own.program.wait_for_lines(1, "dp | signal 15: the module is to end");
    own.program.wait_for_lines(1, "signal SIGTERM (15)");
    own.program.wait_for_lines(2, "dp | listening at http://");
    assert_ne!(Own::pid(&address), pid);
    assert!(signal(own.program.pid(), "TERM"));
    assert_eq!(own.program.end().0, Some(0));
}

#[test]
fn a_replaced_program_goes_on_with_the_image_it_began_with() {
    let directory = tempfile::tempdir().unwrap();
    let program = directory.path().join("data_processor");
    // By a process of its own: a descriptor of ours, open for writing, could leak into a child of
    // another test for a moment, in which the file would be busy.
    let copied = Command::new("cp").arg(path("data_processor")).arg(&program).status().unwrap();
    assert!(copied.success());
    let address = free_address();
    let mut own = Own::start(&program, "process", &address, "  restart: { retry_delay: 1ms }\n");
    let pid = Own::pid(&address);
    let image = fs::metadata(format!("/proc/{pid}/exe")).unwrap().ino();

    let other = directory.path().join("other");
    fs::write(&other, "no program at all").unwrap();
    fs::rename(&other, &program).unwrap();
    assert!(signal(pid, "KILL"));
    own.program.wait_for_lines(2, "dp | listening at http://");
    let renewed = Own::pid(&address);
    assert_ne!(renewed, pid);
    assert_eq!(fs::metadata(format!("/proc/{renewed}/exe")).unwrap().ino(), image);
    let name = fs::read_to_string(format!("/proc/{renewed}/cmdline")).unwrap();
    assert!(name.starts_with(program.to_str().unwrap()), "{name:?}");
    assert!(signal(own.program.pid(), "TERM"));
    assert_eq!(own.program.end().0, Some(0));
}

/// Waits until something is so that nobody tells: looks again whenever a moment has passed.
#[track_caller]
fn until(so: impl Fn() -> bool) {
    let (_silent, nothing) = crossbeam_channel::bounded::<()>(0);
    let end = Instant::now() + LONG;
    while !so() {
        assert!(Instant::now() < end, "it never came to that");
        let _ = nothing.recv_timeout(Duration::from_millis(1));
    }
}

/// False also for what has ended and waits to be reaped by others.
fn is_alive(pid: u32) -> bool {
    let status = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    status.rsplit(')').next().is_some_and(|rest| !rest.is_empty() && !rest.starts_with(" Z"))
}
