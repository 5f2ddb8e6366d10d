//! The seeded world: workers, clients and hosts around the core; chaos first, then healing, then
//! the shutdown. It owns time, and the truth about who lives.

use std::collections::BTreeMap;
use std::fmt::Debug;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::Duration;

use super::dice::Dice;
use super::draw::{self, Clients, Fault, Faults, Wish};
use super::host::{Act, Host};
use super::judge::Judge;
use super::model::Worker;
use super::{Verdict, demand};
use crate::core::event::{Command, Effect, Event, Goal, Report, Ticket, WorkerSpec};
use crate::core::moment::Moment;
use crate::error::{ErrorCategory, Failure};
use crate::worker::{Exit, WorkerId};

/// What the world will do at some moment.
#[derive(Clone, Debug)]
enum Item {
    Act(WorkerId, u64, Act),
    Deliver(WorkerId, u64, Report),
}

/// What a run leaves behind.
#[derive(Default)]
pub(super) struct Story {
    /// Every turn and effect, if it was traced.
    pub(super) lines: Vec<String>,
    pub(super) turns: u64,
}

struct World {
    judge: Judge,
    dice: Dice,
    faults: Faults,
    now: Moment,
    queue: BTreeMap<(Moment, u64), Item>,
    sequence: u64,
    tickets: u64,
    ids: Vec<WorkerId>,
    hosts: BTreeMap<(WorkerId, u64), Host>,
    clients: Clients,
    /// The ticks that were due at this moment.
    ticks: (Moment, u32),
    story: Story,
    traced: bool,
}

/// Runs one seed to its end.
pub(super) fn run(seed: u64, traced: bool) -> (Story, Verdict) {
    let mut world = World::new(seed, traced);
    let lived = catch_unwind(AssertUnwindSafe(|| world.live()));
    let verdict = lived.unwrap_or_else(|panic| {
        let text = panic.downcast_ref::<String>().map(String::as_str);
        Err(format!("panicked: {}", text.or(panic.downcast_ref().copied()).unwrap_or("?")))
    });
    (world.story, verdict)
}

impl World {
    fn new(seed: u64, traced: bool) -> Self {
        let mut dice = Dice::new(seed);
        let faults = Faults::draw(&mut dice);
        let timeout = match dice.below(10) {
            0 => Duration::ZERO,
            1 => Duration::MAX,
            _ => dice.millis(&[100, 2000, 30_000]),
        };
        let count = 1 + dice.below(6);
        let clients = Clients::draw(&mut dice);
        let id = |number| WorkerId::new(&format!("w{number}"));
        Self {
            judge: Judge::new(seed, timeout),
            faults,
            now: Moment::ZERO,
            queue: BTreeMap::new(),
            sequence: 0,
            tickets: 0,
            ids: (0..count).map(|number| id(number).unwrap()).collect(),
            hosts: BTreeMap::new(),
            clients,
            ticks: (Moment::ZERO, 0),
            story: Story::default(),
            traced,
            dice,
        }
    }

    fn live(&mut self) -> Verdict {
        for index in 0..self.ids.len() {
            self.add(index)?;
            if self.dice.percent(70) {
                let worker = self.ids[index].clone();
                self.command(Command::Start { worker, force: false })?;
            }
        }
        let turns = 40 + self.dice.below(200);
        while self.story.turns < turns && !self.judge.all_down {
            self.disturb()?;
        }
        if self.dice.percent(50) {
            self.heal()?;
            self.converge()?;
        } else {
            self.shut_down()?;
            for _ in 0..self.dice.below(100) {
                self.disturb()?;
            }
            self.heal()?;
        }
        self.finish()
    }

    // Events.

    fn turn(&mut self, event: Event) -> Verdict {
        self.story.turns += 1;
        self.trace(&event);
        let verdict = self.judge.turn(self.now, event);
        for effect in std::mem::take(&mut self.judge.effects) {
            self.trace(&effect);
            self.perform(&effect);
        }
        verdict?;
        Ok(())
    }

    fn trace(&mut self, what: &(impl Debug + ?Sized)) {
        if self.traced {
            self.story.lines.push(format!("{:?} {what:?}", self.now));
        }
    }

