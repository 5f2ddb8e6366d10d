//! What happened, as lines of `events.jsonl`, written by a thread of its own: who tells it is never
//! held up by the file. The same thread says in the master's log what the logs of workers suffer.

use std::io;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, Sender, bounded, unbounded};
use log::Level;

use super::home::Home;
use super::rotating::{Limits, Rotating, Stretch};
use super::trouble::{LogNews, Told};
use super::worker::WorkerLog;
use crate::host::panics::guarded;
use crate::host::sys::find_last_byte;
use crate::host::threads;
use crate::worker::LogsConfig;

/// So many messages may wait.
pub(super) const MOST: usize = 65_536;
/// Lines are written together up to this size.
const BATCH: usize = 64 << 10;
/// How long the last ones may take at the master's end.
pub(super) const LAST: Duration = Duration::from_secs(5);
/// How long a file that could not be written is left alone.
const RETRY: Duration = Duration::from_secs(2);
const STACK: usize = 128 << 10;

/// What makes a line, on the journal's thread.
type Jot = Box<dyn FnOnce() -> String + Send>;

enum Message {
    Line(Jot),
    Notice(Level, String),
    /// A worker's log is not needed for now.
    Close(Weak<WorkerLog>),
    /// All that came before is to be in the file.
    Flush(Sender<()>),
    End(Sender<()>),
}

/// The way to the journal. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Scribe {
    sender: Sender<Message>,
    waiting: Arc<AtomicUsize>,
}

/// The file of the journal.
pub(super) struct JournalFile {
    file: Mutex<Rotating>,
    reopen: AtomicBool,
    limits: Limits,
}

impl JournalFile {
    pub(super) fn span(&self) -> io::Result<(u64, u64)> {
        self.with(|file| file.span(self.limits))
    }

    pub(super) fn stretch(&self, offset: u64) -> io::Result<Stretch> {
        self.with(|file| file.stretch(offset, self.limits))
    }

    /// Has the file opened again before it is used. Never waits for it.
    pub(super) fn reopen(&self) {
        self.reopen.store(true, Ordering::Relaxed);
    }

    fn with<T>(&self, work: impl FnOnce(&mut Rotating) -> T) -> T {
        let mut file = self.file.lock().unwrap_or_else(PoisonError::into_inner);
        if self.reopen.swap(false, Ordering::Relaxed) {
            file.close();
        }
        work(&mut file)
    }
}

/// As large and as many as those of a worker's log, by default.
pub(super) fn limits() -> Limits {
    let LogsConfig { max_size, max_files, .. } = LogsConfig::default();
    let max_size = max_size.min(crate::host::sys::file_size_limit());
    Limits { max_size, max_files, whole_lines: true }
}

impl Scribe {
    /// Starts the thread that writes into the directory.
    ///
    /// # Errors
    /// The system refuses the thread.
    pub(super) fn start(
        home: &Arc<Home>,
        told: &Arc<Told>,
        limits: Limits,
    ) -> io::Result<(Self, Arc<JournalFile>)> {
        let (sender, receiver) = unbounded();
        let told = Arc::clone(told);
        let file = Rotating::new(home, "events.jsonl");
        let (file, reopen) = (Mutex::new(file), AtomicBool::new(false));
        let file = Arc::new(JournalFile { file, reopen, limits });
        let scribe = Self { sender, waiting: Arc::default() };
        let (waiting, written) = (Arc::clone(&scribe.waiting), Arc::clone(&file));
        let (text, lines, trouble, end) = (Vec::new(), 0, None, None);
        let mut journal = Journal { file: written, text, lines, trouble, told, end };
        threads::vital("journal", STACK, move || journal.run(&receiver, &waiting))?;
        Ok((scribe, file))
    }

    /// False: too many wait already, or the thread is no more.
    fn send(&self, message: Message) -> bool {
        if self.waiting.fetch_add(1, Ordering::Relaxed) < MOST && self.sender.send(message).is_ok()
        {
            return true;
        }
        self.waiting.fetch_sub(1, Ordering::Relaxed);
        false
    }

    /// Has a line written. False: it is left out, since too many wait.
    pub(crate) fn line(&self, jot: Jot) -> bool {
        self.send(Message::Line(jot))
    }

    pub(crate) fn notice(&self, level: Level, text: String) {
        self.send(Message::Notice(level, text));
    }

    pub(super) fn close(&self, worker: Weak<WorkerLog>) {
        self.send(Message::Close(worker));
    }

    /// Waits until what was told before is written, for a while.
    pub(super) fn flush(&self) {
        let (done, wait) = bounded(1);
        if self.send(Message::Flush(done)) {
            let _ = wait.recv_timeout(LAST);
        }
    }

