//! What the benchmarks need and programs do not: the core driven without threads, and two system
//! calls.
//!
//! The core is private, and so are the calls (`unsafe` lives in `host::sys` alone), while
//! benchmarks are crates of their own. Hence this door, which exists with the feature `bench` only
//! and is no part of the interface.

use std::io;
use std::time::Duration;

use crate::core::Core;
use crate::core::event::{Command, Effect, Event, Report, Ticket, WorkerSpec};
use crate::core::moment::Moment;
use crate::host::sys::{self, Target};
use crate::worker::{Exit, RestartConfig, SuccessCodes, WorkerId};

/// Lets `workers` workers fail `lives` times each, restarted at once. Returns how many events that
/// took.
///
/// # Panics
/// When the core did not launch each of those lives.
pub fn drive_core(workers: u32, lives: u32) -> u32 {
    let ids: Vec<_> = (0..workers).filter_map(|n| WorkerId::new(&format!("w-{n}")).ok()).collect();
    let mut drive = Drive { core: Core::new(1, Duration::ZERO), events: 0, launched: 0 };
    for worker in &ids {
        let worker = worker.clone();
        drive.command(0, Command::Add { worker: worker.clone(), spec: Box::new(spec()), past: 0 });
        drive.command(0, Command::Start { worker, force: false });
    }
    for life in 1..=lives {
        for worker in &ids {
            for report in [Report::Launched, Report::Started, Report::Gone(Exit::Code(1))] {
                let (worker, incarnation) = (worker.clone(), life.into());
                drive.handle(life, Event::Report { worker, incarnation, report });
            }
            drive.handle(life, Event::Tick);
        }
    }
    assert_eq!(drive.launched, workers * (lives + 1), "each life begins with a launch");
    drive.events
}

/// A core and what came of it.
struct Drive {
    core: Core,
    events: u32,
    launched: u32,
}

impl Drive {
    fn command(&mut self, second: u32, command: Command) {
        let ticket = Ticket(self.events.into());
        self.handle(second, Event::Command { ticket, command });
    }

    fn handle(&mut self, second: u32, event: Event) {
        let now = Moment::after_start(Duration::from_secs(second.into()));
        let effects = self.core.handle(now, event);
        let launches = effects.iter().filter(|effect| matches!(effect, Effect::Launch { .. }));
        self.launched += u32::try_from(launches.count()).unwrap_or(u32::MAX);
        self.events += 1;
    }
}

/// What the core needs to know of a worker that is restarted at once, however often.
fn spec() -> WorkerSpec {
    WorkerSpec {
        start_timeout: Duration::from_secs(30),
        stop_timeout: Duration::from_secs(10),
        killable: true,
        keeps: false,
        restart: RestartConfig::default().max_retries(0).retry_delay(Duration::ZERO),
        health: None,
        success: SuccessCodes::default(),
        depends_on: Vec::new(),
    }
}

/// Sends a signal to a child that is not reaped yet. False: there was no such process.
///
/// # Errors
/// When it is not allowed.
pub fn signal(pid: u32, signal: i32) -> io::Result<bool> {
    sys::signal(Target::Process(pid), signal)
}

/// Raises our soft descriptor limit to the hard one.
///
/// # Errors
/// When it is not allowed.
pub fn raise_nofile_limit() -> io::Result<()> {
    sys::raise_nofile_limit().map(drop)
}
