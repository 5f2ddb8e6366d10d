//! A master's state directory: private, opened once and used through its descriptor, and locked for
//! as long as the master lives. In it are its socket and what the next master must know.

#[cfg(feature = "cli")]
pub(crate) mod holder;
mod log_lock;
#[cfg(feature = "cli")]
pub(crate) mod places;
mod standing;
#[cfg(test)]
mod tests;
mod trouble;

use std::fs::{self, DirBuilder, File, TryLockError};
use std::io::{self, Read, Seek, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt};
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};
use std::process;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime};

use crossbeam_channel::bounded;

use super::sys::{self, Dir, Opening};
use super::{proc, threads};
use crate::error::{Error, ErrorCategory, Result};
pub(crate) use log_lock::{LOG_LOCK, hold_logs};
use standing::Keepers;
pub(crate) use standing::stands;
use trouble::Troubles;
pub(crate) use trouble::{Part, StateNews, StateTrouble};

/// No file in a state directory is longer than this.
const MAX_FILE: u64 = 64 << 10;
/// How long the lock of a dead master is waited for.
const PATIENCE: Duration = Duration::from_secs(5);
/// The stack of the thread that does so.
const STACK: usize = 64 << 10;
/// Held by the one master that uses the directory. Never removed: another could hold the lock of
/// the removed file, and a third that of a new one.
const LOCK: &str = "lock";

/// A directory that is this master's alone.
#[derive(Debug)]
pub(crate) struct StateDir {
    path: PathBuf,
    /// The same, wherever this process goes.
    place: PathBuf,
    /// Its master's.
    name: String,
    /// What is open there: another one once somebody has removed it.
    held: Mutex<Held>,
    keepers: Mutex<Keepers>,
    troubles: Troubles,
    /// The master's loop has ended, and nothing of it is written here any more.
    done: AtomicBool,
}

/// A directory whose lock is ours.
#[derive(Clone, Debug)]
struct Held {
    root: Arc<Dir>,
    workers: Arc<Dir>,
    /// Locked until it is closed, by whatever end.
    lock: Arc<File>,
}

/// A master's hold on its directory. When it is given up the next master may have it, even if a
/// thread or a child that is just being spawned still has it open.
#[derive(Debug)]
pub(crate) struct Tenure(pub(crate) Arc<StateDir>);

impl Drop for Tenure {
    fn drop(&mut self) {
        // Where the loop outlives its master, the lock ends with the last hold of the loop.
        if self.0.done.load(Ordering::SeqCst) {
            let _ = self.0.held().lock.unlock();
        }
    }
}

impl StateDir {
    /// Opens a directory, made with mode 0700 if it is not there, for the master `name`.
    ///
    /// # Errors
    /// Of category `refused` when another master holds it (the message names that one's pid), when
    /// it is a link, or when it is not private to us; else what the system says.
    pub(crate) fn open(path: &Path, name: &str) -> Result<Arc<Self>> {
        let held = Held::take(path, name, None)?;
        let state = Arc::new(Self {
            path: path.to_owned(),
            place: std::path::absolute(path).unwrap_or_else(|_| path.to_owned()),
            name: name.to_owned(),
            held: Mutex::new(held),
            keepers: Mutex::default(),
            troubles: Troubles::default(),
            done: AtomicBool::new(false),
        });
        standing::enlist(&state);
        Ok(state)
    }

    /// Where it was when it was opened, for people and for those who look for the socket.
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// Where it is, from anywhere.
    pub(crate) fn place(&self) -> &Path {
        &self.place
    }

    /// A part of it is in trouble, or, with `None`, is not.
    pub(crate) fn troubled(&self, part: Part, message: Option<String>) {
        self.troubles.set(part, message);
    }

    /// What is wrong with it now.
    pub(crate) fn trouble(&self) -> Option<StateTrouble> {
        self.troubles.first()
    }

    /// Has `listener` told what becomes of it. It must wait for nothing.
    pub(crate) fn on_trouble(&self, listener: impl Fn(StateNews) + Send + Sync + 'static) {
        self.troubles.listen(Box::new(listener));
    }

    /// Nothing of the loop's is written here any more.
    pub(crate) fn done(&self) {
        self.done.store(true, Ordering::SeqCst);
    }

    /// The directory itself, as it is now.
    pub(crate) fn root(&self) -> Arc<Dir> {
        Arc::clone(&self.held().root)
    }

    /// What is kept about workers, in files named after them.
    pub(crate) fn workers(&self) -> Arc<Dir> {
        Arc::clone(&self.held().workers)
    }

