//! What the same module costs in each of its four places: how fast it starts, beside the raw limit
//! of its kind, and how much memory it takes.
//!
//! The plugin is an example, which `cargo bench` does not build: run
//! `cargo build --release --examples` first, or its rows are left out.

mod common;

use std::fs;
use std::io::{Read, Write};
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::thread::Builder;
use std::time::{Duration, Instant};

use common::{Outcome, Table, alternate, asked_for};
use hsu_master::crossbeam_channel::bounded;
use hsu_master::{
    HealthCheckConfig, Master, ModuleContext, ModuleInfo, ModuleRegistry, ModuleResult,
    WorkerConfig, WorkerModule, WorkerType,
};
use serde_json::json;

/// Turns of each contestant.
const TURNS: usize = 100;
/// So many workers are weighed at a time.
const WEIGHED: usize = 20;
/// The first argument of the process that only says that it is there.
const GREET: &str = "greet";

/// A module that does nothing by itself.
struct Idle;

impl WorkerModule for Idle {
    fn start(&mut self, _: &ModuleContext) -> ModuleResult {
        Ok(())
    }

    fn info(&self) -> ModuleInfo {
        ModuleInfo::new("idle", "1.0.0")
    }
}

fn main() -> Outcome {
    let modules = ModuleRegistry::new().module("idle", || Idle);
    hsu_master::host_if_requested(&modules);
    if std::env::args().nth(1).as_deref() == Some(GREET) {
        return greet();
    }
    if !asked_for() {
        return Ok(());
    }
    let mut starts = Table::new("from the order to running");
    let mut weights = Table::new("memory of each, idle");
    for (place, worker) in places() {
        start(&mut starts, &modules, place, &worker)?;
        weigh(&mut weights, &modules, place, &worker)?;
    }
    starts.print();
    weights.print();
    Ok(())
}

/// Every place that can be visited, with a worker that runs there.
fn places() -> Vec<(&'static str, WorkerConfig)> {
    let native = WorkerConfig::native("w", "idle");
    let mut places = vec![
        ("native, a thread", native.clone()),
        ("native, a process", native.worker_type(WorkerType::Process)),
    ];
    if let Some(library) = plugin() {
        let plugin = WorkerConfig::plugin("w", library.to_string_lossy());
        let plugin = plugin.config(json!({ "port": ":0" }));
        places.push(("plugin, a thread", plugin.clone()));
        places.push(("plugin, a process", plugin.worker_type(WorkerType::Process)));
    }
    places
}

/// Where `cargo build --release --examples` puts the data processor as a plugin.
fn plugin() -> Option<PathBuf> {
    let own = std::env::current_exe().ok()?;
    let built = own.parent()?.parent()?.join("examples/libdata_processor_plugin.so");
    built.exists().then_some(built)
}

fn prepared(modules: &ModuleRegistry, worker: &WorkerConfig, count: usize) -> Outcome<Master> {
    let hourly = HealthCheckConfig::every(Duration::from_secs(3600));
    let master = Master::builder().registry(modules).build()?;
    for number in 0..count {
        let mut worker = worker.clone().health_check(hourly.clone());
        worker.id = format!("w{number}");
        master.add_worker(worker)?;
    }
    Ok(master)
}

/// From the command to running, and back.
fn start(
    table: &mut Table,
    modules: &ModuleRegistry,
    place: &str,
    worker: &WorkerConfig,
) -> Outcome {
    let master = prepared(modules, worker, 1)?;
    let mut ours = || {
        let begun = Instant::now();
        master.start_worker("w0")?;
        let took = begun.elapsed();
        master.stop_worker("w0")?;
        Ok(took)
    };
    let mut raw = || match worker.worker_type {
        WorkerType::Module => raw_thread(),
        WorkerType::Process => raw_process(),
    };
    let [ours, raw] = alternate(TURNS, [&mut ours, &mut raw])?;
    table.times(place, &ours, &raw, "none");
    master.shutdown()?;
    Ok(())
}

/// A thread that says that it runs.
fn raw_thread() -> Outcome<Duration> {
    let begun = Instant::now();
    let (runs, told) = bounded(1);
    let thread = Builder::new().spawn(move || runs.send(()).is_ok())?;
    told.recv()?;
    let took = begun.elapsed();
    let _ = thread.join();
    Ok(took)
}

/// This program as a process that says that it runs, through a socket on its standard input.
fn raw_process() -> Outcome<Duration> {
    let begun = Instant::now();
    let (mut ours, mut child) = spawn_greeting()?;
    ours.read_exact(&mut [0])?;
    let took = begun.elapsed();
    drop(ours);
    child.wait()?;
    Ok(took)
}

fn spawn_greeting() -> Outcome<(UnixStream, Child)> {
    let (ours, theirs) = UnixStream::pair()?;
    let mut command = Command::new("/proc/self/exe");
    command.arg(GREET).stdin(OwnedFd::from(theirs)).stdout(Stdio::null());
    Ok((ours, command.spawn()?))
}

/// Says that it runs, and waits until nobody is there any more.
fn greet() -> Outcome {
    let stdin = std::os::fd::AsFd::as_fd(&std::io::stdin()).try_clone_to_owned()?;
    let mut socket = UnixStream::from(stdin);
    socket.write_all(b"!")?;
    let _ = socket.read(&mut [0])?;
    Ok(())
}

/// What each of some workers takes, in the master's process and in its own.
fn weigh(
    table: &mut Table,
    modules: &ModuleRegistry,
    place: &str,
    worker: &WorkerConfig,
) -> Outcome {
    let master = prepared(modules, worker, 1 + WEIGHED)?;
    // The first one brings what all share.
    master.start_worker("w0")?;
    let before = private("self")?;
    master.start_all()?;
    let in_master = (private("self")?.saturating_sub(before)) as f64 / WEIGHED as f64;
    let pids = master.all_worker_diagnostics().into_iter().filter_map(|worker| worker.pid);
    let own = pids.map(|pid| private(&pid.to_string())).collect::<Outcome<Vec<_>>>()?;
    let (mut ours, mut child) = spawn_greeting()?;
    ours.read_exact(&mut [0])?;
    let raw = private(&child.id().to_string())?;
    drop(ours);
    child.wait()?;
    let shown = |each: f64| format!("{each:.1} KiB");
    let own = own.iter().sum::<usize>() as f64 / own.len().max(1) as f64;
    let is_process = worker.worker_type == WorkerType::Process;
    table.row([&format!("{place}: private, in the master"), &shown(in_master), "", "", "", "", ""]);
    if is_process {
        let (own, raw) = (shown(own), shown(raw as f64));
        table.row([&format!("{place}: private, its own"), &own, "", &raw, "", "", ""]);
    }
    master.shutdown()?;
    Ok(())
}

/// The private memory of a process, in KiB.
fn private(pid: &str) -> Outcome<usize> {
    let text = fs::read_to_string(format!("/proc/{pid}/smaps_rollup"))?;
    let of = |name: &str| {
        let (_, rest) = text.split_once(name)?;
        rest.split_whitespace().next()?.parse::<usize>().ok()
    };
    let sum = of("Private_Clean:").zip(of("Private_Dirty:")).map(|(clean, dirty)| clean + dirty);
    Ok(sum.ok_or("smaps_rollup lacks a number")?)
}
