//! What the system tells of processes that need not be ours: when one began, whether it has ended,
//! and the marks that a master gives its workers in their environment.

mod usage;

use std::fs::{self, File};
use std::io::{self, Read};
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::time::{Duration, SystemTime};

use super::sys;
use crate::worker::WorkerId;
pub(crate) use usage::{Used, age};

/// In the environment of every process worker: its master's nonce.
pub(crate) const MASTER: &str = "HSU_MASTER";
/// As above: which worker it is.
pub(crate) const WORKER: &str = "HSU_WORKER_ID";
/// As above: which of that worker's lives.
pub(crate) const INCARNATION: &str = "HSU_INCARNATION";

/// The clock ticks of `/proc` in a second: the same on every Linux.
const TICKS: u64 = 100;
/// An environment is looked through so far.
const MAX_ENVIRONMENT: u64 = 8 << 20;

/// Names this start of the system, and our view of its processes: what was written down under
/// another name means nothing to us.
///
/// # Errors
/// There is no `/proc`.
pub(crate) fn boot_id() -> io::Result<String> {
    let boot = fs::read_to_string("/proc/sys/kernel/random/boot_id")?;
    let space = fs::read_link("/proc/self/ns/pid")?;
    Ok(format!("{} {}", boot.trim(), space.to_string_lossy()))
}

/// When a process began, in ticks since the system's start, and whether it has ended and is only
/// not reaped. Together with its number this means one process of this start of the system.
///
/// # Errors
/// There is no such process.
pub(crate) fn began(pid: u32) -> io::Result<(u64, bool)> {
    let stat = fs::read(format!("/proc/{pid}/stat"))?;
    let process = Process::parse(pid, &stat).ok_or_else(|| {
        io::Error::new(io::ErrorKind::InvalidData, "/proc/PID/stat is not what is expected")
    })?;
    Ok((process.started, process.ended))
}

/// A process as it was a moment ago.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Process {
    pub(crate) pid: u32,
    pub(crate) parent: u32,
    /// The name it goes by: at most 15 bytes.
    pub(crate) name: Vec<u8>,
    /// In ticks since the system's start: with the id it tells one process from another.
    pub(crate) started: u64,
    /// It has ended and is not reaped.
    pub(crate) ended: bool,
}

impl Process {
    /// The process with this id, if there is one.
    pub(crate) fn with_id(pid: u32) -> Option<Self> {
        Self::parse(pid, &fs::read(format!("/proc/{pid}/stat")).ok()?)
    }

    /// Reads `7 (name) S 1 ...`; the name may be any bytes, brackets and blanks too.
    pub(crate) fn parse(pid: u32, stat: &[u8]) -> Option<Self> {
        let open = stat.iter().position(|byte| *byte == b'(')?;
        let close = stat.iter().rposition(|byte| *byte == b')')?;
        let name = stat.get(open + 1..close)?.to_vec();
        let rest = std::str::from_utf8(&stat[close + 1..]).ok()?;
        let mut fields = rest.split_ascii_whitespace();
        // The state is the third field, the parent the fourth, the beginning the twenty-second.
        let state = fields.next()?;
        let parent = fields.next()?.parse().ok()?;
        let started = fields.nth(17)?.parse().ok()?;
        Some(Self { pid, parent, name, started, ended: matches!(state, "Z" | "X" | "x") })
    }
}

/// When a process began that did so after so many ticks, by the wall clock; to about a hundredth
/// of a second.
pub(crate) fn wall_clock(start_time: u64) -> Option<SystemTime> {
    SystemTime::now().checked_sub(age(start_time)?)
}

/// How long ago the system was started.
fn since_boot() -> Option<Duration> {
    let uptime = fs::read_to_string("/proc/uptime").ok()?;
    let uptime: f64 = uptime.split_ascii_whitespace().next()?.parse().ok()?;
    Duration::try_from_secs_f64(uptime).ok()
}

/// Whose a process is: its real, effective and saved user, and the one that files know.
///
/// # Errors
/// There is no such process.
pub(crate) fn uids(pid: u32) -> io::Result<[u32; 4]> {
    let status = fs::read(format!("/proc/{pid}/status"))?;
    parse_uids(&status).ok_or_else(|| {
        io::Error::new(io::ErrorKind::InvalidData, "/proc/PID/status is not what is expected")
    })
}

