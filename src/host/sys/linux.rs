//! Linux: the calls about children, their descriptors and their files that std does not offer.

#![expect(unsafe_code, reason = "system calls that std does not offer")]

#[cfg(feature = "cli")]
mod elsewhere;
mod fifos;
mod files;
mod last_words;
mod launch;
mod line;
mod logfiles;
mod orphans;
mod others;
mod own;
mod poller;
mod sockets;
#[cfg(feature = "cli")]
mod terminal;
mod users;

use std::ffi::{CString, c_int};
use std::fs::{File, OpenOptions};
use std::io;
use std::mem::MaybeUninit;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::process::ExitStatus;
use std::time::Duration;

#[cfg(feature = "cli")]
pub(crate) use elsewhere::*;
pub(crate) use fifos::*;
pub(crate) use files::*;
pub(crate) use last_words::*;
pub(crate) use launch::*;
pub(crate) use libc::{
    E2BIG, EAGAIN, EINVAL, ELOOP, EMFILE, ENFILE, ENOEXEC, ENOMEM, ENOSYS, ESRCH, ETXTBSY, SIGCONT,
    SIGKILL, SIGTERM,
};
pub(crate) use line::*;
pub(crate) use logfiles::*;
pub(crate) use orphans::*;
pub(crate) use others::*;
pub(crate) use own::*;
pub(crate) use poller::*;
pub(crate) use sockets::*;
#[cfg(feature = "cli")]
pub(crate) use terminal::*;
pub(crate) use users::*;

use super::Target;

/// The error behind a negative result of a system call.
fn checked(result: c_int) -> io::Result<c_int> {
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(result) }
}

fn raw_pid(pid: u32) -> io::Result<libc::pid_t> {
    libc::pid_t::try_from(pid).map_err(|_| io::Error::from_raw_os_error(ESRCH))
}

fn c_path(path: &Path) -> io::Result<CString> {
    Ok(CString::new(path.as_os_str().as_bytes())?)
}

