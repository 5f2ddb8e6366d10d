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
    /// Some thread reads.
    reading: bool,
    frames: Frames,
    lost: Option<Error>,
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
            state: Mutex::default(),
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
        let _turn = self.take_turn();
        let begun = Instant::now();
        let total = timeout.and_then(|timeout| timeout.checked_add(patience));
        let end = total.and_then(|total| begun.checked_add(total));
        let open = self.send(method, params)?;
        loop {
            let look = Instant::now().checked_add(patience);
            let until = look.map(|look| end.map_or(look, |end| end.min(look))).or(end);
            if let Some(answer) = open.wait(until)? {
                return answer;
            }
            let now = Instant::now();
            if end.is_some_and(|end| end <= now) {
                return Err(hangs(&self.path, begun.elapsed()));
            }
            self.ask("hello", &Nothing {}, now.checked_add(patience))?;
        }
    }

    /// Waits until one more request that takes long may be made.
    fn take_turn(&self) -> Turn<'_> {
        let mut state = self.state();
        while state.long >= MAX_LONG {
            state = self.heard.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
        state.long += 1;
        Turn(self)
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
        let mut bytes = Vec::new();
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
        drop(state);
        self.heard.notify_all();
        why
    }

    /// Reads what comes within `patience` and hands it out. Called by one thread at a time.
    fn read(&self, frames: &mut Frames, patience: Option<Duration>) -> Result<Vec<FromMaster>> {
        let mut buffer = [0; 16 << 10];
        let read =
            self.socket.set_read_timeout(patience).and_then(|()| (&self.socket).read(&mut buffer));
        match read {
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
        self.0.state().long -= 1;
        self.0.heard.notify_all();
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
            if state.reading {
                state = match left {
                    Some(left) => {
                        let waited = line.heard.wait_timeout(state, left);
                        waited.unwrap_or_else(PoisonError::into_inner).0
                    }
                    None => line.heard.wait(state).unwrap_or_else(PoisonError::into_inner),
                };
                continue;
            }
            state.reading = true;
            let mut frames = std::mem::take(&mut state.frames);
            drop(state);
            let said = line.read(&mut frames, left);
            state = line.state();
            state.frames = frames;
            state.reading = false;
            match said {
                Ok(said) => said.into_iter().for_each(|said| state.hand_out(said)),
                Err(error) => {
                    state.lost.get_or_insert(error);
                }
            }
            line.heard.notify_all();
        }
    }
}

impl Drop for Open<'_> {
    fn drop(&mut self) {
        self.line.state().open.remove(&self.id);
    }
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
    frames: Frames,
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
        let (frames, waiting) = (Frames::default(), Vec::new());
        Ok(Self { line, id, frames, waiting, begun: false, ended: false })
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
                self.waiting = self.line.read(&mut self.frames, left).map_err(|error| {
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
    use super::*;

    #[test]
    fn only_ones_own_master_and_roots_are_listened_to_and_root_listens_to_all() {
        for (uid, own, trusted) in
            [(7, 7, true), (0, 7, true), (7, 0, true), (0, 0, true), (8, 7, false)]
        {
            assert_eq!(is_trusted(uid, own), trusted, "{uid} {own}");
        }
    }
}
