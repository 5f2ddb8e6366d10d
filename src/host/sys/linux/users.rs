//! Linux: the system's databases of users and groups, wherever they are kept. Look-ups may read
//! files, load libraries and ask servers: never on the loop.

use std::ffi::{CStr, CString, OsString, c_char, c_int};
use std::io;
use std::mem::MaybeUninit;
use std::os::unix::ffi::OsStringExt;
use std::ptr;

/// An entry is first given this much room, in bytes, and then ever more.
const ROOM: usize = 4 << 10;
/// Groups with very many members need much.
const MOST_ROOM: usize = 4 << 20;
/// Linux lets nobody be in more groups.
const MOST_GROUPS: usize = 65_536;

/// A user of the database.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct User {
    pub(crate) name: OsString,
    pub(crate) uid: u32,
    /// The primary group.
    pub(crate) gid: u32,
    pub(crate) home: OsString,
    pub(crate) shell: OsString,
}

/// The user of this name; `None` when there is none.
///
/// # Errors
/// The database cannot be read.
pub(crate) fn user_named(name: &str) -> io::Result<Option<User>> {
    let name = CString::new(name)?;
    // SAFETY: the name outlives the call, and `entry` hands over pointers that fit each other.
    entry(|out, room, size, found| unsafe {
        libc::getpwnam_r(name.as_ptr(), out, room, size, found)
    })
}

/// The user of this number; `None` when there is none.
///
/// # Errors
/// The database cannot be read.
pub(crate) fn user_numbered(uid: u32) -> io::Result<Option<User>> {
    // SAFETY: `entry` hands over pointers that fit each other.
    entry(|out, room, size, found| unsafe { libc::getpwuid_r(uid, out, room, size, found) })
}

/// The number of the group of this name; `None` when there is none.
///
/// # Errors
/// The database cannot be read.
pub(crate) fn group_named(name: &str) -> io::Result<Option<u32>> {
    let name = CString::new(name)?;
    // SAFETY: the name outlives the call, and `entry` hands over pointers that fit each other.
    entry(|out, room, size, found| unsafe {
        libc::getgrnam_r(name.as_ptr(), out, room, size, found)
    })
    .map(|group| group.map(|Gid(gid)| gid))
}

/// The groups that the database has a user in, with `gid` among them.
///
/// # Errors
/// The user's name is none, or the database has it in more groups than the system takes.
pub(crate) fn groups_of(user: &User) -> io::Result<Vec<u32>> {
    let name = CString::new(user.name.clone().into_vec())?;
    let mut room = 64;
    loop {
        let mut groups = vec![0; room];
        let mut count = c_int::try_from(room).unwrap_or(c_int::MAX);
        // SAFETY: the name outlives the call, and `groups` has room for `count` numbers.
        let result = unsafe {
            libc::getgrouplist(name.as_ptr(), user.gid, groups.as_mut_ptr(), &raw mut count)
        };
        let count = usize::try_from(count).unwrap_or(0);
        if result >= 0 {
            groups.truncate(count);
            return Ok(groups);
        }
        if room >= MOST_GROUPS {
            return Err(io::Error::other("the database has it in too many groups"));
        }
        room = count.max(room * 2).min(MOST_GROUPS);
    }
}

/// The groups that we are in ourselves, beside our own group.
///
/// # Errors
/// As the call has them.
pub(crate) fn own_groups() -> io::Result<Vec<u32>> {
    let mut groups = vec![0; MOST_GROUPS];
    let room = c_int::try_from(groups.len()).unwrap_or(c_int::MAX);
    // SAFETY: `groups` has room for so many numbers and outlives the call.
    let count = super::checked(unsafe { libc::getgroups(room, groups.as_mut_ptr()) })?;
    groups.truncate(usize::try_from(count).unwrap_or(0));
    Ok(groups)
}

/// The group whose rights we act with.
pub(crate) fn effective_gid() -> u32 {
    // SAFETY: the call takes nothing and cannot fail.
    unsafe { libc::getegid() }
}

/// What is read from an entry of a database.
trait Entry: Sized {
    type Raw;

    fn read(raw: &Self::Raw) -> Self;
}

impl Entry for User {
    type Raw = libc::passwd;

    fn read(raw: &libc::passwd) -> Self {
        Self {
            name: text(raw.pw_name),
            uid: raw.pw_uid,
            gid: raw.pw_gid,
            home: text(raw.pw_dir),
            shell: text(raw.pw_shell),
        }
    }
}

/// A group's number.
struct Gid(u32);

impl Entry for Gid {
    type Raw = libc::group;

    fn read(raw: &libc::group) -> Self {
        Self(raw.gr_gid)
    }
}

fn text(from: *const c_char) -> OsString {
    if from.is_null() {
        return OsString::new();
    }
    // SAFETY: the entry was filled by the system, whose texts end with a NUL, and its room lives.
    OsString::from_vec(unsafe { CStr::from_ptr(from) }.to_bytes().to_vec())
}

/// Asks a database for one entry, with ever more room for its texts until it fits.
fn entry<E: Entry>(
    ask: impl Fn(*mut E::Raw, *mut c_char, usize, *mut *mut E::Raw) -> c_int,
) -> io::Result<Option<E>> {
    let mut size = ROOM;
    loop {
        let mut raw = MaybeUninit::<E::Raw>::uninit();
        let mut room: Vec<c_char> = vec![0; size];
        let mut found = ptr::null_mut();
        match ask(raw.as_mut_ptr(), room.as_mut_ptr(), room.len(), &raw mut found) {
            0 if found.is_null() => return Ok(None),
            0 => {
                // SAFETY: the call has found an entry, so it has filled `raw`, and `room` lives.
                return Ok(Some(E::read(unsafe { raw.assume_init_ref() })));
            }
            libc::ERANGE if size < MOST_ROOM => size *= 4,
            libc::EINTR => {}
            // Databases differ in how they say that there is no such entry.
            libc::ENOENT | libc::ESRCH | libc::EBADF | libc::EPERM => return Ok(None),
            error => return Err(io::Error::from_raw_os_error(error)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn users_and_groups_are_found_by_name_and_number() {
        let root = user_named("root").unwrap().expect("root");
        assert_eq!((root.uid, root.gid, root.home.to_str()), (0, 0, Some("/root")));
        assert_eq!(user_numbered(0).unwrap(), Some(root.clone()));
        assert_eq!(group_named("root").unwrap(), Some(0));
        assert!(groups_of(&root).unwrap().contains(&0));
        assert_eq!(user_named("hsu-nobody-here").unwrap(), None);
        assert_eq!(user_numbered(3_999_999_999).unwrap(), None);
        assert_eq!(group_named("hsu-nobody-here").unwrap(), None);
        assert!(user_named("a\0b").is_err());
        let in_file = std::fs::read_to_string("/proc/self/status").unwrap();
        let line = in_file.lines().find_map(|line| line.strip_prefix("Groups:")).unwrap();
        let listed: Vec<u32> = line.split_whitespace().map(|gid| gid.parse().unwrap()).collect();
        assert_eq!(own_groups().unwrap(), listed);
    }
}
