//! Linux: FIFOs in a directory of ours, and looking into a pipe without taking anything out.

use std::ffi::{CString, c_int};
use std::fs::File;
use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd};
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::ptr;

use super::{Dir, checked, effective_uid};

/// Which end of a FIFO is meant.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum FifoEnd {
    /// For reading, never waiting: it ends when nobody has it open who may write.
    Reader,
    /// For reading and writing, which waits: its writer does not fail when nobody reads.
    Both,
}

impl Dir {
    /// Makes a FIFO with mode 0600; nothing may be there.
    ///
    /// # Errors
    /// As the call has them.
    pub(crate) fn make_fifo(&self, name: &str) -> io::Result<()> {
        let path = CString::new(name)?;
        let directory = self.as_file().as_raw_fd();
        // SAFETY: `path` is a NUL-terminated string that outlives the call.
        checked(unsafe { libc::mkfifoat(directory, path.as_ptr(), 0o600) }).map(drop)
    }

    /// Opens a FIFO of ours, closed on exec.
    ///
    /// # Errors
    /// As the call has them, and when it is no FIFO or not ours.
    pub(crate) fn open_fifo(&self, name: &str, end: FifoEnd) -> io::Result<File> {
        let path = CString::new(name)?;
        let how = match end {
            FifoEnd::Reader => libc::O_RDONLY | libc::O_NONBLOCK,
            FifoEnd::Both => libc::O_RDWR,
        };
        let flags = how | libc::O_NOFOLLOW | libc::O_CLOEXEC;
        // SAFETY: `path` is a NUL-terminated string that outlives the call.
        let fd = unsafe { libc::openat(self.as_file().as_raw_fd(), path.as_ptr(), flags) };
        let fd = checked(fd)?;
        // SAFETY: the kernel has just made this descriptor, and nobody else knows its number.
        let file = unsafe { File::from_raw_fd(fd) };
        let about = file.metadata()?;
        if about.file_type().is_fifo() && about.uid() == effective_uid() {
            return Ok(file);
        }
        Err(io::Error::new(io::ErrorKind::InvalidData, "it is no FIFO of ours"))
    }
}

/// Gives a pipe room for more, where that is allowed. How much it has then.
pub(crate) fn enlarge_pipe(pipe: BorrowedFd<'_>, size: c_int) -> usize {
    // SAFETY: the descriptor is open while it is borrowed; only integers are passed.
    let room = unsafe {
        libc::fcntl(pipe.as_raw_fd(), libc::F_SETPIPE_SZ, size);
        libc::fcntl(pipe.as_raw_fd(), libc::F_GETPIPE_SZ)
    };
    usize::try_from(room).unwrap_or(0)
}

/// Copies what is in one pipe to another, and leaves it where it is. How much that was: as much as
/// the other has room for, and 0 when nothing is there and nobody will write any more.
///
/// # Errors
/// `WouldBlock` when nothing is there now, or no room; else as the call has them.
pub(crate) fn copy_pipe(
    from: BorrowedFd<'_>,
    to: BorrowedFd<'_>,
    most: usize,
) -> io::Result<usize> {
    let (from, to) = (from.as_raw_fd(), to.as_raw_fd());
    // SAFETY: both descriptors are open while they are borrowed; only integers are passed.
    let copied = unsafe { libc::tee(from, to, most, libc::SPLICE_F_NONBLOCK) };
    usize::try_from(copied).map_err(|_| io::Error::last_os_error())
}

/// Takes bytes out of a pipe without looking at them. How many.
///
/// # Errors
/// As the call has them.
pub(crate) fn drop_from_pipe(
    from: BorrowedFd<'_>,
    null: BorrowedFd<'_>,
    most: usize,
) -> io::Result<usize> {
    let (from, null) = (from.as_raw_fd(), null.as_raw_fd());
    let flags = libc::SPLICE_F_NONBLOCK;
    // SAFETY: both descriptors are open while they are borrowed, and null pointers stand for the
    // place where they are.
    let gone = unsafe { libc::splice(from, ptr::null_mut(), null, ptr::null_mut(), most, flags) };
    usize::try_from(gone).map_err(|_| io::Error::last_os_error())
}
