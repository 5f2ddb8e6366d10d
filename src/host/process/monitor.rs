//! The thread beside each process: it hands on what the process writes, learns of its end from the
//! kernel, and reports it. It sleeps until one of these things happens.

use std::fs::File;
use std::io;
use std::mem;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::process::ExitStatusExt;
use std::process::{Child, ExitStatus};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::time::Duration;

use super::Life;
use super::gate::HangUp;
use super::link::Listening;
use super::output::Output;
use crate::error::{ErrorCategory, Failure};
use crate::host::estate::Born;
use crate::host::reaper::Claim;
use crate::host::sys::{self, Interest};
use crate::host::{Report, threads};
use crate::worker::Exit;

/// A monitor calls into the output sink and the logger, but keeps no buffer on its stack.
pub(super) const STACK: usize = 128 << 10;
/// How long pipes are read that somebody outside the killed group still holds.
pub(super) const LINGER: Duration = Duration::from_secs(1);

/// A process that is there, and what to know it by. Dropped unwatched, it is killed and reaped.
pub(super) struct Process {
    leader: Leader,
    /// Readable once the process has ended.
    ended: OwnedFd,
    output: Output,
}

impl Process {
    /// Takes a child over, which is killed if it cannot be watched.
    ///
    /// `fifos`: what it writes to, if these are no pipes. `launcher`: it is one, and this ends the
    /// wait for it.
    pub(super) fn of(
        life: &Arc<Life>,
        child: Child,
        fifos: Option<[File; 2]>,
        launcher: Option<HangUp>,
    ) -> Result<Self, Failure> {
        let pid = child.id();
        let claim = Claim::on(pid);
        let mut leader = Leader { life: Arc::clone(life), child, reaped: false, _claim: claim };
        if let Some(limit) = life.means.nofile
            && launcher.is_none()
            && let Err(error) = sys::set_nofile(pid, limit)
        {
            log::warn!("{life}: cannot put its descriptor limit back: {error}");
        }
        match launcher {
            Some(hang_up) => life.gate.staged(pid, hang_up),
            None => life.gate.spawned(pid),
        }
        let ended = sys::pidfd_open(pid).map_err(|error| unwatchable(&error))?;
        let output = match fifos {
            Some(fifos) => Output::of_fifos(life, fifos.map(Some)),
            None => Output::of(life, &mut leader.child),
        };
        let output = output.map_err(|error| unwatchable(&error))?;
        Ok(Self { leader, ended, output })
    }

    /// Kills it and waits for its end.
    pub(super) fn end(self) -> Exit {
        self.leader.life.gate.force();
        let life = Arc::clone(&self.leader.life);
        let exit = self.leader.end();
        life.read_out();
        exit
    }

    pub(super) fn id(&self) -> u32 {
        self.leader.child.id()
    }

    /// Makes it known to those who are there when the master is not.
    pub(super) fn put_down(&self) {
        let life = &self.leader.life;
        life.means.estate.born(&Born {
            worker: &life.worker,
            incarnation: life.incarnation,
            pid: self.id(),
            afterwards: &life.plan.afterwards,
            signal: life.plan.signal,
            group: life.plan.kill_group,
        });
    }
}

fn unwatchable(error: &io::Error) -> Failure {
    let category = ErrorCategory::of_io(error).unwrap_or(ErrorCategory::Unknown);
    let hint = match error.raw_os_error() {
        Some(sys::ENOSYS) => "; Linux 5.3 or newer is needed",
        _ => "",
    };
    Failure::new(category, format!("cannot watch the process, so it was killed: {error}{hint}"))
}

/// The thread that is there to watch one process. Dropped without one, it ends.
pub(super) struct Monitor(Arc<Handover>);

impl Monitor {
    pub(super) fn start(life: &Life) -> Result<Self, Failure> {
        let monitor = Self(Arc::default());
        let handover = Arc::clone(&monitor.0);
        let wait = move || {
            threads::fail_point("monitor-start");
            if let Some(watched) = Handover::wait(handover) {
                watched.run();
            }
        };
        threads::spawn(&life.to_string(), STACK, wait).map_err(|error| {
            let message = format!("cannot start a thread to watch the process: {error}");
            Failure::new(ErrorCategory::ResourceLimit, message)
        })?;
        Ok(monitor)
    }

