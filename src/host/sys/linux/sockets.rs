//! Linux: the Unix socket that a master is operated over, at both of its ends.

use std::ffi::{OsStr, c_int};
use std::fs::{File, Permissions};
use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd};
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::{FileTypeExt as _, OpenOptionsExt as _, PermissionsExt as _};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use super::{Interest, c_path, checked, wait_ready};

/// Who is at the other end of a socket.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Peer {
    pub(crate) pid: u32,
    pub(crate) uid: u32,
}

/// Who connected: as the kernel noted it then.
///
/// # Errors
/// As the call has them.
pub(crate) fn peer(socket: BorrowedFd<'_>) -> io::Result<Peer> {
    let mut about = libc::ucred { pid: 0, uid: 0, gid: 0 };
    let mut size = libc::socklen_t::try_from(size_of_val(&about)).unwrap_or(0);
    let (level, option) = (libc::SOL_SOCKET, libc::SO_PEERCRED);
    let to = (&raw mut about).cast();
    // SAFETY: `to` has room for `size` bytes, and both outlive the call.
    let result = unsafe { libc::getsockopt(socket.as_raw_fd(), level, option, to, &raw mut size) };
    checked(result)?;
    // Of a process that this namespace does not know the id is 0.
    Ok(Peer { pid: u32::try_from(about.pid).unwrap_or(0), uid: about.uid })
}

/// The name of a file in an open directory that fits where a long path does not.
pub(crate) fn below(directory: BorrowedFd<'_>, name: &OsStr) -> PathBuf {
    PathBuf::from(format!("/proc/self/fd/{}", directory.as_raw_fd())).join(name)
}

/// A descriptor that becomes readable when something is removed from a directory, or the directory
/// itself is removed or moved. Closed on exec, never blocks; what is read from it says no more.
///
/// # Errors
/// As the calls have them; `EMFILE` when the user has too many.
pub(crate) fn watch_removals(directory: &Path) -> io::Result<OwnedFd> {
    let path = c_path(directory)?;
    // SAFETY: the call takes an integer.
    let fd = checked(unsafe { libc::inotify_init1(libc::IN_CLOEXEC | libc::IN_NONBLOCK) })?;
    // SAFETY: the kernel has just made this descriptor, and nobody else knows its number.
    let fd = unsafe { OwnedFd::from_raw_fd(fd) };
    let events = libc::IN_DELETE | libc::IN_MOVED_FROM | libc::IN_ONLYDIR;
    let events = events | libc::IN_DELETE_SELF | libc::IN_MOVE_SELF;
    // SAFETY: `path` is a NUL-terminated string that outlives the call.
    checked(unsafe { libc::inotify_add_watch(fd.as_raw_fd(), path.as_ptr(), events) })?;
    Ok(fd)
}

fn unix_address(path: &Path) -> io::Result<libc::sockaddr_un> {
    let mut address = libc::sockaddr_un { sun_family: 0, sun_path: [0; 108] };
    address.sun_family = libc::sa_family_t::try_from(libc::AF_UNIX).unwrap_or(1);
    let bytes = path.as_os_str().as_bytes();
    if bytes.len() >= address.sun_path.len() || bytes.contains(&0) {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, "not a socket's path"));
    }
    for (to, from) in address.sun_path.iter_mut().zip(bytes) {
        *to = libc::c_char::from_ne_bytes([*from]);
    }
    Ok(address)
}

/// Listens at a Unix socket that must not be there, and that has this mode at every moment of its
/// life, however wide the umask is. Closed on exec.
///
/// # Errors
/// As the calls have them.
pub(crate) fn listen_unix(path: &Path, mode: u32) -> io::Result<UnixListener> {
    /// As many as std lets wait to be accepted.
    const WAITING: c_int = 128;
    let address = unix_address(path)?;
    let kind = libc::SOCK_STREAM | libc::SOCK_CLOEXEC;
    // SAFETY: the call takes integers.
    let fd = checked(unsafe { libc::socket(libc::AF_UNIX, kind, 0) })?;
    // SAFETY: the kernel has just made this descriptor, and nobody else knows its number.
    let socket = File::from(unsafe { OwnedFd::from_raw_fd(fd) });
    // The file that binding makes has the mode that the socket has by then.
    socket.set_permissions(Permissions::from_mode(mode))?;
    let size = libc::socklen_t::try_from(size_of_val(&address)).unwrap_or(0);
    let from = (&raw const address).cast();
    // SAFETY: `from` is readable for `size` bytes and outlives the call.
    checked(unsafe { libc::bind(socket.as_raw_fd(), from, size) })?;
    // SAFETY: the call takes integers.
    checked(unsafe { libc::listen(socket.as_raw_fd(), WAITING) })?;
    Ok(UnixListener::from(OwnedFd::from(socket)))
}

