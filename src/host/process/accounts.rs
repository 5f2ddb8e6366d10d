//! Whom a process runs as: names become numbers here, in the master, where the system's databases
//! can be asked; and what a user may not reach is named.

use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use super::Settings;
use crate::error::{ErrorCategory, Failure};
use crate::host::sys::{self, User};
use crate::worker::ExecutionConfig;

/// Whom a process becomes. `None` leaves what the master is.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Identity {
    pub(super) uid: Option<u32>,
    pub(super) gid: Option<u32>,
    /// Exactly these, beside the group itself.
    pub(super) groups: Option<Vec<u32>>,
    /// The entry of the database for the user that is written, if there is one.
    pub(super) user: Option<User>,
}

/// Looks up whom the settings name. It may take the time of a server's answer.
pub(super) fn resolve(settings: &Settings) -> Result<Identity, Failure> {
    let (uid, user) = match &settings.user {
        Some(name) => user_of(name).map(|(uid, user)| (Some(uid), user))?,
        None => (None, None),
    };
    let named = settings.group.as_deref().map(group_of).transpose()?;
    let further = settings.supplementary_groups.iter().map(|name| group_of(name));
    let further = further.collect::<Result<Vec<_>, _>>()?;
    if sys::effective_uid() != 0 {
        // What it names is what we are: otherwise the worker was refused.
        let message = "needs root to be somebody else than the master";
        return match is_ours(uid, named, &further)? {
            true => Ok(Identity { user, ..Identity::default() }),
            false => Err(Failure::new(ErrorCategory::PermissionDenied, message).permanent()),
        };
    }
    if uid.is_none() && named.is_none() && further.is_empty() {
        return Ok(Identity::default());
    }
    let gid = match (named, &user, uid) {
        (Some(gid), ..) => Some(gid),
        (None, Some(user), _) => Some(user.gid),
        (None, None, Some(uid)) => {
            let message = format!("uid {uid} is not in the user database: write its group too");
            return Err(Failure::new(ErrorCategory::Configuration, message));
        }
        (None, None, None) => None,
    };
    let mut groups = match &user {
        Some(user) => sys::groups_of(user)
            .map_err(|error| unreadable(&format!("the groups of user {:?}", user.name), &error))?,
        None => Vec::new(),
    };
    groups.extend(further);
    groups.sort_unstable();
    groups.dedup();
    Ok(Identity { uid, gid, groups: Some(groups), user })
}

/// The key that a master which is not root cannot heed, if there is one.
pub(super) fn unprivileged(execution: &ExecutionConfig) -> Option<&'static str> {
    if sys::effective_uid() == 0 {
        return None;
    }
    let uid = execution.user.as_deref().map(|name| user_of(name).map(|(uid, _)| uid));
    if !uid.is_none_or(|uid| uid.is_ok_and(|uid| is_ours(Some(uid), None, &[]) == Ok(true))) {
        return Some("execution.user");
    }
    let gid = execution.group.as_deref().map(group_of);
    if !gid.is_none_or(|gid| gid.is_ok_and(|gid| is_ours(None, Some(gid), &[]) == Ok(true))) {
        return Some("execution.group");
    }
    let further = execution.supplementary_groups.iter().map(|name| group_of(name));
    let further = further.collect::<Result<Vec<_>, _>>();
    match further.and_then(|further| is_ours(None, None, &further)) {
        Ok(true) => None,
        Ok(false) | Err(_) => Some("execution.supplementary_groups"),
    }
}

/// Whether we are all of that already.
fn is_ours(uid: Option<u32>, gid: Option<u32>, further: &[u32]) -> Result<bool, Failure> {
    let own = if further.is_empty() { Ok(Vec::new()) } else { sys::own_groups() };
    let own = own.map_err(|error| unreadable("the master's own groups", &error))?;
    let own_gid = sys::effective_gid();
    Ok(uid.is_none_or(|uid| uid == sys::effective_uid())
        && gid.is_none_or(|gid| gid == own_gid)
        && further.iter().all(|gid| *gid == own_gid || own.contains(gid)))
}

