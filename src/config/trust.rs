//! Who else could write a configuration file: whoever can, decides what is run, and as whom.

use std::fs::{self, Metadata};
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use crate::host::sys;

/// What is odd about who may write a file.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Doubt {
    /// Everybody may. Root does not read it.
    Everybody(String),
    /// Others than root and ourselves may.
    Others(String),
}

/// Looks at a file and the directories it is in. What cannot be looked at raises no doubt: reading
/// it fails by itself.
pub(super) fn doubt(file: &Path) -> Option<Doubt> {
    let file = fs::canonicalize(file).ok()?;
    let doubts: Vec<Doubt> = file.ancestors().filter_map(doubt_of).collect();
    let everybody = |doubt: &Doubt| matches!(doubt, Doubt::Everybody(_));
    let worst = doubts.iter().position(everybody).unwrap_or(0);
    doubts.into_iter().nth(worst)
}

fn doubt_of(path: &Path) -> Option<Doubt> {
    let about = fs::metadata(path).ok()?;
    let shown = path.display();
    // In a sticky directory nobody can replace what is somebody else's.
    let guarded = about.is_dir() && about.mode() & 0o1000 != 0;
    let writable = |bits: u32| about.mode() & bits != 0 && !guarded;
    if writable(0o002) {
        let message = format!("everybody may write to {shown}; chmod o-w it");
        return Some(Doubt::Everybody(message));
    }
    if is_foreign(&about) {
        return Some(Doubt::Others(format!("{shown} belongs to user {}", about.uid())));
    }
    (writable(0o020) && about.gid() != 0)
        .then(|| Doubt::Others(format!("group {} may write to {shown}", about.gid())))
}

fn is_foreign(about: &Metadata) -> bool {
    about.uid() != 0 && about.uid() != sys::effective_uid()
}

#[cfg(test)]
mod tests {
    use std::fs::Permissions;
    use std::os::unix::fs::{PermissionsExt, chown};

    use super::*;
    use crate::MasterConfig;

    #[test]
    fn c19_what_others_may_write_is_refused_or_told() {
        let directory = tempfile::tempdir().unwrap();
        let (inner, file) = (directory.path().join("inner"), directory.path().join("inner/file"));
        fs::create_dir(&inner).unwrap();
        fs::write(&file, "workers: []").unwrap();
        let mode = |path: &Path, mode| fs::set_permissions(path, Permissions::from_mode(mode));
        mode(&file, 0o644).unwrap();
        mode(&inner, 0o755).unwrap();
        assert_eq!(doubt(&file), None);
        for (path, bits) in [(&file, 0o646), (&inner, 0o757)] {
            mode(path, bits).unwrap();
            assert!(matches!(doubt(&file), Some(Doubt::Everybody(_))), "{path:?}");
            let loaded = MasterConfig::load(&file);
            if sys::effective_uid() == 0 {
                let error = loaded.unwrap_err().to_string();
                assert!(error.contains("everybody may write to"), "{error}");
            } else {
                assert_eq!(loaded.unwrap().warnings.len(), 1);
            }
            mode(path, 0o755).unwrap();
        }
        mode(&inner, 0o1777).unwrap();
        assert_eq!(doubt(&file), None);
        if sys::effective_uid() != 0 {
            eprintln!("skipped: only root can give files away");
            return;
        }
        chown(&file, Some(4711), None).unwrap();
        let warnings = MasterConfig::load(&file).unwrap().warnings;
        assert!(warnings[0].message.contains("belongs to user 4711"), "{warnings:?}");
        chown(&file, Some(0), Some(4711)).unwrap();
        mode(&file, 0o664).unwrap();
        let warnings = MasterConfig::load(&file).unwrap().warnings;
        assert!(warnings[0].message.contains("group 4711 may write to"), "{warnings:?}");
    }
}
