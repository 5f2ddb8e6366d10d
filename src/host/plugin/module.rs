//! A module behind the C table, as the runner knows modules: calls go over, results and texts come
//! back as what a native module would have answered.

#![expect(unsafe_code, reason = "calls into the plugin")]

use std::ffi::c_void;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

use serde::Deserialize;

use super::host_side::{Collected, Incarnation, MAX_TEXT, borrowed, failure_of};
use super::load::{self, Live, Loaded};
use super::refused;
use crate::abi::{self, Sink};
use crate::error::{Error, ErrorCategory, Failure};
use crate::host::panics::pass_on;
use crate::host::runner::functions::MAX_PAYLOAD;
use crate::module::{
    EndpointInfo, Health, ModuleConfig, ModuleContext, ModuleInfo, ModuleResult, WorkerModule,
};

/// A module of the library at `path`, which is loaded first if it is not yet. The plugin itself
/// makes its instance when it is initialized.
pub(crate) fn instance(
    path: &Path,
    symbol: &str,
    prober: Option<&Path>,
) -> Result<Box<dyn WorkerModule>, Failure> {
    let loaded = load::open(path, symbol, prober)?;
    Ok(Box::new(PluginModule::new(loaded.enter()?)))
}

/// An instance in a plugin.
pub(super) struct PluginModule {
    /// After `created`, which is what its drop relies on.
    created: Option<Created>,
    live: Live,
}

/// What `create` gave.
struct Created {
    handle: Handle,
    incarnation: &'static Incarnation,
    loaded: Arc<Loaded>,
    /// It has panicked, and is only to be destroyed. The runner knows that and calls nothing more;
    /// who calls its functions, on threads of their own, learns it here.
    broken: Arc<AtomicBool>,
}

/// What a plugin knows its instance by.
#[derive(Clone, Copy)]
struct Handle(*mut c_void);

// SAFETY: the only call that is made on any thread is `call`, for which the ABI allows it.
unsafe impl Send for Handle {}
// SAFETY: as above.
unsafe impl Sync for Handle {}

impl Handle {
    /// For closures: the whole of it, not the pointer alone, is what may be sent.
    fn get(self) -> *mut c_void {
        self.0
    }
}

impl PluginModule {
    pub(super) fn new(live: Live) -> Self {
        Self { created: None, live }
    }

    /// Lets the plugin make its instance.
    pub(super) fn create(&mut self, ctx: &ModuleContext) -> ModuleResult {
        let loaded = Arc::clone(&self.live.0);
        let incarnation = Incarnation::new(ctx.clone());
        let mut handle = std::ptr::null_mut();
        let (create, worker) = (loaded.calls.create, borrowed(ctx.worker_id()));
        let (code, text) = collect(MAX_TEXT, |sink| {
            // SAFETY: the host's structure lives for ever, the others longer than the call.
            unsafe { create(incarnation.host(), worker, &raw mut handle, sink) }
        });
        if code != abi::OK {
            incarnation.end();
            return outcome("create", code, text).map(drop);
        }
        if handle.is_null() {
            incarnation.end();
            let failure = refused(&loaded.path, "create succeeded, and gave no handle");
            return Err(Error::of_failure(ctx.worker_id(), &failure.permanent()).into());
        }
        let (handle, broken) = (Handle(handle), Arc::default());
        self.created = Some(Created { handle, incarnation, loaded, broken });
        Ok(())
    }

    fn created(&self) -> ModuleResult<&Created> {
        self.created.as_ref().ok_or_else(|| "the plugin has made no instance".into())
    }
}

impl Created {
    /// Calls the plugin with a sink for text, and reads what came of it.
    fn call(
        &self,
        name: &str,
        call: impl FnOnce(*mut c_void, *const Sink) -> i32,
    ) -> ModuleResult<Vec<u8>> {
        let (code, text) = self.collect(call);
        outcome(name, code, text)
    }

    /// Calls the plugin with a sink for text, on the worker's own thread. After a panic the
    /// instance is broken.
    fn collect(&self, call: impl FnOnce(*mut c_void, *const Sink) -> i32) -> (i32, Collected) {
        let (code, text) = collect(MAX_TEXT, |sink| call(self.handle.get(), sink));
        if code == abi::PANICKED {
            self.broken.store(true, Ordering::Release);
        }
        (code, text)
    }

    /// The functions that the plugin published are called by their names. A panic in one of them is
    /// counted, and breaks nothing else.
    fn export(&self, ctx: &ModuleContext) {
        let Some(call) = self.loaded.calls.call else { return };
        let (handle, broken) = (self.handle, Arc::clone(&self.broken));
        ctx.export_rest(move |name, payload| {
            if broken.load(Ordering::Acquire) {
                let message = "it has panicked and is about to end";
                return Err(Error::new(ErrorCategory::NotRunning, message).into());
            }
            let (code, reply) = collect(MAX_PAYLOAD, |sink| {
                // SAFETY: the runner calls functions between `start` and `stop` alone, from any
                // thread, which `call` allows; name, payload and sink outlive the call.
                unsafe { call(handle.get(), borrowed(name), payload.as_ptr(), payload.len(), sink) }
            });
            match code {
                abi::OK if reply.overflowed => {
                    let message =
                        format!("the reply is longer than the {MAX_PAYLOAD} bytes allowed");
                    Err(Error::new(ErrorCategory::Refused, message).into())
                }
                abi::UNSUPPORTED => {
                    let mut text = failure_of(ErrorCategory::Crash, &reply.into_text()).message;
                    if text.is_empty() {
                        text = format!("it exports no function {name:?}");
                    }
                    Err(Error::new(ErrorCategory::UnknownFunction, text).into())
                }
                code => outcome(&format!("function {name:?}"), code, reply),
            }
        });
    }
}

