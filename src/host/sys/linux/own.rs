//! Linux: what a program that owns its process sets right at its start, and how it ends at once.

use std::ffi::c_int;
use std::fs;
use std::io;
use std::mem::MaybeUninit;
use std::os::fd::RawFd;
use std::ptr;

use serde::{Deserialize, Serialize};

use super::{checked, raw_pid};

/// Signals are numbered from 1 to this.
const LAST_SIGNAL: c_int = 64;
/// The first descriptor that is not standard input, output or error.
const FIRST_INHERITED: RawFd = 3;

/// How much of something a process may have.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Limit {
    /// What holds now.
    pub(crate) soft: libc::rlim_t,
    /// How far the process may raise it.
    pub(crate) hard: libc::rlim_t,
}

/// What there is a limit of.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Resource {
    AddressSpace,
    CoreDump,
    Descriptors,
    Locks,
    FileSize,
    Processes,
}

/// Reads a limit of a process, 0 being ourselves, and sets it if a new one is given.
pub(super) fn limit(pid: u32, of: Resource, new: Option<Limit>) -> io::Result<Limit> {
    let of = match of {
        Resource::AddressSpace => libc::RLIMIT_AS,
        Resource::CoreDump => libc::RLIMIT_CORE,
        Resource::Descriptors => libc::RLIMIT_NOFILE,
        Resource::Locks => libc::RLIMIT_LOCKS,
        Resource::FileSize => libc::RLIMIT_FSIZE,
        Resource::Processes => libc::RLIMIT_NPROC,
    };
    let new = new.map(|new| libc::rlimit { rlim_cur: new.soft, rlim_max: new.hard });
    let new = new.as_ref().map_or(ptr::null(), ptr::from_ref);
    let mut old = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    // SAFETY: `new` is null or points to a limit, `old` is writable, and both outlive the call.
    checked(unsafe { libc::prlimit(raw_pid(pid)?, of, new, &raw mut old) })?;
    Ok(Limit { soft: old.rlim_cur, hard: old.rlim_max })
}

fn nofile(pid: u32, new: Option<Limit>) -> io::Result<Limit> {
    limit(pid, Resource::Descriptors, new)
}

/// Our descriptor limit.
///
/// # Errors
/// As the call has them.
pub(crate) fn nofile_limit() -> io::Result<Limit> {
    nofile(0, None)
}

/// Raises our soft descriptor limit to the hard one. What it was, if that changed anything:
/// children get it back, since some programs cannot handle descriptors from 1,024 up.
///
/// # Errors
/// As the call has them.
pub(crate) fn raise_nofile_limit() -> io::Result<Option<Limit>> {
    let original = nofile(0, None)?;
    if original.soft == original.hard {
        return Ok(None);
    }
    nofile(0, Some(Limit { soft: original.hard, ..original }))?;
    Ok(Some(original))
}

/// Sets the descriptor limit of a process; 0 is ourselves.
///
/// # Errors
/// As the call has them.
pub(crate) fn set_nofile(pid: u32, limit: Limit) -> io::Result<()> {
    nofile(pid, Some(limit)).map(|_| ())
}

/// Sets a limit of our own.
///
/// # Errors
/// As the call has them.
pub(crate) fn set_limit(of: Resource, new: Limit) -> io::Result<()> {
    limit(0, of, Some(new)).map(|_| ())
}

/// What a process does on `signal`; nothing for a number that is the C library's own.
fn disposition(signal: c_int) -> Option<libc::sigaction> {
    let mut now = MaybeUninit::<libc::sigaction>::uninit();
    // SAFETY: a null new action changes nothing; `now` is writable and outlives the call.
    checked(unsafe { libc::sigaction(signal, ptr::null(), now.as_mut_ptr()) }).ok()?;
    // SAFETY: the call succeeded, so it has filled `now`.
    Some(unsafe { now.assume_init() })
}

/// The signals that we ignore, and that our children would ignore too. Without SIGPIPE, which std
/// ignores in us and puts back in children.
pub(crate) fn ignored_signals() -> Vec<i32> {
    let ignored =
        |signal: &c_int| disposition(*signal).is_some_and(|now| now.sa_sigaction == libc::SIG_IGN);
    (1..=LAST_SIGNAL).filter(|signal| *signal != libc::SIGPIPE).filter(ignored).collect()
}

