//! The master's side: starts its guardian when there is something to guard, tells it what comes and
//! goes, and replaces it should it die.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{self, Write};
use std::net::Shutdown;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use super::keeper::most_held;
use super::{GUARD_ROLE, Ward, Word};
use crate::host::attached::Attached;
use crate::host::reaper::Claim;
use crate::host::roles::Program;
use crate::host::{proc, sys, threads};
use crate::worker::WorkerId;

/// The thread that waits for a guardian's death.
const STACK: usize = 128 << 10;
/// A guardian that leaves so much unread is replaced.
const MAX_UNREAD: usize = 256 << 10;
/// One that dies sooner than this has died young.
const YOUTH: Duration = Duration::from_secs(10);
/// So many that die young in a row are the last ones.
const MOST_YOUNG: u32 = 3;
/// How long an orderly end of it may take.
const PATIENCE: Duration = Duration::from_secs(2);

/// The way to a master's guardian. Dropped before it is told that everything is done, it lets the
/// guardian act.
pub(crate) struct Guardian(Option<Arc<Shared>>);

struct Shared {
    program: Program,
    nonce: String,
    place: Option<PathBuf>,
    /// Of so many workers it holds what they write into.
    most: usize,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    post: Post,
    wards: BTreeMap<u32, Ward>,
    spared: BTreeSet<WorkerId>,
    /// Workers whose output waits in FIFOs.
    held: BTreeSet<WorkerId>,
    /// That they are more than it holds was said.
    beyond: bool,
    /// Guardians that died young, in a row.
    young: u32,
    /// That none could be started was said.
    complained: bool,
    watch: Option<JoinHandle<()>>,
}

/// Whether somebody is on guard.
#[derive(Default)]
enum Post {
    /// Nothing was to be guarded yet, or nobody could be found.
    #[default]
    Vacant,
    Held(Line),
    /// The master has ended.
    Closed,
}

/// The line to a guardian.
struct Line {
    socket: UnixStream,
    /// What the socket had no room for.
    unread: Vec<u8>,
    /// The guardian itself.
    process: Attached,
    /// Its end is waited for by whoever watches it.
    _claim: Claim,
}

impl Guardian {
    /// `program`: this one, run again; without it nothing is guarded. `nonce`: what the master
    /// marks its workers with. `place`: its state directory, from anywhere.
    pub(crate) fn new(program: Option<Program>, nonce: &str, place: Option<PathBuf>) -> Self {
        // It raises its limit as far as it may.
        let most = most_held(sys::nofile_limit().map_or(u64::MAX, |limit| limit.hard));
        let nonce = nonce.to_owned();
        let shared = |program| Shared { program, nonce, place, most, state: Mutex::default() };
        Self(program.map(|program| Arc::new(shared(program))))
    }

    /// False: nothing is guarded.
    pub(crate) fn exists(&self) -> bool {
        self.0.is_some()
    }

    /// Makes sure that somebody is on guard. Blocks for the spawn of a process, the first time.
    pub(crate) fn begin(&self) {
        let Some(shared) = &self.0 else { return };
        let mut state = shared.lock();
        if !matches!(state.post, Post::Vacant) || state.young >= MOST_YOUNG {
            return;
        }
        if let Err(error) = shared.take_post(&mut state)
            && !std::mem::replace(&mut state.complained, true)
        {
            log::error!(
                "cannot start the guardian, so workers would outlive a master that is killed: \
                 {error}"
            );
        }
    }

    /// A process is there, and is to end with the master.
    pub(crate) fn started(&self, ward: Ward) {
        let Some(shared) = &self.0 else { return };
        let mut state = shared.lock();
        state.spared.remove(&ward.worker);
        state.tell(&Word::Started(ward.clone()));
        state.wards.insert(ward.pid, ward);
    }

    /// A process is gone.
    pub(crate) fn ended(&self, pid: u32) {
        let Some(shared) = &self.0 else { return };
        let mut state = shared.lock();
        if state.wards.remove(&pid).is_some() {
            state.tell(&Word::Ended(pid));
        }
    }

