//! The journal of events: in order, bounded, and honest about what is missing.

use std::fs;
use std::os::unix::fs::symlink;
use std::sync::Arc;
use std::sync::mpsc::channel;
use std::thread;
use std::time::{Duration, Instant};

use super::Room;
use crate::host::alone;
use crate::host::sys;
use crate::host::threads::fail_points;
use crate::logs::home::Home;
use crate::logs::journal::{MOST, Scribe};
use crate::logs::reader::last_lines;
use crate::logs::rotating::Limits;
use crate::logs::trouble::{LogNews, Told};
use crate::worker::LogsConfig;

const PATIENCE: Duration = Duration::from_secs(30);

fn events(room: &Room) -> Vec<serde_json::Value> {
    room.logs.past_events(usize::MAX).unwrap()
}

#[test]
fn what_was_told_before_the_end_is_written_in_order() {
    let room = Room::new(LogsConfig::default());
    let scribe = room.logs.scribe().unwrap();
    for n in 0..1000 {
        assert!(scribe.line(Box::new(move || format!("{{\"n\":{n}}}"))));
    }
    room.logs.end();
    let numbers: Vec<_> = events(&room).iter().map(|event| event["n"].as_u64().unwrap()).collect();
    assert_eq!(numbers, (0..1000).collect::<Vec<_>>());
    assert_eq!(room.logs.past_events(3).unwrap().len(), 3);
    assert!(!scribe.line(Box::new(String::new)), "nobody writes any more");
}

#[test]
fn too_many_at_once_are_refused_and_hold_up_nobody() {
    let room = Room::new(LogsConfig::default());
    let scribe = room.logs.scribe().unwrap();
    let (release, released) = channel::<()>();
    let (begun, begins) = channel();
    scribe.line(Box::new(move || {
        begun.send(()).unwrap();
        released.recv().unwrap();
        "{}".to_owned()
    }));
    begins.recv_timeout(PATIENCE).unwrap();
    let told = (0..MOST + 10).filter(|_| scribe.line(Box::new(|| "{}".to_owned()))).count();
    assert_eq!(told, MOST - 1, "one is being written");
    release.send(()).unwrap();
    // There is room again as soon as something is written.
    let end = Instant::now() + PATIENCE;
    let (all, is_all) = channel();
    while !scribe.line(Box::new({
        let all = all.clone();
        move || {
            all.send(()).unwrap();
            "{}".to_owned()
        }
    })) {
        assert!(Instant::now() < end);
        thread::yield_now();
    }
    is_all.recv_timeout(PATIENCE).unwrap();
    room.logs.end();
    assert_eq!(events(&room).len(), MOST + 1);
}

#[test]
fn events_that_cannot_be_written_are_counted() {
    let room = Room::new(LogsConfig::default());
    let scribe = room.logs.scribe().unwrap();
    symlink("/dev/null", room.path("events.jsonl")).unwrap();
    let tell = || {
        let (written, is_written) = channel();
        scribe.line(Box::new(move || {
            written.send(()).unwrap();
            "{}".to_owned()
        }));
        is_written.recv_timeout(PATIENCE).unwrap();
    };
    // One that is written at once, so that the next is not even made before.
    scribe.line(Box::new(|| format!("\"{}\"", "x".repeat(64 << 10))));
    tell();
    let mut told = 2;
    fs::remove_file(room.path("events.jsonl")).unwrap();
    let end = Instant::now() + PATIENCE;
    while events(&room).len() < 3 {
        assert!(Instant::now() < end, "it is not tried again");
        tell();
        told += 1;
        thread::yield_now();
    }
    room.logs.end();
    let events = events(&room);
    assert_eq!(events[0]["event"], "missed");
    let missed = events[0]["count"].as_u64().unwrap();
    assert!(missed >= 2, "{missed}");
    assert_eq!(missed + events.len() as u64 - 1, told);
}

