//! Reading what changes meanwhile: more is written, and files are removed.

use super::reading::{read, texts};
use super::{Room, small};
use crate::logs::Query;

#[test]
fn who_does_not_follow_is_told_what_was_there_and_no_more() {
    let room = Room::new(small().max_files(100));
    let write = |n: usize| room.out(format!("{n}\n").as_bytes());
    (0..500).for_each(write);
    let query = Query::last(300);
    let reader = room.logs.read(std::slice::from_ref(&room.worker), &query).unwrap();
    // Of a worker that writes as fast as it is read there would be no end.
    let entries: Vec<_> = reader.take(500).inspect(|_| (0..500).for_each(write)).collect();
    let expected: Vec<_> = (200..500).map(|n| n.to_string()).collect();
    assert_eq!(texts(&entries), expected);
    write(500);
    assert_eq!(texts(&read(&room, &Query::last(1))), ["500"]);
}

#[test]
fn files_that_are_read_may_be_removed() {
    let room = Room::new(small().max_files(2));
    for n in 0..100 {
        room.out(format!("{n} {}\n", "x".repeat(50)).as_bytes());
    }
    let mut reader = room.logs.read(std::slice::from_ref(&room.worker), &Query::last(100)).unwrap();
    let first = reader.next().unwrap();
    assert!(!texts(&[first]).is_empty());
    for n in 0..300 {
        room.out(format!("{n} {}\n", "x".repeat(50)).as_bytes());
    }
    let (gone, read): (Vec<_>, Vec<_>) = reader.partition(|entry| entry.notice);
    // What it has open is read to its end; what was there too when it began is missed, and said.
    assert!(texts(&read).iter().all(|line| line.ends_with('x')));
    let [gone] = &gone[..] else { panic!("{gone:?}") };
    assert!(String::from_utf8_lossy(&gone.bytes).ends_with(" bytes are gone)\n"), "{gone:?}");
}
