//! Linux: processes that may not be our children, each known by a descriptor of it, which means no
//! other one however often its number is used again; and what a guardian does to itself.

use std::ffi::c_int;
use std::io;
use std::mem::MaybeUninit;
use std::os::fd::{AsRawFd, BorrowedFd};
use std::os::unix::process::ExitStatusExt;
use std::process::ExitStatus;
use std::ptr;

use super::checked;

/// The signal is for the group that the process leads. Since Linux 6.9.
const PROCESS_GROUP: libc::c_uint = 1 << 2;

/// Sends a signal to the process behind a descriptor; false when it is gone.
///
/// # Errors
/// When it is not allowed.
pub(crate) fn signal_by(process: BorrowedFd<'_>, signal: i32) -> io::Result<bool> {
    send(process, signal, 0)
}

/// Sends a signal to the group that the process behind a descriptor leads, also when the process
/// itself is gone; false when nobody is left in it.
///
/// # Errors
/// When it is not allowed, and of kind `InvalidInput` when the kernel cannot do it.
pub(crate) fn signal_group_by(process: BorrowedFd<'_>, signal: i32) -> io::Result<bool> {
    send(process, signal, PROCESS_GROUP)
}

fn send(process: BorrowedFd<'_>, signal: i32, flags: libc::c_uint) -> io::Result<bool> {
    let (fd, info) = (process.as_raw_fd(), ptr::null::<libc::siginfo_t>());
    // SAFETY: the descriptor is open while it is borrowed, and a null pointer stands for no more
    // information; the call touches no memory of ours.
    let result = unsafe { libc::syscall(libc::SYS_pidfd_send_signal, fd, signal, info, flags) };
    match checked(c_int::try_from(result).unwrap_or(-1)) {
        Ok(_) => Ok(true),
        Err(error) if error.raw_os_error() == Some(libc::ESRCH) => Ok(false),
        Err(error) => Err(error),
    }
}

/// Reaps the process behind a descriptor if it has ended and is our child: how it ended.
pub(crate) fn reap_by(process: BorrowedFd<'_>) -> Option<ExitStatus> {
    let mut info = MaybeUninit::<libc::siginfo_t>::zeroed();
    let id = libc::id_t::try_from(process.as_raw_fd()).ok()?;
    let options = libc::WEXITED | libc::WNOHANG | libc::__WALL;
    // SAFETY: `info` is writable and large enough, and outlives the call.
    let result = unsafe { libc::waitid(libc::P_PIDFD, id, info.as_mut_ptr(), options) };
    checked(result).ok()?;
    // SAFETY: the call succeeded: `info` is as it filled it, or all zeros, which is valid too.
    unsafe { status_in(info.assume_init()) }
}

/// How a process ended, as `waitid` has told it; `None`: it has not ended.
///
/// # Safety
/// `waitid` has filled `info`, or it is all zeros.
pub(super) unsafe fn status_in(info: libc::siginfo_t) -> Option<ExitStatus> {
    // SAFETY: as the caller has it.
    let (pid, status) = unsafe { (info.si_pid(), info.si_status()) };
    // Put together as `wait` has it.
    (pid != 0).then(|| match info.si_code {
        libc::CLD_EXITED => ExitStatus::from_raw((status & 0xff) << 8),
        libc::CLD_DUMPED => ExitStatus::from_raw(status & 0x7f | 0x80),
        _ => ExitStatus::from_raw(status & 0x7f),
    })
}

/// Ignores every signal by which a terminal, a session or a person ends or stops a process. For one
/// that has no children, which would inherit it.
///
/// # Errors
/// As the call has them.
pub(crate) fn ignore_requests_to_end() -> io::Result<()> {
    let requests = [
        libc::SIGHUP,
        libc::SIGINT,
        libc::SIGQUIT,
        libc::SIGTERM,
        libc::SIGTSTP,
        libc::SIGTTIN,
        libc::SIGTTOU,
        libc::SIGUSR1,
        libc::SIGUSR2,
        libc::SIGALRM,
    ];
    for number in requests {
        // SAFETY: ignoring is not a function, so nothing of ours is called by it.
        if unsafe { libc::signal(number, libc::SIG_IGN) } == libc::SIG_ERR {
            return Err(io::Error::last_os_error());
        }
    }
    Ok(())
}

/// Closes every descriptor but standard input, output and error. For one that has opened none yet.
/// Kernels before 5.9 cannot do it.
pub(crate) fn close_inherited() {
    // SAFETY: the call takes three integers. No descriptor that it closes is owned by anything
    // here, as the caller makes sure.
    unsafe { libc::syscall(libc::SYS_close_range, 3, c_int::MAX, 0) };
}

/// Sixteen bytes that nobody can guess.
///
/// # Errors
/// As the call has them.
pub(crate) fn random() -> io::Result<[u8; 16]> {
    let mut bytes = [0; 16];
    // SAFETY: the pointer and the size describe `bytes`, which outlives the call.
    let got = unsafe { libc::getrandom(bytes.as_mut_ptr().cast(), bytes.len(), 0) };
    // So few come at once or not at all.
    match usize::try_from(got) {
        Ok(16) => Ok(bytes),
        Ok(_) => Err(io::ErrorKind::UnexpectedEof.into()),
        Err(_) => Err(io::Error::last_os_error()),
    }
}
