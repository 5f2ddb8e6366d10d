//! Systems that are not supported yet: everything that matters says so, nothing pretends.

use std::fs::{File, Metadata};
use std::io;
use std::path::Path;

use super::Target;

/// How many descriptors a process may have open.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Limit {
    pub(crate) soft: u64,
    pub(crate) hard: u64,
}

fn unsupported() -> io::Error {
    io::Error::new(io::ErrorKind::Unsupported, "not supported on this system")
}

/// The numbers are never used: no signal is ever sent.
pub(crate) const SIGKILL: i32 = 9;
pub(crate) const SIGCONT: i32 = 18;

pub(crate) fn signal(_target: Target, _signal: i32) -> io::Result<bool> {
    Err(unsupported())
}

pub(crate) fn raise_nofile_limit() -> io::Result<Option<Limit>> {
    Ok(None)
}

pub(crate) fn set_nofile(_pid: u32, _limit: Limit) -> io::Result<()> {
    Err(unsupported())
}

pub(crate) fn ignored_signals() -> Vec<i32> {
    Vec::new()
}

pub(crate) fn reset_ignored_signals() -> io::Result<()> {
    Ok(())
}

pub(crate) fn accept_all_signals() -> io::Result<()> {
    Ok(())
}

pub(crate) fn sigchld_is_ignored() -> bool {
    false
}

pub(crate) fn cloexec_inherited() -> io::Result<()> {
    Ok(())
}

pub(crate) fn open_std_fds() -> io::Result<()> {
    Ok(())
}

#[cfg(feature = "cli")]
pub(crate) fn has_borrowed_rights() -> bool {
    false
}

pub(crate) fn exit_now(code: i32) -> ! {
    std::process::exit(code)
}

pub(crate) fn open_without_waiting(path: &Path) -> io::Result<File> {
    File::open(path)
}

pub(crate) fn named<T>(_name: &str, work: impl FnOnce() -> T) -> T {
    work()
}

pub(crate) fn ends_by_default(_signal: i32) -> bool {
    true
}

pub(crate) fn install_last_words() -> io::Result<()> {
    Ok(())
}

pub(crate) fn open_log(_path: &Path) -> io::Result<File> {
    Err(unsupported())
}

pub(crate) fn open_no_link(_path: &Path) -> io::Result<File> {
    Err(unsupported())
}

pub(crate) fn own_directory(_path: &Path) -> io::Result<()> {
    Err(unsupported())
}

pub(crate) fn file_id(_about: &Metadata) -> (u64, u64) {
    (0, 0)
}

pub(crate) fn read_at(_file: &File, _buffer: &mut [u8], _offset: u64) -> io::Result<usize> {
    Err(unsupported())
}

pub(crate) fn file_size_limit() -> u64 {
    u64::MAX
}

pub(crate) fn survive_file_size_limit() -> io::Result<()> {
    Ok(())
}

pub(crate) fn find_byte(byte: u8, bytes: &[u8]) -> Option<usize> {
    bytes.iter().position(|known| *known == byte)
}

pub(crate) fn find_last_byte(byte: u8, bytes: &[u8]) -> Option<usize> {
    bytes.iter().rposition(|known| *known == byte)
}

#[cfg(feature = "cli")]
pub(crate) fn somebody_listens(_socket: &Path) -> bool {
    false
}

/// The end of another process: never heard of.
#[cfg(feature = "cli")]
#[derive(Debug)]
pub(crate) struct Ending;

#[cfg(feature = "cli")]
impl Ending {
    pub(crate) fn of(_pid: u32) -> io::Result<Self> {
        Err(unsupported())
    }

    pub(crate) fn wait(&self, _patience: std::time::Duration) {}
}

#[cfg(feature = "cli")]
pub(crate) fn terminal_size() -> Option<(usize, usize)> {
    None
}

pub(crate) fn other_deadly_signals() -> impl Iterator<Item = i32> {
    [].into_iter()
}
