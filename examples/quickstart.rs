//! One service, run as a process and twice as a thread of this program, all three supervised alike.
//!
//! `cargo run --release --example quickstart` reads `examples/quickstart.yaml`, starts what it
//! says, shows what to try and then tells what happens, until ctrl-c or for `--run-duration 5s`.

#[path = "data_processor/service.rs"]
mod service;

use std::error::Error;
use std::io::{self, Write as _};
use std::net::TcpListener;
use std::path::Path;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use hsu_master::config::ListenAddr;
use hsu_master::crossbeam_channel::{Receiver, RecvError, RecvTimeoutError};
use hsu_master::{
    EndpointType, Event, EventKind, HealthStatus, Master, MasterConfig, ModuleRegistry, WaitFor,
    WorkerConfig, WorkerDiagnostics, WorkerState, WorkerType,
};

use service::DataProcessor;

fn main() -> ExitCode {
    let modules = ModuleRegistry::new().module("data-processor", DataProcessor::default);
    // A worker that is a process of its own is this program, run again: it gets no further.
    hsu_master::host_if_requested(&modules);
    let complain = |error: Box<dyn Error>, code| {
        let _ = writeln!(io::stderr(), "{error}");
        ExitCode::from(code)
    };
    match run_duration(std::env::args().skip(1)) {
        Ok(duration) => {
            Quickstart::run(&modules, duration).unwrap_or_else(|error| complain(error, 1))
        }
        Err(error) => complain(error, 2),
    }
}

type Outcome<T> = Result<T, Box<dyn Error>>;

fn run_duration(mut arguments: impl Iterator<Item = String>) -> Outcome<Option<Duration>> {
    let (option, value) = (arguments.next(), arguments.next());
    match (option.as_deref(), value, arguments.next()) {
        (None, _, _) => Ok(None),
        (Some("--run-duration"), Some(value), None) => Ok(Some(humantime::parse_duration(&value)?)),
        _ => Err("usage: quickstart [--run-duration 5s]".into()),
    }
}

struct Quickstart {
    master: Master,
    began: Instant,
}

impl Quickstart {
    fn run(modules: &ModuleRegistry, duration: Option<Duration>) -> Outcome<ExitCode> {
        log_to_stderr();
        let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("examples/quickstart.yaml");
        let config = MasterConfig::load_for(modules, file)?;
        check_ports(&config)?;
        let master = Master::builder()
            .registry(modules)
            .config(config)
            .output(|line| {
                let text = String::from_utf8_lossy(line.line);
                let _ = writeln!(io::stderr(), "{} | {text}", line.worker);
            })
            .own_process()
            .build()?;
        let began = Instant::now();
        Self { master, began }.supervise(duration)
    }

    fn supervise(&self, duration: Option<Duration>) -> Outcome<ExitCode> {
        self.master.start_all()?;
        self.settle();
        // In this order nothing is lost in between: what the table does not show yet is an event.
        let events = self.master.subscribe();
        let workers = self.master.all_worker_diagnostics();
        say(&format!("\nThe master is process {}. Its workers:\n", std::process::id()));
        say(&self.table(&workers));
        say(&self.hints(&workers));
        self.follow(&events, duration.map(|duration| Instant::now() + duration));
        self.conclude()
    }

    /// Waits for the first answers of those workers that can be asked for their health.
    fn settle(&self) {
        let workers = self.master.all_worker_diagnostics();
        for worker in workers.iter().filter(|worker| worker.capabilities.health) {
            // One that does not answer is shown as it is.
            let _ = self.master.wait_for(&worker.id, WaitFor::Healthy, Duration::from_secs(5));
        }
    }

    fn url(worker: &WorkerDiagnostics) -> Option<String> {
        let mut endpoints = worker.endpoints.iter();
        let http = endpoints.find(|endpoint| endpoint.endpoint_type == EndpointType::Http)?;
        Some(format!("http://{}", http.address))
    }

    fn table(&self, workers: &[WorkerDiagnostics]) -> String {
        let head = ["ID", "TYPE", "STATE", "HEALTH", "INCARNATION", "PID", "UPTIME", "ENDPOINT"];
        let mut rows = vec![head.map(str::to_owned)];
        for worker in workers {
            let unasked = worker.health == HealthStatus::None;
            let health = if unasked { "-".to_owned() } else { worker.health.to_string() };
            let pid = worker.pid.map_or_else(|| "master".to_owned(), |pid| pid.to_string());
            let uptime = worker.uptime.map(|up| format!("{:.1}s", up.as_secs_f32()));
            rows.push([
                worker.id.clone(),
                worker.worker_type.to_string(),
                worker.state.to_string(),
                health,
                worker.incarnation.to_string(),
                pid,
                uptime.unwrap_or_else(|| "-".to_owned()),
                Self::url(worker).unwrap_or_else(|| "-".to_owned()),
            ]);
        }
        aligned(&rows)
    }

