//! Lives of real processes. Nothing here waits for a time to pass: every step waits for the report
//! or the bytes that show it, and scripts wait on FIFOs that the test holds.

mod links;
mod lives;
mod output;
mod panics;
mod refusals;

use std::fs::{self, File, OpenOptions};
use std::io::{Read, Write};
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use crossbeam_channel::{Receiver, RecvTimeoutError, Sender, TryRecvError, unbounded};

use super::*;
use crate::error::{ErrorCategory, Failure};
use crate::host::{Launch, Report, Stream, alone, threads};
use crate::worker::{Exit, LogMode};

const PATIENCE: Duration = Duration::from_secs(30);
const ASK: Order = Order::Ask { patience: PATIENCE };
const FORCE: Order = Order::Force { patience: PATIENCE };

/// What the monitor tells, in its order.
enum Seen {
    Report(Report),
    Output(Stream, Vec<u8>),
    End(Stream),
}

struct Sink(Sender<Seen>);

/// No arrangements for the master's end.
fn estate() -> Arc<Estate> {
    Arc::new(Estate::open(None, None, &[], false).unwrap().0)
}

impl OutputSink for Sink {
    fn output(&self, from: Outlet<'_>, bytes: &[u8]) {
        let _ = self.0.send(Seen::Output(from.stream, bytes.to_vec()));
    }

    fn end_of_output(&self, from: Outlet<'_>) {
        let _ = self.0.send(Seen::End(from.stream));
    }
}

/// One life, and all that was seen of it.
struct Watched {
    host: ProcessHost,
    shared: Option<Arc<ProcessShared>>,
    seen: Receiver<Seen>,
    out: Vec<u8>,
    err: Vec<u8>,
    ended: Vec<Stream>,
}

impl Watched {
    fn launch(plan: ProcessPlan) -> Self {
        Self::launch_limited(plan, None)
    }

    fn launch_limited(plan: ProcessPlan, nofile: Option<sys::Limit>) -> Self {
        let (tell, seen) = unbounded();
        let shared = ProcessShared::new(Arc::new(Sink(tell.clone())), nofile, estate()).unwrap();
        let report: Reporter = Arc::new(move |report| {
            let _ = tell.send(Seen::Report(report));
        });
        let worker = WorkerId::new("api").unwrap();
        let host = ProcessHost::launch(worker, 3, Arc::new(plan), &shared, report);
        let (out, err, ended) = (Vec::new(), Vec::new(), Vec::new());
        Self { host, shared: Some(shared), seen, out, err, ended }
    }

    /// Launched and started; with its pid.
    fn started(plan: ProcessPlan) -> (Self, u32) {
        let mut watched = Self::launch(plan);
        watched.host.order(&Order::Start);
        let pid = watched.spawned();
        (watched, pid)
    }

    /// The next thing seen, noted; a report is returned.
    fn step(&mut self) -> Option<Report> {
        match self.seen.recv_timeout(PATIENCE).expect("nothing more came") {
            Seen::Report(report) => return Some(report),
            Seen::Output(Stream::Stdout, bytes) => self.out.extend(bytes),
            Seen::Output(Stream::Stderr, bytes) => self.err.extend(bytes),
            Seen::End(stream) => self.ended.push(stream),
        }
        None
    }

    fn report(&mut self) -> Report {
        loop {
            if let Some(report) = self.step() {
                return report;
            }
        }
    }

    fn spawned(&mut self) -> u32 {
        assert_eq!(self.report(), Report::Launched);
        let report = self.report();
        let Report::Started { pid: Some(pid) } = report else { panic!("not started: {report:?}") };
        pid
    }

    fn gone(&mut self) -> Exit {
        let report = self.report();
        let Report::Gone(exit) = report else { panic!("not gone: {report:?}") };
        exit
    }

    /// Waits until standard output has a line that `wanted` begins.
    fn said(&mut self, wanted: &str) -> String {
        loop {
            let text = String::from_utf8_lossy(&self.out).into_owned();
            let complete = text.split_inclusive('\n').filter_map(|line| line.strip_suffix('\n'));
            if let Some(line) = complete.into_iter().find(|line| line.starts_with(wanted)) {
                return line.to_owned();
            }
            assert_eq!(self.step(), None, "instead of {wanted:?}");
        }
    }

    /// Waits until both streams have ended.
    fn silent(&mut self) {
        while self.ended.len() < 2 {
            assert_eq!(self.step(), None);
        }
    }

    /// Waits for the end of everything: nothing follows the last report, and the monitor is no
    /// more.
    fn nothing_more(self) {
        drop((self.host, self.shared));
        let mut gone = None;
        while let Ok(seen) = self.seen.recv_timeout(PATIENCE) {
            if let Seen::Report(report) = seen {
                assert_eq!(gone, None, "reported after the end: {report:?}");
                gone = matches!(report, Report::Gone(_)).then_some(report);
            }
        }
        assert_eq!(self.seen.try_recv().err(), Some(TryRecvError::Disconnected));
    }

    fn out(&self) -> &str {
        std::str::from_utf8(&self.out).unwrap()
    }
}

fn plan(program: &str, args: &[&str]) -> ProcessPlan {
    ProcessPlan {
        program: program.into(),
        args: args.iter().map(|arg| (*arg).to_owned()).collect(),
        environment: BTreeMap::new(),
        working_directory: None,
        signal: 15,
        kill_group: true,
        name: None,
        link: None,
        output: LogMode::Capture,
        afterwards: Afterwards::default(),
        env_file: None,
        clear_environment: false,
        settings: None,
    }
}

fn shell(script: &str) -> ProcessPlan {
    plan("/bin/sh", &["-c", script])
}

/// A script that waits on FIFOs: `$A`, `$B` name them.
fn scripted(script: &str, fifos: &Fifos) -> ProcessPlan {
    let mut plan = shell(script);
    for (name, path) in [("A", &fifos.a), ("B", &fifos.b)] {
        plan.environment.insert(name.to_owned(), path.to_str().unwrap().to_owned());
    }
    plan
}

/// Two FIFOs that scripts wait on. The test holds both open, so that nobody waits to open them.
struct Fifos {
    _directory: tempfile::TempDir,
    a: PathBuf,
    b: PathBuf,
    held: [File; 2],
}

impl Fifos {
    fn new() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let (a, b) = (directory.path().join("a"), directory.path().join("b"));
        assert!(Command::new("mkfifo").args([&a, &b]).status().unwrap().success());
        let hold = |path: &Path| OpenOptions::new().read(true).write(true).open(path).unwrap();
        let held = [hold(&a), hold(&b)];
        Self { _directory: directory, a, b, held }
    }

    /// Lets one `read` of `$A` go on.
    fn release(&self) {
        (&self.held[0]).write_all(b"go\n").unwrap();
    }

    /// Waits for something written to `$B`.
    fn heard(&self) -> String {
        let ready = sys::wait_readable([Some(self.held[1].as_fd())], Some(PATIENCE)).unwrap();
        assert_eq!(ready, [true], "nobody wrote");
        let mut text = [0; 64];
        let read = (&self.held[1]).read(&mut text).unwrap();
        String::from_utf8_lossy(&text[..read]).into_owned()
    }
}
