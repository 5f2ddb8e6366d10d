//! What a plugin has of its host: the host's functions as safe calls, texts in both directions, and
//! the log.

#![expect(unsafe_code, reason = "the host's functions are C functions, and its texts pointers")]

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::sync::{PoisonError, RwLock};

use crate::abi::{self, Host, Sink, Str};
use crate::error::{ErrorCategory, Failure};
use crate::host::identity;
use crate::module::EndpointInfo;

/// The host, as one incarnation has it. Cheap to copy, usable from any thread, for ever.
#[derive(Clone, Copy)]
pub(super) struct Link(Host);

// SAFETY: the host's functions may be called on any thread, and its `ctx` is theirs alone.
unsafe impl Send for Link {}
// SAFETY: as above.
unsafe impl Sync for Link {}

impl Link {
    /// The host's offer; `None` when it is less than version 1.0 has.
    pub(super) fn new(host: *const Host) -> Option<Self> {
        // SAFETY: the host hands over a valid structure that begins with its size; alignment and
        // content of what is read are those of version 1.0, which no version changes.
        let size = unsafe { host.cast::<u32>().as_ref() }?;
        if (*size as usize) < size_of::<Host>() {
            return None;
        }
        // SAFETY: it is as large as what is read.
        let host = unsafe { *host };
        (host.abi_major == abi::MAJOR).then_some(Self(host))
    }

    pub(super) fn incarnation(&self) -> u64 {
        self.0.incarnation
    }

    fn log(&self, level: log::Level, target: &str, message: &str) {
        if let Some(log) = self.0.log {
            // SAFETY: the texts outlive the call.
            unsafe { log(self.0.ctx, level as u32, borrowed(target), borrowed(message)) };
        }
    }

    /// Waits until this incarnation is to end.
    pub(super) fn wait_stop(&self) -> bool {
        // A host without it never asks.
        let Some(wait_stop) = self.0.wait_stop else { return true };
        // SAFETY: the call takes the host's own pointer and a number.
        unsafe { wait_stop(self.0.ctx, u64::MAX) != 0 }
    }

    pub(super) fn report_failure(&self, text: &str) {
        if let Some(report) = self.0.report_failure {
            // SAFETY: the text outlives the call.
            unsafe { report(self.0.ctx, borrowed(text)) };
        }
    }

    pub(super) fn report_finished(&self) {
        if let Some(report) = self.0.report_finished {
            // SAFETY: the call takes the host's own pointer.
            unsafe { report(self.0.ctx) };
        }
    }

    pub(super) fn publish(&self, endpoint: &EndpointInfo) {
        let EndpointInfo { name, endpoint_type, address } = endpoint;
        if let Some(publish) = self.0.publish_endpoint {
            let kind = borrowed(endpoint_type.as_str());
            // SAFETY: the texts outlive the call.
            unsafe { publish(self.0.ctx, borrowed(name), kind, borrowed(address)) };
        }
    }
}

fn borrowed(text: &str) -> Str {
    Str { ptr: text.as_ptr(), len: text.len() }
}

/// The bytes behind a pointer from the other side, for as long as the call that brought it.
///
/// # Safety
/// They are valid for `'c`.
pub(super) unsafe fn bytes<'c>(ptr: *const u8, len: usize) -> &'c [u8] {
    if ptr.is_null() || len == 0 {
        return &[];
    }
    // SAFETY: as the caller says.
    unsafe { std::slice::from_raw_parts(ptr, len) }
}

/// A text from the host, copied where it had to be mended.
pub(super) fn text<'c>(text: Str) -> Cow<'c, str> {
    // SAFETY: the host's texts are valid during the call, and no shim keeps them.
    String::from_utf8_lossy(unsafe { bytes(text.ptr, text.len) })
}

/// Hands bytes to the host.
pub(super) fn put(sink: *const Sink, bytes: &[u8]) {
    // SAFETY: the host's sink is valid during the call, or null.
    let Some(sink) = (unsafe { sink.as_ref() }) else { return };
    if let Some(put) = sink.put {
        // SAFETY: the bytes outlive the call.
        unsafe { put(sink.ctx, bytes.as_ptr(), bytes.len()) };
    }
}

/// A failure as one text. The last lines tell a panic's place and, where it is not the usual one or
/// the message itself could be taken to name one, the category: see `hsu_sink` in the header.
pub(super) fn text_of(failure: &Failure) -> String {
    let Failure { category, message, place, permanent, .. } = failure;
    let permanent = if *permanent { " permanent" } else { "" };
    let usual = *category == ErrorCategory::Crash || *category == ErrorCategory::Health;
    if *category == ErrorCategory::Panic {
        let place = place.as_deref().unwrap_or_default();
        format!("{message}\nat {place}\n[{category}{permanent}]")
    } else if usual && permanent.is_empty() && !message.contains('\n') {
        message.clone()
    } else {
        format!("{message}\n[{category}{permanent}]")
    }
}

/// The hosts of the instances of this library, by the realm that their threads are known by.
static HOSTS: RwLock<Hosts> = RwLock::new(Hosts { instances: BTreeMap::new(), last: None });

struct Hosts {
    instances: BTreeMap<u64, Link>,
    /// The latest, for threads that are nobody's.
    last: Option<Link>,
}

pub(super) fn enter(realm: u64, link: Link) {
    let mut hosts = HOSTS.write().unwrap_or_else(PoisonError::into_inner);
    hosts.instances.insert(realm, link);
    hosts.last = Some(link);
}

pub(super) fn leave(realm: u64) {
    HOSTS.write().unwrap_or_else(PoisonError::into_inner).instances.remove(&realm);
}

/// Whose line it is that the current thread logs.
fn speaker() -> Option<Link> {
    let realm = identity::current().map(|identity| identity.realm);
    let hosts = HOSTS.read().unwrap_or_else(PoisonError::into_inner);
    realm.and_then(|realm| hosts.instances.get(&realm)).or(hosts.last.as_ref()).copied()
}

/// Sends the library's log lines to its host. Should the library have a logger already, that stays.
pub(super) fn install_logger(link: Link) {
    if log::set_logger(&Forwarder).is_ok() {
        let mut levels = log::LevelFilter::iter();
        let level = levels.nth(link.0.log_max_level as usize);
        log::set_max_level(level.unwrap_or(log::LevelFilter::Trace));
    }
}

struct Forwarder;

impl log::Log for Forwarder {
    fn enabled(&self, metadata: &log::Metadata<'_>) -> bool {
        metadata.level() <= log::max_level()
    }

    fn log(&self, record: &log::Record<'_>) {
        if let Some(link) = speaker() {
            link.log(record.level(), record.target(), &record.args().to_string());
        }
    }

    fn flush(&self) {}
}
