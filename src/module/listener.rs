//! A listener's connections until the stop: the accept loop every service would write, once.

use std::fmt;
use std::io;
use std::net::{Shutdown, TcpListener, TcpStream};
use std::time::Duration;

use super::token::{OnStop, StopToken};

/// How long to wait for a descriptor when the process has none left.
const SHORTAGE_PAUSE: Duration = Duration::from_millis(50);

/// A listening socket of the standard library. Sealed: implemented for the types it is meant for.
pub trait Listener: sealed::Sealed {
    /// What it accepts.
    type Stream;

    /// Waits for one connection.
    #[doc(hidden)]
    fn accept_one(&self) -> io::Result<Self::Stream>;

    /// An action that wakes a blocked `accept_one` and makes all later ones fail.
    #[doc(hidden)]
    fn waker(&self) -> io::Result<Box<dyn FnOnce() + Send>>;
}

mod sealed {
    pub trait Sealed {}
    impl Sealed for std::net::TcpListener {}
    #[cfg(unix)]
    impl Sealed for std::os::unix::net::UnixListener {}
}

impl Listener for TcpListener {
    type Stream = TcpStream;

    fn accept_one(&self) -> io::Result<TcpStream> {
        self.accept().map(|(stream, _)| stream)
    }

    #[cfg(unix)]
    fn waker(&self) -> io::Result<Box<dyn FnOnce() + Send>> {
        // On Linux, shutting a listening socket down wakes its accept with an error.
        let socket = TcpStream::from(std::os::fd::OwnedFd::from(self.try_clone()?));
        Ok(Box::new(move || drop(socket.shutdown(Shutdown::Both))))
    }

    #[cfg(not(unix))]
    fn waker(&self) -> io::Result<Box<dyn FnOnce() + Send>> {
        let address = self.local_addr()?;
        Ok(Box::new(move || drop(TcpStream::connect_timeout(&address, Duration::from_secs(1)))))
    }
}

#[cfg(unix)]
impl Listener for std::os::unix::net::UnixListener {
    type Stream = std::os::unix::net::UnixStream;

    fn accept_one(&self) -> io::Result<Self::Stream> {
        self.accept().map(|(stream, _)| stream)
    }

    fn waker(&self) -> io::Result<Box<dyn FnOnce() + Send>> {
        let socket = Self::Stream::from(std::os::fd::OwnedFd::from(self.try_clone()?));
        Ok(Box::new(move || drop(socket.shutdown(Shutdown::Both))))
    }
}

/// A listener's connections, until the token fires: made by [`StopToken::incoming`].
///
/// Errors of a single connection (reset before it was accepted, interrupted) are passed over, and a
/// shortage of descriptors is waited out. An error it does yield is the listener's own end: the
/// iterator is over after it. After a stop the listener accepts no more, for anybody.
pub struct Incoming<'l, L: Listener> {
    token: StopToken,
    listener: &'l L,
    waker: State,
}

enum State {
    Fresh,
    Armed { _wake: OnStop },
    Over,
}

impl<'l, L: Listener> Incoming<'l, L> {
    pub(super) fn new(token: StopToken, listener: &'l L) -> Self {
        Self { token, listener, waker: State::Fresh }
    }

    fn end(&mut self, error: io::Error) -> Option<io::Result<L::Stream>> {
        self.waker = State::Over;
        if self.token.is_stopped() { None } else { Some(Err(error)) }
    }
}

impl<L: Listener> Iterator for Incoming<'_, L> {
    type Item = io::Result<L::Stream>;

    fn next(&mut self) -> Option<Self::Item> {
        match self.waker {
            State::Over => return None,
            State::Armed { .. } => {}
            State::Fresh => match self.listener.waker() {
                Ok(wake) => self.waker = State::Armed { _wake: self.token.on_stop(wake) },
                Err(error) => return self.end(error),
            },
        }
        loop {
            let accepted = self.listener.accept_one();
            if self.token.is_stopped() {
                self.waker = State::Over;
                return None;
            }
            match accepted {
                Ok(stream) => return Some(Ok(stream)),
                Err(error) if is_transient(&error) => {}
                Err(error) if is_shortage(&error) => {
                    if self.token.wait(SHORTAGE_PAUSE) {
                        self.waker = State::Over;
                        return None;
                    }
                }
                Err(error) => return self.end(error),
            }
        }
    }
}

impl<L: Listener> fmt::Debug for Incoming<'_, L> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Incoming").field("token", &self.token).finish_non_exhaustive()
    }
}

/// One connection's trouble, as accept(2) lists it: not the listener's.
fn is_transient(error: &io::Error) -> bool {
    use io::ErrorKind as Kind;
    #[expect(clippy::wildcard_enum_match_arm, reason = "ErrorKind is not ours and grows")]
    match error.kind() {
        Kind::ConnectionAborted
        | Kind::ConnectionReset
        | Kind::Interrupted
        | Kind::NetworkDown
        | Kind::NetworkUnreachable
        | Kind::HostUnreachable
        | Kind::TimedOut => true,
        // EPROTO and ENOPROTOOPT, which have no kind.
        _ => matches!(error.raw_os_error(), Some(71 | 92)),
    }
}

/// EMFILE, ENFILE, ENOBUFS, ENOMEM: the process or the system is out of something that comes back.
fn is_shortage(error: &io::Error) -> bool {
    matches!(error.raw_os_error(), Some(23 | 24 | 105 | 12))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::net::{UnixListener, UnixStream};

    /// Accepts one connection, then is woken out of the wait for a second one.
    fn accepts_until_stopped<L: Listener + Sync>(listener: &L, connect: impl FnOnce()) {
        let token = StopToken::new();
        let (told, heard) = crossbeam_channel::bounded(1);
        std::thread::scope(|scope| {
            let accepting = token.clone();
            let counted = scope.spawn(move || {
                accepting.incoming(listener).inspect(|_| told.send(()).unwrap()).count()
            });
            connect();
            heard.recv_timeout(Duration::from_secs(30)).unwrap();
            for action in token.fire(None) {
                action();
            }
            assert_eq!(counted.join().unwrap(), 1);
        });
    }

    #[test]
    fn a_blocked_accept_is_woken_by_the_stop() {
        let tcp = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = tcp.local_addr().unwrap();
        accepts_until_stopped(&tcp, || drop(TcpStream::connect(address).unwrap()));
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("s");
        let unix = UnixListener::bind(&path).unwrap();
        accepts_until_stopped(&unix, || drop(UnixStream::connect(&path).unwrap()));
    }

    #[test]
    fn after_the_stop_there_is_nothing_to_accept() {
        let token = StopToken::new();
        token.fire(None);
        let tcp = TcpListener::bind("127.0.0.1:0").unwrap();
        assert!(token.incoming(&tcp).next().is_none());
    }
}
