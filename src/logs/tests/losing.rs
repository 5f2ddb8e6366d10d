//! What logs that never wait for the disk lose, and what they must not (FAULTS L14): at the ends of
//! incarnations, beside other troubles, and where there is no thread that writes.

use std::fs;
use std::thread;
use std::time::{Duration, Instant};

use log::Level;

use super::Room;
use super::overflow::{PATIENCE, WHY, dropping, fill, in_hand, settle};
use crate::host::{Outlet, OutputSink, Stream, alone, threads};
use crate::logs::LogNews;
use crate::logs::worker::queue::{MOST, RESERVE};
use crate::worker::LogsConfig;

/// Writes as another incarnation.
fn out_of(room: &Room, incarnation: u64, bytes: &[u8]) {
    room.logs.output(Outlet { incarnation, ..room.from(Stream::Stdout) }, bytes);
}

/// The lines of a log that its worker wrote.
fn own_lines(room: &Room) -> Vec<String> {
    room.lines().into_iter().filter(|line| !line.starts_with('-')).collect()
}

#[test]
fn a_line_that_is_lost_takes_none_of_an_earlier_incarnation_with_it() {
    // The last words wait in the queue, with their end, or are with who writes.
    for (ends, is_waiting) in [(true, true), (false, true), (false, false)] {
        let room = Room::new(dropping());
        let held = room.log.hold();
        if is_waiting {
            room.log.record(Level::Info, "t", "in hand");
            let end = Instant::now() + PATIENCE;
            while room.log.waiting(2) > 0 {
                assert!(Instant::now() < end, "nobody writes");
                thread::yield_now();
            }
        }
        out_of(&room, 1, b"the last words of one");
        if !is_waiting {
            in_hand(&room);
        }
        if ends {
            room.logs.end_of_output(room.from(Stream::Stdout));
        }
        out_of(&room, 2, b"two begins ");
        fill(&room);
        out_of(&room, 2, b"and goes on\n");
        assert_eq!(room.log.counts(0), [44, 0, 23], "{ends} {is_waiting}");
        drop(held);
        settle(&room.log);
        room.logs.end_of_output(room.from(Stream::Stdout));
        settle(&room.log);
        assert_eq!(room.log.counts(0), [44, 21, 23], "{ends} {is_waiting}");
        assert_eq!(own_lines(&room), ["o+ the last words of one"]);
    }
}

#[test]
fn a_file_that_cannot_be_written_and_a_slow_disk_are_troubles_of_their_own() {
    let room = Room::new(dropping());
    let news = room.news();
    let path = room.path("w.log");
    let degraded =
        |message: &str| LogNews::Degraded { path: path.clone(), message: message.to_owned() };
    let held = room.log.hold();
    fill(&room);
    assert_eq!(news.recv_timeout(PATIENCE).unwrap(), degraded(WHY));
    fs::create_dir(&path).unwrap();
    drop(held);
    let message = match news.recv_timeout(PATIENCE).unwrap() {
        LogNews::Degraded { message, .. } => message,
        news @ LogNews::Recovered { .. } => panic!("{news:?}"),
    };
    assert!(message.contains("directory"), "{message}");
    // The disk takes all again long before the file is tried again.
    let end = Instant::now() + PATIENCE;
    let is_slow = || room.log.troubles() == [true, true];
    while is_slow() {
        assert!(Instant::now() < end, "it is slow for ever");
        thread::yield_now();
    }
    assert!(news.try_recv().is_err(), "it is not over");
    let trouble = room.log.last_trouble().unwrap();
    assert!(trouble.since.is_some() && trouble.message == message, "{trouble:?}");
    fs::remove_dir(&path).unwrap();
    let recovered = loop {
        assert!(Instant::now() < end, "it is not tried again");
        room.log.record(Level::Info, "t", "again");
        room.log.settle(end);
        match news.try_recv() {
            Ok(told) => break told,
            Err(_) => thread::yield_now(),
        }
    };
    let dropped = room.log.totals().1;
    assert_eq!(recovered, LogNews::Recovered { path, dropped });
    assert_eq!(room.log.last_trouble().unwrap().since, None);
}

#[test]
fn a_record_of_any_length_is_kept_where_nothing_else_waits() {
    let room = Room::new(dropping());
    let long = "z".repeat(2 << 20);
    room.log.record(Level::Info, "t", &long);
    settle(&room.log);
    let held = room.log.hold();
    room.log.record(Level::Info, "t", "in hand");
    room.log.record(Level::Info, "t", "waits");
    room.log.record(Level::Info, "t", &long);
    drop(held);
    settle(&room.log);
    let all = (2 << 20) + 12;
    let counts = room.log.counts(2);
    // If the first one was not in hand by then, neither fits.
    assert_eq!(counts, [all + (2 << 20), all, 2 << 20]);
}