/// Gives every ignored signal but SIGPIPE its default meaning back. To be called before handlers
/// are installed.
///
/// # Errors
/// As the call has them.
pub(crate) fn reset_ignored_signals() -> io::Result<()> {
    for number in ignored_signals() {
        // SAFETY: the default action is not a function, so nothing of ours is called by it.
        if unsafe { libc::signal(number, libc::SIG_DFL) } == libc::SIG_ERR {
            return Err(io::Error::last_os_error());
        }
    }
    Ok(())
}

/// Holds back no signal on this thread, nor on those that it starts: whoever started us may have.
///
/// # Errors
/// As the call has them.
pub(crate) fn accept_all_signals() -> io::Result<()> {
    let mut none = MaybeUninit::<libc::sigset_t>::uninit();
    // SAFETY: the first call fills the set that the second one reads; null is not written to.
    let refused = unsafe {
        libc::sigemptyset(none.as_mut_ptr());
        libc::pthread_sigmask(libc::SIG_SETMASK, none.as_ptr(), ptr::null_mut())
    };
    if refused == 0 { Ok(()) } else { Err(io::Error::from_raw_os_error(refused)) }
}

/// The signals that end a process by default, for which there is hardly a use: real-time ones,
/// which programs agree upon, and two that systems send which nobody has. The C library keeps the
/// first two real-time ones for itself.
pub(crate) fn other_deadly_signals() -> impl Iterator<Item = c_int> {
    [libc::SIGPWR, libc::SIGSTKFLT].into_iter().chain(libc::SIGRTMIN()..=libc::SIGRTMAX())
}

/// True when the kernel would not keep our children's exit codes.
pub(crate) fn sigchld_is_ignored() -> bool {
    disposition(libc::SIGCHLD).is_some_and(|now| {
        now.sa_sigaction == libc::SIG_IGN || now.sa_flags & libc::SA_NOCLDWAIT != 0
    })
}

/// Keeps the descriptors that we inherited from reaching our children: all from 3 up, but for the
/// sockets that a supervisor above handed to us (`LISTEN_FDS`).
///
/// # Errors
/// As the calls have them.
pub(crate) fn cloexec_inherited() -> io::Result<()> {
    let variable = |name| std::env::var(name).ok();
    let handed = handed_over(variable("LISTEN_PID"), variable("LISTEN_FDS"), std::process::id());
    let first = FIRST_INHERITED.saturating_add(handed);
    let flags = libc::CLOSE_RANGE_CLOEXEC;
    // SAFETY: the call takes three integers; with this flag it closes nothing now.
    if unsafe { libc::syscall(libc::SYS_close_range, first, c_int::MAX, flags) } == 0 {
        return Ok(());
    }
    cloexec_one_by_one(first)
}

/// How many sockets were handed to the process `own`, by the two variables that say so.
fn handed_over(listen_pid: Option<String>, listen_fds: Option<String>, own: u32) -> RawFd {
    let ours = listen_pid.and_then(|pid| pid.parse().ok()) == Some(own);
    let count = listen_fds.and_then(|count| count.parse::<RawFd>().ok());
    count.filter(|count| ours && *count > 0).unwrap_or(0)
}

/// For kernels before 5.11, which cannot mark a range.
fn cloexec_one_by_one(first: RawFd) -> io::Result<()> {
    let open = fs::read_dir("/proc/self/fd")?
        .filter_map(|entry| entry.ok()?.file_name().to_str()?.parse::<RawFd>().ok())
        .filter(|fd| *fd >= first)
        .collect::<Vec<_>>();
    for fd in open {
        // SAFETY: only integers are passed. The directory's own descriptor is closed by now: for it
        // the call fails and changes nothing.
        unsafe { libc::fcntl(fd, libc::F_SETFD, libc::FD_CLOEXEC) };
    }
    Ok(())
}

/// Opens what is closed of standard input, output and error on `/dev/null`, so that no other file
/// gets their numbers. To be called before there are threads.
///
/// # Errors
/// When `/dev/null` cannot be opened.
pub(crate) fn open_std_fds() -> io::Result<()> {
    for fd in 0..FIRST_INHERITED {
        // SAFETY: only integers are passed.
        if unsafe { libc::fcntl(fd, libc::F_GETFD) } >= 0 {
            continue;
        }
        // SAFETY: the path is a NUL-terminated constant. The kernel gives the lowest free number,
        // which is `fd`; the descriptor is meant to stay open for good.
        checked(unsafe { libc::open(c"/dev/null".as_ptr(), libc::O_RDWR) })?;
    }
    Ok(())
}

