//! One connection: reads its requests, answers what can be answered at once, and waits for the
//! rest, all on one thread that waits for nothing but its socket and its mailbox.

use std::collections::BTreeMap;
use std::io::{self, Read as _};
use std::net::Shutdown;
use std::os::fd::AsFd as _;
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::mailbox::{Letters, Mailbox};
use super::work::{Answer, Look, Work};
use super::{FAREWELL, Shared, wire};
use crate::error::{Error, ErrorCategory, Result};
use crate::host::protocol::frames::Frames;
use crate::host::sys::{self, Peer, Readiness};

mod requests;

/// A line must be whole so long after its first byte, and be taken so long after it was sent.
const PATIENCE: Duration = Duration::from_secs(5);
/// So many requests may be open; more are not read before one is answered. So many commands
/// that are answered may go on; more are refused before one has ended.
const MAX_OPEN: usize = 64;
/// So much is read at a time.
const READ: usize = 16 << 10;
/// Nothing more is read, and no stream goes on, while so many bytes wait for the client.
const MAX_OUT: usize = 256 << 10;

/// A connection to one client.
pub(super) struct Connection<'s> {
    shared: &'s Arc<Shared>,
    socket: Arc<UnixStream>,
    peer: Peer,
    mailbox: Arc<Mailbox>,
    /// It has the last descriptors: it is not to stay.
    brief: bool,
    phase: Phase,
    frames: Frames,
    /// What is read goes here first: new room for it each time would have to be cleared.
    buffer: Box<[u8]>,
    /// Since when a line is awaited that has begun, or the first one.
    begun: Option<Instant>,
    /// It has said something that was understood.
    greeted: bool,
    out: Vec<u8>,
    /// Since when what waits for the client waits, or when some of it was last taken.
    waits: Option<Instant>,
    open: BTreeMap<u64, Open>,
    /// How many of those are silent.
    silent: usize,
    last: u64,
    streams: usize,
    /// The master has ended: by then all is said.
    farewell: Option<Instant>,
}

/// How far a connection is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    Reading,
    /// Nothing more is read; what is open is answered.
    Answering,
    /// Nothing more is said but what waits to be taken.
    Flushing,
    /// Nobody is there any more.
    Gone,
}

/// A request that is not answered yet.
struct Open {
    /// Its number on the wire.
    id: u64,
    work: Work,
    deadline: Option<Instant>,
    /// How long was asked for.
    asked: Duration,
    /// What is told of it in the log.
    audit: Option<String>,
    /// A command that is answered and goes on: it takes memory until it has ended, so it counts.
    silent: bool,
}

impl<'s> Connection<'s> {
    pub(super) fn new(
        shared: &'s Arc<Shared>,
        peer: Peer,
        mailbox: Arc<Mailbox>,
        brief: bool,
    ) -> Self {
        let now = Instant::now();
        Self {
            shared,
            socket: mailbox.socket(),
            peer,
            mailbox,
            brief,
            phase: Phase::Reading,
            frames: Frames::default(),
            buffer: vec![0; READ].into_boxed_slice(),
            begun: Some(now),
            greeted: false,
            out: Vec::new(),
            waits: None,
            open: BTreeMap::new(),
            silent: 0,
            last: 0,
            streams: 0,
            farewell: None,
        }
    }

    /// Serves the client until it is gone. Its commands go on without it.
    pub(super) fn serve(mut self) {
        loop {
            let more = self.take_lines();
            self.pump();
            self.flush();
            if self.is_over() {
                return;
            }
            let quiet = !more && self.is_quiet();
            if quiet || self.is_stalled() {
                self.mailbox.rest();
            }
            if quiet && self.open.is_empty() {
                self.read();
                continue;
            }
            // Lines that wait here are not to be heard of from the socket.
            let patience = if more && self.has_room() { Some(Duration::ZERO) } else { self.rest() };
            let Ok(ready) = self.wait(patience) else { return };
            if !self.mailbox.resume() {
                return self.give_way();
            }
            if ready.woken {
                let letters = self.mailbox.take();
                self.open_letters(letters);
            }
            if ready.readable {
                self.read_now(ready.hung_up);
            } else if ready.hung_up {
                self.leave();
            }
            self.expire();
        }
    }

    fn has_room(&self) -> bool {
        let waited_for = self.open.len() - self.silent;
        self.phase == Phase::Reading && waited_for < MAX_OPEN && self.out.len() < MAX_OUT
    }

    fn wait(&self, patience: Option<Duration>) -> io::Result<Readiness> {
        let wanted = [self.has_room(), !self.out.is_empty()];
        sys::wait_connection(self.socket.as_fd(), wanted, self.mailbox.as_fd(), patience)
    }

    /// How long until something is late; `None`: nothing can be.
    fn rest(&self) -> Option<Duration> {
        let line = self.begun.filter(|_| self.has_room()).map(|begun| begun + PATIENCE);
        let taken = self.waits.map(|since| since + PATIENCE).filter(|_| !self.is_stalled());
        let open = self.open.values().filter_map(|open| open.deadline).min();
        let first = [line, taken, open, self.farewell].into_iter().flatten().min()?;
        Some(first.saturating_duration_since(Instant::now()))
    }

