//! Linux: what a process sets on itself before it becomes another program, and the line on which it
//! is told what.

use std::ffi::{CString, c_char, c_int};
use std::io;
use std::mem;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::ptr;

use super::checked;

/// In place of an id: leave it as it is.
const SAME: u32 = u32::MAX;

/// True for a signal that ends a process which has said nothing about it.
pub(crate) fn ends_by_default(signal: i32) -> bool {
    use libc::{SIGCHLD, SIGCONT, SIGSTOP, SIGTSTP, SIGTTIN, SIGTTOU, SIGURG, SIGWINCH};
    ![SIGCHLD, SIGCONT, SIGSTOP, SIGTSTP, SIGTTIN, SIGTTOU, SIGURG, SIGWINCH].contains(&signal)
}

/// Room for one descriptor beside the bytes of a message, aligned as the system wants it.
#[repr(C)]
union Ancillary {
    _aligned: libc::cmsghdr,
    room: [u8; 64],
}

/// A message of these bytes, with room for a descriptor. It points to both.
fn message(part: &mut libc::iovec, beside: &mut Ancillary) -> libc::msghdr {
    // SAFETY: all zeros is a message without parts and addresses.
    let mut message: libc::msghdr = unsafe { mem::zeroed() };
    message.msg_iov = ptr::from_mut(part);
    message.msg_iovlen = 1;
    message.msg_control = ptr::from_mut(beside).cast();
    message
}

/// How much of the room one descriptor takes.
fn descriptor_space() -> usize {
    // SAFETY: the macro computes with its argument alone.
    unsafe { libc::CMSG_SPACE(size_of::<c_int>() as u32) as usize }
}

/// Sends `bytes`, or as many as there is room for, and a descriptor beside the first of them. The
/// other side's end is an error, no signal.
///
/// # Errors
/// As the call has them.
pub(crate) fn send_beside(
    socket: &UnixStream,
    bytes: &[u8],
    fd: Option<BorrowedFd<'_>>,
) -> io::Result<usize> {
    let mut beside = Ancillary { room: [0; 64] };
    let (base, size) = (bytes.as_ptr().cast_mut().cast(), bytes.len());
    let mut part = libc::iovec { iov_base: base, iov_len: size };
    let mut message = message(&mut part, &mut beside);
    match fd {
        None => message.msg_control = ptr::null_mut(),
        Some(fd) => {
            message.msg_controllen = descriptor_space() as _;
            // SAFETY: the message has room for a header with one descriptor behind it.
            unsafe {
                let header = libc::CMSG_FIRSTHDR(&raw const message);
                (*header).cmsg_level = libc::SOL_SOCKET;
                (*header).cmsg_type = libc::SCM_RIGHTS;
                (*header).cmsg_len = libc::CMSG_LEN(size_of::<c_int>() as u32) as _;
                libc::CMSG_DATA(header).cast::<c_int>().write_unaligned(fd.as_raw_fd());
            }
        }
    }
    // SAFETY: the message points to `part` and `beside`, which outlive the call.
    let sent = unsafe { libc::sendmsg(socket.as_raw_fd(), &raw const message, libc::MSG_NOSIGNAL) };
    usize::try_from(sent).map_err(|_| io::Error::last_os_error())
}

/// Receives bytes, and the descriptor that came beside them. It is closed on exec.
///
/// # Errors
/// As the call has them.
pub(crate) fn receive_beside(
    socket: &UnixStream,
    buffer: &mut [u8],
) -> io::Result<(usize, Option<OwnedFd>)> {
    let mut beside = Ancillary { room: [0; 64] };
    let (base, size) = (buffer.as_mut_ptr().cast(), buffer.len());
    let mut part = libc::iovec { iov_base: base, iov_len: size };
    let mut message = message(&mut part, &mut beside);
    message.msg_controllen = descriptor_space() as _;
    let flags = libc::MSG_CMSG_CLOEXEC;
    // SAFETY: the message points to `part`, which describes `buffer`, and to `beside`.
    let read = unsafe { libc::recvmsg(socket.as_raw_fd(), &raw mut message, flags) };
    let read = usize::try_from(read).map_err(|_| io::Error::last_os_error())?;
    // SAFETY: the call has filled in the message, whose room for one descriptor still lives.
    let fd = unsafe {
        let header = libc::CMSG_FIRSTHDR(&raw const message);
        let is_one = !header.is_null()
            && (*header).cmsg_level == libc::SOL_SOCKET
            && (*header).cmsg_type == libc::SCM_RIGHTS;
        is_one.then(|| libc::CMSG_DATA(header).cast::<c_int>().read_unaligned())
    };
    // SAFETY: the kernel has just made this descriptor for us, and nobody else knows its number.
    Ok((read, fd.map(|fd| unsafe { OwnedFd::from_raw_fd(fd) })))
}

/// Makes a descriptor our standard input too, which whatever we become inherits.
///
/// # Errors
/// As the call has them.
pub(crate) fn put_on_stdin(fd: &OwnedFd) -> io::Result<()> {
    // SAFETY: only integers are passed; what standard input was is meant to be let go.
    checked(unsafe { libc::dup2(fd.as_raw_fd(), libc::STDIN_FILENO) })?;
    Ok(())
}

/// Sets how much we give way to others.
///
/// # Errors
/// As the call has them.
pub(crate) fn set_nice(nice: i32) -> io::Result<()> {
    // SAFETY: the call takes three integers; 0 is ourselves.
    checked(unsafe { libc::setpriority(libc::PRIO_PROCESS, 0, nice) })?;
    Ok(())
}

