//! The quickstart's file with one word changed, and clients whose source does not change with it:
//! over HTTP and by function calls, before, while and after the worker moves.

use std::collections::BTreeSet;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;

use hsu_master::crossbeam_channel::{Receiver, Sender, bounded};
use hsu_master::{
    Error, Function, Master, MasterBuilder, MasterConfig, WorkerConfig, WorkerDiagnostics,
};

use super::service::DataProcessor;
use super::support::{LONG, path};

const ID: &str = "data-processor-1";

/// The quickstart's own text at free ports, with this word for where the first worker runs.
fn quickstart(kind: &str) -> String {
    let mut text = include_str!("../../examples/quickstart.yaml").to_owned();
    for port in ["${PORT_1:-18080}", "${PORT_2:-18081}", "${PORT_3:-18082}"] {
        assert!(text.contains(port), "the quickstart has changed");
        text = text.replace(port, "0");
    }
    let word = r#"type: "process""#;
    assert_eq!(text.matches(word).count(), 1, "the quickstart has changed");
    text.replace(word, &format!("type: {kind:?}"))
}

fn builder() -> MasterBuilder {
    let modules = Master::builder().module("data-processor", DataProcessor::default);
    // This program's main is the test runner's, so another one is the host.
    modules.host_program(path("data_processor"))
}

/// Whoever uses the service. Nothing in here knows where it runs.
struct Client<'m> {
    master: &'m Master,
    process: Function,
}

impl<'m> Client<'m> {
    fn new(master: &'m Master) -> Self {
        Self { master, process: master.function(ID, "process").timeout(LONG) }
    }

    fn by_function(&self, text: &str) -> Result<String, String> {
        let reply = self.process.call_bytes(text.as_bytes());
        let reply = reply.map_err(|error| error.category().to_string())?;
        Ok(String::from_utf8(reply).unwrap())
    }

    fn by_http(&self, text: &str) -> Result<String, String> {
        let api = self.master.endpoint(ID, "api");
        let api = api.map_err(|error: Error| error.category().to_string())?;
        let length = text.len();
        let request = format!(
            "POST /process HTTP/1.1\r\nHost: test\r\nContent-Length: {length}\r\n\r\n{text}"
        );
        let mut answer = String::new();
        TcpStream::connect(&api.info.address)
            .and_then(|mut stream| {
                stream.set_read_timeout(Some(LONG))?;
                stream.write_all(request.as_bytes())?;
                stream.read_to_string(&mut answer)
            })
            .map_err(|error| format!("{:?}", error.kind()))?;
        let (head, body) = answer.split_once("\r\n\r\n").ok_or("no answer")?;
        if head.contains(" 200 ") { Ok(body.to_owned()) } else { Err(head[9..12].to_owned()) }
    }

    fn check(&self) {
        assert_eq!(self.by_function("straße").unwrap(), "STRASSE");
        assert_eq!(self.by_http("straße").unwrap(), "STRASSE");
        let stats: serde_json::Value = self.master.function(ID, "stats").call(&()).unwrap();
        assert_eq!((&stats["worker"], &stats["processed"]), (&ID.into(), &2.into()));
        let process = self.known().pid.unwrap_or_else(std::process::id);
        assert_eq!(stats["pid"], process);
    }

    fn known(&self) -> WorkerDiagnostics {
        self.master.worker_diagnostics(ID).unwrap()
    }
}

#[test]
fn one_word_of_the_quickstart_moves_a_worker_and_no_client() {
    for kind in ["process", "module", "process"] {
        let config = MasterConfig::from_yaml(&quickstart(kind)).unwrap();
        let master = builder().config(config).build().unwrap();
        master.start_all().unwrap();
        let client = Client::new(&master);
        client.check();
        assert_eq!(client.known().worker_type.to_string(), kind);
        assert_eq!(client.known().pid.is_some(), kind == "process");
        let report = master.shutdown().unwrap();
        assert!(report.killed.is_empty() && report.stuck.is_empty(), "{report:?}");
    }
}

/// The errors that clients met, in each way.
#[derive(Default)]
struct Met {
    by_function: Mutex<BTreeSet<String>>,
    by_http: Mutex<BTreeSet<String>>,
    answers: [AtomicU64; 2],
    over: AtomicBool,
}