#[test]
fn events_are_rotated_and_read_over_all_files() {
    let room = tempfile::tempdir().unwrap();
    let home = Arc::new(Home::take(&room.path().join("logs"), "n").unwrap());
    let limits = Limits { max_size: 1024, max_files: 4, whole_lines: true };
    let (scribe, file) = Scribe::start(&home, &Arc::<Told>::default(), limits).unwrap();
    for number in 0..1_000 {
        scribe.line(Box::new(move || format!("{{\"n\":{number},\"x\":\"{:060}\"}}", 0)));
        // Else all would be written at once, and so rotated at once.
        if number % 10 == 0 {
            scribe.flush();
        }
    }
    scribe.end();
    let mut names = Vec::new();
    for entry in fs::read_dir(home.path()).unwrap() {
        let entry = entry.unwrap();
        let name = entry.file_name().into_string().unwrap();
        if name != ".lock" {
            assert!(entry.metadata().unwrap().len() <= 1024, "{name}");
            names.push(name);
        }
    }
    names.sort_unstable();
    assert_eq!(names, ["events.jsonl", "events.jsonl.1", "events.jsonl.2", "events.jsonl.3"]);
    let number = |line: &Vec<u8>| {
        let event: serde_json::Value = serde_json::from_slice(line).unwrap();
        event["n"].as_u64().unwrap()
    };
    let numbers: Vec<_> = last_lines(&*file, usize::MAX).unwrap().iter().map(number).collect();
    // Three full files, and what there is of a fourth.
    assert!(numbers.len() >= 3 * 13, "{numbers:?}");
    assert!(numbers.windows(2).all(|pair| pair[0] + 1 == pair[1]), "{numbers:?}");
    assert_eq!(numbers.last(), Some(&999));
}

#[test]
fn that_events_cannot_be_written_is_told_and_so_is_the_end_of_it() {
    let room = Room::new(LogsConfig::default());
    let (tell, told) = channel();
    room.logs.on_trouble(move |worker, news| {
        assert_eq!(worker, None);
        let _ = tell.send(news);
    });
    let scribe = room.logs.scribe().unwrap();
    let path = room.path("events.jsonl");
    fs::create_dir(&path).unwrap();
    let mut lost = 0;
    let mut tell_one = || {
        scribe.line(Box::new(|| "{}".to_owned()));
        scribe.flush();
        lost += 1;
    };
    tell_one();
    let LogNews::Degraded { path: of, message } = told.recv_timeout(PATIENCE).unwrap() else {
        panic!("it was never degraded");
    };
    assert_eq!(of, path);
    assert!(message.contains("directory"), "{message}");
    fs::remove_dir(&path).unwrap();
    let end = Instant::now() + PATIENCE;
    let dropped = loop {
        assert!(Instant::now() < end, "it is not tried again");
        tell_one();
        match told.try_recv() {
            Ok(LogNews::Recovered { dropped, .. }) => break dropped,
            Ok(news) => panic!("{news:?}"),
            Err(_) => thread::yield_now(),
        }
    };
    assert_eq!(dropped, lost - 1);
}

