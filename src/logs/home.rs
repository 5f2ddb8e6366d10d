//! The directory of a master's logs: made where it is not there, and held by one master at a time.

use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};

use crate::error::{Error, Result};
use crate::host::state::{LOG_LOCK, hold_logs, stands};
use crate::host::sys;

/// The directory of a master's logs.
#[derive(Debug)]
pub(super) struct Home {
    path: PathBuf,
    /// The master's name, for those who find the directory held.
    name: String,
    held: Mutex<Held>,
}

#[derive(Debug, Default)]
struct Held {
    /// Locked, and what it is known by. `None`: it could not be locked.
    lock: Option<(File, (u64, u64))>,
    given_up: bool,
}

impl Home {
    /// Takes a directory for the master `name`. One that cannot be written now is taken too.
    ///
    /// # Errors
    /// It cannot be made, is not ours, or is held by another master, whom the message names.
    pub(super) fn take(path: &Path, name: &str) -> Result<Self> {
        sys::own_directory(path)
            .map_err(|error| Error::io(format!("cannot keep logs in {}", path.display()), error))?;
        let held = Held { lock: locked(path, name, true)?, given_up: false };
        Ok(Self { path: path.to_owned(), name: name.to_owned(), held: Mutex::new(held) })
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    fn held(&self) -> MutexGuard<'_, Held> {
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// To be called before a file is opened: somebody may have removed the directory, or put
    /// another one in its place. True: it had to be made.
    ///
    /// # Errors
    /// As [`take`](Self::take).
    pub(super) fn ready(&self) -> io::Result<bool> {
        // What is below a state directory must not come back without it and its lock.
        stands(&self.path)?;
        let missing = !self.path.exists();
        if missing {
            sys::own_directory(&self.path)?;
        }
        let mut held = self.held();
        let known = |(_, id): &(File, (u64, u64))| {
            let there = fs::symlink_metadata(self.path.join(LOG_LOCK));
            there.is_ok_and(|about| sys::file_id(&about) == *id)
        };
        if !held.given_up && !held.lock.as_ref().is_some_and(known) {
            // Nobody is waited for here: whoever writes a log is not to be held up.
            held.lock = None;
            held.lock = locked(&self.path, &self.name, false).map_err(io::Error::other)?;
        }
        Ok(missing)
    }

    /// The next master may have it, even if a child that is just being spawned has the lock open.
    pub(super) fn give_up(&self) {
        let mut held = self.held();
        held.given_up = true;
        if let Some((lock, _)) = held.lock.take() {
            let _ = lock.unlock();
        }
    }
}

fn locked(path: &Path, name: &str, patient: bool) -> Result<Option<(File, (u64, u64))>> {
    let lock = hold_logs(path, name, patient)?;
    // Without knowing it, it would be taken again and again: then there is none.
    Ok(lock.and_then(|lock| {
        let id = sys::file_id(&lock.metadata().ok()?);
        Some((lock, id))
    }))
}
