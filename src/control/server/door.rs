//! The socket that others connect to, and its place: whatever somebody removes of it is made again.

use std::fs::File;
use std::io::{self, Read as _};
use std::os::fd::{AsFd as _, BorrowedFd};
use std::os::unix::fs::FileTypeExt as _;
use std::os::unix::net::UnixListener;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use super::mailbox::Signal;
use crate::control::SOCKET;
use crate::host::state::StateDir;
use crate::host::sys::{self, Dir};

/// The socket that others connect to.
pub(super) struct Door {
    listener: UnixListener,
    state: Arc<StateDir>,
    /// The directory that it is in, and is watched.
    root: Arc<Dir>,
    /// Readable when something was removed from the directory, where the system has room for that.
    removals: Option<File>,
    /// Somebody wants it looked after.
    look: Arc<AtomicBool>,
}

impl Door {
    /// `signal` is raised when it is to be looked after.
    pub(super) fn open(state: Arc<StateDir>, signal: Arc<Signal>) -> io::Result<Self> {
        let root = state.root();
        let listener = bind(&state)?;
        let removals = watch(&root);
        // What was removed before it was watched is found by looking.
        let look = Arc::new(AtomicBool::new(true));
        let asked = Arc::clone(&look);
        state.kept_by(move |_| {
            asked.store(true, Ordering::SeqCst);
            signal.raise();
        });
        Ok(Self { listener, state, root, removals, look })
    }

    pub(super) fn listener(&self) -> &UnixListener {
        &self.listener
    }

    pub(super) fn removals(&self) -> Option<BorrowedFd<'_>> {
        self.removals.as_ref().map(File::as_fd)
    }

    /// Takes the news that something was removed, whatever it was.
    pub(super) fn hear(&self) {
        if let Some(mut removals) = self.removals.as_ref() {
            let _ = removals.read(&mut [0; 4 << 10]);
        }
    }

    /// True once after somebody wanted it looked after.
    pub(super) fn is_to_look(&self) -> bool {
        self.look.swap(false, Ordering::SeqCst)
    }

    /// Makes the directory again, and the socket, if they are not there any more. Some clean up
    /// what they take for old.
    pub(super) fn look(&mut self) {
        let stands = self.state.stand();
        for (level, text) in self.state.news() {
            log::log!(level, "control: {text}");
        }
        // Whoever has the place now is not to be disturbed.
        if stands.is_err() {
            return;
        }
        let root = self.state.root();
        if !Arc::ptr_eq(&root, &self.root) {
            self.removals = watch(&root);
            self.root = root;
            // It may be gone again since, which nobody has told.
            self.look.store(true, Ordering::SeqCst);
        }
        // Who connects finds it by its name, so that is what counts.
        let there = self.root.path().join(SOCKET);
        if std::fs::symlink_metadata(there).is_ok_and(|about| about.file_type().is_socket()) {
            return;
        }
        match bind(&self.state) {
            Ok(listener) => {
                log::warn!("control: {SOCKET} was removed and is made again");
                self.listener = listener;
            }
            Err(error) => log::warn!("control: {SOCKET} was removed: nobody can connect: {error}"),
        }
    }

    pub(super) fn close(self) {
        drop(self.listener);
        if let Err(error) = self.state.root().remove(SOCKET) {
            log::warn!("control: cannot remove {SOCKET}: {error}");
        }
    }
}

fn watch(root: &Dir) -> Option<File> {
    let removals = sys::watch_removals(&root.path()).map(File::from);
    let untold = |error: &io::Error| log::debug!("control: no news of removed files: {error}");
    removals.inspect_err(untold).ok()
}

fn bind(state: &StateDir) -> io::Result<UnixListener> {
    let listener = state.bind_socket(SOCKET)?;
    listener.set_nonblocking(true)?;
    Ok(listener)
}
