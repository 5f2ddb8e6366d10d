//! Logs, with real files: what is written, rotated, lost, found again, and read back.

mod home;
mod journal;
mod reading;
mod rotation;
mod traced;
mod troubles;

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, channel};

use super::{LogNews, Logs, WorkerLog};
use crate::host::{Dialect, Outlet, OutputSink, Stream};
use crate::worker::{LogsConfig, WorkerId};

/// A directory with the log of a worker `w`.
struct Room {
    room: tempfile::TempDir,
    worker: WorkerId,
    logs: Logs,
    log: Arc<WorkerLog>,
}

impl Room {
    fn new(settings: LogsConfig) -> Self {
        let room = tempfile::tempdir().unwrap();
        let worker = WorkerId::new("w").unwrap();
        let logs = Logs::open(Some(&room.path().join("logs")), 0).unwrap();
        let log = logs.configured(&worker, settings);
        Self { room, worker, logs, log }
    }

    /// The same files, as the next master finds them.
    fn again(self, settings: LogsConfig) -> Self {
        let Self { room, worker, logs, log } = self;
        drop((logs, log));
        let logs = Logs::open(Some(&room.path().join("logs")), 0).unwrap();
        let log = logs.configured(&worker, settings);
        Self { room, worker, logs, log }
    }

    fn directory(&self) -> PathBuf {
        self.room.path().join("logs")
    }

    fn path(&self, name: &str) -> PathBuf {
        self.directory().join(name)
    }

    fn from(&self, stream: Stream) -> Outlet<'_> {
        Outlet { worker: &self.worker, incarnation: 1, stream, dialect: Dialect::Plain }
    }

    fn out(&self, bytes: &[u8]) {
        self.logs.output(self.from(Stream::Stdout), bytes);
    }

    fn err(&self, bytes: &[u8]) {
        self.logs.output(self.from(Stream::Stderr), bytes);
    }

    fn end(&self) {
        self.logs.end_of_output(self.from(Stream::Stdout));
        self.logs.end_of_output(self.from(Stream::Stderr));
    }

    /// What is told of the files of workers from now on.
    fn news(&self) -> Receiver<LogNews> {
        let (tell, told) = channel();
        self.logs.on_trouble(move |worker, news| {
            if worker.is_some() {
                let _ = tell.send(news);
            }
        });
        told
    }

    /// All files of the log, the oldest first.
    fn files(&self) -> Vec<PathBuf> {
        let mut older: Vec<PathBuf> = (1..)
            .map(|number| self.path(&format!("w.log.{number}")))
            .take_while(|path| path.exists())
            .collect();
        older.reverse();
        older.push(self.path("w.log"));
        older
    }

    /// All that is in the files.
    fn whole(&self) -> String {
        let read = |path: &Path| fs::read(path).unwrap_or_default();
        let bytes: Vec<u8> = self.files().iter().flat_map(|path| read(path)).collect();
        String::from_utf8_lossy(&bytes).into_owned()
    }

    /// The lines of all files, without time stamps.
    fn lines(&self) -> Vec<String> {
        self.whole().lines().map(|line| line[25..].to_owned()).collect()
    }

    /// Every byte that was taken was stored or dropped, or waits for the end of its line.
    fn balanced(&self, which: usize, in_flight: u64) {
        let [taken, stored, dropped] = self.log.counts(which);
        assert_eq!(taken, stored + dropped + in_flight);
    }
}

/// A small file, so that it is rotated often.
fn small() -> LogsConfig {
    LogsConfig::default().max_size(4096)
}
