//! The facade: what programs call. Every operation is a request to the event loop; queries read
//! what the loop last published.

mod builder;
mod checks;
mod difference;
#[cfg(test)]
#[cfg(target_os = "linux")]
mod faults;
mod function;
mod handle;
#[cfg(test)]
#[cfg(target_os = "linux")]
mod handover;
mod heirs;
mod held;
mod leftovers;
mod logs;
mod modules;
mod output;
mod own;
mod queries;
mod reload;
mod rights;
mod served;
mod signals;

use std::fmt;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

pub use builder::MasterBuilder;
use checks::check_worker;
#[cfg(feature = "cli")]
pub(crate) use checks::preflight;
pub(crate) use checks::unavailable;
pub use difference::{Plan, PlanAction, PlanStep};
pub(crate) use function::Callable;
pub use function::Function;
pub use handle::Worker;
use heirs::Inherited;
use held::Held;
#[cfg(feature = "cli")]
pub(crate) use modules::known as known_modules;
pub use modules::{KnownModule, ModuleRuntime};
pub use output::OutputLine;
#[cfg(feature = "cli")]
pub(crate) use own::OwnProcess;
pub(crate) use rights::unprivileged;

#[cfg(target_os = "linux")]
use crate::control::Server;
use crate::core::event::{Command, Done};
use crate::error::{Error, ErrorCategory, Result};
#[cfg(target_os = "linux")]
use crate::host::reaper::Reaper;
use crate::host::state::{StateDir, Tenure};
use crate::logs::Logs;
use crate::module::ModuleRegistry;
use crate::runtime::{Handle, Input, Origin, ReplySender, ShutdownReport, Ticket};
use crate::worker::{WorkerConfig, WorkerId};

/// A supervisor of workers: one event loop on a thread of its own that owns every worker's state.
///
/// Usable from any thread. Operations come in pairs: a blocking form, bounded by the operation's
/// own deadlines, and a `..._nowait` form that returns a [`Ticket`]. A blocking form called on a
/// thread that the operation itself waits for (a module's own) fails with `would_deadlock` and does
/// nothing.
///
/// What it does to the process it lives in: nothing process-wide but, at the first module start, a
/// chained panic hook (see [`MasterBuilder::panic_hook`]). No signal handler and no logger; no file
/// but in the state and log directories that its configuration names. Where this program can be run
/// again (see [`host_if_requested`](crate::host_if_requested)), the first process worker brings a
/// guardian, a process that ends the others should the master die.
///
/// Dropping it is [`shutdown`](Self::shutdown): it blocks until every worker is down. Asynchronous
/// programs await [`shutdown_nowait`](Self::shutdown_nowait) first. On a module's own thread the
/// drop only begins the shutdown.
pub struct Master {
    shared: Arc<Shared>,
    /// What ends with it; a share of a master has none, and its drop ends nothing.
    owned: Option<Owned>,
}

/// What every share of a master reads.
struct Shared {
    handle: Handle,
    registry: ModuleRegistry,
    host: Host,
    /// The configuration that holds.
    current: Mutex<Held>,
    /// Held by who puts another one in its place: one at a time.
    reloading: Mutex<()>,
    source: Option<reload::ConfigSource>,
    reader: Option<reload::ConfigReader>,
    applied: Option<reload::Applied>,
    /// What tries plugins, if there is something.
    prober: Option<PathBuf>,
    /// Where its state is kept, if it is.
    state: Option<Arc<StateDir>>,
    /// What the former master's end means for the first start.
    inherited: Mutex<Inherited>,
    logs: Logs,
}

/// What a master is alone in having. Dropped in this order, after the loop's end.
struct Owned {
    thread: Mutex<Option<JoinHandle<()>>>,
    _signals: Option<signals::Signals>,
    #[cfg(target_os = "linux")]
    _reaper: Option<Reaper>,
    /// Says the last word to whoever operates the master.
    #[cfg(target_os = "linux")]
    _server: Option<Server>,
    /// Nobody else has this directory before all of that has ended.
    _state: Option<Tenure>,
}

