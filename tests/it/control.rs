//! Operating a master over its socket: what a client asks is what the master itself answers.

mod crowds;
mod faults;
mod files;
mod hostile;
mod places;
mod stalls;
mod streams;
mod told;
mod wire;

use std::io::{BufRead as _, BufReader, Write as _};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use hsu_master::control::{Client, CommandOptions, PlanReport};
use hsu_master::crossbeam_channel::{Receiver, Sender, unbounded};
use hsu_master::{
    ErrorCategory, Master, MasterBuilder, MasterConfig, ModuleContext, ModuleInfo, ModuleResult,
    RestartConfig, RestartPolicy, WaitFor, WorkerConfig, WorkerModule, WorkerState,
};
use serde_json::{Value, json};

use crate::support::{Bench, PATIENCE, ms, slow, until};

/// A master that can be operated, and the directory it listens in.
pub(crate) struct Operated {
    pub(crate) bench: Bench,
    pub(crate) directory: tempfile::TempDir,
}

impl Operated {
    fn new() -> Self {
        Self::with(Master::builder())
    }

    fn with(builder: MasterBuilder) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let config = MasterConfig::new().name("tested").state_dir(directory.path().join("state"));
        Self { bench: Bench::new(builder.config(config)), directory }
    }

    fn socket(&self) -> PathBuf {
        self.directory.path().join("state/control.sock")
    }

    fn client(&self) -> Client {
        Client::connect(self.socket()).unwrap().timeout(PATIENCE)
    }

    fn raw(&self) -> Raw {
        Raw::new(UnixStream::connect(self.socket()).unwrap())
    }
}

/// A connection on which one may say anything.
pub(crate) struct Raw {
    socket: UnixStream,
    reader: BufReader<UnixStream>,
}

impl Raw {
    fn new(socket: UnixStream) -> Self {
        socket.set_read_timeout(Some(PATIENCE)).unwrap();
        socket.set_write_timeout(Some(PATIENCE)).unwrap();
        let reader = BufReader::new(socket.try_clone().unwrap());
        Self { socket, reader }
    }

    fn send(&mut self, bytes: impl AsRef<[u8]>) {
        self.socket.write_all(bytes.as_ref()).unwrap();
    }

    /// Asks, with any id, method and params.
    fn ask(&mut self, id: u64, method: &str, params: &Value) {
        let line = json!({ "id": id, "method": method, "params": params });
        self.send(format!("{line}\n"));
    }

    /// The next line; `None`: the other side has closed.
    fn line(&mut self) -> Option<Value> {
        let mut line = String::new();
        match self.reader.read_line(&mut line) {
            Ok(0) => None,
            Ok(_) => Some(serde_json::from_str(&line).unwrap()),
            // It was closed over what was still to be read.
            Err(error) if error.kind() == std::io::ErrorKind::ConnectionReset => None,
            Err(error) => panic!("nothing came: {error}"),
        }
    }

    fn answer(&mut self, id: u64, method: &str, params: &Value) -> Value {
        self.ask(id, method, params);
        self.line().unwrap()
    }
}

/// A module that exports functions, and waits in one of them for its stop.
struct Exporting(Sender<()>);

impl WorkerModule for Exporting {
    fn start(&mut self, ctx: &ModuleContext) -> ModuleResult {
        ctx.export("echo", |bytes| Ok(bytes.to_vec()))?;
        ctx.export("fail", |_| Err("no luck".into()))?;
        ctx.export("panic", |_| panic!("not well"))?;
        ctx.export_json("add", |(a, b): (i64, i64)| Ok(a + b))?;
        let (token, begun) = (ctx.stop_token().clone(), self.0.clone());
        ctx.export("wait", move |_| {
            let _ = begun.send(());
            token.wait_stopped();
            Ok(Vec::new())
        })?;
        Ok(())
    }

    fn info(&self) -> ModuleInfo {
        ModuleInfo::new("exporting", "1.2.3")
    }
}

