//! What takes long, as a connection waits for it: without a thread, asked again whenever something
//! may have changed.

use std::pin::Pin;
use std::task::{Context, Poll, Waker};
use std::time::{Duration, Instant};

use serde::Serialize;

use super::{Shared, streams::Stream, wire};
use crate::control::report::{Ended, ShutdownWire, WorkerReport};
use crate::error::{Error, ErrorCategory, Result};
use crate::runtime::{ShutdownReport, Ticket, Watch};
use crate::worker::{WaitFor, WorkerDiagnostics, WorkerState};

/// So long past `Running` a start that is watched is looked at.
pub(super) const PROBATION: Duration = Duration::from_millis(250);

/// A request that is being waited for.
pub(super) enum Work {
    /// A start or restart; `watched`: its incarnation is looked at for a moment more.
    Starting {
        worker: String,
        ticket: Ticket<u64>,
        watched: bool,
    },
    /// An incarnation that runs, and must not end before the deadline.
    Watching {
        worker: String,
        incarnation: u64,
        _watch: Watch,
    },
    /// A stop.
    Stopping {
        worker: String,
        ticket: Ticket<()>,
    },
    /// A condition of a worker, and how it was seen last.
    Waiting {
        worker: String,
        condition: WaitFor,
        seen: Option<Box<WorkerDiagnostics>>,
        _watch: Watch,
    },
    Calling(Ticket<Vec<u8>>),
    ShuttingDown(Ticket<ShutdownReport>),
    /// A thread is at it, which delivers the answer.
    Aside,
    Streaming(Box<Stream>),
}

/// What a request came to.
pub(super) enum Answer {
    Ended(Ended),
    Report(Box<WorkerReport>),
    Called(Vec<u8>),
    ShutDown(ShutdownReport),
    /// A result as it is written.
    Text(Vec<u8>),
    /// A stream's end.
    Nothing,
}

impl Answer {
    /// Puts its line behind what is in `out`.
    pub(super) fn push(self, out: &mut Vec<u8>, id: u64) {
        match self {
            Self::Ended(ended) => wire::push_result(out, id, &ended),
            Self::Report(report) => wire::push_result(out, id, &report),
            Self::Called(bytes) => wire::push_result(out, id, &wire::Called::new(&bytes)),
            Self::ShutDown(report) => wire::push_result(out, id, &ShutdownWire::from(report)),
            Self::Nothing => wire::push_result(out, id, &wire::Nothing {}),
            Self::Text(text) => match serde_json::from_slice::<&serde_json::value::RawValue>(&text)
            {
                Ok(text) => wire::push_result(out, id, &text),
                Err(error) => {
                    let error = Error::new(ErrorCategory::Internal, error.to_string());
                    wire::push_error(out, Some(id), &error);
                }
            },
        }
    }

    /// A result that a thread of its own found.
    pub(super) fn text(result: &impl Serialize) -> Result<Vec<u8>> {
        serde_json::to_vec(result)
            .map_err(|error| Error::new(ErrorCategory::Internal, error.to_string()))
    }
}

/// What looking at a request came to.
pub(super) enum Look {
    /// It is not answered yet.
    Later,
    Answer(Result<Answer>),
    /// It goes on as something else, until that deadline.
    Becomes(Work, Instant),
}

impl Work {
    /// True for what goes on in the core when it is answered before it has ended.
    pub(super) fn is_command(&self) -> bool {
        match self {
            Self::Starting { .. } | Self::Stopping { .. } => true,
            Self::Watching { .. }
            | Self::Waiting { .. }
            | Self::Calling(_)
            | Self::ShuttingDown(_)
            | Self::Aside
            | Self::Streaming(_) => false,
        }
    }

    /// Looks whether the answer is there, and has `waker` called when it may be.
    pub(super) fn look(&mut self, shared: &Shared, waker: &Waker) -> Look {
        match self {
            Self::Starting { worker, ticket, watched } => match poll(ticket, waker) {
                None => Look::Later,
                Some(Ok(incarnation)) if *watched => {
                    let worker = std::mem::take(worker);
                    let watch = shared.master.board().watch(&worker, waker.clone());
                    let until = Instant::now() + PROBATION;
                    Look::Becomes(Self::Watching { worker, incarnation, _watch: watch }, until)
                }
                Some(outcome) => {
                    Look::Answer(outcome.map(|incarnation| shared.ended(worker, Some(incarnation))))
                }
            },
            Self::Watching { worker, incarnation, .. } => shared.probation(worker, *incarnation),
            Self::Stopping { worker, ticket } => match poll(ticket, waker) {
                None => Look::Later,
                Some(outcome) => Look::Answer(outcome.map(|()| shared.ended(worker, None))),
            },
            Self::Waiting { worker, condition, seen, .. } => {
                shared.condition(worker, *condition, seen)
            }
            Self::Calling(ticket) => answered(poll(ticket, waker), Answer::Called),
            Self::ShuttingDown(ticket) => answered(poll(ticket, waker), Answer::ShutDown),
            Self::Aside | Self::Streaming(_) => Look::Later,
        }
    }

