//! What a master leaves behind when it ends, however it ends: a guardian that ends its processes,
//! and for those that are to live on what the next master must know of them.

mod former;
mod ledger;
mod left;
mod record;
mod unclaimed;

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs::File;
use std::io;
use std::path::Path;
use std::process;
use std::sync::{Arc, Condvar, Mutex, OnceLock, PoisonError};
use std::time::{Duration, Instant};

use super::guard::{Guardian, Ward};
use super::proc::Marks;
use super::roles::Program;
use super::state::{StateDir, StateNews};
use super::sys::{self, Dir, FifoEnd};
use super::{Stream, proc};
use crate::worker::{WorkerConfig, WorkerId};
use former::Former;
pub(crate) use former::{Adoption, Inheritance, fingerprint};
use ledger::Ledger;
pub(crate) use left::Left;
use record::{Holder, Origin, Process, Record, Stop, Wanted};
pub(crate) use unclaimed::{Claimed, Unclaimed};

/// Who the present master is.
pub(crate) const HOLDER: &str = "master.json";

/// As much as the system lets ordinary users give a pipe.
const FIFO_ROOM: i32 = 1 << 20;
/// How long the monitors of what lives on have to let go of it.
const PATIENCE: Duration = Duration::from_secs(5);

/// What becomes of one process when its master ends.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Afterwards {
    /// True: it lives on, and the next master adopts it.
    pub(crate) keep: bool,
    /// Stands for the configuration it is started with.
    pub(crate) configuration: String,
    /// How long it may take to end when it is asked.
    pub(crate) patience: Duration,
}

/// A process that was just spawned.
pub(crate) struct Born<'p> {
    pub(crate) worker: &'p WorkerId,
    pub(crate) incarnation: u64,
    pub(crate) pid: u32,
    pub(crate) afterwards: &'p Afterwards,
    /// The signal that asks it to end, and whether its group is meant too.
    pub(crate) signal: i32,
    pub(crate) group: bool,
}

/// A master's arrangements for its end.
pub(crate) struct Estate {
    nonce: String,
    boot_id: String,
    guardian: Guardian,
    state: Option<Arc<StateDir>>,
    ledger: Option<Ledger>,
    /// What workers of former masters have written, by worker, until somebody reads it.
    left: Mutex<BTreeMap<WorkerId, Left>>,
    /// How many processes are watched that would live on.
    held: Mutex<usize>,
    let_go: Condvar,
    /// They are waited for until then, once somebody has begun to.
    until: OnceLock<Instant>,
}

impl Estate {
    /// `program`: what is run as the guardian; without it there is none.
    ///
    /// With a state directory it begins with what the former master has left there: processes of
    /// workers are attached to, whether they go on or not; what else is left is ended, which it
    /// waits for. With `keep_unknown`, those that may go on with workers which are not known yet
    /// wait for these.
    ///
    /// # Errors
    /// When the system has no random numbers or no thread, the directory cannot be used, or it
    /// cannot be known whether a process that the former master has left lives.
    pub(crate) fn open(
        program: Option<Program>,
        state: Option<Arc<StateDir>>,
        workers: &[WorkerConfig],
        keep_unknown: bool,
    ) -> io::Result<(Self, Inheritance)> {
        let mut nonce = String::new();
        for byte in sys::random()? {
            let _ = write!(nonce, "{byte:02x}");
        }
        // Where there is no /proc there is nothing to adopt either.
        let boot_id = proc::boot_id().unwrap_or_default();
        let place = state.as_ref().map(|state| state.place().to_owned());
        let guardian = Guardian::new(program, &nonce, place);
        let (mut inheritance, mut ledger) = (Inheritance::default(), None);
        let mut left = BTreeMap::new();
        if let Some(state) = &state {
            let mut former = Former::read(state, &boot_id)?;
            inheritance = former.settle(workers, keep_unknown)?;
            // Those that only end are known until they have.
            let known = |worker: &WorkerId| {
                inheritance.unclaimed.contains_key(worker)
                    || inheritance.leftovers.iter().any(|left| left.worker == *worker)
                    || workers.iter().any(|w| w.id == worker.as_str())
            };
            let (records, strange) = former.records.into_iter().partition(|(id, _)| known(id));
            ledger = Some(Ledger::open(Arc::clone(state), records, strange)?);
            left = left::find(state, &inheritance)?;
            for worker in left.keys() {
                guardian.hold(worker);
            }
            let own = proc::began(process::id()).map_or(0, |(start_time, _)| start_time);
            // With this the guardian of the former master lets go of everything.
            let holder = Holder::new(&boot_id, &nonce, process::id(), own);
            state.root().replace(HOLDER, &holder.to_json())?;
            if let Some(ledger) = &ledger {
                keep(state, ledger, holder);
            }
        }
        let (left, held, let_go) = (Mutex::new(left), Mutex::default(), Condvar::new());
        let until = OnceLock::new();
        let estate = Self { nonce, boot_id, guardian, state, ledger, left, held, let_go, until };
        Ok((estate, inheritance))
    }

