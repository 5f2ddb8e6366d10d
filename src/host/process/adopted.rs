//! The monitor of a process that a former master has started: as that of any other, but for its
//! end, which is seen, while how it ended is not.

use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use super::Life;
use super::monitor::{Gone, LINGER, Outcome, STACK, exit_of, watch};
use super::output::Output;
use crate::host::reaper::Claim;
use crate::host::{sys, threads};
use crate::worker::Exit;

/// How long one that cannot be watched may take to be gone when it is killed.
const PATIENCE: Duration = Duration::from_secs(1);

/// Has a thread watch over a process until its end. One that cannot be watched is killed: nobody
/// would know when another one may be started.
pub(super) fn watch_over(life: Life, pid: u32, ended: io::Result<OwnedFd>) {
    let life = Arc::new(life);
    let gone = Gone::owed_by(&life);
    let fifos = life.means.estate.open_fifos(&life.worker);
    let ready = ended.and_then(|ended| Ok((ended, Output::of_fifos(&life, fifos)?)));
    let (ended, output) = match ready {
        Ok(ready) => ready,
        Err(error) => return give_up(&life, None, &error),
    };
    // Taken by the thread, if there is to be one.
    let adopted = Arc::new(Mutex::new(Some(Adopted { pid, ended, output, gone })));
    let take =
        |from: &Mutex<Option<Adopted>>| from.lock().unwrap_or_else(PoisonError::into_inner).take();
    let handed_over = Arc::clone(&adopted);
    let run = move || {
        if let Some(adopted) = take(&handed_over) {
            adopted.run();
        }
    };
    if let Err(error) = threads::spawn(&life.to_string(), STACK, run) {
        let adopted = take(&adopted);
        give_up(&life, adopted.as_ref().map(|adopted| &adopted.ended), &error);
    }
}

fn give_up(life: &Life, ended: Option<&OwnedFd>, error: &io::Error) {
    log::error!("{life}: cannot watch the process, so it is killed: {error}");
    life.gate.force();
    let _ = sys::wait_readable([ended.map(AsFd::as_fd)], Some(PATIENCE));
}

struct Adopted {
    pid: u32,
    /// Readable once the process has ended.
    ended: OwnedFd,
    output: Output,
    gone: Gone,
}

impl Adopted {
    fn run(self) {
        // Declared first, hence dropped last.
        let gone = self.gone;
        let Self { pid, ended, mut output, .. } = self;
        let life = Arc::clone(gone.life());
        let _hold = life.means.estate.hold();
        // It may be our child after all: then it is reaped here.
        let _claim = Claim::on(pid);
        life.means.estate.adopts(&life.worker);
        if watch(&life, &ended, &mut output, None) == Outcome::LeftBehind {
            output.let_go();
            return gone.untold();
        }
        // Should the watch have failed.
        while let Ok([false]) = sys::wait_readable([Some(ended.as_fd())], None) {}
        life.gate.bury();
        let exit = sys::reap_by(ended.as_fd()).map_or(Exit::Unknown, exit_of);
        output.drain();
        life.means.estate.died(&life.worker, pid, true);
        gone.told(exit);
        output.linger(life.plan.kill_group.then_some(LINGER));
    }
}