/// Which program runs modules in processes of their own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Host {
    /// This one; false: it cannot be run for that.
    Own(bool),
    /// One that was named.
    Other,
}

impl Master {
    /// What a master is made from.
    pub fn builder() -> MasterBuilder {
        MasterBuilder::default()
    }

    /// Another hold on this master, whose drop ends nothing.
    pub(crate) fn share(&self) -> Self {
        Self { shared: Arc::clone(&self.shared), owned: None }
    }

    /// From now on the process's signals are commands for this master, also those that came while
    /// it was built; and it reaps its orphans.
    fn obey(&mut self, signals: Option<signals::Signals>) -> Result<()> {
        let share = self.share();
        let (Some(owned), Some(signals)) = (&mut self.owned, signals) else { return Ok(()) };
        #[cfg(target_os = "linux")]
        {
            let cannot = |error| Error::io("cannot reap orphans", error);
            owned._reaper = Some(Reaper::start().map_err(cannot)?);
        }
        signals.command(share);
        owned._signals = Some(signals);
        Ok(())
    }

    /// Makes a worker known. Starts nothing, but takes over the process that a former master has
    /// left of it if that waits for its worker: see
    /// [`MasterBuilder::keep_unknown`](crate::MasterBuilder::keep_unknown). What is left of it and
    /// is ended by this master is waited for: as long as that may take to stop by its own timeout.
    ///
    /// # Errors
    /// Every problem of the configuration at once; a worker of this id exists or is being removed.
    pub fn add_worker(&self, config: WorkerConfig) -> Result<()> {
        self.make_known(Arc::new(config))
    }

    fn make_known(&self, config: Arc<WorkerConfig>) -> Result<()> {
        self.refuse_deadlock(Some(&config.id))?;
        self.await_leftover(&config.id);
        self.make_known_nowait(config)?.wait()
    }

    /// As [`add_worker`](Self::add_worker), without waiting: neither for the loop nor for what is
    /// left of the worker, with which it is refused as one that is being removed.
    ///
    /// # Errors
    /// Every problem of the configuration at once.
    pub fn add_worker_nowait(&self, config: WorkerConfig) -> Result<Ticket<()>> {
        self.make_known_nowait(Arc::new(config))
    }

    fn make_known_nowait(&self, config: Arc<WorkerConfig>) -> Result<Ticket<()>> {
        let Shared { registry, host, state, .. } = &*self.shared;
        let problems = check_worker(&config, registry, *host, state.is_some());
        if !problems.is_empty() {
            return Err(Error::rejected(problems).of_worker(&config.id));
        }
        Ok(self.add_heir(WorkerId::new(&config.id)?, config))
    }

    /// Stops a worker and forgets it.
    ///
    /// # Errors
    /// There is no such worker, or it is stuck; it is then forgotten once it ends.
    pub fn remove_worker(&self, worker: &str) -> Result<()> {
        self.settled(worker, || self.remove_worker_nowait(worker))
    }

    /// As [`remove_worker`](Self::remove_worker), without waiting.
    pub fn remove_worker_nowait(&self, worker: &str) -> Ticket<()> {
        self.about(
            worker,
            |worker| Command::Remove { worker },
            |done| matches!(done, Done::Removed).then_some(()),
        )
    }

    /// Starts a worker and waits until it runs. Starting a running worker is fine. Returns the
    /// number of the incarnation that runs.
    ///
    /// # Errors The incarnation failed (the restart policy then decides what follows), it did not
    /// come up in time, another command took the start's place, or there is no such worker.
    pub fn start_worker(&self, worker: &str) -> Result<u64> {
        self.refuse_deadlock(Some(worker))?;
        self.start_worker_nowait(worker).wait()
    }

