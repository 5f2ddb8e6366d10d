//! The closure of one worker: breadth first through everything that commands, reports and time can do
//! to it, each turn before the judge, until nothing new is found or the bound is reached.

use std::collections::{BTreeSet, HashSet, VecDeque};
use std::time::Duration;

use super::Verdict;
use super::judge::Judge;
use super::model::{Step, Why};
use crate::core::event::{Command, Effect, Event, Goal, Report, Ticket, WorkerSpec};
use crate::core::moment::Moment;
use crate::error::{ErrorCategory, Failure};
use crate::worker::{Exit, WorkerId, WorkerState};

/// How an end goes on from one of its steps.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Outcome {
    /// Gone before the step's deadline.
    InTime,
    /// Gone after the deadline, but before anybody looked.
    Late,
    /// Not gone when the deadline was acted on.
    Never,
}

/// What the worker was meant to do in that moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Wanted {
    Up,
    Down,
    Gone,
    Shutdown,
}

/// What a search has seen.
#[derive(Default)]
struct Seen {
    states: usize,
    turns: u64,
    /// The queue ran dry: this is all there is.
    complete: bool,
    edges: BTreeSet<(WorkerState, WorkerState)>,
    pairs: BTreeSet<(WorkerState, &'static str)>,
    cells: BTreeSet<(Why, Step, Outcome, Wanted)>,
}

impl Seen {
    fn add(&mut self, mut other: Self) {
        self.states += other.states;
        self.turns += other.turns;
        self.edges.append(&mut other.edges);
        self.pairs.append(&mut other.pairs);
        self.cells.append(&mut other.cells);
    }
}

/// A state of the search: the judge with the core in it, the time, and its place among the ways.
struct Node {
    judge: Judge,
    now: Moment,
    place: usize,
}

/// One thing that can happen.
#[derive(Clone, Debug)]
enum Happening {
    Turn(Event),
    Wait(Duration),
}

/// The search through the lives of one worker.
struct Search {
    worker: WorkerId,
    spec: WorkerSpec,
    /// The worker that it depends on, if it does.
    other: Option<WorkerId>,
    limit: usize,
    seen: Seen,
    known: HashSet<String>,
    queue: VecDeque<Node>,
    /// For each state the one before it, and what happened in between.
    ways: Vec<(usize, String)>,
}

impl Search {
    fn new(spec: WorkerSpec, limit: usize) -> Self {
        Self {
            worker: WorkerId::new("w").unwrap(),
            other: spec.depends_on.first().map(|(id, _)| id.clone()),
            spec,
            limit,
            seen: Seen::default(),
            known: HashSet::new(),
            queue: VecDeque::new(),
            ways: Vec::new(),
        }
    }

    fn run(mut self) -> Verdict<Seen> {
        let mut judge = Judge::new(1, Duration::from_secs(9));
        if let Some(other) = &self.other {
            let mut spec = Box::new(self.spec.clone());
            spec.depends_on.clear();
            let add = Command::Add { worker: other.clone(), spec };
            judge.turn(Moment::ZERO, Event::Command { ticket: Ticket(0), command: add })?;
        }
        self.visit(Node { judge, now: Moment::ZERO, place: 0 }, String::new());
        while self.seen.states < self.limit
            && let Some(node) = self.queue.pop_front()
        {
            self.seen.states += 1;
            for happening in self.happenings(&node) {
                self.happen(&node, happening)?;
            }
        }
        self.seen.complete = self.queue.is_empty();
        Ok(self.seen)
    }

    /// Remembers a state that is new. Two open tickets and two incarnations at a time show all there
    /// is to show; more of them only multiply.
    fn visit(&mut self, node: Node, label: String) {
        let lives = |worker: &super::model::Worker| {
            worker.written_off.len() + usize::from(worker.life.is_some())
        };
        let retired = node.judge.retired.values().map(std::collections::BTreeMap::len).sum::<usize>();
        let crowded = node.judge.workers.values().any(|worker| lives(worker) > 2);
        if node.judge.tickets.len() > 2 || crowded || retired > 1 {
            return;
        }
        let fingerprint = format!("{} {retired}", node.judge.core.fingerprint(node.now));
        if self.known.insert(fingerprint) {
            self.ways.push((node.place, label));
            self.queue.push_back(Node { place: self.ways.len() - 1, ..node });
        }
    }

    fn happen(&mut self, node: &Node, happening: Happening) -> Verdict {
        self.count(node, &happening);
        let label = format!("{:?} {happening:?}", node.now);
        let mut judge = node.judge.clone();
        let now = match happening {
            Happening::Wait(pause) => node.now + pause,
            Happening::Turn(event) => {
                self.seen.turns += 1;
                let verdict = judge.turn(node.now, event);
                for effect in &judge.effects {
                    if let Effect::Transition(transition) = effect {
                        self.seen.edges.insert((transition.from, transition.to));
                    }
                }
                verdict.map_err(|rule| format!("{}{label}\n{rule}", self.way(node.place)))?;
                node.now
            }
        };
        self.visit(Node { judge, now, place: node.place }, label);
        Ok(())
    }

