//! The operating system's signals as commands: one thread, woken only when one comes. It is there
//! before there is a master to command: what comes meanwhile waits, and ends nothing unawares.

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
pub(crate) use unix::Signals;
#[cfg(windows)]
pub(crate) use windows::Signals;

#[cfg(unix)]
mod unix {
    use std::path::Path;
    use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
    use std::sync::{Arc, LazyLock, Mutex, MutexGuard, PoisonError};
    use std::thread::JoinHandle;
    use std::time::{Duration, Instant};

    use crossbeam_channel::{Sender, bounded};
    use signal_hook::consts::{
        SIGALRM, SIGHUP, SIGINT, SIGIO, SIGPROF, SIGQUIT, SIGTERM, SIGUSR1, SIGUSR2, SIGVTALRM,
        SIGXCPU, SIGXFSZ,
    };
    use signal_hook::flag::register_conditional_default;
    use signal_hook::iterator::{Handle as Closer, Signals as Stream};
    use signal_hook::low_level::signal_name;

    use super::super::Master;
    use super::{Result, on_early_request_to_end, on_request_to_end, tell_status};
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

    /// Signals are heard, and end nobody by default, for as long as this lives.
    ///
    /// No thread holds them back, so one may land on any: mostly the main thread, at times one of a
    /// module's, where a handler runs for a moment and whatever blocks there goes on
    /// (`SA_RESTART`). Were they held back there, they would be so in the children that a module
    /// spawns, too, since [`std::process::Command`] hands the mask on: nobody could ask those to
    /// end.
    pub(crate) struct Signals {
        listener: Arc<Mutex<Listener>>,
        closer: Closer,
        /// Until somebody listens.
        stream: Option<Stream>,
        thread: Option<JoinHandle<()>>,
    }

    impl Signals {
        /// Has signals wait to be [listened](Self::listen) to: they end nobody by default any more.
        ///
        /// # Errors
        /// When the system refuses a handler.
        pub(in crate::master) fn install() -> Result<Self> {
            let cannot = |error| Error::io("cannot handle signals", error);
            let handled = || HANDLED.into_iter().chain(sys::other_deadly_signals());
            let stream = Stream::new(handled()).map_err(cannot)?;
            // The library does not put default actions back, so they are emulated when nobody
            // listens; those that it cannot emulate are then ignored.
            if !DEFAULTS_ARE_SET.swap(true, Ordering::SeqCst) {
                for signal in HANDLED {
                    let condition = Arc::clone(&NOBODY_LISTENS);
                    register_conditional_default(signal, condition).map_err(cannot)?;
                }
            }
            let closer = stream.handle();
            let listener = Arc::new(Mutex::new(Listener::new()));
            LISTENING.fetch_add(1, Ordering::SeqCst);
            NOBODY_LISTENS.store(false, Ordering::SeqCst);
            Ok(Self { listener, closer, stream: Some(stream), thread: None })
        }

        /// Hears them, and has them wait for a master. The thread that does holds back what the
        /// calling one does.
        ///
        /// # Errors
        /// When the system refuses the thread.
        pub(in crate::master) fn listen(&mut self) -> Result<()> {
            let Some(mut stream) = self.stream.take() else { return Ok(()) };
            let hearing = Arc::clone(&self.listener);
            let listen = move || {
                for signal in stream.forever() {
                    threads::fail_point("signals");
                    lock(&hearing).hear(signal);
                }
                lock(&hearing).end();
            };
            let thread = threads::vital("signals", STACK, listen)
                .map_err(|error| Error::io("cannot start the thread for signals", error))?;
            self.thread = Some(thread);
            Ok(())
        }

        /// From now on they are commands for this master, a share; those that wait are the first.
        pub(in crate::master) fn command(&self, master: Master) {
            lock(&self.listener).command(master);
        }
    }

