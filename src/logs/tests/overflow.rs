//! Logs of workers that never wait for the disk (FAULTS L14): bounded, in order, and exact about
//! what is lost.

use std::thread;
use std::time::{Duration, Instant};

use log::Level;

use super::Room;
use crate::host::threads::fail_points;
use crate::host::{Outlet, OutputSink, Stream, alone};
use crate::logs::worker::queue::{MOST, RESERVE};
use crate::logs::{LogNews, Query, WorkerLog};
use crate::worker::{LogOverflow, LogsConfig, WorkerId};

pub(super) const PATIENCE: Duration = Duration::from_secs(30);
pub(super) const WHY: &str = "it writes faster than the disk takes it";

pub(super) fn dropping() -> LogsConfig {
    LogsConfig::default().overflow(LogOverflow::Drop)
}

/// A hundred bytes.
fn line(number: usize) -> String {
    format!("{number:06} {}\n", "x".repeat(92))
}

fn number(line: &str) -> usize {
    line[2..8].parse().unwrap()
}

/// Waits until all that came is in the file.
#[track_caller]
pub(super) fn settle(log: &WorkerLog) {
    log.settle(Instant::now() + PATIENCE);
    // What is lost is said even if nothing comes after it.
    let end = Instant::now() + PATIENCE;
    while log.queue_now().0 > 0 {
        assert!(Instant::now() < end, "it is not written");
        thread::yield_now();
    }
}

/// Waits until all output is in the hands of who writes.
#[track_caller]
pub(super) fn in_hand(room: &Room) {
    let end = Instant::now() + PATIENCE;
    while room.log.waiting(0) > 0 {
        assert!(Instant::now() < end, "nobody writes");
        thread::yield_now();
    }
}

/// Fills the queue by what a module logs.
pub(super) fn fill(room: &Room) {
    let text = "y".repeat(1000);
    while room.log.counts(2)[2] == 0 {
        room.log.record(Level::Info, "t", &text);
    }
}

/// What the marks in a log say was lost, together.
fn marked(lines: &[String]) -> u64 {
    let marks = lines.iter().filter_map(|line| line.strip_prefix("- WARN master: "));
    marks.map(|mark| mark.strip_suffix(&format!(" bytes lost: {WHY}")).unwrap()).fold(
        0,
        |all, n| {
            let lost: u64 = n.parse().unwrap();
            all + lost
        },
    )
}

#[test]
fn l14_who_may_not_wait_does_not_and_what_there_is_no_room_for_is_counted_and_marked() {
    let room = Room::new(dropping());
    let news = room.news();
    let held = room.log.hold();
    room.logs.started(&room.worker, 1, 7);
    for number in 0..40_000 {
        room.out(line(number).as_bytes());
        assert!(room.log.queue_now().0 <= MOST + RESERVE);
    }
    room.end();
    assert_eq!(room.log.last_lines(1).last().unwrap(), line(39_999).trim_end());
    // It is told while the disk still does not answer.
    let (path, message) = (room.path("w.log"), WHY.to_owned());
    let degraded = LogNews::Degraded { path: path.clone(), message };
    assert_eq!(news.recv_timeout(PATIENCE).unwrap(), degraded);
    assert!(room.log.last_trouble().unwrap().since.is_some());
    let [taken, stored, dropped] = room.log.counts(0);
    assert_eq!((taken, stored), (4_000_000, 0));
    assert!(dropped > 4_000_000 - MOST as u64, "{dropped}");
    drop(held);
    settle(&room.log);
    room.balanced(0, 0);
    let lines = room.lines();
    let kept = lines.len() - 2;
    assert!(lines[0].starts_with("- INFO master: started, pid 7"), "{}", lines[0]);
    let in_order = lines[1..=kept].iter().enumerate().all(|(at, line)| number(line) == at);
    assert!(in_order && kept > 1_000, "{kept} lines are kept");
    assert_eq!((kept * 100) as u64 + dropped, taken);
    assert_eq!(lines[kept + 1], format!("- WARN master: {dropped} bytes lost: {WHY}"));

    room.out(b"after\n");
    settle(&room.log);
    assert_eq!(room.lines().last().unwrap(), "o after");
    room.logs.close(&room.worker);
    assert_eq!(news.recv_timeout(PATIENCE).unwrap(), LogNews::Recovered { path, dropped });
    assert_eq!(room.log.last_trouble().unwrap().since, None);
    let end = Instant::now() + PATIENCE;
    while room.log.queue_now().1 {
        assert!(Instant::now() < end, "the thread that writes does not end");
        thread::yield_now();
    }
    // It comes again.
    room.out(b"late\n");
    settle(&room.log);
    assert_eq!(room.lines().last().unwrap(), "o late");
    assert_eq!(room.log.totals(), (4_000_011, dropped));
}

