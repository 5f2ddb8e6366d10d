//! The bench that tests work at: a master, everything it tells, a brake on its loop, and a
//! directory with FIFOs through which workers are heard and let go.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{File, OpenOptions};
use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Arc, Mutex, OnceLock};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use hsu_master::crossbeam_channel::{Receiver, Sender, bounded, unbounded};
use hsu_master::{
    Error, Event, EventKind, Master, MasterBuilder, OutputLine, RestartConfig, ShutdownReport,
    TRANSITIONS, Ticket, WorkerConfig, WorkerDiagnostics, WorkerState,
};

/// How long anything may take that is to happen.
pub(crate) const PATIENCE: Duration = Duration::from_secs(30);
/// Longer than any test: what is set to this does not happen by itself.
pub(crate) const NEVER: Duration = Duration::from_secs(3600);
/// What ends the thread that hears workers; no worker is called so.
const QUIET: &str = "-quiet";

/// Milliseconds.
pub(crate) fn ms(millis: u64) -> Duration {
    Duration::from_millis(millis)
}

/// Retries with hardly a pause, and no trials.
pub(crate) fn quick() -> RestartConfig {
    RestartConfig::default().retry_delay(ms(1)).half_open_after(Duration::ZERO)
}

/// Retries that no test lives to see.
pub(crate) fn slow() -> RestartConfig {
    quick().retry_delay(NEVER).max_delay(NEVER)
}

/// What `cargo test` has made of an example, beside the directory of this test's own program.
pub(crate) fn example(file: &str) -> PathBuf {
    let test = std::env::current_exe().unwrap();
    let target = test.parent().and_then(Path::parent).unwrap();
    let path = target.join("examples").join(file);
    assert!(path.exists(), "{path:?} is missing: run `cargo build --examples` first");
    path
}

/// One line that a process worker wrote.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Line {
    pub(crate) worker: String,
    pub(crate) incarnation: u64,
    pub(crate) stderr: bool,
    pub(crate) text: String,
    pub(crate) complete: bool,
}

/// A master and all that is heard of it.
pub(crate) struct Bench {
    pub(crate) master: Arc<Master>,
    pub(crate) lines: Receiver<Line>,
    brake: Brake,
    events: Receiver<Event>,
    seen: Mutex<Seen>,
    voice: Voice,
    let_go: Fifo,
}

/// The events taken from the channel so far.
#[derive(Default)]
struct Seen {
    events: Vec<Event>,
    /// For each worker how many of them were asked for.
    asked: BTreeMap<String, usize>,
}

/// What a whole test's events come to.
pub(crate) struct Story {
    pub(crate) report: ShutdownReport,
    pub(crate) edges: BTreeSet<(WorkerState, WorkerState)>,
}

