//! How long a thread may run before others have their turn.

use std::io;
use std::mem;

use super::checked;

/// The calling thread asks for turns this long, in nanoseconds; 0: the system's own length. A
/// thread with short turns gets them the sooner when it is woken, and no more of the processor.
/// Linux heeds it since 6.12, for all but real-time threads.
///
/// # Errors
/// As the calls have them, and where it would not be heeded or might be deadly.
pub(crate) fn set_slice(nanos: u64) -> io::Result<()> {
    let mut attr = scheduling()?;
    let policy = attr.sched_policy.cast_signed();
    let is_heeded = matches!(policy, libc::SCHED_OTHER | libc::SCHED_BATCH);
    // Older kernels tell of no length. Of system calls that a filter does not expect many a filter
    // has the whole process killed, and this one few expect.
    if !is_heeded || attr.sched_runtime == 0 || is_filtered() {
        return Err(io::ErrorKind::Unsupported.into());
    }
    attr.sched_runtime = nanos;
    // SAFETY: the attributes live for as long as the call and state their own size.
    let set = unsafe { libc::syscall(libc::SYS_sched_setattr, 0, &raw const attr, 0) };
    // It is 0 or -1.
    checked(set as i32).map(drop)
}

/// Whether there is a filter of system calls.
fn is_filtered() -> bool {
    // SAFETY: it takes no pointers.
    unsafe { libc::prctl(libc::PR_GET_SECCOMP) != 0 }
}

/// The length of the calling thread's turns, in nanoseconds; 0 where the kernel does not tell.
#[cfg(test)]
pub(crate) fn slice() -> io::Result<u64> {
    Ok(scheduling()?.sched_runtime)
}

/// How the calling thread is scheduled.
fn scheduling() -> io::Result<libc::sched_attr> {
    let size = size_of::<libc::sched_attr>();
    // SAFETY: they are numbers, all of which may be zero.
    let mut attr: libc::sched_attr = unsafe { mem::zeroed() };
    // SAFETY: the kernel writes at most the `size` bytes that are there.
    let got = unsafe { libc::syscall(libc::SYS_sched_getattr, 0, &raw mut attr, size, 0) };
    checked(got as i32)?;
    Ok(attr)
}
