//! What a worker's log does at an end: of a worker, of the master, of what is open by a name; and
//! its file for those who write into it by themselves.

use std::fs::File;
use std::io;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use super::queue::Message;
use super::{WorkerLog, Written, lock};
use crate::host::Stream;
use crate::logs::format::{Batch, index};
use crate::logs::rotating::Limits;
use crate::worker::{LogOverflow, LogsConfig};

impl WorkerLog {
    /// Its file, for a process that is to write into it by itself.
    ///
    /// # Errors
    /// There is no directory for logs, or the file cannot be opened.
    pub(in crate::logs) fn file(&self) -> io::Result<File> {
        let Some(file) = &self.file else {
            let message =
                "there is no directory for logs: give the master a state_dir or a log_dir";
            return Err(io::Error::new(io::ErrorKind::Unsupported, message));
        };
        let mut written = lock(file);
        written.file.rotate_if_full(self.limits(self.settings()))?;
        written.file.duplicate()
    }

    /// Has the file opened again before it is used. Never waits for it.
    pub(in crate::logs) fn reopen(&self) {
        self.reopen.store(true, Ordering::Relaxed);
    }

    /// The master ends: a line that has begun is kept as it is. Never waits for who writes now.
    pub(in crate::logs) fn flush(self: &Arc<Self>) {
        let settings = self.settings();
        if self.queue.get().is_some() && settings.overflow == LogOverflow::Drop {
            self.do_in_turn(settings, 0, Message::Rests);
        } else if let Some(Ok(mut written)) = self.file.as_ref().map(|file| file.try_lock()) {
            self.end_lines(&mut written, settings);
        }
    }

    /// As [`flush`](Self::flush), when all that came before is written.
    pub(super) fn write_rests(&self, settings: LogsConfig) {
        if let Some((mut written, _)) = self.lock_written(settings) {
            self.end_lines(&mut written, settings);
        }
    }

    fn end_lines(&self, written: &mut Written, settings: LogsConfig) {
        let limits = self.limits(settings);
        self.means.with_batch(|batch| {
            for stream in [Stream::Stdout, Stream::Stderr] {
                let taken = written.lines.end_any(self.worker.as_str(), stream, batch);
                if taken {
                    self.write_last(written, batch, index(stream), (limits, settings));
                }
            }
        });
    }

    /// Writes what a stream ends with, or counts it as lost.
    pub(super) fn write_last(
        &self,
        written: &mut Written,
        batch: &mut Batch,
        which: usize,
        (limits, settings): (Limits, LogsConfig),
    ) {
        if self.is_ready(written, limits, settings, false) {
            self.write(written, batch, Some(which), limits);
        } else {
            self.lose(written, which, batch.taken.iter().map(|count| u64::from(*count)).sum());
            batch.clear();
        }
    }

    /// Closes the file once all that came is written; it is opened again when there is something to
    /// be written. Waits for who writes now, unless that is a thread of its own.
    pub(crate) fn close(self: &Arc<Self>) {
        let queue = self.queue.get();
        queue.iter().for_each(|queue| self.see_written(queue));
        if !queue.is_some_and(|queue| queue.close()) {
            self.close_file();
        }
    }

    pub(super) fn close_file(&self) {
        if let Some(file) = &self.file {
            lock(file).file.close();
        }
    }
}
