//! I12: every command is answered exactly once, in time and with the truth.

use super::judge::Judge;
use super::life::Life;
use super::model::{Rest, Worker};
use super::{Verdict, demand};
use crate::core::event::{Done, Goal, Refusal, Reply, Ticket};
use crate::core::moment::Moment;
use crate::worker::WorkerId;

/// A command that waits for its reply.
#[derive(Clone, Debug)]
pub(super) struct Open {
    pub(super) at: Moment,
    pub(super) worker: Option<WorkerId>,
    pub(super) wants: Wants,
    /// It came in this turn.
    pub(super) fresh: bool,
    /// Until when it waits for dependencies, once it does.
    pub(super) until: Option<Moment>,
}

/// What a ticket waits for.
#[derive(Clone, Debug)]
pub(super) enum Wants {
    /// One of these, at once.
    Now(Vec<Reply>),
    /// Its own incarnation's readiness or first failure.
    Up { own: Option<u64> },
    /// The end of the incarnation.
    Down,
    /// The end, and then to be forgotten.
    Removed,
    /// The end of all.
    AllDown,
}

impl Judge {
    /// Tickets that waited for a launch now have their incarnation.
    pub(super) fn own_tickets(&mut self, id: &WorkerId, number: u64) {
        for open in self.tickets.values_mut() {
            if let Wants::Up { own: own @ None } = &mut open.wants
                && open.worker.as_ref() == Some(id)
            {
                *own = Some(number);
            }
        }
    }

    pub(super) fn reply(&mut self, now: Moment, ticket: Ticket, reply: &Reply) -> Verdict {
        let open = self.tickets.remove(&ticket);
        let open = open.ok_or_else(|| format!("I12: {ticket:?} is not open, but got {reply:?}"))?;
        let worker = open.worker.as_ref().and_then(|id| self.workers.get(id));
        let true_reply = match (&open.wants, worker) {
            (Wants::Now(replies), _) => replies.contains(reply),
            (Wants::AllDown, _) => return self.shut_down_reply(reply),
            (Wants::Removed, None) => *reply == Ok(Done::Removed) && self.is_forgotten(&open),
            (Wants::Removed, Some(worker)) => match reply {
                Ok(Done::Removed) => worker.goal == Goal::Gone && worker.life.is_none(),
                reply => *reply == Err(Refusal::Stuck) && worker.turn.stuck,
            },
            // A stop and a remove may wait for the same end.
            (Wants::Down, None) => {
                matches!(reply, Ok(Done::Stopped { .. })) && self.is_forgotten(&open)
            }
            (Wants::Down, Some(worker)) => match worker.turn.gone {
                Some((_, forced)) => *reply == Ok(Done::Stopped { forced }),
                None => *reply == Err(Refusal::Stuck) && worker.turn.stuck,
            },
            (Wants::Up { own }, Some(worker)) => self.up_reply(now, &open, *own, worker, reply),
            (Wants::Up { .. }, None) => {
                *reply == Err(Refusal::Cancelled) && self.is_forgotten(&open)
            }
        };
        demand!(true_reply, "I12: {ticket:?}, {open:?}, got {reply:?}");
        Ok(())
    }

    fn is_forgotten(&self, open: &Open) -> bool {
        open.worker.as_ref().is_some_and(|id| self.forgotten.contains(id))
    }

    fn up_reply(
        &self,
        now: Moment,
        open: &Open,
        own: Option<u64>,
        worker: &Worker,
        reply: &Reply,
    ) -> bool {
        match reply {
            Ok(Done::Running { incarnation }) => {
                let ready = |life: &Life| life.up_at.is_some() && life.number == *incarnation;
                own == Some(*incarnation) && worker.life.as_ref().is_some_and(ready)
            }
            Err(Refusal::Failed(_)) => own.is_some() && worker.turn.failed == own,
            Err(Refusal::Cancelled) => worker.turn.cancels && !open.fresh,
            Err(Refusal::Stuck) => worker.turn.stuck,
            Err(Refusal::StillWaiting(conditions)) => {
                let past_stuck = worker.is_stuck() && worker.past_stuck;
                let waits =
                    past_stuck || matches!(worker.rest, Rest::Waiting { .. } | Rest::Due { .. });
                let id = open.worker.as_ref();
                let in_time = now >= open.until.unwrap_or(open.at + worker.spec.start_timeout);
                waits && in_time && id.is_some_and(|id| self.unmet(id) == *conditions)
            }
            Ok(
                Done::Added
                | Done::Updated
                | Done::Stopped { .. }
                | Done::Removed
                | Done::ShutDown { .. },
            )
            | Err(
                Refusal::UnknownWorker
                | Refusal::AlreadyExists
                | Refusal::BeingRemoved
                | Refusal::CannotAdopt
                | Refusal::ShuttingDown,
            ) => false,
        }
    }