    fn lock(listener: &Mutex<Listener>) -> MutexGuard<'_, Listener> {
        // What is only noted is noted at once.
        listener.lock().unwrap_or_else(PoisonError::into_inner)
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
        /// Whom they command, once there is one.
        master: Option<Master>,
        /// What was heard before.
        early: Vec<i32>,
        /// There was a controlling terminal at the start.
        had_terminal: bool,
        /// How often the master was asked to end.
        asked: u32,
        last: Option<(i32, Instant)>,
        /// What reloads.
        reloads: Aside,
        /// What looks after the state directory, where a file system may not answer.
        looks: Aside,
    }

    /// A thread for what this one does not wait for, since it must hear the next signal; from the
    /// first request on. One more request may wait: it is about whatever is there by then.
    #[derive(Default)]
    struct Aside(Option<(Sender<()>, JoinHandle<()>)>);

    impl Aside {
        fn ask(&mut self, name: &str, master: &Master, work: fn(&Master)) {
            if self.0.is_none() {
                let (ask, asked) = bounded(1);
                let (master, called) = (master.share(), name.to_owned());
                let turn = move || {
                    for () in &asked {
                        // The next one that is asked for is done all the same.
                        let _said = threads::ours(&called, || {
                            threads::fail_point("signals-aside");
                            work(&master);
                        });
                    }
                };
                match threads::spawn(name, STACK, turn) {
                    Ok(thread) => self.0 = Some((ask, thread)),
                    Err(error) => log::error!("cannot {name}: no thread: {error}"),
                }
            }
            if let Some((ask, _)) = &self.0 {
                let _ = ask.try_send(());
            }
        }

        /// What was asked for is done first.
        fn end(&mut self) {
            if let Some((ask, thread)) = self.0.take() {
                drop(ask);
                let _ = thread.join();
            }
        }
    }

    impl Listener {
        fn new() -> Self {
            let had_terminal = has_terminal();
            Self {
                master: None,
                early: Vec::new(),
                had_terminal,
                asked: 0,
                last: None,
                reloads: Aside::default(),
                looks: Aside::default(),
            }
        }

        fn hear(&mut self, signal: i32) {
            match signal {
                SIGHUP if self.had_terminal && !has_terminal() => {
                    log::info!("SIGHUP: the terminal is gone");
                    self.end_master(signal);
                }
                SIGTERM | SIGINT | SIGQUIT => self.end_master(signal),
                SIGHUP | SIGUSR1 | SIGUSR2 => match &self.master {
                    Some(master) => {
                        let master = master.share();
                        self.carry_out(signal, &master);
                    }
                    None => self.note(signal),
                },
                other => log::info!("signal {other} has no meaning here, ignored"),
            }
        }

        fn note(&mut self, signal: i32) {
            if !self.early.contains(&signal) {
                let name = signal_name(signal).unwrap_or("a signal");
                log::info!("{name} waits until the master is there");
                self.early.push(signal);
            }
        }

        fn command(&mut self, master: Master) {
            match self.asked {
                0 => {
                    for signal in std::mem::take(&mut self.early) {
                        self.carry_out(signal, &master);
                    }
                }
                asked => on_request_to_end(&master, asked),
            }
            self.master = Some(master);
        }

        fn carry_out(&mut self, signal: i32, master: &Master) {
            match signal {
                SIGHUP => self.reload(master),
                SIGUSR1 => {
                    self.looks.ask("look-after", master, Master::look_after_state);
                    tell_status(master);
                }
                _ => {
                    log::info!("SIGUSR2: log files are opened again");
                    master.reopen_logs();
                }
            }
        }

        fn end_master(&mut self, signal: i32) {
            let echo = self.last.is_some_and(|(s, at)| s == signal && at.elapsed() < ECHO);
            if !echo {
                self.last = Some((signal, Instant::now()));
                self.asked += 1;
                match &self.master {
                    Some(master) => on_request_to_end(master, self.asked),
                    None => on_early_request_to_end(self.asked),
                }
            }
        }

        fn reload(&mut self, master: &Master) {
            log::info!("SIGHUP: reloading");
            // What comes of it is told where it happens; the configuration's source is the
            // program's.
            self.reloads.ask("reload", master, Master::reload_unattended);
        }

        /// The loop has ended by now, and with it whatever a reload waits for.
        fn end(&mut self) {
            self.reloads.end();
            self.looks.end();
        }
    }

    fn has_terminal() -> bool {
        sys::open_without_waiting(Path::new("/dev/tty")).is_ok()
    }

    #[cfg(all(test, target_os = "linux"))]
    mod tests {
        use crossbeam_channel::unbounded;

        use super::*;
        use crate::MasterConfig;

        const PATIENCE: Duration = Duration::from_secs(30);

        #[test]
        fn p15_a_look_at_the_state_directory_that_takes_long_holds_up_no_signal() {
            let around = tempfile::tempdir().unwrap();
            let config = MasterConfig::new().state_dir(around.path().join("s"));
            let master = Master::builder().config(config).build().unwrap();
            let (look, looks) = unbounded();
            let (let_go, is_let_go) = unbounded();
            let (tell, told) = unbounded();
            master.shared.state.as_ref().unwrap().kept_by(move |_| {
                look.send(()).unwrap();
                tell.send(is_let_go.recv_timeout(PATIENCE).is_ok()).unwrap();
            });
            let mut listener = Listener::new();
            listener.command(master.share());
            listener.hear(SIGUSR1);
            looks.recv_timeout(PATIENCE).unwrap();
            listener.hear(SIGUSR1);
            listener.hear(SIGTERM);
            for _ in 0..2 {
                let_go.send(()).unwrap();
            }
            assert_eq!(told.recv_timeout(PATIENCE), Ok(true), "it was waited for");
            master.shutdown().unwrap();
            listener.end();
        }
    }
}

