//! The way of a call: to the function itself on the caller's thread when it is in this process,
//! over the worker's socket when it is not. The loop takes no part in it.

use std::sync::{Arc, RwLock};
use std::time::{Duration, Instant};

use crossbeam_channel::{RecvTimeoutError, bounded};

use super::Board;
use super::directory::{Callee, Line};
use super::ticket::{Origin, ReplySender};
use crate::error::{self, Error, ErrorCategory, Failure};
use crate::host::runner::functions::{Function, Functions, check_size};
use crate::host::{RemoteFunctions, Reply};

/// So much later than its deadline a call ends, should nobody have ended it.
const GRACE: Duration = Duration::from_secs(1);

/// The way to one function of one worker, whichever incarnation of it runs.
pub(crate) struct Route {
    worker: String,
    function: String,
    realm: u64,
    board: Arc<Board>,
    line: Arc<Line>,
    /// Where the last call went. Held for reading during a call, hence never waited for.
    found: RwLock<Option<Found>>,
}

/// A function of this process, and the line's version under which it was found.
struct Found {
    version: u64,
    functions: Arc<Functions>,
    function: Arc<Function>,
}

impl Route {
    pub(crate) fn new(
        worker: &str,
        function: &str,
        realm: u64,
        board: Arc<Board>,
        line: Arc<Line>,
    ) -> Self {
        let (worker, function) = (worker.to_owned(), function.to_owned());
        Self { worker, function, realm, board, line, found: RwLock::default() }
    }

    pub(crate) fn worker(&self) -> &str {
        &self.worker
    }

    pub(crate) fn function(&self) -> &str {
        &self.function
    }

    /// Whom the outcome of a call is told of.
    pub(crate) fn origin(&self) -> Origin {
        let (board, worker) = (Arc::clone(&self.board), Some(self.worker.clone()));
        Origin { board, realm: self.realm, worker }
    }

    /// Calls and waits for the reply; `timeout` bounds calls to other processes.
    pub(crate) fn call(&self, payload: &[u8], timeout: Duration) -> error::Result<Vec<u8>> {
        if let Ok(found) = self.found.try_read()
            && let Some(found) = &*found
            && found.version == self.line.version()
        {
            let reply = found.functions.call_found(&found.function, &self.function, payload);
            return reply.map_err(|failure| self.error(&failure));
        }
        let Some((version, callee)) = self.line.callee() else { return Err(self.refusal()) };
        let reply = match callee {
            Callee::Local(functions) => self.call_local(version, functions, payload),
            Callee::Remote(functions) => {
                self.origin().refuse_on_loop()?;
                self.call_remote(&*functions, payload, timeout)
            }
        };
        reply.map_err(|failure| self.error(&failure))
    }

    fn call_local(
        &self,
        version: u64,
        functions: Arc<Functions>,
        payload: &[u8],
    ) -> Result<Vec<u8>, Failure> {
        let function = functions.find(&self.function)?;
        // What answers all names may yet be overtaken by an export of this one.
        if !function.answers_any()
            && let Ok(mut found) = self.found.try_write()
        {
            let (functions, function) = (Arc::clone(&functions), Arc::clone(&function));
            *found = Some(Found { version, functions, function });
        }
        functions.call_found(&function, &self.function, payload)
    }

    fn call_remote(
        &self,
        functions: &dyn RemoteFunctions,
        payload: &[u8],
        timeout: Duration,
    ) -> Result<Vec<u8>, Failure> {
        check_size("payload", payload)?;
        let (sender, receiver) = bounded(1);
        let reply: Reply = Box::new(move |outcome| {
            // The receiver waits just below.
            let _ = sender.send(outcome);
        });
        let deadline = Instant::now().checked_add(timeout);
        let call = functions.call(&self.function, payload, deadline, reply);
        functions.attend(call, deadline);
        // Whoever is to answer in time may be this very thread.
        let answer = match deadline.and_then(|deadline| deadline.checked_add(GRACE)) {
            Some(end) => receiver.recv_deadline(end),
            None => receiver.recv().map_err(|_| RecvTimeoutError::Disconnected),
        };
        let reply = answer.unwrap_or_else(|error| match error {
            RecvTimeoutError::Disconnected => Err(ended()),
            RecvTimeoutError::Timeout => {
                Err(Failure::new(ErrorCategory::Timeout, "the function did not answer in time"))
            }
        })?;
        check_size("reply", &reply)?;
        Ok(reply)
    }

    /// Calls without waiting: the outcome goes to `answer`.
    pub(crate) fn call_nowait(
        self: &Arc<Self>,
        payload: Vec<u8>,
        timeout: Duration,
        answer: ReplySender,
    ) {
        let Some((_, callee)) = self.line.callee() else {
            return answer.of_call(Err(self.refusal()));
        };
        let route = Arc::clone(self);
        let reply: Reply = Box::new(move |outcome| {
            let outcome = outcome.and_then(|reply| check_size("reply", &reply).map(|()| reply));
            answer.of_call(outcome.map_err(|failure| route.error(&failure)));
        });
        match callee {
            Callee::Local(functions) => functions.call_aside(&self.function, payload, reply),
            Callee::Remote(functions) => match check_size("payload", &payload) {
                Ok(()) => {
                    let deadline = Instant::now().checked_add(timeout);
                    functions.call(&self.function, &payload, deadline, reply);
                }
                Err(failure) => reply(Err(failure)),
            },
        }
    }

    fn error(&self, failure: &Failure) -> Error {
        Error::of_failure(&self.worker, failure)
    }

    /// Why nobody answers calls now.
    fn refusal(&self) -> Error {
        self.board.no_calls(&self.worker, &self.function)
    }
}

