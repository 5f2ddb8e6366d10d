//! A program of your own that supervises a thread and a process with the same calls.
#![expect(clippy::print_stdout, reason = "it shows what it does")]

use std::time::Duration;

use hsu_master::{Master, ModuleContext, ModuleInfo, ModuleResult, WorkerConfig, WorkerModule};

struct Ticker;

impl WorkerModule for Ticker {
    fn start(&mut self, ctx: &ModuleContext) -> ModuleResult {
        ctx.spawn("ticks", |ctx| {
            ctx.stop_token().every(Duration::from_millis(200)).for_each(|n| println!("tick {n}"));
            Ok(())
        })?;
        Ok(())
    }

    fn info(&self) -> ModuleInfo {
        ModuleInfo::new("ticker", "1.0.0")
    }
}

fn main() -> hsu_master::Result {
    let master = Master::builder().module("ticker", || Ticker).build()?;
    master.add_worker(WorkerConfig::native("thread", "ticker"))?;
    master.add_worker(WorkerConfig::executable("process", "sleep").args(["60"]))?;
    master.start_all()?;
    for worker in master.all_worker_diagnostics() {
        println!("{} is a {} and {}", worker.id, worker.worker_type, worker.state);
    }
    // A program of your own would do its work here.
    master.wait_timeout(Duration::from_secs(1))?;
    let report = master.shutdown()?;
    println!("had to be killed: {:?}", report.killed);
    Ok(())
}