    /// A worker is to outlive the master. To be told before it is started.
    pub(crate) fn spare(&self, worker: &WorkerId) {
        let Some(shared) = &self.0 else { return };
        let mut state = shared.lock();
        if state.spared.insert(worker.clone()) {
            state.tell(&Word::Spare(worker.clone()));
        }
    }

    /// A worker's FIFOs were made, or found. Blocks for the spawn of the guardian, the first time.
    pub(crate) fn hold(&self, worker: &WorkerId) {
        self.begin();
        let Some(shared) = &self.0 else { return };
        let mut state = shared.lock();
        state.tell(&Word::Hold(worker.clone()));
        if state.goes_beyond(worker, shared.most) {
            drop(state);
            let most = shared.most;
            log::warn!(
                "{worker}: the guardian holds the unread output of {most} kept workers at most, a \
                 quarter of the descriptors that it may have: of this one and any more, what is \
                 not read is lost should they end while no master runs; raise the limit of open \
                 files (ulimit -n)"
            );
        }
    }

    /// Nothing is left in a worker's FIFOs.
    pub(crate) fn release(&self, worker: &WorkerId) {
        let Some(shared) = &self.0 else { return };
        let mut state = shared.lock();
        if state.held.remove(worker) {
            state.tell(&Word::Release(worker.clone()));
        }
    }

    /// The master has ended everything that is to end: lets the guardian go, and waits for that if
    /// there is nothing that it goes on to hold.
    pub(crate) fn done(&self) {
        self.close(true);
    }

    /// The master is about to end and has not ended everything: lets the guardian do it.
    pub(crate) fn act(&self) {
        self.close(false);
    }

    fn close(&self, done: bool) {
        let Some(shared) = &self.0 else { return };
        let mut state = shared.lock();
        if done {
            state.tell(&Word::Done);
        }
        let post = std::mem::replace(&mut state.post, Post::Closed);
        let watch = state.watch.take();
        let holds = !state.held.is_empty();
        drop(state);
        let Post::Held(line) = post else { return };
        // Whoever else of this process has the socket open, the guardian hears the end.
        let _ = line.socket.shutdown(Shutdown::Both);
        if !done || holds {
            return;
        }
        if !line.process.wait(Some(PATIENCE)) {
            log::warn!("the guardian does not end and is killed");
            let _ = line.process.signal(sys::SIGKILL);
        }
        if let Some(watch) = watch {
            // It runs no code but ours.
            let _ = watch.join();
        }
    }
}

