//! What a master does with what a former one left in its state directory.

use std::collections::{BTreeMap, BTreeSet};
use std::mem;
use std::sync::{Arc, MutexGuard, PoisonError};
use std::time::Duration;

use super::Master;
use crate::core::event::Done;
use crate::error::Result;
use crate::host::estate::{Claimed, Inheritance, Unclaimed};
use crate::runtime::{Input, Left, Remnant, ReplySender, ShutdownReport, Ticket};
use crate::worker::{WorkerConfig, WorkerId};

/// What the end of a former master means for the first start of workers.
#[derive(Debug, Default)]
pub(super) struct Inherited {
    past: BTreeMap<WorkerId, u64>,
    /// Stopped by a command, and to stay so.
    down: BTreeSet<WorkerId>,
    /// Adopted, and started with another configuration than theirs is now.
    outdated: BTreeSet<WorkerId>,
    /// The ends of what is left of workers that are none any more.
    pub(super) leaving: BTreeMap<WorkerId, Arc<Ticket<()>>>,
    /// What is left of workers that may yet be added.
    unclaimed: BTreeMap<WorkerId, Unclaimed>,
}

impl Inherited {
    pub(super) fn of(inheritance: &mut Inheritance) -> Self {
        let outdated = inheritance.adoptions.iter().filter(|adoption| adoption.outdated);
        Self {
            outdated: outdated.map(|adoption| adoption.worker.clone()).collect(),
            past: mem::take(&mut inheritance.past),
            down: mem::take(&mut inheritance.down),
            leaving: BTreeMap::new(),
            unclaimed: mem::take(&mut inheritance.unclaimed),
        }
    }

    /// What is left of a worker that is made known now.
    fn claim(&mut self, worker: &WorkerId, config: &WorkerConfig) -> Left {
        if self.leaving.get(worker).is_some_and(|gone| gone.try_wait().is_none()) {
            // It is refused until that has ended; then there is what there is now.
            return Left::default();
        }
        self.leaving.remove(worker);
        // Once: of what comes later this master knows more.
        let past = self.past.remove(worker).unwrap_or(0);
        let mut left = Left { past, ..Left::default() };
        let Some(unclaimed) = self.unclaimed.get_mut(worker) else { return left };
        left.down = unclaimed.stays_down(config);
        if left.down {
            self.down.insert(worker.clone());
        }
        left.process = unclaimed.claim(config).map(|claimed| match claimed {
            Claimed::GoesOn(adoption) => {
                if adoption.outdated {
                    self.outdated.insert(worker.clone());
                }
                Remnant::GoesOn(Box::new(adoption))
            }
            Claimed::Ends(left) => Remnant::Ends(Box::new(left)),
        });
        left
    }

    /// True if it may be added yet, so that what is known of it is kept.
    pub(super) fn is_awaited(&self, worker: &WorkerId) -> bool {
        self.unclaimed.contains_key(worker)
    }
}

impl Master {
    /// As [`shutdown`](Self::shutdown), but for workers with `on_master_exit: keep` that run: they
    /// are let go, and the next master of the state directory takes them over.
    ///
    /// # Errors
    /// The loop died before.
    pub fn shutdown_keeping(&self) -> Result<ShutdownReport> {
        self.refuse_deadlock(None)?;
        let _begun = self.shutdown_with(false, true);
        self.wait()
    }

    /// Makes a worker known, together with what a former master has left of it: one copy of it,
    /// whoever else asks for what meanwhile. What is left and does not go on is its incarnation
    /// until that has ended.
    pub(super) fn add_heir(&self, worker: WorkerId, config: Arc<WorkerConfig>) -> Ticket<()> {
        let (ticket, reply) = self.ticket(Some(worker.as_str()), made_known);
        // Nothing is claimed for a request that is not made.
        let Some(reply) = reply.admitted(self.shared.handle.realm) else { return ticket };
        // Held until it is sent: what is claimed here nobody else finds before the worker is known.
        let mut inherited = self.inherited();
        let left = inherited.claim(&worker, &config);
        self.send_heir(worker, config, left, reply);
        ticket
    }