impl Bench {
    /// A master with these modules.
    pub(crate) fn new(builder: MasterBuilder) -> Self {
        let (tell, lines) = unbounded();
        let builder = builder.output(move |line: OutputLine<'_>| {
            let _ = tell.send(Line {
                worker: line.worker.to_owned(),
                incarnation: line.incarnation,
                stderr: line.stderr,
                text: String::from_utf8_lossy(line.line).into_owned(),
                complete: line.complete,
            });
        });
        let master = builder.build().unwrap();
        let events = master.subscribe();
        let brake = Brake::on(&master);
        let (master, seen, voice) = (Arc::new(master), Mutex::default(), Voice::new());
        Self { master, lines, brake, events, seen, voice, let_go: Fifo::new() }
    }

    /// Adds a worker.
    pub(crate) fn add(&self, config: WorkerConfig) {
        self.master.add_worker(config).unwrap();
    }

    /// What is known of a worker now.
    pub(crate) fn known(&self, worker: &str) -> WorkerDiagnostics {
        self.master.worker_diagnostics(worker).unwrap()
    }

    /// Waits until a picture of a worker fits: see [`once`].
    pub(crate) fn once(
        &self,
        worker: &str,
        fits: impl Fn(&WorkerDiagnostics) -> bool,
    ) -> WorkerDiagnostics {
        once(&self.master, worker, fits)
    }

    /// Waits for the next states of a worker, each alone or followed by its cause: `"failed:
    /// crash"`. Returns the incarnation that the last one is about.
    #[track_caller]
    pub(crate) fn sees(&self, worker: &str, expected: &[&str]) -> u64 {
        let mut last = 0;
        for (index, wanted) in expected.iter().enumerate() {
            let (incarnation, state, cause) = self.next_state(worker);
            let told = format!("{state}: {cause}");
            let fits = *wanted == told || *wanted == state.as_str();
            assert!(
                fits,
                "{worker}: expected {wanted:?} (the {index}. of {expected:?}), saw {told:?}"
            );
            last = incarnation;
        }
        last
    }

    /// The next edge that a worker takes: its incarnation, where it leads, and why.
    fn next_state(&self, worker: &str) -> (u64, WorkerState, &'static str) {
        loop {
            if let EventKind::State { to, cause, .. } = self.next_event(worker).1 {
                return (self.last_incarnation(worker), to, cause);
            }
        }
    }

    fn last_incarnation(&self, worker: &str) -> u64 {
        let seen = self.seen.lock().unwrap();
        let asked = seen.asked[worker];
        seen.events[..asked].iter().rfind(|event| event.worker == worker).unwrap().incarnation
    }

    /// The next event about a worker, with its incarnation.
    pub(crate) fn next_event(&self, worker: &str) -> (u64, EventKind) {
        let mut seen = self.seen.lock().unwrap();
        let mut at = seen.asked.get(worker).copied().unwrap_or(0);
        loop {
            while at < seen.events.len() {
                at += 1;
                if seen.events[at - 1].worker == worker {
                    seen.asked.insert(worker.to_owned(), at);
                    let event = &seen.events[at - 1];
                    return (event.incarnation, event.kind.clone());
                }
            }
            let event = self.events.recv_timeout(PATIENCE);
            let event = event.unwrap_or_else(|_| panic!("nothing more came of {worker}"));
            seen.events.push(event);
        }
    }

    /// Holds the loop when a worker enters a state: see [`Held`].
    pub(crate) fn hold(&self, worker: &str, state: WorkerState) -> Held<'_> {
        self.brake.arm(worker, state);
        Held { brake: &self.brake }
    }

    /// Where workers say something.
    pub(crate) fn voice(&self) -> &Path {
        &self.voice.fifo.path
    }

    /// Where workers wait to be let go.
    pub(crate) fn gate(&self) -> &Path {
        &self.let_go.path
    }

    /// The next thing that a worker says.
    pub(crate) fn hears(&self) -> String {
        self.voice.heard.recv_timeout(PATIENCE).expect("no worker said anything more")
    }

    /// Waits until a worker has said this, whatever else is said meanwhile.
    pub(crate) fn hears_that(&self, wanted: &str) {
        while self.hears() != wanted {}
    }

    /// The next line that a process worker writes.
    pub(crate) fn line(&self) -> Line {
        self.lines.recv_timeout(PATIENCE).expect("no worker wrote anything more")
    }

    /// Lets so many readers of the gate go on.
    pub(crate) fn let_go(&self, count: usize) {
        self.let_go.write(&"go\n".repeat(count));
    }

    /// Shuts down, and checks that what was told is one consistent story: every edge is in the
    /// table, leaves the state that the last one led to, and incarnations never go back.
    pub(crate) fn finish(self) -> Story {
        let report = self.master.shutdown().unwrap();
        let mut seen = std::mem::take(&mut *self.seen.lock().unwrap());
        while let Ok(event) = self.events.recv_timeout(PATIENCE) {
            seen.events.push(event);
        }
        assert_eq!(seen.events.last().map(|event| &event.kind), Some(&EventKind::ShutDown));
        Story { report, edges: edges_of(&seen.events) }
    }
}

impl Drop for Bench {
    fn drop(&mut self) {
        // Whoever hangs may end now.
        self.let_go.write(&"go\n".repeat(256));
    }
}

fn edges_of(events: &[Event]) -> BTreeSet<(WorkerState, WorkerState)> {
    let mut edges = BTreeSet::new();
    let mut last: BTreeMap<&str, (WorkerState, u64)> = BTreeMap::new();
    for event in events {
        let known = last.entry(&event.worker).or_insert((WorkerState::Uninitialized, 0));
        assert!(!matches!(event.kind, EventKind::Missed(_)), "events were missed");
        if event.kind == EventKind::Removed {
            known.0 = WorkerState::Uninitialized;
        }
        if let EventKind::State { from, to, .. } = &event.kind {
            assert_eq!(known.0, *from, "an edge is missing before {event:?}");
            assert!(known.1 <= event.incarnation, "an old incarnation spoke: {event:?}");
            assert!(TRANSITIONS.contains(&(*from, *to)), "no such edge: {event:?}");
            edges.insert((*from, *to));
            *known = (*to, event.incarnation);
        }
    }
    edges
}

