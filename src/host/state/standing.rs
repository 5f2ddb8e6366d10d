//! A state directory that somebody removes or moves away while its master runs is made again at its
//! place: without it nobody could reach the master, and a second one would run the same workers.

use std::fmt;
use std::fs::{self, Metadata};
use std::io;
use std::path::Path;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

use log::Level;

use super::{Held, LOCK, Part, StateDir};
use crate::error::Result;
use crate::host::sys::{self, Dir};

/// Looks after what it keeps in the directory.
type Keeper = Box<dyn Fn(&StateDir) + Send + Sync>;

/// Those who keep something in the directory, and what is to be said of it.
#[derive(Default)]
pub(super) struct Keepers {
    all: Vec<Keeper>,
    /// It cannot be made again, which has been said.
    troubled: bool,
    news: Vec<(Level, String)>,
}

impl fmt::Debug for Keepers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Keepers").field("troubled", &self.troubled).finish_non_exhaustive()
    }
}

/// The state directories of the masters of this process, so that whoever is about to make one below
/// them finds their owners.
static ALL: Mutex<Vec<Weak<StateDir>>> = Mutex::new(Vec::new());

/// From now on [`stands`] finds it.
pub(super) fn enlist(state: &Arc<StateDir>) {
    let mut all = ALL.lock().unwrap_or_else(PoisonError::into_inner);
    all.retain(|state| state.strong_count() > 0);
    all.push(Arc::downgrade(state));
}

/// Makes sure that the state directory stands and is ours in which `path` lies, if it lies in that
/// of a master of this process: nobody else is to make it, since it would have no lock.
///
/// # Errors
/// Why it is not ours any more.
pub(crate) fn stands(path: &Path) -> io::Result<()> {
    let path = std::path::absolute(path)?;
    let all: Vec<_> = {
        let all = ALL.lock().unwrap_or_else(PoisonError::into_inner);
        all.iter().filter_map(Weak::upgrade).collect()
    };
    for state in all.iter().filter(|state| path.starts_with(&state.place)) {
        state.stand().map_err(|error| io::Error::other(error.to_string()))?;
    }
    Ok(())
}

impl StateDir {
    /// Has `keep` called after the directory was made again, and whenever somebody asks for it to
    /// be looked after: what belongs in it may be gone. It must not log, nor ask for this directory
    /// to stand.
    pub(crate) fn kept_by(&self, keep: impl Fn(&Self) + Send + Sync + 'static) {
        self.keepers().all.push(Box::new(keep));
    }

    /// Makes sure that the directory is at its place and ours, and makes it again if it is not.
    /// Logs nothing, since loggers ask for this too: see [`news`](Self::news). Waits for nobody who
    /// has its lock.
    ///
    /// # Errors
    /// As [`open`](Self::open): above all, another master has the place by now.
    pub(crate) fn stand(&self) -> Result<()> {
        let mut keepers = self.keepers();
        let before = self.held().clone();
        if self.done.load(Ordering::SeqCst) || before.stands_at(&self.place) {
            // Somebody may have put it back.
            if std::mem::take(&mut keepers.troubled) {
                self.troubled(Part::Place, None);
            }
            return Ok(());
        }
        let shown = self.path.display();
        match Held::take(&self.place, &self.name, Some(&before)) {
            Ok(held) => {
                before.carry_to(&held);
                *self.held() = held;
                let text = format!("state directory {shown} was gone, and is made again");
                keepers.news.push((Level::Warn, text));
                keepers.troubled = false;
                // It is told also where it was mended as soon as it was found.
                self.troubled(Part::Place, Some("it was gone, and is made again".to_owned()));
                self.troubled(Part::Place, None);
                keepers.tell(self);
                Ok(())
            }
            Err(error) => {
                if !std::mem::replace(&mut keepers.troubled, true) {
                    let text = format!(
                        "state directory {shown} is gone, so that nobody can reach this master, \
                         which goes on; it cannot be made again: {error}"
                    );
                    keepers.news.push((Level::Error, text));
                    let text = format!("it is gone, and cannot be made again: {error}");
                    self.troubled(Part::Place, Some(text));
                    keepers.tell(self);
                }
                Err(error)
            }
        }
    }

    /// As [`stand`](Self::stand), and has everything looked after that is kept in it.
    pub(crate) fn look_after(&self) {
        // Whatever is wrong is among the news.
        let _ = self.stand();
        self.keepers().tell(self);
    }

    /// Nobody keeps anything in it any more: the master ends.
    pub(crate) fn leave(&self) {
        self.keepers().all.clear();
    }

    /// What is to be said of the directory since this was asked last. A keeper is told when there
    /// is something.
    pub(crate) fn news(&self) -> Vec<(Level, String)> {
        std::mem::take(&mut self.keepers().news)
    }

