//! The event loop dies of a fault of the program's own: what is to outlive it does, nothing else.

use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};

use hsu_master::{ErrorCategory, Master, MasterConfig, OnMasterExit, WorkerConfig, WorkerState};

use crate::support::{Site, lives};

/// Set in the process whose loop dies: the state directory.
const DIRECTORY: &str = "HSU_TEST_DYING";

fn configuration(state: PathBuf) -> MasterConfig {
    let nap = |id: &str| WorkerConfig::executable(id, "/bin/sleep").args(["1000"]);
    MasterConfig::new()
        .state_dir(state)
        .worker(nap("kept").on_master_exit(OnMasterExit::Keep))
        .worker(nap("not"))
        .worker(nap("fatal").enabled(false))
}

/// A logger that panics once, on the thread of the loop, when the last worker runs.
struct Fatal(AtomicBool);

impl log::Log for Fatal {
    fn enabled(&self, _: &log::Metadata<'_>) -> bool {
        true
    }

    fn log(&self, record: &log::Record<'_>) {
        let text = record.args().to_string();
        if text.contains("fatal#1 is running") && !self.0.swap(true, Ordering::SeqCst) {
            panic!("told to");
        }
    }

    fn flush(&self) {}
}

/// Not a test of its own: it is run as a master whose loop dies.
#[test]
fn a_master_whose_loop_dies() {
    let Some(state) = std::env::var_os(DIRECTORY) else { return };
    log::set_boxed_logger(Box::new(Fatal(AtomicBool::new(false)))).unwrap();
    log::set_max_level(log::LevelFilter::Info);
    let master = Master::builder().config(configuration(state.into())).build().unwrap();
    master.start_all().unwrap();
    let pid = |worker| master.worker_diagnostics(worker).unwrap().pid.unwrap();
    println!("pids {} {}", pid("kept"), pid("not"));
    let _ = master.start_worker("fatal");
    let error = master.wait().unwrap_err();
    assert_eq!(error.category(), ErrorCategory::Internal);
    assert!(master.start_worker("kept").is_err() && master.shutdown().is_err());
    drop(master);
    // As an App does.
    std::process::exit(70);
}

#[test]
fn s16_a_loop_that_dies_kills_what_is_to_stop_and_leaves_what_is_to_be_kept() {
    let site = Site::new("workers: []\n");
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.args(["--exact", "dying::a_master_whose_loop_dies", "--nocapture"]);
    command.env(DIRECTORY, site.state()).env("HSU_STATE_DIR", site.state());
    let output = command.stdin(Stdio::null()).output().unwrap();
    let said = String::from_utf8_lossy(&output.stdout);
    assert_eq!(output.status.code(), Some(70), "{said}");
    let line = said.lines().find_map(|line| line.split_once("pids ")).unwrap().1;
    let pids: Vec<u32> = line.split(' ').map(|pid| pid.parse().unwrap()).collect();
    assert!(lives(pids[0]) && !lives(pids[1]), "{said}");
    let master = Master::builder().config(configuration(site.state())).build().unwrap();
    let known = master.worker_diagnostics("kept").unwrap();
    assert_eq!((known.state, known.pid), (WorkerState::Running, Some(pids[0])));
    // And the fatal worker's process was ended with the loop that had started it.
    master.start_all().unwrap();
    master.shutdown().unwrap();
    assert!(!lives(pids[0]));
    assert_eq!(site.all().len(), 0);
}
