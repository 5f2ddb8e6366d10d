//! Reading back: the last lines, following, over rotations, and what was gone before it was read.

use std::collections::VecDeque;
use std::fs;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, channel};
use std::time::Duration;

use super::{Room, small};
use crate::host::{OutputSink, threads};
use crate::logs::{Entry, Query, Stop, read_left};
use crate::worker::{LogMode, LogsConfig, WorkerId};

const STACK: usize = 256 << 10;

const PATIENCE: Duration = Duration::from_secs(30);

pub(super) fn read(room: &Room, query: &Query) -> Vec<Entry> {
    room.logs.read(std::slice::from_ref(&room.worker), query).unwrap().collect()
}

/// The texts of lines, without time stamps and tags.
pub(super) fn texts(entries: &[Entry]) -> Vec<String> {
    assert!(entries.iter().all(|entry| !entry.notice), "{entries:?}");
    let whole: Vec<u8> = entries.iter().flat_map(|entry| entry.bytes.clone()).collect();
    String::from_utf8(whole).unwrap().lines().map(|line| line[27..].to_owned()).collect()
}

/// A reader on a thread of its own.
struct Following {
    entries: Receiver<Entry>,
    lines: VecDeque<String>,
    stop: Stop,
}

impl Following {
    fn start(room: &Room, query: Query) -> Self {
        let reader = room.logs.read(std::slice::from_ref(&room.worker), &query.follow()).unwrap();
        let stop = reader.stopper();
        let (tell, entries) = channel();
        let read = move || drop(reader.into_iter().try_for_each(|entry| tell.send(entry)));
        threads::spawn("reader", STACK, read).unwrap();
        Self { entries, lines: VecDeque::new(), stop }
    }

    fn line(&mut self) -> String {
        while self.lines.is_empty() {
            let entry = self.entries.recv_timeout(PATIENCE).expect("nothing more was read");
            let text = String::from_utf8(entry.bytes).unwrap();
            self.lines.extend(text.lines().map(|line| match entry.notice {
                true => line.to_owned(),
                false => line[27..].to_owned(),
            }));
        }
        self.lines.pop_front().unwrap()
    }
}

#[test]
fn the_last_lines_are_found_over_all_files() {
    let room = Room::new(small().max_files(100));
    let all: Vec<String> = (0..500).map(|n| format!("{n} {}", "x".repeat(n % 97))).collect();
    for line in &all {
        room.out(format!("{line}\n").as_bytes());
    }
    assert!(room.files().len() > 5);
    for count in [0, 1, 2, 30, 99, 333, 499, 500, 501, usize::MAX] {
        let expected = &all[all.len() - count.min(all.len())..];
        assert_eq!(texts(&read(&room, &Query::last(count))), expected, "{count}");
    }
}

#[test]
fn the_last_lines_of_one_stream_are_told_apart() {
    let room = Room::new(small().max_files(100));
    for n in 0..500 {
        room.out(format!("out {n}\n").as_bytes());
        if n % 50 == 0 {
            room.err(format!("err {n}\n").as_bytes());
        }
    }
    room.log.record(log::Level::Info, "t", "logged");
    for count in [1, 2, 7, 10, 11] {
        let seen = texts(&read(&room, &Query::last(count).stderr()));
        let mut all: Vec<String> = (0..10).map(|n| format!("err {}", n * 50)).collect();
        all.push("INFO t: logged".to_owned());
        assert_eq!(seen, all[all.len() - count..]);
    }
    for count in [1, 7, 499] {
        let seen = texts(&read(&room, &Query::last(count).stdout()));
        let expected: Vec<_> = (500 - count..500).map(|n| format!("out {n}")).collect();
        assert_eq!(seen, expected);
    }
    let both = texts(&read(&room, &Query::last(usize::MAX).stdout().stderr()));
    assert_eq!(both.len(), 511);
}

#[test]
fn bytes_without_time_stamps_are_read_as_they_are() {
    let room = Room::new(small().max_files(100).timestamps(false));
    let all: Vec<String> = (0..2000).map(|n| format!("{n} {}\n", "y".repeat(n % 80))).collect();
    let whole = all.concat() + "no end";
    for chunk in whole.as_bytes().chunks(97) {
        room.out(chunk);
    }
    let text = |entries: Vec<Entry>| -> String {
        entries.iter().map(|entry| String::from_utf8(entry.bytes.clone()).unwrap()).collect()
    };
    assert_eq!(text(read(&room, &Query::last(usize::MAX))), whole);
    assert_eq!(text(read(&room, &Query::last(3))), all[1998..].concat() + "no end");
    let refused = room.logs.read(std::slice::from_ref(&room.worker), &Query::last(1).stdout());
    assert!(refused.err().unwrap().is_refused());
}