/// A line end in the name is written as `\n` there.
fn parse_uids(status: &[u8]) -> Option<[u32; 4]> {
    let line = status.split(|byte| *byte == b'\n').find_map(|line| line.strip_prefix(b"Uid:"))?;
    let uids = std::str::from_utf8(line).ok()?.split_ascii_whitespace();
    let uids: Vec<u32> = uids.map_while(|uid| uid.parse().ok()).collect();
    uids.try_into().ok()
}

/// The numbers of all processes that we can see.
///
/// # Errors
/// There is no `/proc`, or it cannot be read to its end.
pub(crate) fn all() -> io::Result<Vec<u32>> {
    let mut pids = Vec::new();
    for entry in fs::read_dir("/proc")? {
        pids.extend(entry?.file_name().to_str().and_then(|name| name.parse::<u32>().ok()));
    }
    Ok(pids)
}

/// Whether the file of a process's program is another one by now, or was written to since the
/// process began; `None` where that cannot be told. `program`: the program by its path. A script's
/// process runs its interpreter, so that only the time tells of a change; what it tells may be a
/// change of the script's mode alone.
pub(crate) fn program_changed(pid: u32, program: &Path) -> Option<bool> {
    let file = match fs::metadata(program) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Some(true),
        Err(_) => return None,
    };
    let running = fs::metadata(format!("/proc/{pid}/exe")).ok()?;
    if (file.dev(), file.ino()) == (running.dev(), running.ino()) {
        return Some(false);
    }
    let path = fs::read_link(format!("/proc/{pid}/exe")).ok()?;
    if fs::canonicalize(program).is_ok_and(|program| program == path) {
        return Some(true);
    }
    let seconds = u64::try_from(file.ctime()).unwrap_or(0);
    let changed = SystemTime::UNIX_EPOCH + Duration::from_secs(seconds);
    let replaced = path.as_os_str().as_encoded_bytes().ends_with(b" (deleted)");
    Some(replaced || changed > wall_clock(began(pid).ok()?.0)?)
}

/// Whose worker a process is, by its environment. Its descendants bear the same marks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Marks {
    pub(crate) master: String,
    pub(crate) worker: WorkerId,
    /// 0: it does not say.
    pub(crate) incarnation: u64,
}

impl Marks {
    /// Those of a process; `None` for one that has none, has ended, or must not be looked at.
    pub(crate) fn of(pid: u32) -> Option<Self> {
        Self::looked_up(pid).ok().flatten()
    }

    /// As [`of`](Self::of), for those who must miss none.
    ///
    /// # Errors
    /// It cannot be known, such as when there is no descriptor left to look with.
    pub(crate) fn looked_up(pid: u32) -> io::Result<Option<Self>> {
        let mut environment = Vec::new();
        let read = File::open(format!("/proc/{pid}/environ"))
            .and_then(|file| file.take(MAX_ENVIRONMENT).read_to_end(&mut environment));
        match read {
            Ok(_) => Ok(Self::read(&environment)),
            Err(error) if is_nobody(&error) => Ok(None),
            Err(error) => Err(error),
        }
    }

    fn read(environment: &[u8]) -> Option<Self> {
        let value = |name: &str| {
            let mut variables = environment.split(|byte| *byte == 0);
            variables.find_map(|variable| {
                let value = variable.strip_prefix(name.as_bytes())?.strip_prefix(b"=")?;
                std::str::from_utf8(value).ok()
            })
        };
        let master = value(MASTER)?.to_owned();
        let worker = WorkerId::new(value(WORKER)?).ok()?;
        let incarnation = value(INCARNATION).and_then(|text| text.parse().ok()).unwrap_or(0);
        Some(Self { master, worker, incarnation })
    }
}

