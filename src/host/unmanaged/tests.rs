//! Whom a pid file, a name or a port leads to, and whom never (FAULTS S07). The processes are real,
//! and orphans: what this test's process has started itself is refused.

use std::fs::{self, File};
use std::net::{Ipv4Addr, TcpListener};
use std::os::fd::AsFd;
use std::os::unix::fs::{PermissionsExt, chown, symlink};
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant, SystemTime};

use crossbeam_channel::{Receiver, bounded, unbounded};

use super::find::*;
use super::processes::*;
use super::*;
use crate::error::{ErrorCategory, Failure};
use crate::host::threads::fail_points::{arm, arm_for, is_armed};
use crate::host::{Report, alone, sys};
use crate::worker::Exit;

const PATIENCE: Duration = Duration::from_secs(30);

/// A process of nobody's; dropped, it is killed.
struct Stranger(u32);

impl Stranger {
    fn new(command: &str) -> Self {
        let script = format!("{command} </dev/null >/dev/null 2>&1 & echo $!");
        let shell = Command::new("/bin/sh").args(["-c", &script]).stderr(Stdio::null()).output();
        let told = String::from_utf8(shell.unwrap().stdout).unwrap();
        let stranger = Self(told.trim().parse().unwrap());
        // It is the shell's copy until it has become its own program, which nobody tells.
        let (_silent, nothing) = bounded::<()>(0);
        let end = Instant::now() + PATIENCE;
        let is_a_copy = || {
            let arguments = Process::with_id(stranger.0).unwrap().arguments();
            arguments.is_empty() || arguments.contains(&script.clone().into_bytes())
        };
        while is_a_copy() {
            assert!(Instant::now() < end, "{command} was never run");
            let _ = nothing.recv_timeout(Duration::from_millis(1));
        }
        stranger
    }

    /// One that sleeps, and can be told from all others by its argument.
    fn asleep(seconds: u32) -> Self {
        Self::new(&format!("exec /bin/sleep {}", unique(seconds)))
    }

    /// Kills it and all that it has started.
    fn kill(&self) {
        let descends = |process: &Process| line_of(process.pid).contains(&self.0);
        let family: Vec<Process> = Process::all().unwrap().filter(descends).collect();
        for process in family {
            let Ok(process) = sys::pidfd_open(process.pid) else { continue };
            sys::signal_by(process.as_fd(), sys::SIGKILL).unwrap();
            let ended = sys::wait_readable([Some(process.as_fd())], Some(PATIENCE));
            assert_eq!(ended.unwrap(), [true]);
        }
    }

    fn lives(&self) -> bool {
        Process::with_id(self.0).is_some_and(|process| !process.ended)
    }
}

impl Drop for Stranger {
    fn drop(&mut self) {
        if self.lives() {
            self.kill();
        }
    }
}

/// An argument that no other process has: this very test may be running twice.
fn unique(number: u32) -> String {
    format!("{number}.{}", std::process::id())
}

struct PidFile {
    _directory: tempfile::TempDir,
    path: PathBuf,
}

impl PidFile {
    fn with(text: impl AsRef<[u8]>) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("pid");
        fs::write(&path, text).unwrap();
        Self { _directory: directory, path }
    }

    fn refusal(&self) -> Failure {
        refusal(&UnmanagedConfig::pid_file(&self.path))
    }
}

fn refusal(what: &UnmanagedConfig) -> Failure {
    find(what).err().unwrap_or_else(|| panic!("{what:?} was found"))
}

