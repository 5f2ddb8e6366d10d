//! The runtime: one loop that waits on one inbox until the core's next deadline, reads the clock
//! once, lets the core decide, and performs the effects. The core and the hosts meet here and
//! nowhere else.

mod aside;
mod board;
mod clock;
mod crowd;
mod directory;
mod feed;
mod handle;
mod heirs;
mod main_worker;
mod narrate;
mod news;
mod plan;
mod probe;
mod pulse;
mod route;
mod slot;
mod ticket;

use std::collections::BTreeMap;
use std::io;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

use crossbeam_channel::{Receiver, RecvTimeoutError, Sender, unbounded};

use crate::core::Core;
use crate::core::event as core;
use crate::core::event::{Command, Effect, Event as CoreEvent, Ticket as TicketNumber};
use crate::core::lifecycle::FORCE_PATIENCE;
use crate::core::moment::Moment;
use crate::host::estate::Adoption;
use crate::host::identity::{self, Identity, Role};
use crate::host::process::ProcessShared;
use crate::host::roles::Program;
use crate::host::runner::Setting;
use crate::host::{Order, Report, threads};
use crate::logs::{LogNews, Logs};
use crate::worker::{Exit, WorkerConfig, WorkerId, WorkerState, WorkerType};

use aside::Aside;
pub(crate) use board::{Board, Described, Known, Watch};
pub use board::{Past, ShutdownReport};
use clock::Clock;
use directory::Directory;
use feed::Feed;
pub(crate) use feed::Subscriber;
pub use feed::{Event, EventKind};
pub(crate) use handle::Handle;
pub(crate) use heirs::{Left, Remnant};
#[cfg(feature = "cli")]
pub(crate) use plan::preflight;
use plan::worker_spec;
pub(crate) use plan::{NO_HOST, NO_LAUNCHER};
pub(crate) use pulse::Stall;
use pulse::{Grace, Pulse, steps};
pub(crate) use route::Route;
use slot::{Host, Slot, reporter};
pub use ticket::Ticket;
pub(crate) use ticket::{Origin, ReplySender};

/// The loop's own stack.
const STACK: usize = 512 << 10;

/// Everything that can wake the loop.
pub(crate) enum Input {
    /// A command, and where its reply goes.
    Command { command: Command, reply: ReplySender },
    /// Give a worker another configuration; `restart`: its incarnation cannot live with it.
    Update { worker: WorkerId, config: Arc<WorkerConfig>, restart: bool, reply: ReplySender },
    /// Tell everybody of something that happened to the master as a whole. Boxed, since there is
    /// room for many of the largest.
    Tell(Box<EventKind>),
    /// Of a file of logs, a worker's or that of the events.
    Log { worker: Option<WorkerId>, news: LogNews },
    /// Make a worker known.
    Add { worker: WorkerId, config: Arc<WorkerConfig>, left: Left, reply: ReplySender },
    /// End what a former master has left of a worker that is none now; the reply is that to its
    /// removal. `noted`: what is written down of the worker stays.
    End { left: Box<Adoption>, noted: bool, reply: ReplySender },
    /// Nothing that is written down of a worker of a former master is needed any more, unless it is
    /// one of this one.
    GiveUp { worker: WorkerId },
    /// A host tells something.
    Report { worker: WorkerId, incarnation: u64, report: Report },
    /// An incarnation has news beside its lifecycle.
    Aside { worker: WorkerId, incarnation: u64, aside: Arc<Aside> },
    /// Somebody wants to hear of events.
    Subscribe(Subscriber),
    /// A part of the master is lost, so that it is to die.
    Fault(String),
}

/// What a loop is made of.
pub(crate) struct Parts {
    /// The name of the loop's thread.
    pub(crate) name: String,
    pub(crate) seed: u64,
    pub(crate) shutdown_timeout: Duration,
    pub(crate) setting: Setting,
    pub(crate) processes: Arc<ProcessShared>,
    /// What is run for modules in processes of their own.
    pub(crate) host_program: Option<Program>,
    /// What workers write, and what happens to them.
    pub(crate) logs: Logs,
}