/// A master with such a module, and word of each of its calls that waits.
fn exporting() -> (Operated, Receiver<()>) {
    let (begun, waits) = unbounded();
    let make = move || Exporting(begun.clone());
    let operated = Operated::with(Master::builder().module("exporting", make));
    operated.bench.add(WorkerConfig::native("m", "exporting"));
    (operated, waits)
}

fn sleeper(id: &str) -> WorkerConfig {
    WorkerConfig::executable(id, "/bin/sleep").args(["3600"])
}

fn shell(id: &str, script: &str) -> WorkerConfig {
    WorkerConfig::executable(id, "/bin/sh").args(["-c", script])
}

/// The category and the text of an error, whoever it came from.
fn told<T: std::fmt::Debug>(outcome: Result<T, hsu_master::Error>) -> (ErrorCategory, String) {
    let error = outcome.unwrap_err();
    (error.category(), error.to_string())
}

#[test]
fn a_client_asks_for_what_the_master_knows() {
    let (operated, _) = exporting();
    operated.bench.add(sleeper("nap"));
    let client = operated.client();
    let hello = client.hello();
    assert_eq!((hello.protocol, hello.name.as_str()), ([1, 0], "tested"));
    assert_eq!(
        (hello.pid, hello.version.as_str()),
        (std::process::id(), env!("CARGO_PKG_VERSION"))
    );

    let ended = client.start("nap", CommandOptions::new()).unwrap();
    assert_eq!((ended.id.as_str(), ended.incarnation), ("nap", Some(1)));
    assert_eq!(ended.state, Some(WorkerState::Running));
    let known = operated.bench.known("nap");
    let all = client.status(&[]).unwrap();
    assert_eq!(all.iter().map(|worker| worker.id.as_str()).collect::<Vec<_>>(), ["m", "nap"]);
    let report = &client.status_with_usage(&["nap"]).unwrap()[0];
    assert_eq!((report.state, report.pid), (known.state, known.pid));
    assert_eq!((report.goal.as_str(), report.phase.as_str()), ("up", "up"));
    assert_eq!(report.executable_path.as_deref(), Some("/bin/sleep"));
    let usage = report.usage.as_ref().unwrap();
    assert!(usage.rss_bytes.unwrap() > 0 && usage.threads == Some(1), "{usage:?}");
    assert_eq!(report.program_changed, Some(false));
    // Not unless it is asked for, and not of what has no process.
    for worker in all.iter().chain(&client.status(&["nap"]).unwrap()) {
        assert_eq!((&worker.usage, worker.program_changed), (&None, None));
    }
    let all = client.status_with_usage(&[]).unwrap();
    assert_eq!(all.iter().map(|w| w.usage.is_some()).collect::<Vec<_>>(), [false, true]);

    let described = client.describe("nap").unwrap();
    assert_eq!(described.worker.id, "nap");
    assert_eq!(described.worker.usage.unwrap().threads, Some(1));
    assert_eq!(described.config.command.as_deref().unwrap(), ["/bin/sleep", "3600"]);
    let path: Vec<_> = described.history.iter().map(|past| past.to.as_str()).collect();
    assert_eq!(path, ["initializing", "initialized", "starting", "running"]);

    let ended = client.restart("nap", CommandOptions::new().force(true).watch(true)).unwrap();
    assert_eq!(ended.incarnation, Some(2));
    let report = client.wait_for("nap", WaitFor::Running, PATIENCE).unwrap();
    assert_eq!(report.incarnation, 2);
    let ended = client.stop("nap", CommandOptions::new()).unwrap();
    assert_eq!((ended.incarnation, ended.state), (None, Some(WorkerState::Stopped)));

    let modules = client.modules().unwrap();
    assert_eq!(modules[0].name, "exporting");
    assert_eq!(modules[0].info.version, "1.2.3");
    operated.bench.finish();
}