    /// What it means that its deadline has come.
    pub(super) fn expire(&self, shared: &Shared, asked: Duration) -> Result<Answer> {
        let late = |worker: &str, message: String| {
            Err(Error::new(ErrorCategory::Timeout, message).of_worker(worker))
        };
        match self {
            Self::Watching { worker, incarnation, .. } => {
                Ok(shared.ended(worker, Some(*incarnation)))
            }
            Self::Waiting { worker, condition, seen, .. } => {
                let state = seen.as_ref().map_or("unknown", |seen| seen.state.as_str());
                let condition = condition.as_str();
                late(worker, format!("not {condition} within {asked:?}: it is {state}"))
            }
            Self::Starting { worker, .. } | Self::Stopping { worker, .. } => {
                late(worker, format!("not done within {asked:?}; the command goes on"))
            }
            Self::Calling(_) | Self::ShuttingDown(_) | Self::Aside | Self::Streaming(_) => {
                late("", format!("not done within {asked:?}"))
            }
        }
    }
}

fn poll<T>(ticket: &mut Ticket<T>, waker: &Waker) -> Option<Result<T>> {
    match Pin::new(ticket).poll(&mut Context::from_waker(waker)) {
        Poll::Ready(outcome) => Some(outcome),
        Poll::Pending => None,
    }
}

fn answered<T>(outcome: Option<Result<T>>, answer: impl FnOnce(T) -> Answer) -> Look {
    outcome.map_or(Look::Later, |outcome| Look::Answer(outcome.map(answer)))
}

impl Shared {
    /// What a command came to, with what the worker does now.
    pub(super) fn ended(&self, worker: &str, incarnation: Option<u64>) -> Answer {
        let state = self.master.board().diagnostics(worker).map(|known| known.state).ok();
        Answer::Ended(Ended { id: worker.to_owned(), incarnation, state })
    }

    /// Whether an incarnation that runs has ended so soon, and how.
    fn probation(&self, worker: &str, incarnation: u64) -> Look {
        let known = match self.master.board().diagnostics(worker) {
            Ok(known) => known,
            Err(error) => return Look::Answer(Err(error)),
        };
        if known.incarnation == incarnation && known.state == WorkerState::Running {
            return Look::Later;
        }
        let moved_on = known.incarnation != incarnation;
        let finished = known.completed && !moved_on;
        if finished {
            return Look::Answer(Ok(self.ended(worker, Some(incarnation))));
        }
        let error = match (self.failure(worker, incarnation), known.last_error) {
            (Some(message), Some(last)) if known.goal == "up" => {
                Error::new(last.category, format!("it ended as soon as it ran: {message}"))
            }
            _ => Error::new(ErrorCategory::Cancelled, "another command took its place"),
        };
        Look::Answer(Err(error.of_worker(worker)))
    }

    /// What went wrong with an incarnation: the worker's last error may be that of an older one.
    fn failure(&self, worker: &str, incarnation: u64) -> Option<String> {
        let past = self.master.board().describe(worker).ok()?.history;
        let mut of_it = past.into_iter().filter(|past| past.incarnation == incarnation);
        of_it.find_map(|past| past.message)
    }

    /// Whether a worker is in a condition.
    fn condition(
        &self,
        worker: &str,
        condition: WaitFor,
        seen: &mut Option<Box<WorkerDiagnostics>>,
    ) -> Look {
        let known = match self.master.board().diagnostics(worker) {
            Ok(known) => known,
            // Seen before and forgotten now: it is stopped for good.
            Err(error) => {
                return Look::Answer(match seen.take() {
                    Some(last) if condition == WaitFor::Stopped => report(*last),
                    Some(_) | None => Err(error),
                });
            }
        };
        if known.satisfies(condition) {
            return Look::Answer(report(known));
        }
        *seen = Some(Box::new(known));
        if self.master.has_ended() {
            return Look::Answer(Err(self.end().of_worker(worker)));
        }
        Look::Later
    }
}

fn report(known: WorkerDiagnostics) -> Result<Answer> {
    Ok(Answer::Report(Box::new(known.into())))
}
