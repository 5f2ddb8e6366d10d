//! What a function call costs: in this process beside a direct call of the same closure, in another
//! process beside a bare round trip over a socket pair.

mod common;

use std::collections::VecDeque;
use std::hint::black_box;
use std::io::{Read, Write};
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::process::Command;
use std::sync::Arc;
use std::time::{Duration, Instant};

use common::{Outcome, Table, alternate, asked_for};
use hsu_master::{
    Master, ModuleContext, ModuleInfo, ModuleRegistry, ModuleResult, WorkerConfig, WorkerModule,
    WorkerType,
};

/// Turns of each contestant, and calls in each turn.
const TURNS: usize = 200;
const CALLS: u32 = 10_000;
/// The same for calls to another process.
const FAR_CALLS: u32 = 500;
/// How many calls are on their way at a time, where it is many.
const IN_FLIGHT: usize = 64;
/// The first argument of the process that gives back what it reads.
const ECHO: &str = "echo";

/// What is called.
type Target = Arc<dyn Fn(&[u8]) -> ModuleResult<Vec<u8>> + Send + Sync>;

/// A module that exports one function.
struct Exporting(Target);

impl WorkerModule for Exporting {
    fn start(&mut self, ctx: &ModuleContext) -> ModuleResult {
        let target = Arc::clone(&self.0);
        ctx.export("f", move |payload| target(payload))?;
        Ok(())
    }

    fn info(&self) -> ModuleInfo {
        ModuleInfo::new("exporting", "1.0.0")
    }
}

fn main() -> Outcome {
    let modules = ModuleRegistry::new()
        .module("m", || Exporting(Arc::new(|payload: &[u8]| Ok(payload.to_vec()))));
    hsu_master::host_if_requested(&modules);
    if std::env::args().nth(1).as_deref() == Some(ECHO) {
        return echo();
    }
    if !asked_for() {
        return Ok(());
    }
    let mut table = Table::new("a function call");
    in_process(&mut table, "that returns nothing", Arc::new(|_| Ok(Vec::new())))?;
    in_process(&mut table, "that returns 64 bytes", Arc::new(|payload| Ok(payload.to_vec())))?;
    hosted(&mut table, &modules)?;
    table.print();
    Ok(())
}

/// Gives back what comes on standard input, which is a socket.
fn echo() -> Outcome {
    let stdin = std::os::fd::AsFd::as_fd(&std::io::stdin()).try_clone_to_owned()?;
    let mut socket = UnixStream::from(stdin);
    let mut bytes = [0; 64];
    while let Ok(()) = socket.read_exact(&mut bytes) {
        socket.write_all(&bytes)?;
    }
    Ok(())
}

/// A module in a process of its own.
fn hosted(table: &mut Table, modules: &ModuleRegistry) -> Outcome {
    let (mut ours, theirs) = UnixStream::pair()?;
    let mut command = Command::new(std::env::current_exe()?);
    let mut echo = command.arg(ECHO).stdin(OwnedFd::from(theirs)).spawn()?;
    drop(command);
    let master = Master::builder().registry(modules).build()?;
    master.add_worker(WorkerConfig::native("m", "m").worker_type(WorkerType::Process))?;
    master.start_worker("m")?;
    let function = master.function("m", "f");
    let payload = [7; 64];
    let mut one = || {
        far(|| {
            black_box(function.call_bytes(&payload)?);
            Ok(())
        })
    };
    let mut raw = || {
        far(|| {
            ours.write_all(&payload)?;
            Ok(ours.read_exact(&mut [0; 64])?)
        })
    };
    let mut many = || {
        let mut open = VecDeque::new();
        let spent = far(|| {
            open.push_back(function.call_bytes_nowait(payload));
            if open.len() == IN_FLIGHT
                && let Some(ticket) = open.pop_front()
            {
                ticket.wait()?;
            }
            Ok(())
        })?;
        open.into_iter().try_for_each(|ticket| ticket.wait().map(drop))?;
        Ok(spent)
    };
    let [one, raw, many] = alternate(TURNS, [&mut one, &mut raw, &mut many])?;
    table.times("to another process, one at a time", &one, &raw, "2.5 times");
    let rate = 1.0 / many.median().as_secs_f64();
    table.times(
        &format!("to another process, {IN_FLIGHT} on their way: {rate:.0} calls/s"),
        &many,
        &raw,
        "100,000 calls/s",
    );
    master.shutdown()?;
    drop(ours);
    echo.wait()?;
    Ok(())
}

/// How long one call to another process takes, on average over many.
fn far(mut call: impl FnMut() -> Outcome) -> Outcome<Duration> {
    let begun = Instant::now();
    for _ in 0..FAR_CALLS {
        call()?;
    }
    Ok(begun.elapsed() / FAR_CALLS)
}

/// A module in the same process.
fn in_process(table: &mut Table, what: &str, target: Target) -> Outcome {
    let factory = {
        let target = Arc::clone(&target);
        move || Exporting(Arc::clone(&target))
    };
    let master = Master::builder().module("m", factory).build()?;
    master.add_worker(WorkerConfig::native("m", "m"))?;
    master.start_worker("m")?;
    let function = master.function("m", "f");
    let payload = [7; 64];
    let mut ours = || {
        each(|| {
            black_box(function.call_bytes(black_box(&payload))?);
            Ok(())
        })
    };
    let mut direct = || {
        each(|| {
            black_box(black_box(&target)(black_box(&payload)))
                .map_err(|error| error.to_string())?;
            Ok(())
        })
    };
    let mut by_name = || {
        each(|| {
            black_box(master.call("m", "f", black_box(&payload))?);
            Ok(())
        })
    };
    let [ours, direct, by_name] = alternate(TURNS, [&mut ours, &mut direct, &mut by_name])?;
    table.times(&format!("in-process, {what}"), &ours, &direct, "200 ns, 3 times");
    table.times(&format!("the same by name, {what}"), &by_name, &direct, "none");
    master.shutdown()?;
    Ok(())
}

/// How long one call takes, on average over many.
fn each(mut call: impl FnMut() -> Outcome) -> Outcome<Duration> {
    let begun = Instant::now();
    for _ in 0..CALLS {
        call()?;
    }
    Ok(begun.elapsed() / CALLS)
}