    fn shut_down_reply(&mut self, reply: &Reply) -> Verdict {
        if let Some(first) = &self.ended {
            demand!(first == reply, "I12: the shutdown ended with {first:?}, now {reply:?}");
            return Ok(());
        }
        let alive = self.workers.values().any(Worker::has_life);
        demand!(!alive, "I12: a shutdown is answered while somebody lives");
        self.ended = Some(reply.clone());
        let Ok(Done::ShutDown { killed, stuck }) = reply else {
            return Err(format!("I12: a shutdown got {reply:?}"));
        };
        let of = |wanted: fn(&Worker) -> bool| -> Vec<WorkerId> {
            let found = self.workers.iter().filter(|(_, worker)| wanted(worker));
            found.map(|(id, _)| id.clone()).collect()
        };
        let (all_killed, all_stuck) =
            (of(|worker| worker.killed && !worker.is_stuck()), of(Worker::is_stuck));
        demand!(*stuck == all_stuck, "I40: {stuck:?} are told to be stuck, {all_stuck:?} are");
        demand!(*killed == all_killed, "I40: {killed:?} are told to be killed, {all_killed:?} are");
        Ok(())
    }

    /// From now on the clocks of the starts run that wait for dependencies.
    pub(super) fn begin_waits(&mut self, now: Moment) {
        let unset = |open: &&mut Open| open.until.is_none_or(|until| until == Moment::NEVER);
        for open in self.tickets.values_mut().filter(unset) {
            let worker = open.worker.as_ref().and_then(|id| self.workers.get(id));
            let waits = |worker: &&Worker| matches!(worker.rest, Rest::Waiting { .. });
            if let (Wants::Up { own: None }, Some(worker)) = (&open.wants, worker.filter(waits)) {
                open.until = Some(now + worker.spec.start_timeout);
            }
        }
    }

    /// Every ticket that is still open must have a reason to be.
    pub(super) fn check_open_tickets(&self, now: Moment) -> Verdict {
        for (ticket, open) in &self.tickets {
            let worker = open.worker.as_ref().and_then(|id| self.workers.get(id));
            let justified = match (&open.wants, worker) {
                (Wants::Now(_), _) => false,
                (Wants::AllDown, _) => !self.all_down,
                (Wants::Down | Wants::Removed, worker) => worker.is_some_and(Worker::has_life),
                (Wants::Up { own }, Some(worker)) => self.may_wait_up(now, open, *own, worker),
                (Wants::Up { .. }, None) => false,
            };
            demand!(justified, "I12: {ticket:?} is left unanswered: {open:?}");
        }
        Ok(())
    }

    fn may_wait_up(&self, now: Moment, open: &Open, own: Option<u64>, worker: &Worker) -> bool {
        if worker.goal != Goal::Up {
            return false;
        }
        if own.is_some() {
            let on_its_way = |life: &Life| {
                Some(life.number) == own && matches!(life.phase(), "launching" | "starting")
            };
            return worker.life.as_ref().is_some_and(on_its_way);
        }
        match worker.rest {
            Rest::Waiting { since } => {
                let latest = open.until.unwrap_or(Moment::NEVER);
                !self.tick || now < latest || since == now
            }
            Rest::Idle => worker.asked && worker.has_life(),
            Rest::Due { .. } | Rest::Pause { .. } => false,
        }
    }
}
