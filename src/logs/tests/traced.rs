//! What only strace can bring about: a master that is killed within a rotation, at each of its
//! system calls, and calls that fail (FAULTS L06, L10). Where a thread cannot be traced, the tests
//! say so and do nothing.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{BufRead, BufReader, Write, stdin};
use std::path::Path;
use std::process::{Child, ChildStderr, Command, Stdio};
use std::sync::mpsc::channel;
use std::thread;
use std::time::{Duration, Instant};

use super::{Room, small};
use crate::host::{Dialect, Outlet, OutputSink, Stream, threads};
use crate::logs::{LogNews, Logs};
use crate::worker::{LogsConfig, WorkerId};

const PATIENCE: Duration = Duration::from_secs(30);
const STACK: usize = 256 << 10;
/// Where the process that is to be killed writes.
const DIRECTORY: &str = "HSU_TEST_KILLED_IN";

/// The number of the thread that asks.
fn own_thread() -> String {
    let link = fs::read_link("/proc/thread-self").unwrap();
    link.file_name().unwrap().to_str().unwrap().to_owned()
}

/// strace, and what it says beside its output, which it is not to end for want of a reader of.
struct Strace(Child, BufReader<ChildStderr>);

impl Strace {
    /// Waits until the thread that is traced has ended.
    fn wait(mut self) {
        self.0.wait().unwrap();
        drop(self.1);
    }
}

/// strace on a thread, once it has it. `None`: it cannot have it.
fn traced(thread: &str, arguments: &[&str]) -> Option<Strace> {
    let mut strace = Command::new("strace");
    strace.args(["-p", thread]).args(arguments).stdin(Stdio::null()).stderr(Stdio::piped());
    let Ok(mut strace) = strace.spawn() else {
        eprintln!("skipped: there is no strace here");
        return None;
    };
    let mut said = String::new();
    let mut lines = BufReader::new(strace.stderr.take().unwrap());
    lines.read_line(&mut said).unwrap();
    if said.contains("attached") {
        return Some(Strace(strace, lines));
    }
    strace.wait().unwrap();
    eprintln!("skipped: a thread cannot be traced here: {said}");
    None
}

/// Two of these lines make a file full.
fn keep() -> LogsConfig {
    small().max_files(3)
}

fn line(number: usize) -> String {
    format!("{number:04} {}\n", "x".repeat(1_900))
}

const LINES: usize = 8;

/// The process that is killed: writes lines, and says of each that it is written.
fn victim(directory: &Path) {
    let logs = Logs::open(Some(&directory.join("logs")), 0).unwrap();
    let worker = WorkerId::new("w").unwrap();
    logs.configured(&worker, keep());
    let mut written = File::create(directory.join("written")).unwrap();
    let write = move || {
        eprintln!("writer {}", own_thread());
        stdin().read_line(&mut String::new()).unwrap();
        for number in 1..=LINES {
            let (incarnation, stream, dialect) = (1, Stream::Stdout, Dialect::Plain);
            let from = Outlet { worker: &worker, incarnation, stream, dialect };
            logs.output(from, line(number).as_bytes());
            written.write_all(format!("{number}\n").as_bytes()).unwrap();
        }
    };
    threads::spawn("writer", STACK, write).unwrap().join().unwrap();
}

/// Runs a victim under strace. False: that cannot be.
fn run_victim(directory: &Path, arguments: &[&str]) -> bool {
    let name = "logs::tests::traced::l10_a_rotation_killed_at_any_call_loses_no_line";
    let mut victim = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", name, "--nocapture", "--test-threads=1"])
        .env(DIRECTORY, directory)
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut said = BufReader::new(victim.stderr.take().unwrap()).lines();
    let writer = said.find_map(|line| Some(line.unwrap().strip_prefix("writer ")?.to_owned()));
    let strace = traced(&writer.unwrap(), arguments);
    // Without strace it ends by itself.
    victim.stdin.take().unwrap().write_all(b"go\n").unwrap();
    said.for_each(drop);
    victim.wait().unwrap();
    strace.map(Strace::wait).is_some()
}

#[test]
fn l10_a_rotation_killed_at_any_call_loses_no_line() {
    if let Some(directory) = std::env::var_os(DIRECTORY) {
        return victim(Path::new(&directory));
    }
    let room = tempfile::tempdir().unwrap();
    let calls = room.path().join("calls");
    if !run_victim(room.path(), &["-o", calls.to_str().unwrap()]) {
        return;
    }
    let calls = fs::read_to_string(calls).unwrap();
    let renames = calls.matches("rename").count();
    // Of three rotations the first has nothing older to move.
    assert_eq!(renames, 5, "{calls}");
    let mut made: BTreeMap<&str, usize> = BTreeMap::new();
    for call in calls.lines().filter_map(|line| Some(line.split_once('(')?.0)) {
        if ["openat", "statx", "rename", "write", "pread64", "close"].contains(&call) {
            *made.entry(call).or_default() += 1;
        }
    }
    let (mut runs, mut killed) = (0, 0);
    for (call, count) in made {
        for nth in 1..=count {
            let room = tempfile::tempdir().unwrap();
            let inject = format!("inject={call}:signal=KILL:when={nth}");
            assert!(run_victim(room.path(), &["-o", "/dev/null", "-e", &inject]));
            killed += usize::from(look_at_what_is_left(room, &inject));
            runs += 1;
        }
    }
    assert!(killed > 3 * runs / 4, "{killed} of {runs}");
}