    /// Has `listener` told what becomes of the state directory, which it gets the path of, if there
    /// is one. It must wait for nothing.
    pub(crate) fn on_trouble(&self, listener: impl Fn(&Path, StateNews) + Send + Sync + 'static) {
        if let Some(state) = &self.state {
            let path = state.path().to_owned();
            state.on_trouble(move |news| listener(&path, news));
        }
    }

    /// What every process of this master bears in its environment.
    pub(crate) fn marks(&self, worker: &WorkerId, incarnation: u64) -> [(&'static str, String); 3] {
        [
            (proc::MASTER, self.nonce.clone()),
            (proc::WORKER, worker.to_string()),
            (proc::INCARNATION, incarnation.to_string()),
        ]
    }

    /// Whether a process bears the marks of this life.
    pub(crate) fn marked(&self, marks: &Marks, worker: &WorkerId, incarnation: u64) -> bool {
        let Marks { master, worker: whose, incarnation: which } = marks;
        (master, whose, *which) == (&self.nonce, worker, incarnation)
    }

    /// A process is about to be spawned. May block for the spawn of the guardian, once.
    pub(crate) fn expects(&self, worker: &WorkerId, afterwards: &Afterwards) {
        if afterwards.keep {
            self.guardian.spare(worker);
        } else {
            self.guardian.begin();
        }
    }

    /// A process was spawned, and is not reaped.
    pub(crate) fn born(&self, born: &Born<'_>) {
        if self.ledger.is_none() && !self.guardian.exists() {
            return;
        }
        let Ok((start_time, _)) = proc::began(born.pid) else { return };
        let Born { worker, incarnation, pid, afterwards, signal, group } = *born;
        if !afterwards.keep {
            let worker = worker.clone();
            self.guardian.started(Ward { worker, pid, start_time, group });
        }
        let timeout_ms = u64::try_from(afterwards.patience.as_millis()).unwrap_or(u64::MAX);
        self.note(worker, |record| {
            record.incarnation = incarnation;
            record.master.clone_from(&self.nonce);
            record.boot_id.clone_from(&self.boot_id);
            record.stop = Stop { signal, timeout_ms, group };
            let configuration = afterwards.configuration.clone();
            let keep = afterwards.keep;
            record.process = Some(Process { pid, start_time, keep, configuration });
        });
    }

    /// A process is gone. To be told before another one of its worker is launched.
    pub(crate) fn died(&self, worker: &WorkerId, pid: u32) {
        self.guardian.ended(pid);
        // A worker that was forgotten meanwhile stays so.
        if let Some(ledger) = &self.ledger {
            ledger.change_known(worker, |record| record.process = None);
        }
    }

    /// A worker has a new life, whatever runs it.
    pub(crate) fn lives(&self, worker: &WorkerId, incarnation: u64) {
        self.note(worker, |record| record.incarnation = incarnation);
    }

    /// What people want of a worker.
    pub(crate) fn wants(&self, worker: &WorkerId, up: bool) {
        let wanted = if up { Wanted::Up } else { Wanted::Down };
        self.note(worker, |record| record.wanted = wanted);
    }

    /// A worker is no longer known.
    pub(crate) fn forget(&self, worker: &WorkerId) {
        if let Some(ledger) = &self.ledger {
            ledger.forget(worker);
        }
    }

    /// A process of a former master is watched by this one.
    pub(crate) fn adopts(&self, worker: &WorkerId) {
        self.guardian.spare(worker);
    }

    fn note(&self, worker: &WorkerId, change: impl FnOnce(&mut Record)) {
        if let Some(ledger) = &self.ledger {
            let new = || Record::new(worker, &self.boot_id, &self.nonce);
            ledger.change(worker, new, change);
        }
    }

    /// Where a process writes that is to live on: for its output and its errors the end that it
    /// gets, and ours.
    ///
    /// # Errors
    /// There is no state directory, or as the calls have them.
    pub(crate) fn make_fifos(&self, worker: &WorkerId) -> io::Result<[(File, File); 2]> {
        let state = self.state.as_ref().ok_or(io::ErrorKind::NotFound)?;
        state.stand().map_err(|error| io::Error::other(error.to_string()))?;
        let workers = state.workers();
        let make = |stream| {
            let name = fifo_of(worker, stream);
            // A former one is not used again: somebody may still write to it.
            workers.remove(&name)?;
            workers.make_fifo(&name)?;
            let ours = workers.open_fifo(&name, FifoEnd::Reader)?;
            let theirs = workers.open_fifo(&name, FifoEnd::Both)?;
            sys::enlarge_pipe(std::os::fd::AsFd::as_fd(&theirs), FIFO_ROOM);
            Ok::<_, io::Error>((theirs, ours))
        };
        let made = [make(Stream::Stdout)?, make(Stream::Stderr)?];
        self.guardian.hold(worker);
        Ok(made)
    }

    /// Our ends of what a process of a former master writes to; none where there is no FIFO.
    pub(crate) fn open_fifos(&self, worker: &WorkerId) -> [Option<File>; 2] {
        let left = self.left.lock().unwrap_or_else(PoisonError::into_inner).remove(worker);
        match (left, &self.state) {
            (Some(left), _) => left.fifos,
            (None, Some(state)) => left::open(&state.workers(), worker),
            (None, None) => [None, None],
        }
    }

    /// What workers have written that have ended since. [`read_out`](Self::read_out) is to be told
    /// when it is handed on.
    pub(crate) fn take_left(&self) -> Vec<Left> {
        let mut left = self.left.lock().unwrap_or_else(PoisonError::into_inner);
        let (ended, watched) =
            std::mem::take(&mut *left).into_iter().partition(|(_, left)| left.ended);
        *left = watched;
        BTreeMap::into_values(ended).collect()
    }

    /// All is handed on that a process had written by its end. To be told before another one of its
    /// worker is launched.
    pub(crate) fn read_out(&self, worker: &WorkerId) {
        let Some(state) = &self.state else { return };
        for name in fifos_of(worker) {
            // Made again for the next life, whether this is possible or not.
            let _ = state.workers().remove(&name);
        }
        self.guardian.release(worker);
    }

    /// Counts one that watches a process which would live on, until the hold is dropped.
    pub(crate) fn hold(self: &Arc<Self>) -> Hold {
        *self.held.lock().unwrap_or_else(PoisonError::into_inner) += 1;
        Hold(Arc::clone(self))
    }

    /// Waits until nobody reads any more what the next master will read, for a while that begins
    /// with the first call. Not `orderly`: the guardian need not wait for that.
    pub(crate) fn await_let_go(&self, orderly: bool) {
        if !orderly {
            self.guardian.act();
        }
        let until = *self.until.get_or_init(|| Instant::now() + PATIENCE);
        let held = self.held.lock().unwrap_or_else(PoisonError::into_inner);
        let left = until.saturating_duration_since(Instant::now());
        drop(self.let_go.wait_timeout_while(held, left, |held| *held > 0));
    }

    /// The master ends. `orderly`: all its processes have ended but those that are to live on, and
    /// the guardian is let go; otherwise it ends what is left. Waits as
    /// [`await_let_go`](Self::await_let_go) does.
    pub(crate) fn close(&self, orderly: bool) {
        if orderly {
            self.guardian.done();
        }
        self.await_let_go(orderly);
        let (Some(state), Some(ledger)) = (&self.state, &self.ledger) else { return };
        state.leave();
        let leaves_nothing = ledger.close();
        if orderly && leaves_nothing {
            let _ = state.root().remove(HOLDER);
        }
        state.done();
    }
}

/// Has all of it written again where the directory was made again.
fn keep(state: &StateDir, ledger: &Ledger, holder: Holder) {
    let write_all = ledger.renewal();
    state.kept_by(move |state| {
        // Without it a next master knows processes by their records alone.
        let _ = state.root().replace(HOLDER, &holder.to_json());
        write_all();
    });
}

/// See [`Estate::hold`].
pub(crate) struct Hold(Arc<Estate>);

impl Drop for Hold {
    fn drop(&mut self) {
        *self.0.held.lock().unwrap_or_else(PoisonError::into_inner) -= 1;
        self.0.let_go.notify_all();
    }
}

/// The marks of the master that a state directory is written down to be of.
pub(crate) fn holder_in(root: &Dir) -> Option<String> {
    let holder = root.read(HOLDER).ok()??;
    Origin::read(&holder).map(|origin| origin.master)
}

/// The names of a worker's FIFOs, for its output and its errors.
pub(crate) fn fifos_of(worker: &WorkerId) -> [String; 2] {
    [Stream::Stdout, Stream::Stderr].map(|stream| fifo_of(worker, stream))
}

fn fifo_of(worker: &WorkerId, stream: Stream) -> String {
    let suffix = match stream {
        Stream::Stdout => "out",
        Stream::Stderr => "err",
    };
    format!("{worker}.{suffix}")
}