    /// True when all that is open are streams whose client does not read for now, as one does who
    /// looks at a page of them. They wait for it, and take no more memory meanwhile; but another
    /// may have the place.
    fn is_stalled(&self) -> bool {
        let all = self.streams > 0 && self.open.len() == self.silent + self.streams;
        all && self.waits.is_some_and(is_due)
    }

    /// True when the client waits for nothing: another may have the place. If nothing is open
    /// either, waiting for what the client says and reading it are one call, which the mailbox ends
    /// at the master's end.
    fn is_quiet(&self) -> bool {
        let said = self.out.is_empty() && self.begun.is_none();
        self.phase == Phase::Reading && said && self.open.len() == self.silent
    }

    fn read(&mut self) {
        let mut buffer = std::mem::take(&mut self.buffer);
        let read = (&*self.socket).read(&mut buffer);
        // What it has said in that very moment is not carried out.
        if !self.mailbox.resume() {
            return self.give_way();
        }
        self.take(read.map(|count| buffer.get(..count).unwrap_or_default()), false);
        self.buffer = buffer;
    }

    fn read_now(&mut self, hung_up: bool) {
        let mut buffer = std::mem::take(&mut self.buffer);
        let read = sys::receive_now(&self.socket, &mut buffer);
        self.take(read.map(|count| buffer.get(..count).unwrap_or_default()), hung_up);
        self.buffer = buffer;
    }

    fn take(&mut self, read: io::Result<&[u8]>, hung_up: bool) {
        match read {
            Ok([]) if hung_up => self.leave(),
            Ok([]) => self.phase = Phase::Answering,
            Ok(bytes) => self.frames.push(bytes),
            Err(error) if is_early(&error) => {}
            Err(_) => self.leave(),
        }
    }

    /// Takes the lines that are whole, as far as there is room. True: there may be more.
    fn take_lines(&mut self) -> bool {
        let mut taken = false;
        while self.has_room() {
            // The frames are not ours while a line of theirs is looked at.
            let mut frames = std::mem::take(&mut self.frames);
            match frames.next() {
                Ok(Some(line)) => {
                    taken = true;
                    self.hear(line);
                    self.frames = frames;
                }
                Ok(None) => {
                    self.begun = match (frames.has_begun(), taken) {
                        (true, false) => self.begun.or_else(|| Some(Instant::now())),
                        (true, true) => Some(Instant::now()),
                        // The first line is awaited from the beginning.
                        (false, _) if !self.greeted => self.begun,
                        (false, _) => None,
                    };
                    self.frames = frames;
                    return false;
                }
                Err(error) => self.give_up(&Error::configuration(error.to_string())),
            }
        }
        // The client is not to blame for what we do not read.
        self.begun = None;
        self.phase == Phase::Reading
    }

    /// Says what cannot be made good, and that it is the end.
    fn give_up(&mut self, why: &Error) {
        wire::push_error(&mut self.out, None, why);
        self.phase = Phase::Flushing;
        self.forsake();
    }

    /// Another connection needs the place, and this one is idle.
    fn give_way(&mut self) {
        // Closing over unread bytes would look like a broken connection.
        let _ = sys::receive_now(&self.socket, &mut [0; READ]);
        let message = "busy: others need the place of this connection, which was idle the longest";
        self.give_up(&Error::new(ErrorCategory::Refused, message));
        // A client that does not read is not waited for: it counts no longer.
        self.flush();
        self.leave();
    }

    /// Nobody is there any more.
    fn leave(&mut self) {
        self.phase = Phase::Gone;
        self.out = Vec::new();
        self.waits = None;
        let _ = self.socket.shutdown(Shutdown::Both);
        self.forsake();
    }

    /// Waits for nothing any more. The core carries commands out whether anybody waits or not, and
    /// a thread and a place are too dear to be kept for their outcome.
    fn forsake(&mut self) {
        let Peer { pid, uid } = self.peer;
        for what in std::mem::take(&mut self.open).into_values().filter_map(|open| open.audit) {
            log::info!("control: pid {pid} (uid {uid}): {what}: client gone, the command goes on");
        }
        (self.silent, self.streams) = (0, 0);
    }

    fn open_letters(&mut self, letters: Letters) {
        let Letters { ready, results, died, closed } = letters;
        for (key, result) in results {
            self.answer(key, result.map(Answer::Text));
        }
        for key in ready {
            self.look(key);
        }
        if died || closed {
            self.answer_all();
        }
        if closed {
            self.end();
        }
    }

    /// The master has ended: whatever is not answered by now never will be.
    fn answer_all(&mut self) {
        let keys: Vec<_> = self.open.keys().copied().collect();
        for key in keys {
            self.look(key);
            let streams = |open: &Open| matches!(open.work, Work::Streaming(_));
            if !self.open.get(&key).is_none_or(streams) {
                self.answer(key, Err(self.shared.end()));
            }
        }
    }

