//! Who else could write a file that decides what is run, and as whom: a configuration, a file of
//! variables.

use std::ffi::OsString;
use std::fs::{self, Metadata};
use std::os::unix::fs::MetadataExt;
use std::path::{Component, Path, PathBuf};

use super::sys;

/// How many links are followed on the way to a file: as many as Linux follows.
const MOST_LINKS: usize = 40;

/// What is odd about who may write a file, the least first.
#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Doubt {
    /// A group may.
    Group(String),
    /// It belongs to others than root and ourselves.
    Owner(String),
    /// Everybody may. Root does not read such a file.
    Everybody(String),
}

impl Doubt {
    /// What is odd, for people.
    pub(crate) fn into_message(self) -> String {
        match self {
            Self::Group(message) | Self::Owner(message) | Self::Everybody(message) => message,
        }
    }
}

/// Looks at a file, at the directories it is in, and at each link on the way to it with the
/// directories that this is in: who may write there decides where the way leads. What cannot be
/// looked at raises no doubt: reading it fails by itself.
pub(crate) fn doubt(file: &Path) -> Option<Doubt> {
    let mut worst = None;
    let mut left = steps(&std::path::absolute(file).ok()?);
    let mut at = PathBuf::from("/");
    worst = worst.max(doubt_of(&at, &fs::symlink_metadata(&at).ok()?));
    let mut links = 0;
    while let Some(step) = left.pop() {
        if step == ".." {
            at.pop();
            continue;
        }
        let next = at.join(step);
        let Ok(about) = fs::symlink_metadata(&next) else { break };
        worst = worst.max(doubt_of(&next, &about));
        if !about.is_symlink() {
            at = next;
            continue;
        }
        links += 1;
        let Some(target) = fs::read_link(&next).ok().filter(|_| links <= MOST_LINKS) else { break };
        if target.is_absolute() {
            at = PathBuf::from("/");
        }
        left.extend(steps(&target));
    }
    worst
}

/// The steps of a path, the last one first.
fn steps(path: &Path) -> Vec<OsString> {
    let step = |step: Component<'_>| match step {
        Component::Normal(_) | Component::ParentDir => Some(step.as_os_str().to_owned()),
        Component::Prefix(_) | Component::RootDir | Component::CurDir => None,
    };
    path.components().rev().filter_map(step).collect()
}

/// `about` is that of the path itself, also where it is a link.
fn doubt_of(path: &Path, about: &Metadata) -> Option<Doubt> {
    let shown = path.display();
    // In a sticky directory nobody can replace what is somebody else's; a link is never written.
    let guarded = about.is_symlink() || about.is_dir() && about.mode() & 0o1000 != 0;
    let writable = |bits: u32| about.mode() & bits != 0 && !guarded;
    if writable(0o002) {
        let message = format!("everybody may write to {shown}; chmod o-w it");
        return Some(Doubt::Everybody(message));
    }
    if is_foreign(about) {
        return Some(Doubt::Owner(format!("{shown} belongs to user {}", about.uid())));
    }
    (writable(0o020) && about.gid() != 0)
        .then(|| Doubt::Group(format!("group {} may write to {shown}", about.gid())))
}

fn is_foreign(about: &Metadata) -> bool {
    about.uid() != 0 && about.uid() != sys::effective_uid()
}
