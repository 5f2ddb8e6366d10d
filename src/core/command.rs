//! Commands: what each does in each phase, and the reply it gets or waits for.

use std::collections::VecDeque;

use super::event::{Cause, Command, Done, Effect, Refusal, Ticket, WorkerSpec};
use super::lifecycle::{MAX_WRITTEN_OFF, Step, Why};
use super::moment::Moment;
use super::planted::{Bug, planted};
use super::worker::{Goal, Next, Phase, Turn, Verdict, Worker};
use super::{Core, Retired, Shutdown};
use crate::worker::WorkerId;

impl Core {
    pub(super) fn command(
        &mut self,
        ticket: Ticket,
        command: Command,
        effects: &mut Vec<Effect>,
        touched: &mut VecDeque<WorkerId>,
    ) {
        let launches = matches!(command, Command::Start { .. } | Command::Restart { .. });
        if launches && self.shutdown.is_some() {
            Self::refuse(effects, ticket, Refusal::ShuttingDown);
            return;
        }
        let (worker, known) = match command {
            Command::Add { worker, spec, past } => {
                self.add(ticket, worker, (*spec, past), effects, touched);
                return;
            }
            Command::Shutdown { force, keep } => {
                self.shut_down(ticket, (force, keep), effects, touched);
                return;
            }
            Command::Settle { shutdown_timeout } => {
                self.settle_master(ticket, shutdown_timeout, effects);
                return;
            }
            Command::Update { worker, spec, restart } => {
                self.update(ticket, &worker, *spec, restart, effects);
                (worker, Some(()))
            }
            Command::Adopt { worker, incarnation, up_for } => {
                self.adopt(ticket, &worker, (incarnation, up_for), effects);
                (worker, Some(()))
            }
            Command::Remove { worker } => {
                let known = self.with_worker(&worker, effects, |w, turn| w.remove(turn, ticket));
                (worker, known)
            }
            Command::Stop { worker, force } => {
                let known =
                    self.with_worker(&worker, effects, |w, turn| w.stop(turn, ticket, force));
                (worker, known)
            }
            Command::Start { worker, force } => {
                let known =
                    self.with_worker(&worker, effects, |w, turn| w.start(turn, ticket, force));
                (worker, known)
            }
            Command::Restart { worker, force } => {
                let known = self.with_worker(&worker, effects, |w, turn| {
                    w.restart(turn, ticket, force, Cause::Command);
                });
                (worker, known)
            }
        };
        match known {
            Some(()) => touched.push_back(worker),
            None => Self::refuse(effects, ticket, Refusal::UnknownWorker),
        }
    }

    fn add(
        &mut self,
        ticket: Ticket,
        id: WorkerId,
        (spec, past): (WorkerSpec, u64),
        effects: &mut Vec<Effect>,
        touched: &mut VecDeque<WorkerId>,
    ) {
        if let Some(refusal) = self.refuses_add(id.as_str()) {
            Self::refuse(effects, ticket, refusal);
            return;
        }
        self.note_dependant(&id, &spec);
        // That of one which only a former master has had is known, whatever was forgotten here.
        let unknown = if past > 0 { 0 } else { self.retired_floor };
        let mut retired = self
            .retired
            .remove(&id)
            .unwrap_or_else(|| Retired { incarnation: unknown, ..Retired::default() });
        if !planted(Bug::PastForgotten) {
            retired.incarnation = retired.incarnation.max(past);
        }
        let worker = Worker::new(id.clone(), self.added, spec, retired, self.now);
        self.added += 1;
        self.workers.insert(id.clone(), Box::new(worker));
        effects.push(Effect::Reply { ticket, reply: Ok(Done::Added) });
        touched.push_back(id);
    }

