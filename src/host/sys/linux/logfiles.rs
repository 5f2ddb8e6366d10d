//! Linux: what log files and the pipes that feed them need beyond std.

use std::fs::{File, Metadata, OpenOptions};
use std::io;
use std::os::unix::fs::{DirBuilderExt, FileExt, MetadataExt, OpenOptionsExt};
use std::path::Path;
use std::ptr;
use std::sync::Once;

use super::own::{Resource, limit};
use super::{checked, effective_uid};

/// Opens a log file to be read and appended to, made with mode 0640 if it is not there.
///
/// # Errors
/// It is a link or no regular file, or what the call says.
pub(crate) fn open_log(path: &Path) -> io::Result<File> {
    let mut options = OpenOptions::new();
    options.read(true).append(true).create(true).mode(0o640);
    // A FIFO in its place must not keep us waiting.
    let file = options.custom_flags(libc::O_NOFOLLOW | libc::O_NONBLOCK).open(path)?;
    if file.metadata()?.is_file() {
        return Ok(file);
    }
    Err(io::Error::new(io::ErrorKind::InvalidInput, "it is no regular file"))
}

/// Makes a directory, with what it is in, that is ours alone; one that is there must be ours and no
/// link.
///
/// # Errors
/// As said, or as the calls have them.
pub(crate) fn own_directory(path: &Path) -> io::Result<()> {
    std::fs::DirBuilder::new().recursive(true).mode(0o700).create(path)?;
    let about = path.symlink_metadata()?;
    let refuse = |why| Err(io::Error::new(io::ErrorKind::PermissionDenied, why));
    if about.is_symlink() {
        return refuse("it is a symbolic link");
    }
    if about.uid() != effective_uid() {
        return refuse("it belongs to another user");
    }
    Ok(())
}

/// What tells a file from every other, whatever its name.
pub(crate) fn file_id(about: &Metadata) -> (u64, u64) {
    (about.dev(), about.ino())
}

/// Reads at a place, without moving where the file is written.
///
/// # Errors
/// As the call has them.
pub(crate) fn read_at(file: &File, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
    file.read_at(buffer, offset)
}

/// How large a file of this process may become.
pub(crate) fn file_size_limit() -> u64 {
    limit(0, Resource::FileSize, None).map_or(u64::MAX, |limit| limit.soft)
}

/// Has a write beyond the limit of file sizes fail, instead of ending the process. Children get the
/// default back, since the signal is handled and not ignored.
///
/// # Errors
/// As the call has them.
pub(crate) fn survive_file_size_limit() -> io::Result<()> {
    extern "C" fn nothing(_signal: libc::c_int) {}
    static ONCE: Once = Once::new();
    let mut result = Ok(());
    ONCE.call_once(|| {
        // SAFETY: an action of zeroes is a valid one: no flags, an empty mask.
        let mut action: libc::sigaction = unsafe { std::mem::zeroed() };
        let handler: extern "C" fn(libc::c_int) = nothing;
        action.sa_sigaction = handler as usize;
        action.sa_flags = libc::SA_RESTART;
        // SAFETY: `action` is readable and outlives the call; the handler does nothing.
        let set = unsafe { libc::sigaction(libc::SIGXFSZ, &raw const action, ptr::null_mut()) };
        result = checked(set).map(drop);
    });
    result
}

/// Where a byte is first. The C library looks at many bytes at once, which matters for logs.
pub(crate) fn find_byte(byte: u8, bytes: &[u8]) -> Option<usize> {
    let start = bytes.as_ptr();
    // SAFETY: the pointer and the length describe `bytes`.
    let found = unsafe { libc::memchr(start.cast(), byte.into(), bytes.len()) };
    (!found.is_null()).then(|| found as usize - start as usize)
}

/// Where a byte is last.
pub(crate) fn find_last_byte(byte: u8, bytes: &[u8]) -> Option<usize> {
    let start = bytes.as_ptr();
    // SAFETY: as above.
    let found = unsafe { libc::memrchr(start.cast(), byte.into(), bytes.len()) };
    (!found.is_null()).then(|| found as usize - start as usize)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_are_found_from_both_ends() {
        assert_eq!(find_byte(b'\n', b"a\nb\nc"), Some(1));
        assert_eq!(find_last_byte(b'\n', b"a\nb\nc"), Some(3));
        assert_eq!(find_byte(b'\n', b""), None);
        assert_eq!(find_last_byte(b'\n', b"abc"), None);
    }

    #[test]
    fn a_log_is_neither_a_link_nor_a_fifo() {
        let room = tempfile::tempdir().unwrap();
        let (file, link) = (room.path().join("a"), room.path().join("b"));
        drop(open_log(&file).unwrap());
        std::os::unix::fs::symlink(&file, &link).unwrap();
        assert_eq!(open_log(&link).unwrap_err().raw_os_error(), Some(libc::ELOOP));
        assert!(open_log(room.path()).is_err());
        assert!(open_log(Path::new("/dev/null")).is_err());
        let directory = room.path().join("d");
        std::os::unix::fs::symlink(room.path(), &directory).unwrap();
        assert!(own_directory(&directory).is_err());
        own_directory(&room.path().join("x/y")).unwrap();
    }
}