/// Waits until a picture of a worker fits. For what no event tells, such as that a failed
/// incarnation is gone.
pub(crate) fn once(
    master: &Master,
    worker: &str,
    fits: impl Fn(&WorkerDiagnostics) -> bool,
) -> WorkerDiagnostics {
    let known = || master.worker_diagnostics(worker).unwrap();
    until(|| fits(&known()));
    known()
}

/// Says why a test did nothing here.
pub(crate) fn skipped(why: &str) {
    let _ = writeln!(std::io::stderr(), "SKIPPED: {why}");
}

/// Waits until something is so that nobody tells: looks again whenever a moment has passed.
#[track_caller]
pub(crate) fn until(so: impl Fn() -> bool) {
    let (_silent, nothing) = bounded::<()>(0);
    let end = Instant::now() + PATIENCE;
    while !so() {
        assert!(Instant::now() < end, "it never came to that");
        let _ = nothing.recv_timeout(ms(1));
    }
}

/// Waits for the answer to a request.
pub(crate) fn answer<T>(ticket: &Ticket<T>) -> Result<T, Error> {
    ticket.wait_timeout(PATIENCE).expect("the request was not answered")
}

/// Stops a master's loop for a moment, so that what a test sends then is heard before anything that
/// the loop has not begun yet.
struct Brake {
    target: Arc<Mutex<Option<(String, WorkerState)>>>,
    held: Receiver<()>,
    release: Sender<()>,
}

impl Brake {
    fn on(master: &Master) -> Self {
        let (tell_held, held) = bounded(1);
        let (release, released) = bounded(1);
        let target: Arc<Mutex<Option<(String, WorkerState)>>> = Arc::default();
        let events: Arc<OnceLock<Receiver<Event>>> = Arc::default();
        let (armed, heard) = (Arc::clone(&target), Arc::clone(&events));
        let wake = move || {
            let Some(event) = heard.get().and_then(|events| events.try_recv().ok()) else { return };
            let EventKind::State { to, .. } = event.kind else { return };
            let mut armed = armed.lock().unwrap();
            if armed.as_ref().is_some_and(|(worker, at)| *worker == event.worker && *at == to) {
                *armed = None;
                drop(armed);
                let _ = tell_held.send(());
                let _ = released.recv_timeout(PATIENCE);
            }
        };
        let receiver = master.subscribe_with(wake);
        assert!(events.set(receiver).is_ok(), "the brake is set once");
        Self { target, held, release }
    }

    fn arm(&self, worker: &str, state: WorkerState) {
        *self.target.lock().unwrap() = Some((worker.to_owned(), state));
    }
}

/// The loop is to stop as soon as it has told an edge, and to go on when this is dropped.
pub(crate) struct Held<'b> {
    brake: &'b Brake,
}

impl Held<'_> {
    /// Waits until the loop stands, and lets it stand while `act` sends what it wants to be heard
    /// next.
    pub(crate) fn while_held<T>(self, act: impl FnOnce() -> T) -> T {
        self.brake.held.recv_timeout(PATIENCE).expect("the loop did not come to this state");
        let result = act();
        self.brake.release.send(()).unwrap();
        result
    }
}

/// A FIFO that is held open for both directions, so that nobody waits to open it.
pub(crate) struct Fifo {
    _directory: tempfile::TempDir,
    pub(crate) path: PathBuf,
    held: File,
}

impl Fifo {
    pub(crate) fn new() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("fifo");
        assert!(Command::new("mkfifo").arg(&path).status().unwrap().success());
        let held = OpenOptions::new().read(true).write(true).open(&path).unwrap();
        Self { _directory: directory, path, held }
    }

    pub(crate) fn write(&self, text: &str) {
        (&self.held).write_all(text.as_bytes()).unwrap();
    }
}

/// Hears what workers write into a FIFO, line by line.
struct Voice {
    fifo: Fifo,
    heard: Receiver<String>,
    reader: Option<JoinHandle<()>>,
}

impl Voice {
    fn new() -> Self {
        let (fifo, (tell, heard)) = (Fifo::new(), unbounded());
        let from = BufReader::new(fifo.held.try_clone().unwrap());
        let listen = move || {
            let lines = from.lines().map_while(Result::ok);
            for line in lines.take_while(|line| line != QUIET) {
                let _ = tell.send(line);
            }
        };
        let reader = Some(thread::Builder::new().name("voice".into()).spawn(listen).unwrap());
        Self { fifo, heard, reader }
    }
}

impl Drop for Voice {
    fn drop(&mut self) {
        self.fifo.write(&format!("{QUIET}\n"));
        if let Some(reader) = self.reader.take() {
            reader.join().unwrap();
        }
    }
}