    /// Ends the thread once all is written, which is waited for, for a while.
    pub(super) fn end(&self) {
        let (done, wait) = bounded(1);
        // However many wait.
        self.waiting.fetch_add(1, Ordering::Relaxed);
        if self.sender.send(Message::End(done)).is_ok() {
            let _ = wait.recv_timeout(LAST);
        }
    }
}

struct Journal {
    file: Arc<JournalFile>,
    /// Lines that are not written yet, and how many.
    text: Vec<u8>,
    lines: u64,
    trouble: Option<Trouble>,
    told: Arc<Told>,
    /// It is to end, and who is told when it has.
    end: Option<Sender<()>>,
}

/// A message that is being seen to, which then waits no longer, whatever comes of it.
struct Taken<'w>(&'w AtomicUsize);

impl Drop for Taken<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

/// The file cannot be written.
struct Trouble {
    /// Since it was last written how many were.
    lost: u64,
    /// What was lost before that.
    before: u64,
    retry_at: Instant,
}

impl Journal {
    fn run(&mut self, messages: &Receiver<Message>, waiting: &AtomicUsize) {
        while self.end.is_none()
            && let Ok(message) = messages.recv()
        {
            let _taken = Taken(waiting);
            if let Message::End(done) = &message {
                self.end = Some(done.clone());
            }
            threads::fail_point("journal");
            match message {
                Message::Line(jot) => self.add(&jot()),
                Message::Notice(level, text) => {
                    // The program's logger: its panic must not be ours.
                    let _ = guarded("the logger", || log::log!(level, "{text}"));
                }
                Message::Close(worker) => {
                    if let Some(worker) = worker.upgrade() {
                        worker.close();
                    }
                }
                Message::Flush(done) => {
                    self.write();
                    let _ = done.send(());
                }
                Message::End(_) => {}
            }
            if messages.is_empty() || self.text.len() >= BATCH {
                self.write();
            }
        }
        self.write();
        if let Some(done) = &self.end {
            let _ = done.send(());
        }
    }

    fn add(&mut self, line: &str) {
        self.text.extend_from_slice(line.as_bytes());
        self.text.push(b'\n');
        self.lines += 1;
    }

    /// Writes what has come together; where that cannot be, it is counted.
    fn write(&mut self) {
        if self.text.is_empty() {
            return;
        }
        let (text, lines) = (std::mem::take(&mut self.text), std::mem::take(&mut self.lines));
        let (now, limits) = (Instant::now(), self.file.limits);
        let mut whole = Vec::new();
        if let Some(trouble) = &mut self.trouble {
            if now < trouble.retry_at {
                trouble.lost += lines;
                return;
            }
            let at = humantime::format_rfc3339_millis(std::time::SystemTime::now());
            let lost = trouble.lost;
            whole = format!("{{\"at\":\"{at}\",\"event\":\"missed\",\"count\":{lost}}}\n").into();
        }
        whole.extend_from_slice(&text);
        let mut whole_lines = 0;
        let written = self.file.with(|file| {
            if self.trouble.is_some() {
                file.close();
            }
            file.ready(limits, now)?;
            file.write(&whole, limits, false).map_err(|short| {
                let there = &whole[..short.written];
                let end = find_last_byte(b'\n', there).map_or(0, |end| end + 1);
                whole_lines = there.iter().filter(|byte| **byte == b'\n').count() as u64;
                // Where that fails, the part of a line is ended when the file is opened again.
                let _ = file.take_back(there.len() - end);
                short.error
            })
        });
        // The first one says what was lost before.
        if let Some(trouble) = self.trouble.as_mut().filter(|_| whole_lines > 0) {
            trouble.before += std::mem::take(&mut trouble.lost);
            whole_lines -= 1;
        }
        self.settle(written, lines.saturating_sub(whole_lines), now);
    }

    /// `lines`: so many are lost if it was not written.
    fn settle(&mut self, written: io::Result<()>, lines: u64, now: Instant) {
        if written.is_ok() && self.trouble.is_none() {
            return;
        }
        let path = self.file.with(|file| file.path().to_owned());
        let (said, news) = match (&written, &mut self.trouble) {
            (Ok(()), None) => return,
            (Ok(()), Some(trouble)) => {
                let lost = trouble.before + trouble.lost;
                self.trouble = None;
                let said = format!("events are written again; {lost} were lost");
                (said, LogNews::Recovered { path, dropped: lost })
            }
            (Err(_), Some(trouble)) => {
                trouble.lost += lines;
                trouble.retry_at = now + RETRY;
                return;
            }
            (Err(error), None) => {
                self.trouble = Some(Trouble { lost: lines, before: 0, retry_at: now + RETRY });
                let said = format!("events cannot be written, and are lost: {error}");
                (said, LogNews::Degraded { path, message: error.to_string() })
            }
        };
        self.told.tell(None, news);
        let level = if written.is_ok() { Level::Warn } else { Level::Error };
        let _ = guarded("the logger", || log::log!(level, "{said}"));
    }
}
