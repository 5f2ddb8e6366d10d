//! A process that is not our child, or need not be: held by a descriptor that means no other one,
//! whatever becomes of its number. Signals and the news of its end go through that alone.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::{Duration, Instant};

use super::proc;
use super::sys::{self, Target};

/// A process, told apart from all others.
#[derive(Debug)]
pub(crate) struct Attached {
    pid: u32,
    start_time: u64,
    process: OwnedFd,
}

impl Attached {
    /// The process of this number, if it is the one that began then and has not ended.
    ///
    /// # Errors
    /// Of kind `NotFound` when it is gone, or another one has the number by now; else as the calls
    /// have them.
    pub(crate) fn open(pid: u32, start_time: u64) -> io::Result<Self> {
        let found = Self::of(pid)?;
        if found.start_time == start_time { Ok(found) } else { Err(gone()) }
    }

    /// Whatever process has this number now and has not ended.
    ///
    /// # Errors
    /// Of kind `NotFound` when there is none; else as the calls have them.
    pub(crate) fn of(pid: u32) -> io::Result<Self> {
        let process = sys::pidfd_open(pid).map_err(|error| match error.raw_os_error() {
            // The number of a thread is no process's.
            Some(sys::ESRCH | sys::EINVAL) => gone(),
            _ => error,
        })?;
        // Read only now: the number means the process behind the descriptor as long as that has not
        // ended, which is asked afterwards.
        let (start_time, ended) = proc::began(pid).map_err(|error| {
            // It may be reaped between the opening of its file and the reading.
            if error.raw_os_error() == Some(sys::ESRCH) { gone() } else { error }
        })?;
        let found = Self { pid, start_time, process };
        if ended || found.has_ended() { Err(gone()) } else { Ok(found) }
    }

    pub(crate) fn pid(&self) -> u32 {
        self.pid
    }

    /// In ticks since the system's start.
    pub(crate) fn start_time(&self) -> u64 {
        self.start_time
    }

    /// True once the process has ended, reaped or not.
    pub(crate) fn has_ended(&self) -> bool {
        self.wait(Some(Duration::ZERO))
    }

    /// Waits for the end, at most so long. False: it has not ended.
    pub(crate) fn wait(&self, patience: Option<Duration>) -> bool {
        let until = patience.and_then(|patience| Instant::now().checked_add(patience));
        loop {
            let left = until.map(|until| until.saturating_duration_since(Instant::now()));
            match sys::wait_readable([Some(self.process.as_fd())], left) {
                Ok([true]) => return true,
                Ok([false]) if left.is_some_and(|left| left.is_zero()) => return false,
                Ok([false]) => {}
                // There is nothing to wait with. That it has ended is not known.
                Err(_) => return false,
            }
        }
    }

    /// Sends a signal to the process. False: it is gone.
    ///
    /// # Errors
    /// When it is not allowed.
    pub(crate) fn signal(&self, signal: i32) -> io::Result<bool> {
        sys::signal_by(self.process.as_fd(), signal)
    }

    /// Sends a signal to the group that the process leads. False: nobody is left in it, or that
    /// cannot be known.
    ///
    /// # Errors
    /// When it is not allowed.
    pub(crate) fn signal_group(&self, signal: i32) -> io::Result<bool> {
        match sys::signal_group_by(self.process.as_fd(), signal) {
            // Before Linux 6.9 there is only the number, which is the group's own for as long as
            // its leader lives.
            Err(error) if error.kind() == io::ErrorKind::InvalidInput => {
                Ok(!self.has_ended() && sys::signal(Target::Group(self.pid), signal)?)
            }
            sent => sent,
        }
    }
}

impl AsFd for Attached {
    /// Readable once the process has ended.
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.process.as_fd()
    }
}

fn gone() -> io::Error {
    io::Error::new(io::ErrorKind::NotFound, "there is no such process any more")
}

#[cfg(test)]
mod tests {
    use std::os::unix::process::CommandExt;
    use std::process::{Child, Command, Stdio};

    use super::*;

    const LONG: Duration = Duration::from_secs(30);

    fn sleeper(script: &str) -> Child {
        let mut command = Command::new("/bin/sh");
        command.args(["-c", script]).stdin(Stdio::piped()).stdout(Stdio::piped()).process_group(0);
        command.spawn().unwrap()
    }

    #[test]
    fn a_process_is_attached_to_only_by_its_beginning() {
        let mut child = sleeper("exec sleep 1000");
        let attached = Attached::of(child.id()).unwrap();
        let start_time = attached.start_time();
        assert!(!attached.has_ended());
        assert_eq!(Attached::open(child.id(), start_time).unwrap().pid(), child.id());
        let other = Attached::open(child.id(), start_time + 1).unwrap_err();
        assert_eq!(other.kind(), io::ErrorKind::NotFound);
        assert!(attached.signal(sys::SIGKILL).unwrap());
        assert!(attached.wait(Some(LONG)));
        // A zombie has its number still, and is none that could be attached to.
        assert_eq!(
            Attached::open(child.id(), start_time).unwrap_err().kind(),
            io::ErrorKind::NotFound
        );
        let ended = sys::reap_by(attached.as_fd()).unwrap();
        assert_eq!(std::os::unix::process::ExitStatusExt::signal(&ended), Some(9));
        assert!(sys::reap_by(attached.as_fd()).is_none());
        assert!(!attached.signal(sys::SIGKILL).unwrap());
        let _ = child.wait();
        for nobody in [u32::MAX, 0] {
            assert!(Attached::of(nobody).is_err());
        }
    }

    #[test]
    fn a_group_is_signalled_also_when_its_leader_is_gone() {
        use std::io::Read as _;
        let mut child = sleeper("sleep 1000 < /dev/null & read x; exit 7");
        let attached = Attached::of(child.id()).unwrap();
        let mut output = child.stdout.take().unwrap();
        drop(child.stdin.take());
        assert!(attached.wait(Some(LONG)));
        let ended = sys::reap_by(attached.as_fd()).unwrap();
        assert_eq!(ended.code(), Some(7));
        if attached.signal_group(sys::SIGKILL).unwrap() {
            // The one that was left held the pipe.
            assert_eq!(output.read_to_end(&mut Vec::new()).unwrap(), 0);
        } else {
            eprintln!("skipped: before Linux 6.9 a group is not known without its leader");
        }
        let _ = child.wait();
    }
}