impl Met {
    /// Asks in one way until it is over. `go_on` is asked for after each answer, so that each step
    /// of the switch is seen by both.
    fn ask(&self, which: usize, client: &Client<'_>, told: &Sender<()>) {
        while !self.over.load(Ordering::Relaxed) {
            let (answer, met) = if which == 0 {
                (client.by_function("hello"), &self.by_function)
            } else {
                (client.by_http("hello"), &self.by_http)
            };
            match answer {
                Ok(text) => {
                    assert_eq!(text, "HELLO", "an answer is a right one");
                    self.answers[which].fetch_add(1, Ordering::Relaxed);
                }
                Err(error) => drop(met.lock().unwrap().insert(error)),
            }
            let _ = told.try_send(());
        }
    }

    /// Waits until both have had answers since.
    fn both_answered(&self, told: &Receiver<()>) {
        let now = || [0, 1].map(|which| self.answers[which].load(Ordering::Relaxed));
        let before = now();
        while now().into_iter().zip(before).any(|(now, before)| now < before + 2) {
            told.recv_timeout(LONG).expect("the clients have ended");
        }
    }

    /// What was met since it was last asked.
    fn take(&self) -> [Vec<String>; 2] {
        [&self.by_function, &self.by_http]
            .map(|met| std::mem::take(&mut *met.lock().unwrap()).into_iter().collect())
    }
}

/// Ends the clients, also when the test has failed.
struct Over<'m>(&'m AtomicBool);

impl Drop for Over<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// The worker of a file, by its id.
fn worker(kind: &str) -> WorkerConfig {
    let workers = MasterConfig::from_yaml(&quickstart(kind)).unwrap().workers;
    workers.into_iter().find(|worker| worker.id == ID).unwrap()
}

#[test]
fn what_clients_meet_while_a_worker_moves() {
    let master = builder().build().unwrap();
    master.add_worker(worker("process")).unwrap();
    master.start_worker(ID).unwrap();
    let (met, (tell, told)) = (Met::default(), bounded(1));
    let restart = || {
        master.restart_worker(ID, false).unwrap();
    };
    let moves: [(&str, &dyn Fn()); 4] = [
        ("restart of a process", &restart),
        ("from a process to a thread", &|| switch(&master, "module")),
        ("restart of a thread", &restart),
        ("from a thread to a process", &|| switch(&master, "process")),
    ];
    thread::scope(|scope| {
        for which in 0..2 {
            let (master, met, tell) = (&master, &met, tell.clone());
            scope.spawn(move || met.ask(which, &Client::new(master), &tell));
        }
        let _over = Over(&met.over);
        met.both_answered(&told);
        assert_eq!(met.take(), [vec![], vec![]] as [Vec<String>; 2], "nothing moves yet");
        for (name, act) in moves {
            for _ in 0..3 {
                act();
                met.both_answered(&told);
            }
            let [by_function, by_http] = met.take();
            println!("{name:<28} function: {by_function:?}  http: {by_http:?}");
            let known = |error: &String| ["not_running", "unknown_worker"].contains(&&**error);
            assert!(by_function.iter().all(known), "{by_function:?}");
            // The kernel's words for a server that goes, and the service's own as it stops.
            let of_http =
                ["ConnectionRefused", "ConnectionReset", "BrokenPipe", "no answer", "503"];
            let known = |error: &String| known(error) || of_http.contains(&&**error);
            assert!(by_http.iter().all(known), "{by_http:?}");
            if name.starts_with("restart") {
                let gone = "unknown_worker".to_owned();
                assert!(!by_function.contains(&gone), "a restart forgets nobody");
            }
        }
    });
    assert_eq!(master.worker_diagnostics(ID).unwrap().worker_type.to_string(), "process");
    master.shutdown().unwrap();
}

/// Moves the worker, with the same id, to another place. Where it is there already, it goes and
/// comes back.
fn switch(master: &Master, kind: &str) {
    master.remove_worker(ID).unwrap();
    master.add_worker(worker(kind)).unwrap();
    master.start_worker(ID).unwrap();
}
