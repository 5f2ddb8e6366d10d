//! A file that is appended to and rotated: `NAME` is written, `NAME.1` is the newest of the older
//! ones. Whatever happens to it from outside is noticed, and a rotation that was cut short is
//! completed.
//!
//! All that was ever written is one stream, of which the oldest part is gone: a place in it is an
//! offset that no rotation moves.

use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::home::Home;
use crate::host::sys;

/// So long it may take to notice that somebody moved the file or cut it short.
const CHECK: Duration = Duration::from_secs(1);

/// So many older files are looked for beyond a gap.
const MOST_LOOKED_FOR: u32 = 1000;

/// How large files become, and how many there are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Limits {
    pub(super) max_size: u64,
    /// The one that is written included.
    pub(super) max_files: u32,
    /// A line that was cut short by the end of a master is to be ended before anything is added.
    pub(super) whole_lines: bool,
}

pub(super) struct Rotating {
    home: Arc<Home>,
    path: PathBuf,
    live: Option<File>,
    /// What the written file is known by, also while it is closed.
    id: Option<(u64, u64)>,
    /// The lengths of the older ones, the newest first; `None` before they were looked for.
    older: Option<Vec<u64>>,
    /// Where the written file begins in the stream.
    start: u64,
    /// How long it was when it was last looked at.
    length: u64,
    checked: Instant,
}

/// A part of the stream, open to be read.
pub(super) struct Stretch {
    pub(super) file: File,
    /// Where the file begins in the stream.
    pub(super) start: u64,
    /// Where it ended when it was opened, if more may come.
    pub(super) end: Option<u64>,
    /// What is behind this is no part of it.
    pub(super) most: u64,
    /// Where what is there before it ends, if anything is: at `start`, but for what was removed by
    /// somebody.
    pub(super) before: Option<u64>,
}

/// What was not written, and why.
pub(super) struct Short {
    /// So much was.
    pub(super) written: usize,
    pub(super) error: io::Error,
}