    /// As [`start_worker`](Self::start_worker), without waiting.
    pub fn start_worker_nowait(&self, worker: &str) -> Ticket<u64> {
        self.start_nowait(worker, false)
    }

    /// Stops a worker and waits until it is gone, which its stop timeout bounds. Stopping a stopped
    /// worker is fine.
    ///
    /// # Errors
    /// It is stuck, or there is no such worker.
    pub fn stop_worker(&self, worker: &str) -> Result<()> {
        self.settled(worker, || self.stop_worker_nowait(worker, false))
    }

    /// As [`stop_worker`](Self::stop_worker), without waiting. `force`: kill now instead of asking.
    pub fn stop_worker_nowait(&self, worker: &str, force: bool) -> Ticket<()> {
        self.about(
            worker,
            move |worker| Command::Stop { worker, force },
            |done| matches!(done, Done::Stopped { .. }).then_some(()),
        )
    }

    /// Gives a worker a new incarnation, and waits until it runs. `force`: kill the old one now
    /// instead of asking, and go past it should it be stuck.
    ///
    /// # Errors
    /// As [`start_worker`](Self::start_worker), and when the old incarnation is stuck.
    pub fn restart_worker(&self, worker: &str, force: bool) -> Result<u64> {
        self.refuse_deadlock(Some(worker))?;
        self.restart_worker_nowait(worker, force).wait()
    }

    /// As [`restart_worker`](Self::restart_worker), without waiting.
    pub fn restart_worker_nowait(&self, worker: &str, force: bool) -> Ticket<u64> {
        self.about(worker, move |worker| Command::Restart { worker, force }, running)
    }

    /// Starts every enabled worker, in the order of the configuration, and waits for all of them.
    /// Those that a former master was told to stop stay down, the first time, if their policy is
    /// `unless-stopped`.
    ///
    /// # Errors
    /// How many did not come up, and why; all were tried, and their restart policies go on.
    pub fn start_all(&self) -> Result<()> {
        self.refuse_deadlock(None)?;
        let tickets = self.start_all_nowait();
        let count = tickets.len();
        let failed: Vec<Error> =
            tickets.into_iter().filter_map(|ticket| ticket.wait().err()).collect();
        match failed.as_slice() {
            [] => Ok(()),
            [only] => Err(only.clone()),
            [first, ..] => {
                let all: Vec<_> = failed.iter().map(ToString::to_string).collect();
                let message = format!(
                    "{} of {count} workers did not start: {}",
                    failed.len(),
                    all.join("; ")
                );
                Err(Error::new(first.category(), message))
            }
        }
    }

    /// As [`start_all`](Self::start_all), without waiting: one ticket for each worker.
    pub fn start_all_nowait(&self) -> Vec<Ticket<u64>> {
        self.start_enabled(&self.shared.handle.board.enabled())
    }

    /// Stops every worker, in reverse order of their addition and side by side, launches nothing
    /// any more, and ends the loop. Bounded by the shutdown timeout and a little more for what must
    /// be killed.
    ///
    /// # Errors
    /// The loop died before.
    pub fn shutdown(&self) -> Result<ShutdownReport> {
        self.refuse_deadlock(None)?;
        let _begun = self.shutdown_nowait(false);
        self.wait()
    }

    /// As [`shutdown`](Self::shutdown), without waiting. `force`: kill now instead of asking, also
    /// what is being shut down already.
    pub fn shutdown_nowait(&self, force: bool) -> Ticket<ShutdownReport> {
        self.shutdown_with(force, false)
    }

    /// `keep`: lets those go that may outlive the master.
    pub(crate) fn shutdown_with(&self, force: bool, keep: bool) -> Ticket<ShutdownReport> {
        let (ticket, reply) = self.ticket(None, |done| match done {
            Done::ShutDown { killed, stuck } => Some(ShutdownReport::new(&killed, &stuck)),
            Done::Added
            | Done::Updated
            | Done::Running { .. }
            | Done::Stopped { .. }
            | Done::Removed => None,
        });
        let command = Command::Shutdown { force, keep };
        self.shared.handle.send(Input::Command { command, reply });
        ticket
    }

