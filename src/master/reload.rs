//! Another configuration for a master that runs: what it would do, and doing it. The difference
//! decides; this takes its steps with the commands that everybody has.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::{Arc, PoisonError};
use std::time::SystemTime;

use super::checks::check_workers;
use super::difference::{Plan, PlanAction, PlanStep, difference};
use super::held::Held;
use super::{Master, Shared, running};
use crate::core::event::{Command, Done};
use crate::error::{Error, ErrorCategory, Result};
use crate::host::panics::guarded;
use crate::host::threads;
use crate::runtime::{EventKind, Input, Ticket};
use crate::settings::MasterConfig;
use crate::worker::{WorkerConfig, WorkerId};

const STACK: usize = 256 << 10;

/// Where a master's configuration comes from, to be asked again.
pub(super) type ConfigSource = Box<dyn Fn() -> Result<MasterConfig> + Send + Sync>;

/// Reads a file that might become the configuration.
pub(super) type ConfigReader = Box<dyn Fn(&Path) -> Result<MasterConfig> + Send + Sync>;

/// Told of each configuration that holds from now on.
pub(super) type Applied = Box<dyn Fn(&MasterConfig) + Send + Sync>;

/// A reload whose steps are all taken, and what its workers still owe.
pub(super) struct Reloading {
    plan: Plan,
    open: Vec<(usize, Open)>,
}

/// What a step waits for.
enum Open {
    Done(Ticket<()>),
    Running(Ticket<u64>),
    /// It is added once the one of its name that is being removed is gone.
    Removed(Arc<WorkerConfig>),
}

impl Open {
    fn wait(self, master: &Master) -> Result<()> {
        match self {
            Self::Done(ticket) => ticket.wait(),
            Self::Running(ticket) => ticket.wait().map(drop),
            Self::Removed(worker) => master.add_after_removal(worker),
        }
    }
}

impl Reloading {
    /// Waits until every worker is where it was meant to be, or has failed to get there.
    fn finish(mut self, master: &Master) -> Plan {
        for (index, open) in std::mem::take(&mut self.open) {
            self.settle(index, open.wait(master));
        }
        self.plan
    }

    /// The workers whose steps are waited for.
    fn unsettled(&self) -> Vec<String> {
        let mut steps: Vec<_> = self.open.iter().map(|(index, _)| *index).collect();
        steps.dedup();
        let worker = |index: usize| self.plan.steps.get(index).map(|step| step.worker.clone());
        steps.into_iter().filter_map(worker).collect()
    }

    fn settle(&mut self, index: usize, outcome: Result<()>) {
        if let Err(error) = outcome {
            self.fail(index, &error);
        }
    }

    fn fail(&mut self, index: usize, error: &Error) {
        if let Some(step) = self.plan.steps.get_mut(index) {
            step.failure.get_or_insert_with(|| error.to_string());
        }
    }
}

impl Master {
    /// What a reload with this configuration would do, and why. Touches nothing.
    ///
    /// # Errors
    /// Every problem of the configuration at once.
    pub fn plan(&self, config: &MasterConfig) -> Result<Plan> {
        let Shared { registry, host, state, .. } = &*self.shared;
        let problems = check_workers(&config.workers, registry, *host, state.is_some());
        if !problems.is_empty() {
            return Err(Error::rejected(problems));
        }
        let known = self.shared.handle.board.known();
        Ok(difference(&known, &self.configuration(), config))
    }

    /// Puts this configuration in the place of the one that holds, by difference: workers that are
    /// the same in both are not touched, and neither are those that the program added beside its
    /// configuration. Reloads go one after the other; a worker that does not come up holds up only
    /// the one who waits here.
    ///
    /// Waits until the workers of all steps are where they are meant to be, as far as their own
    /// deadlines let them; [`Plan::failures`] says which are not. A worker that was stopped by a
    /// command stays stopped, whatever changes of it, unless it is enabled only now.
    ///
    /// # Errors
    /// Every problem of the configuration at once, or the master is shutting down: nothing is
    /// changed then.
    pub fn reload(&self, config: MasterConfig) -> Result<Plan> {
        self.refuse_deadlock(None)?;
        Ok(self.finish_reload(self.begin_reload(config)?))
    }

    /// Reloads from where the configuration came from. See
    /// [`MasterBuilder::source`](crate::MasterBuilder::source).
    ///
    /// # Errors
    /// There is no such place, it cannot be read, or as [`reload`](Self::reload).
    pub fn reload_again(&self) -> Result<Plan> {
        self.refuse_deadlock(None)?;
        Ok(self.finish_reload(self.begin_reload_again()?))
    }

