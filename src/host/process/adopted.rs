//! The monitor of a process that a former master has started: as that of any other, but for its
//! end, which is seen, while how it ended is not.

use std::fmt::Display;
use std::os::fd::AsFd;
use std::sync::{Arc, Mutex, PoisonError};

use super::Life;
use super::monitor::{Gone, LINGER, Outcome, STACK, exit_of, watch};
use super::output::Output;
use crate::error::{ErrorCategory, Failure};
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
        kill(&life, &error);
        // Told only now: what is to follow it needs a thread, too.
        if let Some(Adopted { gone, .. }) = take(&adopted) {
            let message = format!("cannot start a thread to watch the process: {error}");
            gone.told(Exit::Failed(Failure::new(ErrorCategory::ResourceLimit, message)));
        }
    }
}

fn kill(life: &Life, error: &dyn Display) {
    // First: the logger is the program's, and may panic.
    life.gate.force();
    log::error!("{life}: cannot watch the process, so it is killed: {error}");
}

struct Adopted {
    process: Arc<Attached>,
    gone: Gone,
}

/// Should anything panic beside the watch, the process ends before it is told to be gone: nothing
/// is ever started beside it.
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
        let mut gone = self.gone;
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
        let watched = threads::twice(&life, || {
            threads::fail_point("adopted");
            let mut output = output_of(&life);
            (watch(&life, process.as_fd(), &mut output, None), output)
        });
        let (mut output, fault) = match watched {
            Ok((Outcome::LeftBehind, output)) => {
                output.let_go();
                return gone.untold();
            }
            Ok((Outcome::Ended, output)) => (output, None),
            // For no fault of ours it is to end, nor to be without anybody who watches it: another
            // master will.
            Err(fault) if keeps => {
                threads::escalate(&fault);
                return gone.untold();
            }
            Err(fault) => {
                kill(&life, &fault);
                (output_of(&life), Some(fault))
            }
        };
        // Should the watch have failed.
        while let Ok([false]) = sys::wait_readable([Some(process.as_fd())], None) {}
        life.gate.bury();
        let exit = sys::reap_by(process.as_fd()).map_or(Exit::Unknown, exit_of);
        let exit = fault.map_or(exit, Exit::Failed);
        gone.is_to_tell(&exit);
        output.drain();
        life.means.estate.died(&life.worker, process.pid());
        life.means.estate.read_out(&life.worker);
        gone.told(exit);
        output.linger(life.plan.kill_group.then_some(LINGER));
    }
}

/// What it writes. Without that to be read it is killed.
fn output_of(life: &Arc<Life>) -> Output {
    let fifos = life.means.estate.open_fifos(&life.worker);
    Output::of_fifos(life, fifos).unwrap_or_else(|error| {
        kill(life, &error);
        Output::none(life)
    })
}
