//! What a plugin is handed of us: the callbacks of one incarnation, and sinks for its texts. A
//! callback never unwinds, never blocks but to wait for the stop, and means nothing after the end.

#![expect(unsafe_code, reason = "the plugin hands over raw pointers")]

use std::borrow::Cow;
use std::ffi::c_void;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use crate::abi::{self, Host, Sink, Str};
use crate::error::{ErrorCategory, Failure};
use crate::host::identity::{self, Identity};
use crate::host::panics::guarded;
use crate::module::{EndpointInfo, EndpointType, ModuleContext};

/// The most bytes that are kept of a text.
pub(super) const MAX_TEXT: usize = 64 << 10;
/// The longest target of a log line, name or address of an endpoint.
const MAX_WORD: usize = 1024;

/// One incarnation, as a plugin's callbacks reach it. Never freed, since a thread of the plugin may
/// call at any time; after the incarnation's end it is empty.
pub(super) struct Incarnation {
    host: Host,
    state: Mutex<State>,
}

struct State {
    /// None before the first and after the last call of the plugin.
    life: Option<Life>,
    /// What it reported when it was destroyed.
    last_words: Option<Failure>,
    destroying: bool,
}

#[derive(Clone)]
struct Life {
    ctx: ModuleContext,
    identity: Option<Arc<Identity>>,
}

// SAFETY: the pointer in `host` leads to this very value, and what changes is behind the lock.
unsafe impl Sync for Incarnation {}

impl Incarnation {
    /// The callbacks of the incarnation that the calling thread belongs to.
    pub(super) fn new(ctx: ModuleContext) -> &'static Self {
        let host = Host {
            struct_size: size_of::<Host>() as u32,
            abi_major: abi::MAJOR,
            abi_minor: abi::MINOR,
            ctx: std::ptr::null_mut(),
            log_max_level: log::max_level() as u32,
            reserved: 0,
            incarnation: ctx.incarnation(),
            log: Some(log_line),
            stop_requested: Some(stop_requested),
            wait_stop: Some(wait_stop),
            report_failure: Some(report_failure),
            report_finished: Some(report_finished),
            heartbeat: Some(heartbeat),
            publish_endpoint: Some(publish_endpoint),
        };
        let life = Some(Life { ctx, identity: identity::current() });
        let state = Mutex::new(State { life, last_words: None, destroying: false });
        let at = Box::into_raw(Box::new(Self { host, state }));
        // SAFETY: nobody else knows it yet, and it is never freed.
        unsafe {
            (*at).host.ctx = at.cast();
            &*at
        }
    }

    pub(super) fn host(&self) -> *const Host {
        &raw const self.host
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The plugin is about to destroy its instance: a failure it reports now is that call's own.
    pub(super) fn begin_end(&self) {
        self.state().destroying = true;
    }

    /// No more is heard of it. What it reported while it was destroyed.
    pub(super) fn end(&self) -> Option<Failure> {
        let (life, words) = {
            let mut state = self.state();
            (state.life.take(), state.last_words.take())
        };
        drop(life);
        words
    }
}

/// The incarnation that a plugin calls back.
fn called<'a>(ctx: *mut c_void) -> Option<&'a Incarnation> {
    // SAFETY: what a plugin hands back is null or what it was handed, which lives for ever.
    unsafe { ctx.cast::<Incarnation>().as_ref() }
}

/// Does what a callback is for, unless its incarnation is over. Nothing leaves it.
fn with<T>(ctx: *mut c_void, over: T, work: impl FnOnce(&Incarnation, Life) -> T) -> T {
    let Some(incarnation) = called(ctx) else { return over };
    let life = incarnation.state().life.clone();
    let Some(life) = life else { return over };
    // Whatever thread of the plugin's this is, for us it is the worker's.
    let identity = life.identity.clone();
    let _lent = identity.as_ref().map(identity::lend);
    guarded("a callback of the host", || work(incarnation, life)).unwrap_or(over)
}

unsafe extern "C" fn log_line(ctx: *mut c_void, level: u32, target: Str, message: Str) {
    let level = match level {
        0 => return,
        1 => log::Level::Error,
        2 => log::Level::Warn,
        3 => log::Level::Info,
        4 => log::Level::Debug,
        _ => log::Level::Trace,
    };
    if level > log::max_level() {
        return;
    }
    let Some(incarnation) = called(ctx) else { return };
    // A line that comes too late is told as nobody's.
    let identity = incarnation.state().life.as_ref().and_then(|life| life.identity.clone());
    let _lent = identity.as_ref().map(identity::lend);
    let _ = guarded("the logger", || {
        let (target, message) = (text(target, MAX_WORD), text(message, MAX_TEXT));
        log::log!(target: &target, level, "{message}");
    });
}

