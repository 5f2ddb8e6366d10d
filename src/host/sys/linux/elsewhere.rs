//! Linux: other processes, as far as a command has to do with them.

use std::io;
use std::os::fd::{AsFd as _, OwnedFd};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::Duration;

use super::{pidfd_open, wait_readable};

/// True when somebody listens at this socket, whether or not they answer.
pub(crate) fn somebody_listens(socket: &Path) -> bool {
    UnixStream::connect(socket).is_ok()
}

/// The end of a process that need not be ours.
#[derive(Debug)]
pub(crate) struct Ending(OwnedFd);

impl Ending {
    /// Of the process that has this id now.
    ///
    /// # Errors
    /// There is none, or it is not seen from here.
    pub(crate) fn of(pid: u32) -> io::Result<Self> {
        pidfd_open(pid).map(Self)
    }

    /// Waits for it, at most `patience`.
    pub(crate) fn wait(&self, patience: Duration) {
        let _ = wait_readable([Some(self.0.as_fd())], Some(patience));
    }
}