#[test]
fn s07_a_pid_file_that_cannot_be_right_is_refused_with_its_reason() {
    use ErrorCategory::{NotRunning, Refused};
    let own = std::process::id().to_string();
    let parent = std::os::unix::process::parent_id().to_string();
    let thread = fs::read_link("/proc/thread-self").unwrap();
    let thread = thread.file_name().unwrap().to_str().unwrap().to_owned();
    let mut child = Command::new("/bin/sleep").arg("1000").spawn().unwrap();
    let of_child = child.id().to_string();
    let cases: &[(&[u8], ErrorCategory, &str)] = &[
        (b"", Refused, "is empty"),
        (b"\n12\n", Refused, "is empty"),
        (b"garbage\n", Refused, "\"garbage\" is not a process id"),
        (b"12 34\n", Refused, "is not a process id"),
        (b"\xff\xfe", Refused, "is not a process id"),
        (b"-1\n", Refused, "\"-1\" is not a process id"),
        (b"+7\n", Refused, "is not a process id"),
        (b"0\n", Refused, "0 is not the id of a process"),
        (b"1\n", Refused, "1 is the system's first process"),
        (b"4194303\n", NotRunning, "there is no process 4194303"),
        (b"4194305\n", Refused, "is larger than any process id"),
        (b"99999999999999999999999\n", Refused, "is larger than any process id"),
        (own.as_bytes(), Refused, "is this master itself"),
        (parent.as_bytes(), Refused, "is one of those that have started this master"),
        (of_child.as_bytes(), Refused, "was started by this master"),
        (thread.as_bytes(), Refused, "is a thread"),
    ];
    for (text, category, part) in cases {
        let failure = PidFile::with(text).refusal();
        assert!(failure.message.contains(part), "{text:?}: {failure}");
        assert_eq!(failure.category, *category, "{failure}");
        assert!(!failure.permanent && failure.message.starts_with("pid file /"), "{failure}");
    }
    child.kill().unwrap();
    child.wait().unwrap();
}

#[test]
fn s07_a_pid_file_that_a_stranger_could_have_written_is_refused() {
    let process = Stranger::asleep(7_001);
    let text = format!("{}\n", process.0);
    let file = PidFile::with(&text);
    assert_eq!(find(&UnmanagedConfig::pid_file(&file.path)).ok().unwrap().pid(), process.0);

    let link = file.path.with_file_name("link");
    symlink(&file.path, &link).unwrap();
    let failure = refusal(&UnmanagedConfig::pid_file(&link));
    assert!(failure.message.contains("is a symbolic link"), "{failure}");
    assert_eq!(failure.category, ErrorCategory::PermissionDenied);

    fs::set_permissions(&file.path, fs::Permissions::from_mode(0o666)).unwrap();
    let failure = file.refusal();
    assert!(failure.message.contains("can be written by everybody"), "{failure}");
    fs::set_permissions(&file.path, fs::Permissions::from_mode(0o644)).unwrap();

    let failure = refusal(&UnmanagedConfig::pid_file(file.path.parent().unwrap()));
    assert!(failure.message.contains("is not a regular file"), "{failure}");
    let failure = refusal(&UnmanagedConfig::pid_file("/nowhere/pid"));
    assert!(failure.message.contains("does not exist"), "{failure}");
    assert_eq!(failure.category, ErrorCategory::NotRunning);

    // Long before the process was started: the number is from another one's life.
    let yesterday = SystemTime::now() - Duration::from_secs(86_400);
    File::options().write(true).open(&file.path).unwrap().set_modified(yesterday).unwrap();
    let failure = file.refusal();
    assert!(failure.message.contains("it means an earlier one"), "{failure}");

    process.kill();
    let failure = PidFile::with(&text).refusal();
    assert_eq!(failure.category, ErrorCategory::NotRunning, "{failure}");
    if sys::effective_uid() != 0 {
        eprintln!("not root: files of other users were not tried");
        return;
    }
    let process = Stranger::asleep(7_002);
    let file = PidFile::with(process.0.to_string());
    chown(&file.path, Some(4_711), None).unwrap();
    let failure = file.refusal();
    assert!(failure.message.contains("belongs to user 4711"), "{failure}");
    assert_eq!(failure.category, ErrorCategory::PermissionDenied);
}

