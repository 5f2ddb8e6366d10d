//! The reading end of a line: the process's monitor, or a caller who waits for a reply.

use std::io::{self, Read as _};
use std::net::Shutdown;
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::atomic::Ordering;
use std::sync::{Arc, MutexGuard, PoisonError, TryLockError};
use std::time::{Duration, Instant};

use super::{Ends, Link, Phase};
use crate::error::{ErrorCategory, Failure};
use crate::host::protocol::frames::Frames;
use crate::host::sys::{self, Wakes};
use crate::host::threads;
use crate::worker::Exit;

/// How long a process may live on after it has closed its end.
const FAREWELL: Duration = Duration::from_secs(1);
/// So often the socket is read after the process has ended.
const LAST_READS: usize = 64;

/// What comes from the worker, read by one thread at a time: the monitor, or a caller who waits.
pub(super) struct Reader {
    ends: Arc<Ends>,
    frames: Frames,
    /// Their end is closed, or we listen no more.
    deaf: bool,
}

/// The monitor's end of a line.
pub(in crate::host::process) struct Listening {
    link: Arc<Link>,
    ends: Arc<Ends>,
}

impl Listening {
    /// `None`: the line is closed already.
    pub(in crate::host::process) fn at(link: &Arc<Link>, pid: u32) -> Option<Self> {
        link.pid.store(pid, Ordering::Relaxed);
        let ends = Arc::clone(link.lock().ends.as_ref()?);
        Some(Self { link: Arc::clone(link), ends })
    }

    /// What to wait for: something to read, being woken.
    pub(in crate::host::process) fn readable(&self) -> [BorrowedFd<'_>; 2] {
        [self.ends.ear.as_fd(), self.ends.wake.as_fd()]
    }

    /// What else to wait for: room for what is to be sent.
    pub(in crate::host::process) fn writable(&self) -> Option<BorrowedFd<'_>> {
        let waiting = !self.link.lock().outgoing.is_empty();
        waiting.then(|| self.ends.socket.as_fd())
    }

    /// For how long to wait at most.
    pub(in crate::host::process) fn patience(&self) -> Option<Duration> {
        let next = self.link.lock().alarm;
        next.map(|next| next.saturating_duration_since(Instant::now()))
    }

    /// Does what there is to be done.
    pub(in crate::host::process) fn turn(&self, [heard, woken]: [bool; 2], writable: bool) {
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
        self.link.tell();
    }

    /// Hears the lines that were left when this was broken off in their midst: they are no news.
    pub(in crate::host::process) fn hear_again(&self) {
        let mut reader = self.link.try_reader();
        let reading = reader.as_deref_mut().and_then(Option::as_mut);
        if let Some(reader) = reading.filter(|reader| !reader.deaf) {
            reader.hear(&self.link);
        }
        drop(reader);
        self.link.tell();
    }

    /// The process has ended as `exit` says: hears its last words, closes the line, and says what
    /// is worth more than the exit, if something is.
    pub(in crate::host::process) fn finish(self, exit: Exit) -> Exit {
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

impl Drop for Listening {
    /// However the monitor ends, nobody waits for an answer any more.
    fn drop(&mut self) {
        self.link.close();
        self.link.tell();
    }
}

impl Reader {
    pub(super) fn of(ends: &Arc<Ends>) -> Self {
        Self { ends: Arc::clone(ends), frames: Frames::default(), deaf: false }
    }

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
            threads::fail_point("line");
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

/// Reads on the calling thread: see `RemoteFunctions`.
pub(super) fn attend(link: &Link, call: u64, deadline: Option<Instant>) {
    while link.is_open(call) {
        let Some(mut guard) = link.try_reader() else { return };
        let Some(reader) = guard.as_mut().filter(|reader| !reader.deaf) else { return };
        let heard = reader.await_reply(link, call, deadline);
        drop(guard);
        link.tell();
        if !heard {
            return;
        }
    }
}

impl Reader {
    /// Reads, in the monitor's place, until a reply is due to somebody. False: that did not come.
    fn await_reply(&mut self, link: &Link, call: u64, deadline: Option<Instant>) -> bool {
        if self.ends.ear.remove(&self.ends.socket).is_err() {
            return false;
        }
        let heard = loop {
            {
                // Another one may have read it just before.
                let state = link.lock();
                if !state.due.is_empty() || !state.calls.contains_key(&call) {
                    break true;
                }
            }
            let left = deadline.map(|end| end.saturating_duration_since(Instant::now()));
            if self.deaf || left.is_some_and(|left| left.is_zero()) {
                break false;
            }
            match sys::wait_readable([Some(self.ends.socket.as_fd())], left) {
                Ok([true]) => drop(self.read(link)),
                Ok([false]) => {}
                Err(_) => break false,
            }
        };
        if !self.deaf {
            // What has come meanwhile is the monitor's.
            let _ = self.ends.ear.add(&self.ends.socket, 0, Wakes::Always);
        }
        heard
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
}
