//! The lock of a directory of logs: two masters that write the same files would rotate them under
//! each other's hands.

use std::fs::File;
use std::path::Path;

use super::{sign, take};
use crate::error::{Error, ErrorCategory, Result};
use crate::host::sys::{Dir, Opening};

/// Held by the one master that writes there. Never removed.
pub(crate) const LOG_LOCK: &str = ".lock";

/// Keeps other masters from writing logs in a directory, as long as the file is open. `None`: it
/// cannot be locked now, since nothing can be written there; then nobody else can write either.
///
/// # Errors
/// Another master holds it, or its lock is a link.
pub(crate) fn hold_logs(path: &Path, name: &str, patient: bool) -> Result<Option<File>> {
    let what = format!("log directory {}", path.display());
    let opened = Dir::open(path).and_then(|directory| {
        let lock = directory.open_file(LOG_LOCK, Opening::Keep)?;
        Ok((lock.metadata()?.is_file(), lock))
    });
    let lock = match opened {
        Ok((true, lock)) => lock,
        Ok((false, _)) => {
            let message = format!("{what}: its {LOG_LOCK} is no regular file");
            return Err(Error::new(ErrorCategory::Refused, message));
        }
        Err(_) if path.join(LOG_LOCK).is_symlink() => {
            let message = format!("{what}: its {LOG_LOCK} is a link");
            return Err(Error::new(ErrorCategory::Refused, message));
        }
        Err(_) => return Ok(None),
    };
    match take(lock, &what, patient) {
        Ok(mut lock) => {
            // On a full disk the lock holds all the same.
            let _ = sign(&mut lock, name);
            Ok(Some(lock))
        }
        Err(error) if error.is_refused() => Err(error),
        // Some file systems have no locks.
        Err(_) => Ok(None),
    }
}
