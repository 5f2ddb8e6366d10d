//! The thread beside each process: it hands on what the process writes, learns of its end from the
//! kernel, and reports it. It sleeps until one of these things happens.

use std::io;
use std::mem;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::process::ExitStatusExt;
use std::process::{Child, ExitStatus};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::time::Duration;

use super::Life;
use super::link::Listening;
use super::output::Output;
use crate::error::{ErrorCategory, Failure};
use crate::host::reaper::Claim;
use crate::host::sys::{self, Interest};
use crate::host::{Report, threads};
use crate::worker::Exit;

/// A monitor calls into the output sink and the logger, but keeps no buffer on its stack.
const STACK: usize = 128 << 10;
/// How long pipes are read that somebody outside the killed group still holds.
const LINGER: Duration = Duration::from_secs(1);

/// A process that is there, and what to know it by. Dropped unwatched, it is killed and reaped.
pub(super) struct Process {
    leader: Leader,
    /// Readable once the process has ended.
    ended: OwnedFd,
    output: Output,
}

impl Process {
    /// Takes a child over, which is killed if it cannot be watched.
    pub(super) fn of(life: &Arc<Life>, child: Child) -> Result<Self, Failure> {
        let pid = child.id();
        let claim = Claim::on(pid);
        let mut leader = Leader { life: Arc::clone(life), child, reaped: false, _claim: claim };
        let staged = life.plan.settings.is_some();
        if let Some(limit) = life.means.nofile
            && !staged
            && let Err(error) = sys::set_nofile(pid, limit)
        {
            log::warn!("{life}: cannot put its descriptor limit back: {error}");
        }
        match staged {
            true => life.gate.staged(pid),
            false => life.gate.spawned(pid),
        }
        let ended = sys::pidfd_open(pid).map_err(|error| unwatchable(&error))?;
        let output = Output::of(life, &mut leader.child).map_err(|error| unwatchable(&error))?;
        Ok(Self { leader, ended, output })
    }

    /// Kills it and waits for its end.
    pub(super) fn end(self) -> Exit {
        self.leader.life.gate.force();
        self.leader.end()
    }

    pub(super) fn id(&self) -> u32 {
        self.leader.child.id()
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
            if let Some(watched) = handover.wait() {
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

    fn wait(&self) -> Option<Watched> {
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
        let gone = self.gone;
        let Process { leader, ended, mut output } = self.process;
        let life = Arc::clone(&gone.life);
        let pid = leader.child.id();
        let line = life.link.as_ref().and_then(|link| Listening::at(link, pid));
        watch(&life, &ended, &mut output, line.as_ref());
        let exit = leader.end();
        output.drain();
        gone.told(match line {
            Some(line) => line.finish(exit),
            None => exit,
        });
        output.linger(life.plan.kill_group.then_some(LINGER));
    }
}

/// Hands on what the process writes and says until it has ended.
fn watch(life: &Life, ended: &OwnedFd, output: &mut Output, line: Option<&Listening>) {
    loop {
        let ready = {
            let [out, err] = output.open();
            let [heard, woken] = line.map_or([None; 2], |line| line.readable().map(Some));
            let room = line.and_then(Listening::writable);
            let patience = line.and_then(Listening::patience);
            let readable = |fd| (fd, Interest::Readable);
            let fds = [Some(ended.as_fd()), out, err, heard, woken].map(|fd| fd.map(readable));
            let [ended, out, err, heard, woken] = fds;
            let room = room.map(|fd| (fd, Interest::Writable));
            sys::wait_ready([ended, out, err, heard, woken, room], patience)
        };
        match ready {
            Ok([true, ..]) => return,
            Ok([false, out, err, heard, woken, room]) => {
                output.read_ready([out, err]);
                if let Some(line) = line {
                    line.turn([heard, woken], room);
                }
            }
            Err(error) => {
                // Its end is still learnt of: reaping waits for it.
                log::error!("{life}: cannot wait for its output: {error}");
                return;
            }
        }
    }
}

/// Owes the report `Gone`, and pays it also when the thread that has it panics.
pub(super) struct Gone {
    life: Arc<Life>,
    exit: Exit,
}

impl Gone {
    pub(super) fn owed_by(life: &Arc<Life>) -> Self {
        Self { life: Arc::clone(life), exit: Exit::Unknown }
    }

    pub(super) fn told(mut self, exit: Exit) {
        self.exit = exit;
    }
}

impl Drop for Gone {
    fn drop(&mut self) {
        self.life.gate.close();
        (self.life.report)(Report::Gone(mem::replace(&mut self.exit, Exit::Unknown)));
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

    fn reap(&mut self) -> Exit {
        self.reaped = true;
        let gate = &self.life.gate;
        // The first wait is not under the gate's lock: a debugger may hear of the end before us,
        // and keep us waiting.
        match sys::await_end(self.child.id()).and_then(|()| gate.reap(&mut self.child)) {
            Ok(status) => exit_of(status),
            Err(error) => {
                gate.close();
                log::error!("{}: how it ended is lost: {error}", self.life);
                Exit::Unknown
            }
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

fn exit_of(status: ExitStatus) -> Exit {
    match (status.code(), status.signal()) {
        (Some(code), _) => Exit::Code(code),
        (None, Some(signal)) => Exit::Signal { signal, core_dumped: status.core_dumped() },
        (None, None) => Exit::Unknown,
    }
}
