//! Panics of modules become plain data: caught where they happen, with message and place, and never
//! passed on. The only home of `catch_unwind`.

use std::any::Any;
use std::backtrace::{Backtrace, BacktraceStatus};
use std::cell::RefCell;
use std::fmt::Display;
use std::panic::{self, AssertUnwindSafe, PanicHookInfo};
use std::sync::Once;

use super::Report;
use super::identity::{self, Role};
use crate::error::{ErrorCategory, Failure};

/// False in programs built with `panic = "abort"`: a panic there ends the process, whoever would
/// catch it.
pub(crate) const CAN_CONTAIN: bool = cfg!(panic = "unwind");

thread_local! {
    /// Where the last panic of this thread came from, as the hook saw it.
    static PLACE: RefCell<Option<String>> = const { RefCell::new(None) };
}

/// Calls into a module. A panic becomes a failure that names the callback, the message and the
/// place.
///
/// After a failure the caller must not use what `call` borrowed, except to drop it in another
/// `guarded`.
pub(crate) fn guarded<T>(callback: impl Display, call: impl FnOnce() -> T) -> Result<T, Failure> {
    let _ = PLACE.try_with(|place| place.take());
    panic::catch_unwind(AssertUnwindSafe(call)).map_err(|payload| caught(&callback, payload))
}

/// What was caught. Apart, so that threads which only wait, behind a guard or two, need no stack
/// for it: a page of each counts.
#[cold]
#[inline(never)]
fn caught(callback: &dyn Display, payload: Box<dyn Any + Send>) -> Failure {
    let payload = match payload.downcast::<Failure>() {
        Ok(passed_on) => return *passed_on,
        Err(payload) => payload,
    };
    let text = message(&*payload);
    let mut failure = Failure::new(ErrorCategory::Panic, format!("panicked in {callback}: {text}"));
    failure.place = PLACE.try_with(|place| place.take()).ok().flatten();
    discard(payload);
    failure
}

/// Goes on with a panic that was caught elsewhere, in a plugin or to be said: the next `guarded`
/// gives this very failure. It is not told again.
pub(crate) fn pass_on(failure: Failure) -> ! {
    panic::resume_unwind(Box::new(failure))
}

/// What the panic said.
fn message(payload: &(dyn Any + Send)) -> String {
    if let Some(text) = payload.downcast_ref::<&'static str>() {
        (*text).to_owned()
    } else if let Some(text) = payload.downcast_ref::<String>() {
        text.clone()
    } else {
        "a panic with a payload that is no text".to_owned()
    }
}

/// Drops a payload, whose own drop may panic again; what cannot be dropped is leaked.
fn discard(payload: Box<dyn Any + Send>) {
    if let Err(next) = panic::catch_unwind(AssertUnwindSafe(|| drop(payload))) {
        // One more try would be one more trap; a payload is small.
        std::mem::forget(next);
    }
}

/// Installs the process's panic hook, once: threads of modules get one line in the log and their
/// place noted; all others go to the hook that was there before.
pub(crate) fn install_hook() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        let previous = panic::take_hook();
        panic::set_hook(Box::new(move |info| match identity::current() {
            Some(identity) if CAN_CONTAIN => of_module(&identity.role, info, &previous),
            Some(_) | None => {
                // For what is caught of a master's own threads.
                let place = info.location().map(ToString::to_string);
                let _ = PLACE.try_with(|noted| noted.replace(place));
                previous(info);
            }
        }));
    });
}

fn of_module(role: &Role, info: &PanicHookInfo<'_>, previous: &dyn Fn(&PanicHookInfo<'_>)) {
    let worker = match role {
        Role::Loop => return previous(info),
        Role::Module { worker } | Role::Adopted { worker, .. } => worker,
    };
    let place = info.location().map(ToString::to_string);
    let text = message(info.payload());
    // Said here and now: a panic that aborts (in a drop while unwinding, say) gets no other chance.
    if log::log_enabled!(log::Level::Error) {
        say(worker, place.as_deref().unwrap_or("an unknown place"), &text);
    } else {
        previous(info);
    }
    if let Role::Adopted { report, .. } = role {
        let mut failure =
            Failure::new(ErrorCategory::Panic, format!("panicked on an adopted thread: {text}"));
        failure.place = place;
        report(Report::Failed(failure));
    } else {
        let _ = PLACE.try_with(|noted| noted.replace(place));
    }
}

fn say(worker: &str, place: &str, text: &str) {
    let trace = Backtrace::capture();
    if trace.status() == BacktraceStatus::Captured {
        log::error!("{worker}: panicked at {place}: {text}\n{trace}");
    } else {
        log::error!("{worker}: panicked at {place}: {text}");
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::host::identity::Identity;

    fn as_module() {
        install_hook();
        let role = Role::Module { worker: "m".into() };
        identity::assume(Identity { realm: 0, role, requests: Arc::default() });
    }

    #[test]
    fn a_panic_becomes_text_with_its_place() {
        as_module();
        let failure = guarded("start", || panic!("no {}", "port")).unwrap_err();
        assert_eq!(failure.category, ErrorCategory::Panic);
        assert_eq!(failure.message, "panicked in start: no port");
        assert!(failure.place.unwrap().starts_with("src/host/panics.rs:"));
        assert_eq!(guarded("start", || 7), Ok(7));
    }

    #[test]
    fn a_panic_that_is_passed_on_stays_as_it_was() {
        let mut failure = Failure::new(ErrorCategory::Panic, "panicked in start: boom");
        failure.place = Some("elsewhere.rs:1:2".to_owned());
        let passed = failure.clone();
        assert_eq!(guarded("health", move || pass_on(passed)), Err::<(), _>(failure));
    }

    #[test]
    fn a_payload_that_is_no_text_is_said_to_be_none() {
        as_module();
        let failure = guarded("stop", || panic::panic_any(42)).unwrap_err();
        assert_eq!(failure.message, "panicked in stop: a panic with a payload that is no text");
    }

    #[test]
    fn a_payload_that_panics_when_dropped_is_contained() {
        struct Trap;
        impl Drop for Trap {
            fn drop(&mut self) {
                panic!("dropped");
            }
        }
        as_module();
        assert!(guarded("drop", || panic::panic_any(Trap)).is_err());
    }
}
