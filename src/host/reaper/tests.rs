//! Which children the reaper takes and which it leaves. Each test runs in a process of its own,
//! whose children are all its own.

use std::io::Write;
use std::os::unix::process::CommandExt;
use std::process::{Child, Command, Stdio};

use super::*;
use crate::host::alone;

/// A family that leaves as many children as it takes to show it.
fn family() -> Family {
    Family { session: sys::session_of(process::id()).unwrap(), most: 3 }
}

/// Spawns on a thread that ends, which leaves the children to the main thread: where orphans are.
fn on_a_thread_that_ends<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> T {
    let (tell, told) = crossbeam_channel::bounded(1);
    let work = move || {
        let _ = tell.send(work());
    };
    threads::spawn("spawns", STACK, work).unwrap().join().unwrap();
    told.recv().unwrap()
}

fn spawn(mut command: Command) -> Child {
    on_a_thread_that_ends(move || command.spawn().unwrap())
}

fn shell(script: &str) -> Command {
    let mut command = Command::new("/bin/sh");
    command.args(["-c", script]);
    command
}

/// Waits for the end of a child of the main thread.
fn ended(pid: u32) {
    sys::await_end(pid).unwrap();
    assert_eq!(sys::kinship(pid), Kinship::Ended);
    assert!(children().unwrap().contains(&pid), "the reaper looks elsewhere");
}

/// Runs a script that says the id of an orphan it leaves, and waits for that to end.
fn orphan(script: &str, claim: impl FnOnce(u32) -> Option<Claim>) -> u32 {
    let mut command = shell(&format!("read x; exec 3<&0; {script}"));
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).process_group(0);
    let mut parent = spawn(command);
    let claim = claim(parent.id());
    let mut holds = parent.stdin.take().unwrap();
    writeln!(holds, "go").unwrap();
    let output = parent.wait_with_output().unwrap();
    drop(claim);
    let pid = String::from_utf8(output.stdout).unwrap().trim().parse().unwrap();
    // It outlives its parent, and ends with its input.
    assert_eq!(sys::kinship(pid), Kinship::Alive);
    drop(holds);
    ended(pid);
    pid
}

const IN_ITS_GROUP: &str = "(read y <&3) > /dev/null & echo $!";
const LEADS_A_SESSION: &str = "setsid -f sh -c 'echo $$; exec > /dev/null; read y <&3'";
/// Daemons do this: whoever began the session is gone.
const IN_A_SESSION: &str = "setsid sh -c '(read y <&3) > /dev/null & echo $!'";

#[test]
fn the_process_is_a_subreaper_as_long_as_anybody_wants_it() {
    if !alone::here(&[], the_process_is_a_subreaper_as_long_as_anybody_wants_it) {
        return;
    }
    let threads = || fs::read_dir("/proc/self/task").unwrap().count();
    let before = threads();
    assert!(!sys::is_subreaper().unwrap());
    let [one, other] = [(); 2].map(|()| Reaper::start().unwrap());
    assert!(sys::is_subreaper().unwrap());
    assert_eq!(threads(), before + 1, "one thread is enough");
    drop(one);
    assert!(sys::is_subreaper().unwrap());
    drop(other);
    assert!(!sys::is_subreaper().unwrap());
    assert!(!REAPING.load(Ordering::SeqCst));
    assert_eq!(threads(), before);

    // Somebody else made it one.
    sys::set_subreaper(true).unwrap();
    drop(Reaper::start().unwrap());
    assert!(sys::is_subreaper().unwrap());
}

#[test]
fn children_by_birth_are_left_to_who_spawned_them() {
    if !alone::here(&[], children_by_birth_are_left_to_who_spawned_them) {
        return;
    }
    let _reaper = Reaper::start().unwrap();
    let mut in_a_group = shell("exit 8");
    in_a_group.process_group(0);
    let mut in_a_session = Command::new("setsid");
    in_a_session.args(["sh", "-c", "exit 9"]);
    let mut born = [shell("exit 7"), in_a_group, in_a_session].map(spawn);
    for child in &born {
        ended(child.id());
    }
    family().reap_orphans();
    let codes = born.each_mut().map(|child| child.wait().unwrap().code());
    assert_eq!(codes, [Some(7), Some(8), Some(9)]);
}

#[test]
fn orphans_of_the_marked_are_reaped_wherever_they_went() {
    if !alone::here(&[], orphans_of_the_marked_are_reaped_wherever_they_went) {
        return;
    }
    sys::set_subreaper(true).unwrap();
    REAPING.store(true, Ordering::SeqCst);
    for script in [IN_ITS_GROUP, LEADS_A_SESSION, IN_A_SESSION] {
        let pid = orphan(script, |parent| Some(Claim::on(parent)));
        family().reap_orphans();
        assert_eq!(sys::kinship(pid), Kinship::Stranger, "{script}");
    }
}

