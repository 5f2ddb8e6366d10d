//! The answer to a request, to be waited for in whatever way suits the caller.

use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};
use std::time::{Duration, Instant};

use super::clock::Clock;
use super::{Board, route};
use crate::core::event::{Done, Refusal, Reply};
use crate::error::{Error, ErrorCategory, Failure, Result};
use crate::host::identity::{self, Role};
use crate::host::panics::guarded;

/// How many requests of one worker's own threads may be open at a time.
const MAX_REQUESTS: usize = 1024;

/// What becomes of a request.
#[derive(Clone, Debug)]
enum Answer {
    /// The loop has decided.
    Reply(Reply),
    /// A call came to this.
    Called(Result<Vec<u8>>),
    /// It was not even made: there are too many, so many of them.
    Busy(usize, &'static str),
    /// Who was to answer ended before.
    Never,
}

/// How an answer becomes what its ticket promises.
enum Read<T> {
    /// That to a request to the loop.
    Done(fn(Done) -> Option<T>),
    /// That of a function.
    Called(fn(Vec<u8>) -> Result<T>),
}

/// The promise of an answer to one request.
///
/// Wait for it, ask whether it is there, or `.await` it: it is a `Future` and needs no runtime of
/// ours. Dropping it does not take the request back.
#[must_use = "the request is made, but its outcome is in the ticket"]
pub struct Ticket<T> {
    slot: Arc<Slot>,
    origin: Origin,
    read: Read<T>,
}

/// Whom the request was made to, and about which worker.
pub(crate) struct Origin {
    pub(crate) board: Arc<Board>,
    pub(crate) realm: u64,
    pub(crate) worker: Option<String>,
}

#[derive(Default)]
struct Slot {
    state: Mutex<State>,
    ready: Condvar,
}

#[derive(Default)]
struct State {
    answer: Option<Answer>,
    waker: Option<Waker>,
}

impl Slot {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The other end of a ticket, held by the loop or by a call. Dropped without an answer, it says
/// that there will be none.
pub(crate) struct ReplySender {
    slot: Option<Arc<Slot>>,
    /// Counts the request as open until it is answered.
    open: Option<Open>,
}

/// One open request of a worker's own thread.
struct Open(Arc<AtomicUsize>);

impl Drop for Open {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

impl ReplySender {
    /// For what nobody waits for.
    pub(crate) fn nobody() -> Self {
        Self { slot: None, open: None }
    }

    pub(crate) fn answer(mut self, reply: Reply) {
        self.send(Answer::Reply(reply));
    }

    /// Answers with what a call came to.
    pub(crate) fn of_call(mut self, outcome: Result<Vec<u8>>) {
        self.send(Answer::Called(outcome));
    }

    /// Counts the request against the worker on whose thread it is made. `None`: it has too many
    /// open, and this one is answered so.
    pub(crate) fn admitted(mut self, realm: u64) -> Option<Self> {
        let Some(identity) = identity::current().filter(|i| i.realm == realm) else {
            return Some(self);
        };
        let before = identity.requests.fetch_add(1, Ordering::Relaxed);
        self.open = Some(Open(Arc::clone(&identity.requests)));
        if before >= MAX_REQUESTS {
            self.send(Answer::Busy(MAX_REQUESTS, "requests of this worker's threads are open"));
            return None;
        }
        Some(self)
    }

    /// For a command to one who has `most` of them to answer already; `what`: "commands to ...".
    pub(crate) fn crowded(mut self, most: usize, what: &'static str) {
        self.send(Answer::Busy(most, what));
    }

    /// For a request about a name that no worker can have.
    pub(crate) fn unknown_worker(self) {
        self.answer(Err(Refusal::UnknownWorker));
    }

    fn send(&mut self, answer: Answer) {
        let Some(slot) = self.slot.take() else { return };
        self.open = None;
        let mut state = slot.state();
        state.answer = Some(answer);
        let waker = state.waker.take();
        drop(state);
        slot.ready.notify_all();
        // The program's executor on our thread: its panic must not be the loop's.
        if let Some(waker) = waker {
            let _ = guarded("a ticket's waker", || waker.wake());
        }
    }
}

impl Drop for ReplySender {
    fn drop(&mut self) {
        self.send(Answer::Never);
    }
}

impl Origin {
    /// For a request about a worker of another process's master, for which no thread of this
    /// process is needed.
    pub(crate) fn elsewhere(worker: &str) -> Self {
        let board = Arc::new(Board::new(Clock::new()));
        Self { board, realm: identity::next_realm(), worker: Some(worker.to_owned()) }
    }