/// The answer to a call whose worker ended meanwhile.
pub(super) fn ended() -> Failure {
    Failure::new(ErrorCategory::NotRunning, "it ended before it answered")
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use super::*;
    use crate::host::identity::{self, Identity, Role};
    use crate::runtime::Ticket;
    use crate::runtime::clock::Clock;

    type Behaviour = Box<dyn Fn(&[u8], Option<Instant>, Reply) + Send + Sync>;

    /// A process that answers as it is told to.
    struct Remote(Behaviour);

    impl RemoteFunctions for Remote {
        fn call(
            &self,
            function: &str,
            payload: &[u8],
            deadline: Option<Instant>,
            reply: Reply,
        ) -> u64 {
            assert_eq!(function, "f");
            (self.0)(payload, deadline, reply);
            1
        }
        fn attend(&self, _call: u64, _deadline: Option<Instant>) {}
        fn panics(&self) -> u64 {
            3
        }
    }

    fn route_to(
        behaviour: impl Fn(&[u8], Option<Instant>, Reply) + Send + Sync + 'static,
    ) -> (Arc<Line>, Arc<Route>) {
        let line = Arc::<Line>::default();
        line.connect(1, Callee::Remote(Arc::new(Remote(Box::new(behaviour)))));
        let board = Arc::new(Board::new(Clock::new()));
        (Arc::clone(&line), Arc::new(Route::new("w", "f", 7, board, line)))
    }

    /// The outcome of a call in both ways, which must be the same.
    fn both(route: &Arc<Route>, payload: &[u8], timeout: Duration) -> error::Result<Vec<u8>> {
        let outcome = route.call(payload, timeout);
        let (ticket, answer) = Ticket::of_call(route.origin(), Ok);
        route.call_nowait(payload.to_vec(), timeout, answer);
        let aside = ticket.wait();
        let text = |outcome: &error::Result<Vec<u8>>| format!("{outcome:?}");
        assert_eq!(text(&outcome), text(&aside));
        outcome
    }

    #[test]
    fn a_remote_call_is_what_its_process_answers() {
        let (line, route) = route_to(|payload, _, reply| reply(Ok(payload.to_vec())));
        assert_eq!(both(&route, b"x", Duration::from_secs(30)).unwrap(), b"x");
        assert_eq!(line.panics(), 3);
        let (_line, route) = route_to(|_, _, reply| {
            reply(Err(Failure::new(ErrorCategory::Timeout, "no answer in time")));
        });
        let error = both(&route, b"", Duration::from_secs(30)).unwrap_err();
        assert!(error.is_timeout());
        assert_eq!(error.to_string(), "worker w: no answer in time");
    }

    #[test]
    fn a_process_that_ends_before_it_answers_does_not_run() {
        let (_line, route) = route_to(|_, _, reply| drop(reply));
        let error = both(&route, b"", Duration::from_secs(30)).unwrap_err();
        assert!(error.is_unavailable());
        assert_eq!(error.to_string(), "worker w: it ended before it answered");
    }

    #[test]
    fn sizes_are_limited_and_deadlines_handed_on() {
        let seen = Arc::new(Mutex::new(Vec::new()));
        let told = Arc::clone(&seen);
        let (_line, route) = route_to(move |payload, deadline, reply| {
            told.lock().unwrap().push(deadline);
            reply(Ok(vec![0; payload.len() + 1]));
        });
        let most = vec![0; 512 << 10];
        assert!(both(&route, &most, Duration::MAX).unwrap_err().is_refused());
        assert_eq!(*seen.lock().unwrap(), [None, None], "as long as it takes");
        let more = vec![0; (512 << 10) + 1];
        assert!(both(&route, &more, Duration::MAX).unwrap_err().is_refused());
        assert_eq!(seen.lock().unwrap().len(), 2, "it was not even sent");
        let before = Instant::now();
        both(&route, b"", Duration::from_secs(9)).unwrap();
        let deadline = seen.lock().unwrap()[2].unwrap();
        assert!(deadline >= before + Duration::from_secs(9));
    }

    #[test]
    fn the_count_of_panics_goes_on_and_a_removal_ends_it() {
        let (line, route) = route_to(|_, _, reply| reply(Ok(Vec::new())));
        line.disconnect();
        assert!(line.callee().is_none());
        assert!(both(&route, b"", Duration::ZERO).unwrap_err().is_not_found());
        line.gone(2);
        assert_eq!(line.panics(), 3, "another incarnation's end");
        line.gone(1);
        let again: Behaviour = Box::new(|_, _, reply| reply(Ok(Vec::new())));
        line.connect(2, Callee::Remote(Arc::new(Remote(again))));
        assert_eq!(line.panics(), 6);
        line.gone(1);
        assert!(both(&route, b"", Duration::ZERO).is_ok(), "late news of an old one");
        line.forget();
        assert!(line.callee().is_none());
        assert_eq!(line.panics(), 0);
    }

    #[test]
    fn the_event_loop_waits_for_no_other_process() {
        let (_line, route) = route_to(|_, _, reply| reply(Ok(Vec::new())));
        let role = Role::Loop;
        identity::assume(Identity { realm: 7, role, requests: Arc::default() });
        let error = both(&route, b"", Duration::from_secs(30)).unwrap_err();
        assert_eq!(error.category(), ErrorCategory::WouldDeadlock);
        let role = Role::Module { worker: "w".into() };
        identity::assume(Identity { realm: 7, role, requests: Arc::default() });
        assert!(both(&route, b"", Duration::from_secs(30)).is_ok(), "the worker itself may");
    }
}
