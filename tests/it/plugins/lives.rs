//! Sound plugins live as native modules do: states, health, endpoints, functions, log lines.

use std::sync::Mutex;

use hsu_master::{
    EndpointType, ErrorCategory, HealthCheckConfig, ModuleType, WaitFor, WorkerState, WorkerType,
    current_worker,
};
use serde_json::json;

use super::{Workshop, bench, example, worker};
use crate::alone;
use crate::support::{PATIENCE, ms, slow};

/// The edges of a first start.
const UP: [&str; 4] = ["initializing", "initialized", "starting", "running"];

#[test]
fn a_module_in_c_lives_as_any_other() {
    let Some(workshop) = Workshop::open() else { return };
    let library = workshop.compile("examples/c_module/upper.c", "libupper.so", &[]);
    let bench = bench();
    let check = HealthCheckConfig::every(ms(5)).timeout(PATIENCE);
    let config = worker("c", &library).config(json!({ "prefix": "> " })).health_check(check);
    bench.add(config);
    for life in 1..=2 {
        assert_eq!(bench.master.start_worker("c").unwrap(), life);
        bench.master.wait_for("c", WaitFor::Healthy, PATIENCE).unwrap();
        let endpoint = bench.master.endpoint("c", "upper").unwrap().info;
        assert_eq!(endpoint.endpoint_type, EndpointType::Function);
        assert_eq!(bench.master.call("c", "upper", b"straight, 7").unwrap(), b"> STRAIGHT, 7");
        let unknown = bench.master.call("c", "lower", b"").unwrap_err();
        assert_eq!(unknown.category(), ErrorCategory::UnknownFunction);
        assert!(unknown.to_string().contains("no function \"lower\""), "{unknown}");
        bench.master.stop_worker("c").unwrap();
        let known = bench.known("c");
        assert_eq!((known.state, known.warning), (WorkerState::Stopped, None));
    }
    let loaded = bench.master.modules();
    let path = std::fs::canonicalize(&library).unwrap().display().to_string();
    let own = loaded.iter().find(|module| module.name == path).unwrap();
    assert_eq!(own.module_type, ModuleType::Plugin);
    let about = (own.info.name.as_str(), own.info.version.as_str());
    assert_eq!(about, ("upper", "1.0.0"));
    bench.finish();
}

#[test]
fn a_config_that_a_c_module_rejects_is_not_retried() {
    let Some(workshop) = Workshop::open() else { return };
    let library = workshop.compile("examples/c_module/upper.c", "libupper.so", &[]);
    let bench = bench();
    for (id, config, said) in [
        ("long", json!({ "prefix": "x".repeat(64) }), "config.prefix: must be shorter than 64"),
        ("other", json!({ "suffix": "x" }), "config: expected nothing but a text called prefix"),
    ] {
        let error = super::start_error(&bench, worker(id, &library).config(config));
        assert_eq!((error.category(), error.permanent()), (ErrorCategory::Configuration, true));
        assert!(error.to_string().contains(said), "{error}");
    }
    bench.finish();
}

