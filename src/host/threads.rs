//! The one constructor for threads: every thread has a name and a stack of known size, and a system
//! that has no more threads to give is an error, not a panic. None of them ends unheard: see
//! [`ours`], [`twice`] and [`vital`].

use std::collections::BTreeMap;
use std::fmt::Display;
use std::io;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::thread::{self, Builder, JoinHandle};

use super::panics::{guarded, pass_on};
use super::sys;
use crate::error::{ErrorCategory, Failure};

/// How many threads we run at most. Each has four memory maps, and at the kernel's default of
/// 65,530 maps the standard library does not return an error: it aborts the process.
pub(crate) const MAX_THREADS: usize = 12_000;

static RUNNING: AtomicUsize = AtomicUsize::new(0);

/// For tests that run alone: no thread is to be had while this lives.
#[cfg(test)]
pub(crate) fn refuse_all() -> impl Sized {
    struct Refused;
    impl Drop for Refused {
        fn drop(&mut self) {
            RUNNING.fetch_sub(MAX_THREADS, Ordering::Relaxed);
        }
    }
    RUNNING.fetch_add(MAX_THREADS, Ordering::Relaxed);
    Refused
}

/// Counts a thread for as long as it lives.
struct Counted;

impl Drop for Counted {
    fn drop(&mut self) {
        RUNNING.fetch_sub(1, Ordering::Relaxed);
    }
}

/// Starts a thread called `name`. Should `work` panic, that is said, and the thread ends: who waits
/// for something of it is to be told by what is dropped then.
///
/// # Errors
/// When the system or our own limit refuses one more thread, or the name contains a NUL byte.
pub(crate) fn spawn(
    name: &str,
    stack_size: usize,
    work: impl FnOnce() + Send + 'static,
) -> io::Result<JoinHandle<()>> {
    if name.contains('\0') {
        // The builder would panic.
        let message = format!("thread name {name:?} contains a NUL byte");
        return Err(io::Error::new(io::ErrorKind::InvalidInput, message));
    }
    let counted = Counted;
    if RUNNING.fetch_add(1, Ordering::Relaxed) >= MAX_THREADS {
        let message = format!("{MAX_THREADS} threads run already");
        return Err(io::Error::new(io::ErrorKind::OutOfMemory, message));
    }
    Builder::new().name(name.to_owned()).stack_size(stack_size).spawn(move || {
        let _counted = counted;
        let this = thread::current();
        let name = this.name().unwrap_or_default();
        sys::named(name, || {
            if let Err(fault) = ours(name, work) {
                // Who joins it is to see that.
                pass_on(fault);
            }
        });
    })
}

/// Does work of ours that somebody waits for. Should it panic, that is said, and is the outcome.
///
/// # Errors
/// It has panicked. What it borrowed must be fit to be used all the same.
pub(crate) fn ours<T>(what: impl Display, work: impl FnOnce() -> T) -> Result<T, Failure> {
    guarded(what, work).map_err(|panicked| said(panicked, ""))
}

/// As [`ours`], but should the work panic, it is done once more.
///
/// # Errors
/// It has panicked for the second time.
pub(crate) fn twice<T>(what: impl Display, mut work: impl FnMut() -> T) -> Result<T, Failure> {
    if let Ok(done) = guarded(&what, &mut work).map_err(|first| said(first, "; it is begun again"))
    {
        return Ok(done);
    }
    ours(what, work)
}

/// Says what panicked, which is no module's, and that `then`.
#[cold]
#[inline(never)]
fn said(panicked: Failure, then: &str) -> Failure {
    let message = format!("an internal fault: {}", panicked.message);
    let fault = Failure { place: panicked.place, ..Failure::new(ErrorCategory::Internal, message) };
    say(&format!("{fault}{then}"));
    fault
}

/// Starts a thread that a master is not whole without. Should `work` panic, it is done once more;
/// should it panic then too, every master of this process dies as its own event loop would: rather
/// none than one that lacks a part.
///
/// # Errors
/// As [`spawn`].
pub(crate) fn vital(
    name: &str,
    stack_size: usize,
    mut work: impl FnMut() + Send + 'static,
) -> io::Result<JoinHandle<()>> {
    let thread = name.to_owned();
    spawn(name, stack_size, move || {
        if let Err(fault) = twice(&thread, &mut work) {
            escalate(&fault);
        }
    })
}

/// The logger is the program's, and its panic must not be ours.
#[cold]
#[inline(never)]
fn say(text: &str) {
    let _ = guarded("the logger", || log::error!("{text}"));
}

type Tell = Box<dyn Fn(&str) + Send>;

/// Whom a fault is told to.
static MASTERS: Mutex<Masters> = Mutex::new(Masters { last: 0, tell: BTreeMap::new() });

struct Masters {
    last: u64,
    tell: BTreeMap<u64, Tell>,
}