    /// Goal down for all, but for those that are let go. Orders go out backwards; the ends run side
    /// by side.
    fn shut_down(
        &mut self,
        ticket: Ticket,
        (force, keep): (bool, bool),
        effects: &mut Vec<Effect>,
        touched: &mut VecDeque<WorkerId>,
    ) {
        let first = self.shutdown.is_none();
        let deadline = self.now + self.shutdown_timeout;
        let shutdown =
            self.shutdown.get_or_insert(Shutdown { deadline, tickets: Vec::new(), result: None });
        if let Some(result) = &shutdown.result {
            effects.push(Effect::Reply { ticket, reply: Ok(result.clone()) });
            return;
        }
        shutdown.tickets.push(ticket);
        if first || force {
            let ids = self.ids_backwards();
            for id in &ids {
                self.with_worker(id, effects, |worker, turn| {
                    // Reports about this shutdown count only what happens from here on.
                    worker.killed &= !first;
                    match &worker.phase {
                        Phase::Up { .. } if first && keep && worker.spec.keeps => {
                            worker.let_go(turn);
                        }
                        Phase::LetGo { .. } => {}
                        Phase::None
                        | Phase::Launching { .. }
                        | Phase::Launched { .. }
                        | Phase::Starting { .. }
                        | Phase::Up { .. }
                        | Phase::Ending(_) => worker.go_down(turn, Why::Shutdown, force),
                    }
                });
            }
            touched.extend(ids);
        }
    }
}

impl Worker {
    fn start(&mut self, turn: &mut Turn<'_>, ticket: Ticket, force: bool) {
        match &self.phase {
            _ if self.goal == Goal::Gone => turn.reply(ticket, Err(Refusal::BeingRemoved)),
            Phase::Up { .. } => {
                self.failures = 0;
                turn.reply(ticket, Ok(Done::Running { incarnation: self.incarnation }));
            }
            Phase::Launching { .. } | Phase::Launched { .. } | Phase::Starting { .. } => {
                self.failures = 0;
                self.starts.push((ticket, Moment::NEVER));
            }
            Phase::Ending(_) if self.is_stuck() && !self.may_write_off(force) => {
                turn.reply(ticket, Err(Refusal::Stuck));
            }
            Phase::None | Phase::Ending(_) => {
                if self.is_stuck() {
                    self.write_off();
                }
                self.forced_start |= force;
                self.want_start(ticket, Cause::Command);
            }
            Phase::LetGo { .. } => turn.reply(ticket, Err(Refusal::ShuttingDown)),
        }
    }

    pub(super) fn restart(
        &mut self,
        turn: &mut Turn<'_>,
        ticket: Ticket,
        force: bool,
        cause: Cause,
    ) {
        let step = if force { Step::Force } else { Step::Ask };
        match &self.phase {
            _ if self.goal == Goal::Gone => {
                turn.reply(ticket, Err(Refusal::BeingRemoved));
                return;
            }
            Phase::Up { .. } => {
                self.end(turn, Why::Command, cause, step);
                self.past_stuck = force;
            }
            Phase::Launching { .. } | Phase::Launched { .. } | Phase::Starting { .. } => {
                self.cancel(turn, step);
                self.past_stuck = force;
            }
            Phase::Ending(_) if self.is_stuck() || force && planted(Bug::LaunchBeside) => {
                if !self.may_write_off(force) {
                    turn.reply(ticket, Err(Refusal::Stuck));
                    return;
                }
                self.write_off();
            }
            Phase::Ending(_) => {
                self.past_stuck |= force;
                self.press(turn, force);
            }
            Phase::None => {}
            Phase::LetGo { .. } => {
                turn.reply(ticket, Err(Refusal::ShuttingDown));
                return;
            }
        }
        self.want_start(ticket, cause);
    }

    /// A start asked for by a command: now, or as soon as the present incarnation is gone.
    fn want_start(&mut self, ticket: Ticket, cause: Cause) {
        self.goal = Goal::Up;
        self.next = Next::Now(cause);
        self.failures = 0;
        self.gave_up = false;
        self.starts.push((ticket, Moment::NEVER));
    }

