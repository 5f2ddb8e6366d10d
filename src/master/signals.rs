//! The operating system's signals as commands: one thread, woken only when one comes.

use std::io::Write as _;
use std::time::Duration;

use crossbeam_channel::bounded;

use super::Master;
use crate::error::Result;
use crate::host::{sys, threads};
use crate::worker::WorkerDiagnostics;

/// How long the last words before an exit at once may take.
const LAST_MOMENT: Duration = Duration::from_millis(200);
const LAST_STACK: usize = 64 << 10;

#[cfg(unix)]
pub(super) use unix::{Signals, install};
#[cfg(windows)]
pub(super) use windows::{Signals, install};

#[cfg(unix)]
mod unix {
    use std::path::Path;
    use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
    use std::sync::{Arc, LazyLock};
    use std::thread::JoinHandle;
    use std::time::{Duration, Instant};

    use crossbeam_channel::{Sender, bounded};
    use signal_hook::consts::{
        SIGALRM, SIGHUP, SIGINT, SIGIO, SIGPROF, SIGQUIT, SIGTERM, SIGUSR1, SIGUSR2, SIGVTALRM,
        SIGXCPU, SIGXFSZ,
    };
    use signal_hook::flag::register_conditional_default;
    use signal_hook::iterator::{Handle as Closer, Signals as Stream};

    use super::super::Master;
    use super::{Result, on_request_to_end, tell_status};
    use crate::error::Error;
    use crate::host::{sys, threads};

    const STACK: usize = 256 << 10;
    /// What people and programs send, and what limits and timers send: by default each ends the
    /// process, with nobody left to end its workers. Those that only stop it (SIGTSTP, SIGTTIN,
    /// SIGTTOU) do so, until SIGCONT; SIGPIPE is ignored by Rust.
    const HANDLED: [i32; 12] = [
        SIGTERM, SIGINT, SIGQUIT, SIGHUP, SIGUSR1, SIGUSR2, SIGALRM, SIGVTALRM, SIGPROF, SIGXCPU,
        SIGXFSZ, SIGIO,
    ];
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
    pub(in crate::master) fn install(master: Master) -> Result<Signals> {
        let cannot = |error| Error::io("cannot handle signals", error);
        let handled = || HANDLED.into_iter().chain(sys::other_deadly_signals());
        let mut stream = Stream::new(handled()).map_err(cannot)?;
        // The library does not put default actions back, so they are emulated when nobody listens;
        // those that it cannot emulate are then ignored.
        if !DEFAULTS_ARE_SET.swap(true, Ordering::SeqCst) {
            for signal in HANDLED {
                let condition = Arc::clone(&NOBODY_LISTENS);
                register_conditional_default(signal, condition).map_err(cannot)?;
            }
        }
        let closer = stream.handle();
        let mut listener =
            Listener { master, had_terminal: has_terminal(), asked: 0, last: None, reloads: None };
        let listen = move || {
            for signal in stream.forever() {
                listener.hear(signal);
            }
            listener.end();
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
                // It runs no code but ours, and the source of the configuration.
                let _ = thread.join();
            }
            if LISTENING.fetch_sub(1, Ordering::SeqCst) == 1 {
                NOBODY_LISTENS.store(true, Ordering::SeqCst);
            }
        }
    }

    /// What the signals of one master have led to.
    struct Listener {
        /// A share.
        master: Master,
        /// There was a controlling terminal at the start.
        had_terminal: bool,
        /// How often the master was asked to end.
        asked: u32,
        last: Option<(i32, Instant)>,
        /// The thread that reloads, since this one must hear the next signal; from the first
        /// request on. One more request may wait: it is about whatever is there by then.
        reloads: Option<(Sender<()>, JoinHandle<()>)>,
    }

    impl Listener {
        fn hear(&mut self, signal: i32) {
            match signal {
                SIGHUP if self.had_terminal && !has_terminal() => {
                    log::info!("SIGHUP: the terminal is gone");
                    self.end_master(signal);
                }
                SIGHUP => self.reload(),
                SIGUSR1 => tell_status(&self.master),
                SIGUSR2 => {
                    log::info!("SIGUSR2: log files are opened again");
                    self.master.reopen_logs();
                }
                SIGTERM | SIGINT | SIGQUIT => self.end_master(signal),
                other => log::info!("signal {other} has no meaning here, ignored"),
            }
        }

        fn end_master(&mut self, signal: i32) {
            let echo = self.last.is_some_and(|(s, at)| s == signal && at.elapsed() < ECHO);
            if !echo {
                self.last = Some((signal, Instant::now()));
                self.asked += 1;
                on_request_to_end(&self.master, self.asked);
            }
        }

        fn reload(&mut self) {
            log::info!("SIGHUP: reloading");
            if self.reloads.is_none() {
                let (ask, asked) = bounded(1);
                let master = self.master.share();
                let work = move || {
                    for () in asked {
                        // What comes of it is told where it happens.
                        master.reload_unattended();
                    }
                };
                match threads::spawn("reload", STACK, work) {
                    Ok(thread) => self.reloads = Some((ask, thread)),
                    Err(error) => log::error!("cannot reload: no thread: {error}"),
                }
            }
            if let Some((ask, _)) = &self.reloads {
                let _ = ask.try_send(());
            }
        }

        /// The loop has ended by now, and with it whatever a reload waits for.
        fn end(&mut self) {
            if let Some((ask, thread)) = self.reloads.take() {
                drop(ask);
                let _ = thread.join();
            }
        }
    }

    fn has_terminal() -> bool {
        sys::open_without_waiting(Path::new("/dev/tty")).is_ok()
    }
}

