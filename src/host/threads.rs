//! The one constructor for threads: every thread has a name and a stack of known size, and a system
//! that has no more threads to give is an error, not a panic.

use std::io;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread::{Builder, JoinHandle};

use super::sys;

/// How many threads we run at most. Each has four memory maps, and at the kernel's default of
/// 65,530 maps the standard library does not return an error: it aborts the process.
const MAX_THREADS: usize = 12_000;

static RUNNING: AtomicUsize = AtomicUsize::new(0);

/// Counts a thread for as long as it lives.
struct Counted;

impl Drop for Counted {
    fn drop(&mut self) {
        RUNNING.fetch_sub(1, Ordering::Relaxed);
    }
}

/// Starts a thread called `name`.
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
    let known = name.to_owned();
    Builder::new().name(name.to_owned()).stack_size(stack_size).spawn(move || {
        let _counted = counted;
        sys::named(&known, work);
    })
}

#[cfg(test)]
mod tests {
    use std::thread;

    use super::*;

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