    fn command(&mut self, command: Command) -> Verdict {
        self.tickets += 1;
        self.turn(Event::Command { ticket: Ticket(self.tickets), command })
    }

    fn shut_down(&mut self) -> Verdict {
        let (force, keep) = (self.dice.percent(20), self.dice.percent(30));
        self.command(Command::Shutdown { force, keep })
    }

    fn spec(&mut self, index: usize) -> Box<WorkerSpec> {
        let has_health = |id: &WorkerId| {
            let worker = self.judge.workers.get(id);
            (id.clone(), worker.is_some_and(|worker| worker.spec.health.is_some()))
        };
        let others: Vec<(WorkerId, bool)> = self.ids[..index].iter().map(has_health).collect();
        Box::new(draw::spec(&mut self.dice, &others))
    }

    fn add(&mut self, index: usize) -> Verdict {
        let spec = self.spec(index);
        let past = *self.dice.pick(&[0, 0, 1, 7]);
        self.command(Command::Add { worker: self.ids[index].clone(), spec, past })
    }

    fn update(&mut self, index: usize) -> Verdict {
        let (worker, spec) = (self.ids[index].clone(), self.spec(index));
        let restart = self.dice.percent(50);
        self.command(Command::Update { worker, spec, restart })
    }

    /// Takes over an incarnation that this world has not seen, or should be refused to.
    fn adopt(&mut self, worker: WorkerId) -> Verdict {
        let newest = self.judge.numbers.get(&worker).copied().unwrap_or(0);
        let known = self.hosts.contains_key(&(worker.clone(), newest));
        let incarnation = newest + u64::from(known) + self.dice.below(3);
        let key = (worker.clone(), incarnation);
        let up_for = self.dice.millis(&[0, 400, 3000, 90_000]);
        self.command(Command::Adopt { worker, incarnation, up_for })?;
        let lives = |id: &WorkerId| {
            let life = self.judge.workers.get(id).and_then(|worker| worker.life.as_ref());
            life.is_some_and(|life| life.number == incarnation)
        };
        if !self.hosts.contains_key(&key) && lives(&key.0) {
            let killable = self.judge.workers.get(&key.0).is_some_and(|w| w.spec.killable);
            let host = Host::new(&mut self.dice, &self.faults, killable);
            if let Some((pause, act)) = Host::left_alone(&mut self.dice, &self.faults) {
                self.queue_at(self.now + pause, Item::Act(key.0.clone(), incarnation, act));
            }
            self.hosts.insert(key, host);
        }
        Ok(())
    }

    fn perform(&mut self, effect: &Effect) {
        let (worker, number) = match effect {
            Effect::Launch { worker, incarnation }
            | Effect::Start { worker, incarnation }
            | Effect::Probe { worker, incarnation, .. }
            | Effect::Ask { worker, incarnation, .. }
            | Effect::Force { worker, incarnation }
            | Effect::Abandon { worker, incarnation }
            | Effect::LetGo { worker, incarnation } => (worker, *incarnation),
            Effect::Transition(_)
            | Effect::Health { .. }
            | Effect::Reply { .. }
            | Effect::Changed { .. }
            | Effect::Forgotten { .. }
            | Effect::AllDown => return,
        };
        let key = (worker.clone(), number);
        if matches!(effect, Effect::Launch { .. }) {
            let killable =
                self.judge.workers.get(worker).is_some_and(|worker| worker.spec.killable);
            let host = Host::new(&mut self.dice, &self.faults, killable);
            self.hosts.insert(key.clone(), host);
        }
        let Some(host) = self.hosts.get_mut(&key) else { return };
        for (pause, act) in host.obey(&mut self.dice, &self.faults, effect) {
            self.queue_at(self.now + pause, Item::Act(worker.clone(), number, act));
        }
    }

    fn queue_at(&mut self, at: Moment, item: Item) {
        self.sequence += 1;
        self.queue.insert((at, self.sequence), item);
    }

    // Chaos.

    fn disturb(&mut self) -> Verdict {
        let choice = self.dice.below(100);
        if choice < 12 || self.next().is_none() {
            self.random_command()
        } else if self.faults.strike(&mut self.dice, Fault::StaleReport) {
            self.stale_report()
        } else if self.faults.strike(&mut self.dice, Fault::IdleTick) {
            self.turn(Event::Tick)
        } else {
            let stall = self.faults.strike(&mut self.dice, Fault::Stall);
            let jump = self.dice.millis(&[1000, 60_000, 3_600_000, 864_000_000]);
            self.advance(if stall { jump } else { Duration::ZERO })
        }
    }

