//! Logs, with real files: what is written, rotated, lost, found again, and read back.

mod home;
mod journal;
mod losing;
mod moving;
mod overflow;
mod reading;
mod rotation;
mod traced;
mod troubles;

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, channel};

use super::{LogNews, Logs, Query, WorkerLog};
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

#[test]
fn logs_of_removed_workers_are_forgotten_whatever_still_waits_for_them() {
    let room = Room::new(LogsConfig::default());
    let scribe = room.logs.scribe().unwrap();
    let known = || room.logs.0.known().logs.keys().map(ToString::to_string).collect::<Vec<_>>();
    // The journal's thread is held up, as by a disk that is slow.
    let (release, released) = channel::<()>();
    scribe.line(Box::new(move || {
        let _ = released.recv();
        "{}".to_owned()
    }));
    let id = |n: usize| WorkerId::new(&format!("w{n}")).unwrap();
    for n in 0..10 {
        room.logs.configured(&id(n), LogsConfig::default());
        room.logs.close(&id(n));
        room.logs.forget(&id(n));
    }
    assert_eq!(known(), ["w"]);
    drop(release);
    // One that is read meanwhile goes with the next one that is new.
    let log = room.logs.configured(&id(10), LogsConfig::default());
    let from = Outlet { worker: &id(10), ..room.from(Stream::Stdout) };
    room.logs.output(from, b"one\n");
    let reader = room.logs.read(&[id(10)], &Query::last(1)).unwrap();
    drop(log);
    room.logs.forget(&id(10));
    assert_eq!(known(), ["w", "w10"]);
    drop(reader);
    // And so does one that something wrote into when its worker was gone.
    room.logs.output(Outlet { worker: &id(11), ..from }, b"late\n");
    assert_eq!(known(), ["w", "w11"]);
    room.logs.configured(&id(12), LogsConfig::default());
    assert_eq!(known(), ["w", "w12"]);
    // One that comes back stays.
    room.logs.output(Outlet { worker: &id(11), ..from }, b"late\n");
    room.logs.configured(&id(11), LogsConfig::default());
    room.logs.configured(&id(13), LogsConfig::default());
    assert_eq!(known(), ["w", "w11", "w12", "w13"]);
}
