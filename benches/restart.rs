//! How fast a worker runs: modules beside a raw thread, processes beside a raw loop of kill, wait
//! and spawn.

mod common;

use std::os::unix::process::CommandExt;
use std::panic::resume_unwind;
use std::process::{Child, Command, Stdio};
use std::thread::{self, Builder, JoinHandle};
use std::time::{Duration, Instant};

use common::{Outcome, Table, alternate, asked_for};
use hsu_master::crossbeam_channel::{Receiver, Sender, bounded, select, unbounded};
use hsu_master::{
    Event, EventKind, HealthCheckConfig, Master, ModuleContext, ModuleInfo, ModuleRegistry,
    ModuleResult, RestartConfig, WorkerConfig, WorkerModule, WorkerState, bench_support,
    host_if_requested,
};

/// Turns of each contestant.
const TURNS: usize = 1000;
/// Nothing that is waited for takes this long.
const PATIENCE: Duration = Duration::from_secs(30);

fn main() -> Outcome {
    // This program is the launcher of its own workers too.
    host_if_requested(&ModuleRegistry::new());
    if !asked_for() {
        return Ok(());
    }
    // What the panics below would print takes longer than what is measured.
    std::panic::set_hook(Box::new(|_| {}));
    let mut table = Table::new("until it runs");
    module_start(&mut table)?;
    module_restart(&mut table)?;
    module_panic(&mut table)?;
    process_crash(&mut table)?;
    process_staged(&mut table)?;
    table.print();
    Ok(())
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

/// A module with a thread that panics when it is told to.
struct Panicking {
    told: Receiver<()>,
}

impl WorkerModule for Panicking {
    fn start(&mut self, ctx: &ModuleContext) -> ModuleResult {
        let told = self.told.clone();
        ctx.spawn("fuse", move |ctx| {
            select! {
                recv(told) -> _ => panic!("told to"),
                recv(ctx.stop_token().receiver()) -> _ => Ok(()),
            }
        })?;
        Ok(())
    }

    fn info(&self) -> ModuleInfo {
        ModuleInfo::new("panicking", "1.0.0")
    }
}

/// What a module is at the least: a thread that says that it runs and then waits.
struct RawThread {
    thread: JoinHandle<()>,
    fate: Sender<Fate>,
}

enum Fate {
    Return,
    Panic,
}

impl RawThread {
    fn start() -> Outcome<Self> {
        let (runs, told) = bounded(1);
        let (fate, wait) = bounded(1);
        let thread = Builder::new().stack_size(2 << 20).spawn(move || {
            let _ = runs.send(());
            if let Ok(Fate::Panic) = wait.recv() {
                // Without the hook, which would print it.
                resume_unwind(Box::new("told to"));
            }
        })?;
        told.recv()?;
        Ok(Self { thread, fate })
    }

    fn end(self, fate: Fate) -> Outcome {
        self.fate.send(fate)?;
        // A panic is what was asked for.
        let _ = self.thread.join();
        Ok(())
    }
}

/// A worker that is restarted at once, however often, and whose checks do not disturb.
fn prepared(worker: WorkerConfig) -> WorkerConfig {
    let at_once = RestartConfig::default().max_retries(0).retry_delay(Duration::ZERO);
    worker.restart(at_once)
}

fn module(name: &str) -> WorkerConfig {
    let hourly = HealthCheckConfig::every(Duration::from_secs(3600));
    prepared(WorkerConfig::native("m", name)).health_check(hourly)
}

/// From the command to running.
fn module_start(table: &mut Table) -> Outcome {
    let master = Master::builder().module("idle", || Idle).build()?;
    master.add_worker(module("idle"))?;
    let mut ours = || {
        let begun = Instant::now();
        master.start_worker("m")?;
        let took = begun.elapsed();
        master.stop_worker("m")?;
        Ok(took)
    };
    let mut raw = || {
        let begun = Instant::now();
        let thread = RawThread::start()?;
        let took = begun.elapsed();
        thread.end(Fate::Return)?;
        Ok(took)
    };
    let [ours, raw] = alternate(TURNS, [&mut ours, &mut raw])?;
    table.times("module, from start; raw: a thread", &ours, &raw, "");
    Ok(())
}

/// From the command to the next incarnation's running.
fn module_restart(table: &mut Table) -> Outcome {
    let master = Master::builder().module("idle", || Idle).build()?;
    master.add_worker(module("idle"))?;
    master.start_worker("m")?;
    let mut ours = || {
        let begun = Instant::now();
        master.restart_worker("m", false)?;
        Ok(begun.elapsed())
    };
    let mut raw = raw_restart(|| Fate::Return)?;
    let [ours, raw] = alternate(TURNS, [&mut ours, &mut raw])?;
    table.times("module, from restart; raw: join, thread", &ours, &raw, "< 100 µs");
    Ok(())
}

/// From what makes a thread of the module panic to the next incarnation's running.
fn module_panic(table: &mut Table) -> Outcome {
    let (tell, told) = unbounded();
    let panicking = move || Panicking { told: told.clone() };
    let master = Master::builder().module("panicking", panicking).build()?;
    master.add_worker(module("panicking"))?;
    let events = master.subscribe();
    master.start_worker("m")?;
    next_running(&events)?;
    let mut ours = || {
        let begun = Instant::now();
        tell.send(())?;
        next_running(&events)?;
        Ok(begun.elapsed())
    };
    let mut raw = raw_restart(|| Fate::Panic)?;
    let [ours, raw] = alternate(TURNS, [&mut ours, &mut raw])?;
    table.times("module, from panic; raw: join, thread", &ours, &raw, "< 100 µs");
    Ok(())
}

/// Ends a thread, joins it and starts the next, again and again.
fn raw_restart(fate: fn() -> Fate) -> Outcome<impl FnMut() -> Outcome<Duration>> {
    let mut thread = Some(RawThread::start()?);
    Ok(move || {
        let begun = Instant::now();
        if let Some(thread) = thread.take() {
            thread.end(fate())?;
        }
        thread = Some(RawThread::start()?);
        Ok(begun.elapsed())
    })
}

/// From SIGKILL to the next incarnation's running.
fn process_crash(table: &mut Table) -> Outcome {
    // Its output is captured, as it always is.
    let master = Master::builder().output(|_| {}).build()?;
    let sleeper = WorkerConfig::executable("p", "/bin/sleep").args(["1000"]);
    master.add_worker(prepared(sleeper))?;
    let events = master.subscribe();
    master.start_worker("p")?;
    next_running(&events)?;
    let mut ours = || {
        let pid = master.worker_diagnostics("p")?.pid.ok_or("it has no pid")?;
        settle();
        let begun = Instant::now();
        bench_support::signal(pid, SIGKILL)?;
        next_running(&events)?;
        Ok(begun.elapsed())
    };
    let mut bare = RawProcess::start(Stdio::null)?;
    let mut piped = RawProcess::start(Stdio::piped)?;
    let (mut raw_bare, mut raw_piped) = (|| bare.restart(), || piped.restart());
    let [ours, raw_bare, raw_piped] = alternate(TURNS, [&mut ours, &mut raw_bare, &mut raw_piped])?;
    table.times("process, from SIGKILL; raw: kill, wait, spawn", &ours, &raw_bare, "ratio 1.3");
    table.times("  raw with pipes for its output", &ours, &raw_piped, "");
    bare.end()?;
    piped.end()
}

/// From the command to running: with a setting that takes the launcher, and without.
fn process_staged(table: &mut Table) -> Outcome {
    let master = Master::builder().output(|_| {}).build()?;
    let sleeper = |id: &str| prepared(WorkerConfig::executable(id, "/bin/sleep").args(["1000"]));
    master.add_worker(sleeper("direct"))?;
    master.add_worker(sleeper("staged").execution(|execution| execution.umask = Some(0o22)))?;
    let start = |id: &str| {
        settle();
        let begun = Instant::now();
        master.start_worker(id)?;
        let took = begun.elapsed();
        master.stop_worker(id)?;
        Ok(took)
    };
    let (mut staged, mut direct) = (|| start("staged"), || start("direct"));
    let [staged, direct] = alternate(TURNS, [&mut staged, &mut direct])?;
    table.times("process, from start through the launcher; raw: without it", &staged, &direct, "");
    Ok(())
}

const SIGKILL: i32 = 9;

/// A process that is killed, waited for and spawned again, and nothing else.
struct RawProcess {
    command: Command,
    child: Child,
}

impl RawProcess {
    fn start(output: fn() -> Stdio) -> Outcome<Self> {
        let mut command = Command::new("/bin/sleep");
        command.arg("1000").process_group(0);
        command.stdin(Stdio::null()).stdout(output()).stderr(output());
        let child = command.spawn()?;
        Ok(Self { command, child })
    }

    fn restart(&mut self) -> Outcome<Duration> {
        settle();
        let begun = Instant::now();
        self.end()?;
        self.child = self.command.spawn()?;
        Ok(begun.elapsed())
    }

    fn end(&mut self) -> Outcome {
        self.child.kill()?;
        self.child.wait()?;
        Ok(())
    }
}

/// Lets the program of the turn before finish its loading, or this turn would pay for it.
fn settle() {
    #[expect(clippy::disallowed_methods, reason = "nothing tells when a program has loaded")]
    thread::sleep(Duration::from_millis(3));
}

/// Waits for the event that the worker runs.
fn next_running(events: &Receiver<Event>) -> Outcome {
    loop {
        let event = events.recv_timeout(PATIENCE)?;
        if let EventKind::State { to: WorkerState::Running, .. } = event.kind {
            return Ok(());
        }
    }
}