    fn hints(&self, workers: &[WorkerDiagnostics]) -> String {
        let mut tries: Vec<(String, &str)> = Vec::new();
        let process = workers.iter().find(|worker| worker.pid.is_some());
        let module = workers.iter().find(|worker| worker.worker_type == WorkerType::Module);
        if let Some(url) = process.and_then(Self::url) {
            tries.push((format!("curl -d hello {url}/process"), "a process answers"));
        }
        if let Some(url) = module.and_then(Self::url) {
            tries.push((format!("curl -d hello {url}/process"), "a thread answers the same"));
            tries.push((format!("curl {url}/stats"), "its pid is the master's"));
            tries.push((format!("curl -X POST {url}/crash"), "a panic: it alone starts again"));
        }
        if let Some(pid) = process.and_then(|worker| worker.pid) {
            tries.push((format!("kill -9 {pid}"), "the process dies, and starts again"));
        }
        let width = tries.iter().map(|(command, _)| command.len()).max().unwrap_or(0);
        let mut text = "Try, in another terminal:\n\n".to_owned();
        for (command, effect) in tries {
            text.push_str(&format!("  {command:width$}   # {effect}\n"));
        }
        text + "\nCtrl-C stops all of them in order. What happens from here on:\n"
    }

    /// Tells what happens until the master has ended.
    fn follow(&self, events: &Receiver<Event>, mut deadline: Option<Instant>) {
        loop {
            let next = match deadline {
                Some(deadline) => events.recv_deadline(deadline),
                None => events.recv().map_err(|RecvError| RecvTimeoutError::Disconnected),
            };
            match next {
                Ok(event) => self.tell(&event),
                Err(RecvTimeoutError::Disconnected) => return,
                Err(RecvTimeoutError::Timeout) => {
                    say(&format!("{:>10}  the run duration is over", self.time()));
                    deadline = None;
                    // The outcome is asked for when all events are told.
                    drop(self.master.shutdown_nowait(false));
                }
            }
        }
    }

    fn tell(&self, event: &Event) {
        #[expect(clippy::wildcard_enum_match_arm, reason = "there may be more, later")]
        let what = match &event.kind {
            EventKind::State { from, to, cause, .. } => {
                let why = self.why(&event.worker, *to).unwrap_or_else(|| (*cause).to_owned());
                format!("{:<20} {why}", format!("{from} -> {to}"))
            }
            EventKind::Health { health: HealthStatus::Healthy, .. } => "healthy".to_owned(),
            EventKind::Health { health: HealthStatus::Unhealthy, reason } => {
                format!("{:<20} {reason}", "unhealthy")
            }
            EventKind::TaskFailed { failure } => format!("{:<20} {failure}", "task failed"),
            EventKind::Missed(count) => format!("{count} events were too many to tell"),
            _ => return,
        };
        let Event { worker, incarnation, .. } = event;
        say(&format!("{:>10}  {worker} #{incarnation}  {what}", self.time()));
    }

    fn time(&self) -> String {
        format!("+{:.3}s", self.began.elapsed().as_secs_f32())
    }

    /// What is worth more than the cause: where a worker now is, how it failed, and how it ended.
    fn why(&self, worker: &str, entered: WorkerState) -> Option<String> {
        let worker = self.master.worker_diagnostics(worker).ok()?;
        match entered {
            WorkerState::Running => match worker.pid {
                Some(pid) => Some(format!("pid {pid}")),
                None => Self::url(&worker),
            },
            WorkerState::Failed => worker.last_error.map(|error| error.message),
            WorkerState::Stopped if !worker.gave_up => worker.exit.map(|exit| exit.to_string()),
            WorkerState::Uninitialized
            | WorkerState::Initializing
            | WorkerState::Initialized
            | WorkerState::Starting
            | WorkerState::Stopping
            | WorkerState::Stopped => None,
        }
    }

    fn conclude(&self) -> Outcome<ExitCode> {
        let report = self.master.wait()?;
        if report.killed.is_empty() && report.stuck.is_empty() {
            say("\nAll workers are stopped.");
            return Ok(ExitCode::SUCCESS);
        }
        let (killed, stuck) = (report.killed.join(", "), report.stuck.join(", "));
        say(&format!("\nHad to be killed: [{killed}]. Did not end: [{stuck}]."));
        Ok(ExitCode::FAILURE)
    }
}

/// Where a worker will listen.
fn wanted_address(worker: &WorkerConfig) -> Option<ListenAddr> {
    worker.config.get("port")?.as_str()?.parse().ok()
}

/// Says what is wrong before anything is started, rather than in the middle of it.
fn check_ports(config: &MasterConfig) -> Outcome<()> {
    for worker in &config.workers {
        let Some(address) = wanted_address(worker) else { continue };
        if let Err(error) = TcpListener::bind(&address) {
            let id = &worker.id;
            let hint = "Choose other ports: PORT_1, PORT_2 and PORT_3 in the environment";
            return Err(format!("{id} cannot listen at {address}: {error}\n{hint}.").into());
        }
    }
    Ok(())
}

/// Columns as wide as their widest cell, two spaces apart.
fn aligned(rows: &[[String; 8]]) -> String {
    let mut text = String::new();
    for row in rows {
        let mut line = String::new();
        for (column, cell) in row.iter().enumerate() {
            let width = rows.iter().map(|row| row[column].len()).max().unwrap_or(0);
            line.push_str(&format!("{cell:width$}  "));
        }
        text.push_str(line.trim_end());
        text.push('\n');
    }
    text
}

/// Prints to standard output, whoever may have closed it: the workers go on.
fn say(text: &str) {
    let _ = writeln!(io::stdout(), "{text}");
}

/// A module's log lines look as those of a process. The master's own say what is told here anyway.
fn log_to_stderr() {
    let wanted = env_logger::Env::default().default_filter_or("info,hsu_master=off");
    let mut logger = env_logger::Builder::from_env(wanted);
    logger.format(|out, record| {
        let worker = hsu_master::current_worker();
        writeln!(out, "{} | {}", worker.as_deref().unwrap_or("master"), record.args())
    });
    logger.init();
}