#[test]
fn a_line_is_kept_or_lost_as_a_whole_and_those_of_other_streams_stay() {
    let room = Room::new(dropping());
    let held = room.log.hold();
    room.out(b"torn: ");
    room.err(b"whole: ");
    fill(&room);
    room.out(b"its rest\nanother\nhas just be");
    drop(held);
    settle(&room.log);
    room.err(b"its rest\n");
    room.out(b"gun\nkept\n");
    settle(&room.log);
    room.balanced(0, 0);
    room.balanced(1, 0);
    room.balanced(2, 0);
    assert_eq!(room.log.counts(0)[1], "kept\n".len() as u64);
    let lines = room.lines();
    let written: Vec<_> = lines.iter().filter(|line| !line.starts_with('-')).collect();
    assert_eq!(written, ["e whole: its rest", "o kept"]);
    assert_eq!(marked(&lines), room.log.totals().1);
}

#[test]
fn of_a_line_that_is_lost_nothing_is_kept_that_still_waits() {
    let room = Room::new(dropping().timestamps(false));
    let held = room.log.hold();
    room.out(b"in hand\n");
    in_hand(&room);
    room.out(b"one\nbegi");
    room.out(b"n: ");
    room.err(b"another stream: ");
    fill(&room);
    room.out(b"its rest\n");
    drop(held);
    settle(&room.log);
    room.out(b"two\n");
    settle(&room.log);
    let text = room.whole();
    assert!(text.starts_with("in hand\none\nanother stream: INFO t: yyy"), "{}", &text[..50]);
    let lost = room.log.totals().1;
    assert!(text.ends_with(&format!("y\n({lost} bytes lost: {WHY})\ntwo\n")));
    (0..3).for_each(|which| room.balanced(which, 0));
    assert_eq!(room.log.counts(0), [32, 16, 16]);
}

#[test]
fn what_fits_in_part_is_cut_where_a_line_ends() {
    for timestamps in [true, false] {
        let room = Room::new(dropping().timestamps(timestamps));
        let held = room.log.hold();
        let all: String = (0..20_000).map(line).collect();
        room.out(all.as_bytes());
        let [taken, _, dropped] = room.log.counts(0);
        assert!(taken == 2_000_000 && dropped > 900_000 && dropped % 100 == 0, "{dropped}");
        // Now there is no room for less either.
        room.out(b"lost\n");
        drop(held);
        settle(&room.log);
        room.out(line(7).as_bytes());
        settle(&room.log);
        room.balanced(0, 0);
        let kept = usize::try_from(taken - dropped).unwrap();
        let dropped = dropped + 5;
        if timestamps {
            let lines = room.lines();
            assert_eq!((lines.len(), number(&lines[kept / 100 + 1])), (kept / 100 + 2, 7));
            assert_eq!(marked(&lines), dropped);
        } else {
            let mark = format!("({dropped} bytes lost: {WHY})\n");
            assert!(room.whole() == format!("{}{mark}{}", &all[..kept], line(7)));
        }
    }
}

#[test]
fn a_mark_is_a_line_of_its_own_whatever_is_before_it() {
    let room = Room::new(dropping().timestamps(false));
    let held = room.log.hold();
    let [begin, middle] = ["x".repeat(900 << 10), "x".repeat(200 << 10)];
    room.out(begin.as_bytes());
    in_hand(&room);
    room.out(middle.as_bytes());
    drop(held);
    settle(&room.log);
    room.out(b"its end\nkept\n");
    settle(&room.log);
    let marks = [middle.len(), "its end\n".len()];
    let [one, other] = marks.map(|lost| format!("({lost} bytes lost: {WHY})\n"));
    assert!(room.whole() == format!("{begin}\n{one}{other}kept\n"));
    room.balanced(0, 0);
}