/// Starts a loop on a thread of its own.
///
/// # Errors
/// When the system refuses the thread.
pub(crate) fn start(parts: Parts) -> io::Result<(Handle, JoinHandle<()>)> {
    let (sender, inbox) = unbounded();
    let sender_of_faults = sender.clone();
    let clock = Clock::new();
    let board = Arc::new(Board::new(clock.clone()));
    let realm = parts.setting.realm;
    let pulse = Arc::new(Pulse::new(clock.clone(), parts.logs.scribe()));
    let directory = Arc::<Directory>::default();
    let handle = Handle {
        inbox: sender.clone(),
        board: Arc::clone(&board),
        directory: Arc::clone(&directory),
        pulse: Arc::clone(&pulse),
        realm,
    };
    news::listen_to_logs(&parts.logs, sender.clone());
    news::listen_to_state(parts.processes.estate(), sender.clone());
    let core = Core::new(parts.seed, parts.shutdown_timeout);
    let name = parts.name.clone();
    let state = Loop {
        core,
        clock,
        inbox,
        sender,
        feed: Feed::new(parts.logs.scribe()),
        parts,
        workers: BTreeMap::new(),
        replies: BTreeMap::new(),
        tickets: 0,
        board,
        directory,
        pulse,
        grace: Grace::default(),
        all_down: false,
        ended: None,
        main_unwell: false,
        leaving: false,
    };
    let inbox = sender_of_faults;
    let on_fault = threads::on_fault(move |what| {
        let _ = inbox.send(Input::Fault(what.to_owned()));
    });
    let thread = threads::spawn(&name, STACK, move || {
        let _on_fault = on_fault;
        identity::assume(Identity { realm, role: Role::Loop, requests: Arc::default() });
        state.run();
    })?;
    Ok((handle, thread))
}

struct Loop {
    core: Core,
    clock: Clock,
    inbox: Receiver<Input>,
    sender: Sender<Input>,
    parts: Parts,
    /// Boxed, since a map has room for more than it holds.
    workers: BTreeMap<WorkerId, Box<Slot>>,
    replies: BTreeMap<u64, ReplySender>,
    tickets: u64,
    feed: Feed,
    board: Arc<Board>,
    directory: Arc<Directory>,
    pulse: Arc<Pulse>,
    grace: Grace,
    all_down: bool,
    /// The end of an incarnation, while what follows from it is done.
    ended: Option<(WorkerId, u64, Exit)>,
    /// The main worker's checks have put its goal down.
    main_unwell: bool,
    /// The master shuts down.
    leaving: bool,
}

impl Loop {
    fn run(mut self) {
        while !self.all_down {
            let first = self.wait();
            let now = self.clock.now();
            self.pulse.begin(now);
            // All that was sent before `now`, and no more: who sends without end holds up nobody.
            let waiting = self.inbox.len();
            for input in first.into_iter().chain(self.inbox.clone().try_iter().take(waiting)) {
                self.take(now, input);
            }
            // Only now: what has been heard is applied before a timeout is judged.
            if self.grace.judges(self.core.next_deadline(), now) {
                self.pulse.at("what is due", None);
                self.decide(now, CoreEvent::Tick);
            }
            let (took, ended) = self.pulse.end();
            self.grace.stood(took, ended);
        }
        // Whoever asked meanwhile gets the core's answer: the master launches nothing any more.
        let waiting = self.inbox.len();
        for input in self.inbox.clone().try_iter().take(waiting) {
            self.take(self.clock.now(), input);
        }
        self.board.close(false);
        self.feed.tell(&Event::of_master(EventKind::ShutDown));
        // First: what is read after the end of the logs would be in none.
        self.parts.processes.let_go();
        self.parts.logs.end();
    }

    /// The next input; `None` when a deadline came first.
    fn wait(&self) -> Option<Input> {
        let due = self.core.next_deadline().map(|due| self.grace.wake(due));
        let deadline = due.and_then(|due| self.clock.instant(due));
        let received = match deadline {
            Some(deadline) => self.inbox.recv_deadline(deadline),
            None => self.inbox.recv().map_err(|_| RecvTimeoutError::Disconnected),
        };
        // The loop holds a sender of its own, so the inbox cannot be disconnected.
        received.ok()
    }

