//! The guardian as a function of what it hears: on real processes, and never on a stranger.

use std::io::{BufRead, BufReader, Write};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixStream;
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use super::child::Known;
use super::keeper::Keeper;
use super::*;
use crate::host::attached::Attached;
use crate::host::estate::{HOLDER, fifos_of};
use crate::host::roles::Program;
use crate::host::sys::{Dir, FifoEnd};
use crate::host::threads::fail_points::{arm, is_armed, passed};
use crate::host::{alone, proc};

const LONG: Duration = Duration::from_secs(30);

/// A process that leads a group, with marks.
struct Marked(Child, Attached);

impl Marked {
    fn start(script: &str, nonce: &str, worker: &str) -> Self {
        let mut command = Command::new("/bin/sh");
        command.args(["-c", script]).env(proc::MASTER, nonce).env(proc::WORKER, worker);
        let child = command.stdin(Stdio::null()).process_group(0).spawn().unwrap();
        let process = Attached::of(child.id()).unwrap();
        Self(child, process)
    }

    fn ward(&self, worker: &str, group: bool) -> Ward {
        let worker = WorkerId::new(worker).unwrap();
        Ward { worker, pid: self.1.pid(), start_time: self.1.start_time(), group }
    }

    /// The signal that has ended it.
    fn end(&mut self) -> Option<i32> {
        assert!(self.1.wait(Some(LONG)), "it lives");
        self.0.wait().unwrap().signal()
    }
}

impl Drop for Marked {
    fn drop(&mut self) {
        let _ = self.1.signal_group(9);
        let _ = self.0.wait();
    }
}

/// What a guardian knows after these words, and whether its master was done.
fn told(words: &[Word]) -> (Known, bool) {
    let (mut ours, theirs) = UnixStream::pair().unwrap();
    for word in words {
        ours.write_all(word.line().as_bytes()).unwrap();
    }
    // A line that is cut off, and one that means nothing.
    ours.write_all(b"gibberish\nended 1").unwrap();
    drop(ours);
    let mut known = Known::default();
    let done = known.listen(theirs);
    (known, done)
}

fn nonce(text: &str) -> Word {
    Word::Nonce(format!("{text}-{}", std::process::id()))
}

fn marks(text: &str) -> String {
    format!("{text}-{}", std::process::id())
}

#[test]
fn words_are_read_as_they_are_written_and_others_are_not() {
    let worker = WorkerId::new("api").unwrap();
    let ward = Ward { worker: worker.clone(), pid: 7, start_time: 8, group: true };
    let alone = Ward { group: false, ..ward.clone() };
    let words = [
        Word::Nonce("f00".into()),
        Word::Started(ward),
        Word::Started(alone),
        Word::Ended(7),
        Word::Spare(worker.clone()),
        Word::Hold(worker.clone()),
        Word::Release(worker),
        Word::Done,
    ];
    for word in words {
        let line = word.line();
        assert!(line.len() <= MAX_LINE);
        assert_eq!(Word::read(line.trim_end()), Some(word), "{line}");
    }
    for line in ["", "nonce", "nonce ", "started 1 2 group", "started x 2 group a", "ended -1"] {
        assert_eq!(Word::read(line), None, "{line}");
    }
    assert_eq!(Word::read("started 1 2 both a"), None);
}

#[test]
fn what_the_master_left_is_ended_and_what_ended_before_is_not_a_stranger_now() {
    let (group, old) = (marks("a"), "nobody");
    let mut mild = Marked::start("exec sleep 1000", &group, "mild");
    let mut deaf = Marked::start("trap '' TERM; sleep 1000 & wait; wait", &group, "deaf");
    // The same number, another beginning: a stranger.
    let stranger = Marked::start("exec sleep 1000", old, "mild");
    let other = Ward { start_time: stranger.1.start_time() - 1, ..stranger.ward("mild", true) };
    let ended = Marked::start("exec sleep 1000", old, "mild");
    let words = [
        nonce("a"),
        Word::Started(mild.ward("mild", true)),
        Word::Started(deaf.ward("deaf", true)),
        Word::Started(other),
        Word::Started(ended.ward("x", true)),
        Word::Ended(ended.1.pid()),
    ];
    let (known, done) = told(&words);
    assert!(!done);
    known.end_all();
    assert_eq!(mild.end(), Some(15));
    assert_eq!(deaf.end(), Some(9));
    assert!(!stranger.1.has_ended() && !ended.1.has_ended());
}