#[test]
fn a_line_without_an_end_is_not_lost_for_ever() {
    let room = Room::new(dropping());
    let held = room.log.hold();
    let part = [b'z'; 4 << 10];
    while room.log.counts(0)[2] == 0 {
        room.out(&part);
    }
    drop(held);
    settle(&room.log);
    let stored = room.log.counts(0)[1];
    for _ in 0..16 {
        room.out(&part);
    }
    room.end();
    settle(&room.log);
    room.balanced(0, 0);
    assert!(room.log.counts(0)[1] >= stored + (32 << 10), "{:?}", room.log.counts(0));
}

#[test]
fn a_module_does_not_wait_for_the_disk() {
    let room = Room::new(dropping());
    room.log.launched(1);
    let held = room.log.hold();
    for _ in 0..10 {
        room.log.record(Level::Info, "t", "one\ntwo");
    }
    assert_eq!(room.log.counts(2), [60, 0, 0]);
    drop(held);
    settle(&room.log);
    let lines = room.lines();
    assert_eq!(
        lines[..3],
        ["- INFO master: started (incarnation 1)", "- INFO t: one", "- INFO t: two"]
    );
    assert_eq!(lines.len(), 21);
    room.balanced(2, 0);
}

#[test]
fn all_that_is_queued_is_written_at_the_masters_end() {
    let room = Room::new(dropping());
    let held = room.log.hold();
    for number in 0..1_000 {
        room.out(line(number).as_bytes());
    }
    room.out(b"no end");
    room.logs.close(&room.worker);
    drop(held);
    room.logs.end();
    let lines = room.lines();
    assert_eq!((lines.len(), lines[1_000].as_str()), (1_001, "o+ no end"));
    assert!(lines[..1_000].iter().enumerate().all(|(at, line)| number(line) == at));
    room.balanced(0, 0);
    assert_eq!(room.log.totals().1, 0);
}

#[test]
fn a_disk_that_never_answers_does_not_hold_up_the_end() {
    let room = Room::new(dropping());
    let held = room.log.hold();
    for number in 0..1_000 {
        room.out(line(number).as_bytes());
    }
    // The first ones are taken out, to be written.
    let end = Instant::now() + PATIENCE;
    while room.log.waiting(0) == 100_000 {
        assert!(Instant::now() < end, "nobody writes");
        thread::yield_now();
    }
    let in_hand = 100_000 - room.log.waiting(0);
    room.log.finish(Instant::now());
    assert_eq!(room.log.counts(0), [100_000, 0, 100_000 - in_hand]);
    room.out(b"too late\n");
    drop(held);
    let end = Instant::now() + PATIENCE;
    while room.log.counts(0) != [100_009, in_hand, 100_009 - in_hand] {
        assert!(Instant::now() < end, "{:?}", room.log.counts(0));
        thread::yield_now();
    }
}

#[test]
fn another_policy_keeps_the_order() {
    let room = Room::new(dropping());
    let held = room.log.hold();
    room.out(b"one\n");
    room.log.configure(LogsConfig::default());
    thread::scope(|scope| {
        let waits = scope.spawn(|| room.out(b"two\n"));
        drop(held);
        waits.join().unwrap();
    });
    assert_eq!(room.lines(), ["o one", "o two"]);
    room.log.configure(dropping());
    room.out(b"three\n");
    settle(&room.log);
    room.log.configure(LogsConfig::default());
    room.out(b"four\n");
    assert_eq!(room.lines(), ["o one", "o two", "o three", "o four"]);
    room.balanced(0, 0);
}

