//! Reaps what our workers leave behind: we are a subreaper, so what of theirs loses its parent
//! becomes our child, and a zombie when it ends. One thread, woken by SIGCHLD alone.
//!
//! Nobody's exit status is stolen. Children may be ours by birth, since modules use
//! [`std::process::Command`] like everybody, and whoever spawned them may wait for them at any
//! time; Linux does not tell whom a process was born to. So one is reaped only if it cannot be ours
//! by birth:
//!
//! - It bears the mark that every worker is given right after its spawn, which fork, exec, a new
//!   group or session, and the end leave as it is: a limit of file locks just below ours, a limit
//!   that no kernel heeds. The workers themselves bear it too; each is claimed before it gets it.
//! - Or it is in a worker's group, and not the worker. That finds what a worker forked before it
//!   was marked, which may be much when many are started at once. As long as anybody is in a group,
//!   its number means no other one.
//! - Or its session is neither ours nor one that it leads. It cannot join one, so it was born into
//!   it. This finds common daemons, whoever started them.
//!
//! Only children of our main thread are looked at: orphans become children of the first thread that
//! lives. Others are children of the thread that spawned them, and are its own.
//!
//! What cannot be told is left as a zombie: the orphans of what modules spawn, in our session, and
//! what begins a session of its own before its worker is marked. Only when they would use up the
//! system's process ids are the oldest reaped after all ([`MOST_UNCLAIMED`]).
//!
//! There is nothing to tell as long as only code of this crate runs in the process, as in the stock
//! binary before it runs a module itself: what is not claimed is then an orphan ([`ours_alone`]).

mod escapees;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::process;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;

use signal_hook::consts::SIGCHLD;
use signal_hook::iterator::{Handle as Closer, Signals};

pub(crate) use escapees::{Escapees, end_escapees};

use super::sys::{self, Kinship, Target};
use super::threads;

const STACK: usize = 128 << 10;
/// As many ended children are left to whoever may wait for them.
const MOST_UNCLAIMED: usize = 1024;
/// Masters may be workers of masters, each level with a limit one below that of the level above. An
/// orphan may come from as many levels below.
const LEVELS: u64 = 16;

/// The children that this crate spawned to be leaders of groups.
static LEADERS: Mutex<BTreeMap<u32, Leader>> = Mutex::new(BTreeMap::new());
/// True while there is a reaper, for which children are marked.
static REAPING: AtomicBool = AtomicBool::new(false);
/// True while no code of others runs in this process, so that nobody else spawns children.
static OURS_ALONE: AtomicBool = AtomicBool::new(false);
/// The one reaper of this process.
static SHARED: Mutex<Shared> = Mutex::new(Shared { users: 0, running: None });

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // Nothing under these locks leaves anything half done.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Leader {
    /// This crate waits for its end.
    Claimed,
    /// It is reaped, and others were left in its group.
    Gone,
}

/// Says that only code of this crate runs in this process, until [`others_run`]. What it spawns it
/// claims, or waits for on the thread that has spawned it.
#[cfg(feature = "cli")]
pub(crate) fn ours_alone() {
    OURS_ALONE.store(true, Ordering::SeqCst);
}

/// Code of others is about to run in this process, and may spawn children: from now on, for good.
pub(crate) fn others_run() {
    OURS_ALONE.store(false, Ordering::SeqCst);
}

/// A child that leads a group, and whose end this crate waits for. To be held until it is reaped.
pub(crate) struct Claim(u32);

impl Claim {
    /// Claims a child that was just spawned. What it forks from now on is known as an orphan should
    /// it become one.
    pub(crate) fn on(pid: u32) -> Self {
        lock(&LEADERS).insert(pid, Leader::Claimed);
        // Only now, so that whoever bears the mark is claimed or an orphan.
        if REAPING.load(Ordering::SeqCst)
            && let Err(error) = sys::lower_lock_limit(pid)
        {
            log::debug!("the orphans of process {pid} will not be known: {error}");
        }
        Self(pid)
    }
}

impl Drop for Claim {
    fn drop(&mut self) {
        let mut leaders = lock(&LEADERS);
        if REAPING.load(Ordering::SeqCst) && has_members(self.0) {
            leaders.insert(self.0, Leader::Gone);
        } else {
            leaders.remove(&self.0);
        }
    }
}

/// The process is a subreaper, and orphans are reaped, for as long as one of these lives.
pub(crate) struct Reaper(());

impl Reaper {
    /// Where `/proc` does not list a thread's children nothing is reaped, and so nothing adopted:
    /// a warning says so.
    ///
    /// # Errors
    /// When the system refuses the attribute, the signal handler or the thread.
    pub(crate) fn start() -> io::Result<Self> {
        let mut shared = lock(&SHARED);
        if shared.users == 0 {
            shared.running = Running::start()?;
        }
        shared.users += 1;
        Ok(Self(()))
    }
}

impl Drop for Reaper {
    fn drop(&mut self) {
        let mut shared = lock(&SHARED);
        shared.users -= 1;
        if shared.users == 0
            && let Some(running) = shared.running.take()
        {
            running.end();
        }
    }
}