/// Sets the permissions that files we make do not get.
pub(crate) fn set_umask(umask: u32) {
    // SAFETY: the call takes an integer and cannot fail.
    unsafe { libc::umask(umask as libc::mode_t) };
}

/// Puts us into exactly these groups, beside our own.
///
/// # Errors
/// As the call has them.
pub(crate) fn set_groups(groups: &[u32]) -> io::Result<()> {
    // SAFETY: the pointer and the length describe `groups`, which outlives the call.
    checked(unsafe { libc::setgroups(groups.len(), groups.as_ptr()) })?;
    Ok(())
}

/// Makes this our group for good: real, effective and saved.
///
/// # Errors
/// As the call has them.
pub(crate) fn set_gid(gid: u32) -> io::Result<()> {
    // SAFETY: the call takes three integers.
    checked(unsafe { libc::setresgid(gid, gid, gid) })?;
    Ok(())
}

/// Makes this our user for good: real, effective and saved.
///
/// # Errors
/// As the call has them.
pub(crate) fn set_uid(uid: u32) -> io::Result<()> {
    // SAFETY: the call takes three integers.
    checked(unsafe { libc::setresuid(uid, uid, uid) })?;
    Ok(())
}

/// Tries to become root again; true when the system lets us.
pub(crate) fn regains_root_user() -> bool {
    // SAFETY: the call takes three integers.
    unsafe { libc::setresuid(SAME, 0, SAME) == 0 }
}

/// Tries to get root's group again; true when the system lets us.
pub(crate) fn regains_root_group() -> bool {
    // SAFETY: the call takes three integers.
    unsafe { libc::setresgid(SAME, 0, SAME) == 0 }
}

/// Has no program that we become give us rights that we do not have.
///
/// # Errors
/// As the call has them.
pub(crate) fn set_no_new_privs() -> io::Result<()> {
    let (on, none): (libc::c_ulong, libc::c_ulong) = (1, 0);
    // SAFETY: the call takes integers.
    checked(unsafe { libc::prctl(libc::PR_SET_NO_NEW_PRIVS, on, none, none, none) })?;
    Ok(())
}

/// A program with what it is handed, made beforehand: becoming it takes no memory any more.
pub(crate) struct Image {
    path: CString,
    arguments: Texts,
    variables: Texts,
}

/// Texts, and the list of pointers to them that ends with a null one.
struct Texts {
    _texts: Vec<CString>,
    pointers: Vec<*const c_char>,
}

impl Texts {
    fn new(texts: Vec<CString>) -> Self {
        let pointers = texts.iter().map(|text| text.as_ptr()).chain([ptr::null()]).collect();
        Self { _texts: texts, pointers }
    }
}

impl Image {
    /// `arguments` begin with the program's name, `variables` are `NAME=value`.
    pub(crate) fn new(path: CString, arguments: Vec<CString>, variables: Vec<CString>) -> Self {
        Self { path, arguments: Texts::new(arguments), variables: Texts::new(variables) }
    }

    /// Becomes the program; returns only if that fails. No shell is tried in its place. SIGPIPE,
    /// which the standard library ignores, and signals that are held back do there what they do by
    /// default.
    pub(crate) fn execute(&self) -> io::Error {
        let mut none = mem::MaybeUninit::<libc::sigset_t>::uninit();
        // SAFETY: the default action is no function of ours; the set is filled before it is read;
        // the lists end with null, and their texts live as long as `self`.
        unsafe {
            libc::signal(libc::SIGPIPE, libc::SIG_DFL);
            libc::sigemptyset(none.as_mut_ptr());
            libc::sigprocmask(libc::SIG_SETMASK, none.as_ptr(), ptr::null_mut());
            let (arguments, variables) = (&self.arguments.pointers, &self.variables.pointers);
            libc::execve(self.path.as_ptr(), arguments.as_ptr(), variables.as_ptr());
        }
        io::Error::last_os_error()
    }
}

#[cfg(test)]
mod tests {
    use std::os::fd::AsFd;

    use super::*;

    #[test]
    fn a_descriptor_travels_beside_the_bytes() {
        let (ours, theirs) = UnixStream::pair().unwrap();
        let (reader, writer) = io::pipe().unwrap();
        assert_eq!(send_beside(&ours, b"hello", Some(writer.as_fd())).unwrap(), 5);
        drop(writer);
        let mut buffer = [0; 16];
        let (read, fd) = receive_beside(&theirs, &mut buffer).unwrap();
        assert_eq!(&buffer[..read], b"hello");
        let fd = fd.expect("a descriptor");
        // SAFETY: only integers are passed.
        let flags = unsafe { libc::fcntl(fd.as_raw_fd(), libc::F_GETFD) };
        assert_eq!(flags, libc::FD_CLOEXEC);
        io::Write::write_all(&mut std::fs::File::from(fd), b"through").unwrap();
        assert_eq!(io::read_to_string(reader).unwrap(), "through");

        assert_eq!(send_beside(&ours, b"more", None).unwrap(), 4);
        let (read, fd) = receive_beside(&theirs, &mut buffer).unwrap();
        assert_eq!((read, fd.is_none()), (4, true));
        drop(ours);
        assert_eq!(receive_beside(&theirs, &mut buffer).unwrap().0, 0);
        let (ours, theirs) = UnixStream::pair().unwrap();
        drop(theirs);
        let error = send_beside(&ours, b"x", None).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::BrokenPipe);
    }
}
