//! The operating system's signals as commands: one thread, woken only when one comes.

use crate::core::event::Command;
use crate::error::Result;
use crate::host::sys;
use crate::runtime::{Handle, Input, Origin, Ticket};

#[cfg(unix)]
pub(super) use unix::{Signals, install};
#[cfg(windows)]
pub(super) use windows::{Signals, install};

#[cfg(unix)]
mod unix {
    use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
    use std::sync::{Arc, LazyLock};
    use std::thread::JoinHandle;
    use std::time::{Duration, Instant};

    use signal_hook::consts::{SIGALRM, SIGHUP, SIGINT, SIGQUIT, SIGTERM, SIGUSR1, SIGUSR2};
    use signal_hook::flag::register_conditional_default;
    use signal_hook::iterator::{Handle as Closer, Signals as Stream};

    use super::{Handle, Result, on_request_to_end};
    use crate::error::Error;
    use crate::host::threads;

    const STACK: usize = 128 << 10;
    /// Every signal that people and programs send and that would end the process by default, with
    /// nobody left to end its workers.
    const HANDLED: [i32; 7] = [SIGTERM, SIGINT, SIGQUIT, SIGHUP, SIGUSR1, SIGUSR2, SIGALRM];
    /// The same signal within this time is the same request: some programs send it to the process
    /// and to its group.
    const ECHO: Duration = Duration::from_millis(200);

    /// How many masters of this process handle signals.
    static LISTENING: AtomicUsize = AtomicUsize::new(0);
    /// True when none does: a signal then does what it does by default.
    static NOBODY_LISTENS: LazyLock<Arc<AtomicBool>> = LazyLock::new(Arc::default);
    static DEFAULTS_ARE_SET: AtomicBool = AtomicBool::new(false);

    /// Signals are commands for a master for as long as this lives.
    pub(in crate::master) struct Signals {
        closer: Closer,
        thread: Option<JoinHandle<()>>,
    }

    /// Turns signals into commands for this master.
    pub(in crate::master) fn install(handle: &Handle) -> Result<Signals> {
        let cannot = |error| Error::io("cannot handle signals", error);
        let mut stream = Stream::new(HANDLED).map_err(cannot)?;
        // The library does not put default actions back, so they are emulated when nobody listens.
        if !DEFAULTS_ARE_SET.swap(true, Ordering::SeqCst) {
            for signal in HANDLED {
                let condition = Arc::clone(&NOBODY_LISTENS);
                register_conditional_default(signal, condition).map_err(cannot)?;
            }
        }
        let closer = stream.handle();
        let handle = handle.clone();
        let listen = move || {
            let mut asked = 0;
            let mut last: Option<(i32, Instant)> = None;
            for signal in stream.forever() {
                match signal {
                    SIGHUP => log::info!("SIGHUP: there is no reload yet, ignored"),
                    SIGTERM | SIGINT | SIGQUIT => {
                        let echo = last.is_some_and(|(s, at)| s == signal && at.elapsed() < ECHO);
                        if !echo {
                            last = Some((signal, Instant::now()));
                            asked += 1;
                            on_request_to_end(&handle, asked);
                        }
                    }
                    other => log::info!("signal {other} has no meaning here, ignored"),
                }
            }
        };
        let thread = threads::spawn("signals", STACK, listen)
            .map_err(|error| Error::io("cannot start the thread for signals", error))?;
        LISTENING.fetch_add(1, Ordering::SeqCst);
        NOBODY_LISTENS.store(false, Ordering::SeqCst);
        Ok(Signals { closer, thread: Some(thread) })
    }

    impl Drop for Signals {
        fn drop(&mut self) {
            self.closer.close();
            if let Some(thread) = self.thread.take() {
                // It runs no code but ours.
                let _ = thread.join();
            }
            if LISTENING.fetch_sub(1, Ordering::SeqCst) == 1 {
                NOBODY_LISTENS.store(true, Ordering::SeqCst);
            }
        }
    }
}

#[cfg(windows)]
mod windows {
    use std::sync::atomic::{AtomicU32, Ordering};

    use super::{Handle, Result, on_request_to_end};
    use crate::error::{Error, ErrorCategory};

    /// The handler stays for the life of the process.
    pub(in crate::master) struct Signals;

    /// Turns ctrl-c and its kin into commands for this master.
    pub(in crate::master) fn install(handle: &Handle) -> Result<Signals> {
        let (handle, asked) = (handle.clone(), AtomicU32::new(0));
        let on_signal = move || {
            on_request_to_end(&handle, asked.fetch_add(1, Ordering::Relaxed).saturating_add(1));
        };
        ctrlc::try_set_handler(on_signal).map(|()| Signals).map_err(|error| {
            Error::new(ErrorCategory::Refused, format!("cannot handle ctrl-c: {error}"))
        })
    }
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
    let command = Command::Shutdown { force: asked > 1, keep: false };
    handle.send(Input::Command { command, reply });
}