    /// What led to a state.
    fn way(&self, mut place: usize) -> String {
        let mut labels = Vec::new();
        while place > 0 {
            labels.push(format!("{}\n", self.ways[place].1));
            place = self.ways[place].0;
        }
        labels.into_iter().rev().collect()
    }

    /// All that can happen in a state.
    fn happenings(&self, node: &Node) -> Vec<Happening> {
        let mut all = vec![Happening::Turn(Event::Tick)];
        // Each of these happens in a world of its own, so they may share a ticket.
        let ticket = Ticket(self.seen.turns);
        let turn = |command| Happening::Turn(Event::Command { ticket, command });
        all.extend(self.commands().into_iter().map(turn));
        if let Some(other) = &self.other {
            let worker = other.clone();
            all.push(turn(Command::Start { worker: worker.clone(), force: false }));
            all.push(turn(Command::Stop { worker, force: true }));
            self.reports(node, other, &mut all);
        }
        self.reports(node, &self.worker, &mut all);
        let deadline = node.judge.core.next_deadline();
        match deadline.filter(|at| *at > node.now && *at < Moment::NEVER) {
            Some(deadline) => all.push(Happening::Wait(deadline.since(node.now))),
            // Nothing is due, but long lives count.
            None if deadline.is_none() => all.push(Happening::Wait(self.spec.restart.reset_after)),
            None => {}
        }
        all
    }

    fn commands(&self) -> Vec<Command> {
        let worker = || self.worker.clone();
        let mut all = vec![
            Command::Add { worker: worker(), spec: Box::new(self.spec.clone()) },
            Command::Remove { worker: worker() },
        ];
        for force in [false, true] {
            all.push(Command::Start { worker: worker(), force });
            all.push(Command::Stop { worker: worker(), force });
            all.push(Command::Restart { worker: worker(), force });
            all.push(Command::Shutdown { force });
        }
        all
    }

    /// What hosts can report about `id`: the living what physics allows, the dead everything.
    fn reports(&self, node: &Node, id: &WorkerId, all: &mut Vec<Happening>) {
        let worker = node.judge.workers.get(id);
        let life = worker.and_then(|worker| worker.life.as_ref());
        let newest = node.judge.numbers.get(id).copied().unwrap_or(0);
        let mut add = |incarnation: u64, reports: Vec<Report>| {
            all.extend(reports.into_iter().map(|report| {
                Happening::Turn(Event::Report { worker: id.clone(), incarnation, report })
            }));
        };
        let crash = Failure::new(ErrorCategory::Crash, "broken");
        let answer = |probe, healthy| Report::Probed { probe, healthy, reason: String::new() };
        let every = || {
            let failed = Report::Failed(crash.clone());
            vec![Report::Launched, Report::Completed, failed, Report::Gone(Exit::Code(0))]
        };
        add(newest + 1, vec![Report::Started, answer(1, false), Report::Gone(Exit::Unknown)]);
        add(newest + 1, every());
        let Some(life) = life else { return add(newest, every()) };
        add(life.number, every());
        let hopeless = Report::Failed(crash.clone().permanent());
        add(life.number, vec![hopeless, Report::Gone(Exit::Code(1))]);
        if life.start_ordered {
            add(life.number, vec![Report::Started]);
        }
        if let Some(probe) = life.probes.as_ref().and_then(|probes| probes.in_flight()) {
            add(life.number, vec![answer(probe, true), answer(probe, false), answer(probe + 1, true)]);
        }
        for number in worker.into_iter().flat_map(|worker| worker.written_off.keys()) {
            add(*number, vec![Report::Started, Report::Gone(Exit::Unknown)]);
        }
    }