/// A descriptor that becomes readable when the process ends. Closed on exec. Needs Linux 5.3.
///
/// # Errors
/// As the call has them; the caller's child must not have been reaped.
pub(crate) fn pidfd_open(pid: u32) -> io::Result<OwnedFd> {
    // SAFETY: the call takes two integers and touches no memory of ours.
    let result = unsafe { libc::syscall(libc::SYS_pidfd_open, raw_pid(pid)?, 0) };
    let fd = checked(c_int::try_from(result).unwrap_or(-1))?;
    // SAFETY: the kernel has just made this descriptor, and nobody else knows its number.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

/// Waits until our child `pid` has ended, says how, and leaves it unreaped: its id stays taken.
///
/// # Errors
/// `ECHILD` when somebody else has reaped it.
pub(crate) fn await_end(pid: u32) -> io::Result<ExitStatus> {
    loop {
        let mut info = MaybeUninit::<libc::siginfo_t>::zeroed();
        let options = libc::WEXITED | libc::WNOWAIT;
        // SAFETY: `info` is writable and large enough, and outlives the call.
        let result = unsafe { libc::waitid(libc::P_PID, pid, info.as_mut_ptr(), options) };
        match checked(result) {
            Ok(_) => {
                // SAFETY: the call succeeded, so it has filled `info`.
                if let Some(status) = unsafe { status_in(info.assume_init()) } {
                    return Ok(status);
                }
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
}

/// Sends a signal; false when there is nobody to receive it. The caller makes sure that the id
/// still belongs to whom it means.
///
/// # Errors
/// When it is not allowed, and for the ids 0 and 1, which mean others than a child of ours.
pub(crate) fn signal(target: Target, signal: i32) -> io::Result<bool> {
    let (Target::Process(pid) | Target::Group(pid)) = target;
    let pid = raw_pid(pid)?;
    if pid <= 1 {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, "not the id of a child"));
    }
    let receiver = match target {
        Target::Process(_) => pid,
        Target::Group(_) => -pid,
    };
    // SAFETY: the call takes two integers and touches no memory of ours.
    match checked(unsafe { libc::kill(receiver, signal) }) {
        Ok(_) => Ok(true),
        Err(error) if error.raw_os_error() == Some(ESRCH) => Ok(false),
        Err(error) => Err(error),
    }
}

/// What a descriptor is waited for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Interest {
    /// It can be read, or was closed by its writers.
    Readable,
    /// It can be written to, or was closed by its readers.
    Writable,
}

/// Waits until one of `fds` can be read or was closed by its writers, and says which. All are false
/// when `patience` is over, or a signal came: ask again.
///
/// # Errors
/// As the call has them.
pub(crate) fn wait_readable<const N: usize>(
    fds: [Option<BorrowedFd<'_>>; N],
    patience: Option<Duration>,
) -> io::Result<[bool; N]> {
    wait_ready(fds.map(|fd| fd.map(|fd| (fd, Interest::Readable))), patience)
}

/// As [`wait_readable`], for either interest.
///
/// # Errors
/// As the call has them.
pub(crate) fn wait_ready<const N: usize>(
    fds: [Option<(BorrowedFd<'_>, Interest)>; N],
    patience: Option<Duration>,
) -> io::Result<[bool; N]> {
    let mut polled = fds.map(|waited| libc::pollfd {
        fd: waited.map_or(-1, |(fd, _)| fd.as_raw_fd()),
        events: match waited {
            Some((_, Interest::Writable)) => libc::POLLOUT,
            Some((_, Interest::Readable)) | None => libc::POLLIN,
        },
        revents: 0,
    });
    // Rounded up, so that a rest of less than a millisecond does not become a busy loop.
    let millis = patience.map_or(-1, |patience| {
        c_int::try_from(patience.as_nanos().div_ceil(1_000_000)).unwrap_or(c_int::MAX)
    });
    // SAFETY: the pointer and the length describe `polled`, which outlives the call.
    let result = unsafe { libc::poll(polled.as_mut_ptr(), N as libc::nfds_t, millis) };
    match checked(result) {
        Ok(_) => Ok(polled.map(|polled| polled.revents != 0)),
        Err(error) if error.kind() == io::ErrorKind::Interrupted => Ok([false; N]),
        Err(error) => Err(error),
    }
}

/// Makes reads from this end return `WouldBlock` rather than wait. The other end of a pipe is not
/// affected.
///
/// # Errors
/// As the call has them.
pub(crate) fn set_nonblocking(fd: BorrowedFd<'_>) -> io::Result<()> {
    // SAFETY: the descriptor is open while it is borrowed; only integers are passed.
    let flags = checked(unsafe { libc::fcntl(fd.as_raw_fd(), libc::F_GETFL) })?;
    // SAFETY: as above.
    checked(unsafe { libc::fcntl(fd.as_raw_fd(), libc::F_SETFL, flags | libc::O_NONBLOCK) })?;
    Ok(())
}

/// How many bytes are in a pipe now.
///
/// # Errors
/// As the call has them.
pub(crate) fn readable_bytes(fd: BorrowedFd<'_>) -> io::Result<usize> {
    let mut bytes: c_int = 0;
    // SAFETY: the descriptor is open while it is borrowed, and the request writes one `c_int`.
    checked(unsafe { libc::ioctl(fd.as_raw_fd(), libc::FIONREAD, &raw mut bytes) })?;
    Ok(usize::try_from(bytes).unwrap_or(0))
}

/// True when the system denies us to execute this file, or to search this directory. Any other
/// answer is no reason to think so.
pub(crate) fn denies_execution(path: &Path) -> bool {
    let Ok(path) = c_path(path) else { return false };
    // SAFETY: `path` is a NUL-terminated string that outlives the call.
    let result =
        unsafe { libc::faccessat(libc::AT_FDCWD, path.as_ptr(), libc::X_OK, libc::AT_EACCESS) };
    checked(result).is_err_and(|error| error.raw_os_error() == Some(libc::EACCES))
}

/// Whether nothing may be executed from the file system that `path` is on.
///
/// # Errors
/// As the call has them.
pub(crate) fn mounted_noexec(path: &Path) -> io::Result<bool> {
    let path = c_path(path)?;
    let mut about = MaybeUninit::<libc::statvfs>::uninit();
    // SAFETY: `path` is a NUL-terminated string and `about` is writable; both outlive the call.
    checked(unsafe { libc::statvfs(path.as_ptr(), about.as_mut_ptr()) })?;
    // SAFETY: the call succeeded, so it has filled `about`.
    let about = unsafe { about.assume_init() };
    Ok(about.f_flag & libc::ST_NOEXEC != 0)
}

/// Opens a file for reading. A FIFO is opened at once instead of waiting for its writer.
///
/// # Errors
/// As the call has them.
pub(crate) fn open_without_waiting(path: &Path) -> io::Result<File> {
    OpenOptions::new().read(true).custom_flags(libc::O_NONBLOCK).open(path)
}

/// As [`open_without_waiting`], for a path whose last part is not a symbolic link.
///
/// # Errors
/// As the call has them: `ELOOP` for a link.
pub(crate) fn open_no_link(path: &Path) -> io::Result<File> {
    OpenOptions::new().read(true).custom_flags(libc::O_NONBLOCK | libc::O_NOFOLLOW).open(path)
}

/// The user whose rights we act with.
pub(crate) fn effective_uid() -> u32 {
    // SAFETY: the call takes nothing and cannot fail.
    unsafe { libc::geteuid() }
}

/// For tests: the calling thread's files are reached with this user's rights from now on, where we
/// may choose.
#[cfg(test)]
pub(crate) fn reach_files_as(uid: u32) {
    // SAFETY: the call takes an integer and concerns this thread alone.
    unsafe { libc::setfsuid(uid) };
}