unsafe extern "C" fn stop_requested(ctx: *mut c_void) -> i32 {
    with(ctx, 1, |_, life| i32::from(life.ctx.stop_token().is_stopped()))
}

unsafe extern "C" fn wait_stop(ctx: *mut c_void, timeout_ms: u64) -> i32 {
    with(ctx, 1, |_, life| {
        let token = life.ctx.stop_token().clone();
        // The context is not to be kept for as long as this may take.
        drop(life);
        if timeout_ms == u64::MAX {
            token.wait_stopped();
            return 1;
        }
        i32::from(token.wait(Duration::from_millis(timeout_ms)))
    })
}

unsafe extern "C" fn report_failure(ctx: *mut c_void, message: Str) {
    with(ctx, (), |incarnation, life| {
        let failure = failure_of(ErrorCategory::Crash, &text(message, MAX_TEXT));
        let mut state = incarnation.state();
        if state.destroying {
            state.last_words = Some(failure);
        } else {
            drop(state);
            life.ctx.fail_with(failure);
        }
    });
}

unsafe extern "C" fn report_finished(ctx: *mut c_void) {
    with(ctx, (), |_, life| life.ctx.complete());
}

/// Watchdogs are to come; until then a heartbeat is heard and means nothing.
unsafe extern "C" fn heartbeat(_ctx: *mut c_void) {}

unsafe extern "C" fn publish_endpoint(ctx: *mut c_void, name: Str, kind: Str, address: Str) {
    with(ctx, (), |_, life| {
        // One byte more than is taken, so that a longer one is refused rather than cut.
        let [name, kind, address] = [name, kind, address].map(|word| text(word, MAX_WORD + 1));
        match endpoint_type(&kind) {
            Some(kind) if !name.is_empty() && !address.is_empty() => {
                life.ctx.publish(EndpointInfo::new(name, kind, address));
            }
            Some(_) => log::warn!("the plugin publishes an endpoint without name or address"),
            None => log::warn!("the plugin publishes {name:?} as {kind:?}, which is no type"),
        }
    });
}

fn endpoint_type(word: &str) -> Option<EndpointType> {
    let types = [
        EndpointType::Http,
        EndpointType::Grpc,
        EndpointType::Tcp,
        EndpointType::Unix,
        EndpointType::Function,
    ];
    types.into_iter().find(|kind| kind.as_str() == word)
}

/// A text of the plugin's, mended where it is not UTF-8, and cut where it is too long.
fn text<'c>(text: Str, most: usize) -> Cow<'c, str> {
    if text.ptr.is_null() {
        return Cow::Borrowed("");
    }
    // SAFETY: the plugin's texts are valid during the call, and no callback keeps them.
    let bytes = unsafe { std::slice::from_raw_parts(text.ptr, text.len.min(most)) };
    String::from_utf8_lossy(bytes)
}

/// A text for a plugin, which it must not keep.
pub(super) fn borrowed(text: &str) -> Str {
    Str { ptr: text.as_ptr(), len: text.len() }
}

/// What a plugin says of a failure. The last line may tell its category, and that it is permanent;
/// of a panic the last line before that may tell the place.
pub(super) fn failure_of(category: ErrorCategory, text: &str) -> Failure {
    let tag = text.rsplit_once('\n').and_then(|(rest, last)| Some((rest, tag_of(last)?)));
    let (text, (category, permanent)) = tag.unwrap_or((text, (category, false)));
    let placed = text.rsplit_once("\nat ").filter(|(_, place)| !place.contains('\n'));
    let mut failure = match placed {
        Some((message, place)) if category == ErrorCategory::Panic => {
            let mut failure = Failure::new(category, message);
            failure.place = Some(place.to_owned()).filter(|place| !place.is_empty());
            failure
        }
        Some(_) | None => Failure::new(category, text),
    };
    failure.permanent = permanent;
    failure
}

/// A line such as `[network]` or `[configuration permanent]`.
fn tag_of(line: &str) -> Option<(ErrorCategory, bool)> {
    let words = line.strip_prefix('[')?.strip_suffix(']')?;
    let (word, permanent) = match words.strip_suffix(" permanent") {
        Some(word) => (word, true),
        None => (words, false),
    };
    Some((serde_json::from_value(word.into()).ok()?, permanent))
}