    /// Leaves a process to this monitor until it is gone.
    pub(super) fn watch(self, process: Process, gone: Gone) {
        self.0.decide(Some(Watched { process, gone }));
    }
}

impl Drop for Monitor {
    fn drop(&mut self) {
        self.0.decide(None);
    }
}

/// Where a monitor waits for its process. A channel would do the same, and leave each monitor with
/// a kilobyte of what waiting on channels takes.
#[derive(Default)]
struct Handover {
    /// What there is to watch, if anything, once that is decided.
    decision: Mutex<Option<Option<Watched>>>,
    decided: Condvar,
}

impl Handover {
    fn decide(&self, watched: Option<Watched>) {
        let mut decision = self.decision.lock().unwrap_or_else(PoisonError::into_inner);
        // The first decision counts.
        decision.get_or_insert(watched);
        self.decided.notify_one();
    }

    /// Takes itself, so that what has room for a process is there no longer than that takes.
    fn wait(self: Arc<Self>) -> Option<Watched> {
        let decision = self.decision.lock().unwrap_or_else(PoisonError::into_inner);
        let decision = self.decided.wait_while(decision, |decision| decision.is_none());
        decision.unwrap_or_else(PoisonError::into_inner).take().flatten()
    }
}

/// What a monitor is handed. Its fields are dropped in their order: the process is no more when it
/// is reported gone.
struct Watched {
    process: Process,
    gone: Gone,
}

impl Watched {
    fn run(self) {
        // Declared first, hence dropped last.
        let mut gone = self.gone;
        let Process { leader, ended, mut output } = self.process;
        let life = Arc::clone(&gone.life);
        let pid = leader.child.id();
        let line = life.link.as_ref().and_then(|link| Listening::at(link, pid));
        let _hold = life.plan.afterwards.keep.then(|| life.means.estate.hold());
        let mut again = false;
        let watched = threads::twice(&life, || {
            threads::fail_point("monitor");
            if mem::replace(&mut again, true) {
                // What was just being read may be there still, and is no news any more.
                output.read_ready([true, true]);
                line.iter().for_each(Listening::hear_again);
            }
            watch(&life, ended.as_fd(), &mut output, line.as_ref())
        });
        let fault = match watched {
            Ok(Outcome::LeftBehind) => {
                output.let_go();
                leader.let_go();
                return gone.untold();
            }
            Ok(Outcome::Ended) => None,
            Err(fault) => {
                log::error!("{life}: cannot watch the process, so it is killed");
                life.gate.force();
                Some(fault)
            }
        };
        let exit = leader.end();
        let exit = fault.map_or(exit, Exit::Failed);
        gone.is_to_tell(&exit);
        threads::fail_point("monitor-end");
        life.end_escapees();
        output.drain();
        life.read_out();
        gone.told(match line {
            Some(line) => line.finish(exit),
            None => exit,
        });
        output.linger(life.plan.kill_group.then_some(LINGER));
    }
}

/// What a watch ends with.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Outcome {
    /// The process has ended.
    Ended,
    /// The master has, and the process lives on.
    LeftBehind,
}

/// Hands on what the process writes and says until it has ended, or is left behind.
pub(super) fn watch(
    life: &Life,
    ended: BorrowedFd<'_>,
    output: &mut Output,
    line: Option<&Listening>,
) -> Outcome {
    let left = life.plan.afterwards.keep.then(|| life.means.master_ended.as_fd());
    loop {
        let ready = {
            let [out, err] = output.open();
            let [heard, woken] = line.map_or([None; 2], |line| line.readable().map(Some));
            let room = line.and_then(Listening::writable);
            let patience = line.map_or_else(|| output.patience(), Listening::patience);
            let readable = |fd| (fd, Interest::Readable);
            let fds = [left, Some(ended), out, err, heard, woken];
            let [left, ended, out, err, heard, woken] = fds.map(|fd| fd.map(readable));
            let room = room.map(|fd| (fd, Interest::Writable));
            sys::wait_ready([left, ended, out, err, heard, woken, room], patience)
        };
        match ready {
            Ok([true, ..]) => return Outcome::LeftBehind,
            Ok([false, true, ..]) => return Outcome::Ended,
            Ok([false, false, out, err, heard, woken, room]) => {
                output.read_ready([out, err]);
                if let Some(line) = line {
                    line.turn([heard, woken], room);
                }
            }
            Err(error) => {
                // Its end is still learnt of: reaping waits for it.
                log::error!("{life}: cannot wait for its output: {error}");
                return Outcome::Ended;
            }
        }
    }
}