#[test]
fn errors_are_those_that_the_master_itself_gives() {
    let (operated, _) = exporting();
    operated.bench.add(sleeper("nap"));
    let (client, master) = (operated.client(), &operated.bench.master);
    let options = CommandOptions::new;
    assert_eq!(told(client.status(&["nab"])), told(master.worker_diagnostics("nab")));
    assert_eq!(told(client.describe("../x")), told(master.worker_diagnostics("../x")));
    assert_eq!(told(client.start("nab", options())), told(master.start_worker("nab")));
    assert_eq!(told(client.stop("nab", options())), told(master.stop_worker("nab")));
    assert_eq!(told(client.restart("", options())), told(master.restart_worker("", false)));
    let short = ms(1);
    assert_eq!(
        told(client.wait_for("nap", WaitFor::Running, short)),
        told(master.wait_for("nap", WaitFor::Running, short))
    );
    let error = client.start("nab", options().wait(false)).unwrap_err();
    assert!(error.is_not_found() && error.worker() == Some("nab"), "{error}");
    assert!(error.to_string().contains("did you mean \"nap\""), "{error}");

    assert_eq!(told(client.call("m", "echo", b"")), told(master.call("m", "echo", b"")));
    master.start_worker("m").unwrap();
    for (worker, function) in [("m", "fail"), ("m", "none"), ("x", "echo"), ("nap", "echo")] {
        assert_eq!(
            told(client.call(worker, function, b"x")),
            told(master.call(worker, function, b"x"))
        );
    }
    assert!(client.call("m", "panic", b"").unwrap_err().is_panic());
    let large = vec![0; (512 << 10) + 1];
    assert_eq!(told(client.call("m", "echo", &large)), told(master.call("m", "echo", &large)));

    let broken = shell("broken", "exit 3").restart(RestartConfig::policy(RestartPolicy::Never));
    operated.bench.add(broken);
    let error = client.start("broken", options().watch(true)).unwrap_err();
    assert_eq!((error.category(), error.worker()), (ErrorCategory::Crash, Some("broken")));
    assert!(error.to_string().contains("exit 3"), "{error}");
    let described = client.describe("broken").unwrap();
    let last = described.history.iter().rfind(|past| past.to == WorkerState::Failed).unwrap();
    assert_eq!(last.exit.as_ref().unwrap().code, Some(3));
    assert!(last.message.as_ref().unwrap().contains("exit 3"), "{last:?}");
    operated.bench.finish();
}

#[test]
fn functions_are_called_through_the_socket_as_in_the_process() {
    let (operated, waits) = exporting();
    let client = operated.client();
    client.start("m", CommandOptions::new()).unwrap();
    let add = client.function("m", "add");
    assert_eq!((add.worker(), add.name()), ("m", "add"));
    assert_eq!(add.call::<i64>(&(2, 3)).unwrap(), 5);
    assert_eq!(add.call_nowait::<i64>(&(4, 5)).wait().unwrap(), 9);
    assert!(add.call::<String>(&(1, 1)).is_err());
    let bytes: Vec<u8> = (0..=255).cycle().take(512 << 10).collect();
    assert_eq!(client.call("m", "echo", &bytes).unwrap(), bytes);
    // In the master the function runs on and is not cut short; the stop ends it.
    let waiting = client.function("m", "wait").timeout(ms(1)).call_bytes_nowait([]);
    waits.recv_timeout(PATIENCE).unwrap();
    client.stop("m", CommandOptions::new()).unwrap();
    crate::support::answer(&waiting).unwrap();
    operated.bench.finish();
}

