//! The threads of a module host that take turns at the socket and run calls: as many as are needed
//! at a time, up to a bound.

use std::collections::VecDeque;
use std::io;
use std::sync::{Arc, Mutex};

use super::{Host, Next, lock};
use crate::error::{ErrorCategory, Failure};
use crate::host::protocol::Reply;
use crate::host::threads;

/// So many calls run at a time.
const MOST: usize = 32;
/// So many more may wait for one of these to end.
const MAX_WAITING: usize = 1024;
/// Functions are the module's code: they get the stack of an ordinary thread.
const STACK: usize = 2 << 20;

/// How the threads stand.
#[derive(Default)]
pub(super) struct Crew(Mutex<State>);

#[derive(Default)]
struct State {
    threads: usize,
    /// How many of them wait for the place at the socket.
    free: usize,
    /// Calls that came when nobody was free.
    waiting: VecDeque<Call>,
}

/// A call to be run.
pub(super) struct Call {
    pub(super) id: u64,
    pub(super) function: String,
    pub(super) payload: Vec<u8>,
}

impl Crew {
    /// Starts one more thread.
    ///
    /// # Errors
    /// When the system refuses it.
    pub(super) fn enlarge(host: &Arc<Host>) -> io::Result<()> {
        lock(&host.crew.0).threads += 1;
        let member = Arc::clone(host);
        let started = threads::spawn("hsu-calls", STACK, move || Self::take_turns(&member));
        if started.is_err() {
            lock(&host.crew.0).threads -= 1;
        }
        started.map(drop)
    }

    fn take_turns(host: &Arc<Host>) {
        while let Some(call) = Self::next(host) {
            host.run(call);
        }
    }

    /// The next call for this thread; `None`: there will be no more.
    fn next(host: &Arc<Host>) -> Option<Call> {
        {
            // In one step: who brings a call sees either that this thread is free, or that it takes
            // what waits.
            let mut state = lock(&host.crew.0);
            if let Some(call) = state.waiting.pop_front() {
                return Some(call);
            }
            state.free += 1;
        }
        let mut inbox = lock(&host.inbox);
        lock(&host.crew.0).free -= 1;
        loop {
            let call = match host.next(&mut inbox) {
                Next::Call(call) => call,
                Next::Over => return None,
            };
            match host.crew.place(call) {
                Placed::Mine(call) => return Some(call),
                Placed::MineIfReplaced(call) => match Self::enlarge(host) {
                    Ok(()) => return Some(call),
                    Err(_) => host.keep(call),
                },
                Placed::Waits => {}
                Placed::Refused(call) => host.busy(&call),
            }
        }
    }

    /// Who is to run a call.
    fn place(&self, call: Call) -> Placed {
        let mut state = lock(&self.0);
        if state.free > 0 {
            Placed::Mine(call)
        } else if state.threads < MOST {
            Placed::MineIfReplaced(call)
        } else if state.waiting.len() < MAX_WAITING {
            state.waiting.push_back(call);
            Placed::Waits
        } else {
            Placed::Refused(call)
        }
    }
}

enum Placed {
    /// The thread that has read it: another one waits for its place at the socket.
    Mine(Call),
    /// The same, once there is another one.
    MineIfReplaced(Call),
    /// The next that is done with another call.
    Waits,
    Refused(Call),
}

impl Host {
    /// Keeps a call for which there is no thread: one of those that run calls will come to it.
    fn keep(&self, call: Call) {
        let mut state = lock(&self.crew.0);
        // If there is none but this one, which must stay at the socket, nobody would.
        if state.threads > 1 && state.waiting.len() < MAX_WAITING {
            state.waiting.push_back(call);
        } else {
            drop(state);
            self.busy(&call);
        }
    }

    fn busy(&self, call: &Call) {
        let message = format!("busy: {MOST} calls run, and no more can wait");
        let failure = Failure::new(ErrorCategory::Refused, message);
        self.say(&Reply::Refused(call.id, &failure));
    }

    fn run(&self, call: Call) {
        let functions = lock(&self.runner).as_ref().and_then(|runner| runner.functions());
        let result = match functions {
            Some(functions) => functions.call(&call.function, &call.payload),
            None => Err(Failure::new(ErrorCategory::NotRunning, "it is not initialized")),
        };
        match result {
            Ok(bytes) => self.say(&Reply::Called(call.id, &bytes)),
            Err(failure) => self.say(&Reply::Refused(call.id, &failure)),
        }
    }
}