    /// Keeps account of what was tried in which state.
    fn count(&mut self, node: &Node, happening: &Happening) {
        let Happening::Turn(event) = happening else { return };
        let Some(worker) = node.judge.workers.get(&self.worker) else { return };
        self.seen.pairs.insert((worker.told, kind(event)));
        let Some(life) = &worker.life else { return };
        let Some(ending) = life.ending else { return };
        let gone = matches!(event, Event::Report { worker, incarnation, report: Report::Gone(_) }
            if *worker == self.worker && *incarnation == life.number);
        let due = match life.step() {
            Step::Abandon => true,
            Step::Ask | Step::Force => {
                node.judge.core.next_deadline().is_some_and(|at| at <= node.now)
            }
        };
        let outcome = match (event, due) {
            (Event::Tick, true) => Outcome::Never,
            (_, true) if gone => Outcome::Late,
            (_, false) if gone => Outcome::InTime,
            _ => return,
        };
        let wanted = match worker.goal {
            Goal::Gone => Wanted::Gone,
            Goal::Up => Wanted::Up,
            Goal::Down if node.judge.shutdown.is_some() => Wanted::Shutdown,
            Goal::Down => Wanted::Down,
        };
        self.seen.cells.insert((ending.why, life.step(), outcome, wanted));
    }
}

/// The kinds of events, the forced commands apart.
const KINDS: [&str; 17] = [
    "add", "remove", "start", "start force", "stop", "stop force", "restart", "restart force",
    "shutdown", "shutdown force", "launched", "started", "probed", "completed", "failed", "gone",
    "tick",
];

fn kind(event: &Event) -> &'static str {
    let forced = |force: bool, plain, forced| if force { forced } else { plain };
    match event {
        Event::Tick => "tick",
        Event::Command { command, .. } => match command {
            Command::Add { .. } => "add",
            Command::Remove { .. } => "remove",
            Command::Start { force, .. } => forced(*force, "start", "start force"),
            Command::Stop { force, .. } => forced(*force, "stop", "stop force"),
            Command::Restart { force, .. } => forced(*force, "restart", "restart force"),
            Command::Shutdown { force } => forced(*force, "shutdown", "shutdown force"),
        },
        Event::Report { report, .. } => match report {
            Report::Launched => "launched",
            Report::Started => "started",
            Report::Probed { .. } => "probed",
            Report::Completed => "completed",
            Report::Failed(_) => "failed",
            Report::Gone(_) => "gone",
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::core::event::{Condition, HealthPolicy};
    use crate::worker::{
        OnUnhealthy, Ratio, RestartConfig, RestartPolicy, SuccessCodes, TRANSITIONS,
    };

    fn spec(killable: bool, policy: RestartPolicy) -> WorkerSpec {
        let mut restart = RestartConfig::policy(policy)
            .max_retries(1)
            .retry_delay(Duration::from_secs(1))
            .reset_after(Duration::from_secs(4))
            .half_open_after(Duration::from_secs(6));
        restart.jitter = Ratio::from_thousandths(0);
        WorkerSpec {
            start_timeout: Duration::from_secs(3),
            stop_timeout: Duration::from_secs(2),
            killable,
            restart,
            health: None,
            success: SuccessCodes::default(),
            depends_on: vec![],
        }
    }

    fn specs() -> Vec<WorkerSpec> {
        let policies = [RestartPolicy::Never, RestartPolicy::OnFailure, RestartPolicy::Always];
        let mut all = Vec::new();
        for policy in policies {
            all.extend([spec(true, policy), spec(false, policy)]);
        }
        let mut healthy = spec(true, RestartPolicy::OnFailure);
        healthy.health = Some(HealthPolicy {
            interval: Duration::from_secs(2),
            timeout: Duration::from_secs(1),
            initial_delay: Duration::ZERO,
            retries: 2,
            successes: 1,
            on_unhealthy: OnUnhealthy::Restart,
        });
        let mut dependent = spec(false, RestartPolicy::OnFailure);
        dependent.depends_on.push((WorkerId::new("d").unwrap(), Condition::Started));
        all.extend([healthy, dependent]);
        all
    }

    #[test]
    fn one_workers_lives_keep_every_rule() {
        let limit = std::env::var("HSU_SIM_STATES").ok().map(|text| text.parse().unwrap());
        let mut seen = Seen::default();
        for spec in specs() {
            let started = std::time::Instant::now();
            let name = format!("{:?} killable {}", spec.restart.policy, spec.killable);
            match Search::new(spec, limit.unwrap_or(3000)).run() {
                Ok(found) => {
                    println!("{name}: {} states, {} turns, complete {} {:?}", found.states, found.turns, found.complete, started.elapsed());
                    seen.add(found);
                }
                Err(rule) => panic!("{name}: {rule}"),
            }
        }
        assert_eq!(seen.edges, TRANSITIONS.into_iter().collect(), "edges");
        for state in WorkerState::ALL {
            for kind in KINDS {
                let rests = state != WorkerState::Initialized;
                assert_eq!(seen.pairs.contains(&(state, kind)), rests, "{state} {kind}");
            }
        }
        for why in [Why::Command, Why::Cancelled, Why::Completed, Why::Failed, Why::Timeout, Why::Health] {
            for step in [Step::Ask, Step::Force, Step::Abandon] {
                for outcome in [Outcome::InTime, Outcome::Late, Outcome::Never] {
                    for wanted in [Wanted::Up, Wanted::Down, Wanted::Gone, Wanted::Shutdown] {
                        // Once it is abandoned, there is no time left to be in.
                        let possible = (step, outcome) != (Step::Abandon, Outcome::InTime);
                        let cell = (why, step, outcome, wanted);
                        if seen.cells.contains(&cell) != possible { println!("{cell:?}"); }
                    }
                }
            }
        }
    }
}