#[test]
fn a_line_without_an_end_is_read_in_pieces() {
    let room = Room::new(LogsConfig::default().timestamps(false));
    room.out(&vec![b'x'; 300_000]);
    let entries = read(&room, &Query::last(1));
    assert_eq!(entries.iter().map(|entry| entry.bytes.len()).sum::<usize>(), 300_000);
    assert!(entries.iter().all(|entry| entry.bytes.len() <= 128 << 10));
}

#[test]
fn a_follower_sees_every_line_over_all_rotations() {
    let room = Room::new(small().max_files(1000));
    room.out(b"first\nsecond\n");
    let mut following = Following::start(&room, Query::last(1));
    assert_eq!(following.line(), "second");
    for n in 0..5000 {
        room.out(format!("{n}\n").as_bytes());
    }
    for n in 0..5000 {
        assert_eq!(following.line(), n.to_string());
    }
    assert!(room.files().len() > 10);
    following.stop.stop();
    assert!(following.entries.recv_timeout(PATIENCE).is_err());
}

#[test]
fn what_is_left_is_read_when_older_files_were_removed_or_cut_short() {
    for (removed, kept) in [(1, 0), (2, 0), (4, 0), (1, 1000), (4, 1000)] {
        let room = Room::new(small().max_files(5));
        for n in 0..500 {
            room.out(format!("{n} {}\n", "x".repeat(30)).as_bytes());
        }
        assert_eq!(room.files().len(), 5);
        let path = room.path(&format!("w.log.{removed}"));
        let whole = fs::metadata(&path).unwrap().len();
        match kept {
            0 if removed == 2 => fs::remove_file(&path).unwrap(),
            _ => fs::File::options().write(true).open(&path).unwrap().set_len(kept).unwrap(),
        }
        let read_file = |number: u32| match number {
            0 => fs::read_to_string(room.path("w.log")).unwrap(),
            number => fs::read_to_string(room.path(&format!("w.log.{number}"))).unwrap_or_default(),
        };
        let whole_lines = |text: &str| text.rfind('\n').map_or(0, |end| end + 1);
        let left: Vec<String> = (0..=4)
            .rev()
            .map(read_file)
            .flat_map(|text| {
                let end = whole_lines(&text);
                text[..end].lines().map(|line| line[27..].to_owned()).collect::<Vec<_>>()
            })
            .collect();
        let entries = read(&room, &Query::last(usize::MAX));
        let (notices, lines): (Vec<_>, Vec<_>) =
            entries.into_iter().partition(|entry| entry.notice);
        assert_eq!(texts(&lines), left, "{removed} {kept}");
        let notices: Vec<_> =
            notices.into_iter().map(|entry| String::from_utf8(entry.bytes).unwrap()).collect();
        assert_eq!(notices, [format!("({} bytes are gone)\n", whole - kept)]);
        // What is newer than the gap is counted as ever.
        let newer = read_file(0).lines().count();
        for count in [1, newer - 1, newer] {
            let last = texts(&read(&room, &Query::last(count)));
            assert_eq!(last, left[left.len() - count..], "{removed} {kept} {count}");
        }
        if kept == 0 {
            let entries = read(&room, &Query::last(newer + 100));
            let lines: Vec<_> = entries.into_iter().filter(|entry| !entry.notice).collect();
            assert_eq!(texts(&lines), left[left.len() - newer - 100..], "{removed}");
        }
    }
}

#[test]
fn a_follower_that_does_not_read_is_told_what_was_rotated_away_and_holds_up_nobody() {
    let room = Room::new(small().max_files(3));
    room.out(b"first\n");
    let mut reader =
        room.logs.read(std::slice::from_ref(&room.worker), &Query::last(1).follow()).unwrap();
    assert_eq!(texts(&[reader.next().unwrap()]), ["first"]);
    for n in 0..1000 {
        room.out(format!("{n}\n").as_bytes());
    }
    // What its open file still has, then the gap, then what is there, up to the newest.
    let (mut lines, mut notices) = (Vec::new(), Vec::new());
    while lines.last().is_none_or(|last| last != "999") {
        let entry = reader.next().unwrap();
        match entry.notice {
            true => notices.push(String::from_utf8(entry.bytes).unwrap()),
            false => lines.extend(texts(&[entry])),
        }
    }
    let [notice] = notices.as_slice() else { panic!("{notices:?}") };
    let gone: usize = notice[1..].split(' ').next().unwrap().parse().unwrap();
    assert!(notice.ends_with(" bytes are gone)\n"), "{notice}");
    // To the byte: what was read and what is gone is what was written.
    let size = |line: &str| 27 + line.len() + 1;
    let written: usize = (0..1000).map(|n: u32| size(&n.to_string())).sum();
    let seen: usize = lines.iter().map(|line| size(line)).sum();
    assert_eq!(seen + gone, written);
}

