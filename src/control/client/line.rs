//! The client's end of a connection. Several threads ask over it; whoever waits for an answer reads
//! for all, so that no thread is needed for it.

use std::collections::BTreeMap;
use std::io::{self, Read as _};
use std::os::fd::AsFd as _;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use serde::Serialize;
use serde_json::value::RawValue;

use super::{hangs, unreachable};
use crate::control::wire::{self, FromMaster, Nothing, Said};
use crate::error::{Error, ErrorCategory, Result};
use crate::host::protocol::frames::Frames;
use crate::host::sys;

/// So many requests that take long may be open at a time; more wait for their turn. A few less than
/// the server allows, so that it always reads on.
const MAX_LONG: usize = 48;
/// So much is read at a time.
const READ: usize = 64 << 10;

/// A connection.
pub(super) struct Line {
    path: PathBuf,
    socket: UnixStream,
    /// How long the master may take to read what is sent.
    patience: Duration,
    state: Mutex<State>,
    heard: Condvar,
    sending: Mutex<()>,
}

#[derive(Default)]
struct State {
    last_id: u64,
    /// Requests, and their answers if those are here.
    open: BTreeMap<u64, Option<Result<Box<RawValue>>>>,
    long: usize,
    /// What to read with, unless some thread does.
    ear: Option<Ear>,
    /// So many threads wait for what others hear: to wake none costs a call too.
    waiting: usize,
    lost: Option<Error>,
}

/// What whoever reads needs for it.
struct Ear {
    frames: Frames,
    buffer: Box<[u8]>,
    /// How long a read may wait, as the socket was told last.
    patience: Option<Duration>,
}

impl Ear {
    fn new() -> Self {
        // What is not used of it is never touched, and no memory.
        let buffer = vec![0; READ].into_boxed_slice();
        Self { frames: Frames::default(), buffer, patience: None }
    }
}

impl Line {
    /// Connects.
    pub(super) fn open(path: &Path, patience: Duration) -> Result<Self> {
        let socket = connect(path, patience).map_err(|error| {
            if is_late(&error) {
                hangs(path, patience)
            } else if error.kind() == io::ErrorKind::PermissionDenied {
                Error::io(format!("cannot reach the master at {}", path.display()), error)
            } else {
                unreachable(path, error)
            }
        })?;
        Ok(Self {
            path: path.to_owned(),
            socket,
            patience,
            state: Mutex::new(State { ear: Some(Ear::new()), ..State::default() }),
            heard: Condvar::new(),
            sending: Mutex::default(),
        })
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// Asks, and waits for the answer until `deadline`.
    pub(super) fn ask(
        &self,
        method: &str,
        params: &impl Serialize,
        deadline: Option<Instant>,
    ) -> Result<Box<RawValue>> {
        let begun = Instant::now();
        let open = self.send(method, params)?;
        open.wait(deadline)?.unwrap_or_else(|| Err(hangs(&self.path, begun.elapsed())))
    }

    /// Asks for what takes long: at most `timeout`, and as long as the master answers other
    /// questions within `patience`.
    pub(super) fn ask_long(
        &self,
        method: &str,
        params: &impl Serialize,
        timeout: Option<Duration>,
        patience: Duration,
    ) -> Result<Box<RawValue>> {
        let begun = Instant::now();
        let after = |span: Duration| begun.checked_add(span);
        let _turn = self.take_turn(timeout.and_then(after)).ok_or_else(|| crowded(begun))?;
        let waited = begun.elapsed();
        let total = timeout.and_then(|timeout| timeout.checked_add(patience));
        let end = total.and_then(after);
        let open = self.send(method, params)?;
        loop {
            let look = Instant::now().checked_add(patience);
            let until = look.map(|look| end.map_or(look, |end| end.min(look))).or(end);
            if let Some(answer) = open.wait(until)? {
                return answer;
            }
            let now = Instant::now();
            if end.is_some_and(|end| end <= now) {
                // The master counts from when it is asked, and may have time left.
                let late = waited > patience;
                return Err(if late { crowded(begun) } else { hangs(&self.path, begun.elapsed()) });
            }
            self.ask("hello", &Nothing {}, now.checked_add(patience))?;
        }
    }

    /// Waits until one more request that takes long may be made; `None`: not before `deadline`.
    fn take_turn(&self, deadline: Option<Instant>) -> Option<Turn<'_>> {
        let mut state = self.state();
        while state.long >= MAX_LONG {
            let left = deadline.map(|deadline| deadline.saturating_duration_since(Instant::now()));
            if left.is_some_and(|left| left.is_zero()) {
                return None;
            }
            state = self.wait_for_others(state, left);
        }
        state.long += 1;
        Some(Turn(self))
    }