    /// A configured worker, and its process.
    pub(super) fn add_with(&self, process: Remnant, config: Arc<WorkerConfig>) -> Result<()> {
        let worker = WorkerId::new(&config.id)?;
        let (ticket, reply) = self.ticket(Some(worker.as_str()), made_known);
        let mut left = self.inherited().claim(&worker, &config);
        left.process = Some(process);
        self.send_heir(worker, config, left, reply);
        ticket.wait()
    }

    fn send_heir(
        &self,
        worker: WorkerId,
        config: Arc<WorkerConfig>,
        left: Left,
        reply: ReplySender,
    ) {
        self.shared.handle.send(Input::Add { worker, config, left, reply });
    }

    pub(super) fn inherited(&self) -> MutexGuard<'_, Inherited> {
        self.shared.inherited.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits until nothing is left of a worker that a former master had, before it is added anew.
    pub(super) fn await_leftover(&self, worker: &str) {
        let leaving = self.inherited().leaving.get(worker).cloned();
        if let Some(gone) = leaving {
            // If it is stuck, adding it says so.
            let _ = gone.wait_timeout(Duration::MAX);
        }
    }

    /// Nobody adds any more what a former master has left: what runs of it is stopped.
    fn give_up_unclaimed(&self, inherited: &mut Inherited) {
        for (worker, unclaimed) in mem::take(&mut inherited.unclaimed) {
            match unclaimed.give_up() {
                Some(left) => {
                    let gone = self.end_leftover(left, false);
                    inherited.leaving.insert(worker, Arc::new(gone));
                }
                None => self.shared.handle.send(Input::GiveUp { worker }),
            }
        }
    }

    /// Starts workers; for the first time, as a former master's end has it.
    pub(super) fn start_enabled(&self, enabled: &[String]) -> Vec<Ticket<u64>> {
        let mut inherited = self.inherited();
        self.give_up_unclaimed(&mut inherited);
        let down = mem::take(&mut inherited.down);
        let outdated = mem::take(&mut inherited.outdated);
        drop(inherited);
        let start = |worker: &String| {
            if down.contains(worker.as_str()) {
                log::info!("{worker} was stopped by a command, and stays so");
                None
            } else if outdated.contains(worker.as_str()) {
                log::info!("{worker}: its configuration has changed, so it is started again");
                Some(self.restart_worker_nowait(worker, false))
            } else {
                Some(self.start_worker_nowait(worker))
            }
        };
        enabled.iter().filter_map(start).collect()
    }
}

/// The answer to an addition: that of the configuration, where something else had to come first.
fn made_known(done: Done) -> Option<()> {
    matches!(done, Done::Added | Done::Updated).then_some(())
}

#[cfg(test)]
#[cfg(target_os = "linux")]
mod tests {
    use std::fs;
    use std::os::unix::process::CommandExt;
    use std::path::Path;
    use std::process::{Child, Command, Stdio};
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::*;
    use crate::host::estate::Estate;
    use crate::host::identity::{self, Identity, Role};
    use crate::host::proc;
    use crate::host::state::StateDir;
    use crate::settings::MasterConfig;
    use crate::worker::{OnMasterExit, RestartPolicy, WorkerState};

    /// A process that a former master might have started, and its record.
    struct Abandoned(Child);

    impl Abandoned {
        fn new(state: &Path) -> Self {
            let mut command = Command::new("/bin/sleep");
            command.arg("1000").stdin(Stdio::null()).process_group(0);
            let child = command.spawn().unwrap();
            drop(StateDir::open(state, "former").unwrap());
            let record = serde_json::json!({
                "version": 1, "worker": "x", "boot_id": proc::boot_id().unwrap(),
                "master": "former", "incarnation": 1, "wanted": "up",
                "process": {
                    "pid": child.id(), "start_time": proc::began(child.id()).unwrap().0,
                    "keep": true, "configuration": "",
                },
                "stop": { "signal": 15, "timeout_ms": 600_000, "group": true },
            });
            fs::write(state.join("workers/x.json"), record.to_string()).unwrap();
            Self(child)
        }
    }

