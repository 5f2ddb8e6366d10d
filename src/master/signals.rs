//! The operating system's signals as commands: one thread, woken only when one comes.

use crate::core::event::Command;
use crate::error::{Error, Result};
use crate::host::{sys, threads};
use crate::runtime::{Handle, Input, Origin, Ticket};

const STACK: usize = 128 << 10;

/// Turns SIGTERM, SIGINT and SIGHUP into commands for this master, until it ends.
#[cfg(unix)]
pub(super) fn install(handle: &Handle) -> Result<()> {
    use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
    use signal_hook::iterator::Signals;

    let mut signals = Signals::new([SIGTERM, SIGINT, SIGHUP])
        .map_err(|error| Error::io("cannot handle signals", error))?;
    let handle = handle.clone();
    let listen = move || {
        let mut asked = 0;
        for signal in signals.forever() {
            if signal == SIGHUP {
                log::info!("SIGHUP: there is no reload yet, ignored");
                continue;
            }
            asked += 1;
            on_request_to_end(&handle, asked);
        }
    };
    threads::spawn("signals", STACK, listen)
        .map(drop)
        .map_err(|error| Error::io("cannot start the thread for signals", error))
}

/// Turns ctrl-c and its kin into commands for this master.
#[cfg(windows)]
pub(super) fn install(handle: &Handle) -> Result<()> {
    use std::sync::atomic::{AtomicU32, Ordering};

    let (handle, asked) = (handle.clone(), AtomicU32::new(0));
    let on_signal =
        move || on_request_to_end(&handle, asked.fetch_add(1, Ordering::Relaxed).saturating_add(1));
    ctrlc::try_set_handler(on_signal).map_err(|error| {
        Error::new(crate::error::ErrorCategory::Refused, format!("cannot handle ctrl-c: {error}"))
    })
}

/// The first request ends in order, the second kills, the third exits whatever is left.
fn on_request_to_end(handle: &Handle, asked: u32) {
    match asked {
        1 => log::info!("asked to end: stopping all workers"),
        2 => log::warn!("asked to end again: killing all workers"),
        _ => {
            log::error!("asked to end a third time: leaving at once");
            sys::exit_now(1);
        }
    }
    let origin = Origin { board: handle.board.clone(), realm: handle.realm, worker: None };
    let (_unread, reply) = Ticket::<()>::new(origin, |_| None);
    let command = Command::Shutdown { force: asked > 1 };
    handle.send(Input::Command { command, reply });
}
