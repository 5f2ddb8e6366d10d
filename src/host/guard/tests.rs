//! The guardian as a function of what it hears: on real processes, and never on a stranger.

use std::io::Write;
use std::os::unix::net::UnixStream;
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use super::child::Known;
use super::*;
use crate::host::attached::Attached;
use crate::host::proc;

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
