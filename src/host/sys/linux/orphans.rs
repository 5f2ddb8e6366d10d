//! Linux: the calls about children that others gave birth to: adopting them, telling them from our
//! own, and reaping them.

use std::ffi::{c_int, c_ulong};
use std::io;
use std::mem::MaybeUninit;

use super::own::{Resource, limit};
use super::{Limit, checked, raw_pid};

/// Whether orphans among our descendants become our children.
///
/// # Errors
/// As the call has them.
pub(crate) fn is_subreaper() -> io::Result<bool> {
    let mut now: c_int = 0;
    // SAFETY: the call writes one `c_int` to `now`, which outlives it.
    checked(unsafe { libc::prctl(libc::PR_GET_CHILD_SUBREAPER, &raw mut now) })?;
    Ok(now != 0)
}

/// From now on orphans among our descendants become our children, or no longer do.
///
/// # Errors
/// As the call has them.
pub(crate) fn set_subreaper(on: bool) -> io::Result<()> {
    // SAFETY: only integers are passed.
    checked(unsafe { libc::prctl(libc::PR_SET_CHILD_SUBREAPER, c_ulong::from(on)) })?;
    Ok(())
}

/// Gives a child a limit of file locks that is one below ours. All its descendants inherit it, and
/// no kernel since 2.4.25 heeds it.
///
/// # Errors
/// As the call has them, and when our own limit is 0.
pub(crate) fn lower_lock_limit(pid: u32) -> io::Result<()> {
    let ours = limit(0, Resource::Locks, None)?;
    let soft = ours.soft.checked_sub(1).ok_or(io::ErrorKind::InvalidInput)?;
    limit(pid, Resource::Locks, Some(Limit { soft, ..ours })).map(drop)
}

/// The session of a process, also of one that has ended and is not reaped; 0 when it is one that
/// cannot be seen from here.
///
/// # Errors
/// When there is no such process.
pub(crate) fn session_of(pid: u32) -> io::Result<u32> {
    // SAFETY: the call takes an integer and touches no memory of ours.
    let session = checked(unsafe { libc::getsid(raw_pid(pid)?) })?;
    Ok(session.unsigned_abs())
}

/// The group of a process, also of one that has ended and is not reaped.
///
/// # Errors
/// When there is no such process.
pub(crate) fn group_of(pid: u32) -> io::Result<u32> {
    // SAFETY: the call takes an integer and touches no memory of ours.
    let group = checked(unsafe { libc::getpgid(raw_pid(pid)?) })?;
    Ok(group.unsigned_abs())
}

/// What a process is to us.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kinship {
    /// No child of ours, or none any more.
    Stranger,
    /// A child that has not ended, as far as we may know.
    Alive,
    /// A child that has ended and is not reaped.
    Ended,
}

/// Looks at a process without reaping it.
pub(crate) fn kinship(pid: u32) -> Kinship {
    wait_for(pid, libc::WNOWAIT)
}

/// Reaps a child that has ended. Anybody else is left as they are.
pub(crate) fn reap(pid: u32) {
    wait_for(pid, 0);
}

fn wait_for(pid: u32, option: c_int) -> Kinship {
    let mut info = MaybeUninit::<libc::siginfo_t>::zeroed();
    // Also those that were cloned without SIGCHLD: they are children like others.
    let options = libc::WEXITED | libc::WNOHANG | libc::__WALL | option;
    // SAFETY: `info` is writable and large enough, and outlives the call.
    let result = unsafe { libc::waitid(libc::P_PID, pid, info.as_mut_ptr(), options) };
    if let Err(error) = checked(result) {
        return match error.raw_os_error() {
            Some(libc::ECHILD) => Kinship::Stranger,
            // A security module forbids to look, so it is none that could be reaped.
            _ => Kinship::Alive,
        };
    }
    // SAFETY: the call succeeded: `info` is as it filled it, or all zeros, which is valid too. The
    // process's id is among what it fills, and stays 0 as long as the child lives.
    match unsafe { info.assume_init().si_pid() } {
        0 => Kinship::Alive,
        _ => Kinship::Ended,
    }
}
