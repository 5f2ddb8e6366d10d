//! One worker in the loop's hands: its configuration, the hosts of its incarnations, and what they
//! told beside the lifecycle.

use std::sync::Arc;
use std::time::Duration;

use crossbeam_channel::Sender;

use super::aside::{Aside, Kept};
use super::board::Facts;
use super::directory::{Callee, Line};
use super::plan::{Plan, success_codes};
use super::{Input, Parts};
use crate::host::estate::Adoption;
use crate::host::process::ProcessHost;
use crate::host::runner::{ModuleRunner, Setting};
use crate::host::unmanaged::UnmanagedHost;
use crate::host::{Launch, Order, Report, Reporter};
use crate::logs::WorkerLog;
use crate::worker::{Exit, WorkerConfig, WorkerId, WorkerState};

/// One worker's hosts, and what they told beside the lifecycle.
pub(super) struct Slot {
    pub(super) config: Arc<WorkerConfig>,
    plan: Plan,
    /// The incarnation launched last.
    pub(super) current: u64,
    pub(super) hosts: Hosts,
    pub(super) facts: Facts,
    /// That it is to run was written down last.
    pub(super) noted_up: bool,
    /// What is written down outlives it.
    pub(super) noted: bool,
}

impl Slot {
    pub(super) fn new(
        config: Arc<WorkerConfig>,
        parts: &Parts,
        line: Arc<Line>,
        log: Arc<WorkerLog>,
    ) -> Self {
        Self {
            plan: Plan::new(&config, parts.host_program.as_ref()),
            config,
            current: 0,
            hosts: Hosts::default(),
            facts: Facts::new(line, log),
            noted_up: false,
            noted: false,
        }
    }

    /// What later incarnations are launched from.
    pub(super) fn replace(&mut self, config: Arc<WorkerConfig>, parts: &Parts) {
        self.plan = Plan::new(&config, parts.host_program.as_ref());
        self.noted_up = false;
        if config.logs.mode == self.config.logs.mode {
            self.facts.log.configure(config.logs);
        }
        self.config = config;
    }

    /// Begins an incarnation.
    pub(super) fn launch(
        &mut self,
        worker: &WorkerId,
        incarnation: u64,
        parts: &Parts,
        report: Reporter,
    ) {
        parts.logs.configured(worker, self.config.logs);
        let host = match &self.plan {
            Plan::Module { module } => {
                self.facts.log.launched(incarnation);
                let stack_size = self.config.stack_size;
                let setting = Setting { stack_size, ..parts.setting.clone() };
                let launch = Launch {
                    worker: worker.to_string(),
                    incarnation,
                    module: module.clone(),
                    config: self.config.config.clone(),
                };
                let mut host = Host::Module(Box::new(ModuleRunner::new(setting)), report);
                host.order(Order::Launch(Box::new(launch)));
                host
            }
            Plan::Process(plan) => {
                let (worker, plan) = (worker.clone(), Arc::clone(plan));
                let processes = &parts.processes;
                Host::Process(ProcessHost::launch(worker, incarnation, plan, processes, report))
            }
            Plan::Unmanaged(plan) => {
                Host::Unmanaged(UnmanagedHost::launch(worker, incarnation, plan, report))
            }
            Plan::NotYet(failure) => {
                report(Report::Gone(Exit::Failed(failure.clone())));
                return;
            }
        };
        self.hosts.insert(incarnation, host);
    }

    /// Keeps the last lines of an incarnation that is gone, if it failed; `state` is the worker's
    /// from before that.
    pub(super) fn keep_last_output(
        &mut self,
        incarnation: u64,
        exit: &Exit,
        state: Option<WorkerState>,
    ) {
        let completed = *exit == Exit::Returned || success_codes(&self.config).accept(exit);
        let in_order = state == Some(WorkerState::Stopping)
            || state == Some(WorkerState::Running) && completed;
        if !in_order {
            self.facts.last_output = self.facts.log.last_lines(incarnation).into();
        }
    }

