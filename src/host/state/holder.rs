//! Who holds a state directory, for those who do not want it themselves: nothing here takes a lock,
//! not even for a moment, since a master that starts could find it taken.

use std::fs;
use std::io::Read as _;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use super::{LOCK, pid_in};

/// Name, pid and beginning of the master that held the directory last, as it has written them down.
pub(crate) fn last_holder(directory: &Path) -> Option<String> {
    let mut text = String::new();
    let lock = fs::File::open(directory.join(LOCK)).ok()?;
    lock.take(256).read_to_string(&mut text).ok()?;
    let holder = text.trim();
    (!holder.is_empty()).then(|| holder.to_owned())
}

/// The master that holds the directory now, as far as the system tells.
pub(crate) fn holder(directory: &Path) -> Option<String> {
    let holder = last_holder(directory)?;
    let file = fs::metadata(directory.join(LOCK)).ok()?.ino();
    let locks = fs::read_to_string("/proc/locks").ok()?;
    let pid = pid_in(&holder)?;
    locks.lines().any(|line| is_held(line, pid, file)).then_some(holder)
}

/// Whether this line says that the process has locked the file: `1: FLOCK ADVISORY WRITE 4711
/// 08:01:815 0 EOF`. One that waits for a lock has `->` in the second place.
fn is_held(line: &str, pid: u32, file: u64) -> bool {
    let words: Vec<&str> = line.split_ascii_whitespace().collect();
    let [_, "FLOCK", _, _, by, what, ..] = words.as_slice() else { return false };
    let locked = what.rsplit(':').next().and_then(|number| number.parse().ok());
    by.parse() == Ok(pid) && locked == Some(file)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::host::state::{StateDir, Tenure};

    #[test]
    fn who_holds_a_directory_is_told_and_who_held_it_is_not() {
        let around = tempfile::tempdir().unwrap();
        let path = around.path().join("s");
        assert_eq!(holder(&path), None);
        let state = StateDir::open(&path, "n").unwrap();
        let told = holder(&path).unwrap();
        assert!(told.starts_with(&format!("n, pid {}, since ", std::process::id())), "{told}");
        state.done();
        drop(Tenure(state));
        assert_eq!(holder(&path), None);
        assert_eq!(last_holder(&path), Some(told));
    }

    #[test]
    fn a_line_means_one_process_and_one_file() {
        let line = "3: FLOCK  ADVISORY  WRITE 4711 08:01:815 0 EOF";
        assert!(is_held(line, 4711, 815));
        assert!(!is_held(line, 4711, 816) && !is_held(line, 471, 815));
        assert!(!is_held("3: -> FLOCK  ADVISORY  WRITE 4711 08:01:815 0 EOF", 4711, 815));
        assert!(!is_held("3: POSIX  ADVISORY  WRITE 4711 08:01:815 0 EOF", 4711, 815));
        assert!(!is_held("", 4711, 815));
    }
}
