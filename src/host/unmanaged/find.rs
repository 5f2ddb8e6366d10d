//! Finds the one process that is meant, or says why there is none. Whom a file or a name leads to
//! by accident, the system, this master and its relatives, is never taken.

use std::ffi::OsStr;
use std::io::{self, Read};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::time::{Duration, SystemTime};

use super::processes::{Process, line_of, listening_on, own_line};
use crate::error::{ErrorCategory, Failure};
use crate::host::attached::Attached;
use crate::host::sys;
use crate::worker::UnmanagedConfig;

/// The largest process id that Linux gives out.
const MAX_PID: u64 = 1 << 22;
/// A file with a process id in it is not longer.
const MAX_PID_FILE: u64 = 4 << 10;
/// The bytes of a name that the kernel keeps.
const MAX_NAME: usize = 15;
/// How much later than its file a process may seem to have started: the two clocks differ.
const TOLERANCE: Duration = Duration::from_secs(10);
/// So many candidates are told.
const MAX_TOLD: usize = 8;

/// Finds the process.
///
/// # Errors
/// Why there is none that may be taken: `not_running` where it may come yet, `permission_denied`
/// where we must not see or trust it, `refused` where it cannot be the one that is meant.
pub(super) fn find(what: &UnmanagedConfig) -> Result<Attached, Failure> {
    if let Some(path) = &what.pid_file {
        by_pid_file(path)
    } else if let Some(name) = &what.process_name {
        by_name(name, &what.process_args)
    } else if let Some(port) = what.port {
        by_port(port)
    } else {
        Err(Failure::new(ErrorCategory::Configuration, "there is nothing to look for").permanent())
    }
}

fn refused(message: impl Into<String>) -> Failure {
    Failure::new(ErrorCategory::Refused, message)
}

fn denied(message: impl Into<String>) -> Failure {
    Failure::new(ErrorCategory::PermissionDenied, message)
}

fn absent(message: impl Into<String>) -> Failure {
    Failure::new(ErrorCategory::NotRunning, message)
}

/// A question to the system that failed.
fn unanswered(what: &str, error: &io::Error) -> Failure {
    let category = ErrorCategory::of_io(error).unwrap_or(ErrorCategory::Unknown);
    Failure::new(category, format!("{what}: {error}"))
}

/// The process whose id is in a file. The file must be one that no stranger could have written.
fn by_pid_file(path: &Path) -> Result<Attached, Failure> {
    let shown = format!("pid file {}", path.display());
    let file = sys::open_no_link(path).map_err(|error| {
        if error.kind() == io::ErrorKind::NotFound {
            return absent(format!("{shown} does not exist"));
        }
        if error.raw_os_error() == Some(sys::ELOOP) {
            return denied(format!("{shown} is a symbolic link"));
        }
        unanswered(&format!("{shown} cannot be opened"), &error)
    })?;
    let about = file.metadata().map_err(|error| unanswered(&shown, &error))?;
    if !about.is_file() {
        return Err(refused(format!("{shown} is not a regular file")));
    }
    if about.mode() & 0o002 != 0 {
        return Err(denied(format!("{shown} can be written by everybody")));
    }
    let mut bytes = Vec::new();
    let read = file.take(MAX_PID_FILE).read_to_end(&mut bytes);
    read.map_err(|error| unanswered(&format!("{shown} cannot be read"), &error))?;
    let pid = pid_in(&bytes).map_err(|why| refused(format!("{shown}: {why}")))?;
    let (found, process) = hold(pid).map_err(|why| why.within(&shown))?;
    let owner = about.uid();
    let trusted = owner == 0 || owner == sys::effective_uid() || process.user() == Some(owner);
    if !trusted {
        let message = format!(
            "{shown} belongs to user {owner}, who is neither root nor the master's user nor the \
             one that process {pid} runs as"
        );
        return Err(denied(message));
    }
    let written = about.modified().unwrap_or(SystemTime::UNIX_EPOCH);
    if process.started_at().is_some_and(|started| started > written + TOLERANCE) {
        let message = format!("{shown} is older than process {pid}: it means an earlier one");
        return Err(refused(message));
    }
    Ok(found)
}

/// The process id in a file's first line.
fn pid_in(bytes: &[u8]) -> Result<u32, String> {
    let line = bytes.split(|byte| *byte == b'\n').next().unwrap_or_default();
    let shown: String = String::from_utf8_lossy(line).trim().chars().take(40).collect();
    if shown.is_empty() {
        return Err("is empty".to_owned());
    }
    if !shown.bytes().all(|byte| byte.is_ascii_digit()) {
        return Err(format!("{shown:?} is not a process id"));
    }
    match shown.parse::<u64>() {
        Ok(0) => Err("0 is not the id of a process".to_owned()),
        Ok(1) => Err("1 is the system's first process".to_owned()),
        Ok(pid) if pid <= MAX_PID => u32::try_from(pid).map_err(|error| error.to_string()),
        Ok(_) | Err(_) => Err(format!("{shown} is larger than any process id")),
    }
}

