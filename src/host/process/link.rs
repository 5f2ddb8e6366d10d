//! The line to a process that speaks the worker protocol: requests go out from whatever thread has
//! one, answers and events come in through one reader.

mod reader;

use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::io::{self, Write as _};
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use super::{LinkPlan, Means};
use crate::error::{ErrorCategory, Failure};
use crate::host::protocol::{self, Answered, FromWorker, Hello, Initialize, Request, Said};
use crate::host::runner::check_call;
use crate::host::sys::{self, Poller, Wakes};
use crate::host::{Launch, RemoteFunctions, Reply, Report, Reporter};
pub(super) use reader::Listening;
use reader::Reader;

/// So many calls may be on their way to one process.
const MAX_CALLS: usize = 4096;
/// So many bytes may wait for a process that does not read.
const MAX_OUTGOING: usize = 64 << 20;

/// So many names of endpoints are remembered: no more of them are kept anyway.
const MAX_PUBLISHED: usize = 320;

/// The line to one incarnation. All that is sent is sent at once or kept: nothing here waits.
pub(super) struct Link {
    plan: LinkPlan,
    report: Reporter,
    means: Arc<Means>,
    /// Known once there is a process.
    pid: AtomicU32,
    state: Mutex<State>,
    /// Locked before `state`. Gone when the process is.
    reader: Mutex<Option<Reader>>,
    panics: AtomicU64,
}

/// Our end of the socket, and what tells the monitor that there is something to be done.
struct Ends {
    socket: UnixStream,
    /// Waits for the socket on behalf of the monitor, unless a caller waits for it itself.
    ear: Poller,
    wake: File,
}

