//! The threads of a module host that wait at the socket and run calls: as many as are needed at a
//! time, up to a bound.
//!
//! All of them wait for the same descriptors, and the kernel wakes one. The one that has read a
//! call lets the others listen before it runs it: so a call is handed over to nobody, and what
//! functions do never keeps the host from hearing that it is to stop.

use std::collections::VecDeque;
use std::fs::File;
use std::io::{self, Read as _, Write as _};
use std::sync::{Arc, Mutex, MutexGuard};

use super::{Host, lock};
use crate::error::{ErrorCategory, Failure};
use crate::host::protocol::Reply;
use crate::host::sys::{self, Poller, Wakes};
use crate::host::threads;

/// So many calls run at a time.
const MOST: usize = 32;
/// So many more may wait for one of these to end.
const MAX_WAITING: usize = 4096;
/// Functions are the module's code: they get the stack of an ordinary thread.
const STACK: usize = 2 << 20;

/// What a thread is woken for.
const SOCKET: u64 = 0;
const CALLS: u64 = 1;

/// The threads, and what they wait for.
pub(super) struct Crew {
    poller: Poller,
    /// Wakes a thread for calls that wait.
    call: File,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    threads: usize,
    /// How many of them wait to be woken.
    free: usize,
    /// Calls that nobody runs yet.
    waiting: VecDeque<Call>,
}

/// A call to be run.
pub(super) struct Call {
    pub(super) id: u64,
    pub(super) function: String,
    pub(super) payload: Vec<u8>,
}

impl Crew {
    /// # Errors
    /// When there is no descriptor left.
    pub(super) fn new(socket: &impl std::os::fd::AsFd) -> io::Result<Self> {
        let (poller, call) = (Poller::new()?, File::from(sys::eventfd()?));
        poller.add(socket, SOCKET, Wakes::Once)?;
        poller.add(&call, CALLS, Wakes::Always)?;
        Ok(Self { poller, call, state: Mutex::default() })
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
        let started = threads::spawn("hsu-calls", STACK, move || Self::serve(&member));
        if started.is_err() {
            let mut state = lock(&host.crew.state);
            state.threads -= 1;
            state.free -= 1;
        }
        started.map(drop)
    }

    /// What each thread does. It comes counted as free.
    fn serve(host: &Arc<Host>) {
        while let Ok(token) = host.crew.poller.wait() {
            lock(&host.crew.state).free -= 1;
            let mut next = match token {
                CALLS => {
                    // Another one may have been here before.
                    let _ = (&host.crew.call).read(&mut [0; 8]);
                    None
                }
                _ => match Self::listen(host) {
                    Ok(call) => call,
                    Err(Closed) => return,
                },
            };
            while let Some(call) = next.or_else(|| Self::take(host)) {
                host.run(call);
                next = None;
            }
        }
    }

    /// The next call that waits, if somebody else listens; without one the thread is free.
    fn take(host: &Arc<Host>) -> Option<Call> {
        let mut state = lock(&host.crew.state);
        let call = if state.free > 0 { state.waiting.pop_front() } else { None };
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

    /// Hears what there is at the socket, and sees to it that somebody listens from then on.
    /// Returns a call for this thread, if there was one and others listen.
    fn listen(host: &Arc<Host>) -> Result<Option<Call>, Closed> {
        let mut inbox = lock(&host.inbox);
        let mut calls = VecDeque::new();
        host.hear(&mut inbox, &mut calls)?;
        let alone = {
            let state = lock(&host.crew.state);
            state.free == 0 && state.threads < MOST
        };
        if alone
            && !calls.is_empty()
            && let Err(error) = Self::enlarge(host)
        {
            log::warn!("cannot start a thread for calls: {error}");
        }
        let mut state = lock(&host.crew.state);
        let mine = if state.free > 0 { calls.pop_front() } else { None };
        // With one thread alone nobody would come to what waits.
        let room = if state.threads > 1 { MAX_WAITING } else { 0 };
        while state.waiting.len() < room
            && let Some(call) = calls.pop_front()
        {
            state.waiting.push_back(call);
        }
        Self::call_for_help(host, state);
        let armed = host.crew.poller.arm(&inbox.socket, SOCKET, Wakes::Once);
        drop(inbox);
        for call in calls {
            host.busy(&call);
        }
        armed.map(|()| mine).map_err(|_| Closed)
    }
}

/// There is nobody to be heard any more.
pub(super) struct Closed;

impl Host {
    fn busy(&self, call: &Call) {
        let message = format!("busy: {MOST} calls run, and no more can wait");
        let failure = Failure::new(ErrorCategory::Refused, message);
        self.say(&Reply::Refused(call.id, &failure));
    }

    fn run(&self, call: Call) {
        let result = match self.functions.get() {
            Some(functions) => functions.call(&call.function, &call.payload),
            None => Err(Failure::new(ErrorCategory::NotRunning, "it is not initialized")),
        };
        match result {
            Ok(bytes) => self.say(&Reply::Called(call.id, &bytes)),
            Err(failure) => self.say(&Reply::Refused(call.id, &failure)),
        }
    }
}