#[test]
fn a_module_in_rust_lives_as_any_other() {
    let bench = bench();
    let check = HealthCheckConfig::every(ms(5)).timeout(PATIENCE);
    bench.add(worker("r", &example("faulty_plugin")).health_check(check));
    assert_eq!(bench.master.start_worker("r").unwrap(), 1);
    bench.sees("r", &UP);
    bench.master.wait_for("r", WaitFor::Healthy, PATIENCE).unwrap();
    for (name, kind, address) in [
        ("api", EndpointType::Tcp, "127.0.0.1:7"),
        ("listed", EndpointType::Tcp, "127.0.0.1:8"),
        ("upper", EndpointType::Function, "upper"),
    ] {
        let found = bench.master.endpoint("r", name).unwrap().info;
        assert_eq!((found.endpoint_type, found.address.as_str()), (kind, address));
    }
    let call = |function: &str, payload: &[u8]| bench.master.call("r", function, payload);
    assert_eq!(call("upper", b"abc").unwrap(), b"ABC");
    assert_eq!(call("who", b"").unwrap(), b"r", "it runs as the worker, in the plugin too");
    for (function, category, said) in [
        ("fail", ErrorCategory::Crash, "error in a function"),
        ("refuse", ErrorCategory::Refused, "not today"),
        ("panic", ErrorCategory::Panic, "panicked in function \"panic\": boom in a function at "),
        ("uper", ErrorCategory::UnknownFunction, "no function \"uper\"; did you mean \"upper\"?"),
    ] {
        let error = call(function, b"").unwrap_err();
        assert_eq!(error.category(), category, "{error}");
        assert!(error.to_string().contains(said), "{error}");
    }
    let most = vec![b'x'; 256 << 10];
    assert_eq!(call("large", &most).unwrap().len(), 512 << 10);
    let error = call("large", &vec![b'x'; (256 << 10) + 1]).unwrap_err();
    assert!(error.to_string().contains("at most 524288"), "{error}");
    bench.master.stop_worker("r").unwrap();
    assert_eq!(call("upper", b"").unwrap_err().category(), ErrorCategory::NotRunning);
    assert_eq!(bench.known("r").warning, None);
    assert_eq!(bench.master.start_worker("r").unwrap(), 2);
    bench.finish();
}

#[test]
fn the_data_processor_serves_as_a_plugin() {
    let bench = bench();
    let config = json!({ "port": ":0", "mode": "plugin" });
    bench.add(worker("dp", &example("data_processor_plugin")).config(config));
    bench.master.start_worker("dp").unwrap();
    let address = bench.master.endpoint("dp", "api").unwrap().info.address;
    let mut stream = std::net::TcpStream::connect(address).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    use std::io::{Read as _, Write as _};
    stream.write_all(b"POST /process HTTP/1.1\r\nHost: x\r\nContent-Length: 3\r\n\r\nabc").unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    assert!(answer.starts_with("HTTP/1.1 200 OK") && answer.ends_with("ABC"), "{answer}");
    let bad = worker("bad", &example("data_processor_plugin")).config(json!({ "port": 70000 }));
    let error = super::start_error(&bench, bad);
    assert_eq!(error.category(), ErrorCategory::Configuration);
    assert!(error.to_string().contains("worker bad: config.port: "), "{error}");
    bench.finish();
}

#[test]
fn two_instances_of_one_library_are_two_workers() {
    let bench = bench();
    for id in ["one", "two"] {
        bench.add(worker(id, &example("faulty_plugin")));
        bench.master.start_worker(id).unwrap();
    }
    for id in ["one", "two"] {
        assert_eq!(bench.master.call(id, "who", b"").unwrap(), id.as_bytes());
    }
    bench.master.stop_worker("one").unwrap();
    assert_eq!(bench.master.call("two", "who", b"").unwrap(), b"two");
    bench.finish();
}

#[test]
fn a_plugin_in_a_process_of_its_own_is_the_same_worker() {
    let bench = bench();
    let check = || HealthCheckConfig::every(ms(5)).timeout(PATIENCE);
    let config = worker("r", &example("faulty_plugin")).health_check(check());
    bench.add(config.worker_type(WorkerType::Process));
    bench.master.start_worker("r").unwrap();
    bench.sees("r", &UP);
    bench.master.wait_for("r", WaitFor::Healthy, PATIENCE).unwrap();
    assert!(bench.known("r").pid.is_some_and(|pid| pid != std::process::id()));
    assert_eq!(bench.master.endpoint("r", "listed").unwrap().info.address, "127.0.0.1:8");
    bench.master.stop_worker("r").unwrap();
    let known = bench.known("r");
    assert_eq!((known.state, known.warning), (WorkerState::Stopped, None));

    let broken = worker("p", &example("faulty_plugin")).config(json!({ "start": "panic" }));
    let error = super::start_error(&bench, broken.worker_type(WorkerType::Process));
    assert_eq!(error.category(), ErrorCategory::Panic);
    let said = "panicked in start: boom in start at tests/plugins/faulty.rs:";
    assert!(error.to_string().contains(said), "{error}");

    let Some(workshop) = Workshop::open() else { return };
    let library = workshop.compile("examples/c_module/upper.c", "libupper.so", &[]);
    bench.add(worker("c", &library).health_check(check()).worker_type(WorkerType::Process));
    bench.master.start_worker("c").unwrap();
    bench.master.wait_for("c", WaitFor::Healthy, PATIENCE).unwrap();
    bench.master.endpoint("c", "upper").unwrap();
    // A child shows a file as it is now.
    std::fs::rename(workshop.compile("examples/c_module/upper.c", "v2.so", &[]), &library).unwrap();
    assert_eq!(bench.master.restart_worker("c", false).unwrap(), 2);
    // What kills whoever loads it kills the child alone.
    let deadly = workshop.variant("deadly.so", &["-DCONSTRUCTOR=abort()"]);
    let deadly = worker("d", &deadly).worker_type(WorkerType::Process).restart(slow());
    let error = super::start_error(&bench, deadly);
    assert_eq!(error.category(), ErrorCategory::Crash, "{error}");
    bench.finish();
}