    fn keepers(&self) -> MutexGuard<'_, Keepers> {
        self.keepers.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Keepers {
    fn tell(&self, state: &StateDir) {
        self.all.iter().for_each(|keep| keep(state));
    }
}

impl Held {
    /// True while what its names lead to is what is open here.
    fn stands_at(&self, place: &Path) -> bool {
        let leads_to = |path: &Path, dir: &Dir| {
            same(fs::symlink_metadata(path), dir.as_file().metadata()).unwrap_or(false)
        };
        leads_to(place, &self.root)
            && leads_to(&self.root.path().join("workers"), &self.workers)
            && self.has_lock_of(&self.root)
    }

    /// True if the lock in `root` is the one that is held.
    pub(super) fn has_lock_of(&self, root: &Dir) -> bool {
        let there = fs::symlink_metadata(root.path().join(LOCK));
        same(there, self.lock.metadata()).unwrap_or(false)
    }

    /// What is still there of a directory that was moved goes on in the new one: the pipes of
    /// workers above all. What stayed behind would mislead whoever uses it next.
    fn carry_to(&self, new: &Self) {
        for (from, to) in [(&self.root, &new.root), (&self.workers, &new.workers)] {
            if same(from.as_file().metadata(), to.as_file().metadata()).unwrap_or(true) {
                continue;
            }
            for name in from.names().unwrap_or_default() {
                let about = fs::symlink_metadata(from.path().join(&name));
                if name != LOCK && about.is_ok_and(|about| !about.is_dir()) {
                    let _ = from.hand_over(&name, to);
                }
            }
        }
    }
}

fn same(one: io::Result<Metadata>, other: io::Result<Metadata>) -> io::Result<bool> {
    Ok(sys::file_id(&one?) == sys::file_id(&other?))
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _, symlink};
    use std::sync::atomic::AtomicUsize;

    use super::super::StateNews;
    use super::*;

    struct Kept {
        around: tempfile::TempDir,
        state: Arc<StateDir>,
        told: Arc<AtomicUsize>,
    }

    fn kept() -> Kept {
        let around = tempfile::tempdir().unwrap();
        let state = StateDir::open(&around.path().join("a/s"), "n").unwrap();
        let told = Arc::<AtomicUsize>::default();
        let count = Arc::clone(&told);
        state.kept_by(move |_| {
            count.fetch_add(1, Ordering::SeqCst);
        });
        Kept { around, state, told }
    }

    impl Kept {
        fn told(&self) -> usize {
            self.told.swap(0, Ordering::SeqCst)
        }

        /// It stands, was told to be made again, and no other master can have it.
        fn is_ours_again(&self) {
            assert_eq!(self.told(), 1);
            let news = self.state.news();
            assert!(news.len() == 1 && news[0].0 == Level::Warn, "{news:?}");
            let path = self.state.path();
            for made in [path, &path.join("workers")] {
                assert_eq!(fs::metadata(made).unwrap().mode() & 0o7777, 0o700);
            }
            let error = StateDir::open(path, "second").unwrap_err().to_string();
            let own = format!("held by n, pid {}", std::process::id());
            assert!(error.contains(&own), "{error}");
            self.state.workers().replace("a.json", b"1").unwrap();
            assert_eq!(fs::read(path.join("workers/a.json")).unwrap(), b"1");
            self.state.stand().unwrap();
            assert_eq!((self.told(), self.state.news().len()), (0, 0));
        }
    }

    #[test]
    fn p15_what_is_removed_is_made_again_and_locked() {
        let kept = kept();
        let path = kept.state.path();
        kept.state.stand().unwrap();
        assert_eq!((kept.told(), kept.state.news().len()), (0, 0));
        fs::remove_dir_all(path).unwrap();
        kept.state.stand().unwrap();
        kept.is_ours_again();
        // With all that it is in, and by whoever is about to write below it.
        fs::remove_dir_all(kept.around.path().join("a")).unwrap();
        stands(&path.join("logs")).unwrap();
        assert!(!path.join("logs").exists());
        kept.is_ours_again();
        for part in ["lock", "workers/a.json"] {
            fs::remove_file(path.join(part)).unwrap();
        }
        kept.state.stand().unwrap();
        kept.is_ours_again();
        fs::remove_dir_all(path.join("workers")).unwrap();
        kept.state.stand().unwrap();
        kept.is_ours_again();
        // What lies elsewhere is nobody's affair here.
        fs::remove_dir_all(path).unwrap();
        stands(&kept.around.path().join("a/s2")).unwrap();
        assert!(!path.exists());
    }

