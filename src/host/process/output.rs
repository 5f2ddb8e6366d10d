//! The output of one process: reads its two pipes, or FIFOs, and hands the bytes on. That a pipe
//! ends is not the end of the process, and the end of the process is not the end of its pipes.

use std::fs::File;
use std::io::{self, Read};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::process::Child;
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use super::Life;
use super::fifo::Fifo;
use crate::host::{Stream, sys};

/// The open ends of what a process writes.
pub(super) struct Output {
    life: Arc<Life>,
    pipes: [Option<Source>; 2],
    /// Which of them were found full, and hold more since then.
    enlarged: [bool; 2],
}

/// One of them.
enum Source {
    Pipe(File),
    Fifo(Fifo),
}

impl Source {
    fn as_fd(&self) -> BorrowedFd<'_> {
        match self {
            Self::Pipe(pipe) => pipe.as_fd(),
            Self::Fifo(fifo) => fifo.as_fd(),
        }
    }

    /// When it is to be read although it is not ready.
    fn due(&self) -> Option<Instant> {
        match self {
            Self::Pipe(_) => None,
            Self::Fifo(fifo) => fifo.due(),
        }
    }

    fn readable_bytes(&self) -> io::Result<usize> {
        match self {
            Self::Pipe(pipe) => sys::readable_bytes(pipe.as_fd()),
            Self::Fifo(fifo) => fifo.readable_bytes(),
        }
    }

    /// Reads once, and hands on what came. `all`: also what there is of a line.
    fn read(
        &mut self,
        buffer: &mut [u8],
        all: bool,
        hand_on: impl FnOnce(&[u8]),
    ) -> io::Result<usize> {
        match self {
            Self::Pipe(pipe) => {
                let read = pipe.read(buffer)?;
                if read > 0 {
                    hand_on(&buffer[..read]);
                }
                Ok(read)
            }
            Self::Fifo(fifo) => fifo.read(buffer, all, hand_on),
        }
    }
}

/// As much as a pipe holds at first.
const PIPE: usize = 64 << 10;
/// As much as one is made to hold that was found full: as much as is read at once. More is no
/// faster, since it leaves the caches before it is read. It is not given to all: unless one is
/// root, there is so much for all pipes of a user, and who is beyond it gets very small ones.
const LARGE_PIPE: i32 = 256 << 10;
/// So often a pipe is read before it is asked again whether anything else has happened.
const READS: usize = 8;

/// The order of the pipes.
const STREAMS: [Stream; 2] = [Stream::Stdout, Stream::Stderr];

impl Output {
    /// Takes the pipes of a child over.
    pub(super) fn of(life: &Arc<Life>, child: &mut Child) -> io::Result<Self> {
        let out = child.stdout.take().map(|pipe| File::from(OwnedFd::from(pipe)));
        let err = child.stderr.take().map(|pipe| File::from(OwnedFd::from(pipe)));
        for pipe in [&out, &err].into_iter().flatten() {
            sys::set_nonblocking(pipe.as_fd())?;
        }
        let pipes = [out, err].map(|pipe| pipe.map(Source::Pipe));
        Ok(Self { life: Arc::clone(life), pipes, enlarged: [false; 2] })
    }

    /// There is nothing to read.
    pub(super) fn none(life: &Arc<Life>) -> Self {
        Self { life: Arc::clone(life), pipes: [None, None], enlarged: [false; 2] }
    }

    /// Reads these FIFOs.
    pub(super) fn of_fifos(life: &Arc<Life>, fifos: [Option<File>; 2]) -> io::Result<Self> {
        let [out, err] = fifos.map(|fifo| fifo.map(Fifo::of).transpose());
        let pipes = [out?, err?].map(|fifo| fifo.map(Source::Fifo));
        Ok(Self { life: Arc::clone(life), pipes, enlarged: [false; 2] })
    }

    /// What to wait on: the pipes that are still open.
    pub(super) fn open(&self) -> [Option<BorrowedFd<'_>>; 2] {
        self.pipes.each_ref().map(|pipe| pipe.as_ref().map(Source::as_fd))
    }

