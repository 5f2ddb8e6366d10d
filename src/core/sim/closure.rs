//! The closure of one worker: breadth first through everything that commands, reports and time can
//! do to it, each turn before the judge, until nothing new is found.

use std::collections::{BTreeMap, HashSet, VecDeque};
use std::time::Duration;

use super::Verdict;
use super::coverage::{Outcome, Seen, Wanted, kind};
use super::judge::Judge;
use super::life::{KILL_TIMEOUT, Step};
use crate::core::event::{Command, Effect, Event, Goal, Report, Ticket, WorkerSpec};
use crate::core::moment::Moment;
use crate::error::{ErrorCategory, Failure};
use crate::worker::{Exit, RestartPolicy, WorkerId, WorkerState};

/// All durations are multiples of the time that force gets, so that few moments differ.
const UNIT: Duration = KILL_TIMEOUT;

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
    /// What a change makes of the spec, and a further one takes back.
    changed: WorkerSpec,
    /// The worker that it depends on, if it does.
    other: Option<WorkerId>,
    limit: usize,
    seen: Seen,
    known: HashSet<String>,
    queue: VecDeque<Node>,
    /// For each state the one before it, and what happened in between.
    ways: Vec<(usize, Moment, Option<Happening>)>,
}

impl Search {
    fn new((spec, changed): (WorkerSpec, WorkerSpec), limit: usize) -> Self {
        Self {
            changed,
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
        let mut judge = Judge::new(1, UNIT);
        if let Some(other) = &self.other {
            let mut spec = Box::new(self.spec.clone());
            spec.depends_on.clear();
            spec.start_timeout = Duration::MAX;
            spec.restart.policy = RestartPolicy::Never;
            let add = Command::Add { worker: other.clone(), spec, past: 0 };
            judge.turn(Moment::ZERO, Event::Command { ticket: Ticket(0), command: add })?;
        }
        self.visit(Node { judge, now: Moment::ZERO, place: 0 }, Moment::ZERO, None);
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

    /// Remembers a state that is new. Two open tickets (one for a dependent worker) and one written
    /// off incarnation at a time show all there is to show; more of them only multiply.
    fn visit(&mut self, node: Node, at: Moment, happening: Option<Happening>) {
        let judge = &node.judge;
        let newest = judge.numbers.get(&self.worker).copied().unwrap_or(0);
        let known = judge.workers.values().flat_map(|worker| worker.written_off.keys());
        let retired = judge.retired.values().flat_map(BTreeMap::keys);
        let written_off: Vec<u64> = known.chain(retired).map(|number| newest - number).collect();
        let crowded = written_off.len() > 1 || written_off.iter().any(|age| *age > 2);
        let tickets = if self.other.is_some() { 1 } else { 2 };
        if judge.tickets.len() > tickets || crowded {
            return;
        }
        let fingerprint = format!("{} {written_off:?}", judge.core.fingerprint(node.now));
        if self.known.insert(fingerprint) {
            self.ways.push((node.place, at, happening));
            self.queue.push_back(Node { place: self.ways.len() - 1, ..node });
        }
    }

    fn happen(&mut self, node: &Node, happening: Happening) -> Verdict {
        self.count(node, &happening);
        let mut judge = node.judge.clone();
        let now = match &happening {
            Happening::Wait(pause) => node.now + *pause,
            Happening::Turn(event) => {
                self.seen.turns += 1;
                let verdict = judge.turn(node.now, event.clone());
                for effect in &judge.effects {
                    if let Effect::Transition(transition) = effect {
                        self.seen.edges.insert((transition.from, transition.to));
                    }
                }
                verdict.map_err(|rule| {
                    format!("{}{:?} {happening:?}\n{rule}", self.way(node.place), node.now)
                })?;
                node.now
            }
        };
        self.visit(Node { judge, now, place: node.place }, node.now, Some(happening));
        Ok(())
    }

    /// What led to a state.
    fn way(&self, mut place: usize) -> String {
        let mut labels = Vec::new();
        while place > 0 {
            let (before, at, happening) = &self.ways[place];
            labels.push(format!("{at:?} {happening:?}\n"));
            place = *before;
        }
        labels.into_iter().rev().collect()
    }

    /// All that can happen in a state.
    fn happenings(&self, node: &Node) -> Vec<Happening> {
        let mut all = vec![Happening::Turn(Event::Tick)];
        // Each of these happens in a world of its own, so they may share a ticket.
        let ticket = Ticket(self.seen.turns);
        let turn = |command| Happening::Turn(Event::Command { ticket, command });
        all.extend(self.commands(node).into_iter().map(turn));
        if let Some(other) = &self.other {
            all.push(turn(Command::Start { worker: other.clone(), force: false }));
            let number = node.judge.numbers.get(other).copied().unwrap_or(0);
            for report in [Report::Launched, Report::Started, Report::Gone(Exit::Code(1))] {
                let worker = other.clone();
                all.push(Happening::Turn(Event::Report { worker, incarnation: number, report }));
            }
        }
        self.reports(node, &mut all);
        let deadline = node.judge.core.next_deadline();
        match deadline.filter(|at| *at > node.now && *at < Moment::NEVER) {
            Some(deadline) => all.push(Happening::Wait(deadline.since(node.now))),
            // Nothing is due, but long lives count.
            None if deadline.is_none() => all.push(Happening::Wait(self.spec.restart.reset_after)),
            None => {}
        }
        all
    }

    fn commands(&self, node: &Node) -> Vec<Command> {
        let worker = || self.worker.clone();
        let present = node.judge.workers.get(&self.worker).map(|worker| &worker.spec);
        let spec = if present == Some(&self.spec) { &self.changed } else { &self.spec };
        let newest = node.judge.numbers.get(&self.worker).copied().unwrap_or(0);
        let mut all = vec![
            Command::Add { worker: worker(), spec: Box::new(self.spec.clone()), past: 0 },
            Command::Remove { worker: worker() },
            Command::Adopt { worker: worker(), incarnation: newest, up_for: Duration::ZERO },
            Command::Adopt { worker: worker(), incarnation: newest + 1, up_for: UNIT },
        ];
        // There is but one to settle on: another would double all that a shutdown can meet.
        all.push(Command::Settle { shutdown_timeout: UNIT });
        for restart in [false, true] {
            let spec = Box::new(spec.clone());
            all.push(Command::Update { worker: worker(), spec, restart });
        }
        for force in [false, true] {
            all.push(Command::Start { worker: worker(), force });
            all.push(Command::Stop { worker: worker(), force });
            all.push(Command::Restart { worker: worker(), force });
            all.push(Command::Shutdown { force, keep: false });
            all.push(Command::Shutdown { force, keep: true });
        }
        all
    }

    /// What hosts can report: the living what physics allows, the dead everything.
    fn reports(&self, node: &Node, all: &mut Vec<Happening>) {
        let id = &self.worker;
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
            add(
                life.number,
                vec![answer(probe, true), answer(probe, false), answer(probe + 1, true)],
            );
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
        let tick = matches!(event, Event::Tick);
        let outcome = match (tick, gone, due) {
            (true, _, true) => Outcome::Never,
            (_, true, true) => Outcome::Late,
            (_, true, false) => Outcome::InTime,
            (true, _, false) | (false, false, _) => return,
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

#[cfg(test)]
mod tests {
    use super::super::coverage::{KINDS, cells};
    use super::*;
    use crate::core::event::{Condition, HealthPolicy};
    use crate::worker::{OnUnhealthy, Ratio, RestartConfig, SuccessCodes, TRANSITIONS};

    /// More than any of them has: a search that gets here has met something without an end.
    const STATES: usize = 40_000;

    fn spec(killable: bool, policy: RestartPolicy) -> WorkerSpec {
        let mut restart = RestartConfig::policy(policy)
            .max_retries(1)
            .retry_delay(UNIT)
            .reset_after(UNIT)
            .half_open_after(UNIT);
        restart.jitter = Ratio::from_thousandths(0);
        WorkerSpec {
            start_timeout: UNIT,
            stop_timeout: 2 * UNIT,
            killable,
            keeps: killable,
            restart,
            health: None,
            success: SuccessCodes::default(),
            depends_on: vec![],
        }
    }

    /// All kinds, with all policies that the core tells apart, each with what becomes of it.
    fn specs() -> Vec<(WorkerSpec, WorkerSpec)> {
        let policies = [RestartPolicy::Never, RestartPolicy::OnFailure, RestartPolicy::Always];
        let mut all = Vec::new();
        for policy in policies {
            all.extend([spec(true, policy), spec(false, policy)]);
        }
        let mut healthy = spec(true, RestartPolicy::OnFailure);
        healthy.health = Some(HealthPolicy {
            interval: 2 * UNIT,
            timeout: UNIT,
            initial_delay: Duration::ZERO,
            retries: 2,
            successes: 1,
            on_unhealthy: OnUnhealthy::Restart,
        });
        let mut dependent = spec(false, RestartPolicy::OnFailure);
        dependent.depends_on.push((WorkerId::new("d").unwrap(), Condition::Started));
        all.extend([healthy, dependent]);
        let mut all: Vec<_> = all.into_iter().map(|spec| (spec.clone(), spec)).collect();
        // From a process to a thread, and back: everything differs that an incarnation keeps.
        let mut thread = spec(false, RestartPolicy::Never);
        thread.stop_timeout = UNIT;
        all.push((spec(true, RestartPolicy::Never), thread));
        all
    }

    /// Searches all kinds of workers side by side.
    fn search(limit: usize) -> Vec<Seen> {
        let search = |spec: (WorkerSpec, WorkerSpec)| {
            let name = format!("{spec:?}");
            Search::new(spec, limit).run().map_err(|rule| format!("{name}\n{rule}"))
        };
        std::thread::scope(|scope| {
            let builder = |spec| {
                std::thread::Builder::new().spawn_scoped(scope, move || search(spec)).unwrap()
            };
            let threads: Vec<_> = specs().into_iter().map(builder).collect();
            threads.into_iter().map(|thread| thread.join().unwrap().unwrap()).collect()
        })
    }

    #[test]
    fn one_workers_lives_keep_every_rule() {
        let mut all = Seen::default();
        for seen in search(STATES) {
            println!("{} states, {} turns, complete: {}", seen.states, seen.turns, seen.complete);
            assert!(seen.complete, "no end after {} states", seen.states);
            all.add(seen);
        }
        assert_eq!(all.edges, TRANSITIONS.into_iter().collect(), "edges");
        let resting = WorkerState::ALL.into_iter().filter(|s| *s != WorkerState::Initialized);
        let pairs = resting.flat_map(|state| KINDS.map(|kind| (state, kind))).collect();
        assert_eq!(all.pairs, pairs, "kinds of events in each state that is rested in");
        assert_eq!(all.cells, cells(), "ways to end");
    }
}