#[test]
fn a_follower_survives_what_others_do_to_the_file() {
    let room = Room::new(LogsConfig::default());
    room.out(b"one\n");
    let mut following = Following::start(&room, Query::last(10));
    assert_eq!(following.line(), "one");
    let path = room.path("w.log");
    fs::File::options().write(true).open(&path).unwrap().set_len(0).unwrap();
    room.logs.reopen();
    room.out(b"two\n");
    assert_eq!(following.line(), "two");
    fs::remove_file(&path).unwrap();
    room.logs.reopen();
    room.out(b"three\n");
    assert_eq!(following.line(), "three");
    fs::remove_dir_all(room.directory()).unwrap();
    room.logs.reopen();
    room.out(b"four\n");
    assert_eq!(following.line(), "four");
    room.logs.end();
    assert!(following.entries.recv_timeout(PATIENCE).is_err(), "it ends with the master");
}

#[test]
fn what_a_process_writes_by_itself_is_followed_too() {
    use std::io::Write;
    let room = Room::new(LogsConfig::mode(LogMode::File).max_size(4096));
    let mut file = room.logs.file(&room.worker).unwrap();
    let line = |text: &str| format!("{} {text}\n", "t".repeat(26));
    file.write_all(line("one").as_bytes()).unwrap();
    let mut following = Following::start(&room, Query::last(10));
    assert_eq!(following.line(), "one");
    file.write_all(line("two").as_bytes()).unwrap();
    assert_eq!(following.line(), "two");
    // The next incarnation begins a new file when this one is large.
    file.write_all(line(&"x".repeat(4096)).as_bytes()).unwrap();
    assert_eq!(following.line().len(), 4096);
    let mut file = room.logs.file(&room.worker).unwrap();
    assert!(room.path("w.log.1").exists());
    file.write_all(line("three").as_bytes()).unwrap();
    assert_eq!(following.line(), "three");
    following.stop.stop();
}

#[test]
fn many_write_while_many_follow() {
    let room = Arc::new(Room::new(small().max_files(1000)));
    let mut followers: Vec<_> = (0..4).map(|_| Following::start(&room, Query::last(0))).collect();
    let writer = Arc::clone(&room);
    let write = move || {
        for n in 0..2000 {
            writer.log.record(log::Level::Info, "t", &format!("a{n}"));
        }
    };
    let writing = threads::spawn("writer", STACK, write).unwrap();
    for n in 0..2000 {
        room.out(format!("b{n}\n").as_bytes());
    }
    writing.join().unwrap();
    for following in &mut followers {
        let (mut a, mut b) = (0, 0);
        while a < 2000 || b < 2000 {
            let line = following.line();
            if line == format!("INFO t: a{a}") {
                a += 1;
            } else {
                assert_eq!(line, format!("b{b}"));
                b += 1;
            }
        }
        following.stop.stop();
    }
}

#[test]
fn reading_makes_no_file_and_hears_of_the_first_line() {
    let room = Room::new(LogsConfig::default());
    assert!(read(&room, &Query::last(10)).is_empty());
    let mut following = Following::start(&room, Query::last(10));
    assert!(!room.path("w.log").exists());
    for number in 0..100 {
        room.out(format!("{number}\n").as_bytes());
        assert_eq!(following.line(), number.to_string());
    }
    // Nor does it make one anew that was moved away, or a directory.
    fs::rename(room.path("w.log"), room.path("mine")).unwrap();
    room.logs.reopen();
    assert_eq!(texts(&read(&room, &Query::last(10))), Vec::<String>::new());
    assert!(!room.path("w.log").exists());
    room.out(b"next\n");
    assert_eq!(following.line(), "next");
    assert_eq!(texts(&read(&room, &Query::last(10))), ["next"]);
    following.stop.stop();
    fs::remove_dir_all(room.directory()).unwrap();
    assert!(read(&room, &Query::last(10)).is_empty());
    assert!(!room.directory().exists());
}