    #[test]
    fn p15_what_is_moved_away_leaves_nothing_that_misleads() {
        let kept = kept();
        let path = kept.state.path();
        kept.state.workers().replace("w.json", b"record").unwrap();
        kept.state.workers().make_fifo("w.out").unwrap();
        kept.state.root().replace("master.json", b"me").unwrap();
        let moved = kept.around.path().join("moved");
        fs::rename(path, &moved).unwrap();
        kept.state.look_after();
        assert_eq!(kept.told.load(Ordering::SeqCst), 2);
        kept.told.store(1, Ordering::SeqCst);
        kept.is_ours_again();
        assert_eq!(fs::read(path.join("workers/w.json")).unwrap(), b"record");
        assert_eq!(fs::read(path.join("master.json")).unwrap(), b"me");
        assert!(path.join("workers/w.out").exists());
        // Who takes the other one finds it free, and nothing of ours.
        let other = StateDir::open(&moved, "other").unwrap();
        assert!(other.workers().names().unwrap().is_empty());
        assert_eq!(other.root().names().unwrap(), ["lock", "workers"]);
    }

    #[test]
    fn p15_a_place_that_others_have_is_theirs_and_said_once() {
        let kept = kept();
        let path = kept.state.path();
        fs::remove_dir_all(path).unwrap();
        let other = StateDir::open(path, "other").unwrap();
        for told in [1, 0, 0] {
            let error = kept.state.stand().unwrap_err();
            assert!(error.is_refused() && error.to_string().contains("other, pid"), "{error}");
            stands(&path.join("logs")).unwrap_err();
            assert_eq!(kept.told(), told);
        }
        let news = kept.state.news();
        assert!(news.len() == 1 && news[0].0 == Level::Error, "{news:?}");
        other.stand().unwrap();
        assert!(other.news().is_empty());
        let trouble = kept.state.trouble().unwrap().message;
        assert!(trouble.contains("cannot be made again") && trouble.contains("other, pid"));
        // Once that one is gone the place is free.
        drop(other);
        kept.state.stand().unwrap();
        assert_eq!(kept.state.trouble(), None);
        kept.is_ours_again();
        // What a start refuses is refused here too.
        let target = kept.around.path().join("target");
        fs::create_dir(&target).unwrap();
        fs::set_permissions(&target, fs::Permissions::from_mode(0o700)).unwrap();
        fs::remove_dir_all(path).unwrap();
        symlink(&target, path).unwrap();
        assert!(kept.state.stand().unwrap_err().to_string().contains("it is a link"));
        assert_eq!(fs::read_dir(&target).unwrap().count(), 0);
        fs::remove_file(path).unwrap();
        fs::create_dir(path).unwrap();
        fs::set_permissions(path, fs::Permissions::from_mode(0o755)).unwrap();
        assert!(kept.state.stand().unwrap_err().to_string().contains("mode 755"));
        kept.state.done();
        kept.state.stand().unwrap();
    }

    #[test]
    fn p15_what_is_put_back_is_well_again() {
        let kept = kept();
        let (path, away) = (kept.state.path(), kept.around.path().join("away"));
        let told = Arc::<Mutex<Vec<StateNews>>>::default();
        let tell = Arc::clone(&told);
        kept.state.on_trouble(move |news| tell.lock().unwrap().push(news));
        fs::rename(path, &away).unwrap();
        fs::write(path, "").unwrap();
        kept.state.stand().unwrap_err();
        assert!(kept.state.trouble().is_some());
        fs::remove_file(path).unwrap();
        fs::rename(&away, path).unwrap();
        kept.state.stand().unwrap();
        assert_eq!(kept.state.trouble(), None);
        let told = told.lock().unwrap();
        let [StateNews::Degraded { message }, StateNews::Recovered] = &told[..] else {
            panic!("{told:?}")
        };
        assert!(message.contains("it is no directory"), "{message}");
    }

    #[test]
    fn p15_nobody_waits_for_what_a_dead_master_has_left_open() {
        let kept = kept();
        let path = kept.state.path();
        fs::remove_dir_all(path).unwrap();
        fs::create_dir(path).unwrap();
        fs::set_permissions(path, fs::Permissions::from_mode(0o700)).unwrap();
        let lock = fs::File::create_new(path.join(LOCK)).unwrap();
        lock.lock().unwrap();
        fs::write(path.join(LOCK), "dead, pid 4194304, since ever\n").unwrap();
        for _ in 0..2 {
            let error = kept.state.stand().unwrap_err();
            assert!(error.is_refused() && error.to_string().contains("held by dead"), "{error}");
        }
        let number = format!(":{} ", lock.metadata().unwrap().ino());
        let locks = fs::read_to_string("/proc/locks").unwrap();
        let waits = |line: &&str| line.contains("->") && line.contains(&number);
        let waiting: Vec<_> = locks.lines().filter(waits).collect();
        assert!(waiting.is_empty(), "{waiting:?}");
        drop(lock);
        kept.state.stand().unwrap();
        assert_eq!(kept.told(), 2, "of the trouble, and of its end");
    }
}