impl Rotating {
    pub(super) fn new(home: &Arc<Home>, name: &str) -> Self {
        let (home, path) = (Arc::clone(home), home.path().join(name));
        let checked = Instant::now();
        Self { home, path, live: None, id: None, older: None, start: 0, length: 0, checked }
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// Closes the file; it is opened again when it is needed.
    pub(super) fn close(&mut self) {
        self.live = None;
    }

    /// Has the file open, and sure to be the one that its name means, as of a second ago.
    pub(super) fn ready(&mut self, limits: Limits, now: Instant) -> io::Result<()> {
        if self.live.is_some() && now.saturating_duration_since(self.checked) < CHECK {
            return Ok(());
        }
        self.look(limits)?;
        self.checked = now;
        Ok(())
    }

    /// Looks at the file as it is now, and opens it if it is not the one that is open.
    fn look(&mut self, limits: Limits) -> io::Result<()> {
        let known = match (&self.live, fs::symlink_metadata(&self.path)) {
            (Some(_), Ok(about)) => self.id == Some(sys::file_id(&about)),
            (Some(_), Err(error)) if error.kind() == io::ErrorKind::NotFound => false,
            (Some(_), Err(error)) => return Err(error),
            (None, _) => false,
        };
        if !known {
            return self.open(limits);
        }
        if let Some(live) = &self.live {
            self.length_is(live.metadata()?.len());
        }
        Ok(())
    }

    /// A file that has become shorter was cut by somebody: what was there is gone.
    fn length_is(&mut self, length: u64) {
        self.start += self.length.saturating_sub(length);
        self.length = length;
    }

    fn open(&mut self, limits: Limits) -> io::Result<()> {
        self.live = None;
        if self.home.ready()? {
            self.older = self.older.take().map(|_| Vec::new());
        }
        self.find_older(limits)?;
        let file = sys::open_log(&self.path)?;
        let about = file.metadata()?;
        let id = sys::file_id(&about);
        if self.id.is_some_and(|before| before != id) {
            // The other one was moved away with all that is in it.
            self.start += self.length;
            self.length = 0;
        }
        self.length_is(about.len());
        (self.live, self.id) = (Some(file), Some(id));
        if limits.whole_lines && self.ends_within_a_line() {
            self.append(b"\n").map_err(|short| short.error)?;
        }
        Ok(())
    }

    fn find_older(&mut self, limits: Limits) -> io::Result<()> {
        if self.older.is_none() {
            let older = self.heal(limits)?;
            if self.id.is_none() {
                self.start = self.start.max(older.iter().sum());
            }
            self.older = Some(older);
        }
        Ok(())
    }

    /// As `look`, for who reads: a file that is not there is not made for that, one that cannot be
    /// written is read all the same, and one that is closed stays so, since nobody may come who
    /// closes it again.
    fn look_at(&mut self, limits: Limits) -> io::Result<()> {
        let (id, length) = match fs::symlink_metadata(&self.path) {
            Ok(about) if self.live.is_none() && about.is_file() => {
                (Some(sys::file_id(&about)), about.len())
            }
            Ok(about) => match self.look(limits) {
                Err(_) if about.is_file() => (Some(sys::file_id(&about)), about.len()),
                looked => return looked,
            },
            Err(error) if error.kind() == io::ErrorKind::NotFound => (None, 0),
            Err(error) => return Err(error),
        };
        self.find_older(limits)?;
        if self.id != id {
            // What was written last was moved away with the file.
            self.start += self.length;
            self.length = 0;
        }
        self.length_is(length);
        (self.live, self.id) = (None, id);
        Ok(())
    }

    fn ends_within_a_line(&self) -> bool {
        let mut last = [b'\n'];
        let Some(live) = self.live.as_ref().filter(|_| self.length > 0) else { return false };
        sys::read_at(live, &mut last, self.length - 1).is_ok_and(|_| last != *b"\n")
    }

    /// Numbers the older files without gaps, as a rotation that was cut short has left one, and
    /// removes those that are too many. Returns their lengths.
    fn heal(&self, limits: Limits) -> io::Result<Vec<u64>> {
        let mut lengths = Vec::new();
        let (mut number, mut missing) = (1, 0);
        // A rotation leaves one gap at most; somebody may have left others.
        let most = limits.max_files.min(MOST_LOOKED_FOR) as usize;
        while missing < 2 || number < most {
            match fs::symlink_metadata(numbered(&self.path, number)) {
                Ok(about) if about.is_file() => {
                    let place = lengths.len() + 1;
                    if place >= limits.max_files as usize {
                        fs::remove_file(numbered(&self.path, number))?;
                    } else {
                        if place != number {
                            let (from, to) = (numbered(&self.path, number), place);
                            fs::rename(from, numbered(&self.path, to))?;
                        }
                        lengths.push(about.len());
                    }
                    missing = 0;
                }
                Ok(_) => missing += 1,
                Err(error) if error.kind() == io::ErrorKind::NotFound => missing += 1,
                Err(error) => return Err(error),
            }
            number += 1;
        }
        Ok(lengths)
    }

    /// Adds `bytes`; what goes beyond `max_size` goes into a new file, cut where a line ends. A
    /// line longer than that is cut only if `anywhere`.
    pub(super) fn write(
        &mut self,
        bytes: &[u8],
        limits: Limits,
        anywhere: bool,
    ) -> Result<(), Short> {
        let mut done = 0;
        loop {
            let rest = &bytes[done..];
            let room = usize::try_from(limits.max_size.saturating_sub(self.length));
            let room = room.unwrap_or(usize::MAX);
            if rest.len() <= room {
                return self.append(rest).map_err(|short| short.after(done));
            }
            let line_ends = sys::find_last_byte(b'\n', &rest[..room]).map(|end| end + 1);
            let cut = match line_ends {
                Some(end) => end,
                None if anywhere && !self.is_at_a_line() => room,
                None if self.length > 0 => 0,
                None if anywhere => room,
                None => sys::find_byte(b'\n', rest).map_or(rest.len(), |end| end + 1),
            };
            self.append(&rest[..cut]).map_err(|short| short.after(done))?;
            done += cut;
            if done == bytes.len() {
                return Ok(());
            }
            self.rotate(limits).map_err(|error| Short { written: done, error })?;
        }
    }

    /// Whether what comes next begins a line.
    pub(super) fn is_at_a_line(&self) -> bool {
        !self.ends_within_a_line()
    }

    fn append(&mut self, bytes: &[u8]) -> Result<(), Short> {
        let Some(mut live) = self.live.as_ref() else {
            let error = io::Error::new(io::ErrorKind::NotFound, "it is not open");
            return Err(Short { written: 0, error });
        };
        let mut written = 0;
        let result = loop {
            if written == bytes.len() {
                break Ok(());
            }
            match live.write(&bytes[written..]) {
                Ok(0) => break Err(io::ErrorKind::WriteZero.into()),
                Ok(count) => written += count,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => break Err(error),
            }
        };
        self.length += written as u64;
        result.map_err(|error| Short { written, error })
    }

    /// Takes the last bytes back that were written.
    pub(super) fn take_back(&mut self, count: usize) -> io::Result<()> {
        let Some(live) = &self.live else { return Ok(()) };
        let length = self.length.saturating_sub(count as u64);
        live.set_len(length)?;
        self.length = length;
        Ok(())
    }

    /// Begins a new file. In whatever place it is cut short, no line is lost but of the oldest
    /// file, and none is there twice.
    pub(super) fn rotate(&mut self, limits: Limits) -> io::Result<()> {
        // What is renamed is to be what we think it is.
        self.look(limits)?;
        if self.length == 0 {
            // Somebody has moved away or emptied what was full.
            return Ok(());
        }
        let keep = limits.max_files.saturating_sub(1) as usize;
        let mut older = self.older.take().unwrap_or_default();
        let steps = steps(&self.path, older.len(), keep);
        if let Err(error) = steps.iter().try_for_each(Step::take) {
            // The next opening sees what has become of it.
            self.close();
            return Err(error);
        }
        (self.live, self.id) = (None, None);
        older.insert(0, self.length);
        older.truncate(keep);
        self.older = Some(older);
        self.start += self.length;
        self.length = 0;
        self.open(limits)
    }

    /// Rotates if the file is as large as it may become.
    pub(super) fn rotate_if_full(&mut self, limits: Limits) -> io::Result<()> {
        self.look(limits)?;
        if self.length >= limits.max_size { self.rotate(limits) } else { Ok(()) }
    }

    /// The file that is written, for a process that writes into it by itself.
    pub(super) fn duplicate(&self) -> io::Result<File> {
        match &self.live {
            Some(live) => live.try_clone(),
            None => Err(io::Error::new(io::ErrorKind::NotFound, "it is not open")),
        }
    }

    /// Where the stream that is still there begins, and where it ends.
    pub(super) fn span(&mut self, limits: Limits) -> io::Result<(u64, u64)> {
        self.look_at(limits)?;
        let older: u64 = self.older.iter().flatten().sum();
        Ok((self.start - older.min(self.start), self.start + self.length))
    }

    /// The file that has what is at `offset`, or, if that is gone, what is there next.
    pub(super) fn stretch(&mut self, offset: u64, limits: Limits) -> io::Result<Stretch> {
        self.look_at(limits)?;
        let (mut start, mut found, mut before) = (self.start, (0, self.start), None);
        for (number, length) in (1..).zip(self.older.iter().flatten()) {
            start = start.saturating_sub(*length);
            let there = start + self.there(number)?.min(*length);
            if there == start {
                continue;
            }
            if offset >= found.1 || offset >= there {
                before = Some(there);
                break;
            }
            found = (number, start);
        }
        let (number, start) = found;
        if number > 0 {
            let file = sys::open_no_link(&numbered(&self.path, number))?;
            return Ok(Stretch { file, start, end: None, most: u64::MAX, before });
        }
        let end = Some(start + self.length);
        let file = match &self.live {
            Some(live) => live.try_clone()?,
            None if self.id.is_some() => sys::open_no_link(&self.path)?,
            // As empty as the file that will be there.
            None => File::open("/dev/null")?,
        };
        Ok(Stretch { file, start, end, most: u64::MAX, before })
    }

    /// How much there is of an older file: somebody may have cut it short, or removed it.
    fn there(&self, number: usize) -> io::Result<u64> {
        match fs::symlink_metadata(numbered(&self.path, number)) {
            Ok(about) => Ok(if about.is_file() { about.len() } else { 0 }),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(0),
            Err(error) => Err(error),
        }
    }
}

impl Short {
    fn after(self, done: usize) -> Self {
        Self { written: self.written + done, ..self }
    }
}

/// One step of a rotation.
#[derive(Debug, PartialEq, Eq)]
enum Step {
    Rename(PathBuf, PathBuf),
    Remove(PathBuf),
}

impl Step {
    fn take(&self) -> io::Result<()> {
        let taken = match self {
            Self::Rename(from, to) => fs::rename(from, to),
            Self::Remove(path) => fs::remove_file(path),
        };
        match taken {
            // Somebody has removed it. The gap moves on, and falls off at the end.
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
            Ok(()) | Err(_) => taken,
        }
    }
}

/// How `older` files and the written one are rotated, of which `keep` are to be left.
///
/// What goes is removed first, by itself: a file system such as ext4 takes a rename onto a file for
/// the safe replacement of it, and begins to write all of the renamed one to the disk, which its
/// own removal then waits for.
fn steps(path: &Path, older: usize, keep: usize) -> Vec<Step> {
    // More than one goes when fewer are to be kept than before; the oldest first, for no gaps.
    let gone = (keep.max(1)..=older).rev();
    let mut steps: Vec<Step> = gone.map(|number| Step::Remove(numbered(path, number))).collect();
    if keep == 0 {
        steps.push(Step::Remove(path.to_owned()));
        return steps;
    }
    let stay = older.min(keep - 1);
    let rename = |number| Step::Rename(numbered(path, number), numbered(path, number + 1));
    steps.extend((1..=stay).rev().map(rename));
    steps.push(Step::Rename(path.to_owned(), numbered(path, 1)));
    steps
}

/// `NAME.3`.
fn numbered(path: &Path, number: usize) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(format!(".{number}"));
    name.into()
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn a_rotation_renames_nothing_onto_a_file_and_leaves_no_gap() {
        let path = Path::new("w.log");
        for (older, keep) in (0..8).flat_map(|older| (0..8).map(move |keep| (older, keep))) {
            let mut files: BTreeSet<_> = (1..=older).map(|number| numbered(path, number)).collect();
            files.insert(path.to_owned());
            for step in steps(path, older, keep) {
                match step {
                    Step::Rename(from, to) => assert!(files.remove(&from) && files.insert(to)),
                    Step::Remove(path) => assert!(files.remove(&path)),
                }
            }
            let left = 1..=keep.min(older + 1);
            let left: BTreeSet<_> = left.map(|number| numbered(path, number)).collect();
            assert_eq!(files, left, "{older} older ones, {keep} to be kept");
        }
    }
}
