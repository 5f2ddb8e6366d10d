//! The event loop dies of a fault of the program's own: what is to outlive it does, nothing else.

use std::io::{BufRead, BufReader, Write};
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};

use hsu_master::control::{Client, CommandOptions};
use hsu_master::{
    ErrorCategory, EventKind, Master, MasterConfig, OnMasterExit, WaitFor, WorkerConfig,
    WorkerState,
};

use crate::support::{LONG, Site, example, lives, until};

/// Set in the process whose loop dies: the state directory.
const DIRECTORY: &str = "HSU_TEST_DYING";

fn configuration(state: PathBuf) -> MasterConfig {
    let nap = |id: &str| WorkerConfig::executable(id, "/bin/sleep").args(["1000"]);
    MasterConfig::new()
        .state_dir(state)
        .worker(nap("kept").on_master_exit(OnMasterExit::Keep))
        .worker(nap("not"))
        .worker(nap("fatal").enabled(false))
}

/// A logger that panics once, on the thread of the loop, when the last worker runs.
struct Fatal(AtomicBool);

impl log::Log for Fatal {
    fn enabled(&self, _: &log::Metadata<'_>) -> bool {
        true
    }

    fn log(&self, record: &log::Record<'_>) {
        let text = record.args().to_string();
        if text.contains("fatal#1 is running") && !self.0.swap(true, Ordering::SeqCst) {
            panic!("told to");
        }
    }

    fn flush(&self) {}
}

/// Not a test of its own: it is run as a master whose loop dies.
#[test]
fn a_master_whose_loop_dies() {
    let Some(state) = std::env::var_os(DIRECTORY) else { return };
    log::set_boxed_logger(Box::new(Fatal(AtomicBool::new(false)))).unwrap();
    log::set_max_level(log::LevelFilter::Info);
    let socket = PathBuf::from(&state).join("control.sock");
    let master = Master::builder().config(configuration(state.into())).build().unwrap();
    let events = master.subscribe();
    master.start_all().unwrap();
    let pid = |worker| master.worker_diagnostics(worker).unwrap().pid.unwrap();
    println!("pids {} {}", pid("kept"), pid("not"));
    let connected = Client::connect(&socket).unwrap();
    let waiting = std::thread::scope(|scope| {
        let waits = scope.spawn(|| connected.wait_for("kept", WaitFor::Stopped, LONG));
        let here = scope.spawn(|| master.wait_for("kept", WaitFor::Stopped, LONG));
        is_internal(master.start_worker("fatal"));
        is_internal(here.join().unwrap());
        waits.join().unwrap()
    });
    is_internal(waiting);
    is_internal(master.wait());
    is_internal(master.start_worker("kept"));
    is_internal(master.shutdown());
    // Whoever asks is told so, over whatever connection, for as long as the program goes on.
    is_internal(connected.status(&[]));
    is_internal(connected.stop("kept", CommandOptions::new()));
    is_internal(connected.shutdown(false));
    is_internal(connected.modules());
    is_internal(Client::connect(&socket));
    let told: Vec<_> = std::iter::from_fn(|| events.recv_timeout(LONG).ok()).collect();
    assert_eq!(told.last().unwrap().kind, EventKind::Died);
    drop(master);
    assert!(Client::connect(&socket).unwrap_err().is_unavailable());
    println!("all is told");
}

fn is_internal<T: std::fmt::Debug>(outcome: hsu_master::Result<T>) {
    let error = outcome.unwrap_err();
    assert_eq!(error.category(), ErrorCategory::Internal, "{error}");
    assert!(error.to_string().contains("event loop died"), "{error}");
}

#[test]
fn s16_a_loop_that_dies_kills_what_is_to_stop_and_leaves_what_is_to_be_kept() {
    let site = Site::new("workers: []\n");
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.args(["--exact", "dying::a_master_whose_loop_dies", "--nocapture"]);
    command.env(DIRECTORY, site.state()).env("HSU_STATE_DIR", site.state());
    let output = command.stdin(Stdio::null()).output().unwrap();
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success() && said.contains("all is told"), "{output:?}");
    is_told_last(&site);
    let line = said.lines().find_map(|line| line.split_once("pids ")).unwrap().1;
    let pids: Vec<u32> = line.split(' ').map(|pid| pid.parse().unwrap()).collect();
    assert!(lives(pids[0]) && !lives(pids[1]), "{said}");
    let master = Master::builder().config(configuration(site.state())).build().unwrap();
    let known = master.worker_diagnostics("kept").unwrap();
    assert_eq!((known.state, known.pid), (WorkerState::Running, Some(pids[0])));
    // And the fatal worker's process was ended with the loop that had started it.
    master.start_all().unwrap();
    master.shutdown().unwrap();
    assert!(!lives(pids[0]));
    assert_eq!(site.all().len(), 0);
}

/// The journal ends with the loop's death.
fn is_told_last(site: &Site) {
    let journal = std::fs::read_to_string(site.state().join("logs/events.jsonl")).unwrap();
    let last = journal.lines().last().unwrap();
    assert!(last.contains("\"event\":\"died\"") && journal.ends_with('\n'), "{last}");
    assert!(journal.contains("\"running\""), "what was before it is there too");
}

#[test]
fn s16_an_application_whose_loop_dies_says_so_and_exits_with_70() {
    let site = Site::new(
        "workers:
- { id: kept, command: [/bin/sleep, '1000'], on_master_exit: keep }
- { id: not, command: [/bin/sleep, '1000'] }
- { id: fatal, command: [/bin/sleep, '1000'], enabled: false }
",
    );
    let mut app = site.run_at(&example("dying_app"), &[]);
    let (kept, not) = (app.runs("kept#1"), app.runs("not#1"));
    let socket = site.state().join("control.sock");
    let client = || Client::connect(&socket).unwrap().timeout(LONG);
    let (client, mut events) = (client(), client().events(true).unwrap());
    // The past comes first, once the stream has begun.
    events.next().unwrap().unwrap();
    let mut waiting = UnixStream::connect(&socket).unwrap();
    let wait = r#"{"id":1,"method":"wait","params":{"id":"kept","for":"stopped"}}"#;
    waiting.write_all(format!("{wait}\n{{\"id\":2,\"method\":\"hello\"}}\n").as_bytes()).unwrap();
    let mut told = BufReader::new(&waiting).lines().map(Result::unwrap);
    // It is open by the time that what was asked after it is answered.
    assert!(told.next().unwrap().starts_with("{\"id\":2,\"result\""));
    is_internal(client.start("fatal", CommandOptions::new()));
    let last = told.next().unwrap();
    assert!(last.starts_with("{\"id\":1,") && last.contains("\"internal\""), "{last}");
    let (status, said) = app.end();
    assert_eq!(status.code(), Some(70), "{said}");
    assert!(said.contains("the event loop died"), "{said}");
    let last = events.by_ref().map_while(Result::ok).last().unwrap();
    assert_eq!(last["event"], "died");
    is_told_last(&site);
    until(|| !lives(not));
    assert!(lives(kept));
    assert!(!socket.exists());
    let mut next = site.run();
    assert_eq!(next.runs("kept#1"), kept);
    let (status, _) = next.stop();
    assert!(status.success() && !lives(kept));
}