    fn stop(&mut self, turn: &mut Turn<'_>, ticket: Ticket, force: bool) {
        if self.refuses_as_let_go(turn, ticket) {
            return;
        }
        self.go_down(turn, Why::Command, force);
        match &self.phase {
            Phase::None => turn.reply(ticket, Ok(Done::Stopped { forced: false })),
            Phase::Ending(_) if self.is_stuck() => turn.reply(ticket, Err(Refusal::Stuck)),
            Phase::Ending(_)
            | Phase::Launching { .. }
            | Phase::Launched { .. }
            | Phase::Starting { .. }
            | Phase::Up { .. }
            | Phase::LetGo { .. } => self.stops.push(ticket),
        }
    }

    /// What was let go is no longer this master's to end.
    fn refuses_as_let_go(&self, turn: &mut Turn<'_>, ticket: Ticket) -> bool {
        let refuses = matches!(self.phase, Phase::LetGo { .. });
        if refuses {
            turn.reply(ticket, Err(Refusal::ShuttingDown));
        }
        refuses
    }

    fn remove(&mut self, turn: &mut Turn<'_>, ticket: Ticket) {
        if self.refuses_as_let_go(turn, ticket) {
            return;
        }
        self.go_down(turn, Why::Command, false);
        self.goal = Goal::Gone;
        if self.is_stuck() {
            turn.reply(ticket, Err(Refusal::Stuck));
        } else {
            self.removals.push(ticket);
        }
    }

    /// Answers the removals of a worker that is forgotten now.
    pub(super) fn forget(&mut self, turn: &mut Turn<'_>) {
        for ticket in self.removals.drain(..) {
            turn.reply(ticket, Ok(Done::Removed));
        }
    }

    /// Goal down, whatever it is doing. A goal that is gone stays so.
    fn go_down(&mut self, turn: &mut Turn<'_>, why: Why, force: bool) {
        if self.goal == Goal::Up || planted(Bug::StopUndoesRemoval) {
            self.goal = Goal::Down;
        }
        self.next = Next::Rest;
        self.gave_up = false;
        self.forced_start = false;
        self.past_stuck = false;
        let step = if force { Step::Force } else { Step::Ask };
        let cause = if why == Why::Shutdown { Cause::Shutdown } else { Cause::Command };
        match &self.phase {
            Phase::None => {
                self.answer_starts(turn, &Err(Refusal::Cancelled));
                if self.verdict == Verdict::Failed {
                    self.verdict = Verdict::Stopped { completed: false };
                    self.publish(turn, cause);
                }
            }
            Phase::Launching { .. } | Phase::Launched { .. } | Phase::Starting { .. } => {
                self.cancel(turn, step);
            }
            Phase::Up { .. } => {
                self.end(turn, why, cause, step);
            }
            Phase::Ending(_) => {
                self.answer_starts(turn, &Err(Refusal::Cancelled));
                self.press(turn, force);
            }
            Phase::LetGo { .. } => {}
        }
    }

    /// Ends an incarnation that is not up yet, and answers who waited for it.
    fn cancel(&mut self, turn: &mut Turn<'_>, step: Step) {
        self.answer_starts(turn, &Err(Refusal::Cancelled));
        let step = if planted(Bug::ForceLost) { Step::Ask } else { step };
        self.end(turn, Why::Cancelled, Cause::Cancelled, step);
    }

    /// Makes an end that was only asked for a forced one.
    fn press(&mut self, turn: &mut Turn<'_>, force: bool) {
        let asked = matches!(&self.phase, Phase::Ending(ending) if ending.step == Step::Ask);
        if force && asked {
            self.take_step(turn, Step::Force);
        }
    }

    fn may_write_off(&self, force: bool) -> bool {
        force && self.written_off.len() < MAX_WRITTEN_OFF
    }
}
