//! An event loop that stands still: whoever connects is told so, and at what it stands.

use hsu_master::WorkerState;
use hsu_master::control::{Client, Hello};

use super::{Operated, sleeper};
use crate::support::until;

#[test]
fn s18_a_loop_that_stands_still_is_told_of_with_what_it_is_at() {
    let operated = Operated::new();
    operated.bench.add(sleeper("nap"));
    let hello = || -> Hello { Client::connect(operated.socket()).unwrap().hello().clone() };
    assert_eq!((hello().loop_stalled_ms, hello().loop_stalled_at), (None, None));
    let held = operated.bench.hold("nap", WorkerState::Running);
    let started = operated.bench.master.start_worker_nowait("nap");
    held.while_held(|| {
        until(|| hello().loop_stalled_ms.is_some());
        let stalled = hello();
        assert!(stalled.loop_stalled_ms.unwrap() >= 1_000, "{stalled:?}");
        assert_eq!(stalled.loop_stalled_at.unwrap(), "telling the state of nap");
        // As people are told.
        let mut command = std::process::Command::new(env!("CARGO_BIN_EXE_hsu-master"));
        let status = command.arg("status").arg("--socket").arg(operated.socket()).output().unwrap();
        let said = String::from_utf8_lossy(&status.stderr);
        assert!(said.contains("has not come round for") && said.contains("state of nap"), "{said}");
        assert!(String::from_utf8_lossy(&status.stdout).contains("running"), "{status:?}");
    });
    crate::support::answer(&started).unwrap();
    until(|| hello().loop_stalled_ms.is_none());
    operated.bench.finish();
}