    /// Waits until the master is shut down, by whomever.
    ///
    /// # Errors
    /// The event loop died, or this is a module's own thread (`would_deadlock`).
    pub fn wait(&self) -> Result<ShutdownReport> {
        self.wait_until(None)?;
        Ok(self.shared.handle.board.shutdown_report())
    }

    /// As [`wait`](Self::wait), at most `timeout`. False: it still runs.
    ///
    /// # Errors
    /// As [`wait`](Self::wait).
    pub fn wait_timeout(&self, timeout: Duration) -> Result<bool> {
        self.wait_until(Instant::now().checked_add(timeout))
    }

    fn wait_until(&self, deadline: Option<Instant>) -> Result<bool> {
        self.refuse_deadlock(None)?;
        let ended = self.shared.handle.board.wait_for_end(deadline);
        if self.shared.handle.board.has_died() {
            return Err(Error::new(ErrorCategory::Internal, "the master's event loop died"));
        }
        Ok(ended)
    }

    fn held(&self) -> MutexGuard<'_, Held> {
        self.shared.current.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A ticket for a request, and the end that answers it.
    fn ticket<T>(
        &self,
        worker: Option<&str>,
        read: fn(Done) -> Option<T>,
    ) -> (Ticket<T>, ReplySender) {
        Ticket::new(self.origin(worker), read)
    }

    /// Sends a request, unless the worker on whose thread this is has too many open.
    fn submit(&self, reply: ReplySender, input: impl FnOnce(ReplySender) -> Input) {
        if let Some(reply) = reply.admitted(self.shared.handle.realm) {
            self.shared.handle.send(input(reply));
        }
    }

    fn origin(&self, worker: Option<&str>) -> Origin {
        Origin {
            board: Arc::clone(&self.shared.handle.board),
            realm: self.shared.handle.realm,
            worker: worker.map(str::to_owned),
        }
    }

    fn refuse_deadlock(&self, worker: Option<&str>) -> Result<()> {
        self.origin(worker).refuse_deadlock()
    }

    /// Sends a command about one worker. A name that cannot be one is that of no worker.
    fn about<T>(
        &self,
        worker: &str,
        command: impl FnOnce(WorkerId) -> Command,
        read: fn(Done) -> Option<T>,
    ) -> Ticket<T> {
        let (ticket, reply) = self.ticket(Some(worker), read);
        match WorkerId::new(worker) {
            Ok(id) => {
                let command = command(id);
                self.submit(reply, |reply| Input::Command { command, reply });
            }
            Err(_) => reply.unknown_worker(),
        }
        ticket
    }

    /// Waits for a request unless that would wait for the very thread that asks; the request is
    /// then not even made.
    fn settled(&self, worker: &str, request: impl FnOnce() -> Ticket<()>) -> Result<()> {
        self.refuse_deadlock(Some(worker))?;
        request().wait()
    }
}

fn running(done: Done) -> Option<u64> {
    match done {
        Done::Running { incarnation } => Some(incarnation),
        Done::Added
        | Done::Updated
        | Done::Stopped { .. }
        | Done::Removed
        | Done::ShutDown { .. } => None,
    }
}

impl Drop for Master {
    fn drop(&mut self) {
        let Some(owned) = &self.owned else { return };
        let begun = self.shutdown_nowait(false);
        if self.refuse_deadlock(None).is_err() {
            return;
        }
        let _ = begun.wait();
        let thread = owned.thread.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(thread) = thread {
            // A loop that died has said so in the log.
            let _ = thread.join();
        }
    }
}

impl fmt::Debug for Master {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Master").field("modules", &self.shared.registry).finish_non_exhaustive()
    }
}