    /// The configuration as it is now where it came from. Touches nothing.
    ///
    /// # Errors
    /// There is no such place, or what is there is no configuration.
    pub fn read_source(&self) -> Result<MasterConfig> {
        let Some(source) = &self.shared.source else {
            let message = "this master was not told where its configuration comes from";
            return Err(Error::new(ErrorCategory::Refused, message));
        };
        guarded("the source of the configuration", source).unwrap_or_else(|_| {
            Err(Error::new(ErrorCategory::Panic, "the source of the configuration panicked"))
        })
    }

    /// The configuration that holds, without what was done by commands.
    pub fn configuration(&self) -> MasterConfig {
        self.held().config()
    }

    /// What stands for the configuration that holds, and since when it does.
    #[cfg(target_os = "linux")]
    pub(crate) fn digest(&self) -> (Option<String>, SystemTime) {
        self.held().digest()
    }

    /// As [`reload_again`](Self::reload_again), for those who do not wait: what comes of it is told
    /// all the same.
    pub(super) fn reload_unattended(&self) {
        let Ok(begun) = self.begin_reload_again() else { return };
        let master = self.share();
        let wait = move || {
            let open = begun.unsettled();
            let finished = threads::ours("reload-end", || {
                threads::fail_point("reload-end");
                master.finish_reload(begun)
            });
            if finished.is_err() {
                // Nobody knows better what has become of them.
                log::error!("what comes of the reload is not known of {}", open.join(", "));
                let told = Box::new(EventKind::ReloadFinished { failed: open });
                master.shared.handle.send(Input::Tell(told));
            }
        };
        if let Err(error) = threads::spawn("reload-end", STACK, wait) {
            log::error!("what comes of the reload is not told: there is no thread: {error}");
        }
    }

    /// As [`begin_reload`](Self::begin_reload), from the source.
    fn begin_reload_again(&self) -> Result<Reloading> {
        let _turn = self.shared.reloading.lock().unwrap_or_else(PoisonError::into_inner);
        let begun = self.read_source().and_then(|config| self.take_steps(config));
        self.tell_reload(begun)
    }

    /// Takes every step, and leaves it to the caller to wait for those that only start something.
    fn begin_reload(&self, config: MasterConfig) -> Result<Reloading> {
        let _turn = self.shared.reloading.lock().unwrap_or_else(PoisonError::into_inner);
        let begun = self.take_steps(config);
        self.tell_reload(begun)
    }

    fn take_steps(&self, config: MasterConfig) -> Result<Reloading> {
        let mut plan = self.plan(&config)?;
        // A shutdown that has begun refuses this, and then nothing was touched.
        let shutdown_timeout = config.shutdown_timeout;
        let (settled, reply) = self.ticket(None, updated);
        let command = Command::Settle { shutdown_timeout };
        self.submit(reply, |reply| Input::Command { command, reply });
        settled.wait()?;
        for warning in &config.warnings {
            log::warn!("{warning}");
        }
        if let Some(applied) = &self.shared.applied {
            applied(&config);
        }
        let held = Held::sharing(config, &self.shared.handle.board.known());
        let steps = std::mem::take(&mut plan.steps);
        let mut reloading = Reloading { plan, open: Vec::new() };
        reloading.plan.steps.clone_from(&steps);
        let removals = steps.iter().filter(|step| step.action == PlanAction::Remove);
        let leaving: Vec<_> =
            removals.map(|step| self.remove_worker_nowait(&step.worker)).collect();
        // What comes may need the ports and files of what goes. Removals are the first steps.
        for (index, gone) in leaving.into_iter().enumerate() {
            reloading.settle(index, gone.wait());
        }
        let workers: BTreeMap<_, _> =
            held.workers().iter().map(|worker| (&worker.id, worker)).collect();
        for (index, step) in steps.iter().enumerate() {
            let Some(worker) = workers.get(&step.worker) else { continue };
            match self.take_step(step, worker) {
                Ok(open) => reloading.open.extend(open.into_iter().map(|open| (index, open))),
                Err(error) => reloading.fail(index, &error),
            }
        }
        self.held().replace(held);
        Ok(reloading)
    }

