//! Linux: both ends of the line between a master and its module host.

use std::fs::{self, File};
use std::io::{self, Read as _};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::ptr;
use std::time::Duration;

use super::checked;

/// A counter that becomes readable when something is added. Closed on exec, never blocks.
///
/// # Errors
/// When there is no descriptor left.
pub(crate) fn eventfd() -> io::Result<OwnedFd> {
    // SAFETY: the call takes two integers.
    let fd = checked(unsafe { libc::eventfd(0, libc::EFD_CLOEXEC | libc::EFD_NONBLOCK) })?;
    // SAFETY: the kernel has just made this descriptor, and nobody else knows its number.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

/// Takes the Unix socket that is our standard input, and leaves `/dev/null` there: what is read
/// from standard input from now on ends at once, and no child of ours gets the socket.
///
/// # Errors
/// Standard input is no Unix socket, or there is no descriptor left.
pub(crate) fn take_socket_from_stdin() -> io::Result<UnixStream> {
    let stdin = io::stdin();
    let socket = UnixStream::from(stdin.as_fd().try_clone_to_owned()?);
    // Any other kind of file has no such address.
    socket.local_addr()?;
    let null = File::open("/dev/null")?;
    // SAFETY: only integers are passed; what was standard input is duplicated above.
    checked(unsafe { libc::dup2(null.as_raw_fd(), libc::STDIN_FILENO) })?;
    Ok(socket)
}

/// Has our standard error lead nowhere, so that nobody waits for its end.
///
/// # Errors
/// As the calls have them.
pub(crate) fn silence_stderr() -> io::Result<()> {
    let null = File::options().write(true).open("/dev/null")?;
    // SAFETY: only integers are passed; nothing owns the number of standard error.
    checked(unsafe { libc::dup2(null.as_raw_fd(), libc::STDERR_FILENO) }).map(drop)
}

/// Reads what is there now; `WouldBlock` if nothing is, whether the socket blocks or not.
///
/// # Errors
/// As the call has them.
pub(crate) fn receive_now(socket: &UnixStream, buffer: &mut [u8]) -> io::Result<usize> {
    let (start, size) = (buffer.as_mut_ptr().cast(), buffer.len());
    // SAFETY: the pointer and the size describe `buffer`, which outlives the call.
    let read = unsafe { libc::recv(socket.as_raw_fd(), start, size, libc::MSG_DONTWAIT) };
    usize::try_from(read).map_err(|_| io::Error::last_os_error())
}

/// Becomes readable when the time it was set to is over. Closed on exec, never blocks.
pub(crate) struct Timer(File);

impl Timer {
    /// # Errors
    /// When there is no descriptor left.
    pub(crate) fn new() -> io::Result<Self> {
        let flags = libc::TFD_CLOEXEC | libc::TFD_NONBLOCK;
        // SAFETY: the call takes two integers.
        let fd = checked(unsafe { libc::timerfd_create(libc::CLOCK_MONOTONIC, flags) })?;
        // SAFETY: the kernel has just made this descriptor, and nobody else knows its number.
        Ok(Self(unsafe { File::from_raw_fd(fd) }))
    }

    /// Sets it to go off once, at least a nanosecond from now.
    ///
    /// # Errors
    /// As the call has them.
    pub(crate) fn set(&self, after: Duration) -> io::Result<()> {
        let never = libc::timespec { tv_sec: 0, tv_nsec: 0 };
        let once = libc::timespec {
            tv_sec: libc::time_t::try_from(after.as_secs()).unwrap_or(libc::time_t::MAX),
            tv_nsec: libc::c_long::from(after.subsec_nanos().max(1)),
        };
        let when = libc::itimerspec { it_interval: never, it_value: once };
        let (fd, old) = (self.0.as_raw_fd(), ptr::null_mut());
        // SAFETY: `when` is readable and outlives the call; the old setting is not asked for.
        checked(unsafe { libc::timerfd_settime(fd, 0, &raw const when, old) })?;
        Ok(())
    }

    /// Has it be no longer readable.
    pub(crate) fn hush(&self) {
        // Another thread may have done it before.
        let _ = (&self.0).read(&mut [0; 8]);
    }
}

impl AsFd for Timer {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

/// Shows a name, cut to 15 bytes, where the system lists processes. For people alone.
pub(crate) fn name_process(name: &str) {
    let _ = fs::write("/proc/self/comm", name);
}