struct Shared {
    users: usize,
    running: Option<Running>,
}

struct Running {
    closer: Closer,
    thread: JoinHandle<()>,
    /// Somebody else had made us one, so we stay one.
    was_subreaper: bool,
}

impl Running {
    fn start() -> io::Result<Option<Self>> {
        if let Err(error) = children() {
            log::warn!("cannot list our children, so orphans are not reaped: {error}");
            return Ok(None);
        }
        let family = Family { session: sys::session_of(process::id())?, most: MOST_UNCLAIMED };
        let mut ends = Signals::new([SIGCHLD])?;
        let closer = ends.handle();
        let was_subreaper = sys::is_subreaper()?;
        sys::set_subreaper(true)?;
        REAPING.store(true, Ordering::SeqCst);
        let reap = move || {
            family.reap_orphans();
            for _ in ends.forever() {
                threads::fail_point("reaper");
                family.reap_orphans();
            }
            family.reap_orphans();
        };
        match threads::vital("hsu-reaper", STACK, reap) {
            Ok(thread) => Ok(Some(Self { closer, thread, was_subreaper })),
            Err(error) => {
                stop_adopting(was_subreaper);
                Err(error)
            }
        }
    }

    fn end(self) {
        stop_adopting(self.was_subreaper);
        self.closer.close();
        // It runs no code but ours.
        let _ = self.thread.join();
    }
}

fn stop_adopting(was_subreaper: bool) {
    REAPING.store(false, Ordering::SeqCst);
    if let Err(error) = sys::set_subreaper(was_subreaper) {
        log::warn!("cannot stop adopting orphans: {error}");
    }
}

/// What tells orphans from children that were born to us.
struct Family {
    /// Our session when the reaper was started. Children may be in it still, should we have begun
    /// another one.
    session: u32,
    /// As many children are left that may have been born to us.
    most: usize,
}

impl Family {
    /// Reaps all orphans that have ended by now.
    fn reap_orphans(&self) {
        // The kernel may skip a child when the one before it is reaped while it writes the list.
        while self.look() {}
    }

    /// Looks at the children once, and reaps what it may. True: some went away meanwhile.
    fn look(&self) -> bool {
        let children = children().unwrap_or_else(|error| {
            log::error!("cannot list our children, so orphans are not reaped: {error}");
            Vec::new()
        });
        let (mut disturbed, mut unclaimed) = (false, Vec::new());
        for pid in children {
            match sys::kinship(pid) {
                Kinship::Stranger => disturbed = true,
                Kinship::Alive => {}
                Kinship::Ended if lock(&LEADERS).get(&pid) == Some(&Leader::Claimed) => {}
                // Asked only now: whoever it may belong to was announced before it was born.
                Kinship::Ended if OURS_ALONE.load(Ordering::SeqCst) => sys::reap(pid),
                Kinship::Ended if self.has_adopted(pid) => sys::reap(pid),
                Kinship::Ended => unclaimed.push(pid),
            }
        }
        lock(&LEADERS).retain(|pid, leader| *leader == Leader::Claimed || has_members(*pid));
        // The first in the list have been our children for the longest time.
        for pid in &unclaimed[..unclaimed.len().saturating_sub(self.most)] {
            log::warn!("nobody waits for {} ended children: {pid} is forgotten", unclaimed.len());
            sys::reap(*pid);
        }
        disturbed
    }

    /// True when a child that has ended cannot be one that was born to us.
    fn has_adopted(&self, pid: u32) -> bool {
        let marked = || {
            let below = lock_limit("self")?.checked_sub(lock_limit(&pid.to_string())?);
            below.map(|below| (1..=LEVELS).contains(&below))
        };
        let in_a_workers_group = || {
            let group = sys::group_of(pid).ok()?;
            Some(group != pid && lock(&LEADERS).contains_key(&group))
        };
        let in_a_foreign_session = || {
            let own = sys::session_of(process::id()).ok()?;
            let session = sys::session_of(pid).ok()?;
            Some(![own, self.session, pid].contains(&session))
        };
        marked().unwrap_or(false)
            || in_a_workers_group().unwrap_or(false)
            || in_a_foreign_session().unwrap_or(false)
    }
}

/// Whether anybody is in the group of this number, though they may have ended.
fn has_members(group: u32) -> bool {
    // Who must not be signalled is there.
    sys::signal(Target::Group(group), 0).unwrap_or(true)
}

/// The children of our main thread, in the order in which they became its children.
fn children() -> io::Result<Vec<u32>> {
    let list = fs::read_to_string(format!("/proc/self/task/{}/children", process::id()))?;
    Ok(list.split_ascii_whitespace().filter_map(|pid| pid.parse().ok()).collect())
}

/// A process's limit of file locks. Read from a file, since the call refuses to tell that of a
/// process which has changed its user.
fn lock_limit(process: &str) -> Option<u64> {
    let limits = fs::read_to_string(format!("/proc/{process}/limits")).ok()?;
    let line = limits.lines().find_map(|line| line.strip_prefix("Max file locks"))?;
    match line.split_ascii_whitespace().next()? {
        "unlimited" => Some(u64::MAX),
        number => number.parse().ok(),
    }
}