#[test]
fn what_bears_the_marks_is_ended_though_nobody_told_of_it() {
    let ours = marks("b");
    let mut unheard = Marked::start("exec sleep 1000", &ours, "new");
    let kept = Marked::start("exec sleep 1000", &ours, "kept");
    let straggler = Marked::start("exec sleep 1000", &ours, "alone");
    let mut again = Marked::start("exec sleep 1000", &ours, "again");
    let foreign = Marked::start("exec sleep 1000", &marks("another"), "new");
    let mut leader = Marked::start("exec sleep 1000", &ours, "alone");
    let spare = |id: &str| Word::Spare(WorkerId::new(id).unwrap());
    let words = [
        nonce("b"),
        spare("kept"),
        spare("again"),
        // Started again as one that is not kept.
        Word::Started(again.ward("again", true)),
        Word::Started(leader.ward("alone", false)),
    ];
    told(&words).0.end_all();
    assert_eq!(unheard.end(), Some(9));
    assert_eq!(again.end(), Some(15));
    assert_eq!(leader.end(), Some(15));
    for lives in [kept, straggler, foreign] {
        assert!(!lives.1.has_ended());
    }
}

#[test]
fn a_master_that_is_done_leaves_nothing_to_do() {
    let alive = Marked::start("exec sleep 1000", &marks("c"), "w");
    let (_, done) = told(&[nonce("c"), Word::Started(alive.ward("w", true)), Word::Done]);
    assert!(done);
}

#[test]
fn s17_a_guardian_ends_what_is_left_and_holds_what_was_written_after_a_fault_of_ours() {
    if !alone::here(
        &[],
        s17_a_guardian_ends_what_is_left_and_holds_what_was_written_after_a_fault_of_ours,
    ) {
        return;
    }
    let mut left = Marked::start("exec sleep 1000", &marks("d"), "w");
    let (mut known, done) = told(&[nonce("d"), Word::Started(left.ward("w", true))]);
    let place = tempfile::tempdir().unwrap();
    let root = Dir::open(place.path()).unwrap();
    let workers = root.subdirectory("workers").unwrap();
    let worker = WorkerId::new("kept").unwrap();
    let held = fifos_of(&worker).map(|name| {
        workers.make_fifo(&name).unwrap();
        workers.open_fifo(&name, FifoEnd::Both).unwrap()
    });
    (&held[0]).write_all(b"x").unwrap();
    known.keeper = Keeper::of(Some(place.path().into()), 1024);
    known.keeper.hold(worker);
    // The next master is there, so that what is held is held no longer than this takes.
    let next = br#"{"version":1,"boot_id":"b","master":"next","pid":1,"start_time":1}"#;
    root.replace(HOLDER, next).unwrap();
    arm("guardian");
    arm("keeper");
    known.conclude(done);
    assert_eq!(left.end(), Some(15));
    assert!(!is_armed("guardian") && !is_armed("keeper"));
    assert_eq!(passed("keeper"), 2);
}

#[test]
fn s17_a_guardian_is_replaced_though_who_watches_over_it_panics() {
    if !alone::here(&[], s17_a_guardian_is_replaced_though_who_watches_over_it_panics) {
        return;
    }
    // Each tells that it is there, and lives as long as its line.
    let around = tempfile::tempdir().unwrap();
    let (script, there) = (around.path().join("guardian"), around.path().join("there"));
    assert!(Command::new("mkfifo").arg(&there).status().unwrap().success());
    let text = format!("#!/bin/sh\necho $$ > {}\nexec cat > /dev/null\n", there.display());
    std::fs::write(&script, text).unwrap();
    std::fs::set_permissions(&script, std::fs::Permissions::from_mode(0o755)).unwrap();
    let told = std::fs::File::options().read(true).write(true).open(&there).unwrap();
    let mut pids = BufReader::new(told).lines();
    let guardian = Guardian::new(Some(Program { path: script, name: None }), "n", None);
    let mut next = || {
        let pid = pids.next().unwrap().unwrap().parse().unwrap();
        // It may tell of itself before its master knows it; this waits for that.
        guardian.ended(pid);
        Attached::of(pid).unwrap()
    };
    guardian.begin();
    let first = next();
    arm("hsu-guardian");
    assert!(first.signal(9).unwrap());
    let second = next();
    assert!(!is_armed("hsu-guardian"));
    // The one who watches over it now hears of its end, too.
    assert!(second.signal(9).unwrap());
    let third = next();
    guardian.done();
    assert!(third.wait(Some(LONG)));
}
