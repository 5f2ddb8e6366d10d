//! What happens to files from outside, and what cannot be written.

use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::thread;
use std::time::{Duration, Instant};

use super::Room;
use crate::host::sys;
use crate::logs::{LogNews, Logs, Query};
use crate::worker::LogsConfig;

const PATIENCE: Duration = Duration::from_secs(30);

/// Writes a line again and again until it is so; for what is noticed only after a time.
#[track_caller]
fn write_until(room: &Room, so: impl Fn(&Room) -> bool) {
    let end = Instant::now() + Duration::from_secs(30);
    while !so(room) {
        assert!(Instant::now() < end, "it never came to that: {:?}", room.whole());
        room.out(b"again\n");
        thread::yield_now();
    }
}

#[test]
fn a_removed_directory_is_made_again() {
    let room = Room::new(LogsConfig::default());
    room.out(b"before\n");
    fs::remove_dir_all(room.directory()).unwrap();
    write_until(&room, |room| room.path("w.log").exists());
    let mode = fs::metadata(room.directory()).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o700);
    assert_eq!(room.log.totals().1, 0);
    // At once, when it is asked for.
    fs::remove_dir_all(room.directory()).unwrap();
    room.logs.reopen();
    room.out(b"after\n");
    assert_eq!(room.lines(), ["o after"]);
}

#[test]
fn a_log_that_was_moved_or_cut_short_is_noticed() {
    let room = Room::new(LogsConfig::default());
    room.out(b"one\n");
    fs::rename(room.path("w.log"), room.path("mine")).unwrap();
    write_until(&room, |room| room.path("w.log").exists());
    assert!(fs::read_to_string(room.path("mine")).unwrap().contains("o one\n"));
    fs::File::options().write(true).open(room.path("w.log")).unwrap().set_len(0).unwrap();
    room.out(b"two\n");
    // No hole is left: what is written goes where the file ends.
    assert_eq!(room.lines(), ["o two"]);
}

#[test]
fn links_and_what_is_no_file_are_refused_and_lost_lines_counted() {
    let room = Room::new(LogsConfig::default());
    let elsewhere = room.room.path().join("elsewhere");
    fs::write(&elsewhere, "").unwrap();
    symlink(&elsewhere, room.path("w.log")).unwrap();
    let news = room.news();
    room.out(b"lost\n");
    assert_eq!(fs::read(&elsewhere).unwrap(), b"");
    assert_eq!(room.log.counts(0), [5, 0, 5]);
    let trouble = room.log.last_trouble().unwrap();
    assert!(trouble.message.contains("symbolic link"), "{trouble:?}");
    assert!(trouble.since.is_some_and(|since| since <= trouble.at));
    let (path, message) = (room.path("w.log"), trouble.message);
    assert_eq!(news.recv_timeout(PATIENCE).unwrap(), LogNews::Degraded { path, message });
    fs::remove_file(room.path("w.log")).unwrap();
    // Before it is tried again, what comes is lost too; the end of the output is such a try.
    room.out(b"too");
    room.end();
    room.out(b"kept\n");
    let lines = room.lines();
    assert_eq!(lines.len(), 2, "{lines:?}");
    assert!(lines[0].starts_with("- WARN master: 8 bytes lost: "), "{lines:?}");
    assert_eq!(lines[1], "o kept");
    let path = room.path("w.log");
    assert_eq!(news.recv_timeout(PATIENCE).unwrap(), LogNews::Recovered { path, dropped: 8 });
    assert_eq!(room.log.last_trouble().unwrap().since, None);
    assert_eq!(news.try_recv().ok(), None);
    room.balanced(0, 0);
}

#[test]
fn a_trouble_that_cost_no_output_does_not_say_that_it_cost_nothing_at_all() {
    let room = Room::new(LogsConfig::default());
    let news = room.news();
    fs::create_dir(room.path("w.log")).unwrap();
    room.log.started(1, 77);
    let LogNews::Degraded { message, .. } = news.recv_timeout(PATIENCE).unwrap() else {
        panic!("it was never degraded");
    };
    fs::remove_dir(room.path("w.log")).unwrap();
    room.end();
    let LogNews::Recovered { dropped: 0, .. } = news.recv_timeout(PATIENCE).unwrap() else {
        panic!("it was never written again");
    };
    let expected = format!("- WARN master: nothing lost but lines of the master's own: {message}");
    assert_eq!(room.lines(), [expected]);
}

#[test]
fn a_line_without_an_end_that_cannot_be_written_is_counted() {
    let room = Room::new(LogsConfig::default());
    room.out(b"one\nno end");
    room.balanced(0, 6);
    // It would be opened again for that.
    fs::remove_file(room.path("w.log")).unwrap();
    fs::create_dir(room.path("w.log")).unwrap();
    room.logs.reopen();
    room.end();
    assert_eq!(room.log.counts(0), [10, 4, 6]);
    fs::remove_dir(room.path("w.log")).unwrap();
    room.end();
    let lines = room.lines();
    assert!(lines[0].starts_with("- WARN master: 6 bytes lost: "), "{lines:?}");
}

#[test]
fn a_directory_that_is_a_link_or_a_file_is_an_error_at_once() {
    let room = tempfile::tempdir().unwrap();
    let (link, file) = (room.path().join("link"), room.path().join("file"));
    symlink(room.path(), &link).unwrap();
    fs::write(&file, "").unwrap();
    for path in [&link, &file] {
        let error = Logs::open(Some(path), 0).err().unwrap().to_string();
        assert!(error.contains(&path.display().to_string()), "{error}");
    }
}

