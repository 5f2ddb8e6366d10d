//! What could not be written of a worker's log: counted, told once, and said in the log when it is
//! written again.

use std::io;
use std::time::{Duration, Instant, SystemTime};

use log::Level;

use super::{WorkerLog, Written, add, lock};
use crate::host::Stream;
use crate::logs::format::index;
use crate::logs::trouble::LogNews;
use crate::worker::LogTrouble;

/// How long a file that could not be written is left alone.
pub(super) const RETRY: Duration = Duration::from_secs(2);

/// The file cannot be written.
pub(super) struct Trouble {
    pub(super) why: String,
    pub(super) retry_at: Instant,
    pub(super) lost: u64,
    /// What was lost before, since the trouble was last told.
    pub(super) before: u64,
}

/// What a trouble has cost, and why.
pub(super) fn loss(lost: u64, why: &str) -> String {
    match lost {
        0 => format!("nothing lost but lines of the master's own: {why}"),
        lost => format!("{lost} bytes lost: {why}"),
    }
}

impl WorkerLog {
    /// What could not be written for a while is written again.
    pub(super) fn mended(&self, written: &mut Written) {
        let Some((dropped, why)) = written.mending.take() else { return };
        if let Some(shown) = &mut *lock(&self.shown) {
            shown.since = None;
        }
        let (worker, path) = (&self.worker, written.file.path().to_owned());
        let notice = format!("{worker}: its log is written again; {}", loss(dropped, &why));
        self.means.notice(Level::Warn, notice);
        self.means.told.tell(Some(worker), LogNews::Recovered { path, dropped });
    }

    /// Begins a trouble, or goes on with the one there is.
    pub(super) fn trouble(&self, written: &mut Written, error: &io::Error, lost: u64) {
        let (message, at) = (error.to_string(), SystemTime::now());
        let mut shown = lock(&self.shown);
        let since = shown.as_ref().and_then(|shown| shown.since).or(Some(at));
        *shown = Some(LogTrouble { message: message.clone(), at, since });
        drop(shown);
        if let Some(trouble) = &mut written.trouble {
            trouble.lost += lost;
            return;
        }
        let retry_at = Instant::now() + RETRY;
        // One that seemed to be over and was not is told once.
        let (before, is_new) = match written.mending.take() {
            Some((before, _)) => (before, false),
            None => (0, true),
        };
        written.trouble = Some(Trouble { why: message.clone(), retry_at, lost, before });
        if is_new {
            let (worker, path) = (&self.worker, written.file.path().to_owned());
            let notice = format!("{worker}: its log cannot be written, and is lost: {message}");
            self.means.notice(Level::Error, notice);
            self.means.told.tell(Some(worker), LogNews::Degraded { path, message });
        }
    }

    pub(super) fn lose(&self, written: &mut Written, which: usize, lost: u64) {
        add(&self.counts[which].dropped, lost);
        if let Some(trouble) = &mut written.trouble {
            trouble.lost += lost;
        }
    }

    /// What has just come of a stream is lost, with what its line began with.
    pub(super) fn drop_bytes(&self, written: &mut Written, stream: Stream, bytes: usize) {
        let lost = written.lines.forget(stream) + bytes as u64;
        self.lose(written, index(stream), lost);
    }
}
