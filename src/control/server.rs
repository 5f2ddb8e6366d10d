//! The server inside a master: one thread accepts, and one serves each connection. What takes long
//! is waited for without threads of its own.

mod answers;
mod connection;
mod door;
mod limits;
mod mailbox;
mod reserve;
mod streams;
#[cfg(test)]
mod tests;
mod usage;
mod work;

use std::collections::BTreeMap;
use std::io;
use std::os::fd::AsFd as _;
use std::os::unix::net::{UnixListener, UnixStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::task::Waker;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use super::{SOCKET, wire};
use crate::error::{Error, ErrorCategory, Result};
use crate::host::panics::guarded;
use crate::host::state::StateDir;
use crate::host::sys::{self, Peer};
use crate::host::threads;
use crate::master::Master;
use connection::Connection;
use door::Door;
use limits::Limit;
use mailbox::{Mailbox, Signal};
use reserve::Reserve;

/// So many connections are served at a time.
const MAX_CONNECTIONS: usize = 64;
/// So many requests at a time have a thread of their own, which outlives their client.
const MAX_JOBS: usize = 16;
/// So many may follow events at a time, and so many read logs.
const MAX_FOLLOWERS: usize = 64;
const MAX_LOG_READERS: usize = 64;
/// The stack of the accepting thread and of each connection's.
const STACK: usize = 256 << 10;
/// So long after the system had no descriptor to give we try again, unless a connection ends; so
/// long after something was removed we look whether it was ours.
const MOMENT: Duration = Duration::from_millis(100);
/// So long connections wait for a descriptor before they are told that there is none: less than a
/// client's patience, and more than most others stay.
const SHORTAGE: Duration = Duration::from_secs(2);
/// How long connections have to take their last answers once the master has ended.
const FAREWELL: Duration = Duration::from_secs(2);

/// A master's control socket, from its beginning to its end. It ends by itself with the master;
/// dropping it then waits until every connection has had its last answer.
pub(crate) struct Server {
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
}

/// What the accepting thread and the connections share.
struct Shared {
    /// A share, whose drop ends nothing.
    master: Master,
    name: String,
    /// Whose requests are heard, beside root's.
    uid: u32,
    /// Wakes the accepting thread.
    signal: Arc<Signal>,
    connections: Mutex<Connections>,
    fewer: Condvar,
    /// Those who follow events: each has room for many.
    followers: Limit,
    /// Threads that do one request each.
    jobs: Limit,
    /// Threads that read logs.
    log_readers: Limit,
    /// The loop died: every request is answered so.
    died: AtomicBool,
    /// The master is dropped: nobody is served any more.
    over: AtomicBool,
    looks: usage::Looks,
}

#[derive(Default)]
struct Connections {
    by_number: BTreeMap<u64, Arc<Mailbox>>,
    last: u64,
}

impl Connections {
    /// Ends the connection that has been idle the longest. False: none is.
    fn make_room(&mut self) -> bool {
        // One that is idle when it is looked for may be in use when it is to go.
        loop {
            let idle = self
                .by_number
                .iter()
                .filter_map(|(number, mailbox)| mailbox.idle_since().map(|since| (since, *number)));
            let Some((_, number)) = idle.min() else { return false };
            if self.by_number.get(&number).is_some_and(|mailbox| mailbox.evict()) {
                self.by_number.remove(&number);
                return true;
            }
        }
    }
}

impl Server {
    /// Listens in the master's state directory.
    ///
    /// # Errors
    /// The socket cannot be made, or there is no descriptor or thread left.
    pub(crate) fn start(master: Master, name: &str, state: Arc<StateDir>) -> Result<Self> {
        let cannot = |error| {
            Error::io(format!("cannot listen at {}", state.path().join(SOCKET).display()), error)
        };
        let signal = Arc::new(Signal::new().map_err(cannot)?);
        let door = Door::open(Arc::clone(&state), Arc::clone(&signal)).map_err(cannot)?;
        let shared = Arc::new(Shared {
            master,
            name: name.to_owned(),
            uid: sys::effective_uid(),
            signal,
            connections: Mutex::default(),
            fewer: Condvar::new(),
            followers: Limit::new(MAX_FOLLOWERS, "readers that follow events"),
            jobs: Limit::new(MAX_JOBS, "reloads, plans and lists of modules"),
            log_readers: Limit::new(MAX_LOG_READERS, "readers of logs"),
            died: AtomicBool::new(false),
            over: AtomicBool::new(false),
            looks: usage::Looks::default(),
        });
        let work = {
            let (shared, mut door) = (Arc::clone(&shared), Some(door));
            move || {
                if let Some(door) = &mut door {
                    shared.listen(door);
                }
                if let Some(door) = door.take() {
                    shared.turn_away_the_last(door.listener());
                    door.close();
                }
                shared.farewell();
            }
        };
        let thread = Some(threads::vital("control", STACK, work).map_err(cannot)?);
        Ok(Self { shared, thread })
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.shared.over.store(true, Ordering::SeqCst);
        self.shared.signal.raise();
        // A master that is dropped on a module's own thread has not ended yet: nobody waits for it.
        if self.shared.master.has_ended()
            && let Some(thread) = self.thread.take()
        {
            let _ = thread.join();
        }
    }
}

impl Shared {
    fn listen(self: &Arc<Self>, door: &mut Door) {
        let _end = self.master.watch_end(Waker::from(Arc::clone(&self.signal)));
        let mut reserve = Reserve::default();
        let (mut starved, mut suspicious) = (false, false);
        let mut short_since = None;
        while !self.is_over() {
            if reserve.fill() {
                short_since = None;
            }
            let open = (!starved).then(|| door.listener().as_fd());
            let patience = (starved || suspicious).then_some(MOMENT);
            let ready =
                sys::wait_readable([open, door.removals(), Some(self.signal.as_fd())], patience);
            let Ok([incoming, removed, woken]) = ready else { break };
            threads::fail_point("control");
            if woken {
                self.signal.clear();
            }
            // Whoever removes files one by one may be about to remove the directory: not at once.
            if removed {
                door.hear();
                suspicious = true;
            } else if suspicious && !incoming && !woken {
                suspicious = false;
                door.look();
            }
            if door.is_to_look() {
                door.look();
            }
            starved = incoming && !self.accept(door.listener(), &mut reserve);
            if starved && short_since.get_or_insert_with(Instant::now).elapsed() >= SHORTAGE {
                let refuse = || Self::turn_away_all(door.listener(), &no_descriptor());
                starved = reserve.for_a_moment(refuse) == 0;
            }
        }
    }

    /// True when nobody is served any more. Who asks a master whose loop died is told so, for as
    /// long as the program keeps it.
    fn is_over(&self) -> bool {
        if !self.master.has_ended() {
            return false;
        }
        let died = self.master.has_died();
        if died && !self.died.swap(true, Ordering::SeqCst) {
            self.connections().by_number.values().for_each(|mailbox| mailbox.tell_death());
        }
        !died || self.over.load(Ordering::SeqCst)
    }

    /// Why a request comes to nothing, once the master has ended.
    fn end(&self) -> Error {
        self.master.board().end_error()
    }

    /// Takes in whoever waits first. False: the system has no descriptor for it now.
    fn accept(self: &Arc<Self>, listener: &UnixListener, reserve: &mut Reserve) -> bool {
        let error = match reserve.for_one(|| listener.accept()) {
            Ok((socket, _)) => {
                self.admit(socket, reserve);
                return true;
            }
            Err(error) => error,
        };
        let passing = [
            io::ErrorKind::WouldBlock,
            io::ErrorKind::Interrupted,
            io::ErrorKind::ConnectionAborted,
        ];
        let passes = passing.contains(&error.kind());
        if !passes {
            log::debug!("control: a connection waits: {error}");
            // What is idle keeps descriptors from those who have something to ask.
            self.connections().make_room();
        }
        passes
    }

    /// Those who wait at the door of a master whose loop died are told so.
    fn turn_away_the_last(&self, listener: &UnixListener) {
        if !self.master.has_died() {
            return;
        }
        Self::turn_away_all(listener, &self.end());
    }

    /// Tells those who wait at the door why they wait in vain. Returns how many that were: there
    /// may be more.
    fn turn_away_all(listener: &UnixListener, why: &Error) -> usize {
        let waiting = std::iter::from_fn(|| listener.accept().ok()).take(MAX_CONNECTIONS);
        waiting.inspect(|(socket, _)| turn_away(socket, why)).count()
    }

    fn admit(self: &Arc<Self>, socket: UnixStream, reserve: &mut Reserve) {
        let peer = match sys::peer(socket.as_fd()) {
            Ok(peer) => peer,
            Err(error) => return log::warn!("control: nobody knows who connected: {error}"),
        };
        if !self.may_command(peer) {
            log::warn!("control: refused pid {} of uid {}", peer.pid, peer.uid);
            let message = format!("uid {} may not command this master", peer.uid);
            return turn_away(&socket, &Error::new(ErrorCategory::PermissionDenied, message));
        }
        let socket = Arc::new(socket);
        if let Err(error) = self.serve(&socket, peer, reserve) {
            turn_away(&socket, &error);
        }
    }

    fn may_command(&self, peer: Peer) -> bool {
        peer.uid == 0 || peer.uid == self.uid
    }

    /// Gives a connection its thread.
    fn serve(
        self: &Arc<Self>,
        socket: &Arc<UnixStream>,
        peer: Peer,
        reserve: &mut Reserve,
    ) -> Result<()> {
        let mailbox = reserve.for_one(|| Mailbox::new(Arc::clone(socket)));
        let mailbox = Arc::new(mailbox.map_err(|_| no_descriptor())?);
        // What it has is missed by the next one, until it goes.
        let brief = !reserve.fill();
        let number = {
            let mut connections = self.connections();
            if connections.by_number.len() >= MAX_CONNECTIONS && !connections.make_room() {
                let message = format!("{MAX_CONNECTIONS} connections are in use");
                return Err(busy(&message));
            }
            connections.last += 1;
            let number = connections.last;
            connections.by_number.insert(number, Arc::clone(&mailbox));
            number
        };
        // From here on it counts, until this is dropped.
        let place = Place { shared: Arc::clone(self), number };
        let shared = Arc::clone(self);
        let work = move || {
            let connection = format!("the connection of pid {}", peer.pid);
            let serve = || {
                threads::fail_point("connection");
                Connection::new(&shared, peer, mailbox, brief).serve();
            };
            if let Err(failure) = guarded(connection, serve) {
                log::error!("control: {failure}; it is closed, and no other is hurt");
            }
            drop(place);
        };
        let thread = threads::spawn(&format!("control#{number}"), STACK, work);
        thread.map(drop).map_err(|_| busy("no thread is left"))
    }

    /// Lets every connection have its last answers.
    fn farewell(&self) {
        let connections = self.connections();
        connections.by_number.values().for_each(|mailbox| mailbox.close());
        // Each has that long itself; what comes on top is for a machine that is busy.
        let limit = 2 * FAREWELL;
        let left = |connections: &mut Connections| !connections.by_number.is_empty();
        let waited = self.fewer.wait_timeout_while(connections, limit, left);
        drop(waited);
    }

    fn connections(&self) -> MutexGuard<'_, Connections> {
        self.connections.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn busy(why: &str) -> Error {
    Error::new(ErrorCategory::Refused, format!("busy: {why}"))
}

fn no_descriptor() -> Error {
    busy("no descriptor is left")
}

/// One of the connections there is room for.
struct Place {
    shared: Arc<Shared>,
    number: u64,
}

impl Drop for Place {
    fn drop(&mut self) {
        self.shared.connections().by_number.remove(&self.number);
        self.shared.fewer.notify_all();
        // A descriptor is free again.
        self.shared.signal.raise();
    }
}

/// Says why a connection is not served, as far as there is room to say it.
fn turn_away(socket: &UnixStream, why: &Error) {
    let mut line = Vec::new();
    wire::push_error(&mut line, None, why);
    let _ = sys::send_now(socket.as_fd(), &line);
    // What it has said already: closing over unread bytes would look like a broken connection.
    let _ = socket.shutdown(std::net::Shutdown::Write);
    let _ = sys::receive_now(socket, &mut [0; 4 << 10]);
}
