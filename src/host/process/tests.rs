//! Lives of real processes. Nothing here waits for a time to pass: every step waits for the report or
//! the bytes that show it, and scripts wait on FIFOs that the test holds.

mod refusals;

use std::fs::{self, File, OpenOptions};
use std::io::{Read, Write};
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use crossbeam_channel::{Receiver, RecvTimeoutError, Sender, TryRecvError, unbounded};

use super::*;
use crate::host::{Launch, Stream, alone};

const PATIENCE: Duration = Duration::from_secs(30);
const ASK: Order = Order::Ask { patience: PATIENCE };

/// What the monitor tells, in its order.
enum Seen {
    Report(Report),
    Output(Stream, Vec<u8>),
    End(Stream),
}

struct Sink(Sender<Seen>);

impl OutputSink for Sink {
    fn output(&self, _worker: &WorkerId, _incarnation: u64, stream: Stream, bytes: &[u8]) {
        let _ = self.0.send(Seen::Output(stream, bytes.to_vec()));
    }

    fn end_of_output(&self, _worker: &WorkerId, _incarnation: u64, stream: Stream) {
        let _ = self.0.send(Seen::End(stream));
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
        let shared = ProcessShared::new(Arc::new(Sink(tell.clone())), nofile).unwrap();
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

    /// Waits for the end of everything: nothing follows the last report, and the monitor is no more.
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

#[test]
fn every_exit_code_is_reported_exactly() {
    for code in 0..=255 {
        let (mut watched, _) = Watched::started(shell(&format!("exit {code}")));
        assert_eq!(watched.gone(), Exit::Code(code));
    }
}

#[test]
fn death_by_signal_is_reported_as_such() {
    for signal in [1, 2, 9, 13, 14, 15] {
        let (mut watched, _) = Watched::started(shell(&format!("kill -{signal} $$")));
        assert_eq!(watched.gone(), Exit::Signal { signal, core_dumped: false });
    }
    let (mut watched, _) = Watched::started(shell("kill -SEGV $$"));
    assert!(matches!(watched.gone(), Exit::Signal { signal: 11, .. }));
}

#[test]
fn the_start_is_reported_before_the_end_however_short_the_life() {
    for _ in 0..500 {
        let (mut watched, pid) = Watched::started(plan("/bin/true", &[]));
        assert!(pid > 1);
        assert_eq!(watched.gone(), Exit::Code(0));
    }
}

#[test]
fn an_end_that_races_with_a_kill_is_no_error() {
    for round in 0..300 {
        let (mut watched, _) = Watched::started(plan("/bin/true", &[]));
        let (order, signal) = if round % 2 == 0 { (Order::Force, 9) } else { (ASK, 15) };
        watched.host.order(&order);
        let exit = watched.gone();
        let killed = Exit::Signal { signal, core_dumped: false };
        assert!(exit == Exit::Code(0) || exit == killed, "{exit}");
        // Orders to somebody who is gone do nothing.
        watched.host.order(&order);
    }
}

#[test]
fn asked_before_the_start_it_is_never_spawned() {
    for order in [ASK, Order::Force] {
        let mut watched = Watched::launch(plan("/bin/true", &[]));
        assert_eq!(watched.report(), Report::Launched);
        watched.host.order(&order);
        assert_eq!(watched.gone(), Exit::Returned);
        watched.host.order(&Order::Start);
        watched.nothing_more();
    }
}

#[test]
fn an_order_is_never_lost_between_start_and_spawn() {
    for round in 0..100 {
        let mut watched = Watched::launch(plan("/bin/sleep", &["1000"]));
        let (order, signal) = if round % 2 == 0 { (Order::Force, 9) } else { (ASK, 15) };
        if round % 3 == 0 {
            assert_eq!(watched.report(), Report::Launched);
        }
        watched.host.order(&Order::Start);
        watched.host.order(&order);
        let exit = loop {
            if let Report::Gone(exit) = watched.report() {
                break exit;
            }
        };
        let killed = Exit::Signal { signal, core_dumped: false };
        assert!(exit == Exit::Returned || exit == killed, "{exit}");
    }
}

#[test]
fn a_host_dropped_before_the_start_calls_it_off() {
    let mut watched = Watched::launch(plan("/bin/true", &[]));
    assert_eq!(watched.report(), Report::Launched);
    let Watched { host, shared, seen, .. } = watched;
    drop(host);
    let report = seen.recv_timeout(PATIENCE);
    assert!(matches!(report, Ok(Seen::Report(Report::Gone(Exit::Returned)))));
    drop(shared);
}

#[test]
fn orders_that_mean_nothing_to_a_process_change_nothing() {
    let fifos = Fifos::new();
    let (mut watched, _) = Watched::started(scripted("read x < $A; exit 4", &fifos));
    let launch = Launch {
        worker: "api".to_owned(),
        incarnation: 3,
        native: true,
        module: "api".to_owned(),
        config: serde_json::Value::Null,
    };
    for order in [Order::Launch(launch), Order::Start, Order::Probe { probe: 1 }, Order::Abandon] {
        watched.host.order(&order);
    }
    fifos.release();
    assert_eq!(watched.gone(), Exit::Code(4));
}

#[test]
fn what_ignores_the_stop_signal_is_ended_by_force() {
    let script = "trap 'echo no' TERM; echo ready; while :; do sleep 1000; done";
    let (mut watched, _) = Watched::started(shell(script));
    watched.said("ready");
    watched.host.order(&ASK);
    watched.said("no");
    watched.host.order(&Order::Force);
    assert_eq!(watched.gone(), Exit::Signal { signal: 9, core_dumped: false });
}

#[test]
fn a_stopped_process_hears_that_it_is_asked() {
    for kill_group in [true, false] {
        let fifos = Fifos::new();
        let script = "trap 'exit 7' TERM; (read x < $A) & (kill -STOP $$; echo stopped); wait";
        let plan = ProcessPlan { kill_group, ..scripted(script, &fifos) };
        let (mut watched, _) = Watched::started(plan);
        watched.said("stopped");
        watched.host.order(&ASK);
        assert_eq!(watched.gone(), Exit::Code(7));
        fifos.release();
        watched.nothing_more();
    }
}

#[test]
fn what_is_left_of_the_group_is_killed() {
    let fifos = Fifos::new();
    let script = "sleep 1000 & echo pid $!; read x < $A; exit 0";
    let (mut watched, _) = Watched::started(scripted(script, &fifos));
    let straggler = watched.said("pid ")["pid ".len()..].parse().unwrap();
    let straggler = sys::pidfd_open(straggler).unwrap();
    fifos.release();
    assert_eq!(watched.gone(), Exit::Code(0));
    let ended = sys::wait_readable([Some(straggler.as_fd())], Some(PATIENCE));
    assert_eq!(ended.unwrap(), [true]);
}

#[test]
fn the_stop_signal_goes_to_the_group_or_to_the_leader_alone() {
    let script = "(trap 'echo child > $B; exit' TERM; echo ready; while :; do read x < $A; done) &
        trap 'echo leader > $B; exit 5' TERM; wait";
    let fifos = Fifos::new();
    let plan = ProcessPlan { kill_group: false, ..scripted(script, &fifos) };
    let (mut watched, _) = Watched::started(plan);
    watched.said("ready");
    watched.host.order(&ASK);
    assert_eq!(watched.gone(), Exit::Code(5));
    assert_eq!(fifos.heard(), "leader\n");
    drop(watched);
}

#[test]
fn an_end_is_reported_while_a_straggler_holds_the_output() {
    let fifos = Fifos::new();
    let script = "(read x < $A; echo late) & exit 3";
    let plan = ProcessPlan { kill_group: false, ..scripted(script, &fifos) };
    let (mut watched, _) = Watched::started(plan);
    assert_eq!(watched.gone(), Exit::Code(3));
    // It lives, since it was not signalled, and what it says is still heard.
    assert_eq!(watched.out(), "");
    fifos.release();
    watched.silent();
    assert_eq!(watched.out(), "late\n");
    watched.nothing_more();
}

#[test]
fn nobody_waits_for_a_straggler_when_the_master_ends() {
    let fifos = Fifos::new();
    let script = "(read x < $A; echo lives > $B) & exit 3";
    let plan = ProcessPlan { kill_group: false, ..scripted(script, &fifos) };
    let (mut watched, _) = Watched::started(plan);
    assert_eq!(watched.gone(), Exit::Code(3));
    watched.shared = None;
    watched.silent();
    fifos.release();
    assert_eq!(fifos.heard(), "lives\n");
}

#[test]
fn output_held_outside_the_killed_group_is_given_up() {
    let fifos = Fifos::new();
    // The leader ends once its grandchild has a session of its own.
    let script = "mkfifo $B.up; setsid sh -c ': > $B.up; read x < $A; echo lives > $B' & \
        : < $B.up; exit 3";
    let (mut watched, _) = Watched::started(scripted(script, &fifos));
    assert_eq!(watched.gone(), Exit::Code(3));
    watched.silent();
    fifos.release();
    assert_eq!(fifos.heard(), "lives\n");
    watched.nothing_more();
}

#[test]
fn all_output_arrives_and_arrives_before_the_end() {
    let script = "head -c 1000000 /dev/zero; head -c 1000000 /dev/zero >&2";
    let (mut watched, _) = Watched::started(shell(script));
    assert_eq!(watched.gone(), Exit::Code(0));
    assert_eq!((watched.out.len(), watched.err.len()), (1_000_000, 1_000_000));
    watched.silent();
    assert!(watched.out.iter().chain(&watched.err).all(|byte| *byte == 0));
}

#[test]
fn closed_output_is_not_the_end() {
    let fifos = Fifos::new();
    let script = "exec 0<&- 1>&- 2>&-; read x < $A; exit 5";
    let (mut watched, _) = Watched::started(scripted(script, &fifos));
    watched.silent();
    fifos.release();
    assert_eq!(watched.gone(), Exit::Code(5));
    watched.nothing_more();
}

#[test]
fn a_process_gets_its_arguments_environment_and_directory() {
    let directory = tempfile::tempdir().unwrap();
    let path = fs::canonicalize(directory.path()).unwrap();
    let mut plan = plan("sh", &["-c", "pwd; echo $HSU_WORKER_ID $COLOR $0; cat", "two words"]);
    plan.environment.insert("COLOR".to_owned(), "green".to_owned());
    plan.environment.insert("HSU_WORKER_ID".to_owned(), "other".to_owned());
    plan.working_directory = Some(path.clone());
    let (mut watched, _) = Watched::started(plan);
    assert_eq!(watched.gone(), Exit::Code(0));
    assert_eq!(watched.out(), format!("{}\napi green two words\n", path.display()));
}

#[test]
fn a_program_is_found_in_the_workers_path_or_beside_its_directory() {
    let directory = tempfile::tempdir().unwrap();
    fs::create_dir(directory.path().join("bin")).unwrap();
    std::os::unix::fs::symlink("/bin/sh", directory.path().join("bin/hsu-shell")).unwrap();
    for (program, path) in [("hsu-shell", Some("/nowhere:bin")), ("bin/hsu-shell", None)] {
        let mut plan = plan(program, &["-c", "exit 9"]);
        plan.working_directory = Some(directory.path().to_owned());
        plan.environment.extend(path.map(|path| ("PATH".to_owned(), path.to_owned())));
        let (mut watched, _) = Watched::started(plan);
        assert_eq!(watched.gone(), Exit::Code(9));
    }
}

#[test]
fn a_process_gets_the_descriptor_limit_back() {
    let fifos = Fifos::new();
    let plan = scripted("read x < $A; ulimit -Sn; ulimit -Hn", &fifos);
    let mut watched = Watched::launch_limited(plan, Some(sys::Limit { soft: 77, hard: 500 }));
    watched.host.order(&Order::Start);
    watched.spawned();
    fifos.release();
    assert_eq!(watched.gone(), Exit::Code(0));
    assert_eq!(watched.out(), "77\n500\n");
}

/// What breaks the monitor: our own bug, by way of the sink.
struct Broken;

impl OutputSink for Broken {
    fn output(&self, _worker: &WorkerId, _incarnation: u64, _stream: Stream, _bytes: &[u8]) {
        panic!("planted");
    }

    fn end_of_output(&self, _worker: &WorkerId, _incarnation: u64, _stream: Stream) {}
}

#[test]
fn a_monitor_that_panics_leaves_no_process_and_reports_its_end() {
    let (tell, told) = unbounded();
    let shared = ProcessShared::new(Arc::new(Broken), None).unwrap();
    let report: Reporter = Arc::new(move |report| {
        let _ = tell.send(report);
    });
    let plan = Arc::new(shell("sleep 1000 & echo; wait"));
    let host = ProcessHost::launch(WorkerId::new("api").unwrap(), 1, plan, &shared, report);
    host.order(&Order::Start);
    assert_eq!(told.recv_timeout(PATIENCE), Ok(Report::Launched));
    let started = told.recv_timeout(PATIENCE).unwrap();
    let Report::Started { pid: Some(pid) } = started else { panic!("{started:?}") };
    assert_eq!(told.recv_timeout(PATIENCE), Ok(Report::Gone(Exit::Unknown)));
    assert!(!fs::exists(format!("/proc/{pid}")).unwrap(), "it was not reaped");
    assert_eq!(told.recv_timeout(PATIENCE), Err(RecvTimeoutError::Disconnected));
}

#[test]
fn a_process_has_three_descriptors() {
    let shell = ["sh", "-c", r#"exec 7</dev/null; exec "$@""#, "sh"];
    if !alone::here(&shell, "host::process::tests::a_process_has_three_descriptors") {
        return;
    }
    sys::cloexec_inherited().unwrap();
    // The fourth is the directory that `ls` reads.
    let (mut watched, _) = Watched::started(plan("ls", &["/proc/self/fd"]));
    assert_eq!(watched.gone(), Exit::Code(0));
    assert_eq!(watched.out(), "0\n1\n2\n3\n");
}

#[test]
fn two_hundred_lives_leave_no_descriptor_and_no_child() {
    if !alone::here(&[], "host::process::tests::two_hundred_lives_leave_no_descriptor_and_no_child")
    {
        return;
    }
    let descriptors = || fs::read_dir("/proc/self/fd").unwrap().count();
    let before = descriptors();
    for round in 0..200 {
        let program = if round % 2 == 0 { "/bin/true" } else { "/none" };
        let watched = Watched::launch(plan(program, &[]));
        watched.host.order(&Order::Start);
        watched.nothing_more();
    }
    assert_eq!(descriptors(), before);
    let children = fs::read_to_string("/proc/thread-self/children").unwrap_or_default();
    assert_eq!(children, "");
}
