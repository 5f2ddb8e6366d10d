//! What a guardian holds: the FIFOs of kept workers, so that what is in them is there for the next
//! master although nobody else has them open any more. It reads nothing.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fs::File;
use std::io::{self, Read, Write};
use std::os::fd::AsFd;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use crate::host::estate;
use crate::host::sys::{self, Dir, FifoEnd, Poller, Wakes};
use crate::host::threads;
use crate::worker::WorkerId;

/// The token of what tells of changes in the state directory.
const CHANGES: u64 = 0;

/// Holds FIFOs: from when they are made, since a worker may end just before its master.
#[derive(Default)]
pub(super) struct Keeper {
    /// The state directory.
    place: Option<PathBuf>,
    /// Their ends for reading: whoever reads still learns that nobody writes any more.
    held: BTreeMap<WorkerId, Vec<File>>,
    /// Of so many workers at most: those that are to end need descriptors, too.
    most: usize,
}

impl Keeper {
    /// `descriptors`: how many this process may have.
    pub(super) fn of(place: Option<OsString>, descriptors: u64) -> Self {
        let (place, most) = (place.map(PathBuf::from), most_held(descriptors));
        Self { place, held: BTreeMap::new(), most }
    }

    /// Holds a worker's FIFOs, which are other ones than it had before.
    pub(super) fn hold(&mut self, worker: WorkerId) {
        self.held.remove(&worker);
        let Some(place) = self.place.as_ref().filter(|_| self.held.len() < self.most) else {
            return;
        };
        // It may be another one than the last time, made again at its place.
        let Ok(workers) = Dir::open(&place.join("workers")) else { return };
        let open = |name: String| workers.open_fifo(&name, FifoEnd::Reader).ok();
        let fifos = estate::fifos_of(&worker).into_iter().filter_map(open).collect();
        self.held.insert(worker, fifos);
    }

    pub(super) fn release(&mut self, worker: &WorkerId) {
        self.held.remove(worker);
    }

    /// Holds on until the next master has taken over, or nothing can get lost any more. `nonce`:
    /// the former one's.
    pub(super) fn keep(&mut self, nonce: &str) {
        self.drop_needless();
        let Some(place) = self.place.clone().filter(|_| !self.held.is_empty()) else { return };
        threads::fail_point("keeper");
        let (root, changes, news) = match self.watch(&place) {
            Ok(watched) => watched,
            Err(error) => {
                // It would not learn of the next master, and never end.
                let what = "cannot hold what kept workers have written";
                let _ = writeln!(io::stderr(), "hsu-guard: {what}: {error}");
                return;
            }
        };
        sys::name_process("hsu-keeper");
        // Whoever reads what the master has said waits for its end.
        let _ = sys::silence_stderr();
        // The next master has these FIFOs open, and a guardian, before it says who it is.
        while estate::holder_in(&root).is_none_or(|holder| holder == nonce) {
            self.drop_needless();
            if self.held.is_empty() {
                return;
            }
            match news.wait() {
                Ok(CHANGES) => {
                    let mut buffer = [0; 4096];
                    while (&changes).read(&mut buffer).is_ok_and(|read| read > 0) {}
                }
                Ok(_) => {}
                Err(_) => return,
            }
        }
    }

    /// The state directory, what tells of changes in it, and what waits for these and for the ends
    /// of writers.
    fn watch(&self, place: &Path) -> io::Result<(Dir, File, Poller)> {
        let root = Dir::open(place)?;
        // A file that is replaced is written under another name first, which is removed then.
        let changes = File::from(sys::watch_removals(&root.path())?);
        let news = Poller::new()?;
        news.add(&changes, CHANGES, Wakes::Always)?;
        for fifo in self.held.values().flatten() {
            news.add(fifo, CHANGES + 1, Wakes::End)?;
        }
        Ok((root, changes, news))
    }

    fn drop_needless(&mut self) {
        for fifos in self.held.values_mut() {
            fifos.retain(is_needed);
        }
        self.held.retain(|_, fifos| !fifos.is_empty());
    }
}

/// Of how many workers a guardian holds what they write into that may have so many descriptors.
pub(super) fn most_held(descriptors: u64) -> usize {
    usize::try_from(descriptors / 4).unwrap_or(usize::MAX)
}

/// Whether a next master finds this FIFO, and something is in it, or may be yet.
fn is_needed(fifo: &File) -> bool {
    let fd = fifo.as_fd();
    let is_removed = fifo.metadata().is_ok_and(|about| about.nlink() == 0);
    let in_it = sys::readable_bytes(fd).unwrap_or(0);
    if is_removed || in_it > 0 {
        return !is_removed;
    }
    // Nothing is copied if nothing is there, and it says whether somebody can write.
    let Ok((_unread, copy)) = io::pipe() else { return true };
    !matches!(sys::copy_pipe(fd, copy.as_fd(), 1), Ok(0))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::host::alone;

    #[test]
    fn only_what_can_still_be_found_or_written_is_held() {
        // A process that another test is just starting would have the ends for writing, too.
        if !alone::here(&[], only_what_can_still_be_found_or_written_is_held) {
            return;
        }
        let place = tempfile::tempdir().unwrap();
        let root = Dir::open(place.path()).unwrap();
        let workers = root.subdirectory("workers").unwrap();
        let worker = |id: &str| WorkerId::new(id).unwrap();
        let make = |name: &str| {
            workers.make_fifo(name).unwrap();
            workers.open_fifo(name, FifoEnd::Both).unwrap()
        };
        let mut keeper = Keeper::of(Some(place.path().into()), 8);
        let (mut writes, silent) = (make("a.out"), make("b.err"));
        // The last one is beyond its room.
        for id in ["a", "b", "c"] {
            keeper.hold(worker(id));
        }
        assert_eq!(keeper.held.keys().map(WorkerId::as_str).collect::<Vec<_>>(), ["a", "b"]);
        keeper.drop_needless();
        assert_eq!(keeper.held.len(), 2);
        writes.write_all(b"x").unwrap();
        drop((writes, silent));
        keeper.drop_needless();
        assert_eq!(keeper.held.keys().map(WorkerId::as_str).collect::<Vec<_>>(), ["a"]);
        let mut found = String::new();
        workers.open_fifo("a.out", FifoEnd::Reader).unwrap().read_to_string(&mut found).unwrap();
        assert_eq!(found, "x");
        let _writes = workers.open_fifo("a.out", FifoEnd::Both).unwrap();
        keeper.drop_needless();
        assert_eq!(keeper.held.len(), 1);
        workers.remove("a.out").unwrap();
        keeper.drop_needless();
        assert!(keeper.held.is_empty());
    }
}
