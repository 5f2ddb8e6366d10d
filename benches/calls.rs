//! What a function call costs beside a direct call of the same closure.

mod common;

use std::hint::black_box;
use std::sync::Arc;
use std::time::{Duration, Instant};

use common::{Outcome, Table, alternate, asked_for};
use hsu_master::{Master, ModuleContext, ModuleInfo, ModuleResult, WorkerConfig, WorkerModule};

/// Turns of each contestant, and calls in each turn.
const TURNS: usize = 200;
const CALLS: u32 = 10_000;

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
    if !asked_for() {
        return Ok(());
    }
    let mut table = Table::new("a function call");
    in_process(&mut table, "that returns nothing", Arc::new(|_| Ok(Vec::new())))?;
    in_process(&mut table, "that returns 64 bytes", Arc::new(|payload| Ok(payload.to_vec())))?;
    table.print();
    Ok(())
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