/// Where a small file system of its own can be had, it is filled; else this says so and does
/// nothing.
#[test]
fn a_full_disk_costs_what_is_counted_and_nothing_else() {
    let room = Room::new(LogsConfig::default());
    let Some(_mounted) = Mounted::on(&room) else {
        eprintln!("skipped: no file system can be mounted here");
        return;
    };
    let news = room.news();
    let line = [&[b'x'; 999][..], b"\n"].concat();
    for _ in 0..4000 {
        room.out(&line);
    }
    let [taken, stored, dropped] = room.log.counts(0);
    assert_eq!(taken, 4_000_000);
    assert!(stored > 500_000 && dropped > 2_000_000, "{stored} {dropped}");
    room.balanced(0, 0);
    // Every line that is there is whole.
    assert_eq!(room.lines().len() as u64 * 1000, stored);
    assert!(room.lines().iter().all(|line| line.len() == 1001));

    fs::remove_file(room.path("ballast")).unwrap();
    write_until(&room, |room| room.whole().contains("bytes lost: "));
    let lines = room.lines();
    let note = lines.iter().find(|line| line.contains("bytes lost")).unwrap();
    let lost: u64 = note.split(' ').nth(3).unwrap().parse().unwrap();
    assert_eq!(lost, room.log.totals().1);
    let told: Vec<_> = news.try_iter().collect();
    let [LogNews::Degraded { message, .. }, LogNews::Recovered { dropped, .. }] = &told[..] else {
        panic!("{told:?}");
    };
    assert!(message.contains("No space left"), "{message}");
    assert_eq!(*dropped, lost);
    assert!(note.starts_with("- WARN master: ") && note.contains("No space left"), "{note}");
    room.balanced(0, 0);
}

#[test]
fn l08_a_directory_that_is_read_only_costs_what_is_counted_until_it_is_not() {
    let room = Room::new(LogsConfig::default());
    room.logs.end();
    let Some(mounted) = Mounted::on(&room) else {
        eprintln!("skipped: no file system can be mounted here");
        return;
    };
    let room = room.again(LogsConfig::default());
    room.out(b"before\n");
    room.end();
    room.logs.end();
    assert!(mounted.again("ro"));
    let room = room.again(LogsConfig::default());
    let news = room.news();
    room.out(b"lost\n");
    assert_eq!(room.log.counts(0), [5, 0, 5]);
    let LogNews::Degraded { message, .. } = news.recv_timeout(PATIENCE).unwrap() else {
        panic!("it was never degraded");
    };
    assert!(message.contains("Read-only"), "{message}");
    let query = Query::last(10);
    let read = room.logs.read(std::slice::from_ref(&room.worker), &query).unwrap();
    let read: Vec<_> = read.flat_map(|entry| entry.bytes).collect();
    assert!(read.ends_with(b" o before\n"), "what is there can be read");
    assert!(mounted.again("rw"));
    write_until(&room, |room| room.whole().contains("bytes lost: "));
    room.out(b"kept\n");
    assert_eq!(room.lines().last().unwrap(), "o kept");
    assert!(room.path(".lock").exists(), "from now on it is held");
    room.balanced(0, 0);
}

/// A file system of two megabytes with half a megabyte of something else on it.
struct Mounted(std::path::PathBuf);

impl Mounted {
    fn on(room: &Room) -> Option<Self> {
        let directory = room.directory();
        let mut mount = std::process::Command::new("mount");
        mount.args(["-t", "tmpfs", "-o", "size=2m,mode=0700", "tmpfs"]).arg(&directory);
        let mounted = mount.output().is_ok_and(|ended| ended.status.success());
        mounted.then(|| {
            fs::write(directory.join("ballast"), vec![0; 512 << 10]).unwrap();
            Self(directory)
        })
    }
}

impl Mounted {
    /// Mounts it again, to be read alone or to be written.
    fn again(&self, how: &str) -> bool {
        let mut mount = std::process::Command::new("mount");
        mount.args(["-o", &format!("remount,{how}")]).arg(&self.0);
        mount.status().is_ok_and(|ended| ended.success())
    }
}

impl Drop for Mounted {
    fn drop(&mut self) {
        let _ = std::process::Command::new("umount").arg("-l").arg(&self.0).status();
    }
}

#[test]
fn the_limit_of_file_sizes_bounds_a_log_and_kills_nobody() {
    let shell = ["sh", "-c", r#"ulimit -f 8; exec "$@""#, "sh"];
    if !crate::host::alone::here(&shell, the_limit_of_file_sizes_bounds_a_log_and_kills_nobody) {
        return;
    }
    sys::survive_file_size_limit().unwrap();
    let limit = sys::file_size_limit();
    assert!(limit <= 8192, "{limit}");
    let room = Room::new(LogsConfig::default().max_files(1000));
    for _ in 0..1000 {
        room.out(&[&[b'x'; 99][..], b"\n"].concat());
    }
    assert_eq!(room.lines().len(), 1000);
    room.balanced(0, 0);
    assert_eq!(room.log.totals().1, 0);
    // And what is larger than the limit all the same is an error.
    let path = room.path("large");
    let error = fs::write(path, vec![0; 9000]).unwrap_err();
    assert_eq!(error.kind(), std::io::ErrorKind::FileTooLarge);
}
