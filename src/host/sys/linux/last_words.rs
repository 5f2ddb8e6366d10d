//! Linux: a signal that ends the process says, before it does, on which thread it came: a module
//! that brings its master down is named.

use std::cell::Cell;
use std::ffi::{c_int, c_void};
use std::io;
use std::mem::{self, MaybeUninit};
use std::ptr;
use std::sync::Once;
use std::sync::atomic::{AtomicUsize, Ordering};

use super::checked;

/// What a fault of the program's own raises, and `abort()`.
const FATAL: [(c_int, &str); 5] = [
    (libc::SIGSEGV, "SIGSEGV"),
    (libc::SIGBUS, "SIGBUS"),
    (libc::SIGILL, "SIGILL"),
    (libc::SIGFPE, "SIGFPE"),
    (libc::SIGABRT, "SIGABRT"),
];

/// The handlers that were there before, as they are called with three arguments; 0: none.
static BEFORE: [AtomicUsize; FATAL.len()] = [const { AtomicUsize::new(0) }; FATAL.len()];

thread_local! {
    /// The name of a thread of ours, for as long as it lives: made without a destructor and without
    /// initialization, so that a signal handler may read it.
    static NAME: Cell<(*const u8, usize)> = const { Cell::new((ptr::null(), 0)) };
}

/// Has the calling thread known by `name` while `work` runs.
pub(crate) fn named<T>(name: &str, work: impl FnOnce() -> T) -> T {
    struct Nameless;
    impl Drop for Nameless {
        fn drop(&mut self) {
            NAME.set((ptr::null(), 0));
        }
    }
    NAME.set((name.as_ptr(), name.len()));
    let _nameless = Nameless;
    work()
}

/// Installs the handlers, once. What was there before is called after them.
///
/// # Errors
/// As the call has them.
pub(crate) fn install_last_words() -> io::Result<()> {
    static ONCE: Once = Once::new();
    let mut result = Ok(());
    ONCE.call_once(|| {
        result = (0..FATAL.len()).try_for_each(install);
    });
    result
}

fn install(which: usize) -> io::Result<()> {
    let (signal, _) = FATAL[which];
    let mut before = MaybeUninit::<libc::sigaction>::uninit();
    // SAFETY: a null new action changes nothing; `before` is writable and outlives the call.
    checked(unsafe { libc::sigaction(signal, ptr::null(), before.as_mut_ptr()) })?;
    // SAFETY: the call succeeded, so it has filled `before`.
    let before = unsafe { before.assume_init() };
    if before.sa_flags & libc::SA_SIGINFO != 0 {
        BEFORE[which].store(before.sa_sigaction, Ordering::SeqCst);
    }
    let handler: extern "C" fn(c_int, *mut libc::siginfo_t, *mut c_void) = on_fatal;
    // SAFETY: an action of zeroes is a valid one: no flags, an empty mask.
    let mut action: libc::sigaction = unsafe { mem::zeroed() };
    action.sa_sigaction = handler as usize;
    // On the thread's other stack, since the first may be what has overflowed.
    action.sa_flags = libc::SA_SIGINFO | libc::SA_ONSTACK;
    // SAFETY: `action` is readable and outlives the call; what it installs touches nothing but the
    // statics above, its own stack, and calls that are safe in a signal handler.
    checked(unsafe { libc::sigaction(signal, &raw const action, ptr::null_mut()) })?;
    Ok(())
}

/// Runs in a signal handler: no allocation, no lock, no panic.
extern "C" fn on_fatal(signal: c_int, info: *mut libc::siginfo_t, context: *mut c_void) {
    let which = FATAL.iter().position(|(known, _)| *known == signal);
    let name = which.map_or("a signal", |which| FATAL[which].1);
    let (thread, length) = NAME.get();
    let thread: &[u8] = if thread.is_null() {
        b"a thread of the program's own"
    } else {
        // SAFETY: this very thread has set the name, which lives until it takes it back.
        unsafe { std::slice::from_raw_parts(thread, length) }
    };
    for part in [b"fatal: ", name.as_bytes(), b" on thread ", thread, b"\n"] {
        // SAFETY: the pointer and the size describe `part`; the call is safe in a signal handler.
        unsafe { libc::write(libc::STDERR_FILENO, part.as_ptr().cast(), part.len()) };
    }
    let before = which.map_or(0, |which| BEFORE[which].load(Ordering::SeqCst));
    if before == 0 {
        // SAFETY: both calls are safe in a signal handler. The signal, blocked in here, ends the
        // process when this returns.
        unsafe {
            libc::signal(signal, libc::SIG_DFL);
            libc::raise(signal);
        }
        return;
    }
    // It has been told where this came from, and after a stack has overflowed the other one has no
    // room for another handler.
    // SAFETY: the call is safe in a signal handler.
    unsafe { libc::signal(libc::SIGABRT, libc::SIG_DFL) };
    // SAFETY: the number is that of a handler of three arguments, as its flags said.
    let before: extern "C" fn(c_int, *mut libc::siginfo_t, *mut c_void) =
        unsafe { mem::transmute(before) };
    before(signal, info, context);
}