/// What a plugin puts into a sink, up to a limit.
pub(super) struct Collected {
    bytes: Vec<u8>,
    most: usize,
    /// There was more.
    pub(super) overflowed: bool,
}

impl Collected {
    pub(super) fn new(most: usize) -> Self {
        Self { bytes: Vec::new(), most, overflowed: false }
    }

    /// The sink that fills it, for one call.
    pub(super) fn sink(&mut self) -> Sink {
        Sink { ctx: (&raw mut *self).cast(), put: Some(put) }
    }

    pub(super) fn into_bytes(self) -> Vec<u8> {
        self.bytes
    }

    /// As text, with a mark where it was cut.
    pub(super) fn into_text(self) -> String {
        let mut text = String::from_utf8_lossy(&self.bytes).into_owned();
        if self.overflowed {
            text.push_str(" ... (cut)");
        }
        text
    }
}

unsafe extern "C" fn put(ctx: *mut c_void, bytes: *const u8, len: usize) {
    // SAFETY: the sink belongs to the call that the plugin is in, on whose stack this is.
    let Some(collected) = (unsafe { ctx.cast::<Collected>().as_mut() }) else { return };
    if bytes.is_null() {
        return;
    }
    let room = collected.most - collected.bytes.len();
    collected.overflowed |= len > room;
    // SAFETY: the plugin's bytes are valid during the call.
    let bytes = unsafe { std::slice::from_raw_parts(bytes, len.min(room)) };
    collected.bytes.extend_from_slice(bytes);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_lines_tell_category_and_place() {
        let said = |category, text: &str| {
            let Failure { category, message, place, permanent, .. } = failure_of(category, text);
            (category, message, place, permanent)
        };
        let (crash, panic) = (ErrorCategory::Crash, ErrorCategory::Panic);
        let place = Some("src/lib.rs:4:5".to_owned());
        let panicked = (panic, "boom\ntwice".to_owned(), place, false);
        assert_eq!(said(panic, "boom\ntwice\nat src/lib.rs:4:5"), panicked);
        assert_eq!(said(crash, "boom\ntwice\nat src/lib.rs:4:5\n[panic]"), panicked);
        assert_eq!(said(crash, "boom\nat \n[panic]"), (panic, "boom".into(), None, false));
        assert_eq!(said(panic, "at a\nloss"), (panic, "at a\nloss".into(), None, false));
        let network = (ErrorCategory::Network, "no\nat a.c:1".to_owned(), None, false);
        assert_eq!(said(crash, "no\nat a.c:1\n[network]"), network);
        for (line, permanent) in [("[configuration]", false), ("[configuration permanent]", true)] {
            let config = (ErrorCategory::Configuration, "no".into(), None, permanent);
            assert_eq!(said(crash, &format!("no\n{line}")), config);
        }
        // Only the last line is one.
        assert_eq!(
            said(crash, "no\n[network]\n[crash]"),
            (crash, "no\n[network]".into(), None, false)
        );
        for plain in ["", "plain", "at home", "no\nat home", "[network]", "a\nb", "no\n[nonsense]"]
        {
            assert_eq!(said(crash, plain), (crash, plain.to_owned(), None, false));
        }
    }

    #[test]
    fn a_sink_keeps_so_much_and_marks_the_cut() {
        let mut collected = Collected::new(4);
        let sink = collected.sink();
        let put = sink.put.unwrap();
        for piece in ["ab", "", "cde", "f"] {
            // SAFETY: the sink and the bytes outlive the call.
            unsafe { put(sink.ctx, piece.as_ptr(), piece.len()) };
        }
        // SAFETY: both nulls are answered by nothing.
        unsafe {
            put(sink.ctx, std::ptr::null(), 7);
            put(std::ptr::null_mut(), "x".as_ptr(), 1);
        }
        assert_eq!(collected.into_text(), "abcd ... (cut)");
    }

    #[test]
    fn callbacks_without_their_ctx_do_nothing() {
        let (ctx, text) = (std::ptr::null_mut(), borrowed("x"));
        let nothing = Str { ptr: std::ptr::null(), len: 7 };
        // SAFETY: null is what they are to survive.
        unsafe {
            log_line(ctx, 1, text, nothing);
            report_failure(ctx, nothing);
            report_finished(ctx);
            heartbeat(ctx);
            publish_endpoint(ctx, text, nothing, text);
            assert_eq!((stop_requested(ctx), wait_stop(ctx, u64::MAX)), (1, 1));
        }
    }
}
