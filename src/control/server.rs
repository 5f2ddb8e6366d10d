//! The server inside a master: one thread accepts, and one serves each connection. What takes long
//! is waited for without threads of its own.

mod answers;
mod connection;
mod limits;
mod mailbox;
mod recent;
mod streams;
mod work;

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, Read as _};
use std::os::fd::AsFd as _;
use std::os::unix::fs::FileTypeExt as _;
use std::os::unix::net::{UnixListener, UnixStream};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::task::Waker;
use std::thread::JoinHandle;
use std::time::Duration;

use super::report::Usage;
use super::{SOCKET, wire};
use crate::error::{Error, ErrorCategory, Result};
use crate::host::state::StateDir;
use crate::host::sys::{self, Peer};
use crate::host::threads;
use crate::master::Master;
use connection::Connection;
use limits::Limit;
use mailbox::{Mailbox, Signal};
use recent::Recent;

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
/// long after something was removed we look whether it was the socket.
const MOMENT: Duration = Duration::from_millis(100);
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
    /// What workers' processes use, or used a moment ago.
    usage: Recent<Option<Usage>>,
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
        let door = Door::open(state.clone()).map_err(cannot)?;
        let signal = Arc::new(Signal::new().map_err(cannot)?);
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
            usage: Recent::default(),
        });
        let work = {
            let shared = Arc::clone(&shared);
            move || shared.listen(door)
        };
        let thread = Some(threads::spawn("control", STACK, work).map_err(cannot)?);
        Ok(Self { shared, thread })
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // A master that is dropped on a module's own thread has not ended yet: nobody waits for it.
        if self.shared.master.has_ended()
            && let Some(thread) = self.thread.take()
        {
            let _ = thread.join();
        }
    }
}

impl Shared {
    fn listen(self: Arc<Self>, mut door: Door) {
        let _end = self.master.watch_end(Waker::from(Arc::clone(&self.signal)));
        let (mut starved, mut suspicious) = (false, false);
        while !self.master.has_ended() {
            let open = (!starved).then(|| door.listener.as_fd());
            let removals = door.removals.as_ref().map(File::as_fd);
            let patience = (starved || suspicious).then_some(MOMENT);
            let ready = sys::wait_readable([open, removals, Some(self.signal.as_fd())], patience);
            let Ok([incoming, removed, woken]) = ready else { break };
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
            starved = incoming && !self.accept(&door.listener);
        }
        door.close();
        self.farewell();
    }

    /// Takes in whoever waits first. False: the system has no descriptor for it now.
    fn accept(self: &Arc<Self>, listener: &UnixListener) -> bool {
        match listener.accept() {
            Ok((socket, _)) => {
                self.admit(socket);
                true
            }
            Err(error) => {
                let passing = [
                    io::ErrorKind::WouldBlock,
                    io::ErrorKind::Interrupted,
                    io::ErrorKind::ConnectionAborted,
                ];
                let passes = passing.contains(&error.kind());
                if !passes {
                    log::debug!("control: a connection waits: {error}");
                }
                passes
            }
        }
    }

    fn admit(self: &Arc<Self>, socket: UnixStream) {
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
        if let Err(error) = self.serve(&socket, peer) {
            turn_away(&socket, &error);
        }
    }

    fn may_command(&self, peer: Peer) -> bool {
        peer.uid == 0 || peer.uid == self.uid
    }

    /// Gives a connection its thread.
    fn serve(self: &Arc<Self>, socket: &Arc<UnixStream>, peer: Peer) -> Result<()> {
        let busy = |why: &str| Error::new(ErrorCategory::Refused, format!("busy: {why}"));
        let mailbox =
            Mailbox::new(Arc::clone(socket)).map_err(|_| busy("no descriptor is left"))?;
        let mailbox = Arc::new(mailbox);
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
            Connection::new(&shared, peer, mailbox).serve();
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

/// The socket that others connect to.
struct Door {
    listener: UnixListener,
    state: Arc<StateDir>,
    /// Readable when something was removed from the directory, where the system has room for that.
    removals: Option<File>,
}

impl Door {
    fn open(state: Arc<StateDir>) -> io::Result<Self> {
        let listener = bind(&state)?;
        let removals = sys::watch_removals(&state.root().path()).map(File::from);
        let untold = |error: &io::Error| log::debug!("control: no news of removed files: {error}");
        Ok(Self { listener, state, removals: removals.inspect_err(untold).ok() })
    }

    /// Takes the news that something was removed, whatever it was.
    fn hear(&self) {
        if let Some(mut removals) = self.removals.as_ref() {
            let _ = removals.read(&mut [0; 4 << 10]);
        }
    }

    /// Makes the socket again if it is not there any more. Some clean up what they take for old.
    fn look(&mut self) {
        // Who connects finds it by its name, so that is what counts.
        let there = self.state.root().path().join(SOCKET);
        if std::fs::symlink_metadata(there).is_ok_and(|about| about.file_type().is_socket()) {
            return;
        }
        match bind(&self.state) {
            Ok(listener) => {
                log::warn!("control: {SOCKET} was removed and is made again");
                self.listener = listener;
            }
            Err(error) => log::warn!("control: {SOCKET} was removed: nobody can connect: {error}"),
        }
    }

    fn close(self) {
        drop(self.listener);
        if let Err(error) = self.state.root().remove(SOCKET) {
            log::warn!("control: cannot remove {SOCKET}: {error}");
        }
    }
}

fn bind(state: &StateDir) -> io::Result<UnixListener> {
    let listener = state.bind_socket(SOCKET)?;
    listener.set_nonblocking(true)?;
    Ok(listener)
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