/// True: it was killed before the end.
fn look_at_what_is_left(room: tempfile::TempDir, call: &str) -> bool {
    let written = fs::read_to_string(room.path().join("written")).unwrap().lines().count();
    let logs = Logs::open(Some(&room.path().join("logs")), 0).unwrap();
    let worker = WorkerId::new("w").unwrap();
    let log = logs.configured(&worker, keep());
    let room = Room { room, worker, logs, log };
    room.out(b"next\n");
    let mut lines = room.lines();
    assert_eq!(lines.pop().unwrap(), "o next");
    let told = |line: &String| {
        assert!(line.ends_with(&format!(" {}", "x".repeat(1_900))), "{call}: {line}");
        line[2..6].parse::<usize>().unwrap()
    };
    let numbers: Vec<usize> = lines.iter().map(told).collect();
    assert!(numbers.windows(2).all(|pair| pair[0] + 1 == pair[1]), "{call}: {numbers:?}");
    // What was being written when it was killed may be there.
    let last = numbers.last().copied().unwrap_or(0);
    assert!(last == written || last == written + 1, "{call}: {numbers:?}, {written} written");
    // Only the oldest file may be gone, once there were more than are kept.
    let first = numbers.first().copied().unwrap_or(1);
    assert!(first == 1 || numbers.len() >= 3, "{call}: {numbers:?}");
    let mut names: Vec<_> = fs::read_dir(room.directory())
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .filter(|name| name.starts_with("w.log"))
        .collect();
    names.sort_unstable();
    let expected = ["w.log", "w.log.1", "w.log.2"];
    assert_eq!(names, expected[..names.len()], "{call}");
    written < LINES
}

/// Writes lines on a thread of which the calls fail that `inject` says, until it is known to be
/// written again. Nothing: it cannot be traced.
fn written_with_failures(inject: &str) {
    let room = Room::new(small().max_files(1_000));
    let news = room.news();
    let (tell, told) = channel();
    let (go, gone) = channel::<bool>();
    let (done, is_done) = channel();
    let write = move || {
        tell.send(own_thread()).unwrap();
        let end = Instant::now() + PATIENCE;
        let mut number = 0;
        let is_traced = gone.recv().unwrap();
        // To look into the files would take calls of this thread.
        while is_traced && room.log.last_trouble().is_none_or(|trouble| trouble.since.is_some()) {
            assert!(Instant::now() < end, "it is not written again");
            number = (number + 1) % 10_000;
            room.out(line(number).as_bytes());
            thread::yield_now();
        }
        room.out(b"last\n");
        done.send(room).unwrap();
    };
    threads::spawn("writer", STACK, write).unwrap();
    let thread = told.recv().unwrap();
    let inject = format!("inject={inject}");
    let strace = traced(&thread, &["-o", "/dev/null", "-e", &inject]);
    go.send(strace.is_some()).unwrap();
    let room = is_done.recv().expect("it is not written again");
    let Some(strace) = strace else { return };
    strace.wait();
    let [taken, stored, dropped] = room.log.counts(0);
    assert!(dropped > 0 && taken == stored + dropped, "{inject}: {taken} {stored} {dropped}");
    let lines = room.lines();
    assert_eq!(lines.last().unwrap(), "o last", "{inject}");
    // Every line is whole, or is not there.
    let whole = lines.iter().filter(|line| line.len() == "o 0000 ".len() + 1_900).count();
    assert_eq!(whole + 2, lines.len(), "{inject}");
    assert_eq!((whole * line(1).len() + "last\n".len()) as u64, stored, "{inject}");
    let told: Vec<_> = news.try_iter().collect();
    let [LogNews::Degraded { message, .. }, LogNews::Recovered { dropped: lost, .. }] = &told[..]
    else {
        panic!("{inject}: {told:?}");
    };
    assert!(message.contains("Input/output error"), "{inject}: {message}");
    assert_eq!(*lost, dropped, "{inject}");
    let trouble = room.log.last_trouble().unwrap();
    assert_eq!((trouble.since, &trouble.message), (None, message));
}

/// Files of logs are never synced, so that `fsync` cannot fail.
#[test]
fn l06_calls_that_fail_are_counted_and_tried_again() {
    let tries = [
        "write:error=EIO:when=2",
        // Also when it is tried again.
        "write:error=EIO:when=2..3",
        "rename:error=EIO:when=1",
        // It is opened, and then again for a new file.
        "openat:error=EIO:when=1",
    ];
    thread::scope(|scope| {
        for inject in tries {
            scope.spawn(move || written_with_failures(inject));
        }
    });
}