struct State {
    phase: Phase,
    /// Gone when the line is closed, so that handles on the worker hold no descriptor.
    ends: Option<Arc<Ends>>,
    /// The other end, until the process has it.
    theirs: Option<OwnedFd>,
    /// Sent once the worker has said hello.
    initialize: Option<Box<Initialize>>,
    last_id: u64,
    /// What the socket had no room for yet.
    outgoing: Vec<u8>,
    questions: BTreeMap<u64, Question>,
    calls: BTreeMap<u64, Call>,
    /// Outcomes of calls that are known and not told: telling runs other people's code, which must
    /// not meet our locks.
    due: Vec<(Reply, Result<Vec<u8>, Failure>)>,
    /// The monitor looks for what is late no later than this.
    alarm: Option<Instant>,
    /// Their end is closed; by then the process must have ended too.
    farewell: Option<Instant>,
    /// It was told to end.
    ending: bool,
    /// What its `stop` ended with, if not well.
    stop_failed: Option<Failure>,
    /// Names of endpoints told as events; its `info` does not override those.
    published: BTreeSet<String>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Phase {
    /// It has not said hello.
    Greeting,
    Speaking,
    /// Nothing more is sent, and nothing expected.
    Closed,
}

/// A request that is not answered yet.
#[derive(Clone, Copy)]
enum Question {
    Initialize,
    Start,
    Stop,
    Probe(u64),
    Info,
}

struct Call {
    deadline: Option<Instant>,
    reply: Reply,
}

impl Link {
    /// A line that nobody is at yet.
    ///
    /// # Errors
    /// There is no descriptor left.
    pub(super) fn new(
        plan: LinkPlan,
        launch: Launch,
        means: Arc<Means>,
        report: Reporter,
    ) -> io::Result<Arc<Self>> {
        let (socket, theirs) = UnixStream::pair()?;
        socket.set_nonblocking(true)?;
        let ear = Poller::new()?;
        ear.add(&socket, 0, Wakes::Always)?;
        let ends = Arc::new(Ends { socket, ear, wake: File::from(sys::eventfd()?) });
        let reader = Reader::of(&ends);
        let log_level = log::max_level().as_str().to_ascii_lowercase();
        let initialize = Initialize { launch, log_level, stack_size: plan.stack_size };
        let state = State {
            phase: Phase::Greeting,
            ends: Some(ends),
            theirs: Some(theirs.into()),
            initialize: Some(Box::new(initialize)),
            last_id: 0,
            outgoing: Vec::new(),
            questions: BTreeMap::new(),
            calls: BTreeMap::new(),
            due: Vec::new(),
            alarm: None,
            farewell: None,
            ending: false,
            stop_failed: None,
            published: BTreeSet::new(),
        };
        Ok(Arc::new(Self {
            plan,
            report,
            means,
            pid: AtomicU32::new(0),
            state: Mutex::new(state),
            reader: Mutex::new(Some(reader)),
            panics: AtomicU64::new(0),
        }))
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // What can panic under the lock is an assertion of ours at most.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The worker's end: its standard input.
    pub(super) fn take_theirs(&self) -> Option<OwnedFd> {
        self.lock().theirs.take()
    }

    pub(super) fn start(&self) {
        self.lock().ask(Question::Start, &Request::Start, self.plan.start_timeout);
    }

    pub(super) fn probe(&self, probe: u64) {
        self.lock().ask(Question::Probe(probe), &Request::Health, self.plan.probe_timeout);
    }

    /// Asks the worker to end. False: it does not listen, and must be told in another way.
    pub(super) fn stop(&self, patience: Duration) -> bool {
        let mut state = self.lock();
        state.ending = true;
        if let (Phase::Greeting, Some(Initialize { launch, .. })) =
            (state.phase, state.initialize.as_deref())
        {
            let Launch { worker, incarnation, .. } = launch;
            log::warn!("{worker}#{incarnation} is ended before it has said hello to its master");
        }
        state.ask(Question::Stop, &Request::Stop, patience)
    }

    /// It is ended against its will.
    pub(super) fn give_up(&self) {
        self.lock().ending = true;
    }

    /// Ends all conversation. Whoever waits for an answer is due to be told that none will come.
    fn close(&self) {
        let mut state = self.lock();
        state.phase = Phase::Closed;
        state.ends = None;
        state.theirs = None;
        state.initialize = None;
        state.outgoing = Vec::new();
        state.questions.clear();
        for call in std::mem::take(&mut state.calls).into_values() {
            let failure = Failure::new(ErrorCategory::NotRunning, "it ended before it answered");
            state.due.push((call.reply, Err(failure)));
        }
    }

    /// True until a call's outcome is known.
    fn is_open(&self, call: u64) -> bool {
        self.lock().calls.contains_key(&call)
    }

    /// Tells the outcomes of calls that are due. Not to be called with a lock of ours.
    fn tell(&self) {
        let due = std::mem::take(&mut self.lock().due);
        for (reply, outcome) in due {
            reply(outcome);
        }
    }

    /// It does not keep to the protocol: it has failed, and is not listened to any more.
    fn break_off(&self, category: ErrorCategory, message: String) {
        self.close();
        (self.report)(Report::Failed(Failure::new(category, message)));
    }
}

impl RemoteFunctions for Link {
    fn call(&self, function: &str, payload: &[u8], deadline: Option<Instant>, reply: Reply) -> u64 {
        let mut state = self.lock();
        if let Err(failure) = state.admit(function, payload) {
            drop(state);
            reply(Err(failure));
            return 0;
        }
        state.last_id += 1;
        let id = state.last_id;
        state.calls.insert(id, Call { deadline, reply });
        let left = deadline
            .map_or(Duration::MAX, |deadline| deadline.saturating_duration_since(Instant::now()));
        state.send(|out| Request::Call { function, payload }.write(id, left, out));
        let due = deadline.filter(|due| state.alarm.is_none_or(|alarm| *due < alarm));
        if due.is_some() {
            state.alarm = due;
            state.wake();
        }
        id
    }

    fn attend(&self, call: u64, deadline: Option<Instant>) {
        reader::attend(self, call, deadline);
    }

