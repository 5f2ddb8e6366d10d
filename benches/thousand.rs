//! A thousand workers: how long until all run and until all are gone, what each costs in memory
//! while idle, and whether anything wakes up when nothing happens.

mod common;

use std::cell::Cell;
use std::fs;
use std::os::unix::process::CommandExt;
use std::process::{Child, Command, Stdio};
use std::thread::{self, Builder};
use std::time::{Duration, Instant};

use common::{Outcome, Table, alternate, asked_for};
use hsu_master::crossbeam_channel::{Sender, bounded};
use hsu_master::{
    HealthCheckConfig, Master, MasterConfig, ModuleContext, ModuleInfo, ModuleResult, WaitFor,
    WorkerConfig, WorkerModule, bench_support,
};

const WORKERS: usize = 1000;
/// Turns of each contestant.
const TURNS: usize = 7;
/// How long nothing may happen.
const IDLE: Duration = Duration::from_secs(10);
/// Nothing that is waited for takes this long.
const PATIENCE: Duration = Duration::from_secs(30);
const SIGTERM: i32 = 15;

fn main() -> Outcome {
    if !asked_for() {
        return Ok(());
    }
    // A captured process takes three descriptors, and many systems begin with 1,024.
    bench_support::raise_nofile_limit()?;
    idle()?;
    up_and_down()
}

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

/// A thousand modules whose next check is an hour away.
fn modules() -> Outcome<Master> {
    let hourly = HealthCheckConfig::every(Duration::from_secs(3600));
    let worker = |n| WorkerConfig::native(format!("m-{n}"), "idle").health_check(hourly.clone());
    let config = (0..WORKERS).map(worker).fold(MasterConfig::new(), MasterConfig::worker);
    let master = Master::builder().module("idle", || Idle).config(config).build()?;
    master.start_all()?;
    Ok(master)
}

/// A thousand processes whose output is captured.
fn processes() -> Outcome<Master> {
    let worker = |n| WorkerConfig::executable(format!("p-{n}"), "/bin/sleep").args(["1000"]);
    let config = (0..WORKERS).map(worker).fold(MasterConfig::new(), MasterConfig::worker);
    let master = Master::builder().output(|_| {}).config(config).build()?;
    master.start_all()?;
    Ok(master)
}

/// Memory of a thousand of each, then ten seconds with all of them in which nothing happens.
fn idle() -> Outcome {
    let mut table = Table::new("per idle worker");
    let empty = Memory::of_this_process()?;
    let threads = RawThreads::start()?;
    let with_threads = Memory::of_this_process()?;
    let modules = modules()?;
    for module in modules.configured_workers() {
        modules.wait_for(&module.id, WaitFor::Healthy, PATIENCE)?;
    }
    let with_modules = Memory::of_this_process()?;
    let processes = processes()?;
    let with_processes = Memory::of_this_process()?;

    let thread = with_threads.each_since(&empty);
    let module = with_modules.each_since(&with_threads);
    let process = with_processes.each_since(&with_modules);
    let mut row = |what, ours: &str, raw: &str, aim| {
        table.row([what, ours, "", raw, "", "", aim]);
    };
    row("module, private; raw: a parked thread", &module.private, &thread.private, "");
    row("module, resident", &module.resident, &thread.resident, "");
    row("process, private in the master; raw: none", &process.private, "0 KiB", "<= 16 KiB");
    row("process, resident in the master", &process.resident, "0 KiB", "");

    let before = wake_ups()?;
    #[expect(clippy::disallowed_methods, reason = "that time passes is what is measured")]
    thread::sleep(IDLE);
    let woken = wake_ups()? - before;
    row("wake-ups of all 2,000 in 10 s", &woken.to_string(), "0", "0");
    table.print();
    drop(threads);
    drop((modules, processes));
    Ok(())
}

