//! What could not be written of a worker's log: counted, told once, and said in the log when it is
//! written again.

use std::io;
use std::path::Path;
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

/// What may keep a log from being whole, each by itself.
#[derive(Clone, Copy)]
pub(super) enum Part {
    /// The file cannot be written.
    File,
    /// The disk is slower than the worker.
    Speed,
}

/// What is, or was, wrong with a log.
#[derive(Default)]
pub(super) struct Shown {
    file: Option<LogTrouble>,
    speed: Option<LogTrouble>,
    /// What was lost by the last time that all was well.
    before: u64,
}

impl Shown {
    fn of(&mut self, part: Part) -> &mut Option<LogTrouble> {
        match part {
            Part::File => &mut self.file,
            Part::Speed => &mut self.speed,
        }
    }

    /// For tests: whether the file, and the speed, are in trouble.
    #[cfg(test)]
    pub(super) fn now(&self) -> [bool; 2] {
        let is_now = |known: &LogTrouble| known.since.is_some();
        [&self.file, &self.speed].map(|known| known.as_ref().is_some_and(is_now))
    }

    /// What matters most of it: what is wrong now, or else what was last.
    pub(super) fn first(&self) -> Option<&LogTrouble> {
        let known = [&self.file, &self.speed].into_iter().flatten();
        let now = known.clone().find(|trouble| trouble.since.is_some());
        now.or_else(|| known.max_by_key(|trouble| trouble.at))
    }
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
        let worker = &self.worker;
        let notice = format!("{worker}: its log is written again; {}", loss(dropped, &why));
        self.means.notice(Level::Warn, notice);
        self.ends(Part::File, written.file.path());
    }

    /// Shows what is wrong, and tells it if it `is_new`.
    pub(super) fn begins(&self, part: Part, path: &Path, message: &str, is_new: bool) {
        let (message, at) = (message.to_owned(), SystemTime::now());
        let mut shown = lock(&self.shown);
        let known = shown.of(part);
        let since = known.as_ref().and_then(|known| known.since).or(Some(at));
        *known = Some(LogTrouble { message: message.clone(), at, since });
        if is_new {
            let news = LogNews::Degraded { path: path.to_owned(), message };
            self.means.told.tell(Some(&self.worker), news);
        }
    }

    /// Something is wrong no longer, which is told once nothing is.
    pub(super) fn ends(&self, part: Part, path: &Path) {
        let mut shown = lock(&self.shown);
        if let Some(known) = shown.of(part) {
            known.since = None;
        }
        if shown.first().is_none_or(|first| first.since.is_none()) {
            let (_, lost) = self.totals();
            let dropped = lost - std::mem::replace(&mut shown.before, lost);
            let news = LogNews::Recovered { path: path.to_owned(), dropped };
            self.means.told.tell(Some(&self.worker), news);
        }
    }

    /// Begins a trouble, or goes on with the one there is.
    pub(super) fn trouble(&self, written: &mut Written, error: &io::Error, lost: u64) {
        let message = error.to_string();
        if let Some(trouble) = &mut written.trouble {
            trouble.lost += lost;
            self.begins(Part::File, written.file.path(), &message, false);
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
            let notice =
                format!("{}: its log cannot be written, and is lost: {message}", self.worker);
            self.means.notice(Level::Error, notice);
        }
        self.begins(Part::File, written.file.path(), &message, is_new);
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
