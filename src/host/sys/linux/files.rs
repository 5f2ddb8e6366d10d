//! Files below an open directory: every name is one component, no link is followed, and whoever
//! renames the directory meanwhile changes nothing.

use std::ffi::{CString, c_int};
use std::fs::File;
use std::io;
use std::os::fd::{AsRawFd, FromRawFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use super::checked;

/// How a file is opened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Opening {
    /// For reading; it must be there.
    Read,
    /// For writing; it must not be there.
    New,
    /// For reading and writing, made if it is not there.
    Keep,
}

/// An open directory.
#[derive(Debug)]
pub(crate) struct Dir(File);

impl Dir {
    /// Opens a directory, which must not be a link.
    ///
    /// # Errors
    /// As the call has them: `ENOTDIR` for a link too.
    pub(crate) fn open(path: &Path) -> io::Result<Self> {
        Self::open_in(libc::AT_FDCWD, &CString::new(path.as_os_str().as_bytes())?)
    }

    fn open_in(directory: c_int, path: &CString) -> io::Result<Self> {
        let flags = libc::O_RDONLY | libc::O_DIRECTORY | libc::O_NOFOLLOW | libc::O_CLOEXEC;
        // SAFETY: `path` is a NUL-terminated string that outlives the call.
        let fd = checked(unsafe { libc::openat(directory, path.as_ptr(), flags) })?;
        // SAFETY: the kernel has just made this descriptor, and nobody else knows its number.
        Ok(Self(unsafe { File::from_raw_fd(fd) }))
    }

    /// The directory as a file, for what std can tell of it.
    pub(crate) fn as_file(&self) -> &File {
        &self.0
    }

    /// A path that leads here whatever the directory is called by now. Needs `/proc`.
    pub(crate) fn path(&self) -> PathBuf {
        PathBuf::from(format!("/proc/self/fd/{}", self.0.as_raw_fd()))
    }

    /// Opens the directory `name`, made with mode 0700 if it is not there.
    ///
    /// # Errors
    /// As the calls have them.
    pub(crate) fn subdirectory(&self, name: &str) -> io::Result<Self> {
        let path = component(name)?;
        // SAFETY: `path` is a NUL-terminated string that outlives the call.
        let made = checked(unsafe { libc::mkdirat(self.0.as_raw_fd(), path.as_ptr(), 0o700) });
        match made {
            Err(error) if error.kind() != io::ErrorKind::AlreadyExists => Err(error),
            Ok(_) | Err(_) => Self::open_in(self.0.as_raw_fd(), &path),
        }
    }

    /// Opens a file, made with mode 0600. It is closed on exec, and a FIFO is not waited for.
    ///
    /// # Errors
    /// As the call has them: `ELOOP` for a link.
    pub(crate) fn open_file(&self, name: &str, how: Opening) -> io::Result<File> {
        let path = component(name)?;
        let how = match how {
            Opening::Read => libc::O_RDONLY,
            Opening::New => libc::O_WRONLY | libc::O_CREAT | libc::O_EXCL,
            Opening::Keep => libc::O_RDWR | libc::O_CREAT,
        };
        let flags = how | libc::O_NOFOLLOW | libc::O_CLOEXEC | libc::O_NONBLOCK;
        let mode: libc::c_uint = 0o600;
        // SAFETY: `path` is a NUL-terminated string that outlives the call.
        let fd = checked(unsafe { libc::openat(self.0.as_raw_fd(), path.as_ptr(), flags, mode) })?;
        // SAFETY: the kernel has just made this descriptor, and nobody else knows its number.
        Ok(unsafe { File::from_raw_fd(fd) })
    }

    /// Renames a file within this directory, over one that is there.
    ///
    /// # Errors
    /// As the call has them.
    pub(crate) fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        let (from, to) = (component(from)?, component(to)?);
        let own = self.0.as_raw_fd();
        // SAFETY: both are NUL-terminated strings that outlive the call.
        checked(unsafe { libc::renameat(own, from.as_ptr(), own, to.as_ptr()) }).map(drop)
    }

    /// Renames a file into another directory, over one that is there.
    ///
    /// # Errors
    /// As the call has them; `EXDEV` when the other one is on another file system.
    pub(crate) fn hand_over(&self, name: &str, to: &Self) -> io::Result<()> {
        let path = component(name)?;
        let (from, to) = (self.0.as_raw_fd(), to.0.as_raw_fd());
        // SAFETY: `path` is a NUL-terminated string that outlives the call.
        checked(unsafe { libc::renameat(from, path.as_ptr(), to, path.as_ptr()) }).map(drop)
    }

    /// Removes a file. False: there was none.
    ///
    /// # Errors
    /// As the call has them.
    pub(crate) fn remove(&self, name: &str) -> io::Result<bool> {
        let path = component(name)?;
        // SAFETY: `path` is a NUL-terminated string that outlives the call.
        match checked(unsafe { libc::unlinkat(self.0.as_raw_fd(), path.as_ptr(), 0) }) {
            Ok(_) => Ok(true),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
            Err(error) => Err(error),
        }
    }
}

/// One component of a path, which leads nowhere else.
fn component(name: &str) -> io::Result<CString> {
    if name.is_empty() || name == "." || name == ".." || name.contains('/') {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, "not a file's name"));
    }
    Ok(CString::new(name)?)
}