    /// Sends what one step asks for, in order; the loop takes it in that order.
    fn take_step(&self, step: &PlanStep, worker: &Arc<WorkerConfig>) -> Result<Vec<Open>> {
        let id = &worker.id;
        Ok(match step.action {
            PlanAction::Remove => Vec::new(),
            PlanAction::Update => vec![Open::Done(self.update(worker, false)?)],
            PlanAction::Restart => vec![Open::Done(self.update(worker, true)?)],
            PlanAction::Stop => vec![
                Open::Done(self.update(worker, false)?),
                Open::Done(self.stop_worker_nowait(id, false)),
            ],
            PlanAction::Start => vec![
                Open::Done(self.update(worker, false)?),
                Open::Running(self.start_worker_nowait(id)),
            ],
            PlanAction::Add if self.is_being_removed(id) => {
                vec![Open::Removed(Arc::clone(worker))]
            }
            PlanAction::Add => {
                let mut open = vec![Open::Done(self.make_known_nowait(Arc::clone(worker))?)];
                if worker.enabled {
                    open.push(Open::Running(self.start_worker_nowait(id)));
                }
                open
            }
        })
    }

    fn is_being_removed(&self, worker: &str) -> bool {
        let known = self.shared.handle.board.known();
        known.iter().any(|known| known.gone && known.config.id == worker)
    }

    /// Adds a worker that the configuration has again while one of its name is being removed, as
    /// soon as that is gone: if the configuration has it still by then.
    fn add_after_removal(&self, worker: Arc<WorkerConfig>) -> Result<()> {
        let board = &self.shared.handle.board;
        board.wait_for_removal(&worker.id);
        // No other reload comes between.
        let turn = self.shared.reloading.lock().unwrap_or_else(PoisonError::into_inner);
        if !self.held().workers().contains(&worker) {
            let message = "another configuration has taken the place of this one";
            return Err(Error::new(ErrorCategory::Cancelled, message).of_worker(&worker.id));
        }
        let (id, enabled) = (worker.id.clone(), worker.enabled);
        // Another reload with the same may have waited, too.
        if board.known().iter().all(|known| known.gone || known.config.id != id) {
            self.make_known_nowait(worker)?.wait()?;
        }
        drop(turn);
        if enabled { self.start_worker_nowait(&id).wait().map(drop) } else { Ok(()) }
    }

    fn update(&self, config: &Arc<WorkerConfig>, restart: bool) -> Result<Ticket<()>> {
        let worker = WorkerId::new(&config.id)?;
        let (ticket, reply) = self.ticket(Some(&config.id), updated);
        let config = Arc::clone(config);
        self.submit(reply, |reply| Input::Update { worker, config, restart, reply });
        Ok(ticket)
    }

    /// Waits for what a reload has begun, and says what came of it, whoever still wants to know.
    fn finish_reload(&self, begun: Reloading) -> Plan {
        let plan = begun.finish(self);
        let failed: Vec<&PlanStep> = plan.failures().collect();
        for step in &failed {
            let failure = step.failure.as_deref().unwrap_or_default();
            log::warn!("reload: {} {}: failed: {failure}", step.action.as_str(), step.worker);
        }
        let count = plan.steps.len();
        // That nothing was to be done has been said.
        if count > 0 {
            log::info!("reload: {} of {count} steps are done", count - failed.len());
        }
        let failed = failed.into_iter().map(|step| step.worker.clone()).collect();
        let finished = EventKind::ReloadFinished { failed };
        self.shared.handle.send(Input::Tell(finished.into()));
        plan
    }

    /// Says what a reload has done: in the log, and to whoever follows the events.
    fn tell_reload(&self, begun: Result<Reloading>) -> Result<Reloading> {
        let kind = match &begun {
            Ok(Reloading { plan, .. }) => {
                for line in plan.to_string().lines() {
                    log::info!("reload: {line}");
                }
                let changed = [PlanAction::Update, PlanAction::Restart];
                let switched = [PlanAction::Stop, PlanAction::Start];
                EventKind::Reloaded {
                    added: plan.with(&[PlanAction::Add]),
                    removed: plan.with(&[PlanAction::Remove]),
                    changed: plan.with(&[changed, switched].concat()),
                }
            }
            Err(error) => {
                log::error!("the configuration is not reloaded, nothing changed: {error}");
                EventKind::ReloadFailed { message: error.to_string() }
            }
        };
        self.shared.handle.send(Input::Tell(kind.into()));
        begun
    }
}

/// The answer to a change: it holds, and what it restarted runs.
fn updated(done: Done) -> Option<()> {
    if done == Done::Updated { Some(()) } else { running(done).map(drop) }
}