    fn random_command(&mut self) -> Verdict {
        let index = self.dice.below(self.ids.len() as u64) as usize;
        let worker = self.ids[index].clone();
        match self.clients.want(&mut self.dice) {
            (Wish::Start, force) => self.command(Command::Start { worker, force }),
            (Wish::Stop, force) => self.command(Command::Stop { worker, force }),
            (Wish::Restart, force) => self.command(Command::Restart { worker, force }),
            (Wish::Remove, _) => self.command(Command::Remove { worker }),
            (Wish::Add, _) => self.add(index),
            (Wish::Adopt, _) => self.adopt(worker),
            (Wish::Update, _) => self.update(index),
            (Wish::Settle, _) => {
                let shutdown_timeout = self.dice.millis(&[0, 100, 2000, 30_000]);
                self.command(Command::Settle { shutdown_timeout })
            }
            (Wish::Shutdown, _) => self.shut_down(),
        }
    }

    /// News of an incarnation that is over, or never was.
    fn stale_report(&mut self) -> Verdict {
        let worker = self.dice.pick(&self.ids).clone();
        let newest = self.judge.numbers.get(&worker).copied().unwrap_or(0);
        let dead = |number: &u64| {
            self.hosts.get(&(worker.clone(), *number)).is_none_or(|host| !host.alive)
        };
        let number = match self.dice.below(3) {
            0 => newest + 1 + self.dice.below(3),
            1 => self.dice.below(newest + 1),
            _ => newest,
        };
        let buried = self.queue.values().all(|item| !item.is_last_of(&worker, number));
        if !dead(&number) || !buried {
            return Ok(());
        }
        let report = match self.dice.below(6) {
            0 => Report::Launched,
            1 => Report::Started,
            2 => Report::Completed,
            3 => Report::Probed { probe: self.dice.below(9), healthy: false, reason: "?".into() },
            4 => Report::Failed(Failure::new(ErrorCategory::Crash, "an old story")),
            _ => Report::Gone(Exit::Code(1)),
        };
        self.turn(Event::Report { worker, incarnation: number, report })
    }

    /// The next moment at which something happens.
    fn next(&self) -> Option<Moment> {
        let queued = self.queue.keys().next().map(|(at, _)| *at);
        let deadline = self.judge.core.next_deadline().filter(|at| *at < Moment::NEVER);
        queued.into_iter().chain(deadline).min()
    }

    /// Lets time pass to the next moment, and `jump` further: first what is queued is heard, then
    /// it ticks.
    fn advance(&mut self, jump: Duration) -> Verdict {
        let Some(next) = self.next() else { return Ok(()) };
        self.now = self.now.max(next) + jump;
        for _ in 0..50 {
            let first = self.queue.first_key_value().map(|(key, _)| *key);
            let Some(item) =
                first.filter(|(at, _)| *at <= self.now).and_then(|key| self.queue.remove(&key))
            else {
                break;
            };
            self.happen(item)?;
        }
        if self.judge.core.next_deadline().is_some_and(|at| at <= self.now) {
            let again = self.ticks.0 == self.now;
            self.ticks = (self.now, if again { self.ticks.1 + 1 } else { 0 });
            demand!(self.ticks.1 < 50, "I24: ticks without end at {:?}", self.now);
            self.turn(Event::Tick)?;
        }
        Ok(())
    }

    fn happen(&mut self, item: Item) -> Verdict {
        let (worker, number, act) = match item {
            Item::Act(worker, number, act) => (worker, number, act),
            Item::Deliver(worker, incarnation, report) => {
                return self.turn(Event::Report { worker, incarnation, report });
            }
        };
        let Some(host) = self.hosts.get_mut(&(worker.clone(), number)).filter(|host| host.alive)
        else {
            return Ok(());
        };
        let report = match act {
            Act::Say(report) => report,
            Act::End(exit) => {
                host.alive = false;
                Report::Gone(exit)
            }
        };
        let copies = 1 + u64::from(self.faults.strike(&mut self.dice, Fault::Duplicate));
        for _ in 0..copies {
            let at = self.now + self.delivery();
            self.queue_at(at, Item::Deliver(worker.clone(), number, report.clone()));
        }
        Ok(())
    }

