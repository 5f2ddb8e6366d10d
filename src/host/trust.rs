//! Who else could write a file that decides what is run, and as whom: a configuration, a file of
//! variables.

use std::fs::{self, Metadata};
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use super::sys;

/// What is odd about who may write a file.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Doubt {
    /// Everybody may. Root does not read such a file.
    Everybody(String),
    /// Others than root and ourselves may.
    Others(String),
}

/// Looks at a file and the directories it is in. What cannot be looked at raises no doubt: reading
/// it fails by itself.
pub(crate) fn doubt(file: &Path) -> Option<Doubt> {
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