    fn panics(&self) -> u64 {
        self.panics.load(Ordering::Relaxed)
    }
}

impl State {
    /// Whether one more call can be sent.
    fn admit(&self, function: &str, payload: &[u8]) -> Result<(), Failure> {
        let refuse = |category, message: String| Err(Failure::new(category, message));
        if self.phase != Phase::Speaking {
            return refuse(ErrorCategory::NotRunning, "its process does not listen".to_owned());
        }
        if self.calls.len() >= MAX_CALLS || self.outgoing.len() > MAX_OUTGOING {
            let (calls, bytes) = (self.calls.len(), self.outgoing.len());
            let message = format!(
                "busy: {calls} calls are on their way, at most {MAX_CALLS}, and {bytes} bytes wait \
                 to be sent, at most {MAX_OUTGOING}"
            );
            return refuse(ErrorCategory::Refused, message);
        }
        check_call(function, payload)
    }

    /// Sends a request. False: nobody listens.
    fn ask(&mut self, question: Question, request: &Request<'_>, patience: Duration) -> bool {
        if self.phase != Phase::Speaking {
            return false;
        }
        self.last_id += 1;
        let id = self.last_id;
        self.questions.insert(id, question);
        self.send(|out| request.write(id, patience, out));
        true
    }

    fn send(&mut self, write: impl FnOnce(&mut Vec<u8>)) {
        let waiting = !self.outgoing.is_empty();
        write(&mut self.outgoing);
        if !waiting && !self.flush() {
            self.wake();
        }
    }

    /// Sends as much as there is room for. False: something is left. That the other side is gone
    /// is learnt by reading.
    fn flush(&mut self) -> bool {
        let Some(ends) = &self.ends else { return true };
        let mut sent = 0;
        while sent < self.outgoing.len() {
            match (&ends.socket).write(&self.outgoing[sent..]) {
                Ok(count) => sent += count,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                Err(_) => sent = self.outgoing.len(),
            }
        }
        if sent == self.outgoing.len() {
            self.outgoing.clear();
            self.outgoing.shrink_to(4 << 10);
        } else {
            self.outgoing.drain(..sent);
        }
        self.outgoing.is_empty()
    }

    fn wake(&self) {
        if let Some(ends) = &self.ends {
            // It can only be full of calls to wake.
            let _ = (&ends.wake).write(&1_u64.to_ne_bytes());
        }
    }
}

impl Link {
    /// Does what is due: answers the calls that took too long, and finds fault with a process that
    /// lives on without its line.
    fn ring(&self) {
        let now = Instant::now();
        let mut state = self.lock();
        if state.alarm.is_none_or(|alarm| alarm > now) {
            return;
        }
        let is_late = |call: &Call| call.deadline.is_some_and(|deadline| deadline <= now);
        let late = state.calls.iter().filter(|(_, call)| is_late(call)).map(|(id, _)| *id);
        for id in late.collect::<Vec<_>>() {
            if let Some(call) = state.calls.remove(&id) {
                let message = "the function did not answer in time";
                let failure = Failure::new(ErrorCategory::Timeout, message);
                state.due.push((call.reply, Err(failure)));
            }
        }
        let outstayed = state.farewell.take_if(|farewell| *farewell <= now).is_some();
        let outstayed = outstayed && !state.ending;
        let next = state.calls.values().filter_map(|call| call.deadline).min();
        state.alarm = [next, state.farewell].into_iter().flatten().min();
        drop(state);
        if outstayed {
            let message = "closed the line to its master and did not end";
            self.break_off(ErrorCategory::Crash, message.to_owned());
        }
    }

    /// Hears one line.
    ///
    /// # Errors
    /// It is not one of the protocol.
    fn hear(&self, line: &[u8]) -> Result<(), String> {
        match FromWorker::read(line)? {
            FromWorker::Answer(id, answer) => self.answered(id, answer),
            FromWorker::Said(Said::Hello(hello)) => self.greeted(&hello),
            FromWorker::Said(said) => {
                if self.lock().phase == Phase::Greeting {
                    return Err("it did not say hello first".to_owned());
                }
                self.told(said);
                Ok(())
            }
        }
    }