/// Owes the report `Gone`, and pays it also when the thread that has it panics.
pub(super) struct Gone {
    life: Arc<Life>,
    /// `None`: nobody has come to know it, for a fault of ours.
    exit: Option<Exit>,
    owed: bool,
}

impl Gone {
    pub(super) fn owed_by(life: &Arc<Life>) -> Self {
        Self { life: Arc::clone(life), exit: None, owed: true }
    }

    /// This is told, whatever breaks before it is.
    pub(super) fn is_to_tell(&mut self, exit: &Exit) {
        self.exit = Some(exit.clone());
    }

    pub(super) fn told(mut self, exit: Exit) {
        self.exit = Some(exit);
    }

    /// It is not gone: its master is.
    pub(super) fn untold(mut self) {
        self.life.gate.close();
        self.owed = false;
    }

    pub(super) fn life(&self) -> &Arc<Life> {
        &self.life
    }
}

impl Drop for Gone {
    fn drop(&mut self) {
        if !self.owed {
            return;
        }
        self.life.gate.close();
        let exit = self.exit.take().unwrap_or_else(|| {
            let message = "an internal fault: the thread that had it in hand is no more";
            Exit::Failed(Failure::new(ErrorCategory::Internal, message))
        });
        (self.life.report)(Report::Gone(exit));
    }
}

/// A child that leads its group and is not reaped. Dropped before it was, it is killed and reaped.
struct Leader {
    life: Arc<Life>,
    child: Child,
    reaped: bool,
    /// Dropped last, when it is reaped.
    _claim: Claim,
}

impl Leader {
    /// Waits for its end, kills what is left of its group, and reaps it.
    fn end(mut self) -> Exit {
        self.reap()
    }

    /// It lives on, and is no longer ours to wait for.
    fn let_go(mut self) {
        self.reaped = true;
    }

    fn reap(&mut self) -> Exit {
        self.reaped = true;
        // The first wait is not under the gate's lock: a debugger may hear of the end before us,
        // and keep us waiting.
        let ended = sys::await_end(self.child.id()).and_then(|ended| {
            self.presume(ended);
            self.life.gate.reap(&mut self.child)
        });
        let Life { worker, means, .. } = &*self.life;
        means.estate.died(worker, self.child.id());
        match ended {
            Ok(status) => exit_of(status),
            Err(error) => {
                self.life.gate.close();
                log::error!("{}: how it ended is lost: {error}", self.life);
                Exit::Unknown
            }
        }
    }
}

impl Leader {
    /// Says why it was killed that somebody else has killed, if it can be told: as long as it is
    /// not reaped.
    fn presume(&self, ended: ExitStatus) {
        let life = &self.life;
        if ended.signal() != Some(sys::SIGKILL) || life.gate.has_killed() {
            return;
        }
        if let Some(reason) = life.means.kills.reason(self.child.id()) {
            let exit = exit_of(ended);
            let message = format!("{exit}, {reason}");
            let failure = Failure::new(ErrorCategory::ResourceLimit, message);
            (life.report)(Report::Presumed(failure));
        }
    }
}

impl Drop for Leader {
    fn drop(&mut self) {
        if !self.reaped {
            self.life.gate.force();
            self.reap();
        }
    }
}

pub(super) fn exit_of(status: ExitStatus) -> Exit {
    match (status.code(), status.signal()) {
        (Some(code), _) => Exit::Code(code),
        (None, Some(signal)) => Exit::Signal { signal, core_dumped: status.core_dumped() },
        (None, None) => Exit::Unknown,
    }
}