#[test]
fn a_program_without_a_fault_may_end_at_once_and_one_that_crashes_is_noticed() {
    let operated = Operated::new();
    let client = operated.client();
    let never = || RestartConfig::policy(RestartPolicy::Never);
    operated.bench.add(shell("done", "exit 0").restart(never()));
    operated.bench.add(shell("crashing", "exit 7").restart(slow()));
    let watched = || CommandOptions::new().watch(true);
    client.start("done", watched()).unwrap();
    let error = client.start("crashing", watched()).unwrap_err();
    assert_eq!(error.category(), ErrorCategory::Crash, "{error}");
    client.start("crashing", CommandOptions::new().wait(false)).unwrap();
    client.wait_for("done", WaitFor::Completed, PATIENCE).unwrap();
    operated.bench.finish();
}

#[test]
fn an_older_error_is_not_why_another_command_came_in_between() {
    let operated = Operated::new();
    let bench = &operated.bench;
    let mended = operated.directory.path().join("mended");
    let script = format!("test -e {} || exit 7; exec sleep 1000", mended.display());
    bench.add(shell("w", &script).restart(slow()));
    operated.client().start("w", CommandOptions::new()).unwrap();
    bench.once("w", |known| known.last_error.is_some());
    std::fs::write(mended, "").unwrap();
    let mut raw = operated.raw();
    raw.ask(1, "restart", &json!({ "id": "w", "watch": true }));
    bench.once("w", |known| known.incarnation == 2 && known.state == WorkerState::Running);
    bench.master.restart_worker("w", true).unwrap();
    let answer = raw.line().unwrap();
    // On a very slow machine the time to look at it may be over by then.
    if answer["result"].is_null() {
        assert_eq!(answer["error"]["category"], "cancelled", "{answer}");
    }
    operated.bench.finish();
}

#[test]
fn a_command_that_is_not_waited_for_any_longer_goes_on() {
    let operated = Operated::new();
    let client = operated.client();
    let deaf = shell("deaf", "trap '' TERM; echo up; while :; do sleep 1; done");
    operated.bench.add(deaf);
    client.start("deaf", CommandOptions::new()).unwrap();
    assert_eq!(operated.bench.line().text, "up");
    let short = CommandOptions::new().timeout(Some(ms(1)));
    let error = client.stop("deaf", short).unwrap_err();
    assert!(error.is_timeout() && error.worker() == Some("deaf"), "{error}");
    operated.bench.once("deaf", |known| known.goal == "down");
    client.stop("deaf", CommandOptions::new().force(true)).unwrap();
    operated.bench.finish();
}

#[test]
fn a_reload_is_asked_for_and_does_what_the_plan_says() {
    let operated = Operated::new();
    let error = operated.client().reload().unwrap_err();
    assert_eq!(told::<()>(Err(error)), told(operated.bench.master.reload_again()));
    operated.bench.finish();

    let directory = tempfile::tempdir().unwrap();
    let state = directory.path().join("state");
    let config = move |ids: &[&str]| {
        let config = MasterConfig::new().state_dir(&state);
        ids.iter().fold(config, |config, id| config.worker(sleeper(id)))
    };
    let (before, socket) = (config(&["a", "b"]), directory.path().join("state/control.sock"));
    let builder = Master::builder().config(before).source(move || Ok(config(&["b", "c"])));
    let bench = Bench::new(builder);
    bench.master.start_all().unwrap();
    let pid = bench.known("b").pid;
    let client = Client::connect(&socket).unwrap().timeout(PATIENCE);
    let steps = |plan: &PlanReport| -> Vec<_> {
        plan.steps.iter().map(|step| format!("{} {}", step.action.as_str(), step.worker)).collect()
    };
    let plan = client.plan(None).unwrap();
    assert_eq!(steps(&plan), ["remove a", "add c"]);
    assert_eq!(client.status(&[]).unwrap().len(), 2);
    let error = client.plan(Some(Path::new("/x.yaml"))).unwrap_err();
    assert!(error.is_refused(), "{error}");
    assert_eq!(client.reload().unwrap(), plan);
    let workers: Vec<_> = client.status(&[]).unwrap();
    assert_eq!(workers.iter().map(|worker| worker.id.as_str()).collect::<Vec<_>>(), ["b", "c"]);
    assert_eq!(workers[0].pid, pid);
    bench.finish();
}