/// True when what could not be read is of nobody: the process has ended, or is not ours to see.
fn is_nobody(error: &io::Error) -> bool {
    let kinds = [io::ErrorKind::NotFound, io::ErrorKind::PermissionDenied];
    kinds.contains(&error.kind()) || error.raw_os_error() == Some(sys::ESRCH)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_cannot_be_looked_at_for_want_of_means_is_not_nobody() {
        for (errno, nobody) in [(sys::ESRCH, true), (sys::EMFILE, false), (sys::ENFILE, false)] {
            assert_eq!(is_nobody(&io::Error::from_raw_os_error(errno)), nobody, "{errno}");
        }
        assert_eq!(Marks::looked_up(u32::MAX).unwrap(), None);
    }

    fn parse_stat(stat: &[u8]) -> Option<(u64, bool)> {
        Process::parse(77, stat).map(|process| (process.started, process.ended))
    }

    #[test]
    fn a_process_is_known_by_its_beginning_whatever_it_is_called() {
        let rest = "S 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 4711 20 21";
        for name in ["a", "a b", ") S 1 2 3", "((", "\u{e4}"] {
            let stat = format!("77 ({name}) {rest}");
            assert_eq!(parse_stat(stat.as_bytes()), Some((4711, false)), "{name}");
        }
        let mut stat = b"77 (\xff\xfe) ".to_vec();
        stat.extend_from_slice(rest.replace('S', "Z").as_bytes());
        assert_eq!(parse_stat(&stat), Some((4711, true)));
        for broken in
            ["", "77 (a", "77 (a) S 1 2", "77 (a) S 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 x"]
        {
            assert_eq!(parse_stat(broken.as_bytes()), None, "{broken}");
        }
        let (own, ended) = began(std::process::id()).unwrap();
        assert!(own > 0 && !ended);
        assert_eq!(began(std::process::id()).unwrap().0, own);
        assert!(began(u32::MAX).is_err());
        assert!(all().unwrap().contains(&std::process::id()));
        assert!(boot_id().unwrap().contains("pid:["), "{:?}", boot_id());
    }

    #[test]
    fn when_a_process_began_is_known_by_the_wall_clock() {
        let before = SystemTime::now();
        let mut child = std::process::Command::new("/bin/cat");
        let mut child = child.stdin(std::process::Stdio::piped()).spawn().unwrap();
        let begun = wall_clock(began(child.id()).unwrap().0).unwrap();
        let after = SystemTime::now();
        drop(child.stdin.take());
        child.wait().unwrap();
        // Both clocks count in hundredths, and the wall clock may be put right meanwhile.
        let slack = Duration::from_secs(1);
        assert!(before - slack <= begun && begun <= after + slack, "{before:?} {begun:?}");
        assert_eq!(wall_clock(u64::MAX), None);
    }

    #[test]
    fn a_process_is_of_the_users_that_its_status_names() {
        let status = b"Name:\ta\\nUid:\t1\nState:\tS\nUid:\t1000\t0\t7\t8\nGid:\t5\t5\t5\t5\n";
        assert_eq!(parse_uids(status), Some([1000, 0, 7, 8]));
        for broken in ["", "Uid:\t1\t2\t3", "Uid:\t1\t2\tx\t3", "Uid:\t1\t2\t3\t4\t5"] {
            assert_eq!(parse_uids(broken.as_bytes()), None, "{broken}");
        }
        assert_eq!(uids(std::process::id()).unwrap()[1], sys::effective_uid());
        assert!(uids(u32::MAX).is_err());
    }

    #[test]
    fn marks_are_read_from_any_environment() {
        let read = |text: &str| Marks::read(text.as_bytes());
        let marks = read("A=b\0HSU_MASTER=f00\0HSU_WORKER_ID=api\0HSU_INCARNATION=3\0").unwrap();
        assert_eq!((marks.master.as_str(), marks.worker.as_str()), ("f00", "api"));
        assert_eq!(marks.incarnation, 3);
        assert_eq!(
            read("HSU_WORKER_ID=a\0HSU_MASTER=x\0HSU_INCARNATION=-1").unwrap().incarnation,
            0
        );
        for none in ["", "HSU_MASTER=x", "HSU_MASTER=x\0HSU_WORKER_ID=../x", "XHSU_MASTER=x\0\0="] {
            assert_eq!(read(none), None, "{none}");
        }
        let own = Marks::of(std::process::id());
        assert!(own.is_none() || std::env::var(MASTER).is_ok());
    }
}