    fn send(&self, method: &str, params: &impl Serialize) -> Result<Open<'_>> {
        let id = {
            let mut state = self.state();
            if let Some(lost) = &state.lost {
                return Err(lost.clone());
            }
            state.last_id += 1;
            let id = state.last_id;
            state.open.insert(id, None);
            id
        };
        let open = Open { line: self, id };
        let mut bytes = Vec::with_capacity(128);
        wire::push_request(&mut bytes, id, method, params);
        if bytes.len() > crate::host::protocol::MAX_FRAME {
            let message = "the request does not fit into a line of 1 MiB";
            return Err(Error::new(ErrorCategory::Refused, message));
        }
        let sending = self.sending.lock().unwrap_or_else(PoisonError::into_inner);
        let sent = sys::send_all(self.socket.as_fd(), &bytes, self.patience);
        drop(sending);
        match sent {
            Ok(()) => {}
            Err(error) if error.kind() == io::ErrorKind::TimedOut => {
                // Half a line may be on its way: nothing that follows could be understood.
                return Err(self.lose(hangs(&self.path, self.patience)));
            }
            // What the master said before it closed the connection may still be read: it says why.
            Err(_) => {}
        }
        Ok(open)
    }

    /// Nothing more comes over this connection. Returns why, as it was found first.
    fn lose(&self, why: Error) -> Error {
        let mut state = self.state();
        let why = state.lost.get_or_insert(why).clone();
        self.wake_others(&state);
        why
    }

    /// Waits until another thread has heard something, or `left` is over.
    fn wait_for_others<'s>(
        &self,
        mut state: MutexGuard<'s, State>,
        left: Option<Duration>,
    ) -> MutexGuard<'s, State> {
        state.waiting += 1;
        let mut state = match left {
            Some(left) => {
                let waited = self.heard.wait_timeout(state, left);
                waited.unwrap_or_else(PoisonError::into_inner).0
            }
            None => self.heard.wait(state).unwrap_or_else(PoisonError::into_inner),
        };
        state.waiting -= 1;
        state
    }

    fn wake_others(&self, state: &State) {
        if state.waiting > 0 {
            self.heard.notify_all();
        }
    }

    /// Reads what comes within about `patience`, or less. Called by one thread at a time.
    fn read(&self, ear: &mut Ear, patience: Option<Duration>) -> Result<Vec<FromMaster>> {
        let patience = patience.map(rounded);
        let read = self.set_patience(ear, patience);
        let Ear { frames, buffer, .. } = ear;
        match read.and_then(|()| (&self.socket).read(buffer)) {
            Ok(0) => Err(unreachable(&self.path, "it closed the connection")),
            Ok(count) => {
                frames.push(buffer.get(..count).unwrap_or_default());
                let mut said = Vec::new();
                let confused = |error: &dyn std::fmt::Display| {
                    let message = format!("{} is no master's socket: {error}", self.path.display());
                    Error::new(ErrorCategory::Unknown, message)
                };
                while let Some(line) = frames.next().map_err(|error| confused(&error))? {
                    said.push(FromMaster::read(line).map_err(|error| confused(&error))?);
                }
                Ok(said)
            }
            Err(error) if is_late(&error) => Ok(Vec::new()),
            Err(error) => Err(unreachable(&self.path, error)),
        }
    }

    /// Says how long a read may wait, if that is not what was said before.
    fn set_patience(&self, ear: &mut Ear, patience: Option<Duration>) -> io::Result<()> {
        if ear.patience != patience {
            self.socket.set_read_timeout(patience)?;
            ear.patience = patience;
        }
        Ok(())
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn hand_out(&mut self, said: FromMaster) {
        let answer = match said.said {
            Said::Result(result) => Ok(result),
            Said::Error(error) => Err(error),
            Said::Event(_) => return,
        };
        match (said.id, answer) {
            // An answer that nobody waits for any more is dropped.
            (Some(id), answer) => {
                if let Some(open) = self.open.get_mut(&id) {
                    *open = Some(answer);
                }
            }
            (None, Err(error)) => {
                self.lost.get_or_insert(error);
            }
            (None, Ok(_)) => {}
        }
    }
}

