//! The guardian: this program, run again, one for each master. It hears which processes the master
//! runs, and ends them should the master end without having done so. What kept ones write into it
//! holds until the next master is there.
//!
//! It knows of the master's end by the end of its standard input, a socket, so that no way to die
//! is missed; that it is killed together with the master is not provided for.

mod child;
mod keeper;
mod master;
#[cfg(test)]
mod tests;

use crate::worker::WorkerId;

pub(crate) use child::guard_main;
pub(crate) use master::Guardian;

/// The first argument of a guardian.
pub(crate) const GUARD_ROLE: &str = "__hsu-guard";

/// No line between a master and its guardian is longer, with its newline.
const MAX_LINE: usize = 256;

/// A process that is to end with its master.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Ward {
    pub(crate) worker: WorkerId,
    pub(crate) pid: u32,
    pub(crate) start_time: u64,
    /// True: its whole group goes with it, and whoever else bears its marks.
    pub(crate) group: bool,
}

/// What a master tells its guardian, one a line.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Word {
    /// What its workers are marked with. Comes first.
    Nonce(String),
    /// This process is there.
    Started(Ward),
    /// The process of this number is gone.
    Ended(u32),
    /// Of this worker nothing is ended from now on, unless it is started again.
    Spare(WorkerId),
    /// What this worker writes into is there, and is to be held should the master end.
    Hold(WorkerId),
    /// It is read to its end.
    Release(WorkerId),
    /// Everything is ended that is to end.
    Done,
}

impl Word {
    fn line(&self) -> String {
        match self {
            Self::Nonce(nonce) => format!("nonce {nonce}\n"),
            Self::Started(Ward { worker, pid, start_time, group }) => {
                let whom = if *group { "group" } else { "alone" };
                format!("started {pid} {start_time} {whom} {worker}\n")
            }
            Self::Ended(pid) => format!("ended {pid}\n"),
            Self::Spare(worker) => format!("spare {worker}\n"),
            Self::Hold(worker) => format!("hold {worker}\n"),
            Self::Release(worker) => format!("release {worker}\n"),
            Self::Done => "done\n".to_owned(),
        }
    }

    /// What a line says, without its newline; `None`: nothing that is known here.
    fn read(line: &str) -> Option<Self> {
        let words: Vec<_> = line.split(' ').collect();
        match words.as_slice() {
            ["nonce", nonce] if !nonce.is_empty() => Some(Self::Nonce((*nonce).to_owned())),
            ["started", pid, start_time, whom, worker] => {
                let group = match *whom {
                    "group" => true,
                    "alone" => false,
                    _ => return None,
                };
                let (pid, start_time) = (pid.parse().ok()?, start_time.parse().ok()?);
                let worker = WorkerId::new(worker).ok()?;
                Some(Self::Started(Ward { worker, pid, start_time, group }))
            }
            ["ended", pid] => pid.parse().ok().map(Self::Ended),
            ["spare", worker] => WorkerId::new(worker).ok().map(Self::Spare),
            ["hold", worker] => WorkerId::new(worker).ok().map(Self::Hold),
            ["release", worker] => WorkerId::new(worker).ok().map(Self::Release),
            ["done"] => Some(Self::Done),
            _ => None,
        }
    }
}