/// True when this program has rights that whoever started it has not: its file is set-user-ID,
/// set-group-ID or has capabilities.
#[cfg(feature = "cli")]
pub(crate) fn has_borrowed_rights() -> bool {
    // SAFETY: the call takes an integer and touches no memory of ours.
    unsafe { libc::getauxval(libc::AT_SECURE) != 0 }
}

/// Ends the process now: no destructors, no `atexit` handlers, which could wait for stuck threads.
pub(crate) fn exit_now(code: i32) -> ! {
    // SAFETY: ends the process; nothing of it can be observed afterwards.
    unsafe { libc::_exit(code) }
}

#[cfg(test)]
mod tests {
    use std::os::fd::AsRawFd;

    use super::*;
    use crate::host::alone;

    #[test]
    fn sockets_handed_over_are_counted_only_if_they_are_ours() {
        let text = |text: &str| Some(text.to_owned());
        assert_eq!(handed_over(text("7"), text("2"), 7), 2);
        assert_eq!(handed_over(text("8"), text("2"), 7), 0);
        assert_eq!(handed_over(None, text("2"), 7), 0);
        assert_eq!(handed_over(text("7"), text("-2"), 7), 0);
        assert_eq!(handed_over(text("7"), text("two"), 7), 0);
    }

    #[test]
    fn ignored_signals_are_found_and_reset() {
        let shell = ["sh", "-c", r#"trap "" HUP; exec "$@""#, "sh"];
        if !alone::here(&shell, ignored_signals_are_found_and_reset) {
            return;
        }
        assert!(!sigchld_is_ignored());
        // SAFETY: ignoring a signal calls no function of ours.
        unsafe { libc::signal(libc::SIGCHLD, libc::SIG_IGN) };
        let ignored = ignored_signals();
        // Whoever starts the tests may have others ignored, too.
        assert!([libc::SIGHUP, libc::SIGCHLD].iter().all(|signal| ignored.contains(signal)));
        assert!(!ignored.contains(&libc::SIGTERM));
        assert!(sigchld_is_ignored());
        reset_ignored_signals().unwrap();
        assert_eq!(ignored_signals(), Vec::<i32>::new());
        assert!(!sigchld_is_ignored());
    }

    #[test]
    fn the_descriptor_limit_is_raised_and_put_back() {
        let shell = ["sh", "-c", r#"ulimit -Sn 100; ulimit -Hn 200; exec "$@""#, "sh"];
        if !alone::here(&shell, the_descriptor_limit_is_raised_and_put_back) {
            return;
        }
        let original = raise_nofile_limit().unwrap().unwrap();
        assert_eq!(original, Limit { soft: 100, hard: 200 });
        assert_eq!(nofile(0, None).unwrap(), Limit { soft: 200, hard: 200 });
        assert_eq!(raise_nofile_limit().unwrap(), None);
        set_nofile(0, original).unwrap();
        assert_eq!(nofile(0, None).unwrap(), original);
    }

    #[test]
    fn inherited_descriptors_are_closed_on_exec() {
        let shell = ["sh", "-c", r#"exec 5</dev/null; exec "$@""#, "sh"];
        if !alone::here(&shell, inherited_descriptors_are_closed_on_exec) {
            return;
        }
        // SAFETY: only integers are passed.
        let flags = |fd| unsafe { libc::fcntl(fd, libc::F_GETFD) };
        assert_eq!(flags(5), 0);
        cloexec_inherited().unwrap();
        assert_eq!(flags(5), libc::FD_CLOEXEC);

        let kept = fs::File::open("/dev/null").unwrap();
        // SAFETY: only integers are passed.
        unsafe { libc::fcntl(kept.as_raw_fd(), libc::F_SETFD, 0) };
        cloexec_one_by_one(kept.as_raw_fd()).unwrap();
        assert_eq!(flags(kept.as_raw_fd()), libc::FD_CLOEXEC);
        assert_eq!((flags(1), flags(2)), (0, 0));
    }

    #[test]
    fn closed_standard_descriptors_are_opened() {
        if !alone::here(&[], closed_standard_descriptors_are_opened) {
            return;
        }
        // SAFETY: nothing here reads standard input.
        unsafe { libc::close(0) };
        open_std_fds().unwrap();
        assert_eq!(fs::read_link("/proc/self/fd/0").unwrap().to_str(), Some("/dev/null"));
    }

    #[test]
    fn exit_now_ends_with_the_code() {
        match alone::run(&[], exit_now_ends_with_the_code) {
            None => exit_now(42),
            Some(ended) => assert_eq!(ended.status.code(), Some(42)),
        }
    }
}
