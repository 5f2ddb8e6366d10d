//! Gets the text of a configuration file: read once, bounded, and text indeed.

use std::io::Read;
use std::path::Path;

use super::yaml::{Fault, Mark, mark_of};
use crate::error::Problem;
use crate::host::sys;
#[cfg(unix)]
use crate::host::trust::{Doubt, doubt};

/// The largest configuration file, in bytes.
const MAX_FILE: usize = 1 << 20;

/// How often a file is read again that was written to meanwhile.
const TRIES: usize = 3;

/// Reads the file at `path`. Never waits: a FIFO or a device is refused, and so is a file that is
/// written to each time that it is read.
/// Root reads no file that everybody may write.
pub(super) fn read(path: &Path) -> Result<Vec<u8>, String> {
    for _ in 0..TRIES {
        if let Some(bytes) = read_once(path)? {
            return Ok(bytes);
        }
    }
    Err("is being written; try again when it is complete".to_owned())
}

/// A warning if others may write the file at `path`, which is so called.
#[cfg(unix)]
pub(super) fn doubted(path: &Path, file: &str) -> Option<Problem> {
    let doubted = doubt(path)?.into_message();
    let message = format!("whoever may write it decides what is run: {doubted}");
    let (file, path) = (file.to_owned(), String::new());
    Some(Problem { file, line: 0, column: 0, path, message })
}

/// Why root does not read the file at `path` that only a pattern names: who put it there may be
/// anybody, as in a sticky directory.
#[cfg(unix)]
pub(super) fn put_there(path: &Path) -> Option<String> {
    match doubt(path).filter(|_| sys::effective_uid() == 0)? {
        Doubt::Owner(message) => {
            Some(format!("is not read as root, since only a pattern names it: {message}"))
        }
        Doubt::Group(_) | Doubt::Everybody(_) => None,
    }
}

#[cfg(not(unix))]
pub(super) fn put_there(_path: &Path) -> Option<String> {
    None
}

#[cfg(not(unix))]
pub(super) fn doubted(_path: &Path, _file: &str) -> Option<Problem> {
    None
}

/// Reads the file; `None`: somebody wrote to it meanwhile, as far as its size and its time tell.
fn read_once(path: &Path) -> Result<Option<Vec<u8>>, String> {
    let file =
        sys::open_without_waiting(path).map_err(|error| format!("cannot be opened: {error}"))?;
    let metadata = file.metadata().map_err(|error| format!("cannot be examined: {error}"))?;
    if metadata.is_dir() {
        return Err("is a directory; name the file in it".to_owned());
    }
    if !metadata.is_file() {
        return Err("is not a regular file".to_owned());
    }
    #[cfg(unix)]
    if sys::effective_uid() == 0
        && let Some(Doubt::Everybody(message)) = doubt(path)
    {
        return Err(format!("is not read as root: {message}"));
    }
    let mut bytes = Vec::new();
    // Its size may grow between the question and the reading: what is read counts.
    let read = (&file).take(MAX_FILE as u64 + 1).read_to_end(&mut bytes);
    read.map_err(|error| format!("cannot be read: {error}"))?;
    if bytes.len() > MAX_FILE {
        return Err("is larger than 1 MiB, the limit of a configuration file".to_owned());
    }
    let after = file.metadata().map_err(|error| format!("cannot be examined: {error}"))?;
    let same = metadata.modified().ok() == after.modified().ok()
        && after.len() == metadata.len()
        // Some file systems make their files up as they are read, and say that they are empty.
        && (metadata.len() == 0 || bytes.len() as u64 == metadata.len());
    Ok(same.then_some(bytes))
}

/// The text in `bytes`, without a byte order mark.
pub(super) fn text(bytes: Vec<u8>) -> Result<String, Fault> {
    let fault = |at, message: &str| Fault { at, path: String::new(), message: message.to_owned() };
    if bytes.starts_with(&[0xFF, 0xFE]) || bytes.starts_with(&[0xFE, 0xFF]) {
        return Err(fault(Mark::START, "is UTF-16; save the file as UTF-8"));
    }
    String::from_utf8(bytes).map_err(|error| {
        let valid = error.utf8_error().valid_up_to();
        let before = String::from_utf8_lossy(&error.as_bytes()[..valid]);
        fault(mark_of(&before, valid), "is not UTF-8 from here on; save the file as UTF-8")
    })
}

/// What every text must satisfy, wherever it comes from: small enough, and printable.
pub(super) fn checked(text: &str) -> Result<&str, Fault> {
    let text = text.strip_prefix('\u{FEFF}').unwrap_or(text);
    let fault = |at, message| Fault { at, path: String::new(), message };
    if text.len() > MAX_FILE {
        return Err(fault(Mark::START, "is larger than 1 MiB".to_owned()));
    }
    match text.char_indices().find(|(_, found)| !is_printable(*found)) {
        None => Ok(text),
        Some((index, found)) => {
            let code = u32::from(found);
            let message = format!("contains the control character U+{code:04X}; is it YAML?");
            Err(fault(mark_of(text, index), message))
        }
    }
}

/// The characters YAML allows.
fn is_printable(found: char) -> bool {
    matches!(found,
        '\t' | '\n' | '\r' | ' '..='~' | '\u{85}' | '\u{A0}'..='\u{FEFE}'
        | '\u{FF00}'..='\u{FFFD}' | '\u{10000}'..='\u{10FFFF}')
}