#[test]
fn what_waits_is_written_though_no_thread_is_to_be_had() {
    if !alone::here(&[], what_waits_is_written_though_no_thread_is_to_be_had) {
        return;
    }
    let room = Room::new(dropping());
    let refused = threads::refuse_all();
    room.out(b"one\n");
    room.out(b"two\n");
    assert!(!room.log.queue_now().1 && room.log.waiting(0) == 8);
    // By who closes it.
    room.log.close();
    assert_eq!(room.lines(), ["o one", "o two"]);
    room.out(b"three\n");
    // By who comes next, under another policy.
    room.log.configure(LogsConfig::default());
    room.out(b"four\n");
    assert_eq!(room.lines()[2..], ["o three", "o four"]);
    room.log.configure(dropping());
    room.out(b"five\n");
    drop(refused);
    room.out(b"six\n");
    settle(&room.log);
    assert_eq!(room.lines()[4..], ["o five", "o six"]);
    assert!(room.log.queue_now().1);
    assert_eq!(room.log.counts(0), [28, 28, 0]);
}

#[test]
fn who_writes_for_a_worker_that_is_forgotten_does_not_stay() {
    let room = Room::new(dropping());
    let used = room.logs.worker(&room.worker);
    room.logs.forget(&room.worker);
    // What it has left behind writes for the first time.
    used.output(room.from(Stream::Stdout), b"late\n");
    let end = Instant::now() + PATIENCE;
    while used.queue_now().1 {
        assert!(Instant::now() < end, "the thread that writes does not end");
        thread::yield_now();
    }
    assert_eq!(room.lines(), ["o late"]);
}

#[test]
fn an_end_is_heeded_however_much_waits() {
    let room = Room::new(dropping());
    let held = room.log.hold();
    room.out(b"no end");
    let text = "y".repeat(1000);
    fill(&room);
    // Beyond the reserve.
    let mut before = 0;
    while room.log.queue_now().0 > before {
        before = room.log.queue_now().0;
        room.logs.unattended(&room.worker, 1);
    }
    assert!((MOST..=MOST + RESERVE).contains(&before), "{before}");
    for incarnation in (1..1_000).rev() {
        room.logs.unattended(&room.worker, 1);
        room.log.record(Level::Info, "t", &text);
        let from = Outlet { incarnation, ..room.from(Stream::Stdout) };
        room.logs.end_of_output(from);
    }
    assert!(room.log.queue_now().0 < before + 1_000);
    drop(held);
    settle(&room.log);
    assert_eq!(own_lines(&room), ["o+ no end"]);
    room.balanced(0, 0);
}

#[test]
fn who_waits_for_what_is_written_waits_for_the_mark_too() {
    let room = Room::new(dropping());
    let held = room.log.hold();
    fill(&room);
    for grows in [true, false, false] {
        let before = room.log.queue_now().0;
        room.log.settle(Instant::now());
        assert_eq!(room.log.queue_now().0 > before, grows);
        // What is lost now is said there, too.
        room.log.record(Level::Info, "t", "lost as well");
    }
    drop(held);
    settle(&room.log);
    let lost = room.log.totals().1;
    assert_eq!(room.lines().last().unwrap(), &format!("- WARN master: {lost} bytes lost: {WHY}"));
}

#[test]
fn marks_are_in_the_order_of_time() {
    let room = Room::new(dropping());
    let held = room.log.hold();
    fill(&room);
    room.logs.unattended(&room.worker, 1);
    let later = Instant::now() + Duration::from_millis(5);
    while Instant::now() < later {
        thread::yield_now();
    }
    drop(held);
    settle(&room.log);
    let whole = room.whole();
    let (before, last) = whole.trim_end().rsplit_once('\n').unwrap();
    assert!(last.contains("written while no master ran"), "{last}");
    assert!(before.ends_with(WHY), "{}", &before[before.len() - 100..]);
    assert!(whole.lines().map(|line| &line[..24]).is_sorted());
}

#[test]
fn a_record_without_text_that_is_lost_leaves_no_mark() {
    let room = Room::new(dropping());
    let held = room.log.hold();
    fill(&room);
    let dropped = room.log.totals().1;
    // With it what is lost by then is said.
    room.logs.unattended(&room.worker, 1);
    room.log.record(Level::Info, "t", "");
    drop(held);
    settle(&room.log);
    let lines = room.lines();
    let marks: Vec<_> = lines.iter().filter(|line| line.starts_with("- WARN master: ")).collect();
    assert_eq!(marks, [&format!("- WARN master: {dropped} bytes lost: {WHY}")]);
}