    fn take(&mut self, now: Moment, input: Input) {
        let (what, worker) = steps::of_input(&input);
        self.pulse.at(what, worker);
        match input {
            Input::Command { command, reply } => self.admit(now, command, reply),
            Input::Add { worker, config, left, reply } => {
                self.add_heir(now, worker, (config, left), reply);
            }
            Input::End { left, noted, reply } => self.end_left(now, *left, noted, reply),
            Input::GiveUp { worker } => self.give_up(&worker),
            Input::Report { worker, incarnation, report } => {
                self.hear(now, worker, incarnation, report);
            }
            Input::Aside { worker, incarnation, aside } => {
                self.hear_aside(&worker, incarnation, &aside);
            }
            Input::Update { worker, config, restart, reply } => {
                self.update(now, worker, config, restart, reply);
            }
            Input::Tell(kind) => self.feed.tell(&Event::of_master(*kind)),
            Input::Log { worker, news } => self.hear_of_log(worker.as_ref(), news),
            Input::Subscribe(subscriber) => self.feed.subscribe(subscriber),
            // What follows is what follows when the loop itself is at fault.
            Input::Fault(what) => panic!("{what}"),
        }
    }

    fn command(&mut self, now: Moment, command: Command, reply: ReplySender) {
        self.note_command(&command);
        let ticket = TicketNumber(self.tickets);
        self.tickets += 1;
        self.replies.insert(ticket.0, reply);
        self.decide(now, CoreEvent::Command { ticket, command });
    }

    fn add(
        &mut self,
        now: Moment,
        worker: WorkerId,
        (config, past): (Arc<WorkerConfig>, u64),
        reply: ReplySender,
    ) {
        if !self.workers.contains_key(&worker) {
            let log = self.parts.logs.configured(&worker, config.logs);
            let slot = Slot::new(config, &self.parts, self.directory.line(&worker), log);
            self.workers.insert(worker.clone(), Box::new(slot));
        }
        let spec = self.workers.get(&worker).map(|slot| worker_spec(&slot.config));
        let Some(spec) = spec else { return };
        self.command(now, Command::Add { worker, spec: Box::new(spec), past }, reply);
    }

    /// What runs goes on as it was launched; the next incarnation is launched anew.
    fn update(
        &mut self,
        now: Moment,
        worker: WorkerId,
        config: Arc<WorkerConfig>,
        restart: bool,
        reply: ReplySender,
    ) {
        let spec = Box::new(worker_spec(&config));
        if self.core.takes_update(worker.as_str())
            && let Some(slot) = self.workers.get_mut(&worker)
        {
            slot.replace(config, &self.parts);
        }
        self.command(now, Command::Update { worker, spec, restart }, reply);
    }

    fn decide(&mut self, now: Moment, event: CoreEvent) {
        threads::fail_point("loop");
        let effects = self.core.handle(now, event);
        // The board first: who gets a reply must find what it says.
        for effect in &effects {
            self.publish(effect);
        }
        for effect in effects {
            self.watch_main(&effect);
            self.perform(effect);
        }
    }

    /// Brings what queries read up to date.
    fn publish(&mut self, effect: &Effect) {
        match effect {
            Effect::Launch { worker, incarnation } => {
                if let Some(slot) = self.workers.get_mut(worker) {
                    slot.current = *incarnation;
                    slot.facts.renew();
                    if slot.config.worker_type == WorkerType::Module {
                        self.parts.processes.estate().lives(worker, *incarnation);
                    }
                }
            }
            Effect::Changed { worker } => {
                let status = self.core.status(worker.as_str());
                if let Some(status) = &status {
                    self.note_goal(worker, status);
                }
                if let (Some(status), Some(slot)) = (status, self.workers.get(worker)) {
                    self.board.update(worker, &slot.config, status, &slot.facts);
                }
            }
            Effect::Transition(transition) => {
                self.connect(transition);
                let status = self.core.status(transition.worker.as_str());
                self.board.note(transition, status.as_ref());
            }
            Effect::Forgotten { worker } => {
                if let Some(slot) = self.workers.get(worker) {
                    slot.facts.line.forget();
                }
                self.board.forget(worker);
                if !self.workers.get(worker).is_some_and(|slot| slot.noted) {
                    self.parts.processes.estate().forget(worker);
                }
            }
            Effect::Start { .. }
            | Effect::Probe { .. }
            | Effect::Ask { .. }
            | Effect::Force { .. }
            | Effect::Abandon { .. }
            | Effect::LetGo { .. }
            | Effect::Health { .. }
            | Effect::Reply { .. }
            | Effect::AllDown => {}
        }
    }

    /// Functions can be called while their worker runs: before anybody hears that it does, and not
    /// after it is told to stop.
    fn connect(&self, transition: &core::Transition) {
        let Some(slot) = self.workers.get(&transition.worker) else { return };
        let incarnation = transition.incarnation;
        if transition.to != WorkerState::Running {
            slot.facts.line.disconnect();
        } else if let Some(callee) = slot.hosts.get(incarnation).and_then(Host::callee) {
            slot.facts.line.connect(incarnation, callee);
        }
    }