#[test]
fn events_come_as_they_happen_until_the_master_ends() {
    let operated = Operated::new();
    operated.bench.add(sleeper("nap"));
    let client = operated.client();
    let mut events = client.events(true).unwrap();
    // Asked on another connection, so only what is heard shows that it listens.
    let until_started = || loop {
        operated.bench.master.restart_worker("nap", true).unwrap();
        match events.next_within(ms(100)) {
            Some(Err(error)) if error.is_timeout() => {}
            Some(event) => break event.unwrap(),
            None => panic!("the stream ended"),
        }
    };
    let first = { until_started }();
    assert_eq!((&first["event"], &first["worker"]), (&json!("state"), &json!("nap")));
    operated.bench.master.stop_worker("nap").unwrap();
    let stopped = |event: &Value| event["to"] == "stopped" && event["cause"] == "ended";
    assert!(events.by_ref().map(Result::unwrap).any(|event| stopped(&event)));
    assert_eq!(client.shutdown(false).unwrap(), operated.bench.master.wait().unwrap());
    let rest: Vec<_> = events.map(Result::unwrap).collect();
    assert_eq!(rest.last().unwrap()["event"], "shut_down", "{rest:?}");
    until(|| client.status(&[]).is_err_and(|error| error.is_unavailable()));
    operated.bench.finish();
}

#[test]
fn who_asks_for_the_shutdown_hears_how_it_went_and_the_socket_is_gone() {
    let operated = Operated::new();
    operated.bench.add(
        shell("deaf", "trap '' TERM; echo up; while :; do sleep 1; done")
            .stop(hsu_master::StopConfig::default().timeout(ms(10))),
    );
    let client = operated.client();
    client.start("deaf", CommandOptions::new()).unwrap();
    assert_eq!(operated.bench.line().text, "up");
    let waiting = operated.client();
    let socket = operated.socket();
    let report = std::thread::scope(|scope| {
        let never = || waiting.wait_for("deaf", WaitFor::Healthy, PATIENCE);
        let waits = scope.spawn(never);
        let report = client.shutdown(false).unwrap();
        assert_eq!(waits.join().unwrap().unwrap_err().category(), ErrorCategory::Cancelled);
        report
    });
    assert_eq!(report.killed, ["deaf"]);
    let Operated { bench, directory } = operated;
    bench.finish();
    until(|| !socket.exists());
    let error = Client::connect(&socket).unwrap_err();
    assert!(error.is_unavailable() && error.worker().is_none(), "{error}");
    drop(directory);
}

#[test]
fn many_threads_share_one_connection() {
    let (operated, _) = exporting();
    operated.bench.add(sleeper("nap"));
    let client = Arc::new(operated.client());
    client.start("m", CommandOptions::new()).unwrap();
    std::thread::scope(|scope| {
        for thread in 0..80_u64 {
            let client = &client;
            scope.spawn(move || {
                for n in 0..20 {
                    let sum = client.function("m", "add").call::<u64>(&(thread, n)).unwrap();
                    assert_eq!(sum, thread + n);
                    assert_eq!(client.status(&["nap"]).unwrap()[0].id, "nap");
                }
            });
        }
    });
    operated.bench.finish();
}

#[test]
fn the_board_answers_while_the_loop_stands_still() {
    let operated = Operated::new();
    operated.bench.add(sleeper("nap"));
    let client = operated.client();
    let held = operated.bench.hold("nap", WorkerState::Running);
    let started = operated.bench.master.start_worker_nowait("nap");
    held.while_held(|| {
        let report = &client.status(&["nap"]).unwrap()[0];
        assert_eq!(report.state, WorkerState::Running);
        assert_eq!(client.describe("nap").unwrap().history.len(), 4);
    });
    crate::support::answer(&started).unwrap();
    operated.bench.finish();
}