#[test]
fn a_name_and_arguments_lead_to_one_process() {
    let one = Stranger::asleep(7_011);
    let two = Stranger::asleep(7_012);
    let named = |args: &[u32]| {
        UnmanagedConfig::process_name("sleep").process_args(args.iter().map(|arg| unique(*arg)))
    };
    assert_eq!(find(&named(&[7_011])).ok().unwrap().pid(), one.0);
    assert_eq!(find(&named(&[7_012])).ok().unwrap().pid(), two.0);
    let failure = refusal(&named(&[7_011, 7_012]));
    assert_eq!(failure.category, ErrorCategory::NotRunning, "{failure}");
    let again = Stranger::asleep(7_011);
    let failure = refusal(&named(&[7_011]));
    assert_eq!(failure.category, ErrorCategory::Refused);
    for pid in [one.0, again.0] {
        assert!(failure.message.contains(&pid.to_string()), "{failure}");
    }
    drop(one);
    assert_eq!(find(&named(&[7_011])).ok().unwrap().pid(), again.0);

    let mut child = Command::new("/bin/sleep").arg(unique(7_013)).spawn().unwrap();
    // Its arguments come a moment after the spawn.
    let arguments = format!("/proc/{}/cmdline", child.id());
    while fs::read(&arguments).unwrap().is_empty() {
        std::thread::yield_now();
    }
    let failure = refusal(&named(&[7_013]));
    assert!(failure.message.contains("was started by this master"), "{failure}");
    child.kill().unwrap();
    child.wait().unwrap();
    assert_eq!(refusal(&named(&[7_013])).category, ErrorCategory::NotRunning);
}

#[test]
fn of_a_family_of_one_name_its_first_is_meant() {
    let name = unique(7_021);
    let script = format!("exec sh -c 'sh -c \"sleep 1000; :\" {name} & wait' {name}");
    let parent = Stranger::new(&script);
    assert!(parent.lives());
    let found = find(&UnmanagedConfig::process_name("sh").process_args([name]));
    assert_eq!(found.map_err(|failure| failure.to_string()).map(|f| f.pid()), Ok(parent.0));
}

#[test]
fn a_port_leads_to_who_listens_on_it() {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let port = listener.local_addr().unwrap().port();
    assert_eq!(listening_on(port).unwrap().len(), 1);
    // It is found, and it is this test itself.
    let failure = refusal(&UnmanagedConfig::port(port));
    assert!(failure.message.contains("is this master itself"), "{failure}");
    drop(listener);
    let failure = refusal(&UnmanagedConfig::port(port));
    assert_eq!(failure.category, ErrorCategory::NotRunning, "{failure}");
}

#[test]
fn what_proc_says_is_read_whatever_a_process_calls_itself() {
    let stat = b"42 (a) S 9 (b)) Z 7 42 42 0 -1 0 0 0 0 0 0 0 0 0 20 0 1 0 1234 0";
    let process = Process::parse(42, stat).unwrap();
    assert_eq!((&process.name[..], process.parent), (&b"a) S 9 (b)"[..], 7));
    assert_eq!((process.started, process.ended), (1234, true));
    for broken in [&b""[..], b"42", b"42 (a", b"42 )a(", b"42 (a) S", b"42 (a) S x y", b"(\xff)"] {
        assert_eq!(Process::parse(42, broken), None);
    }
    let line = "0: 0100007F:1F90 00000000:0000 0A 0:0 00:0 0 0 0 4711 1 x";
    assert_eq!(listener(line, 8080), Some(4711));
    assert_eq!(listener(line, 8081), None);
    assert_eq!(listener(&line.replace(" 0A ", " 01 "), 8080), None);
    for broken in ["", "  sl  local_address", "a b c 0A", "0: x:1F90 y 0A 1 2 3 4 5 no"] {
        assert_eq!(listener(broken, 8080), None);
    }
    let own = Process::with_id(std::process::id()).unwrap();
    assert_eq!(own.user(), Some(sys::effective_uid()));
    assert!(own.started_at().unwrap() <= SystemTime::now());
    assert_eq!(own_line()[..2], [own.pid, own.parent]);
}