    fn delivery(&mut self) -> Duration {
        if self.faults.strike(&mut self.dice, Fault::LostReport) {
            Duration::from_secs(100_000_000)
        } else if self.faults.strike(&mut self.dice, Fault::LateReport) {
            self.dice.millis(&[1, 20, 500, 10_000])
        } else {
            Duration::ZERO
        }
    }

    // Peace.

    /// Ends all faults: what was delayed arrives, and whoever was told to end does.
    fn heal(&mut self) -> Verdict {
        self.faults = Faults::NONE;
        for (_, item) in std::mem::take(&mut self.queue) {
            if matches!(item, Item::Deliver(..)) {
                self.queue_at(self.now, item);
            }
        }
        let keys: Vec<(WorkerId, u64)> = self.hosts.keys().cloned().collect();
        for key in keys {
            let acts = self.hosts.get_mut(&key).map(Host::heal).unwrap_or_default();
            for act in acts {
                self.queue_at(self.now, Item::Act(key.0.clone(), key.1, act));
            }
        }
        Ok(())
    }

    /// I25: without faults all workers come to rest where they are meant to be.
    fn converge(&mut self) -> Verdict {
        for index in 0..self.ids.len() {
            let worker = self.ids[index].clone();
            if self.dice.percent(50) {
                self.command(Command::Start { worker, force: false })?;
            }
        }
        let far = self.now + Duration::from_secs(60);
        for _ in 0..20_000 {
            if self.restless(far).is_none() && self.queue.is_empty() {
                return Ok(());
            }
            self.advance(Duration::ZERO)?;
        }
        match self.restless(far) {
            Some(id) => Err(format!("I25: {id} does not come to rest: {:?}", self.judge.statuses)),
            None => Ok(()),
        }
    }

    /// A worker that is neither up nor at rest, nor will be before `far`.
    fn restless(&self, far: Moment) -> Option<&WorkerId> {
        let rests = |id: &WorkerId| {
            let (Some(worker), Some(status)) =
                (self.judge.workers.get(id), self.judge.statuses.get(id))
            else {
                return false;
            };
            // With less time than this to start, it fails for ever.
            let hopeless = worker.spec.start_timeout < Duration::from_millis(300);
            match (status.phase, worker.goal) {
                ("none", _) => hopeless || status.retry_at.is_none_or(|at| at > far),
                ("up", Goal::Up) => true,
                _ => hopeless && worker.goal == Goal::Up,
            }
        };
        self.judge.workers.keys().find(|id| !rests(id))
    }

    /// I40: after the shutdown nothing is left: no life, no ticket, no deadline.
    fn finish(&mut self) -> Verdict {
        self.shut_down()?;
        for _ in 0..3000 {
            if self.judge.all_down && self.queue.is_empty() {
                break;
            }
            self.advance(Duration::ZERO)?;
        }
        demand!(self.judge.all_down, "I19: the shutdown does not end");
        let deadline = self.judge.core.next_deadline();
        demand!(deadline.is_none(), "I40: {deadline:?} is left after the end");
        demand!(self.judge.tickets.is_empty(), "I12: {:?} are left", self.judge.tickets);
        let alive: Vec<_> = self.hosts.iter().filter(|(_, host)| host.alive).collect();
        demand!(alive.is_empty(), "I40: {alive:?} still live");
        for (id, status) in &self.judge.statuses {
            let let_go = self.judge.workers.get(id).is_some_and(Worker::is_let_go);
            let rests = (status.phase == "none" || let_go) && status.abandoned == 0;
            demand!(rests, "I32: {id} is left as {status:?}");
        }
        Ok(())
    }
}

impl Item {
    /// True for the last report of this incarnation.
    fn is_last_of(&self, id: &WorkerId, number: u64) -> bool {
        match self {
            Self::Deliver(worker, incarnation, Report::Gone(_)) => {
                worker == id && *incarnation == number
            }
            Self::Act(..) | Self::Deliver(..) => false,
        }
    }
}