/// One line of the log: whose it is, its level, its target and its text.
type Line = (Option<String>, log::Level, String, String);

struct Log(Mutex<Vec<Line>>);

impl log::Log for Log {
    fn enabled(&self, _: &log::Metadata<'_>) -> bool {
        true
    }
    fn log(&self, record: &log::Record<'_>) {
        let text = record.args().to_string();
        let line = (current_worker(), record.level(), record.target().to_owned(), text);
        self.0.lock().unwrap().push(line);
    }
    fn flush(&self) {}
}

#[test]
fn log_lines_of_a_plugin_know_their_worker() {
    if !alone::here(&[], log_lines_of_a_plugin_know_their_worker) {
        return;
    }
    static LOG: Log = Log(Mutex::new(Vec::new()));
    log::set_logger(&LOG).unwrap();
    log::set_max_level(log::LevelFilter::Info);
    let bench = bench();
    for id in ["a", "b"] {
        let config = json!({ "stranger": "panic", "task": "error" });
        bench.add(worker(id, &example("faulty_plugin")).config(config));
        bench.master.start_worker(id).unwrap();
        bench.master.stop_worker(id).unwrap();
    }
    if let Some(workshop) = Workshop::open() {
        let library = workshop.compile("examples/c_module/upper.c", "libupper.so", &[]);
        bench.add(worker("c", &library));
        bench.master.start_worker("c").unwrap();
        bench.master.stop_worker("c").unwrap();
    }
    bench.finish();
    let log = LOG.0.lock().unwrap();
    let count = |worker: &str, level, target: &str, text: &str| {
        let fits = |(w, l, t, said): &&Line| {
            w.as_deref() == Some(worker) && *l == level && t == target && said == text
        };
        log.iter().filter(fits).count()
    };
    let (info, warn) = (log::Level::Info, log::Level::Warn);
    for id in ["a", "b"] {
        for (level, text) in [
            (info, "initialize"),
            (info, &*format!("start {id}#1")),
            (warn, "on a thread"),
            (info, "the thread ends"),
            (info, "stop, fired true, bounded true"),
            (info, "drop"),
        ] {
            assert_eq!(count(id, level, "faulty_plugin", text), 1, "{id} {text}: {log:#?}");
        }
        let task = "task \"task\" failed: error in task";
        assert_eq!(count(id, warn, "hsu_master::host::runner::backend", task), 1, "{log:#?}");
    }
    assert!(!log.iter().any(|(.., text)| text == "for nobody"), "the level is the host's");
    // A thread that nobody knows is the library's, which speaks through its latest instance.
    for id in ["a", "b"] {
        let strangers = log.iter().filter(|(worker, level, _, text)| {
            let place = "a thread of the plugin panicked at tests/plugins/faulty.rs";
            let panicked = text.starts_with(place) && *level == log::Level::Error;
            panicked && worker.as_deref() == Some(id)
        });
        assert_eq!(strangers.count(), 1, "{log:#?}");
    }
    if log.iter().any(|(worker, ..)| worker.as_deref() == Some("c")) {
        assert_eq!(count("c", info, "upper", "at work"), 1, "{log:#?}");
    }
}
