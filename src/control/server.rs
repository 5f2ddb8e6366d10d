//! The server inside a master: one thread accepts, and one serves each connection. What takes long
//! is waited for without threads of its own.

mod answers;
mod connection;
mod mailbox;
mod streams;
mod work;

use std::collections::BTreeMap;
use std::io;
use std::os::fd::AsFd as _;
use std::os::unix::net::{UnixListener, UnixStream};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::task::Waker;
use std::thread::JoinHandle;
use std::time::Duration;

use super::wire;
use crate::error::{Error, ErrorCategory, Result};
use crate::host::state::StateDir;
use crate::host::sys::{self, Peer};
use crate::host::threads;
use crate::master::Master;
use connection::Connection;
use mailbox::{Mailbox, Signal};

/// The socket's name in the state directory.
pub(crate) const SOCKET: &str = "control.sock";
/// So many connections are served at a time.
const MAX_CONNECTIONS: usize = 64;
/// The stack of the accepting thread and of each connection's.
const STACK: usize = 256 << 10;
/// So long after the system had no descriptor to give we try again, unless a connection ends.
const STARVED: Duration = Duration::from_millis(100);
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
}

#[derive(Default)]
struct Connections {
    by_number: BTreeMap<u64, Arc<Mailbox>>,
    last: u64,
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
        let listener = state.bind_socket(SOCKET).map_err(cannot)?;
        listener.set_nonblocking(true).map_err(cannot)?;
        let signal = Arc::new(Signal::new().map_err(cannot)?);
        let shared = Arc::new(Shared {
            master,
            name: name.to_owned(),
            uid: sys::effective_uid(),
            signal,
            connections: Mutex::default(),
            fewer: Condvar::new(),
        });
        let work = {
            let (shared, state) = (Arc::clone(&shared), Arc::clone(&state));
            move || shared.listen(listener, &state)
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
    fn listen(self: Arc<Self>, listener: UnixListener, state: &StateDir) {
        let _end = self.master.watch_end(Waker::from(Arc::clone(&self.signal)));
        let mut starved = false;
        while !self.master.has_ended() {
            let open = (!starved).then(|| listener.as_fd());
            let patience = starved.then_some(STARVED);
            let ready = sys::wait_readable([open, Some(self.signal.as_fd())], patience);
            let Ok([incoming, woken]) = ready else { break };
            if woken {
                self.signal.clear();
            }
            starved = false;
            if incoming {
                starved = !self.accept(&listener);
            }
        }
        drop(listener);
        if let Err(error) = state.root().remove(SOCKET) {
            log::warn!("control: cannot remove {SOCKET}: {error}");
        }
        self.farewell();
    }

    /// Takes in whoever waits first. False: the system has no descriptor for it now.
    fn accept(self: &Arc<Self>, listener: &UnixListener) -> bool {
        match listener.accept() {
            Ok((socket, _)) => {
                self.admit(socket);
                true
            }
            Err(error) => match error.kind() {
                io::ErrorKind::WouldBlock
                | io::ErrorKind::Interrupted
                | io::ErrorKind::ConnectionAborted => true,
                _ => {
                    log::debug!("control: a connection waits: {error}");
                    false
                }
            },
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
        if let Err(error) = self.serve(&socket, peer) {
            turn_away(&socket, &error);
        }
    }

    fn may_command(&self, peer: Peer) -> bool {
        peer.uid == 0 || peer.uid == self.uid
    }

    /// Gives a connection its thread.
    fn serve(self: &Arc<Self>, socket: &UnixStream, peer: Peer) -> Result<()> {
        let busy = |why: &str| Error::new(ErrorCategory::Refused, format!("busy: {why}"));
        let mailbox = Arc::new(Mailbox::new().map_err(|_| busy("no descriptor is left"))?);
        let number = {
            let mut connections = self.connections();
            if connections.by_number.len() >= MAX_CONNECTIONS {
                let message = format!("{MAX_CONNECTIONS} connections are open");
                return Err(busy(&message));
            }
            connections.last += 1;
            let number = connections.last;
            connections.by_number.insert(number, Arc::clone(&mailbox));
            number
        };
        // From here on it counts, until this is dropped.
        let place = Place { shared: Arc::clone(self), number };
        let own = socket.try_clone().map_err(|_| busy("no descriptor is left"))?;
        let shared = Arc::clone(self);
        let work = move || {
            Connection::new(&shared, own, peer, mailbox).serve();
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
