//! Files of a log that no master writes now: of a worker that was removed, or of a master that is
//! gone. They are read, and nothing is changed.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use super::reader::Recorded;
use super::rotating::Stretch;
use crate::host::sys;
use crate::worker::WorkerId;

/// The files of one log, the oldest first.
pub(super) struct Files(Vec<Part>);

struct Part {
    path: PathBuf,
    /// Where it begins in the whole.
    start: u64,
    end: u64,
}

impl Part {
    /// How much there is of what was listed: somebody may have cut it short, or removed it. What
    /// was added since is no part of it.
    fn there(&self) -> io::Result<u64> {
        match fs::symlink_metadata(&self.path) {
            Ok(about) => Ok(about.len().min(self.end - self.start)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(0),
            Err(error) => Err(error),
        }
    }
}

impl Files {
    /// Those of a worker. `None`: there are none.
    ///
    /// # Errors
    /// The directory cannot be read.
    pub(super) fn of(directory: &Path, worker: &WorkerId) -> io::Result<Option<Self>> {
        let mut found: Vec<(u64, PathBuf, u64)> = Vec::new();
        for entry in fs::read_dir(directory)? {
            let entry = entry?;
            let name = entry.file_name();
            let Some((whose, number)) = name.to_str().and_then(whose) else { continue };
            if whose == worker.as_str()
                && let Ok(about) = entry.metadata()
                && about.is_file()
            {
                found.push((number, entry.path(), about.len()));
            }
        }
        found.sort_unstable_by(|one, other| other.cmp(one));
        let mut end = 0;
        let part = |(_, path, length)| {
            let start = end;
            end += length;
            Part { path, start, end }
        };
        let parts: Vec<_> = found.into_iter().map(part).collect();
        Ok((!parts.is_empty()).then_some(Self(parts)))
    }
}

/// The workers that have logs in a directory, in alphabetical order.
///
/// # Errors
/// It cannot be read.
#[cfg(any(test, feature = "cli"))]
pub(super) fn workers(directory: &Path) -> io::Result<Vec<WorkerId>> {
    let mut workers = std::collections::BTreeSet::new();
    for entry in fs::read_dir(directory)? {
        let name = entry?.file_name();
        if let Some((worker, _)) = name.to_str().and_then(whose)
            && let Ok(worker) = WorkerId::new(worker)
        {
            workers.insert(worker);
        }
    }
    Ok(workers.into_iter().collect())
}

/// The worker and the number of a log's file, which is 0 for the one that was written last.
fn whose(name: &str) -> Option<(&str, u64)> {
    match name.strip_suffix(".log") {
        Some(worker) => Some((worker, 0)),
        None => {
            let (worker, number) = name.rsplit_once(".log.")?;
            Some((worker, number.parse().ok().filter(|number| *number > 0)?))
        }
    }
}

impl Recorded for Files {
    fn span(&self) -> io::Result<(u64, u64)> {
        Ok((0, self.0.last().map_or(0, |last| last.end)))
    }

    fn stretch(&self, offset: u64) -> io::Result<Stretch> {
        let mut before = None;
        for (index, part) in self.0.iter().enumerate() {
            let most = part.start + part.there()?;
            let is_last = index + 1 == self.0.len();
            if offset < most || is_last {
                let (file, end) = (sys::open_no_link(&part.path)?, is_last.then_some(most));
                return Ok(Stretch { file, start: part.start, end, most, before });
            }
            if most > part.start {
                before = Some(most);
            }
        }
        Err(io::ErrorKind::NotFound.into())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_s_name_says_whose_it_is() {
        assert_eq!(whose("a.log"), Some(("a", 0)));
        assert_eq!(whose("a.log.12"), Some(("a", 12)));
        assert_eq!(whose("a.log.3.log"), Some(("a.log.3", 0)));
        for name in ["a.log.0", "a.log.x", "a.log.1.gz", "events.jsonl", "a.logs", "a"] {
            assert_eq!(whose(name), None, "{name}");
        }
    }
}
