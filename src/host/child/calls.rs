//! The threads of a module host that wait at the socket and run calls: as many as are needed at a
//! time, up to a bound.
//!
//! The thread that has read calls runs them, and reads on: short calls are handed over to nobody.
//! If it is not back at the socket in a moment, another thread takes its place there and helps with
//! the calls that wait. So what functions do never keeps the host from hearing that it is to stop,
//! nor one call from being run beside another.

use std::collections::VecDeque;
use std::fs::File;
use std::io::{self, Read as _, Write as _};
use std::os::fd::AsFd;
use std::sync::{Arc, Condvar, Mutex, MutexGuard};
use std::time::{Duration, Instant};

use super::{Host, PANICKED, lock};
use crate::error::{ErrorCategory, Failure};
use crate::host::protocol::Reply;
use crate::host::sys::{self, Poller, Timer, Wakes};
use crate::host::threads;

/// So many calls run at a time.
const MOST: usize = 32;
/// So many more may wait for one of these to end.
const MAX_WAITING: usize = 4096;
/// So many bytes of payloads may wait.
const MAX_BYTES: usize = 64 << 20;
/// So long the socket is left alone by a thread that runs calls.
const MOMENT: Duration = Duration::from_millis(1);
/// Functions are the module's code: they get the stack of an ordinary thread.
const STACK: usize = 2 << 20;

/// What a thread is woken for.
const SOCKET: u64 = 0;
const CALLS: u64 = 1;
const TIMER: u64 = 2;

/// The threads, and what they wait for.
pub(super) struct Crew {
    poller: Poller,
    /// Wakes a thread for calls that wait.
    call: File,
    /// Wakes a thread when the one that has left the socket stays away.
    timer: Timer,
    state: Mutex<State>,
    /// Told when no call runs any more.
    settled: Condvar,
}

#[derive(Default)]
struct State {
    threads: usize,
    /// How many of them wait to be woken.
    free: usize,
    /// Calls that nobody runs yet.
    waiting: VecDeque<Call>,
    /// All their payloads together.
    bytes: usize,
    /// Calls that are being run, or whose replies are being sent.
    running: usize,
    /// Somebody has left the socket to run calls: who. Then nobody is woken for the socket.
    away: Option<u64>,
    /// Numbers those who leave.
    leaves: u64,
    /// The timer is set.
    timed: bool,
}

/// A call to be run.
pub(super) struct Call {
    pub(super) id: u64,
    pub(super) function: String,
    pub(super) payload: Vec<u8>,
    /// Then its caller has been told that it took too long.
    pub(super) due: Option<Instant>,
}

impl Crew {
    /// # Errors
    /// When there is no descriptor left.
    pub(super) fn new(socket: &impl AsFd) -> io::Result<Self> {
        let (poller, call, timer) = (Poller::new()?, File::from(sys::eventfd()?), Timer::new()?);
        poller.add(socket, SOCKET, Wakes::Once)?;
        poller.add(&call, CALLS, Wakes::Always)?;
        poller.add(&timer, TIMER, Wakes::Always)?;
        Ok(Self { poller, call, timer, state: Mutex::default(), settled: Condvar::new() })
    }

    /// Starts one more thread.
    ///
    /// # Errors
    /// When the system refuses it.
    pub(super) fn enlarge(host: &Arc<Host>) -> io::Result<()> {
        {
            let mut state = lock(&host.crew.state);
            state.threads += 1;
            // It is as good as there: what is to wake it waits until it comes.
            state.free += 1;
        }
        let member = Arc::clone(host);
        let started = threads::spawn("hsu-calls", STACK, move || {
            // What it had in hand is known to nobody: this process ends as after a module's panic.
            if threads::ours("hsu-calls", || Self::serve(&member)).is_err() {
                member.leave(PANICKED);
            }
        });
        if started.is_err() {
            let mut state = lock(&host.crew.state);
            state.threads -= 1;
            state.free -= 1;
        }
        started.map(drop)
    }

    /// What each thread does, for as long as the process lives. It comes counted as free.
    fn serve(host: &Arc<Host>) {
        while let Ok(token) = host.crew.poller.wait() {
            lock(&host.crew.state).free -= 1;
            threads::fail_point("hsu-calls");
            match token {
                SOCKET => Self::attend(host),
                TIMER => host.crew.relieve(host),
                // Another one may have been here before.
                _ => drop((&host.crew.call).read(&mut [0; 8])),
            }
            while let Some(call) = Self::take(host) {
                host.run(&call, || false);
            }
        }
    }

    /// Reads and runs calls until there is nothing more, or another thread has taken the place.
    fn attend(host: &Arc<Host>) {
        loop {
            let mut calls = VecDeque::new();
            let more = host.hear(&mut lock(&host.inbox), &mut calls);
            if calls.is_empty() {
                if more {
                    continue;
                }
                return host.crew.listen(host);
            }
            let Some(leave) = Self::leave(host, calls) else { return host.crew.listen(host) };
            while let Some(call) = host.crew.next_of(leave) {
                host.run(&call, || host.crew.has_more_for(leave));
            }
            if !host.crew.is_back(leave) {
                return;
            }
        }
    }

    /// The next call for the thread that has left the socket this time; none once it is relieved:
    /// what waits is then taken as by any other thread.
    fn next_of(&self, leave: u64) -> Option<Call> {
        let mut state = lock(&self.state);
        if state.away == Some(leave) { state.pop() } else { None }
    }