#[cfg(windows)]
mod windows {
    use std::sync::{Arc, Mutex, PoisonError};

    use super::{Master, Result, on_early_request_to_end, on_request_to_end};
    use crate::error::{Error, ErrorCategory};

    /// The handler stays for the life of the process.
    pub(crate) struct Signals(Arc<Mutex<Listener>>);

    #[derive(Default)]
    struct Listener {
        master: Option<Master>,
        asked: u32,
    }

    impl Signals {
        /// Has ctrl-c and its kin wait for a master.
        pub(in crate::master) fn install() -> Result<Self> {
            let listener = Arc::<Mutex<Listener>>::default();
            let hearing = Arc::clone(&listener);
            let on_signal = move || {
                let mut listener = hearing.lock().unwrap_or_else(PoisonError::into_inner);
                listener.asked = listener.asked.saturating_add(1);
                match &listener.master {
                    Some(master) => on_request_to_end(master, listener.asked),
                    None => on_early_request_to_end(listener.asked),
                }
            };
            ctrlc::try_set_handler(on_signal).map(|()| Self(listener)).map_err(|error| {
                Error::new(ErrorCategory::Refused, format!("cannot handle ctrl-c: {error}"))
            })
        }

        /// They are listened to as they are.
        pub(in crate::master) fn listen(&mut self) -> Result<()> {
            Ok(())
        }

        /// From now on they are commands for this master, a share.
        pub(in crate::master) fn command(&self, master: Master) {
            let mut listener = self.0.lock().unwrap_or_else(PoisonError::into_inner);
            if listener.asked > 0 {
                on_request_to_end(&master, listener.asked);
            }
            listener.master = Some(master);
        }
    }
}

/// As [`on_request_to_end`], while there is no master yet: it ends as soon as it is there.
fn on_early_request_to_end(asked: u32) {
    match asked {
        1 | 2 => log::info!("asked to end while starting: no worker is started"),
        _ => leave("asked to end a third time while starting: leaving at once\n".to_owned()),
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
            let left = left.join(", ");
            leave(format!("asked to end a third time: leaving at once; left: {left}\n"));
        }
    }
    let _unread = master.shutdown_nowait(asked > 1);
}

/// Ends the process now. What is said goes to standard error, past a logger that may write later;
/// for a moment only: who reads there may have stopped.
fn leave(text: String) -> ! {
    let (tell, told) = bounded(1);
    let write = move || {
        threads::fail_point("farewell");
        let _ = std::io::stderr().write_all(text.as_bytes());
        let _ = tell.send(());
    };
    if threads::spawn("farewell", LAST_STACK, write).is_ok() {
        let _ = told.recv_timeout(LAST_MOMENT);
    }
    sys::exit_now(1)
}

/// Logs what is known of every worker.
#[cfg(unix)]
fn tell_status(master: &Master) {
    let all = master.all_worker_diagnostics();
    log::info!("SIGUSR1: {} workers", all.len());
    if let Some(stall) = master.stall() {
        log::warn!("{stall}");
    }
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

#[cfg(all(test, unix))]
mod tests {
    use super::*;
    use crate::host::alone;
    use crate::host::threads::fail_points::arm;

    #[test]
    fn s17_a_master_leaves_at_once_though_who_says_farewell_panics() {
        let test = s17_a_master_leaves_at_once_though_who_says_farewell_panics;
        let Some(ended) = alone::run(&[], test) else {
            arm("farewell");
            leave("never written".to_owned());
        };
        let said = String::from_utf8_lossy(&ended.stderr);
        assert_eq!(ended.status.code(), Some(1), "{said}");
        assert!(said.contains("told to at farewell"), "{said}");
        assert!(!said.contains("never written"), "{said}");
    }
}