/// The process of a name, and with these arguments.
fn by_name(name: &str, args: &[String]) -> Result<Attached, Failure> {
    let beside = match args {
        [] => String::new(),
        args => format!(" with the arguments {args:?}"),
    };
    let what = format!("called {name:?}{beside}");
    let all = Process::all().map_err(|error| unanswered("processes cannot be listed", &error))?;
    let alike: Vec<Process> = all.filter(|process| is_called(process, name, args)).collect();
    only_one(alike, &what)
}

/// True when the process goes by this name, and has these arguments in this order.
fn is_called(process: &Process, name: &str, wanted: &[String]) -> bool {
    let name = name.as_bytes();
    let kept = &name[..name.len().min(MAX_NAME)];
    let arguments = process.arguments();
    let Some((program, arguments)) = arguments.split_first() else { return false };
    let program = Path::new(OsStr::from_bytes(program)).file_name().map(OsStr::as_bytes);
    // Of a long name only the begin is kept: it counts with the program's to confirm it.
    let called = program == Some(name) || (process.name == kept && kept.len() == name.len());
    let mut arguments = arguments.iter();
    called && wanted.iter().all(|wanted| arguments.any(|argument| argument == wanted.as_bytes()))
}

/// The process that listens on a TCP port.
fn by_port(port: u16) -> Result<Attached, Failure> {
    let unreadable = |error: io::Error| unanswered("listening sockets cannot be listed", &error);
    let sockets = listening_on(port).map_err(unreadable)?;
    if sockets.is_empty() {
        return Err(absent(format!("no process listens on TCP port {port}")));
    }
    let all = Process::all().map_err(|error| unanswered("processes cannot be listed", &error))?;
    let mut hidden = 0_usize;
    let listeners = all.filter(|process| {
        let has = process.has_one_of(&sockets);
        hidden += usize::from(has.is_none() && !process.ended);
        has == Some(true)
    });
    let listeners: Vec<Process> = listeners.collect();
    if listeners.is_empty() && hidden > 0 {
        let message = format!("the process that listens on TCP port {port} is not ours to see");
        return Err(denied(message));
    }
    only_one(listeners, &format!("listening on TCP port {port}"))
}

/// The one among these that is meant: of several that descend from one, that one.
fn only_one(alike: Vec<Process>, what: &str) -> Result<Attached, Failure> {
    let own = own_line();
    let (ours, mut others): (Vec<Process>, Vec<Process>) = alike
        .into_iter()
        .filter(|process| !process.ended)
        .partition(|process| process.pid <= 1 || relation(process.pid, &own).is_some());
    let ids: Vec<u32> = others.iter().map(|process| process.pid).collect();
    others.retain(|process| !ids.contains(&process.parent));
    match &others[..] {
        [] if ours.is_empty() => Err(absent(format!("there is no process {what}"))),
        [] => {
            let why = relation(ours[0].pid, &own).unwrap_or(FIRST);
            Err(refused(format!("the only process {what}, {}, {why}", ours[0].pid)))
        }
        [one] => {
            let (found, process) = hold(one.pid)?;
            let same = process.started == one.started;
            same.then_some(found).ok_or_else(|| absent(format!("the process {what} has ended")))
        }
        several => {
            let ids = several.iter().take(MAX_TOLD).map(|process| process.pid.to_string());
            let more = if several.len() > MAX_TOLD { " and more" } else { "" };
            let ids = ids.collect::<Vec<_>>().join(", ");
            Err(refused(format!("several processes are {what}: {ids}{more}")))
        }
    }
}

const FIRST: &str = "is the system's first process";

/// Why a process is too close to this master to be taken, if it is. `own`: this process's line.
fn relation(pid: u32, own: &[u32]) -> Option<&'static str> {
    match own.iter().position(|known| *known == pid) {
        Some(0) => Some("is this master itself"),
        Some(_) => Some("is one of those that have started this master"),
        None if line_of(pid).contains(&own[0]) => Some("was started by this master"),
        None => None,
    }
}

/// Takes hold of a process, and looks at it while it is held: so that this is what is held.
fn hold(pid: u32) -> Result<(Attached, Process), Failure> {
    if let Some(why) = relation(pid, &own_line()) {
        return Err(refused(format!("process {pid} {why}")));
    }
    let lives = || Process::with_id(pid).filter(|process| !process.ended);
    let found = Attached::of(pid).map_err(|error| {
        if error.kind() != io::ErrorKind::NotFound {
            return unanswered(&format!("process {pid} cannot be watched"), &error);
        }
        match lives() {
            Some(_) => refused(format!("{pid} is a thread, and not the first of its process")),
            None => absent(format!("there is no process {pid}")),
        }
    })?;
    match lives().filter(|_| !found.has_ended()) {
        Some(process) => Ok((found, process)),
        None => Err(absent(format!("process {pid} has ended"))),
    }
}

impl Failure {
    /// The same, told of where it was found.
    fn within(self, place: &str) -> Self {
        Self { message: format!("{place}: {}", self.message), ..self }
    }
}