    fn has_more_for(&self, leave: u64) -> bool {
        let state = lock(&self.state);
        state.away == Some(leave) && !state.waiting.is_empty()
    }

    /// The thread that has left the socket this time has nothing more to run. False: another one
    /// has taken its place.
    fn is_back(&self, leave: u64) -> bool {
        lock(&self.state).away.take_if(|away| *away == leave).is_some()
    }

    /// Waits, at most so long, until no call runs or waits.
    pub(super) fn settle(&self, patience: Duration) {
        let busy = |state: &mut State| state.running > 0 || !state.waiting.is_empty();
        drop(self.settled.wait_timeout_while(lock(&self.state), patience, busy));
    }

    /// Has these calls wait to be run by this thread, which leaves the socket for them, and is
    /// relieved if that takes long. `None`: there is nobody who could relieve it.
    fn leave(host: &Arc<Host>, mut calls: VecDeque<Call>) -> Option<u64> {
        let alone = {
            let state = lock(&host.crew.state);
            state.free == 0 && state.threads < MOST
        };
        if alone && let Err(error) = Self::enlarge(host) {
            log::warn!("cannot start a thread for calls: {error}");
        }
        let mut state = lock(&host.crew.state);
        // With one thread alone nobody would come to what waits.
        let room = if state.threads > 1 { MAX_WAITING } else { 0 };
        while state.waiting.len() < room
            && calls.front().is_some_and(|call| state.has_room_for(call))
            && let Some(call) = calls.pop_front()
        {
            state.push(call);
        }
        let relieved = state.free > 0;
        if relieved {
            state.leaves += 1;
            state.away = Some(state.leaves);
            if !state.timed {
                state.timed = host.crew.timer.set(MOMENT).is_ok();
            }
        }
        let left = state.away.filter(|_| relieved);
        drop(state);
        for call in calls {
            host.busy(&call);
        }
        left
    }

    /// Takes the place of a thread that stays away from the socket.
    fn relieve(&self, host: &Arc<Host>) {
        self.timer.hush();
        host.flush();
        let mut state = lock(&self.state);
        state.timed = false;
        if state.away.take().is_some() {
            drop(state);
            self.listen(host);
        }
    }

    /// From now on somebody is woken for the socket.
    fn listen(&self, host: &Host) {
        let inbox = lock(&host.inbox);
        if let Err(error) = self.poller.arm(&inbox.socket, SOCKET, Wakes::Once) {
            host.broken_off(&format!("it cannot be heard any more: {error}"));
        }
    }

    /// The next call that waits, if somebody else listens; without one the thread is free.
    fn take(host: &Arc<Host>) -> Option<Call> {
        let alone = {
            let state = lock(&host.crew.state);
            state.waits() && state.free == 0 && state.threads < MOST
        };
        if alone {
            // Without another thread this one is to listen.
            let _ = Self::enlarge(host);
        }
        let mut state = lock(&host.crew.state);
        let call = if state.waits() && state.free > 0 { state.pop() } else { None };
        match &call {
            Some(_) => Self::call_for_help(host, state),
            None => state.free += 1,
        }
        call
    }

    /// Wakes one more thread if there are calls that wait, or starts one; that one does the same.
    fn call_for_help(host: &Arc<Host>, state: MutexGuard<'_, State>) {
        if state.waiting.is_empty() {
            return;
        }
        let (help, room) = (state.free > 1, state.threads < MOST);
        drop(state);
        if help || room && Self::enlarge(host).is_ok() {
            // It cannot be full.
            let _ = (&host.crew.call).write(&1_u64.to_ne_bytes());
        }
    }
}

impl State {
    /// There are calls for any thread. Who is away comes to what waits, or is relieved.
    fn waits(&self) -> bool {
        self.away.is_none() && !self.waiting.is_empty()
    }

    fn has_room_for(&self, call: &Call) -> bool {
        self.bytes + call.payload.len() <= MAX_BYTES
    }

    fn push(&mut self, call: Call) {
        self.bytes += call.payload.len();
        self.waiting.push_back(call);
    }

    /// The next call, which counts as running from now on.
    fn pop(&mut self) -> Option<Call> {
        let call = self.waiting.pop_front()?;
        self.bytes -= call.payload.len();
        self.running += 1;
        Some(call)
    }
}

impl Host {
    fn busy(&self, call: &Call) {
        let message = format!("busy: {MOST} calls run, and no more can wait");
        let failure = Failure::new(ErrorCategory::Refused, message);
        self.say(&Reply::Refused(call.id, &failure));
    }

    /// Runs a call. While there are `more` for this thread, its reply is kept for a moment, and
    /// those of many short calls are sent together.
    fn run(&self, call: &Call, more: impl FnOnce() -> bool) {
        let late = call.due.is_some_and(|due| due <= Instant::now());
        let result = match self.functions.get() {
            // Its caller has been told so already.
            _ if late => Err(Failure::new(ErrorCategory::Timeout, "its turn came too late")),
            Some(functions) => functions.call(&call.function, &call.payload),
            None => Err(Failure::new(ErrorCategory::NotRunning, "it is not initialized")),
        };
        let reply = match &result {
            Ok(bytes) => Reply::Called(call.id, bytes),
            Err(failure) => Reply::Refused(call.id, failure),
        };
        if more() {
            self.say_soon(&reply);
        } else {
            self.say(&reply);
        }
        let mut state = lock(&self.crew.state);
        state.running -= 1;
        if state.running == 0 {
            self.crew.settled.notify_all();
        }
    }
}