impl Drop for Guardian {
    fn drop(&mut self) {
        self.close(false);
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        // What can panic under the lock is an assertion of ours at most.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Starts a guardian, tells it everything, and leaves it to a thread that waits for its end.
    fn take_post(self: &Arc<Self>, state: &mut State) -> io::Result<()> {
        let (line, mut child, ear) = self.hire(state)?;
        state.post = Post::Held(line);
        let shared = Arc::clone(self);
        match threads::vital("hsu-guardian", STACK, move || shared.watch(&mut child, &ear)) {
            Ok(watch) => {
                state.watch = Some(watch);
                Ok(())
            }
            Err(error) => {
                if let Post::Held(line) = std::mem::take(&mut state.post) {
                    let _ = line.process.signal(sys::SIGKILL);
                    let _ = sys::reap_by(line.process.as_fd());
                }
                Err(error)
            }
        }
    }

    /// A guardian that knows everything, and a descriptor that tells of its end.
    fn hire(&self, state: &State) -> io::Result<(Line, Child, OwnedFd)> {
        let (socket, theirs) = UnixStream::pair()?;
        let ear = socket.as_fd().try_clone_to_owned()?;
        socket.set_nonblocking(true)?;
        let mut command = Command::new(&self.program.path);
        command.arg(GUARD_ROLE).stdin(OwnedFd::from(theirs)).stdout(Stdio::null());
        if let Some(place) = &self.place {
            command.arg(place);
        }
        // A group of its own, so that it outlives the master's, and no mark that another master's
        // guardian could take it for a worker by.
        command.process_group(0).env_remove(proc::MASTER).env_remove(proc::WORKER);
        command.current_dir("/");
        if let Some(name) = &self.program.name {
            command.arg0(name);
        }
        let mut child = command.spawn()?;
        let process = Attached::of(child.id()).inspect_err(|_| {
            let _ = child.kill();
            let _ = child.wait();
        })?;
        let claim = Claim::on(child.id());
        let mut line = Line { socket, unread: Vec::new(), process, _claim: claim };
        line.send(Word::Nonce(self.nonce.clone()).line().as_bytes());
        for worker in &state.spared {
            line.send(Word::Spare(worker.clone()).line().as_bytes());
        }
        for ward in state.wards.values() {
            line.send(Word::Started(ward.clone()).line().as_bytes());
        }
        for worker in &state.held {
            line.send(Word::Hold(worker.clone()).line().as_bytes());
        }
        Ok((line, child, ear))
    }

    /// As `hire`, in the place of one that died: the next one may die before it is known, too.
    fn hire_another(&self, state: &State) -> io::Result<(Line, Child, OwnedFd)> {
        let mut why = io::Error::other("one after the other dies");
        for _ in state.young..MOST_YOUNG {
            match self.hire(state) {
                Ok(hired) => return Ok(hired),
                Err(error) => why = error,
            }
        }
        Err(why)
    }

    /// Waits for the end of one guardian after the other.
    fn watch(&self, child: &mut Child, ear: &OwnedFd) {
        let mut hired = Instant::now();
        let mut heard = None;
        loop {
            let ear = heard.as_ref().unwrap_or(ear).as_fd();
            // It never says anything: this is the end of its life.
            while let Ok([false]) = sys::wait_readable([Some(ear)], None) {}
            let ended = child.wait();
            threads::fail_point("hsu-guardian");
            let mut state = self.lock();
            if matches!(state.post, Post::Closed) {
                return;
            }
            state.young = if hired.elapsed() < YOUTH { state.young + 1 } else { 0 };
            let how = ended.map_or_else(|error| error.to_string(), |status| status.to_string());
            if state.young < MOST_YOUNG {
                log::warn!("the guardian died ({how}): another one takes its place");
            }
            match self.hire_another(&state) {
                Ok((line, next, ear)) => {
                    state.post = Post::Held(line);
                    hired = Instant::now();
                    (*child, heard) = (next, Some(ear));
                }
                Err(error) => {
                    log::error!("nobody is on guard any more ({how}): {error}");
                    state.post = Post::Vacant;
                    return;
                }
            }
        }
    }
}

impl State {
    /// Adds a worker to those whose output is to be held. True once: they are too many.
    fn goes_beyond(&mut self, worker: &WorkerId, most: usize) -> bool {
        let is_new = self.held.insert(worker.clone());
        is_new && self.held.len() > most && !std::mem::replace(&mut self.beyond, true)
    }

    fn tell(&mut self, word: &Word) {
        if let Post::Held(line) = &mut self.post {
            line.send(word.line().as_bytes());
        }
    }
}

impl Line {
    /// Sends as much as there is room for, and keeps the rest for the next time. That nobody reads
    /// is learnt by whoever waits for the guardian's end.
    fn send(&mut self, bytes: &[u8]) {
        self.unread.extend_from_slice(bytes);
        let mut sent = 0;
        while sent < self.unread.len() {
            match self.socket.write(&self.unread[sent..]) {
                Ok(count) => sent += count,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                Err(_) => sent = self.unread.len(),
            }
        }
        self.unread.drain(..sent);
        if self.unread.len() > MAX_UNREAD {
            log::warn!("the guardian does not listen and is replaced");
            self.unread = Vec::new();
            let _ = self.process.signal(sys::SIGKILL);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_worker_beyond_what_a_guardian_holds_is_told_of_and_no_other() {
        let mut state = State::default();
        let hold = |id: &str| state.goes_beyond(&WorkerId::new(id).unwrap(), 2);
        assert_eq!(
            ["a", "b", "b", "a", "c", "c", "d"].map(hold),
            [false, false, false, false, true, false, false]
        );
    }
}
