//! Ends what a worker's incarnation left outside its group: processes that began a session or a
//! group of their own, and became our children when their parents ended.

use std::os::fd::{AsFd, OwnedFd};
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use super::{LEADERS, REAPING, children, lock};
use crate::host::proc::Marks;
use crate::host::sys::{self, Kinship, SIGKILL};

/// How long the killed may take to end. They are waited for, since what they leave behind becomes
/// our child only then.
const PATIENCE: Duration = Duration::from_secs(2);
/// As many generations are followed; a family that grows faster than it is killed is left.
const GENERATIONS: usize = 64;

/// What was found outside a group.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Escapees {
    /// These were killed, and are gone.
    pub(crate) killed: Vec<u32>,
    /// These were killed, and have not ended: each is stuck in the kernel, and dies when it leaves
    /// it.
    pub(crate) left: Vec<u32>,
}

/// Kills every orphan whose marks are `theirs`, and what it leaves, until none is found. Only a
/// subreaper finds any.
pub(crate) fn end_escapees(theirs: impl Fn(&Marks) -> bool) -> Escapees {
    let until = Instant::now() + PATIENCE;
    let mut found = Escapees::default();
    for _ in 0..GENERATIONS {
        let killed = kill_generation(&theirs);
        if killed.is_empty() {
            break;
        }
        for (pid, process) in killed {
            let left = until.saturating_duration_since(Instant::now());
            if let Ok([true]) = sys::wait_readable([Some(process.as_fd())], Some(left)) {
                // Its marks say that it was not born to us, so nobody else waits for it.
                let _ = sys::reap_by(process.as_fd());
                found.killed.push(pid);
            } else if !found.left.contains(&pid) {
                found.left.push(pid);
            }
        }
        if Instant::now() >= until {
            break;
        }
    }
    found.left.retain(|pid| !found.killed.contains(pid));
    found
}

/// Kills those that are our children now.
fn kill_generation(theirs: &dyn Fn(&Marks) -> bool) -> Vec<(u32, OwnedFd)> {
    if !REAPING.load(Ordering::SeqCst) {
        return Vec::new();
    }
    let orphans = children().unwrap_or_default();
    let orphans = orphans.into_iter().filter(|pid| !lock(&LEADERS).contains_key(pid));
    orphans.filter_map(|pid| Some((pid, kill(pid, theirs)?))).collect()
}

fn kill(pid: u32, theirs: &dyn Fn(&Marks) -> bool) -> Option<OwnedFd> {
    // Opened first: whatever is read afterwards is about this process or about none.
    let process = sys::pidfd_open(pid).ok()?;
    let marks = Marks::of(pid)?;
    let ours = theirs(&marks) && sys::kinship(pid) == Kinship::Alive;
    (ours && sys::signal_by(process.as_fd(), SIGKILL).unwrap_or(false)).then_some(process)
}
