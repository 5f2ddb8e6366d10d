//! Overload: a loop that is late, and processors that others are using, are no fault of a module's.

use std::io::Write;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

use hsu_master::crossbeam_channel::{Receiver, unbounded};
use hsu_master::{
    EventKind, HealthCheckConfig, HealthStatus, OnUnhealthy, WorkerConfig, WorkerState,
};

use super::{UP, bench, worker};
use crate::alone;
use crate::made::Made;
use crate::support::{Bench, PATIENCE, ms, skipped};

/// How long a module has for an answer that it gives at once.
const TIMEOUT: u64 = 2_000;

/// A worker whose first late answer would be its end, and word of each time that it was asked.
fn strict() -> (Bench, Receiver<()>) {
    strict_with(|| {})
}

/// The same, where this comes before each answer.
fn strict_with(before: impl Fn() + Send + Sync + 'static) -> (Bench, Receiver<()>) {
    let (tell, asked) = unbounded();
    let bench = bench(Made::new().health(move || {
        before();
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
        pause(TIMEOUT + 500);
    });
    crate::support::answer(&started).unwrap();
    goes_on(bench, &asked, 20);
}

/// A process that does nothing but use a processor.
struct Burner(Child);

impl Burner {
    /// Goes before all others here, where it may.
    fn new() -> Self {
        let mut command = Command::new("nice");
        command.args(["-n", "-5", "/bin/sh", "-c", "while :; do :; done"]).stdin(Stdio::null());
        Self(command.stderr(Stdio::null()).spawn().unwrap())
    }

    /// False once it is clear that it may not.
    fn goes_before(&self) -> bool {
        let stat = std::fs::read_to_string(format!("/proc/{}/stat", self.0.id())).unwrap();
        // The nineteenth field; the second is the name.
        let mut fields = stat.rsplit(')').next().unwrap().split_ascii_whitespace();
        fields.nth(16).and_then(|nice| nice.parse::<i32>().ok()).is_some_and(|nice| nice < 0)
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
    goes_on(bench, &asked, 40);
    if !burners[0].goes_before() {
        skipped("processes that go before the master: it takes root, so they had equal shares");
    }
    drop(burners);
}

/// Waits for so long.
fn pause(millis: u64) {
    let (_silent, nothing) = unbounded::<()>();
    let _ = nothing.recv_timeout(ms(millis));
}

#[test]
fn s30_a_master_that_is_kept_from_running_blames_no_module_for_it() {
    if !alone::here(&[], s30_a_master_that_is_kept_from_running_blames_no_module_for_it) {
        return;
    }
    // Nothing of this process gets a processor for twice as long as an answer may take.
    let script = format!(
        "read x; kill -STOP {0}; sleep {1}; kill -CONT {0}",
        std::process::id(),
        2 * TIMEOUT / 1_000
    );
    let mut keeper = Command::new("/bin/sh");
    keeper.args(["-c", &script]).stdin(Stdio::piped());
    let mut keeper = keeper.spawn().unwrap();
    let mut keep = keeper.stdin.take();
    let is_armed = Arc::new(AtomicBool::new(false));
    let (tell, told) = unbounded();
    let arm = Arc::clone(&is_armed);
    // The answer that it is kept from comes a moment after the time for it was over.
    let (bench, asked) = strict_with(move || {
        if arm.swap(false, Ordering::SeqCst) {
            let _ = tell.send(());
            let mut was_kept = false;
            while !was_kept {
                let before = Instant::now();
                pause(20);
                was_kept = before.elapsed() > ms(TIMEOUT);
            }
            pause(100);
        }
    });
    is_armed.store(true, Ordering::SeqCst);
    told.recv_timeout(PATIENCE).unwrap();
    keep.take().unwrap().write_all(b"go\n").unwrap();
    goes_on(bench, &asked, 20);
    assert!(keeper.wait().unwrap().success());
}