fn masters() -> MutexGuard<'static, Masters> {
    // A map is left whole by whatever panics beside it.
    MASTERS.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Tells every master of this process that a part of it is lost, of which it then dies.
pub(crate) fn escalate(fault: &Failure) {
    say(&format!("for the second time, so that the master ends: {fault}"));
    masters().tell.values().for_each(|tell| tell(&fault.to_string()));
}

/// A master hears of faults for as long as this lives.
pub(crate) struct OnFault(u64);

/// Has `tell` called when a vital thread is lost. It must not block.
pub(crate) fn on_fault(tell: impl Fn(&str) + Send + 'static) -> OnFault {
    let mut masters = masters();
    masters.last += 1;
    let number = masters.last;
    masters.tell.insert(number, Box::new(tell));
    OnFault(number)
}

impl Drop for OnFault {
    fn drop(&mut self) {
        masters().tell.remove(&self.0);
    }
}

/// Where the tests may have a thread panic; nothing elsewhere.
#[cfg(not(test))]
pub(crate) fn fail_point(_place: &str) {}

#[cfg(test)]
pub(crate) use fail_points::fail_point;

/// Panics on demand.
#[cfg(test)]
pub(crate) mod fail_points {
    use super::{BTreeMap, Mutex, PoisonError};

    /// For each place how often it was passed, and how often it still panics.
    static PLACES: Mutex<BTreeMap<String, (u64, u32)>> = Mutex::new(BTreeMap::new());

    fn at<T>(place: &str, look: impl FnOnce(&mut (u64, u32)) -> T) -> T {
        let mut places = PLACES.lock().unwrap_or_else(PoisonError::into_inner);
        look(places.entry(place.to_owned()).or_default())
    }

    pub(crate) fn fail_point(place: &str) {
        let panics = at(place, |(passed, left)| {
            *passed += 1;
            let panics = *left > 0;
            *left = left.saturating_sub(1);
            panics
        });
        assert!(!panics, "told to at {place}");
    }

    /// Has the next one who passes panic.
    pub(crate) fn arm(place: &str) {
        arm_for(place, 1);
    }

    /// Has the next so many who pass panic.
    pub(crate) fn arm_for(place: &str, times: u32) {
        at(place, |(_, left)| *left = times);
    }

    /// Not all have panicked there yet.
    pub(crate) fn is_armed(place: &str) -> bool {
        at(place, |(_, left)| *left > 0)
    }

    pub(crate) fn passed(place: &str) -> u64 {
        at(place, |(passed, _)| *passed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::host::alone;

    #[test]
    fn s17_a_vital_thread_that_panics_is_begun_again_once_and_then_everybody_hears_of_it() {
        // The masters of other tests are not to hear of it.
        if !alone::here(
            &[],
            s17_a_vital_thread_that_panics_is_begun_again_once_and_then_everybody_hears_of_it,
        ) {
            return;
        }
        let (tell, told) = crossbeam_channel::unbounded();
        let deaf = on_fault(|_| panic!("nobody told it to go"));
        drop(deaf);
        let _heard = on_fault(move |what| tell.send(what.to_owned()).unwrap());
        for (panics, ends) in [(0, 1), (1, 2), (2, 2), (3, 2)] {
            let (began, begun) = crossbeam_channel::unbounded();
            let mut left = panics;
            let work = move || {
                began.send(()).unwrap();
                if left > 0 {
                    left -= 1;
                    panic!("told to");
                }
            };
            vital("part", 64 << 10, work).unwrap().join().unwrap();
            assert_eq!(begun.iter().count(), ends, "{panics} panics");
            let faults: Vec<_> = told.try_iter().collect();
            assert_eq!(faults.len(), usize::from(panics > 1), "{faults:?}");
            let text = "an internal fault: panicked in part: told to";
            assert!(faults.iter().all(|fault| fault.starts_with(text)), "{faults:?}");
        }
    }

    #[test]
    fn a_thread_that_panics_is_known_to_have_by_who_joins_it() {
        let thread = spawn("part", 64 << 10, || panic!("told to")).unwrap();
        let fault = thread.join().unwrap_err();
        let fault = fault.downcast::<Failure>().unwrap();
        assert_eq!(fault.category, ErrorCategory::Internal);
        assert_eq!(fault.message, "an internal fault: panicked in part: told to");
    }

    #[test]
    fn a_thread_has_its_name_and_a_bad_name_is_an_error() {
        let (tell, told) = crossbeam_channel::bounded(1);
        let name = move || tell.send(thread::current().name().map(str::to_owned)).unwrap();
        spawn("api#3", 64 << 10, name).unwrap().join().unwrap();
        assert_eq!(told.recv().unwrap().as_deref(), Some("api#3"));
        let error = spawn("a\0b", 64 << 10, || ()).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::InvalidInput);
    }
}