    fn greeted(&self, hello: &Hello) -> Result<(), String> {
        let mut state = self.lock();
        let Some(initialize) = state.initialize.take() else {
            return Err("it said hello twice".to_owned());
        };
        let [major, minor] = hello.protocol;
        let refusal = if major != protocol::VERSION[0] {
            let [ours, _] = protocol::VERSION;
            Some(format!("speaks version {major}.{minor} of the worker protocol, not {ours}"))
        } else if self.plan.hosted && hello.build != protocol::BUILD {
            Some(format!("its build is {:?}, the master's {:?}", hello.build, protocol::BUILD))
        } else {
            None
        };
        if let Some(message) = refusal {
            drop(state);
            self.close();
            let failure = Failure::new(ErrorCategory::Configuration, message).permanent();
            (self.report)(Report::Failed(failure));
            return Ok(());
        }
        state.phase = Phase::Speaking;
        let request = Request::Initialize(&initialize);
        state.ask(Question::Initialize, &request, self.plan.start_timeout);
        Ok(())
    }

    fn told(&self, said: Said) {
        match said {
            Said::Endpoint(endpoint) => {
                let mut state = self.lock();
                if endpoint.is_short() && state.published.len() < MAX_PUBLISHED {
                    state.published.insert(endpoint.name.clone());
                }
                drop(state);
                (self.report)(Report::Endpoint(endpoint));
            }
            Said::Finished => (self.report)(Report::Completed),
            Said::Failed(failure) => (self.report)(Report::Failed(failure)),
            Said::TaskFailed(failure) => (self.report)(Report::TaskFailed(failure)),
            // Heartbeats are for the watchdog.
            Said::Hello(_) | Said::Heartbeat | Said::Unknown => {}
        }
    }

    fn answered(&self, id: u64, answer: Answered<'_>) -> Result<(), String> {
        let pid = self.pid.load(Ordering::Relaxed);
        let mut state = self.lock();
        if let Some(call) = state.calls.remove(&id) {
            drop(state);
            let answer = answer.reply();
            if let Ok(Err(failure)) = &answer
                && failure.category == ErrorCategory::Panic
            {
                self.panics.fetch_add(1, Ordering::Relaxed);
            }
            let (outcome, nonsense) = match answer {
                Ok(outcome) => (outcome, Ok(())),
                Err(message) => {
                    (Err(Failure::new(ErrorCategory::Crash, message.clone())), Err(message))
                }
            };
            self.lock().due.push((call.reply, outcome));
            return nonsense;
        }
        let question = state.questions.remove(&id);
        drop(state);
        match question {
            // To a call that was too late, or to nothing at all.
            None => {}
            Some(Question::Initialize) => self.report_done(answer.done(), Report::Launched),
            Some(Question::Start) => match answer.done() {
                // What it offers is to be known before it is said to run.
                Ok(()) if !self.plan.hosted => {
                    let patience = self.plan.probe_timeout;
                    self.lock().ask(Question::Info, &Request::Info, patience);
                }
                done => self.report_done(done, Report::Started { pid: Some(pid) }),
            },
            Some(Question::Info) => {
                let published = self.lock().published.clone();
                let endpoints = answer.endpoints()?;
                for endpoint in endpoints.into_iter().filter(|e| !published.contains(&e.name)) {
                    (self.report)(Report::Endpoint(endpoint));
                }
                (self.report)(Report::Started { pid: Some(pid) });
            }
            Some(Question::Probe(probe)) => {
                let wellness = answer.wellness()?;
                let (healthy, reason) = (wellness.healthy, crate::error::cut(wellness.reason));
                (self.report)(Report::Probed { probe, healthy, reason });
            }
            Some(Question::Stop) => self.lock().stop_failed = answer.done().err(),
        }
        Ok(())
    }

    fn report_done(&self, done: Result<(), Failure>, report: Report) {
        (self.report)(done.map_or_else(Report::Failed, |()| report));
    }
}
