//! One thread writes to standard error, so that nobody else ever waits for a terminal or a pipe:
//! neither the event loop that logs nor the monitors whose workers write.

use std::io::{self, Write};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use crossbeam_channel::{Receiver, Sender, TrySendError, bounded};

use crate::error::{Error, Result};
use crate::host::threads;

/// How many lines may wait to be written.
const CAPACITY: usize = 4096;
/// How long a worker's line waits for room before it is dropped.
const PATIENCE: Duration = Duration::from_millis(100);
/// How long the last lines may take at the end.
const FLUSH: Duration = Duration::from_secs(2);
const STACK: usize = 128 << 10;

enum Message {
    Line(Vec<u8>),
    Flush(Sender<()>),
}

/// The way to standard error. Cheap to clone.
#[derive(Clone)]
pub(super) struct Echo {
    sender: Sender<Message>,
    shared: Arc<Shared>,
}

#[derive(Default)]
struct Shared {
    dropped: AtomicU64,
    /// The last line found no room: until something has been written, no one waits for it.
    blocked: AtomicBool,
}

impl Echo {
    /// Starts the thread that writes to `output`.
    ///
    /// # Errors
    /// When the system refuses the thread.
    pub(super) fn start(mut output: impl Write + Send + 'static) -> Result<Self> {
        let (sender, receiver) = bounded(CAPACITY);
        let shared = Arc::new(Shared::default());
        let writer = Arc::clone(&shared);
        threads::vital("echo", STACK, move || write_all(&mut output, &receiver, &writer))
            .map_err(|error| Error::io("cannot start the thread that writes", error))?;
        Ok(Self { sender, shared })
    }

    /// Queues a line with its newline; waits a moment for room, since a worker's output is worth
    /// it.
    pub(super) fn line(&self, line: Vec<u8>) {
        if self.shared.blocked.load(Ordering::Relaxed) {
            self.line_now(line);
        } else if self.sender.send_timeout(Message::Line(line), PATIENCE).is_err() {
            self.shared.blocked.store(true, Ordering::Relaxed);
            self.shared.dropped.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Queues a line with its newline, or drops it.
    fn line_now(&self, line: Vec<u8>) {
        if let Err(TrySendError::Full(_)) = self.sender.try_send(Message::Line(line)) {
            self.shared.dropped.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Waits until everything queued so far is written, for a short while.
    pub(super) fn flush(&self) {
        let (done, wait) = bounded(1);
        if self.sender.send_timeout(Message::Flush(done), FLUSH).is_ok() {
            let _ = wait.recv_timeout(FLUSH);
        }
    }
}

/// A whole record per `write`, as a logger makes it. Never waits.
impl Write for Echo {
    fn write(&mut self, record: &[u8]) -> io::Result<usize> {
        self.line_now(record.to_vec());
        Ok(record.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

fn write_all(output: &mut impl Write, receiver: &Receiver<Message>, shared: &Shared) {
    for message in receiver {
        threads::fail_point("echo");
        match message {
            // A reader that went away is no reason to stop: the workers matter more.
            Message::Line(line) => drop(output.write_all(&line)),
            Message::Flush(done) => {
                let _ = output.flush();
                let _ = done.send(());
            }
        }
        shared.blocked.store(false, Ordering::Relaxed);
        let dropped = shared.dropped.swap(0, Ordering::Relaxed);
        if dropped > 0 {
            let note = format!("({dropped} lines were not written in time and are left out)\n");
            let _ = output.write_all(note.as_bytes());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::host::alone;
    use crate::host::threads::fail_points::arm;

    /// A writer that waits for a permit before each write and tells what was written.
    struct Gated {
        permits: Receiver<()>,
        told: Sender<String>,
    }

    impl Write for Gated {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            let _ = self.permits.recv();
            let _ = self.told.send(String::from_utf8_lossy(bytes).into_owned());
            Ok(bytes.len())
        }
        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn a_blocked_terminal_holds_nobody_up_and_what_is_lost_is_counted() {
        let (permit, permits) = bounded(0);
        let (told, lines) = crossbeam_channel::unbounded();
        let mut echo = Echo::start(Gated { permits, told }).unwrap();
        // One line may be with the writer, the rest fills the queue; then lines are dropped.
        let sent = CAPACITY + 10;
        for n in 0..sent {
            echo.write_all(format!("{n}\n").as_bytes()).unwrap();
        }
        echo.line(b"late\n".to_vec());
        drop(permit);
        echo.flush();
        let written: Vec<String> = lines.try_iter().collect();
        let notes: u64 = written
            .iter()
            .filter_map(|line| line.strip_prefix('(')?.split(' ').next()?.parse::<u64>().ok())
            .sum();
        let kept = written.iter().filter(|line| line.trim().parse::<u64>().is_ok()).count();
        assert!(notes >= 9, "{notes}");
        assert!(kept >= CAPACITY, "{kept}");
        assert_eq!(written[0], "0\n");
    }

    #[test]
    fn s17_what_is_written_after_a_fault_of_ours_comes_out() {
        if !alone::here(&[], s17_what_is_written_after_a_fault_of_ours_comes_out) {
            return;
        }
        let (tell, told) = crossbeam_channel::unbounded();
        let _on_fault = threads::on_fault(move |what| drop(tell.send(what.to_owned())));
        let (permit, permits) = bounded(0);
        drop(permit);
        let (lines, written) = crossbeam_channel::unbounded();
        let echo = Echo::start(Gated { permits, told: lines }).unwrap();
        arm("echo");
        echo.line(b"lost\n".to_vec());
        echo.line(b"kept\n".to_vec());
        echo.flush();
        assert_eq!(written.try_iter().collect::<Vec<_>>(), ["kept\n"]);
        assert!(told.is_empty());
        arm("echo");
        echo.line(b"lost\n".to_vec());
        let why = told.recv_timeout(Duration::from_secs(30)).unwrap();
        assert!(why.contains("told to at echo"), "{why}");
    }
}