    fn perform(&mut self, effect: Effect) {
        let (what, worker) = steps::of_effect(&effect);
        self.pulse.at(what, worker);
        match effect {
            Effect::Launch { worker, incarnation } => self.launch(&worker, incarnation),
            Effect::Start { worker, incarnation } => {
                self.order(&worker, incarnation, Order::Start);
            }
            Effect::Probe { worker, incarnation, probe } => {
                self.probe(worker, incarnation, probe);
            }
            Effect::Ask { worker, incarnation, patience } => {
                self.order(&worker, incarnation, Order::Ask { patience });
            }
            Effect::Force { worker, incarnation } => {
                let patience = FORCE_PATIENCE;
                self.order(&worker, incarnation, Order::Force { patience });
            }
            Effect::Abandon { worker, incarnation } => {
                log::error!("{worker}#{incarnation} does not end and is waited for no longer");
                self.order(&worker, incarnation, Order::Abandon);
            }
            Effect::LetGo { worker, incarnation } => self.let_go(&worker, incarnation),
            Effect::Transition(transition) => self.tell_transition(transition),
            Effect::Health { worker, incarnation, health, reason } => {
                let kind = EventKind::Health { health, reason };
                self.feed.tell(&Event::of_worker(&worker, incarnation, kind));
            }
            Effect::Reply { ticket, reply } => {
                if let Ok(core::Done::ShutDown { killed, stuck }) = &reply {
                    self.board.note_shutdown(killed, stuck);
                }
                if let Some(sender) = self.replies.remove(&ticket.0) {
                    sender.answer(reply);
                }
            }
            Effect::Changed { worker: _ } => {}
            Effect::Forgotten { worker } => {
                self.workers.remove(&worker);
                self.parts.logs.forget(&worker);
                self.feed.tell(&Event::of_worker(&worker, 0, EventKind::Removed));
            }
            Effect::AllDown => self.all_down = true,
        }
    }

    /// Tells an edge to the log and to all readers of events.
    fn tell_transition(&mut self, transition: core::Transition) {
        let worker = &transition.worker;
        let status = self.core.status(worker.as_str());
        let slot = self.workers.get(worker);
        // What was taken over only to end does not run for anybody.
        let ends = transition.cause == core::Cause::Adopted
            && slot.is_some_and(|slot| !slot.config.enabled);
        if log::log_enabled!(log::Level::Error) && !ends {
            let pid = slot.and_then(|slot| slot.facts.pid);
            narrate::transition(&transition, status.as_ref(), pid);
        }
        let failed = transition.to == WorkerState::Failed;
        let failure = status.as_ref().filter(|_| failed).and_then(|s| s.last_failure.as_deref());
        let is_its =
            |end: &&(WorkerId, u64, Exit)| end.0 == *worker && end.1 == transition.incarnation;
        let exit = self.ended.as_ref().filter(is_its).map(|(.., exit)| exit);
        self.feed.transition(transition, failure.map(|(failure, _)| failure), exit);
    }

    fn order(&mut self, worker: &WorkerId, incarnation: u64, order: Order) {
        if let Some(slot) = self.workers.get_mut(worker) {
            slot.order(incarnation, order);
        }
    }

    fn launch(&mut self, worker: &WorkerId, incarnation: u64) {
        let Some(slot) = self.workers.get_mut(worker) else { return };
        let reporter = reporter(worker, incarnation, self.sender.clone());
        slot.launch(worker, incarnation, &self.parts, reporter);
    }
}

impl Drop for Loop {
    /// However the loop ends, nothing it runs outlives it unattended. After an orderly shutdown
    /// there is nothing left but what is stuck; after a panic of ours this is the whole emergency
    /// plan.
    fn drop(&mut self) {
        for slot in self.workers.values_mut() {
            slot.facts.line.disconnect();
            if slot.config.is_kept() && std::thread::panicking() {
                continue;
            }
            for host in slot.hosts.all_mut() {
                host.end_with_loop();
            }
        }
        if std::thread::panicking() {
            log::error!("the event loop died; every process that is not to outlive it is killed");
            self.board.close(true);
            self.feed.tell(&Event::of_master(EventKind::Died));
            self.parts.processes.let_go();
            self.parts.logs.end();
        }
    }
}