    /// Refuses to let a thread wait for something that waits for this very thread.
    pub(crate) fn refuse_deadlock(&self) -> Result<()> {
        let Some(identity) = identity::current().filter(|i| i.realm == self.realm) else {
            return Ok(());
        };
        let about = self.worker.as_deref();
        let waits_for_itself = match &identity.role {
            Role::Loop => true,
            Role::Module { worker } | Role::Adopted { worker, .. } => {
                about.is_none_or(|about| about == &**worker)
            }
        };
        if !waits_for_itself {
            return Ok(());
        }
        let message = "this thread would wait for itself: make the request without waiting \
                       (`..._nowait`), or from a thread that is not this worker's";
        Err(self.name(Error::new(ErrorCategory::WouldDeadlock, message)))
    }

    /// Refuses to let the loop wait for another process, which may wait for the loop.
    pub(crate) fn refuse_on_loop(&self) -> Result<()> {
        match identity::current().filter(|i| i.realm == self.realm).map(|i| i.role.clone()) {
            Some(Role::Loop) => {
                let message = "the event loop cannot wait for a call: use `..._nowait`";
                Err(self.name(Error::new(ErrorCategory::WouldDeadlock, message)))
            }
            Some(Role::Module { .. } | Role::Adopted { .. }) | None => Ok(()),
        }
    }

    fn name(&self, error: Error) -> Error {
        match &self.worker {
            Some(worker) => error.of_worker(worker),
            None => error,
        }
    }

    /// What an answer that is no success means to the caller.
    fn error(&self, refusal: Option<Refusal>) -> Error {
        let new = |category, message: &str| Error::new(category, message);
        let error = match refusal {
            None if self.board.has_died() => {
                new(ErrorCategory::Internal, "the master's event loop died")
            }
            None | Some(Refusal::ShuttingDown) => {
                new(ErrorCategory::Cancelled, "the master is shutting down")
            }
            Some(Refusal::UnknownWorker) => {
                let known = self.board.near_names(self.worker.as_deref().unwrap_or_default());
                new(ErrorCategory::UnknownWorker, &format!("there is no such worker{known}"))
            }
            Some(Refusal::AlreadyExists) => {
                new(ErrorCategory::Configuration, "a worker with this id exists already")
            }
            Some(Refusal::BeingRemoved) => new(ErrorCategory::Refused, "it is being removed"),
            Some(Refusal::Cancelled) => {
                new(ErrorCategory::Cancelled, "another command took its place")
            }
            Some(Refusal::Stuck) => new(
                ErrorCategory::Stuck,
                "it does not end; a forced restart goes past it, `type: process` would prevent it",
            ),
            Some(Refusal::CannotAdopt) => {
                new(ErrorCategory::Refused, "it runs already, or had a later incarnation")
            }
            Some(Refusal::StillWaiting(waiting)) => {
                let waiting: Vec<_> = waiting
                    .iter()
                    .map(|(worker, condition)| format!("{worker} ({})", condition.as_str()))
                    .collect();
                let message = format!("still waiting for {}", waiting.join(", "));
                new(ErrorCategory::Timeout, &message)
            }
            Some(Refusal::Failed(failure)) => return self.of_failure(&failure),
        };
        self.name(error)
    }

    fn busy(&self, most: usize, what: &str) -> Error {
        let message = format!("busy: {most} {what}");
        self.name(Error::new(ErrorCategory::Refused, message))
    }

    fn of_failure(&self, failure: &Failure) -> Error {
        Error::of_failure(self.worker.as_deref().unwrap_or_default(), failure)
    }
}

impl<T> Ticket<T> {
    /// A ticket for a request to the loop, and the end that answers it.
    pub(crate) fn new(origin: Origin, read: fn(Done) -> Option<T>) -> (Self, ReplySender) {
        Self::with(origin, Read::Done(read))
    }

    /// A ticket for a call, and the end that answers it.
    pub(crate) fn of_call(origin: Origin, read: fn(Vec<u8>) -> Result<T>) -> (Self, ReplySender) {
        Self::with(origin, Read::Called(read))
    }

    fn with(origin: Origin, read: Read<T>) -> (Self, ReplySender) {
        let slot = Arc::new(Slot::default());
        (
            Self { slot: Arc::clone(&slot), origin, read },
            ReplySender { slot: Some(slot), open: None },
        )
    }

