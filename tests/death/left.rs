//! What kept workers write that end while no master runs: the guardian of the former master holds
//! it for the next one, and no longer than that.

use std::fs::{self, File};
use std::io::Write as _;
use std::process::Command;

use crate::support::{Running, Site, kill, lives, until};

/// As much as a FIFO may hold that was not given more room.
const LINES: u32 = 5_000;

/// Kept workers that wait for their permission, write, and end.
fn writing(ids: &[&str]) -> Site {
    let worker = |id: &&str| {
        let script = format!("read x < go; echo {id} >&2; seq -f line-%.0f {LINES}");
        format!("- {{ id: {id}, on_master_exit: keep, command: [/bin/sh, -c, '{script}'] }}\n")
    };
    let site = Site::new(&format!("workers:\n{}", ids.iter().map(worker).collect::<String>()));
    let go = site.path().join("go");
    assert!(Command::new("mkfifo").arg(go).status().unwrap().success());
    site
}

/// Gives a permission. To be held open: whoever waits for the next one is not to see an end.
fn go(site: &Site) -> File {
    let mut go = File::options().read(true).write(true).open(site.path().join("go")).unwrap();
    go.write_all(b"x\n").unwrap();
    go
}

fn shut_down_keeping(site: &Site, mut master: Running) {
    master.until("listening on ");
    let mut command = Command::new(env!("CARGO_BIN_EXE_hsu-master"));
    command.args(["shutdown", "--keep", "--socket"]).arg(site.state().join("control.sock"));
    let asked = command.output().unwrap();
    assert!(asked.status.success(), "{asked:?}");
    let (status, said) = master.end();
    assert!(status.success(), "{said}");
}

fn log(site: &Site, worker: &str) -> String {
    fs::read_to_string(site.state().join(format!("logs/{worker}.log"))).unwrap_or_default()
}

/// All that a worker wrote is in its log, once and in order, behind the words that say when.
#[track_caller]
fn check(site: &Site, worker: &str) {
    let log = log(site, worker);
    let words = log.lines().map(|line| line.rsplit(' ').next().unwrap());
    let numbers: Vec<u32> =
        words.filter_map(|word| word.strip_prefix("line-")?.parse().ok()).collect();
    assert_eq!(numbers.len(), LINES as usize, "{:?}", log.lines().next());
    assert!(numbers.into_iter().eq(1..=LINES));
    let at = |text: &str| log.find(text).unwrap_or_else(|| panic!("no {text:?} in the log"));
    assert!(at("written while no master ran (incarnation 1)") < at(" line-1\n"));
    assert!(log.lines().any(|line| line.ends_with(&format!(" {worker}"))), "its errors are lost");
}

#[test]
fn l16_what_a_worker_wrote_that_ended_without_a_master_is_in_its_log() {
    for killed in [true, false] {
        let site = writing(&["w"]);
        let mut first = site.run();
        let pid = first.runs("w#1");
        site.recorded("w");
        if killed {
            first.kill();
        } else {
            shut_down_keeping(&site, first);
        }
        let _go = go(&site);
        until(|| !lives(pid));
        until(|| site.guardians().is_empty());
        let keepers = site.keepers();
        assert_eq!(keepers.len(), 1);
        let mut second = site.run();
        second.runs("w#2");
        check(&site, "w");
        until(|| !site.all().contains(&keepers[0]));
        let (status, said) = second.stop();
        assert_eq!(status.code(), Some(0), "{said}");
        assert_eq!(site.all(), Vec::<u32>::new());
        assert!(!site.state().join("workers/w.out").exists());
    }
}

/// Waits until the guardian has a worker's FIFOs open, and returns its pid.
fn holding(site: &Site) -> u32 {
    let holds = |guardian: &u32| {
        let open = fs::read_dir(format!("/proc/{guardian}/fd")).into_iter().flatten().flatten();
        let links = open.filter_map(|entry| fs::read_link(entry.path()).ok());
        links.filter(|link| link.ends_with("w.out") || link.ends_with("w.err")).count() == 2
    };
    until(|| site.guardians().iter().any(holds));
    site.guardians().into_iter().find(holds).unwrap()
}

#[test]
fn l16_what_was_written_just_before_the_masters_death_is_not_lost_either() {
    for replaced in [false, true] {
        let site = writing(&["w"]);
        let mut first = site.run();
        let pid = first.runs("w#1");
        site.recorded("w");
        let guardian = holding(&site);
        if replaced {
            assert!(kill(guardian, "KILL"));
            until(|| !lives(guardian));
            assert_ne!(holding(&site), guardian);
        }
        // It reads no more, and the worker ends before it.
        first.halt();
        let _go = go(&site);
        until(|| !lives(pid));
        first.kill();
        let mut second = site.run();
        second.runs("w#2");
        check(&site, "w");
        second.stop();
    }
}

#[test]
fn each_worker_has_its_own_over_several_masters_and_whether_it_is_known_or_not() {
    let site = writing(&["a", "b"]);
    let mut first = site.run();
    let pids = [first.runs("a#1"), first.runs("b#1")];
    site.recorded("a");
    site.recorded("b");
    first.kill();
    let mut second = site.run();
    assert_eq!([second.runs("a#1"), second.runs("b#1")], pids);
    second.kill();
    // That of the first is gone.
    until(|| site.guardians().is_empty() && site.keepers().len() == 1);
    let _one = go(&site);
    let _other = go(&site);
    until(|| !pids.into_iter().any(lives));
    let text = fs::read_to_string(site.path().join("workers.yaml")).unwrap();
    let without_b = &text[..text.find("- { id: b").unwrap()];
    fs::write(site.path().join("workers.yaml"), without_b).unwrap();
    let mut third = site.run();
    third.runs("a#2");
    check(&site, "a");
    check(&site, "b");
    third.stop();
    assert_eq!(site.all(), Vec::<u32>::new());
}

#[test]
fn a_guardian_stays_only_while_something_can_be_lost() {
    let quiet = "workers:
- { id: quiet, on_master_exit: keep, command: [sleep, '1000'] }
";
    // Nothing was written, and nobody is left who could write.
    let site = Site::new(quiet);
    let mut master = site.run();
    let pid = master.runs("quiet#1");
    master.kill();
    until(|| site.keepers().len() == 1);
    assert!(kill(pid, "KILL"));
    until(|| site.all().is_empty());
    // No master can find it any more.
    let site = Site::new(quiet);
    let mut master = site.run();
    let pid = master.runs("quiet#1");
    master.kill();
    until(|| site.keepers().len() == 1);
    until(|| fs::remove_dir_all(site.state()).is_ok());
    until(|| site.all() == [pid]);
    // There is nothing in the state directory to hold.
    let site = Site::new(&quiet.replace("keep,", "keep, logs: { mode: discard },"));
    let mut master = site.run();
    let pid = master.runs("quiet#1");
    master.kill();
    until(|| site.all() == [pid]);
}