    /// Nobody is answered any more but by what is on its way.
    fn end(&mut self) {
        if self.phase == Phase::Reading {
            self.phase = Phase::Answering;
        }
        self.farewell = Some(Instant::now() + FAREWELL);
    }

    /// Looks whether a request can be answered now.
    fn look(&mut self, key: u64) {
        loop {
            let Some(open) = self.open.get_mut(&key) else { return };
            let waker = self.mailbox.waker(key);
            match open.work.look(self.shared, &waker) {
                Look::Later => return,
                Look::Answer(answer) => return self.answer(key, answer),
                Look::Becomes(work, until) => {
                    open.work = work;
                    open.deadline = Some(open.deadline.map_or(until, |end| end.min(until)));
                }
            }
        }
    }

    /// Answers a request: the one place that does, for those that are not answered at once.
    fn answer(&mut self, key: u64, answer: Result<Answer>) {
        let Some(open) = self.open.remove(&key) else { return };
        if open.silent {
            self.silent -= 1;
            return;
        }
        if matches!(open.work, Work::Streaming(_)) {
            self.streams = self.streams.saturating_sub(1);
        }
        self.say(open.id, open.audit.as_deref(), answer);
    }

    fn say(&mut self, id: u64, audit: Option<&str>, answer: Result<Answer>) {
        if let Some(what) = audit {
            self.log(what, answer.as_ref().err());
        }
        match answer {
            Ok(answer) => answer.push(&mut self.out, id),
            Err(error) => wire::push_error(&mut self.out, Some(id), &error),
        }
    }

    fn log(&self, what: &str, error: Option<&Error>) {
        let Peer { pid, uid } = self.peer;
        match error {
            None => log::info!("control: pid {pid} (uid {uid}): {what}: done"),
            Some(error) => {
                let (category, message) = (error.category(), error.message());
                log::info!("control: pid {pid} (uid {uid}): {what}: {category}: {message}");
            }
        }
    }

    /// Lets streams go on, as far as there is room.
    fn pump(&mut self) {
        if self.streams == 0 {
            return;
        }
        let mut ended = Vec::new();
        for (key, open) in &mut self.open {
            if let Work::Streaming(stream) = &mut open.work
                && let Some(end) = stream.pump(&mut self.out, open.id, MAX_OUT)
            {
                ended.push((*key, end));
            }
        }
        for (key, end) in ended {
            self.answer(key, end.map(|()| Answer::Nothing));
        }
    }

    /// Sends what there is room for.
    fn flush(&mut self) {
        let mut sent = 0;
        while let Some(rest) = self.out.get(sent..).filter(|rest| !rest.is_empty()) {
            match sys::send_now(self.socket.as_fd(), rest) {
                Ok(count) => sent += count,
                // Asked again when there is room.
                Err(error) if is_early(&error) => break,
                Err(_) => return self.leave(),
            }
        }
        self.out.drain(..sent);
        self.waits = match self.waits {
            _ if self.out.is_empty() => None,
            Some(since) if sent == 0 => Some(since),
            Some(_) | None => Some(Instant::now()),
        };
        if self.out.is_empty() && self.out.capacity() > MAX_OUT {
            self.out = Vec::new();
        }
    }

    /// Whatever is late by now is dealt with.
    fn expire(&mut self) {
        let now = Instant::now();
        if self.begun.is_some_and(is_due) && self.has_room() {
            let message = format!("a line must be whole {PATIENCE:?} after its first byte");
            self.give_up(&Error::new(ErrorCategory::Timeout, message));
        }
        if self.waits.is_some_and(is_due) && !self.is_stalled() {
            let Peer { pid, uid } = self.peer;
            log::warn!("control: pid {pid} (uid {uid}) does not read its answers: dropped");
            self.leave();
        }
        let late = self.open.iter().filter(|(_, open)| open.deadline.is_some_and(|at| at <= now));
        let late: Vec<_> = late.map(|(key, _)| *key).collect();
        for key in late {
            self.look(key);
            let Some(open) = self.open.get_mut(&key) else { continue };
            if open.deadline.is_none_or(|at| at > now) {
                continue;
            }
            let outcome = open.work.expire(self.shared, open.asked);
            if open.silent || !open.work.is_command() {
                self.answer(key, outcome);
                continue;
            }
            (open.silent, open.deadline) = (true, None);
            let (id, audit) = (open.id, open.audit.take());
            self.silent += 1;
            self.say(id, audit.as_deref(), outcome);
        }
        if self.farewell.is_some_and(|end| end <= now) {
            self.leave();
        }
    }

    /// Moves on where nothing is left to be done, and says whether that is the end.
    fn is_over(&mut self) -> bool {
        if self.phase == Phase::Answering && self.open.len() == self.silent {
            self.phase = Phase::Flushing;
        }
        if self.phase == Phase::Flushing && self.out.is_empty() {
            self.leave();
        }
        self.phase == Phase::Gone
    }
}

/// True when our patience with what began then is over.
fn is_due(since: Instant) -> bool {
    since.elapsed() >= PATIENCE
}

/// True when it is to be tried again later.
fn is_early(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted)
}