    fn held(&self) -> MutexGuard<'_, Held> {
        // It is only ever replaced as a whole.
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A socket in this directory that nobody else can connect to. One that is there belonged to a
    /// master that is no more, since the lock is ours.
    ///
    /// # Errors
    /// As the calls have them.
    pub(crate) fn bind_socket(&self, name: &str) -> io::Result<UnixListener> {
        let root = self.root();
        root.remove(name)?;
        // Also short enough for a socket's address, however long the directory's own path is.
        let path = root.path().join(name);
        let listener = sys::listen_unix(&path, 0o600)?;
        // Where our umask takes even from that, its own master could not connect.
        sys::set_socket_mode(&path, 0o600)?;
        Ok(listener)
    }
}

impl Held {
    /// Makes the directory if it is not there, opens it, and takes its lock, unless `former` has
    /// that very lock.
    fn take(path: &Path, name: &str, former: Option<&Self>) -> Result<Self> {
        let shown = path.display();
        let cannot = |what: &str| {
            let what = format!("state directory {shown}: cannot {what}");
            move |error| Error::io(what, error)
        };
        if let Some(parent) = path.parent() {
            make(parent).map_err(cannot("make the directory it is in"))?;
            check_parent(path, parent)?;
        }
        match DirBuilder::new().mode(0o700).create(path) {
            Err(error) if error.kind() != io::ErrorKind::AlreadyExists => {
                return Err(cannot("make it")(error));
            }
            Ok(()) | Err(_) => {}
        }
        let root = open_private(path)?;
        let lock = match former.filter(|former| former.has_lock_of(&root)) {
            Some(former) => Arc::clone(&former.lock),
            None => {
                let lock = root.open_file(LOCK, Opening::Keep).map_err(cannot("open its lock"))?;
                // Whoever runs already waits for nobody: it is asked again, time after time.
                Arc::new(hold(lock, path, name, former.is_none())?)
            }
        };
        let workers = root.subdirectory("workers").map_err(cannot("make workers/ in it"))?;
        Ok(Self { root: Arc::new(root), workers: Arc::new(workers), lock })
    }
}

impl Dir {
    /// A whole file; `None`: there is none.
    ///
    /// # Errors
    /// It is no regular file, too long, or what the calls say.
    pub(crate) fn read(&self, name: &str) -> io::Result<Option<Vec<u8>>> {
        let file = match self.open_file(name, Opening::Read) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(error),
        };
        if !file.metadata()?.is_file() {
            return Err(io::Error::new(io::ErrorKind::InvalidData, "it is no regular file"));
        }
        let mut bytes = Vec::new();
        file.take(MAX_FILE + 1).read_to_end(&mut bytes)?;
        if bytes.len() as u64 > MAX_FILE {
            return Err(io::Error::new(io::ErrorKind::InvalidData, "it is longer than 64 KiB"));
        }
        Ok(Some(bytes))
    }

    /// Writes a whole file in one step: who reads it finds what was there before, or this. Not
    /// synced: what is kept here means nothing after the system's next start.
    ///
    /// # Errors
    /// As the calls have them; the former file then stays.
    pub(crate) fn replace(&self, name: &str, bytes: &[u8]) -> io::Result<()> {
        let draft = format!(".{name}.new");
        self.remove(&draft)?;
        let written = self
            .open_file(&draft, Opening::New)
            .and_then(|mut file| file.write_all(bytes))
            .and_then(|()| self.rename(&draft, name));
        if written.is_err() {
            let _ = self.remove(&draft);
        }
        written
    }

    /// The names of what is in it, in alphabetical order, without what is being written.
    ///
    /// # Errors
    /// As the calls have them.
    pub(crate) fn names(&self) -> io::Result<Vec<String>> {
        let mut names = Vec::new();
        for entry in fs::read_dir(self.path())? {
            // Ours are all text.
            if let Ok(name) = entry?.file_name().into_string()
                && !name.starts_with('.')
            {
                names.push(name);
            }
        }
        names.sort_unstable();
        Ok(names)
    }
}

/// Makes a directory and those it is in.
fn make(path: &Path) -> io::Result<()> {
    if path.as_os_str().is_empty() {
        return Ok(());
    }
    DirBuilder::new().recursive(true).mode(0o700).create(path)
}

