//! What a guardian holds: the FIFOs of kept workers, so that what is in them is there for the next
//! master although nobody else has them open any more. It reads nothing.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fs::File;
use std::io::{self, Read};
use std::os::fd::AsFd;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use crate::host::estate;
use crate::host::sys::{self, Dir, FifoEnd, Poller, Wakes};
use crate::worker::WorkerId;

/// Holds FIFOs: from when they are made, since a worker may end just before its master.
#[derive(Default)]
pub(super) struct Keeper {
    /// The state directory.
    place: Option<PathBuf>,
    /// Their ends for reading: whoever reads still learns that nobody writes any more.
    held: BTreeMap<WorkerId, Vec<File>>,
}

impl Keeper {
    pub(super) fn of(place: Option<OsString>) -> Self {
        Self { place: place.map(PathBuf::from), held: BTreeMap::new() }
    }

    /// Holds a worker's FIFOs, which are other ones than it had before.
    pub(super) fn hold(&mut self, worker: WorkerId) {
        let Some(place) = &self.place else { return };
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
        let Some(place) = self.place.take().filter(|_| !self.held.is_empty()) else { return };
        sys::name_process("hsu-keeper");
        // Whoever reads what the master has said waits for its end.
        let kept = sys::silence_stderr().and_then(|()| self.wait(&place, nonce));
        // Without a way to learn of the next master it would never end.
        drop(kept);
    }

    fn wait(&mut self, place: &Path, nonce: &str) -> io::Result<()> {
        let root = Dir::open(place)?;
        // A file that is replaced is written under another name first, which is removed then.
        let mut changes = File::from(sys::watch_removals(&root.path())?);
        let news = Poller::new()?;
        news.add(&changes, 0, Wakes::Always)?;
        for fifo in self.held.values().flatten() {
            news.add(fifo, 1, Wakes::End)?;
        }
        loop {
            // The next master has these FIFOs open, and its own guardian, before it says who it is.
            if estate::holder_in(&root).is_some_and(|holder| holder != nonce) {
                return Ok(());
            }
            self.drop_needless();
            if self.held.is_empty() {
                return Ok(());
            }
            if news.wait()? == 0 {
                let mut buffer = [0; 4096];
                while changes.read(&mut buffer).is_ok_and(|read| read > 0) {}
            }
        }
    }

    fn drop_needless(&mut self) {
        for fifos in self.held.values_mut() {
            fifos.retain(is_needed);
        }
        self.held.retain(|_, fifos| !fifos.is_empty());
    }
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