fn number(name: &str) -> Option<u32> {
    name.bytes().all(|byte| byte.is_ascii_digit()).then(|| name.parse().ok()).flatten()
}

/// The user of a name or number, and its entry; a number need not have one.
pub(super) fn user_of(name: &str) -> Result<(u32, Option<User>), Failure> {
    let what = format!("user {name:?}");
    if let Some(uid) = number(name) {
        let user = sys::user_numbered(uid).map_err(|error| unreadable(&what, &error))?;
        return Ok((uid, user));
    }
    let user = sys::user_named(name).map_err(|error| unreadable(&what, &error))?;
    let user = user.ok_or_else(|| unknown(&what))?;
    Ok((user.uid, Some(user)))
}

fn group_of(name: &str) -> Result<u32, Failure> {
    let what = format!("group {name:?}");
    if let Some(gid) = number(name) {
        return Ok(gid);
    }
    let group = sys::group_named(name).map_err(|error| unreadable(&what, &error))?;
    group.ok_or_else(|| unknown(&what))
}

fn unknown(what: &str) -> Failure {
    Failure::new(ErrorCategory::Configuration, format!("there is no {what} on this system"))
}

fn unreadable(what: &str, error: &io::Error) -> Failure {
    let category = ErrorCategory::of_io(error).unwrap_or(ErrorCategory::Unknown);
    Failure::new(category, format!("cannot look up {what}: {error}"))
}

impl Identity {
    /// True when it is somebody else than we are.
    pub(super) fn is_other(&self) -> bool {
        self.uid.or(self.gid).is_some()
    }

    pub(super) fn uid(&self) -> u32 {
        self.uid.unwrap_or_else(sys::effective_uid)
    }

    /// The first part of `path`, from the root, that keeps this user from executing the file or
    /// entering the directory there, and whether that is what the whole of it leads to; `None`
    /// when permission bits are not what is in the way.
    pub(super) fn barrier(&self, path: &Path) -> Option<(PathBuf, bool)> {
        let real = fs::canonicalize(path).ok()?;
        let parts: Vec<_> = real.ancestors().collect();
        let closed = |place: &&Path| {
            let about = fs::metadata(place);
            about.is_ok_and(|about| !self.may_execute(about.mode(), about.uid(), about.gid()))
        };
        let place = parts.into_iter().rev().find(closed)?;
        Some((place.to_owned(), place == real))
    }

    fn may_execute(&self, mode: u32, owner: u32, group: u32) -> bool {
        let uid = self.uid();
        let ours = |gid| {
            self.gid.unwrap_or_else(sys::effective_gid) == gid
                || self.groups.as_ref().is_some_and(|groups| groups.contains(&gid))
        };
        // The first class that fits decides, also to the worse. Root needs any bit at all.
        mode & match () {
            () if uid == 0 => 0o111,
            () if uid == owner => 0o100,
            () if ours(group) => 0o010,
            () => 0o001,
        } != 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_class_that_fits_decides() {
        let who = |uid, gid, groups: &[u32]| Identity {
            uid: Some(uid),
            gid: Some(gid),
            groups: Some(groups.to_vec()),
            user: None,
        };
        for (mode, who, may) in [
            (0o700, who(7, 7, &[]), true),
            (0o077, who(7, 7, &[]), false),
            (0o710, who(8, 7, &[]), true),
            (0o710, who(8, 8, &[7]), true),
            (0o701, who(8, 7, &[]), false),
            (0o701, who(8, 8, &[9]), true),
            (0o770, who(8, 8, &[9]), false),
            (0o001, who(0, 0, &[]), true),
            (0o666, who(0, 0, &[]), false),
        ] {
            assert_eq!(who.may_execute(mode, 7, 7), may, "{mode:o} {who:?}");
        }
    }
}
