//! The line to a process that speaks the worker protocol: requests go out from whatever thread has
//! one, answers and events come in on the process's monitor.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::io::{self, Read as _, Write as _};
use std::net::Shutdown;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, TryLockError};
use std::time::{Duration, Instant};

use super::{LinkPlan, Means};
use crate::error::{ErrorCategory, Failure};
use crate::host::protocol::frames::Frames;
use crate::host::protocol::{self, Answered, FromWorker, Hello, Initialize, Request, Said};
use crate::host::runner::check_call;
use crate::host::sys::{self, Poller, Wakes};
use crate::host::{Launch, RemoteFunctions, Reply, Report, Reporter};
use crate::worker::Exit;

/// So many calls may be on their way to one process.
const MAX_CALLS: usize = 4096;
/// So many bytes may wait for a process that does not read.
const MAX_OUTGOING: usize = 8 << 20;
/// How long a process may live on after it has closed its end.
const FAREWELL: Duration = Duration::from_secs(1);

/// So often the socket is read after the process has ended.
const LAST_READS: usize = 64;

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

/// What comes from the worker, read by one thread at a time: the monitor, or a caller who waits.
struct Reader {
    ends: Arc<Ends>,
    frames: Frames,
    /// Their end is closed, or we listen no more.
    deaf: bool,
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
        let frames = Frames::default();
        let reader = Reader { ends: Arc::clone(&ends), frames, deaf: false };
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
        state.ask(Question::Stop, &Request::Stop, patience)
    }

    /// It is ended against its will.
    pub(super) fn give_up(&self) {
        self.lock().ending = true;
    }

    /// Ends all conversation. Whoever waits for an answer is told that there will be none.
    fn close(&self) {
        let calls = {
            let mut state = self.lock();
            state.phase = Phase::Closed;
            state.ends = None;
            state.theirs = None;
            state.initialize = None;
            state.outgoing = Vec::new();
            state.questions.clear();
            std::mem::take(&mut state.calls)
        };
        for call in calls.into_values() {
            let message = "it ended before it answered";
            (call.reply)(Err(Failure::new(ErrorCategory::NotRunning, message)));
        }
    }

    /// It does not keep to the protocol: it has failed, and is not listened to any more.
    fn break_off(&self, category: ErrorCategory, message: String) {
        self.close();
        (self.report)(Report::Failed(Failure::new(category, message)));
    }
}

