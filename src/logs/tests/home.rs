//! A directory of logs has one master at a time.

use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::process;

use super::Room;
use crate::error::Result;
use crate::logs::Logs;
use crate::worker::LogsConfig;

fn open(room: &Room) -> Result<Logs> {
    Logs::open_for("second", Some(&room.directory()), 0)
}

#[test]
fn a_second_master_is_told_who_holds_it_until_the_first_ends() {
    let room = Room::new(LogsConfig::default());
    let refused = open(&room).err().unwrap();
    assert!(refused.is_refused());
    let expected = format!("it is held by test, pid {}, since ", process::id());
    assert!(refused.to_string().contains(&expected), "{refused}");
    assert!(refused.to_string().contains(room.directory().to_str().unwrap()), "{refused}");
    room.out(b"one\n");
    room.logs.end();
    let second = open(&room).unwrap();
    // What is late is written by the first all the same, and takes nothing from the second.
    room.logs.reopen();
    room.out(b"late\n");
    assert_eq!(room.lines(), ["o one", "o late"]);
    let refused = open(&room).err().unwrap().to_string();
    assert!(refused.contains("held by second, pid "), "{refused}");
    drop(second);
    open(&room).unwrap();
}

#[test]
fn a_directory_that_was_removed_is_taken_again_or_left_to_who_was_faster() {
    let room = Room::new(LogsConfig::default());
    room.out(b"one\n");
    fs::remove_dir_all(room.directory()).unwrap();
    room.logs.reopen();
    room.out(b"two\n");
    assert!(open(&room).err().unwrap().is_refused());
    assert_eq!(room.lines(), ["o two"]);

    fs::remove_dir_all(room.directory()).unwrap();
    let second = open(&room).unwrap();
    room.logs.reopen();
    room.out(b"lost\n");
    assert!(!room.path("w.log").exists());
    let trouble = room.log.last_trouble().unwrap();
    assert!(trouble.message.contains("held by second, pid "), "{trouble:?}");
    assert_eq!(room.log.counts(0)[2], 5);
    second.end();
    room.end();
    room.out(b"three\n");
    assert_eq!(room.lines().last().unwrap(), "o three");
}

#[test]
fn a_lock_that_is_no_file_is_refused_and_one_that_cannot_be_had_is_done_without() {
    let room = Room::new(LogsConfig::default());
    room.logs.end();
    let lock = room.path(".lock");
    fs::remove_file(&lock).unwrap();
    let elsewhere = room.room.path().join("elsewhere");
    symlink(&elsewhere, &lock).unwrap();
    assert!(open(&room).err().unwrap().to_string().contains(".lock is a link"));
    assert!(!elsewhere.exists());
    fs::remove_file(&lock).unwrap();
    // Root may write wherever it wants: for it, this shows nothing.
    fs::set_permissions(room.directory(), fs::Permissions::from_mode(0o500)).unwrap();
    open(&room).unwrap();
    fs::set_permissions(room.directory(), fs::Permissions::from_mode(0o700)).unwrap();
    open(&room).unwrap();
    assert!(lock.is_file());
}
