//! The output of a process that outlives its master: a FIFO, of which only what was handed on is
//! taken out. What a master that is killed has not handed on, the next one finds there.

use std::fs::File;
use std::io::{self, PipeReader, PipeWriter, Read};
use std::os::fd::{AsFd, BorrowedFd};
use std::time::{Duration, Instant};

use crate::host::sys::{self, Poller, Wakes};

/// A line that was begun stays in the FIFO for its rest, unless it is as long as this: then so much
/// may be there that its writer waits.
const LONG: usize = 2 << 10;
/// For so long at most: whoever asks something at the end of a line is to be seen.
const PATIENCE: Duration = Duration::from_secs(1);

/// Our end of a FIFO.
pub(super) struct Fifo {
    pipe: File,
    /// Readable when something was written that was not looked at.
    news: Poller,
    /// Where a copy is put, to be looked at.
    copy: (PipeReader, PipeWriter),
    null: File,
    /// When the line that was begun is taken out whether it is ended or not.
    due: Option<Instant>,
}

impl Fifo {
    pub(super) fn of(pipe: File) -> io::Result<Self> {
        let news = Poller::new()?;
        news.add(&pipe, 0, Wakes::News)?;
        let null = File::options().write(true).open("/dev/null")?;
        Ok(Self { pipe, news, copy: io::pipe()?, null, due: None })
    }

    /// Readable when it is worth to read.
    pub(super) fn as_fd(&self) -> BorrowedFd<'_> {
        self.news.as_fd()
    }

    pub(super) fn readable_bytes(&self) -> io::Result<usize> {
        sys::readable_bytes(self.pipe.as_fd())
    }

    /// When it is to be read although it tells nothing.
    pub(super) fn due(&self) -> Option<Instant> {
        self.due
    }

    /// Hands on what is there, up to the end of a line, and then takes it out. `all`: what there is
    /// of a line, too. How much that was; 0 when nobody will write any more.
    ///
    /// # Errors
    /// `WouldBlock` when there is nothing to hand on now; else as the calls have them.
    pub(super) fn read(
        &mut self,
        buffer: &mut [u8],
        all: bool,
        hand_on: impl FnOnce(&[u8]),
    ) -> io::Result<usize> {
        self.news.hush();
        let (out, into) = &mut self.copy;
        let there = sys::copy_pipe(self.pipe.as_fd(), into.as_fd(), buffer.len())?;
        let there = &mut buffer[..there];
        out.read_exact(there)?;
        if there.is_empty() {
            return Ok(0);
        }
        let lines = there.iter().rposition(|byte| *byte == b'\n').map_or(0, |last| last + 1);
        let late = all || self.due.is_some_and(|due| due <= Instant::now());
        let count = if lines > 0 && !all {
            lines
        } else if late || there.len() >= LONG {
            there.len()
        } else {
            self.due = self.due.or_else(|| Instant::now().checked_add(PATIENCE));
            return Err(io::ErrorKind::WouldBlock.into());
        };
        self.due = None;
        hand_on(&there[..count]);
        self.take_out(count)?;
        // There may be more, which is no news.
        self.news.arm(&self.pipe, 0, Wakes::News)?;
        Ok(count)
    }

    fn take_out(&self, mut count: usize) -> io::Result<()> {
        while count > 0 {
            match sys::drop_from_pipe(self.pipe.as_fd(), self.null.as_fd(), count)? {
                0 => return Err(io::ErrorKind::UnexpectedEof.into()),
                gone => count -= gone,
            }
        }
        Ok(())
    }
}