/// Gives a socket's file this mode, if it has another. What is there instead of a socket, such as a
/// link that somebody has put there, is left alone.
///
/// # Errors
/// As the calls have them.
pub(crate) fn set_socket_mode(path: &Path, mode: u32) -> io::Result<()> {
    let mut open = File::options();
    let file = open.read(true).custom_flags(libc::O_PATH | libc::O_NOFOLLOW).open(path)?;
    let about = file.metadata()?;
    if !about.file_type().is_socket() || about.permissions().mode() & 0o7777 == mode {
        return Ok(());
    }
    // By the descriptor: the path may mean something else by now.
    let itself = format!("/proc/self/fd/{}", file.as_raw_fd());
    std::fs::set_permissions(itself, Permissions::from_mode(mode))
}

/// Connects to a Unix socket. Waits at most `patience` for room among those who connect.
///
/// # Errors
/// As the calls have them; `WouldBlock` when there was no room.
pub(crate) fn connect_unix(path: &Path, patience: Duration) -> io::Result<UnixStream> {
    let address = unix_address(path)?;
    let kind = libc::SOCK_STREAM | libc::SOCK_CLOEXEC;
    // SAFETY: the call takes integers.
    let fd = checked(unsafe { libc::socket(libc::AF_UNIX, kind, 0) })?;
    // SAFETY: the kernel has just made this descriptor, and nobody else knows its number.
    let socket = UnixStream::from(unsafe { OwnedFd::from_raw_fd(fd) });
    socket.set_write_timeout(Some(patience))?;
    let size = libc::socklen_t::try_from(size_of_val(&address)).unwrap_or(0);
    loop {
        let from = (&raw const address).cast();
        // SAFETY: `from` is readable for `size` bytes and outlives the call.
        match checked(unsafe { libc::connect(socket.as_raw_fd(), from, size) }) {
            Ok(_) => return Ok(socket),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
}

/// Sends what there is room for, whether the socket blocks or not, and never raises SIGPIPE.
///
/// # Errors
/// As the call has them; `WouldBlock` when there is no room.
pub(crate) fn send_now(socket: BorrowedFd<'_>, bytes: &[u8]) -> io::Result<usize> {
    let flags = libc::MSG_NOSIGNAL | libc::MSG_DONTWAIT;
    // SAFETY: the pointer and the size describe `bytes`, which outlives the call.
    let sent = unsafe { libc::send(socket.as_raw_fd(), bytes.as_ptr().cast(), bytes.len(), flags) };
    usize::try_from(sent).map_err(|_| io::Error::last_os_error())
}

/// Sends all of it, and waits for room no longer than `patience` at a time.
///
/// # Errors
/// As the call has them; `TimedOut` when there was no room for so long.
pub(crate) fn send_all(
    socket: BorrowedFd<'_>,
    mut bytes: &[u8],
    patience: Duration,
) -> io::Result<()> {
    let mut progress = Instant::now();
    while !bytes.is_empty() {
        match send_now(socket, bytes) {
            Ok(sent) => {
                bytes = bytes.get(sent..).unwrap_or_default();
                progress = Instant::now();
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                let left = patience.saturating_sub(progress.elapsed());
                if left.is_zero() {
                    return Err(io::ErrorKind::TimedOut.into());
                }
                wait_ready([Some((socket, Interest::Writable))], Some(left))?;
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

/// What a connection can do now.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Readiness {
    /// There is something to be read, if that was asked, or its end.
    pub(crate) readable: bool,
    /// There is room to write, if that was asked.
    pub(crate) writable: bool,
    /// The other end is closed for good.
    pub(crate) hung_up: bool,
    /// `wake` is readable.
    pub(crate) woken: bool,
}

/// Waits until a connection can do one of what is wanted, is closed at its other end, or `wake`
/// becomes readable. Nothing is so when `patience` is over, or a signal came.
///
/// # Errors
/// As the call has them.
pub(crate) fn wait_connection(
    socket: BorrowedFd<'_>,
    [read, write]: [bool; 2],
    wake: BorrowedFd<'_>,
    patience: Option<Duration>,
) -> io::Result<Readiness> {
    let wanted = |wanted: bool, event| if wanted { event } else { 0 };
    let events = wanted(read, libc::POLLIN) | wanted(write, libc::POLLOUT);
    let mut polled = [
        libc::pollfd { fd: socket.as_raw_fd(), events, revents: 0 },
        libc::pollfd { fd: wake.as_raw_fd(), events: libc::POLLIN, revents: 0 },
    ];
    // Rounded up, so that a rest of less than a millisecond does not become a busy loop.
    let millis = patience.map_or(-1, |patience| {
        c_int::try_from(patience.as_nanos().div_ceil(1_000_000)).unwrap_or(c_int::MAX)
    });
    // SAFETY: the pointer and the length describe `polled`, which outlives the call.
    let result = unsafe { libc::poll(polled.as_mut_ptr(), 2, millis) };
    match checked(result) {
        Ok(_) => {
            let [of_socket, of_wake] = polled.map(|polled| polled.revents);
            let gone = libc::POLLHUP | libc::POLLERR | libc::POLLNVAL;
            Ok(Readiness {
                readable: read && of_socket & (libc::POLLIN | gone) != 0,
                writable: write && of_socket & libc::POLLOUT != 0,
                hung_up: of_socket & gone != 0,
                woken: of_wake != 0,
            })
        }
        Err(error) if error.kind() == io::ErrorKind::Interrupted => Ok(Readiness::default()),
        Err(error) => Err(error),
    }
}