/// Makes a call with a sink, and gives its result with what it put there.
fn collect(most: usize, call: impl FnOnce(*const Sink) -> i32) -> (i32, Collected) {
    let mut collected = Collected::new(most);
    let sink = collected.sink();
    let code = call(&raw const sink);
    (code, collected)
}

/// What a result means. A panic that the plugin caught goes on as ours, so that it is treated as
/// any module's.
fn outcome(callback: &str, code: i32, collected: Collected) -> ModuleResult<Vec<u8>> {
    if code == abi::OK && !collected.overflowed {
        return Ok(collected.into_bytes());
    }
    let mut text = collected.into_text();
    if text.is_empty() {
        text = format!("{callback} returned {code} and no text");
    }
    let failure = match code {
        abi::OK => {
            let message = format!("{callback} gave more than the {MAX_TEXT} bytes allowed");
            Failure::new(ErrorCategory::Plugin, message)
        }
        abi::CONFIG_REJECTED => {
            let message = failure_of(ErrorCategory::Configuration, &text).message;
            Failure::new(ErrorCategory::Configuration, message).permanent()
        }
        abi::PANICKED => {
            let told = failure_of(ErrorCategory::Panic, &text);
            pass_on(Failure { category: ErrorCategory::Panic, ..told })
        }
        abi::MISUSED => {
            let message = format!("the plugin says that {callback} broke a rule: {text}");
            Failure::new(ErrorCategory::Plugin, message)
        }
        abi::UNSUPPORTED => {
            let message = format!("the plugin does not support {callback}: {text}");
            Failure::new(ErrorCategory::Plugin, message)
        }
        // The results that are unknown count as the one that says no more.
        _ => failure_of(ErrorCategory::Crash, &text),
    };
    Err(Error::from(&failure).into())
}

impl WorkerModule for PluginModule {
    fn initialize(&mut self, ctx: &ModuleContext, config: &ModuleConfig) -> ModuleResult {
        self.create(ctx)?;
        let created = self.created()?;
        let initialize = created.loaded.calls.initialize;
        let json = config.as_json().to_string();
        // SAFETY: the handle is the plugin's own, and text and sink outlive the call.
        created.call("initialize", |handle, sink| unsafe {
            initialize(handle, borrowed(&json), sink)
        })?;
        created.export(ctx);
        Ok(())
    }

    fn start(&mut self, _ctx: &ModuleContext) -> ModuleResult {
        let created = self.created()?;
        let start = created.loaded.calls.start;
        // SAFETY: the handle is the plugin's own, and the sink outlives the call.
        created.call("start", |handle, sink| unsafe { start(handle, sink) }).map(drop)
    }

    fn stop(&mut self, ctx: &ModuleContext) -> ModuleResult {
        let created = self.created()?;
        let stop = created.loaded.calls.stop;
        let left = ctx.stop_token().deadline().map_or(u64::MAX, |deadline| {
            let left = deadline.saturating_duration_since(Instant::now());
            u64::try_from(left.as_millis()).unwrap_or(u64::MAX)
        });
        // SAFETY: the handle is the plugin's own, and the sink outlives the call.
        created.call("stop", |handle, sink| unsafe { stop(handle, left, sink) }).map(drop)
    }

    fn health(&self) -> Health {
        let Ok(created) = self.created() else { return Health::unhealthy("not initialized") };
        let is_healthy = created.loaded.calls.is_healthy;
        // SAFETY: the handle is the plugin's own, and the sink outlives the call.
        let (code, reason) = created.collect(|handle, sink| unsafe { is_healthy(handle, sink) });
        match code {
            abi::OK | abi::UNSUPPORTED => Health::healthy(),
            abi::PANICKED => {
                let told = failure_of(ErrorCategory::Panic, &reason.into_text());
                pass_on(Failure { category: ErrorCategory::Panic, ..told })
            }
            code => match failure_of(ErrorCategory::Health, &reason.into_text()).message {
                text if text.is_empty() && code == abi::FAILED => false.into(),
                text if text.is_empty() => {
                    Health::unhealthy(format!("is_healthy returned {code}; 0 would be healthy"))
                }
                text => Health::unhealthy(text),
            },
        }
    }