/// What was written of a batch is not lost, nor is the line that says what was lost before.
#[test]
fn events_that_are_written_in_part_are_not_counted_as_lost() {
    let shell = ["sh", "-c", r#"ulimit -f 8; exec "$@""#, "sh"];
    let here = events_that_are_written_in_part_are_not_counted_as_lost;
    if !alone::here(&shell, here) {
        return;
    }
    sys::survive_file_size_limit().unwrap();
    assert!(sys::file_size_limit() <= 8192);
    let room = tempfile::tempdir().unwrap();
    let home = Arc::new(Home::take(&room.path().join("logs"), "n").unwrap());
    let limits = Limits { max_size: u64::MAX, max_files: 2, whole_lines: true };
    let told = Arc::<Told>::default();
    let (tell, news) = channel();
    told.listen(Box::new(move |_, news| drop(tell.send(news))));
    let (scribe, file) = Scribe::start(&home, &told, limits).unwrap();
    let mut told = 0;
    // So many at once: the first one holds up the others until all are there.
    let mut tell = |count: u64| {
        let (release, released) = channel::<()>();
        scribe.line(Box::new(move || {
            let _ = released.recv();
            format!("{{\"first\":\"{:090}\"}}", 0)
        }));
        for _ in 1..count {
            scribe.line(Box::new(|| format!("{{\"other\":\"{:090}\"}}", 0)));
        }
        drop(release);
        scribe.flush();
        told += count;
    };
    // What the file has, which is then taken away: how many were missed, and what follows.
    let take = || {
        let lines = last_lines(&*file, usize::MAX).unwrap();
        fs::remove_file(home.path().join("events.jsonl")).unwrap();
        let first: serde_json::Value = serde_json::from_slice(&lines[0]).unwrap();
        let missed = first["count"].as_u64();
        (missed.unwrap_or(0), lines.len() as u64 - u64::from(missed.is_some()))
    };
    tell(120);
    let LogNews::Degraded { .. } = news.recv_timeout(PATIENCE).unwrap() else {
        panic!("it was never degraded");
    };
    let (missed, mut kept) = take();
    assert_eq!(missed, 0);
    assert!((1..120).contains(&kept), "{kept}");
    let mut lost = 0;
    let end = Instant::now() + PATIENCE;
    while !home.path().join("events.jsonl").exists() {
        assert!(Instant::now() < end, "it is not tried again");
        tell(120);
    }
    let (missed, some) = take();
    assert!(missed > 0 && (1..120).contains(&some), "{missed} {some}");
    (lost, kept) = (lost + missed, kept + some);
    let dropped = loop {
        assert!(Instant::now() < end, "it is not tried again");
        tell(1);
        match news.try_recv() {
            Ok(LogNews::Recovered { dropped, .. }) => break dropped,
            Ok(news) => panic!("{news:?}"),
            Err(_) => thread::yield_now(),
        }
    };
    let (missed, one) = take();
    assert_eq!(one, 1);
    lost += missed;
    assert_eq!(kept + one + lost, told);
    assert_eq!(dropped, lost);
}

#[test]
fn a_panic_costs_neither_the_room_of_a_message_nor_the_end() {
    if !alone::here(&[], a_panic_costs_neither_the_room_of_a_message_nor_the_end) {
        return;
    }
    let arm = || {
        fail_points::arm("journal");
        "{\"event\":\"last\"}".to_owned()
    };
    let room = Room::new(LogsConfig::default());
    let scribe = room.logs.scribe().unwrap();
    scribe.line(Box::new(arm));
    scribe.line(Box::new(|| "{\"event\":\"lost\"}".to_owned()));
    scribe.flush();
    assert!(!fail_points::is_armed("journal"));
    let (release, released) = channel::<()>();
    let (begun, begins) = channel();
    scribe.line(Box::new(move || {
        begun.send(()).unwrap();
        let _ = released.recv();
        "{}".to_owned()
    }));
    begins.recv_timeout(PATIENCE).unwrap();
    let told = (0..MOST + 10).filter(|_| scribe.line(Box::new(|| "{}".to_owned()))).count();
    assert_eq!(told, MOST - 1, "one is being written");
    drop(release);
    room.logs.end();

    let room = Room::new(LogsConfig::default());
    let scribe = room.logs.scribe().unwrap();
    scribe.line(Box::new(arm));
    room.logs.end();
    assert!(!fail_points::is_armed("journal"));
    assert_eq!(events(&room)[0]["event"], "last");
    let end = Instant::now() + PATIENCE;
    while scribe.line(Box::new(|| "{}".to_owned())) {
        assert!(Instant::now() < end, "it has not ended");
        thread::yield_now();
    }
}
