//! Modules as threads of this process: what breaks in one stays in it, and what the master offers
//! to them works.

#![expect(clippy::unit_arg, reason = "a callback that is one call reads best on one line")]

mod callbacks;
mod faults;
mod floods;
mod functions;
mod health;
mod overload;
mod services;

use hsu_master::{Master, WorkerConfig};

use crate::made::Made;
use crate::support::{Bench, ms, quick};

/// The edges of a first start.
const UP: [&str; 4] = ["initializing", "initialized", "starting", "running"];

/// A bench whose master knows a sound module as `sound`, and `made` as `m`.
fn bench(made: Made) -> Bench {
    let builder = Master::builder().module("sound", Made::new().made());
    Bench::new(builder.module("m", made.made()))
}

/// A worker of the module `m` that is retried at once and whose patience is short.
fn worker(id: &str) -> WorkerConfig {
    let config = WorkerConfig::native(id, "m").restart(quick());
    let stop = config.stop.clone().timeout(ms(300));
    config.stop(stop)
}

/// Adds and starts a worker that has nothing to do with what goes wrong elsewhere.
fn add_neighbour(bench: &Bench) {
    bench.add(WorkerConfig::native("neighbour", "sound"));
    bench.master.start_worker("neighbour").unwrap();
    bench.sees("neighbour", &UP);
}

/// The neighbour lives its first life still, and the loop answers.
fn neighbour_is_well(bench: &Bench) {
    assert_eq!(bench.known("neighbour").incarnation, 1);
    assert_eq!(bench.master.start_worker("neighbour").unwrap(), 1);
}