#[test]
fn what_is_closed_is_read_and_stays_closed() {
    let room = Room::new(small().max_files(3));
    let open = || -> usize {
        let names = fs::read_dir("/proc/self/fd").unwrap().filter_map(|entry| {
            // One that another test has closed meanwhile is not there any more.
            fs::read_link(entry.ok()?.path()).ok()
        });
        names.filter(|name| name.starts_with(room.directory()) && !name.ends_with(".lock")).count()
    };
    for n in 0..100 {
        room.out(format!("{n} {}\n", "x".repeat(50)).as_bytes());
    }
    assert_eq!(open(), 1);
    assert_eq!(texts(&read(&room, &Query::last(1))).len(), 1);
    assert_eq!(open(), 1, "what is written stays open");
    room.end();
    assert_eq!(open(), 0);
    assert_eq!(texts(&read(&room, &Query::last(80))).len(), 80);
    let mut following = Following::start(&room, Query::last(1));
    assert!(following.line().starts_with("99 "));
    following.stop.stop();
    assert!(following.entries.recv_timeout(PATIENCE).is_err());
    assert_eq!(open(), 0);
    // A line that a killed master has left is ended by who writes next, not by who reads.
    let mut text = fs::read(room.path("w.log")).unwrap();
    text.extend_from_slice(b"2026-01-31T10:20:30.123Z o tor");
    fs::write(room.path("w.log"), &text).unwrap();
    let room = room.again(small().max_files(3));
    assert_eq!(texts(&read(&room, &Query::last(1))), ["tor"]);
    assert_eq!(fs::read(room.path("w.log")).unwrap(), text);
    room.out(b"next\n");
    assert_eq!(texts(&read(&room, &Query::last(2))), ["tor", "next"]);
}

#[test]
fn lines_that_do_not_say_their_stream_are_shown_whichever_is_asked_for() {
    use std::io::Write;
    let room = Room::new(LogsConfig::mode(LogMode::File));
    let mut file = room.logs.file(&room.worker).unwrap();
    // What stands where a record has its tag, or what only looks like one, says nothing.
    let lines: Vec<_> =
        (0..100).map(|n| format!("{n:024} {}\n", ["x", "o ", "e ", "-+ "][n % 4])).collect();
    let record = |tag| format!("2026-01-31T10:20:30.123Z {tag} from before\n");
    let (out, err) = (record("o"), record("e"));
    let end = "000000000000000000000000 o no end";
    file.write_all([&lines.concat(), &out, &err, end].concat().as_bytes()).unwrap();
    let check = |query: &Query, entries: Vec<Entry>| {
        let (notices, entries): (Vec<_>, Vec<_>) =
            entries.into_iter().partition(|entry| entry.notice);
        let whole: Vec<u8> = entries.into_iter().flat_map(|entry| entry.bytes).collect();
        let kept = if query.stdout { &out } else { &err };
        let last = lines.len() - query.lines.saturating_sub(2).min(lines.len());
        let expected = [&lines[last..].concat(), kept, end].concat();
        assert_eq!(String::from_utf8_lossy(&whole), expected, "{query:?}");
        let [notice] = &notices[..] else { panic!("{notices:?}") };
        assert!(notice.bytes.starts_with(b"(lines that do not say "), "{notice:?}");
    };
    let path = room.directory();
    let queries = |count| [Query::last(count).stdout(), Query::last(count).stderr()];
    for query in [10, usize::MAX].into_iter().flat_map(queries) {
        check(&query, read(&room, &query));
        check(&query, read_left(&path, &["w"], &query).unwrap().collect());
    }
    // Of a line without an end alone it is said too.
    let query = Query::last(1).stdout();
    let [last, notice] = &read(&room, &query)[..] else { panic!("nothing is said") };
    assert!(!last.notice && notice.notice);
    let Room { room: _directory, worker, logs, log } = room;
    drop(log);
    logs.forget(&worker);
    let query = Query::last(10).stderr();
    check(&query, logs.read(&[worker], &query).unwrap().collect());
}

