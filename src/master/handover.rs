//! What a kept worker writes while its master ends, on a disk that does not answer.

use std::fs;
use std::path::Path;
use std::time::{Duration, Instant};

use crossbeam_channel::bounded;

use crate::master::Master;
use crate::settings::MasterConfig;
use crate::worker::{LogOverflow, LogsConfig, OnMasterExit, WorkerConfig, WorkerId};

/// Waits until something is so that nobody tells.
#[track_caller]
fn until(so: impl Fn() -> bool) {
    let (_silent, nothing) = bounded::<()>(0);
    let end = Instant::now() + Duration::from_secs(60);
    while !so() {
        assert!(Instant::now() < end, "it never came to that");
        let _ = nothing.recv_timeout(Duration::from_millis(5));
    }
}

fn master_in(directory: &Path) -> Master {
    let file = |name| directory.join(name).display().to_string();
    // It writes when it is asked to, and says that it has.
    let script = format!(
        "until [ -e {} ]; do sleep 0.01; done; echo late; : > {}; exec sleep 1000",
        file("asked"),
        file("said")
    );
    let worker = WorkerConfig::executable("w", "/bin/sh").args(["-c", &script]);
    let worker = worker.on_master_exit(OnMasterExit::Keep);
    let worker = worker.logs(LogsConfig::default().overflow(LogOverflow::Drop));
    let config = MasterConfig::new().state_dir(directory.join("state")).worker(worker);
    let config = config.log_dir(directory.join("logs"));
    Master::builder().config(config).build().unwrap()
}

#[test]
fn what_a_kept_worker_writes_while_the_logs_end_is_the_next_masters() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path();
    let master = master_in(path);
    let log = master.shared.logs.worker(&WorkerId::new("w").unwrap());
    let held = log.hold();
    master.start_worker("w").unwrap();
    // That it was started waits to be written.
    until(|| log.queue_now().0 > 0);
    master.shutdown_keeping().unwrap();
    until(|| log.rests());
    fs::write(path.join("asked"), "").unwrap();
    until(|| path.join("said").exists());
    drop(held);
    drop(master);
    assert_eq!(log.totals(), (0, 0));

    let next = master_in(path);
    let text = || fs::read_to_string(path.join("logs/w.log")).unwrap();
    until(|| text().ends_with(" o late\n"));
    assert_eq!(text().matches("late").count(), 1);
    next.shutdown().unwrap();
}
