//! What one more idle worker takes of the heap, byte by byte. The benchmark `thousand` measures the
//! pages, stacks included; what is counted here depends neither on the machine nor on its load.
#![cfg(target_os = "linux")]
#![expect(unsafe_code, reason = "there are no safe allocators")]
#![expect(clippy::unwrap_used, reason = "helpers of tests are tests")]

use std::alloc::{GlobalAlloc, Layout, System};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use hsu_master::{
    HealthCheckConfig, Master, MasterConfig, ModuleContext, ModuleInfo, ModuleResult, WaitFor,
    WorkerConfig, WorkerModule,
};

/// The system's allocator, and how many bytes it has given away and not got back.
struct Counted;

static TAKEN: AtomicUsize = AtomicUsize::new(0);

#[global_allocator]
static ALLOCATOR: Counted = Counted;

// SAFETY: all is handed on as it came.
unsafe impl GlobalAlloc for Counted {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        TAKEN.fetch_add(layout.size(), Ordering::Relaxed);
        // SAFETY: the caller keeps to the same contract.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        TAKEN.fetch_sub(layout.size(), Ordering::Relaxed);
        // SAFETY: as above.
        unsafe { System.dealloc(pointer, layout) }
    }
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

/// How many bytes each of many workers adds that run and have nothing to do.
fn each(worker: impl Fn(String) -> WorkerConfig, idle: WaitFor) -> usize {
    let taken = |count: usize| {
        let before = TAKEN.load(Ordering::Relaxed);
        let ids: Vec<_> = (0..count).map(|n| format!("w-{n}")).collect();
        let workers = ids.iter().map(|id| worker(id.clone()));
        let config = workers.fold(MasterConfig::new(), MasterConfig::worker);
        let builder = Master::builder().module("idle", || Idle).output(|_| {});
        let master = builder.config(config).build().unwrap();
        // One after another: what a start takes for a while is not what is counted.
        for id in &ids {
            master.start_worker(id).unwrap();
            master.wait_for(id, idle, Duration::from_secs(30)).unwrap();
        }
        TAKEN.load(Ordering::Relaxed) - before
    };
    let (few, many) = (20, 220);
    // The first master of a process takes what all share.
    taken(few);
    let few_take = taken(few);
    (taken(many) - few_take) / (many - few)
}

// Two tests would count each other's workers.
#[test]
fn an_idle_worker_takes_a_few_kilobytes() {
    let hour = Duration::from_secs(3600);
    let hourly = HealthCheckConfig::every(hour).timeout(hour);
    let module = |id| WorkerConfig::native(id, "idle").health_check(hourly.clone());
    let module = each(module, WaitFor::Healthy);
    let process = |id| WorkerConfig::executable(id, "/bin/sleep").args(["1000"]);
    let process = each(process, WaitFor::Running);
    let taken = format!("a module takes {module} bytes, a process {process}");
    assert!((1_000..6_300).contains(&module), "{taken}");
    assert!((1_000..5_500).contains(&process), "{taken}");
}
