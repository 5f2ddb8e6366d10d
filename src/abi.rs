//! The plugin ABI as Rust sees it: `include/hsu_module.h`, member by member. Plain layouts, shared
//! by the loader and by what `export_module!` makes of a module.

use std::ffi::{c_char, c_void};
use std::mem::offset_of;

/// What a descriptor begins with.
pub const MAGIC: u64 = u64::from_ne_bytes(*b"HSUMODUL");
/// A library of another major version is refused.
pub const MAJOR: u16 = 1;
/// A library of a higher minor version is accepted: of it only what is known here is read.
pub const MINOR: u16 = 0;
/// The symbol looked for when nobody names another.
pub const DEFAULT_SYMBOL: &str = "hsu_module_descriptor";

/// The library's panics end the process.
pub const FLAG_PANIC_ABORT: u64 = 1;
/// At most one handle at a time.
pub const FLAG_SINGLE_INSTANCE: u64 = 2;

/// Done; healthy.
pub const OK: i32 = 0;
/// The configuration is wrong.
pub const CONFIG_REJECTED: i32 = 1;
/// An error; not healthy.
pub const FAILED: i32 = 2;
/// The instance is broken.
pub const PANICKED: i32 = 3;
/// The other side broke a rule.
pub const MISUSED: i32 = 4;
/// There is no such function.
pub const UNSUPPORTED: i32 = 5;

/// Borrowed text, valid during the call.
#[derive(Clone, Copy, Debug)]
#[repr(C)]
pub struct Str {
    /// Its first byte; may be null when `len` is 0.
    pub ptr: *const u8,
    /// Its length in bytes.
    pub len: usize,
}

/// Takes text, piece by piece, during the call.
#[derive(Clone, Copy, Debug)]
#[repr(C)]
pub struct Sink {
    /// The first argument of `put`.
    pub ctx: *mut c_void,
    /// Appends a copy of these bytes.
    pub put: Option<unsafe extern "C" fn(*mut c_void, *const u8, usize)>,
}

/// Asks for or tells something without an answer in words.
pub type Notify = unsafe extern "C" fn(*mut c_void);

/// What the host offers to one incarnation.
#[derive(Clone, Copy, Debug)]
#[repr(C)]
pub struct Host {
    /// The size of the host's version of this.
    pub struct_size: u32,
    /// [`MAJOR`] of the host.
    pub abi_major: u16,
    /// [`MINOR`] of the host.
    pub abi_minor: u16,
    /// The first argument of the functions.
    pub ctx: *mut c_void,
    /// 0 off, 1 error, to 5 trace.
    pub log_max_level: u32,
    /// 0.
    pub reserved: u32,
    /// Which life of the worker this is.
    pub incarnation: u64,
    /// Level, target, message.
    pub log: Option<unsafe extern "C" fn(*mut c_void, u32, Str, Str)>,
    /// 1 once the end is asked for.
    pub stop_requested: Option<unsafe extern "C" fn(*mut c_void) -> i32>,
    /// Waits at most so many milliseconds for that.
    pub wait_stop: Option<unsafe extern "C" fn(*mut c_void, u64) -> i32>,
    /// The service died inside.
    pub report_failure: Option<unsafe extern "C" fn(*mut c_void, Str)>,
    /// The work is done.
    pub report_finished: Option<Notify>,
    /// Feeds the watchdog.
    pub heartbeat: Option<Notify>,
    /// Name, type, address.
    pub publish_endpoint: Option<unsafe extern "C" fn(*mut c_void, Str, Str, Str)>,
}

/// One module of a library.
#[derive(Clone, Copy, Debug)]
#[repr(C)]
pub struct Descriptor {
    /// [`MAGIC`].
    pub magic: u64,
    /// The size of the library's version of this.
    pub struct_size: u32,
    /// [`MAJOR`] of the library.
    pub abi_major: u16,
    /// [`MINOR`] of the library.
    pub abi_minor: u16,
    /// [`FLAG_PANIC_ABORT`], [`FLAG_SINGLE_INSTANCE`].
    pub flags: u64,
    /// Required.
    pub name: *const c_char,
    /// Required.
    pub version: *const c_char,
    /// One line for people, or null.
    pub description: *const c_char,
    /// Who wrote it, or null.
    pub author: *const c_char,
    /// The compiler, or null.
    pub built_with: *const c_char,
    /// Makes an instance.
    pub create: Option<Create>,
    /// Hands it its configuration, as JSON.
    pub initialize: Option<unsafe extern "C" fn(*mut c_void, Str, *const Sink) -> i32>,
    /// Brings it up.
    pub start: Option<unsafe extern "C" fn(*mut c_void, *const Sink) -> i32>,
    /// Brings it down, within so many milliseconds.
    pub stop: Option<unsafe extern "C" fn(*mut c_void, u64, *const Sink) -> i32>,
    /// [`OK`] while it is.
    pub is_healthy: Option<unsafe extern "C" fn(*mut c_void, *const Sink) -> i32>,
    /// What it is, as JSON.
    pub get_info: Option<unsafe extern "C" fn(*mut c_void, *const Sink) -> i32>,
    /// Ends and frees it.
    pub destroy: Option<Notify>,
    /// Calls one of its functions; may be null.
    pub call: Option<Call>,
}

/// See [`Descriptor::create`].
pub type Create = unsafe extern "C" fn(*const Host, Str, *mut *mut c_void, *const Sink) -> i32;
/// See [`Descriptor::call`].
pub type Call = unsafe extern "C" fn(*mut c_void, Str, *const u8, usize, *const Sink) -> i32;

// The layout is the interface.
#[cfg(target_pointer_width = "64")]
const _: () = {
    assert!(size_of::<Str>() == 16 && size_of::<Sink>() == 16);
    assert!(size_of::<Host>() == 88);
    assert!(offset_of!(Host, ctx) == 8 && offset_of!(Host, log_max_level) == 16);
    assert!(offset_of!(Host, incarnation) == 24 && offset_of!(Host, log) == 32);
    assert!(offset_of!(Host, publish_endpoint) == 80);
    assert!(size_of::<Descriptor>() == 128);
    assert!(offset_of!(Descriptor, struct_size) == 8 && offset_of!(Descriptor, flags) == 16);
    assert!(offset_of!(Descriptor, name) == 24 && offset_of!(Descriptor, create) == 64);
    assert!(offset_of!(Descriptor, call) == 120);
};