#[test]
fn who_reads_sees_what_came_before_and_who_follows_what_comes() {
    let room = Room::new(dropping());
    room.out(b"one\n");
    let workers = std::slice::from_ref(&room.worker);
    let text = |bytes: &[u8]| String::from_utf8_lossy(&bytes[25..]).into_owned();
    let mut reader = room.logs.read(workers, &Query::last(10).follow()).unwrap();
    assert_eq!(text(&reader.next().unwrap().bytes), "o one\n");
    room.out(b"two\n");
    assert_eq!(text(&reader.next().unwrap().bytes), "o two\n");
}

#[test]
fn a_panic_of_the_thread_that_writes_costs_what_it_had_in_hand() {
    // No other log is to panic instead.
    if !alone::here(&[], a_panic_of_the_thread_that_writes_costs_what_it_had_in_hand) {
        return;
    }
    let room = Room::new(LogsConfig::default());
    let worker = WorkerId::new("panics").unwrap();
    let log = room.logs.configured(&worker, dropping());
    let out = |bytes: &[u8]| {
        let from = Outlet { worker: &worker, ..room.from(Stream::Stdout) };
        room.logs.output(from, bytes);
    };
    out(b"before\nno end ");
    settle(&log);
    fail_points::arm("log-writer");
    out(b"of this\nlost\n");
    settle(&log);
    assert!(!fail_points::is_armed("log-writer"));
    out(b"after\n");
    settle(&log);
    let text = std::fs::read_to_string(room.path("panics.log")).unwrap();
    let lines: Vec<_> = text.lines().map(|line| &line[25..]).collect();
    let mark = "- WARN master: 20 bytes lost: a fault of the master's own";
    assert_eq!(lines, ["o before", mark, "o after"]);
    assert_eq!(log.counts(0), [33, 13, 20]);
}

#[test]
fn pieces_that_are_written_together_are_whole_and_in_order_over_all_files() {
    let small = dropping().max_size(4096).max_files(1000);
    for settings in [dropping(), small, small.timestamps(false)] {
        let room = Room::new(settings);
        let held = room.log.hold();
        let all: String = (0..1_000).map(line).collect();
        for part in all.as_bytes().chunks(77) {
            room.out(part);
        }
        room.err(b"between\n");
        room.out(b"behind\n");
        drop(held);
        settle(&room.log);
        assert_eq!(room.log.totals(), (100_015, 0));
        let text = room.whole();
        let head = if settings.timestamps { 27 } else { 0 };
        let written = text.lines().map(|line| &line[head..]);
        assert!(written.eq(all.lines().chain(["between", "behind"])));
        assert_eq!(room.files().len() > 20, settings.max_size == 4096);
        room.balanced(0, 0);
        room.balanced(1, 0);
    }
}

#[test]
fn whoever_writes_beside_others_is_kept_in_order_and_counted() {
    let room = Room::new(dropping());
    let text = "z".repeat(500);
    // There is room for one of each.
    ["one", "two", "three"].iter().for_each(|name| room.log.record(Level::Info, name, "0 first"));
    room.out(line(0).as_bytes());
    thread::scope(|scope| {
        let module = |name: &'static str| {
            let (room, text) = (&room, &text);
            scope.spawn(move || {
                for number in 0..3_000 {
                    room.log.record(Level::Info, name, &format!("{number} {text}"));
                }
            })
        };
        let writers = ["one", "two", "three"].map(module);
        for number in 0..10_000 {
            room.out(line(number).as_bytes());
        }
        // A disk that answers now and then.
        while writers.iter().any(|writer| !writer.is_finished()) {
            let _held = room.log.hold();
            thread::yield_now();
        }
    });
    room.end();
    settle(&room.log);
    (0..3).for_each(|which| room.balanced(which, 0));
    let lines = room.lines();
    let (marks, kept): (Vec<_>, Vec<_>) =
        lines.into_iter().partition(|line| line.starts_with("- WARN master"));
    assert_eq!(marked(&marks), room.log.totals().1);
    for name in ["- INFO one: ", "- INFO two: ", "- INFO three: ", "o "] {
        let mine = kept.iter().filter_map(|line| line.strip_prefix(name));
        let number = |text: &str| text.split_once(' ').unwrap().0.parse().unwrap();
        let mine: Vec<u32> = mine.map(number).collect();
        assert!(mine.is_sorted() && !mine.is_empty(), "{name}{mine:?}");
    }
}
