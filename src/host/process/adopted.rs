//! The monitor of a process that a former master has started: as that of any other, but for its
//! end, which is seen, while how it ended is not.

use std::io;
use std::os::fd::AsFd;
use std::sync::{Arc, Mutex, PoisonError};

use super::Life;
use super::monitor::{Gone, LINGER, Outcome, STACK, exit_of, watch};
use super::output::Output;
use crate::host::attached::Attached;
use crate::host::reaper::Claim;
use crate::host::{sys, threads};
use crate::worker::Exit;

/// Has a thread watch over a process until its end. One that cannot be watched is killed: nobody
/// would know when another one may be started. Never blocks.
pub(super) fn watch_over(life: Life, process: Arc<Attached>) {
    let life = Arc::new(life);
    let gone = Gone::owed_by(&life);
    // Taken by the thread, if there is to be one.
    let adopted = Arc::new(Mutex::new(Some(Adopted { process, gone })));
    let take =
        |from: &Mutex<Option<Adopted>>| from.lock().unwrap_or_else(PoisonError::into_inner).take();
    let handed_over = Arc::clone(&adopted);
    let run = move || {
        if let Some(adopted) = take(&handed_over) {
            adopted.run();
        }
    };
    if let Err(error) = threads::spawn(&life.to_string(), STACK, run) {
        // That it is gone is told once it is killed: what is to follow it needs a thread, too.
        let _untold = take(&adopted);
        kill(&life, &error);
    }
}

fn kill(life: &Life, error: &io::Error) {
    log::error!("{life}: cannot watch the process, so it is killed: {error}");
    life.gate.force();
}

struct Adopted {
    process: Arc<Attached>,
    gone: Gone,
}

/// Should the watch panic, the process ends before it is told to be gone: nothing is ever started
/// beside it.
struct Sentinel<'a> {
    life: &'a Life,
    process: &'a Attached,
}

impl Drop for Sentinel<'_> {
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.life.gate.force();
            self.process.wait(None);
        }
    }
}

impl Adopted {
    fn run(self) {
        // Declared first, hence dropped last.
        let gone = self.gone;
        let process = self.process;
        let life = Arc::clone(gone.life());
        // One that is only to end is neither held on to nor spared.
        let keeps = life.plan.afterwards.keep;
        let _hold = keeps.then(|| life.means.estate.hold());
        let _sentinel = Sentinel { life: &life, process: &process };
        // It may be our child after all: then it is reaped here.
        let _claim = Claim::on(process.pid());
        if keeps {
            life.means.estate.adopts(&life.worker);
        }
        let fifos = life.means.estate.open_fifos(&life.worker);
        let mut output = Output::of_fifos(&life, fifos).unwrap_or_else(|error| {
            kill(&life, &error);
            Output::none(&life)
        });
        if watch(&life, process.as_fd(), &mut output, None) == Outcome::LeftBehind {
            output.let_go();
            return gone.untold();
        }
        // Should the watch have failed.
        while let Ok([false]) = sys::wait_readable([Some(process.as_fd())], None) {}
        life.gate.bury();
        let exit = sys::reap_by(process.as_fd()).map_or(Exit::Unknown, exit_of);
        output.drain();
        life.means.estate.died(&life.worker, process.pid());
        life.means.estate.read_out(&life.worker);
        gone.told(exit);
        output.linger(life.plan.kill_group.then_some(LINGER));
    }
}