fn launched(what: UnmanagedConfig) -> (UnmanagedHost, Receiver<Report>) {
    let (tell, told) = unbounded();
    let report: Reporter = Arc::new(move |report| drop(tell.send(report)));
    let plan = Arc::new(UnmanagedPlan { what, signal: 15 });
    let worker = WorkerId::new("w").unwrap();
    (UnmanagedHost::launch(&worker, 1, &plan, report), told)
}

fn next(told: &Receiver<Report>) -> Report {
    told.recv_timeout(PATIENCE).unwrap()
}

#[test]
fn a_process_is_let_go_of_or_ended_as_is_allowed() {
    let patience = PATIENCE;
    for (may, order, lives_on) in [
        (false, Order::Ask { patience }, true),
        (false, Order::Force { patience }, true),
        (true, Order::Ask { patience }, false),
        (true, Order::Force { patience }, false),
    ] {
        let process = Stranger::asleep(7_031);
        let file = PidFile::with(process.0.to_string());
        let (host, told) = launched(UnmanagedConfig::pid_file(&file.path).can_terminate(may));
        assert_eq!(next(&told), Report::Launched);
        host.order(&Order::Start);
        assert_eq!(next(&told), Report::Started { pid: Some(process.0) });
        host.order(&order);
        let exit = if lives_on { Exit::LetGo } else { Exit::Unknown };
        assert_eq!(next(&told), Report::Gone(exit));
        assert_eq!(process.lives(), lives_on, "{may} {order:?}");
        // What is gone is not signalled any more.
        host.order(&Order::Force { patience });
        assert_eq!(process.lives(), lives_on);
    }
}

#[test]
fn its_own_end_is_heard_and_a_dropped_handle_lets_go() {
    let process = Stranger::asleep(7_041);
    let file = PidFile::with(process.0.to_string());
    let what = UnmanagedConfig::pid_file(&file.path).can_terminate(true);
    let (host, told) = launched(what.clone());
    assert_eq!(next(&told), Report::Launched);
    drop(host);
    assert_eq!(next(&told), Report::Gone(Exit::LetGo));
    assert!(process.lives());
    let (_host, told) = launched(what);
    assert_eq!(next(&told), Report::Launched);
    process.kill();
    assert_eq!(next(&told), Report::Gone(Exit::Unknown));
}

#[test]
fn s17_a_watcher_that_panics_watches_on_and_at_the_second_time_lets_go() {
    if !alone::here(&[], s17_a_watcher_that_panics_watches_on_and_at_the_second_time_lets_go) {
        return;
    }
    let process = Stranger::asleep(7_051);
    let file = PidFile::with(process.0.to_string());
    let what = UnmanagedConfig::pid_file(&file.path).can_terminate(true);
    arm("unmanaged-find");
    arm("unmanaged");
    let (host, told) = launched(what.clone());
    assert_eq!(next(&told), Report::Launched);
    host.order(&Order::Start);
    assert_eq!(next(&told), Report::Started { pid: Some(process.0) });
    process.kill();
    assert_eq!(next(&told), Report::Gone(Exit::Unknown));
    assert!(!is_armed("unmanaged-find") && !is_armed("unmanaged"));

    let process = Stranger::asleep(7_052);
    fs::write(&file.path, process.0.to_string()).unwrap();
    let told_as = |report| {
        let Report::Gone(Exit::Failed(failure)) = report else { panic!("{report:?}") };
        assert_eq!(failure.category, ErrorCategory::Internal);
        assert!(!failure.permanent, "it is looked for again");
        failure.message
    };
    arm_for("unmanaged-find", 2);
    let (_host, told) = launched(what.clone());
    assert!(told_as(next(&told)).contains("told to at unmanaged-find"));
    arm_for("unmanaged", 2);
    let (host, told) = launched(what.clone());
    assert_eq!(next(&told), Report::Launched);
    assert!(told_as(next(&told)).contains("told to at unmanaged"));
    host.order(&Order::Force { patience: PATIENCE });
    assert!(process.lives(), "it was let go of");
    let (_host, told) = launched(what);
    assert_eq!(next(&told), Report::Launched);
}