    impl Drop for Abandoned {
        fn drop(&mut self) {
            let _ = self.0.kill();
            let _ = self.0.wait();
        }
    }

    fn kept() -> WorkerConfig {
        let config = WorkerConfig::executable("x", "/bin/sleep").args(["1000"]);
        config.on_master_exit(OnMasterExit::Keep)
    }

    fn master(state: &Path) -> Master {
        let config = MasterConfig::new().state_dir(state);
        Master::builder().config(config).keep_unknown(true).build().unwrap()
    }

    fn known(master: &Master) -> (WorkerState, Option<u32>, u64) {
        let known = master.worker_diagnostics("x").unwrap();
        (known.state, known.pid, known.incarnation)
    }

    #[test]
    fn nothing_is_claimed_for_an_addition_that_is_not_made() {
        let directory = tempfile::tempdir().unwrap();
        let state = directory.path().join("state");
        let left = Abandoned::new(&state);
        let master = master(&state);
        let requests = Arc::new(AtomicUsize::new(1024));
        let role = Role::Module { worker: "other".into() };
        let realm = master.shared.handle.realm;
        identity::assume(Identity { realm, role, requests: Arc::clone(&requests) });
        let refused = master.add_worker_nowait(kept()).unwrap().wait().unwrap_err();
        assert!(refused.to_string().contains("busy"), "{refused}");
        // Room for one is enough.
        requests.store(1023, Ordering::Relaxed);
        master.add_worker_nowait(kept()).unwrap().wait().unwrap();
        assert_eq!(known(&master), (WorkerState::Running, Some(left.0.id()), 1));
        requests.store(0, Ordering::Relaxed);
    }

    #[test]
    fn what_ends_with_its_addition_needs_no_room_for_more_than_that() {
        let directory = tempfile::tempdir().unwrap();
        let state = directory.path().join("state");
        let left = Abandoned::new(&state);
        let master = master(&state);
        let requests = Arc::new(AtomicUsize::new(1023));
        let role = Role::Module { worker: "other".into() };
        let realm = master.shared.handle.realm;
        identity::assume(Identity { realm, role, requests: Arc::clone(&requests) });
        let config = WorkerConfig::executable("x", "/bin/sleep").args(["1000"]);
        master.add_worker_nowait(config.clone()).unwrap().wait().unwrap();
        requests.store(0, Ordering::Relaxed);
        assert_eq!(master.start_worker_nowait("x").wait().unwrap(), 2);
        let (_, pid, _) = known(&master);
        assert_ne!(pid, Some(left.0.id()));
        assert_eq!(master.shared.handle.board.known()[0].config.execution, config.execution);
    }

    #[test]
    fn a_process_whose_number_is_taken_here_goes_on_under_the_next_one() {
        let directory = tempfile::tempdir().unwrap();
        let elsewhere = directory.path().join("elsewhere");
        let left = Abandoned::new(&elsewhere);
        let state = StateDir::open(&elsewhere, "n").unwrap();
        let (estate, inheritance) = Estate::open(None, Some(state), &[kept()], false).unwrap();
        let adoption = inheritance.adoptions.into_iter().next().unwrap();
        let never = adoption.as_leftover().restart.policy;
        assert_eq!(never, RestartPolicy::Never, "what is to end is not started again");
        let master = master(&directory.path().join("state"));
        master.add_worker(kept()).unwrap();
        for _ in 0..2 {
            master.start_worker("x").unwrap();
            master.stop_worker("x").unwrap();
        }
        master.remove_worker("x").unwrap();
        let process = Remnant::GoesOn(Box::new(adoption));
        master.add_with(process, Arc::new(kept())).unwrap();
        assert_eq!(known(&master), (WorkerState::Running, Some(left.0.id()), 3));
        estate.close(true);
    }
}
