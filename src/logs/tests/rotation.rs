//! Rotation: nothing is lost but the oldest, whatever happens in between.

use std::collections::BTreeSet;
use std::fs;

use super::{Room, small};
use crate::worker::LogsConfig;

#[test]
fn ten_thousand_rotations_lose_no_line() {
    let keep = LogsConfig::default().max_size(4096).max_files(3);
    let room = Room::new(keep);
    let (mut next, mut seen) = (0, 0);
    // A file holds less than a hundred of these lines.
    let line = "x".repeat(20);
    for _ in 0..10_000 {
        let chunk: String = (next..next + 90).map(|n| format!("{n} {line}\n")).collect();
        next += 90;
        room.out(chunk.as_bytes());
        // What is there now goes on where what was there before ended.
        if next % 9_000 == 0 {
            let lines = room.lines();
            let numbers: Vec<u64> =
                lines.iter().map(|line| line.split(' ').nth(1).unwrap().parse().unwrap()).collect();
            assert!(numbers.windows(2).all(|pair| pair[0] + 1 == pair[1]));
            assert_eq!(*numbers.last().unwrap(), next - 1);
            seen += 1;
        }
    }
    assert_eq!(seen, 100);
    assert!(room.files().len() <= 3);
    room.balanced(0, 0);
    assert_eq!(room.log.totals().1, 0);
}

#[test]
fn files_are_no_larger_than_they_may_be_and_cut_between_lines() {
    let room = Room::new(small().max_files(1000));
    for n in 0..500 {
        room.out(format!("{}\n", "y".repeat(n % 300)).as_bytes());
        room.err(b"<3>z\n");
    }
    let files = room.files();
    assert!(files.len() > 20, "{}", files.len());
    for file in files {
        let bytes = fs::read(&file).unwrap();
        assert!(bytes.len() <= 4096, "{file:?}: {}", bytes.len());
        assert_eq!(bytes.last(), Some(&b'\n'));
        assert_eq!(bytes[24], b' ');
    }
    assert_eq!(room.lines().len(), 1000);
}

#[test]
fn a_line_larger_than_the_file_is_kept_in_a_file_of_its_own() {
    let room = Room::new(small());
    room.out(b"before\n");
    room.out(&[&[b'x'; 10_000][..], b"\nafter\n"].concat());
    let lines = room.lines();
    assert_eq!(lines.len(), 3);
    assert_eq!(
        (lines[0].as_str(), lines[1].len(), lines[2].as_str()),
        ("o before", 10_002, "o after")
    );
}

#[test]
fn one_file_alone_is_begun_anew() {
    let room = Room::new(small().max_files(1));
    for n in 0..1000 {
        room.out(format!("{n}\n").as_bytes());
    }
    assert_eq!(room.files().len(), 1);
    assert_eq!(room.lines().last().unwrap(), "o 999");
}

#[test]
fn bytes_without_time_stamps_are_as_they_were_written() {
    let room = Room::new(small().max_files(1000).timestamps(false));
    let mut all = Vec::new();
    for n in 0..200_u32 {
        let chunk: Vec<u8> = (0..n * 7).map(|byte| (byte * 31 + n) as u8).collect();
        room.out(&chunk);
        all.extend(chunk);
    }
    room.end();
    let read: Vec<u8> = room.files().iter().flat_map(|path| fs::read(path).unwrap()).collect();
    assert!(read == all, "{} of {} bytes", read.len(), all.len());
    assert!(room.files().iter().all(|path| fs::metadata(path).unwrap().len() <= 4096));
    room.balanced(0, 0);
}