#[test]
fn files_that_grow_are_read_as_they_were_found_and_no_line_twice() {
    let room = tempfile::tempdir().unwrap();
    let file = |name: &str| room.path().join(format!("{name}.log"));
    let line = |name: &str, n: usize| format!("2026-01-31T10:20:30.123Z o {name}{n}\n");
    let lines = |name: &str, range: std::ops::Range<usize>| -> String {
        range.map(|n| line(name, n)).collect()
    };
    for (name, count) in [("a", 10), ("b", 10_000), ("c", 10)] {
        fs::write(file(name), lines(name, 0..count)).unwrap();
    }
    for follow in [false, true] {
        let query = Query { follow, ..Query::last(usize::MAX) };
        let reader = read_left(room.path(), &[], &query).unwrap();
        let mut seen = std::collections::BTreeMap::<String, Vec<String>>::new();
        let end = std::time::Instant::now() + PATIENCE;
        // Who follows is told all of it and then waits: there are this many.
        let mut left = 10_020;
        for entry in reader {
            assert!(std::time::Instant::now() < end, "it never ends: {}", seen["a"].len());
            left -= entry.bytes.split_inclusive(|byte| *byte == b'\n').count();
            let worker = entry.worker.clone();
            seen.entry(worker).or_default().extend(texts(&[entry]));
            // Each time more comes of all of them.
            for name in ["a", "b", "c"] {
                let mut file = fs::File::options().append(true).open(file(name)).unwrap();
                std::io::Write::write_all(&mut file, lines(name, 0..1000).as_bytes()).unwrap();
            }
            if follow && left == 0 {
                break;
            }
        }
        for (name, count) in [("a", 10), ("b", 10_000), ("c", 10)] {
            let expected: Vec<_> = (0..count).map(|n| format!("{name}{n}")).collect();
            assert_eq!(seen[name], expected, "{name}");
            fs::write(file(name), lines(name, 0..count)).unwrap();
        }
    }
}

#[test]
fn files_that_become_shorter_while_they_are_read_are_read_to_their_end() {
    let room = tempfile::tempdir().unwrap();
    let line = "2026-01-31T10:20:30.123Z o some\n";
    let (older, newer) = (room.path().join("w.log.1"), room.path().join("w.log"));
    fs::write(&older, line.repeat(10_000)).unwrap();
    fs::write(&newer, line.repeat(10_000)).unwrap();
    let mut reader = read_left(room.path(), &["w"], &Query::last(usize::MAX)).unwrap();
    assert!(reader.next().is_some_and(|first| !first.notice));
    for path in [&older, &newer] {
        let kept = 5_000 * line.len() as u64;
        fs::File::options().write(true).open(path).unwrap().set_len(kept).unwrap();
    }
    let rest: Vec<_> = reader.take(1000).collect();
    let gone: Vec<_> = rest.iter().filter(|entry| entry.notice).collect();
    let [gone] = &gone[..] else { panic!("{gone:?}") };
    let expected = format!("({} bytes are gone)\n", 5_000 * line.len());
    assert_eq!(String::from_utf8_lossy(&gone.bytes), expected);
    let count = |entry: &Entry| entry.bytes.split_inclusive(|byte| *byte == b'\n').count();
    let last = rest.iter().skip_while(|entry| !entry.notice).skip(1);
    assert_eq!(last.map(count).sum::<usize>(), 5_000);
}

#[test]
fn what_is_not_kept_is_said_to_who_reads_it() {
    for mode in [LogMode::Discard, LogMode::Inherit] {
        let room = Room::new(LogsConfig::mode(mode));
        let [said] = &read(&room, &Query::last(10))[..] else { panic!("nothing is said") };
        let text = String::from_utf8_lossy(&said.bytes);
        assert!(said.notice && text.starts_with("(logs.mode is "), "{text}");
        assert!(!room.path("w.log").exists());
    }
}

#[test]
fn what_a_removed_worker_or_a_dead_master_has_left_is_read() {
    let room = Room::new(small().max_files(1_000));
    for number in 0..500 {
        room.out(format!("{number}\n").as_bytes());
        room.err(b"no\n");
    }
    assert!(room.files().len() > 3);
    let Room { room: directory, worker, logs, log } = room;
    drop(log);
    logs.forget(&worker);
    assert!(logs.has_left(&worker));
    assert!(!logs.has_left(&WorkerId::new("w.log").unwrap()));
    fs::remove_file(directory.path().join("logs/w.log.2")).unwrap();
    let query = Query::last(300).stdout();
    let of_removed: Vec<_> = logs.read(std::slice::from_ref(&worker), &query).unwrap().collect();
    logs.end();
    drop(logs);
    let path = directory.path().join("logs");
    let of_dead: Vec<_> = read_left(&path, &["w"], &query).unwrap().collect();
    assert_eq!(of_dead, of_removed);
    let numbers = texts(&of_dead);
    assert_eq!(numbers.len(), 300, "over the gap");
    assert_eq!(numbers.last().unwrap(), "499");
    assert_eq!(read_left(&path, &[], &query).unwrap().collect::<Vec<_>>(), of_dead);
    let unknown = read_left(&path, &["v"], &query).unwrap_err();
    assert!(unknown.to_string().contains("v: it has no log in "), "{unknown}");
}
