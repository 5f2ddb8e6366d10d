//! The file that a plugin is in: where it really is, whether it may be trusted, and which one it
//! is.

use std::fs::{self, File, Metadata};
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use super::elf::{self, Refusal};
use super::refused;
use crate::error::Failure;
use crate::host::sys;

/// Write access for the group and for everybody.
const WRITABLE_BY_OTHERS: u32 = 0o022;

/// Which file it is, and which content of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct FileId {
    device: u64,
    inode: u64,
    size: u64,
    modified: (i64, i64),
}

impl FileId {
    fn new(about: &Metadata) -> Self {
        Self {
            device: about.dev(),
            inode: about.ino(),
            size: about.size(),
            modified: (about.mtime(), about.mtime_nsec()),
        }
    }

    /// The same file, whatever is in it.
    pub(super) fn is_same_file(&self, other: &Self) -> bool {
        (self.device, self.inode) == (other.device, other.inode)
    }
}

/// A regular file at its absolute path, open.
pub(super) struct Library {
    pub(super) path: PathBuf,
    pub(super) id: FileId,
    file: File,
    about: Metadata,
}

impl Library {
    /// Finds and opens a library.
    pub(super) fn open(path: &Path) -> Result<Self, Failure> {
        let broken = |error: io::Error| refused(path, format!("cannot be opened: {error}"));
        let real = fs::canonicalize(path).map_err(broken)?;
        // Before it is opened: opening a FIFO would wait for its writer.
        let about = fs::metadata(&real).map_err(broken)?;
        if about.is_dir() {
            return Err(refused(path, "it is a directory"));
        }
        if !about.is_file() {
            return Err(refused(path, "it is not a regular file"));
        }
        let file = sys::open_without_waiting(&real).map_err(broken)?;
        let about = file.metadata().map_err(broken)?;
        Ok(Self { path: real, id: FileId::new(&about), file, about })
    }

    /// Checks all that can be checked without loading it.
    pub(super) fn check(&mut self) -> Result<(), Failure> {
        self.check_owner(sys::effective_uid())?;
        elf::check(&mut self.file, self.id.size).map_err(|refusal| {
            let failure = refused(&self.path, refusal.to_string());
            match refusal {
                Refusal::Unfit(_) => failure.permanent(),
                // The rest of it may still come.
                Refusal::Truncated(_) | Refusal::Unreadable(_) => failure,
            }
        })
    }

    /// Whoever may write a library may do what we may.
    fn check_owner(&self, own: u32) -> Result<(), Failure> {
        let (owner, mode) = (self.about.uid(), self.about.mode() & 0o7777);
        let complaint = if owner != 0 && owner != own {
            format!("it belongs to uid {owner}, who could have put anything into it")
        } else if mode & WRITABLE_BY_OTHERS != 0 {
            format!("others than its owner may write it (mode {mode:04o})")
        } else {
            return Ok(());
        };
        if own == 0 {
            return Err(refused(&self.path, format!("{complaint}, and this program is root")));
        }
        log::warn!("plugin {}: {complaint}", self.path.display());
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    fn message(path: &Path) -> String {
        let opened = Library::open(path).and_then(|mut library| library.check());
        opened.unwrap_err().to_string()
    }

    #[test]
    fn b17_what_is_no_file_is_named_with_its_path() {
        let directory = tempfile::tempdir().unwrap();
        let at = |name: &str| directory.path().join(name);
        let missing = message(&at("missing.so"));
        assert!(missing.contains("missing.so: cannot be opened: No such file"), "{missing}");
        std::os::unix::fs::symlink(at("missing.so"), at("dangling.so")).unwrap();
        assert!(message(&at("dangling.so")).contains("No such file"));
        assert!(message(directory.path()).ends_with(": it is a directory"));
        assert!(message(Path::new("/dev/null")).ends_with(": it is not a regular file"));
    }

    #[test]
    fn what_others_may_write_is_refused_by_root_alone() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("lib.so");
        fs::write(&path, "text").unwrap();
        let owner = fs::metadata(&path).unwrap().uid();
        let check = |mode, own| {
            fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
            Library::open(&path).unwrap().check_owner(own).map_err(|failure| failure.message)
        };
        assert_eq!(check(0o644, owner), Ok(()));
        assert_eq!(check(0o664, owner).is_err(), owner == 0);
        assert_eq!(check(0o666, 12345), Ok(()), "a warning is all");
        if owner == 0 {
            let refusal = check(0o622, 0).unwrap_err();
            assert!(refusal.contains("(mode 0622), and this program is root"), "{refusal}");
        } else {
            assert!(check(0o644, 0).unwrap_err().contains("it belongs to uid"));
        }
    }
}