    /// Waits for the answer. The request's own deadlines bound the wait.
    ///
    /// # Errors
    /// What the request failed with; `would_deadlock` on a thread that the request waits for.
    pub fn wait(self) -> Result<T> {
        self.refuse_deadlock()?;
        let mut state = self.slot.state();
        while state.answer.is_none() {
            state = self.slot.ready.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
        let answer = state.answer.take().unwrap_or(Answer::Never);
        drop(state);
        self.read(answer)
    }

    /// Waits for the answer, at most `timeout`. `None`: it is not there yet; ask again.
    pub fn wait_timeout(&self, timeout: Duration) -> Option<Result<T>> {
        if let Err(error) = self.refuse_deadlock() {
            return Some(Err(error));
        }
        let deadline = Instant::now().checked_add(timeout);
        let mut state = self.slot.state();
        loop {
            if let Some(answer) = &state.answer {
                let answer = answer.clone();
                drop(state);
                return Some(self.read(answer));
            }
            let left = match deadline {
                Some(deadline) => deadline.saturating_duration_since(Instant::now()),
                None => Duration::MAX,
            };
            if left.is_zero() {
                return None;
            }
            let waited = self.slot.ready.wait_timeout(state, left);
            state = waited.unwrap_or_else(PoisonError::into_inner).0;
        }
    }

    /// The answer, if it is there.
    pub fn try_wait(&self) -> Option<Result<T>> {
        let answer = self.slot.state().answer.clone();
        answer.map(|answer| self.read(answer))
    }

    /// A call is answered by no thread of the worker's own, so its threads may wait for it.
    fn refuse_deadlock(&self) -> Result<()> {
        match self.read {
            Read::Done(_) => self.origin.refuse_deadlock(),
            Read::Called(_) => self.origin.refuse_on_loop(),
        }
    }

    fn read(&self, answer: Answer) -> Result<T> {
        let unfit = || Error::new(ErrorCategory::Internal, "the answer is not one to this request");
        match (answer, &self.read) {
            (Answer::Reply(Ok(done)), Read::Done(read)) => read(done).ok_or_else(unfit),
            (Answer::Called(Ok(reply)), Read::Called(read)) => {
                read(reply).map_err(|error| self.origin.name(error))
            }
            (Answer::Reply(Ok(_)) | Answer::Called(Ok(_)), _) => Err(unfit()),
            (Answer::Reply(Err(refusal)), _) => Err(self.origin.error(Some(refusal))),
            (Answer::Called(Err(error)), _) => Err(error),
            (Answer::Busy(most, what), _) => Err(self.origin.busy(most, what)),
            (Answer::Never, Read::Done(_)) => Err(self.origin.error(None)),
            (Answer::Never, Read::Called(_)) => Err(self.origin.of_failure(&route::ended())),
        }
    }
}

impl<T> Future for Ticket<T> {
    type Output = Result<T>;

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Result<T>> {
        let mut state = self.slot.state();
        match state.answer.clone() {
            Some(answer) => {
                drop(state);
                Poll::Ready(self.read(answer))
            }
            None => {
                let before = state.waker.replace(context.waker().clone());
                drop(state);
                drop(before);
                Poll::Pending
            }
        }
    }
}

impl<T> fmt::Debug for Ticket<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let answered = self.slot.state().answer.is_some();
        f.debug_struct("Ticket")
            .field("worker", &self.origin.worker)
            .field("answered", &answered)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::core::event::Done;
    use crate::host::identity::Identity;
    use crate::runtime::clock::Clock;

    fn ticket(worker: &str) -> (Ticket<()>, ReplySender) {
        let board = Arc::new(Board::new(Clock::new()));
        let origin = Origin { board, realm: 7, worker: Some(worker.to_owned()) };
        Ticket::new(origin, |done| matches!(done, Done::Added).then_some(()))
    }

    #[test]
    fn an_answer_is_read_in_every_way() {
        let (asked, reply) = ticket("w");
        assert!(asked.try_wait().is_none());
        assert!(asked.wait_timeout(Duration::ZERO).is_none());
        reply.answer(Ok(Done::Added));
        assert!(asked.try_wait().unwrap().is_ok());
        assert!(asked.wait().is_ok());
        let (asked, reply) = ticket("w");
        drop(reply);
        let error = asked.wait().unwrap_err();
        assert_eq!((error.category(), error.worker()), (ErrorCategory::Cancelled, Some("w")));
    }

    #[test]
    fn a_waker_that_panics_is_its_own_fault() {
        struct Trap;
        impl std::task::Wake for Trap {
            fn wake(self: Arc<Self>) {
                panic!("woken");
            }
        }
        let (mut asked, reply) = ticket("w");
        let waker = Waker::from(Arc::new(Trap));
        let mut context = Context::from_waker(&waker);
        assert!(Pin::new(&mut asked).poll(&mut context).is_pending());
        reply.answer(Ok(Done::Added));
        assert!(matches!(Pin::new(&mut asked).poll(&mut context), Poll::Ready(Ok(()))));
    }

    #[test]
    fn a_worker_with_too_many_open_requests_is_told_that_it_is_busy() {
        let requests = Arc::default();
        let role = Role::Module { worker: "w".into() };
        identity::assume(Identity { realm: 7, role, requests });
        let mut open: Vec<_> =
            (0..MAX_REQUESTS).map(|_| ticket("v").1.admitted(7).expect("there is room")).collect();
        let (refused, reply) = ticket("v");
        assert!(reply.admitted(7).is_none());
        let error = refused.wait().unwrap_err();
        assert_eq!(error.category(), ErrorCategory::Refused);
        assert!(error.to_string().starts_with("worker v: busy: "), "{error}");
        // Requests to another master are that one's affair, and an answer makes room.
        assert!(ticket("v").1.admitted(8).is_some());
        open.truncate(MAX_REQUESTS - 1);
        assert!(ticket("v").1.admitted(7).is_some());
    }
}