/// One of the few requests that take long.
struct Turn<'l>(&'l Line);

impl Drop for Turn<'_> {
    fn drop(&mut self) {
        let mut state = self.0.state();
        state.long -= 1;
        self.0.wake_others(&state);
    }
}

/// A request that was sent.
struct Open<'l> {
    line: &'l Line,
    id: u64,
}

impl Open<'_> {
    /// Waits for the answer until `deadline`; `None`: it is not there yet.
    fn wait(&self, deadline: Option<Instant>) -> Result<Option<Result<Box<RawValue>>>> {
        let line = self.line;
        let mut state = line.state();
        loop {
            if let Some(answer) = state.open.get_mut(&self.id).and_then(Option::take) {
                return Ok(Some(answer));
            }
            if let Some(lost) = &state.lost {
                return Err(lost.clone());
            }
            let left = deadline.map(|deadline| deadline.saturating_duration_since(Instant::now()));
            if left.is_some_and(|left| left.is_zero()) {
                return Ok(None);
            }
            let Some(mut ear) = state.ear.take() else {
                state = line.wait_for_others(state, left);
                continue;
            };
            drop(state);
            let said = line.read(&mut ear, left);
            state = line.state();
            state.ear = Some(ear);
            match said {
                Ok(said) => said.into_iter().for_each(|said| state.hand_out(said)),
                Err(error) => {
                    state.lost.get_or_insert(error);
                }
            }
            line.wake_others(&state);
        }
    }
}

impl Drop for Open<'_> {
    fn drop(&mut self) {
        self.line.state().open.remove(&self.id);
    }
}

/// A request did not come to its turn, or too late.
fn crowded(begun: Instant) -> Error {
    let message = format!(
        "not done within {:.1?}: {MAX_LONG} other requests of this connection were before it",
        begun.elapsed()
    );
    Error::new(ErrorCategory::Timeout, message)
}

/// A patience that is no longer, and one of few: there is no need to say a new one for each answer.
/// Who has more waits again.
fn rounded(patience: Duration) -> Duration {
    let millis = u64::try_from(patience.as_millis()).unwrap_or(u64::MAX).max(1);
    // More than the system has a number for would be refused.
    Duration::from_millis(1 << millis.ilog2().min(40))
}

/// True when something did not come in time, or a signal came: it may be tried again.
fn is_late(error: &io::Error) -> bool {
    let (room, time) = (io::ErrorKind::WouldBlock, io::ErrorKind::TimedOut);
    [room, time, io::ErrorKind::Interrupted].contains(&error.kind())
}

/// Connects to a socket whose path may be longer than an address has room for, if who listens may
/// be trusted.
fn connect(path: &Path, patience: Duration) -> io::Result<UnixStream> {
    const ROOM: usize = 107;
    let socket = match (path.parent(), path.file_name()) {
        (Some(directory), Some(name)) if path.as_os_str().len() > ROOM => {
            let directory = std::fs::File::open(directory)?;
            sys::connect_unix(&sys::below(directory.as_fd(), name), patience)?
        }
        _ => sys::connect_unix(path, patience)?,
    };
    let (uid, own) = (sys::peer(socket.as_fd())?.uid, sys::effective_uid());
    if is_trusted(uid, own) {
        return Ok(socket);
    }
    let message = format!("uid {uid} listens there, which is neither ours ({own}) nor root's");
    Err(io::Error::new(io::ErrorKind::PermissionDenied, message))
}

/// Whether `own` listens to what `uid` says: its own master and root's. Root may command all.
fn is_trusted(uid: u32, own: u32) -> bool {
    uid == own || uid == 0 || own == 0
}

/// One connection for one stream of items.
pub(super) struct Stream {
    line: Line,
    id: u64,
    ear: Ear,
    /// Read, and not taken yet; the next one is the last.
    waiting: Vec<FromMaster>,
    /// Something has come.
    begun: bool,
    ended: bool,
}

impl Stream {
    pub(super) fn open(
        path: &Path,
        patience: Duration,
        method: &str,
        params: &impl Serialize,
    ) -> Result<Self> {
        let line = Line::open(path, patience)?;
        let open = line.send(method, params)?;
        let id = open.id;
        drop(open);
        let ear = line.state().ear.take().unwrap_or_else(Ear::new);
        Ok(Self { line, id, ear, waiting: Vec::new(), begun: false, ended: false })
    }