#[test]
fn orphans_of_the_unmarked_are_reaped_if_they_cannot_be_our_own() {
    if !alone::here(&[], orphans_of_the_unmarked_are_reaped_if_they_cannot_be_our_own) {
        return;
    }
    sys::set_subreaper(true).unwrap();
    for script in [IN_ITS_GROUP, LEADS_A_SESSION] {
        let pid = orphan(script, |_| None);
        family().reap_orphans();
        assert_eq!(sys::kinship(pid), Kinship::Ended, "{script}");
    }
    let pid = orphan(IN_A_SESSION, |_| None);
    family().reap_orphans();
    assert_eq!(sys::kinship(pid), Kinship::Stranger);
}

#[test]
fn a18_where_nobody_else_has_children_every_orphan_is_reaped() {
    if !alone::here(&[], a18_where_nobody_else_has_children_every_orphan_is_reaped) {
        return;
    }
    sys::set_subreaper(true).unwrap();
    let unclaimed = || orphan(LEADS_A_SESSION, |_| None);
    OURS_ALONE.store(true, Ordering::SeqCst);
    for script in [IN_ITS_GROUP, LEADS_A_SESSION, IN_A_SESSION] {
        let pid = orphan(script, |_| None);
        family().reap_orphans();
        assert_eq!(sys::kinship(pid), Kinship::Stranger, "{script}");
    }
    let mut child = spawn(shell("exit 7"));
    let claim = Claim::on(child.id());
    ended(child.id());
    family().reap_orphans();
    assert_eq!(child.wait().unwrap().code(), Some(7), "it is waited for");
    drop(claim);
    others_run();
    let pid = unclaimed();
    family().reap_orphans();
    assert_eq!(sys::kinship(pid), Kinship::Ended, "it may be somebody's");
}

#[test]
fn orphans_in_a_workers_group_are_reaped_also_after_its_end() {
    if !alone::here(&[], orphans_in_a_workers_group_are_reaped_also_after_its_end) {
        return;
    }
    sys::set_subreaper(true).unwrap();
    let mut mate = None;
    let pid = orphan(IN_ITS_GROUP, |parent| {
        let claim = Claim::on(parent);
        mate = Some(parent);
        // Unmarked, since nobody reaped when it was claimed.
        REAPING.store(true, Ordering::SeqCst);
        Some(claim)
    });
    let group = mate.unwrap();
    assert_eq!(sys::group_of(pid).unwrap(), group);
    assert_eq!(lock(&LEADERS).get(&group), Some(&Leader::Gone));
    family().reap_orphans();
    assert_eq!(sys::kinship(pid), Kinship::Stranger);
    assert!(lock(&LEADERS).is_empty(), "its number may mean another group from now on");
}

#[test]
fn of_very_many_that_nobody_waits_for_the_oldest_are_reaped() {
    if !alone::here(&[], of_very_many_that_nobody_waits_for_the_oldest_are_reaped) {
        return;
    }
    let born = [(); 5].map(|()| {
        let pid = spawn(shell("exit 7")).id();
        ended(pid);
        pid
    });
    family().reap_orphans();
    let left = born.map(sys::kinship);
    let [gone, there] = [Kinship::Stranger, Kinship::Ended];
    assert_eq!(left, [gone, gone, there, there, there]);
}

#[test]
fn what_is_claimed_is_left_as_long_as_it_is_claimed() {
    if !alone::here(&[], what_is_claimed_is_left_as_long_as_it_is_claimed) {
        return;
    }
    REAPING.store(true, Ordering::SeqCst);
    let mut command = shell("read x");
    command.stdin(Stdio::piped());
    let mut child = spawn(command);
    let pid = child.id();
    let claim = Claim::on(pid);
    drop(child.stdin.take());
    ended(pid);
    family().reap_orphans();
    assert_eq!(sys::kinship(pid), Kinship::Ended);
    drop(claim);
    // It bears the mark: nothing but the claim has kept it.
    family().reap_orphans();
    assert!(child.wait().is_err(), "it was reaped");
}

#[test]
fn a_mark_is_near_our_own_limit_but_not_the_same() {
    let ours = lock_limit("self").unwrap();
    let mut child = Command::new("/bin/sleep").arg("1000").spawn().unwrap();
    let theirs = || lock_limit(&child.id().to_string());
    assert_eq!(theirs(), Some(ours));
    sys::lower_lock_limit(child.id()).unwrap();
    assert_eq!(theirs(), Some(ours - 1));
    child.kill().unwrap();
    child.wait().unwrap();
}