    /// How long to wait at most before it is read.
    pub(super) fn patience(&self) -> Option<Duration> {
        let due = self.pipes.iter().flatten().filter_map(Source::due).min();
        due.map(|due| due.saturating_duration_since(Instant::now()))
    }

    /// Reads from each pipe that has something: once, and a few times more while a lot comes.
    pub(super) fn read_ready(&mut self, ready: [bool; 2]) {
        for (which, ready) in ready.into_iter().enumerate() {
            let due = self.pipes[which].as_ref().and_then(Source::due);
            let is_due = due.is_some_and(|due| due <= Instant::now());
            let mut reads = if ready || is_due { READS } else { 0 };
            while reads > 0 && self.read(which, false) >= PIPE {
                self.enlarge(which);
                reads -= 1;
            }
        }
    }

    /// Leaves what is there to somebody else: nothing more is said about it.
    pub(super) fn let_go(mut self) {
        self.pipes = [None, None];
    }

    /// Has a pipe hold more, so that its writer and we wait for each other less often.
    fn enlarge(&mut self, which: usize) {
        if let Some(Source::Pipe(pipe)) = &self.pipes[which]
            && !std::mem::replace(&mut self.enlarged[which], true)
        {
            // Where that is refused, it goes on as it is.
            sys::enlarge_pipe(pipe.as_fd(), LARGE_PIPE);
        }
    }

    /// Reads what is in the pipes now and no more: others may write without end.
    pub(super) fn drain(&mut self) {
        for which in 0..self.pipes.len() {
            let in_it = self.pipes[which].as_ref().map(Source::readable_bytes);
            let mut left = in_it.and_then(Result::ok).unwrap_or(0);
            while left > 0 {
                match self.read(which, true) {
                    0 => break,
                    read => left = left.saturating_sub(read),
                }
            }
            // If nobody else holds it, it ends here, and a line that was begun with it: whoever
            // knows of the process's end is to find all of it.
            self.read(which, true);
        }
    }

    /// Reads until the pipes end, `patience` is over or the master ends.
    pub(super) fn linger(mut self, patience: Option<Duration>) {
        let until = patience.and_then(|patience| Instant::now().checked_add(patience));
        loop {
            let [out, err] = self.open();
            if out.is_none() && err.is_none() {
                return;
            }
            let left = until.map(|until| until.saturating_duration_since(Instant::now()));
            let wait = [left, self.patience()].into_iter().flatten().min();
            if left.is_some_and(|left| left.is_zero()) {
                let life = &self.life;
                log::warn!(
                    "{life}: its output is still held open by a process outside its group, and is \
                     read no longer"
                );
                return;
            }
            let master_ended = self.life.means.master_ended.as_fd();
            match sys::wait_readable([out, err, Some(master_ended)], wait) {
                Ok([out, err, false]) => self.read_ready([out, err]),
                Ok([_, _, true]) => return,
                Err(error) => {
                    log::error!("{}: cannot wait for its output: {error}", self.life);
                    return;
                }
            }
        }
    }

    /// Reads once and hands on what came; how much that was.
    fn read(&mut self, which: usize, all: bool) -> usize {
        let Some(pipe) = &mut self.pipes[which] else { return 0 };
        let from = self.life.outlet(STREAMS[which]);
        let means = &self.life.means;
        let result = means
            .buffers
            .lend(|buffer| pipe.read(buffer, all, |bytes| means.output.output(from, bytes)));
        match result {
            Ok(0) => self.end(which),
            Ok(read) => return read,
            Err(error) if is_transient(&error) => {}
            Err(error) => {
                log::error!("{}: cannot read its output: {error}", self.life);
                self.end(which);
            }
        }
        0
    }

    /// Closes a pipe and says that no more will come of it.
    fn end(&mut self, which: usize) {
        if self.pipes[which].take().is_some() {
            self.life.means.output.end_of_output(self.life.outlet(STREAMS[which]));
        }
    }
}

impl Drop for Output {
    fn drop(&mut self) {
        // After a panic the sink may be what is broken, and a second panic would end the master.
        if !thread::panicking() {
            self.end(0);
            self.end(1);
        }
    }
}

/// Nothing there yet, or a signal came: what is there stays for the next turn.
fn is_transient(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted)
}