    /// The next item; `None`: there is none any more.
    ///
    /// # Errors
    /// What ended the stream; or `timeout`, when nothing came within `patience`.
    pub(super) fn next(&mut self, patience: Option<Duration>) -> Result<Option<Box<RawValue>>> {
        let deadline = patience.and_then(|patience| Instant::now().checked_add(patience));
        while !self.ended {
            let Some(said) = self.waiting.pop() else {
                let left = deadline.map(|end| end.saturating_duration_since(Instant::now()));
                if left.is_some_and(|left| left.is_zero()) {
                    return Err(Error::new(ErrorCategory::Timeout, "nothing came"));
                }
                self.waiting = self.line.read(&mut self.ear, left).map_err(|error| {
                    self.ended = true;
                    self.lost(error)
                })?;
                self.waiting.reverse();
                self.begun |= !self.waiting.is_empty();
                continue;
            };
            if said.id.is_some_and(|id| id != self.id) {
                continue;
            }
            match said.said {
                Said::Event(item) => return Ok(Some(item)),
                Said::Result(_) => self.ended = true,
                Said::Error(error) => {
                    self.ended = true;
                    return Err(error);
                }
            }
        }
        Ok(None)
    }

    /// Why nothing more comes. Who has answered was there, and is not told to be missing.
    fn lost(&self, error: Error) -> Error {
        if !self.begun || error.category() != ErrorCategory::NotRunning {
            return error;
        }
        let message = "dropped: it was read too slowly, or the master ended";
        Error::new(ErrorCategory::Cancelled, message)
    }
}

#[cfg(test)]
mod tests {
    use std::io::{BufRead as _, BufReader};
    use std::os::unix::net::UnixListener;

    use super::*;

    #[test]
    fn a_patience_that_is_set_is_no_longer_than_asked_and_seldom_a_new_one() {
        let millis = Duration::from_millis;
        for (asked, set) in [
            (Duration::ZERO, millis(1)),
            (Duration::from_micros(2_999), millis(2)),
            (millis(4_096), millis(4_096)),
            (millis(5_000), millis(4_096)),
            (millis(4_096) + Duration::from_nanos(1), millis(4_096)),
            (Duration::MAX, millis(1 << 40)),
        ] {
            assert_eq!(rounded(asked), set, "{asked:?}");
        }
        let (ours, _theirs) = UnixStream::pair().unwrap();
        ours.set_read_timeout(Some(rounded(Duration::MAX))).unwrap();
    }

    #[test]
    fn a_request_waits_for_its_turn_no_longer_than_it_may_take() {
        const LONG: Duration = Duration::from_secs(30);
        let around = tempfile::tempdir().unwrap();
        let path = around.path().join("s");
        let listener = UnixListener::bind(&path).unwrap();
        let line = &Line::open(&path, LONG).unwrap();
        let (master, _) = listener.accept().unwrap();
        master.set_read_timeout(Some(LONG)).unwrap();
        let (tell, told) = crossbeam_channel::bounded(1);
        let told = std::thread::scope(|scope| {
            for _ in 0..MAX_LONG {
                scope.spawn(|| line.ask_long("wait", &Nothing {}, None, LONG).unwrap_err());
            }
            let asked = BufReader::new(&master).lines().take(MAX_LONG);
            assert_eq!(asked.filter(io::Result::is_ok).count(), MAX_LONG);
            let brief = Some(Duration::from_millis(20));
            scope.spawn(move || tell.send(line.ask_long("stop", &Nothing {}, brief, LONG)));
            let told = told.recv_timeout(LONG);
            // Ends all of them.
            master.shutdown(std::net::Shutdown::Both).unwrap();
            told
        });
        let error = told.expect("it waits with the others").unwrap_err();
        assert_eq!(error.category(), ErrorCategory::Timeout, "{error}");
        assert!(error.message().contains("were before it"), "{error}");
    }

    #[test]
    fn only_ones_own_master_and_roots_are_listened_to_and_root_listens_to_all() {
        for (uid, own, trusted) in
            [(7, 7, true), (0, 7, true), (7, 0, true), (0, 0, true), (8, 7, false)]
        {
            assert_eq!(is_trusted(uid, own), trusted, "{uid} {own}");
        }
    }
}