    /// Takes over a process that a former master has left.
    pub(super) fn adopt(&mut self, adoption: Adoption, parts: &Parts, report: Reporter) {
        // What cannot be started cannot be adopted either: such a configuration is refused.
        let Plan::Process(plan) = &self.plan else { return };
        let incarnation = adoption.incarnation();
        self.current = incarnation;
        self.facts.renew();
        self.facts.pid = Some(adoption.pid());
        self.noted_up = true;
        let host = ProcessHost::adopt(adoption, Arc::clone(plan), &parts.processes, report);
        self.hosts.insert(incarnation, Host::Process(host));
    }

    /// Hands an order to the host of an incarnation, if it is still there.
    pub(super) fn order(&mut self, incarnation: u64, order: Order) {
        if let Some(host) = self.hosts.get_mut(incarnation) {
            host.order(order);
        }
    }
}

/// What runs the incarnations of one worker: mostly one, and older ones that are on their way out
/// or written off.
#[derive(Default)]
pub(super) struct Hosts(Vec<(u64, Host)>);

impl Hosts {
    pub(super) fn get(&self, incarnation: u64) -> Option<&Host> {
        self.0.iter().find(|(number, _)| *number == incarnation).map(|(_, host)| host)
    }

    pub(super) fn contains(&self, incarnation: u64) -> bool {
        self.get(incarnation).is_some()
    }

    fn get_mut(&mut self, incarnation: u64) -> Option<&mut Host> {
        self.0.iter_mut().find(|(number, _)| *number == incarnation).map(|(_, host)| host)
    }

    /// Those of all incarnations that are left.
    pub(super) fn all_mut(&mut self) -> impl Iterator<Item = &mut Host> {
        self.0.iter_mut().map(|(_, host)| host)
    }

    fn insert(&mut self, incarnation: u64, host: Host) {
        // There are thousands of these, and each has hardly ever a second one.
        debug_assert!(!self.contains(incarnation), "incarnation {incarnation} has a host");
        self.0.reserve_exact(1);
        self.0.push((incarnation, host));
    }

    /// Lets go of the host of an incarnation that is gone, or that is not ours any more.
    pub(super) fn remove(&mut self, incarnation: u64) {
        self.0.retain(|(number, _)| *number != incarnation);
    }
}

/// What runs one incarnation.
pub(super) enum Host {
    // Boxed, since the others are small.
    Module(Box<ModuleRunner>, Reporter),
    Process(ProcessHost),
    Unmanaged(UnmanagedHost),
}

impl Host {
    pub(super) fn order(&mut self, order: Order) {
        match self {
            Self::Module(runner, report) => runner.order(order, report),
            Self::Process(process) => process.order(&order),
            Self::Unmanaged(process) => process.order(&order),
        }
    }

    /// Who answers calls of its functions, if it can have any.
    pub(super) fn callee(&self) -> Option<Callee> {
        match self {
            Self::Module(runner, _) => runner.functions().map(Callee::Local),
            Self::Process(process) => process.functions().map(Callee::Remote),
            Self::Unmanaged(_) => None,
        }
    }

    /// The loop ends without having ended this: what it has started goes with it.
    pub(super) fn end_with_loop(&mut self) {
        match self {
            Self::Module(..) | Self::Process(_) => {
                self.order(Order::Force { patience: Duration::ZERO });
            }
            // Somebody else has started it.
            Self::Unmanaged(_) => {}
        }
    }
}

/// Where an incarnation's reports go: into the loop's inbox, or aside of it.
pub(super) fn reporter(worker: &WorkerId, incarnation: u64, inbox: Sender<Input>) -> Reporter {
    let worker = worker.clone();
    let aside = Arc::new(Aside::default());
    Arc::new(move |report| {
        let worker = worker.clone();
        let input = match aside.keep(worker.as_str(), report) {
            Kept::Quiet => return,
            Kept::Tell => Input::Aside { worker, incarnation, aside: Arc::clone(&aside) },
            Kept::Not(report) => Input::Report { worker, incarnation, report },
        };
        // After the master's end nobody wants to know.
        let _ = inbox.send(input);
    })
}