    fn info(&self) -> ModuleInfo {
        let known = self.live.0.description.info();
        let Ok(created) = self.created() else { return known };
        let get_info = created.loaded.calls.get_info;
        // SAFETY: the handle is the plugin's own, and the sink outlives the call.
        let (code, json) = created.collect(|handle, sink| unsafe { get_info(handle, sink) });
        if code == abi::UNSUPPORTED {
            return known;
        }
        let told = outcome("get_info", code, json).and_then(|json| Ok(read_info(&json, known)?));
        // There is no other way to say that there is no answer.
        told.unwrap_or_else(|error| pass_on(Failure::from_module_error("", error.as_ref())))
    }
}

/// What `get_info` may say; the rest is as the descriptor has it.
#[derive(Deserialize)]
struct Told {
    name: Option<String>,
    version: Option<String>,
    description: Option<String>,
    author: Option<String>,
    #[serde(default)]
    endpoints: Vec<EndpointInfo>,
}

fn read_info(json: &[u8], known: ModuleInfo) -> Result<ModuleInfo, Error> {
    let told: Told = serde_json::from_slice(json).map_err(|error| {
        Error::new(ErrorCategory::Plugin, format!("get_info gave what is not its JSON: {error}"))
    })?;
    Ok(ModuleInfo {
        name: told.name.unwrap_or(known.name),
        version: told.version.unwrap_or(known.version),
        description: told.description.unwrap_or(known.description),
        author: told.author.unwrap_or(known.author),
        endpoints: told.endpoints,
    })
}

impl Drop for Created {
    fn drop(&mut self) {
        self.incarnation.begin_end();
        let destroy = self.loaded.calls.destroy;
        // SAFETY: the handle is the plugin's own, and this is the last that is done with it.
        unsafe { destroy(self.handle.get()) };
        if let Some(words) = self.incarnation.end()
            && !std::thread::panicking()
        {
            pass_on(words);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::{backend, descriptor};
    use super::*;
    use crate::abi::{Descriptor, Host, Str};
    use crate::host::panics::guarded;

    unsafe extern "C" fn create(
        _: *const Host,
        _: Str,
        handle: *mut *mut c_void,
        _: *const Sink,
    ) -> i32 {
        // SAFETY: the host gives a place for the handle, which nobody looks into.
        unsafe { handle.write(std::ptr::dangling_mut()) };
        abi::OK
    }

    unsafe extern "C" fn initialize(_: *mut c_void, _: Str, _: *const Sink) -> i32 {
        abi::OK
    }

    unsafe extern "C" fn sound(_: *mut c_void, _: *const Sink) -> i32 {
        abi::OK
    }

    unsafe extern "C" fn panicked(_: *mut c_void, _: *const Sink) -> i32 {
        abi::PANICKED
    }

    unsafe extern "C" fn stop(_: *mut c_void, _: u64, _: *const Sink) -> i32 {
        abi::OK
    }

    unsafe extern "C" fn destroy(_: *mut c_void) {}

    /// Panics when it is called with a payload.
    unsafe extern "C" fn call(
        _: *mut c_void,
        _: Str,
        _: *const u8,
        len: usize,
        _: *const Sink,
    ) -> i32 {
        if len == 0 { abi::OK } else { abi::PANICKED }
    }

    const DESCRIPTOR: Descriptor = Descriptor {
        magic: abi::MAGIC,
        struct_size: size_of::<Descriptor>() as u32,
        abi_major: abi::MAJOR,
        abi_minor: abi::MINOR,
        flags: 0,
        name: c"m".as_ptr(),
        version: c"1".as_ptr(),
        description: std::ptr::null(),
        author: std::ptr::null(),
        built_with: std::ptr::null(),
        create: Some(create),
        initialize: Some(initialize),
        start: Some(sound),
        stop: Some(stop),
        is_healthy: Some(sound),
        get_info: Some(sound),
        destroy: Some(destroy),
        call: Some(call),
    };

    #[test]
    fn an_instance_that_has_panicked_is_called_no_more_but_a_call_may_panic() {
        for (descriptor, in_health) in [
            (Descriptor { is_healthy: Some(panicked), ..DESCRIPTOR }, true),
            (Descriptor { get_info: Some(panicked), ..DESCRIPTOR }, false),
        ] {
            // SAFETY: it is one.
            let (calls, description) = unsafe { descriptor::read(&raw const descriptor) }.unwrap();
            let loaded = Loaded::within(calls, description);
            let mut module = PluginModule::new(loaded.enter().unwrap());
            let backend = backend();
            let ctx = ModuleContext::new(backend.clone());
            let config = ModuleConfig::new("m", serde_json::json!({}));
            module.initialize(&ctx, &config).unwrap();
            let functions = backend.functions();
            let panic = functions.call("f", b"x").unwrap_err();
            assert_eq!((panic.category, functions.panics()), (ErrorCategory::Panic, 1));
            assert_eq!(functions.call("f", b""), Ok(Vec::new()));
            let broken =
                guarded(
                    "it",
                    || {
                        if in_health { drop(module.health()) } else { drop(module.info()) }
                    },
                );
            assert_eq!(broken.unwrap_err().category, ErrorCategory::Panic);
            let refused = functions.call("f", b"").unwrap_err();
            assert_eq!(refused.category, ErrorCategory::NotRunning, "{refused}");
            assert_eq!(refused.message, "it has panicked and is about to end");
        }
    }
}
