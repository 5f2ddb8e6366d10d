//! Overload: a loop that is late, and processors that others are using, are no fault of a module's.

use std::process::{Child, Command, Stdio};

use hsu_master::crossbeam_channel::{Receiver, unbounded};
use hsu_master::{
    EventKind, HealthCheckConfig, HealthStatus, OnUnhealthy, WorkerConfig, WorkerState,
};

use super::{UP, bench, worker};
use crate::made::Made;
use crate::support::{Bench, PATIENCE, ms};

/// How long a module has for an answer that it gives at once.
const TIMEOUT: u64 = 2_000;

/// A worker whose first late answer would be its end, and word of each time that it was asked.
fn strict() -> (Bench, Receiver<()>) {
    let (tell, asked) = unbounded();
    let bench = bench(Made::new().health(move || {
        let _ = tell.send(());
        hsu_master::Health::healthy()
    }));
    let check = HealthCheckConfig::every(ms(5)).timeout(ms(TIMEOUT)).retries(1);
    bench.add(worker("w").health_check(check.on_unhealthy(OnUnhealthy::Restart)));
    bench.master.start_worker("w").unwrap();
    bench.sees("w", &UP);
    let (_, first) = bench.next_event("w");
    assert!(matches!(first, EventKind::Health { health: HealthStatus::Healthy, .. }), "{first:?}");
    (bench, asked)
}

/// Waits for so many more rounds; nothing but being well has come of them.
fn goes_on(bench: Bench, asked: &Receiver<()>, rounds: usize) {
    while asked.try_recv().is_ok() {}
    for round in 0..rounds {
        asked.recv_timeout(PATIENCE).unwrap_or_else(|_| panic!("not asked in round {round}"));
    }
    let known = bench.known("w");
    assert_eq!((known.state, known.health), (WorkerState::Running, HealthStatus::Healthy));
    assert_eq!((known.incarnation, known.last_error), (1, None));
    bench.finish();
}

#[test]
fn s30_a_loop_that_stood_still_blames_no_module_for_it() {
    let (bench, asked) = strict();
    bench.add(WorkerConfig::native("other", "sound"));
    let held = bench.hold("other", WorkerState::Running);
    let started = bench.master.start_worker_nowait("other");
    held.while_held(|| {
        // What was asked is answered, and its time is over before the loop hears of it.
        let (_silent, nothing) = unbounded::<()>();
        let _ = nothing.recv_timeout(ms(TIMEOUT + 500));
    });
    crate::support::answer(&started).unwrap();
    goes_on(bench, &asked, 20);
}

/// A process that does nothing but use a processor.
struct Burner(Child);

impl Burner {
    fn new() -> Self {
        let mut command = Command::new("/bin/sh");
        command.args(["-c", "while :; do :; done"]).stdin(Stdio::null());
        Self(command.spawn().unwrap())
    }
}

impl Drop for Burner {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[test]
fn s30_processors_that_others_use_make_no_module_unhealthy() {
    let (bench, asked) = strict();
    let processors = std::thread::available_parallelism().map_or(2, std::num::NonZero::get);
    let burners: Vec<_> = (0..2 * processors.min(4)).map(|_| Burner::new()).collect();
    // Starts have a timeout as well.
    for id in ["a", "b", "c"] {
        bench.add(WorkerConfig::native(id, "sound"));
        bench.master.start_worker(id).unwrap();
    }
    goes_on(bench, &asked, 100);
    drop(burners);
}
