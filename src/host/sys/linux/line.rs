//! Linux: both ends of the line between a master and its module host.

use std::fs::{self, File};
use std::io;
use std::os::fd::{AsFd, AsRawFd, FromRawFd, OwnedFd};
use std::os::unix::net::UnixStream;

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

/// Shows a name, cut to 15 bytes, where the system lists processes. For people alone.
pub(crate) fn name_process(name: &str) {
    let _ = fs::write("/proc/self/comm", name);
}