#[cfg(windows)]
mod windows {
    use std::sync::atomic::{AtomicU32, Ordering};

    use super::{Master, Result, on_request_to_end};
    use crate::error::{Error, ErrorCategory};

    /// The handler stays for the life of the process.
    pub(in crate::master) struct Signals;

    /// Turns ctrl-c and its kin into commands for this master.
    pub(in crate::master) fn install(master: Master) -> Result<Signals> {
        let asked = AtomicU32::new(0);
        let on_signal = move || {
            on_request_to_end(&master, asked.fetch_add(1, Ordering::Relaxed).saturating_add(1));
        };
        ctrlc::try_set_handler(on_signal).map(|()| Signals).map_err(|error| {
            Error::new(ErrorCategory::Refused, format!("cannot handle ctrl-c: {error}"))
        })
    }
}

/// The first request ends in order, the second kills, the third exits whatever is left.
fn on_request_to_end(master: &Master, asked: u32) {
    match asked {
        1 => log::info!("asked to end: stopping all workers"),
        2 => log::warn!("asked to end again: killing all workers"),
        _ => {
            let all = master.all_worker_diagnostics();
            let left: Vec<_> = all.iter().filter(|w| w.phase != "none").map(in_a_word).collect();
            say_at_last(format!(
                "asked to end a third time: leaving at once; left: {}\n",
                left.join(", ")
            ));
            sys::exit_now(1);
        }
    }
    let _unread = master.shutdown_nowait(asked > 1);
}

/// Writes to standard error, past a logger that may write later. For a moment only: who reads there
/// may have stopped.
fn say_at_last(text: String) {
    let (tell, told) = bounded(1);
    let write = move || {
        let _ = std::io::stderr().write_all(text.as_bytes());
        let _ = tell.send(());
    };
    if threads::spawn("farewell", LAST_STACK, write).is_ok() {
        let _ = told.recv_timeout(LAST_MOMENT);
    }
}

/// Logs what is known of every worker.
#[cfg(unix)]
fn tell_status(master: &Master) {
    let all = master.all_worker_diagnostics();
    log::info!("SIGUSR1: {} workers", all.len());
    for worker in &all {
        log::info!(
            "{}: {} ({}), goal {}",
            in_a_word(worker),
            worker.state,
            worker.cause,
            worker.goal
        );
    }
}

fn in_a_word(worker: &WorkerDiagnostics) -> String {
    let WorkerDiagnostics { id, incarnation, pid, .. } = worker;
    match pid {
        Some(pid) => format!("{id}#{incarnation} (pid {pid})"),
        None => format!("{id}#{incarnation}"),
    }
}