/// Every prefix of the steps of a rotation is a place where the master may be killed.
#[test]
fn a_rotation_cut_short_is_completed() {
    let keep = small().max_files(5);
    for cut in 0..=4 {
        let room = Room::new(keep);
        for n in 0..100 {
            room.out(format!("{n} {}\n", "x".repeat(100)).as_bytes());
        }
        let before = room.lines();
        assert_eq!(room.files().len(), 4);
        // As `rotate` does it: from the oldest to the one that is written.
        let moves = [("w.log.3", "w.log.4"), ("w.log.2", "w.log.3"), ("w.log.1", "w.log.2")];
        let moves = moves.into_iter().chain([("w.log", "w.log.1")]);
        for (from, to) in moves.take(cut) {
            fs::rename(room.path(from), room.path(to)).unwrap();
        }
        let room = room.again(keep);
        room.out(b"next\n");
        let after = room.lines();
        assert_eq!(after[..after.len() - 1], before[..], "cut after {cut} steps");
        assert_eq!(after.last().unwrap(), "o next");
        let names: BTreeSet<_> = fs::read_dir(room.directory())
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .filter(|name| name.starts_with("w.log."))
            .collect();
        assert_eq!(names.len(), if cut == 4 { 4 } else { 3 }, "{names:?}");
    }
}

#[test]
fn a_rotation_goes_past_files_that_somebody_has_removed() {
    for removed in [&["w.log.2"][..], &["w.log.1"], &["w.log.4"], &["w.log.2", "w.log.3"]] {
        let room = Room::new(small().max_files(6));
        let mut next = 0;
        let mut fill = |room: &Room, files: usize| {
            // As many lines as make a file full, and no more.
            for _ in 0..files * 32 {
                room.out(format!("{next:099}\n").as_bytes());
                next += 1;
            }
            next
        };
        fill(&room, 5);
        assert!(room.path("w.log.4").exists());
        for name in removed {
            fs::remove_file(room.path(name)).unwrap();
        }
        let last = fill(&room, 1) - 1;
        assert_eq!(room.log.counts(0)[2], 0, "{removed:?}: nothing is lost");
        assert_eq!(room.log.last_trouble(), None);
        assert_eq!(room.lines().last().unwrap(), &format!("o {last:099}"));
        // The next master closes the gaps, however many files are missing.
        let before = fs::read_dir(room.directory()).unwrap().count();
        let room = room.again(small().max_files(6));
        fill(&room, 1);
        // Without the lock, and with the one that is begun.
        assert_eq!(room.files().len(), before - 1 + 1, "{removed:?}");
        assert_eq!(room.log.totals().1, 0);
    }
}

#[test]
fn only_files_of_the_pattern_are_touched_and_fewer_are_kept_when_that_is_asked() {
    let room = Room::new(small().max_files(8));
    fs::write(room.path("w.log.old"), "mine").unwrap();
    fs::write(room.path("w.log.1.gz"), "mine").unwrap();
    fs::write(room.path("w.logx"), "mine").unwrap();
    for n in 0..500 {
        room.out(format!("{n} {}\n", "x".repeat(100)).as_bytes());
    }
    assert_eq!(room.files().len(), 8);
    let room = room.again(small().max_files(3));
    for n in 0..100 {
        room.out(format!("{n} {}\n", "x".repeat(100)).as_bytes());
    }
    assert_eq!(room.files().len(), 3);
    for name in ["w.log.old", "w.log.1.gz", "w.logx"] {
        assert_eq!(fs::read_to_string(room.path(name)).unwrap(), "mine");
    }
}

#[test]
fn a_line_that_a_killed_master_has_left_unfinished_is_ended() {
    let room = Room::new(small());
    room.out(b"one\n");
    let path = room.path("w.log");
    let mut text = fs::read(&path).unwrap();
    text.extend_from_slice(b"2026-01-31T10:20:30.123Z o tor");
    fs::write(&path, text).unwrap();
    let room = room.again(small());
    room.out(b"two\n");
    assert_eq!(room.lines(), ["o one", "o tor", "o two"]);
}

#[test]
fn the_last_line_without_an_end_is_kept_and_marked() {
    let room = Room::new(small());
    room.out(b"abc");
    room.err(b"<4>def");
    room.balanced(0, 3);
    room.end();
    room.balanced(0, 0);
    room.out(b"next\n");
    assert_eq!(room.lines(), ["o+ abc", "e+ WARN w: def", "o next"]);
}