/// Opens a directory that nobody else can use.
fn open_private(path: &Path) -> Result<Dir> {
    let refused = |message: String| {
        let message = format!("state directory {}: {message}", path.display());
        Error::new(ErrorCategory::Refused, message)
    };
    let root = Dir::open(path).map_err(|error| match fs::symlink_metadata(path) {
        Ok(found) if found.is_symlink() => refused("it is a link; name its target".to_owned()),
        Ok(found) if !found.is_dir() => refused("it is no directory".to_owned()),
        Ok(_) | Err(_) => Error::io(format!("state directory {}", path.display()), error),
    })?;
    let about = root.as_file().metadata();
    let about = about.map_err(|error| Error::io("cannot look at the state directory", error))?;
    let uid = sys::effective_uid();
    if about.uid() != uid {
        return Err(refused(format!("it belongs to user {}, and we are {uid}", about.uid())));
    }
    let mode = about.mode() & 0o7777;
    if mode & 0o077 != 0 {
        let advice = format!("others may use it (mode {mode:o}); chmod 700 it, or name another");
        return Err(refused(advice));
    }
    Ok(root)
}

/// Refuses a directory whose place others could give to another one.
fn check_parent(path: &Path, parent: &Path) -> Result<()> {
    let parent = if parent.as_os_str().is_empty() { Path::new(".") } else { parent };
    let Ok(about) = fs::metadata(parent) else { return Ok(()) };
    let is_safe = |uid| uid == 0 || uid == sys::effective_uid();
    // Whoever owns a link may have it lead elsewhere at any time.
    let link = fs::symlink_metadata(parent);
    let kept = link.is_ok_and(|link| !link.is_symlink() || is_safe(link.uid()));
    let shared = about.mode() & 0o022 != 0 && about.mode() & 0o1000 == 0;
    if kept && is_safe(about.uid()) && !shared {
        return Ok(());
    }
    let parent = parent.display();
    let message = format!(
        "state directory {}: others may replace it, since {parent} is theirs",
        path.display()
    );
    Err(Error::new(ErrorCategory::Refused, message))
}

/// Takes the lock, and writes down who holds it. `patient`: as in [`take`].
fn hold(lock: File, path: &Path, name: &str, patient: bool) -> Result<File> {
    let what = format!("state directory {}", path.display());
    let mut lock = take(lock, &what, patient)?;
    sign(&mut lock, name).map_err(|error| Error::io(format!("{what}: cannot write"), error))?;
    Ok(lock)
}

/// Takes the lock of `what`. `patient`: that of a master which is no more is waited for.
fn take(lock: File, what: &str, patient: bool) -> Result<File> {
    let cannot_lock = |error| Error::io(format!("{what}: cannot lock it"), error);
    match lock.try_lock() {
        Ok(()) => Ok(lock),
        Err(TryLockError::WouldBlock) => {
            let mut holder = String::new();
            let _ = (&lock).take(256).read_to_string(&mut holder);
            let held = |holder: &str| {
                Error::new(ErrorCategory::Refused, format!("{what}: it is held by {holder}"))
            };
            match holder.trim() {
                "" => Err(held("another master")),
                holder if patient && is_dead(holder) => {
                    let outlived = wait_for(lock).map_err(cannot_lock)?;
                    outlived.ok_or_else(|| held(holder))
                }
                holder => Err(held(holder)),
            }
        }
        Err(TryLockError::Error(error)) => Err(cannot_lock(error)),
    }
}

/// Writes down who holds a lock.
fn sign(lock: &mut File, name: &str) -> io::Result<()> {
    lock.rewind()?;
    let since = humantime::format_rfc3339_seconds(SystemTime::now());
    let text = format!("{name}, pid {}, since {since}\n", process::id());
    lock.set_len(0)?;
    lock.write_all(text.as_bytes())
}

/// True when the holder that has written this is no more. What it was just spawning then has the
/// lock open, until it has become what it was spawned for.
fn is_dead(holder: &str) -> bool {
    pid_in(holder).is_some_and(|pid| proc::began(pid).map_or(true, |(_, ended)| ended))
}

/// The pid in what a holder has written.
fn pid_in(holder: &str) -> Option<u32> {
    holder.split_once("pid ").and_then(|(_, rest)| rest.split(',').next()?.parse().ok())
}

/// Waits for a lock, though not for ever; `None`: it is held for longer.
fn wait_for(lock: File) -> io::Result<Option<File>> {
    let (tell, told) = bounded(1);
    // Should nobody listen by then, the lock is given back at once; and should this break off,
    // nobody waits for it.
    let wait = move || {
        threads::fail_point("hsu-lock");
        drop(tell.send(lock.lock().map(|()| lock)));
    };
    threads::spawn("hsu-lock", STACK, wait)?;
    told.recv_timeout(PATIENCE).ok().transpose()
}