/// A thousand processes, from nothing until all run, and from the order to stop until none is left.
fn up_and_down() -> Outcome {
    let (master, children) = (Cell::new(None), Cell::new(Vec::new()));
    let mut up = || {
        let begun = Instant::now();
        master.set(Some(processes()?));
        Ok(begun.elapsed())
    };
    let mut down = || {
        let master = master.take().ok_or("it is not up")?;
        let begun = Instant::now();
        master.shutdown()?;
        Ok(begun.elapsed())
    };
    let mut raw_up = || {
        let begun = Instant::now();
        children.set(raw_processes()?);
        Ok(begun.elapsed())
    };
    let mut raw_down = || {
        let begun = Instant::now();
        stop_raw(children.take())?;
        Ok(begun.elapsed())
    };
    let [up, down, raw_up, raw_down] =
        alternate(TURNS, [&mut up, &mut down, &mut raw_up, &mut raw_down])?;
    let mut table = Table::new("1,000 processes");
    table.times("up from nothing; raw: spawn", &up, &raw_up, "ratio 1.2");
    table.times("stopped; raw: SIGTERM, wait", &down, &raw_down, "ratio 1.5");
    table.print();
    Ok(())
}

/// A thousand processes without anybody who watches them.
fn raw_processes() -> Outcome<Vec<Child>> {
    let mut command = Command::new("/bin/sleep");
    command.arg("1000").process_group(0);
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    Ok((0..WORKERS).map(|_| command.spawn()).collect::<Result<_, _>>()?)
}

fn stop_raw(children: Vec<Child>) -> Outcome {
    for child in &children {
        bench_support::signal(child.id(), SIGTERM)?;
    }
    for mut child in children {
        child.wait()?;
    }
    Ok(())
}

/// A thousand threads that wait until this is dropped.
struct RawThreads {
    _held: Sender<()>,
}

impl RawThreads {
    fn start() -> Outcome<Self> {
        let (held, dropped) = bounded::<()>(0);
        let (runs, told) = bounded(WORKERS);
        for _ in 0..WORKERS {
            let (runs, dropped) = (runs.clone(), dropped.clone());
            Builder::new().stack_size(2 << 20).spawn(move || {
                let _ = runs.send(());
                let _ = dropped.recv();
            })?;
        }
        for _ in 0..WORKERS {
            told.recv()?;
        }
        Ok(Self { _held: held })
    }
}

/// Memory of a process, in KiB.
struct Memory {
    resident: usize,
    private: usize,
}

impl Memory {
    fn of_this_process() -> Outcome<Self> {
        let text = fs::read_to_string("/proc/self/smaps_rollup")?;
        let of = |name| number_after(&text, name).ok_or("smaps_rollup lacks a number");
        let private = of("Private_Clean:")? + of("Private_Dirty:")?;
        Ok(Self { resident: of("Rss:")?, private })
    }

    /// How much more each of a thousand workers made it.
    fn each_since(&self, before: &Self) -> Each {
        let each = |now: usize, before: usize| {
            format!("{:.1} KiB", (now as f64 - before as f64) / WORKERS as f64)
        };
        Each {
            private: each(self.private, before.private),
            resident: each(self.resident, before.resident),
        }
    }
}

/// The same for one worker, for people.
struct Each {
    private: String,
    resident: String,
}

/// How often all threads but this one have waited for something so far.
fn wake_ups() -> Outcome<usize> {
    let own = std::process::id().to_string();
    let mut sum = 0;
    for task in fs::read_dir("/proc/self/task")? {
        let task = task?;
        if task.file_name() == own.as_str() {
            continue;
        }
        let status = fs::read_to_string(task.path().join("status"))?;
        sum +=
            number_after(&status, "\nvoluntary_ctxt_switches:").ok_or("status lacks a number")?;
    }
    Ok(sum)
}

/// The number after a name in a file of the kernel's.
fn number_after(text: &str, name: &str) -> Option<usize> {
    let (_, rest) = text.split_once(name)?;
    rest.split_whitespace().next()?.parse().ok()
}