impl RemoteFunctions for Link {
    fn call(&self, function: &str, payload: &[u8], deadline: Option<Instant>, reply: Reply) {
        let mut state = self.lock();
        if let Err(failure) = state.admit(function, payload) {
            drop(state);
            return reply(Err(failure));
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
    }

    fn attend(&self, done: &dyn Fn() -> bool, deadline: Option<Instant>) {
        let Some(mut guard) = self.try_reader() else { return };
        let Some(reader) = &mut *guard else { return };
        if reader.deaf || reader.ends.ear.mute(&reader.ends.socket).is_err() {
            return;
        }
        while !reader.deaf && !done() {
            let left = deadline.map(|end| end.saturating_duration_since(Instant::now()));
            if left.is_some_and(|left| left.is_zero()) {
                break;
            }
            match sys::wait_readable([Some(reader.ends.socket.as_fd())], left) {
                Ok([true]) => drop(reader.read(self)),
                Ok([false]) => {}
                Err(_) => break,
            }
        }
        if !reader.deaf {
            // What has come meanwhile is the monitor's.
            let _ = reader.ends.ear.arm(&reader.ends.socket, 0, Wakes::Always);
        }
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
            let message = format!("busy: {} calls are on their way", self.calls.len());
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

/// The monitor's end of a line.
pub(super) struct Listening {
    link: Arc<Link>,
    ends: Arc<Ends>,
}

impl Listening {
    /// `None`: the line is closed already.
    pub(super) fn at(link: &Arc<Link>, pid: u32) -> Option<Self> {
        link.pid.store(pid, Ordering::Relaxed);
        let ends = Arc::clone(link.lock().ends.as_ref()?);
        Some(Self { link: Arc::clone(link), ends })
    }

    /// What to wait for: something to read, being woken.
    pub(super) fn readable(&self) -> [BorrowedFd<'_>; 2] {
        [self.ends.ear.as_fd(), self.ends.wake.as_fd()]
    }

    /// What else to wait for: room for what is to be sent.
    pub(super) fn writable(&self) -> Option<BorrowedFd<'_>> {
        let waiting = !self.link.lock().outgoing.is_empty();
        waiting.then(|| self.ends.socket.as_fd())
    }

    /// For how long to wait at most.
    pub(super) fn patience(&self) -> Option<Duration> {
        let next = self.link.lock().alarm;
        next.map(|next| next.saturating_duration_since(Instant::now()))
    }

    /// Does what there is to be done.
    pub(super) fn turn(&self, [heard, woken]: [bool; 2], writable: bool) {
        if woken {
            // How often does not matter.
            let _ = (&self.ends.wake).read(&mut [0; 8]);
        }
        if writable {
            self.link.lock().flush();
        }
        // Whoever has the reader now has read, or will.
        let mut reader = if heard { self.link.try_reader() } else { None };
        if let Some(reader) = reader.as_deref_mut().and_then(Option::as_mut) {
            reader.read(&self.link);
        }
        drop(reader);
        self.link.ring();
    }

    /// The process has ended as `exit` says: hears its last words, closes the line, and says what
    /// is worth more than the exit, if something is.
    pub(super) fn finish(self, exit: Exit) -> Exit {
        // Who still waits to read goes on; what is there already can still be read.
        let _ = self.ends.socket.shutdown(Shutdown::Read);
        let mut reader = self.link.reader.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(mut reader) = reader.take() {
            // Whoever it has left the socket to may write without end.
            let mut turns = LAST_READS;
            while turns > 0 && !reader.deaf && reader.read(&self.link) {
                turns -= 1;
            }
        }
        drop(reader);
        let state = self.link.lock();
        let (greeting, ending) = (state.phase == Phase::Greeting, state.ending);
        let failed = state.stop_failed.clone();
        drop(state);
        self.link.close();
        if let Some(failure) = failed {
            return Exit::Failed(failure);
        }
        if greeting && !ending {
            let hint = if self.link.plan.hosted {
                "does its main begin with hsu_master::host_if_requested?"
            } else {
                "does it speak it on standard input?"
            };
            let message = format!("ended before it spoke the worker protocol: {exit}; {hint}");
            return Exit::Failed(Failure::new(ErrorCategory::Crash, message));
        }
        exit
    }
}

impl Reader {
    /// Reads once. False: there is nothing more.
    fn read(&mut self, link: &Link) -> bool {
        if self.deaf {
            return false;
        }
        let read = link.means.buffers.lend(|buffer| {
            let read = (&self.ends.socket).read(buffer)?;
            self.frames.push(&buffer[..read]);
            Ok::<_, io::Error>(read)
        });
        match read {
            Ok(0) => self.hung_up(link),
            Ok(_) => {
                self.hear(link);
                return true;
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => return true,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            // A reset is an end as well.
            Err(_) => self.hung_up(link),
        }
        false
    }

    /// Nothing is waited for any more but the end of the process.
    fn deafen(&mut self) {
        self.deaf = true;
        let _ = self.ends.ear.remove(&self.ends.socket);
    }

    fn hung_up(&mut self, link: &Link) {
        self.deafen();
        let mut state = link.lock();
        // A process that has ended is known to have in a moment, and that says more.
        state.farewell = Instant::now().checked_add(FAREWELL);
        state.alarm = [state.alarm, state.farewell].into_iter().flatten().min();
        state.wake();
        if state.phase == Phase::Speaking {
            drop(state);
            link.close();
        } else {
            state.outgoing = Vec::new();
        }
    }

    /// Hears all whole lines that are there.
    fn hear(&mut self, link: &Link) {
        let broken = loop {
            match self.frames.next() {
                Ok(None) => return,
                Ok(Some(line)) => {
                    if let Err(message) = link.hear(line) {
                        break message;
                    }
                    if link.lock().phase == Phase::Closed {
                        return self.deafen();
                    }
                }
                Err(error) => break error.to_string(),
            }
        };
        self.deafen();
        let message = format!("broke the worker protocol: {broken}");
        link.break_off(ErrorCategory::Crash, message);
    }
}

impl Link {
    /// The reader, unless another thread has it.
    fn try_reader(&self) -> Option<MutexGuard<'_, Option<Reader>>> {
        match self.reader.try_lock() {
            Ok(reader) => Some(reader),
            Err(TryLockError::Poisoned(reader)) => Some(reader.into_inner()),
            Err(TryLockError::WouldBlock) => None,
        }
    }

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
        let late: Vec<_> = late.collect();
        let late: Vec<_> = late.iter().filter_map(|id| state.calls.remove(id)).collect();
        let outstayed = state.farewell.take_if(|farewell| *farewell <= now).is_some();
        let outstayed = outstayed && !state.ending;
        let next = state.calls.values().filter_map(|call| call.deadline).min();
        state.alarm = [next, state.farewell].into_iter().flatten().min();
        drop(state);
        for call in late {
            let message = "the function did not answer in time";
            (call.reply)(Err(Failure::new(ErrorCategory::Timeout, message)));
        }
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
                self.lock().published.insert(endpoint.name.clone());
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
            let reply = answer.reply();
            if let Ok(Err(failure)) = &reply
                && failure.category == ErrorCategory::Panic
            {
                self.panics.fetch_add(1, Ordering::Relaxed);
            }
            return match reply {
                Ok(reply) => {
                    (call.reply)(reply);
                    Ok(())
                }
                Err(message) => {
                    let failure = Failure::new(ErrorCategory::Crash, message.clone());
                    (call.reply)(Err(failure));
                    Err(message)
                }
            };
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
