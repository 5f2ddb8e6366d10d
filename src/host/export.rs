//! The plugin's side of the ABI: a module behind C functions. The same runner as in the host calls
//! the module and catches its panics in here, since none could be caught beyond the border.

#![expect(unsafe_code, reason = "the C interface hands over raw pointers")]

mod link;

use std::ffi::{c_char, c_void};
use std::marker::PhantomData;
use std::sync::{Arc, Mutex, Once, TryLockError};
use std::time::{Duration, Instant};

use super::runner::{Backend, Instance, Life, Setting, Source};
use super::{Launch, ModuleSource, Report, Reporter, identity, panics, threads};
use crate::abi::{self, Descriptor, Host, Sink, Str};
use crate::error::{ErrorCategory, Failure};
use crate::module::{ModuleContext, ModuleFactory, ModuleRegistry, WorkerModule};
use link::Link;

/// The stack of each of a module's threads, as a worker has it by default.
const STACK: usize = 2 << 20;
/// The stack of the thread that waits for the stop.
const BRIDGE_STACK: usize = 128 << 10;

/// Exports a module from a shared library (`crate-type = ["cdylib"]`), to be run by
/// `module_type: plugin` in any build of the master.
///
/// ```
/// # use hsu_master::{ModuleContext, ModuleInfo, ModuleResult, WorkerModule, module_info};
/// #[derive(Default)]
/// struct Greeter;
///
/// impl WorkerModule for Greeter {
///     fn start(&mut self, _ctx: &ModuleContext) -> ModuleResult {
///         log::info!("hello");
///         Ok(())
///     }
///     fn info(&self) -> ModuleInfo {
///         module_info!()
///     }
/// }
///
/// hsu_master::export_module!(Greeter::default);
/// ```
///
/// `export_module!(symbol = polite_greeter, Greeter::default)` exports it under another symbol,
/// which a worker names as its `entry_point`: one library may have several modules. Name, version,
/// description and author are the crate's own.
///
/// Panics are caught inside the library, which must be built with `panic = "unwind"`; log lines go
/// to the host's log. Statics, the logger and the panic hook are the library's own.
#[macro_export]
macro_rules! export_module {
    (symbol = $symbol:ident, $factory:expr $(,)?) => {
        const _: () = {
            struct Exported;
            impl $crate::export::Export for Exported {
                fn factory() -> impl $crate::ModuleFactory {
                    $factory
                }
            }
            #[unsafe(no_mangle)]
            pub static $symbol: $crate::export::Exported = $crate::export::exported::<Exported>(
                concat!(env!("CARGO_PKG_NAME"), "\0"),
                concat!(env!("CARGO_PKG_VERSION"), "\0"),
                concat!(env!("CARGO_PKG_DESCRIPTION"), "\0"),
                concat!(env!("CARGO_PKG_AUTHORS"), "\0"),
            );
        };
    };
    ($factory:expr $(,)?) => {
        $crate::export_module!(symbol = hsu_module_descriptor, $factory);
    };
}

/// What `export_module!` implements for each module.
pub trait Export: 'static {
    /// Where its instances come from.
    fn factory() -> impl ModuleFactory;
}

/// A descriptor that can be a static.
#[repr(transparent)]
#[derive(Debug)]
pub struct Exported(Descriptor);

// SAFETY: it is never written, and its pointers lead to constants.
unsafe impl Sync for Exported {}

/// The descriptor of a module. The texts end in NUL.
pub const fn exported<E: Export>(
    name: &'static str,
    version: &'static str,
    description: &'static str,
    author: &'static str,
) -> Exported {
    Exported(Descriptor {
        magic: abi::MAGIC,
        struct_size: size_of::<Descriptor>() as u32,
        abi_major: abi::MAJOR,
        abi_minor: abi::MINOR,
        flags: if panics::CAN_CONTAIN { 0 } else { abi::FLAG_PANIC_ABORT },
        name: terminated(name),
        version: terminated(version),
        description: terminated(description),
        author: terminated(author),
        built_with: terminated(concat!("Rust, hsu-master ", env!("CARGO_PKG_VERSION"), "\0")),
        create: Some(create::<E>),
        initialize: Some(initialize),
        start: Some(start),
        stop: Some(stop),
        is_healthy: Some(is_healthy),
        get_info: Some(get_info),
        destroy: Some(destroy),
        call: Some(call),
    })
}

const fn terminated(text: &'static str) -> *const c_char {
    let bytes = text.as_bytes();
    assert!(!bytes.is_empty() && bytes[bytes.len() - 1] == 0, "the text must end in NUL");
    bytes.as_ptr().cast()
}

/// An instance, as the host knows it by its handle.
struct Handle {
    backend: Arc<Backend>,
    link: Link,
    realm: u64,
    /// For the worker's own thread, which is the only one that calls but for `call`.
    own: Mutex<Own>,
}

struct Own {
    life: Life,
    instance: Instance,
    ctx: ModuleContext,
}

struct Factory<E>(PhantomData<fn() -> E>);

impl<E: Export> ModuleFactory for Factory<E> {
    fn create(&self) -> Box<dyn WorkerModule> {
        E::factory().create()
    }
}

impl Handle {
    fn create(link: Link, worker: &str, factory: Arc<dyn ModuleFactory>) -> Result<Self, Failure> {
        let realm = identity::next_realm();
        link::enter(realm, link);
        let report: Reporter = Arc::new(move |report| tell(link, report));
        let launch = Launch {
            worker: worker.to_owned(),
            incarnation: link.incarnation(),
            module: ModuleSource::Native(String::new()),
            config: serde_json::Value::Null,
        };
        let setting = Setting {
            registry: ModuleRegistry::new(),
            realm,
            stack_size: STACK,
            panic_hook: true,
            contained: false,
            prober: None,
        };
        let backend = Arc::new(Backend::new(&launch, &setting, report));
        let life = Life { backend: Arc::clone(&backend), source: Source::Native(factory) };
        let mut instance = Instance::default();
        let lent = identity::lend(&backend.identity());
        let created = life.create(&mut instance);
        drop(lent);
        if let Err(failure) = created {
            link::leave(realm);
            return Err(failure);
        }
        let ctx = ModuleContext::new(backend.clone());
        let own = Mutex::new(Own { life, instance, ctx });
        Ok(Self { backend, link, realm, own })
    }

    /// Lets the stop token fire when the host asks for the stop.
    fn follow_the_hosts_stop(&self) -> Result<(), Failure> {
        let (link, backend) = (self.link, Arc::downgrade(&self.backend));
        let name = format!("{}-stop", self.link.incarnation());
        let called = name.clone();
        let wait = move || {
            let followed = threads::twice(&called, || {
                while backend.strong_count() > 0 {
                    threads::fail_point("bridge");
                    if link.wait_stop() {
                        if let Some(backend) = backend.upgrade() {
                            backend.fire(None);
                        }
                        return;
                    }
                }
            });
            if let Err(fault) = followed {
                link.report_failure(&link::text_of(&fault));
            }
        };
        threads::spawn(&name, BRIDGE_STACK, wait).map(drop).map_err(|error| {
            let message = format!("cannot start the thread that waits for the stop: {error}");
            Failure::new(ErrorCategory::ResourceLimit, message)
        })
    }
}

/// Tells the host what the module's context reports.
fn tell(link: Link, report: Report) {
    match report {
        Report::Endpoint(endpoint) => link.publish(&endpoint),
        Report::Failed(failure) => link.report_failure(&link::text_of(&failure)),
        Report::Completed => link.report_finished(),
        // Logged where it happened, hence in the host's log; the interface has no word for it.
        Report::TaskFailed(_) => {}
        // What the host learns from the results of its calls.
        Report::Launched
        | Report::Started { .. }
        | Report::Probed { .. }
        | Report::Informed(_)
        | Report::Presumed(_)
        | Report::Gone(_) => {}
    }
}

/// Once in a library: its log lines go to the host, and so does the word of a panic.
fn move_in(link: Link) {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        link::install_logger(link);
        // For threads that are nobody's; those of modules get the hook that is chained to it.
        std::panic::set_hook(Box::new(|info| {
            log::error!("a thread of the plugin {}", info.to_string().replacen('\n', " ", 1));
        }));
        panics::install_hook();
    });
}

/// The result of a call: its code, and the text of an error into the sink.
fn result(outcome: Result<(), Failure>, sink: *const Sink) -> i32 {
    let Err(failure) = outcome else { return abi::OK };
    link::put(sink, link::text_of(&failure).as_bytes());
    if failure.category == ErrorCategory::Configuration && failure.permanent {
        abi::CONFIG_REJECTED
    } else if failure.category == ErrorCategory::Panic {
        abi::PANICKED
    } else {
        abi::FAILED
    }
}

/// Calls into an instance on the worker's own thread. Whatever breaks stays inside.
fn enter(
    handle: *mut c_void,
    sink: *const Sink,
    work: impl FnOnce(&Handle, &mut Own) -> Result<(), Failure>,
) -> i32 {
    // SAFETY: the host hands back what `create` gave it and `destroy` has not taken yet.
    let Some(handle) = (unsafe { handle.cast::<Handle>().as_ref() }) else { return abi::MISUSED };
    let mut own = match handle.own.try_lock() {
        Ok(own) => own,
        Err(TryLockError::Poisoned(poisoned)) => poisoned.into_inner(),
        Err(TryLockError::WouldBlock) => return abi::MISUSED,
    };
    let _lent = identity::lend(&handle.backend.identity());
    let outcome = panics::guarded("the plugin's shim", || work(handle, &mut own));
    result(outcome.and_then(|outcome| outcome), sink)
}

unsafe extern "C" fn create<E: Export>(
    host: *const Host,
    worker: Str,
    handle: *mut *mut c_void,
    sink: *const Sink,
) -> i32 {
    let Some(link) = Link::new(host).filter(|_| !handle.is_null()) else { return abi::MISUSED };
    let outcome = panics::guarded("the plugin's shim", || {
        move_in(link);
        let factory = Arc::new(Factory::<E>(PhantomData));
        Handle::create(link, &link::text(worker), factory)
    });
    result(
        outcome.and_then(|made| made).map(|made| {
            let made = Box::into_raw(Box::new(made));
            // SAFETY: the host gives a place for the handle, and it is not null.
            unsafe { handle.write(made.cast()) };
        }),
        sink,
    )
}

unsafe extern "C" fn initialize(handle: *mut c_void, config: Str, sink: *const Sink) -> i32 {
    enter(handle, sink, |handle, own| {
        let config = serde_json::from_str(&link::text(config)).map_err(|error| {
            let message = format!("config: not JSON: {error}");
            Failure::new(ErrorCategory::Configuration, message).permanent()
        })?;
        handle.follow_the_hosts_stop()?;
        own.life.initialize(&mut own.instance, &own.ctx, config)
    })
}

unsafe extern "C" fn start(handle: *mut c_void, sink: *const Sink) -> i32 {
    enter(handle, sink, |_, own| own.life.try_start(&mut own.instance, &own.ctx))
}

unsafe extern "C" fn stop(handle: *mut c_void, timeout_ms: u64, sink: *const Sink) -> i32 {
    enter(handle, sink, |handle, own| {
        handle.backend.fire(Instant::now().checked_add(Duration::from_millis(timeout_ms)));
        own.life.stop(&mut own.instance, &own.ctx)
    })
}

unsafe extern "C" fn is_healthy(handle: *mut c_void, sink: *const Sink) -> i32 {
    enter(handle, sink, |_, own| {
        let health = own.life.health(&mut own.instance)?;
        let unwell = |reason: &str| Err(Failure::new(ErrorCategory::Health, reason));
        health.reason().map_or(Ok(()), unwell)
    })
}

unsafe extern "C" fn get_info(handle: *mut c_void, sink: *const Sink) -> i32 {
    enter(handle, sink, |_, own| {
        let info = own.life.info(&mut own.instance)?;
        let json = serde_json::to_vec(&info).map_err(|error| {
            Failure::new(ErrorCategory::Plugin, format!("info is not JSON: {error}"))
        })?;
        link::put(sink, &json);
        Ok(())
    })
}

unsafe extern "C" fn destroy(handle: *mut c_void) {
    if handle.is_null() {
        return;
    }
    // SAFETY: the host hands back what `create` gave it, and does not use it again.
    let handle = unsafe { Box::from_raw(handle.cast::<Handle>()) };
    let Handle { backend, link, realm, own } = *handle;
    let Own { life, mut instance, ctx } =
        own.into_inner().unwrap_or_else(|broken| broken.into_inner());
    let lent = identity::lend(&backend.identity());
    let ended = panics::guarded("the plugin's shim", || life.wind_down(&mut instance, &ctx));
    drop(lent);
    if let Err(failure) = ended.and_then(|ended| ended) {
        link.report_failure(&link::text_of(&failure));
    }
    link::leave(realm);
}

unsafe extern "C" fn call(
    handle: *mut c_void,
    function: Str,
    payload: *const u8,
    len: usize,
    sink: *const Sink,
) -> i32 {
    // SAFETY: the host calls between `start` and `stop` only, hence before `destroy`.
    let Some(handle) = (unsafe { handle.cast::<Handle>().as_ref() }) else { return abi::MISUSED };
    let outcome = panics::guarded("the plugin's shim", || {
        // SAFETY: the payload is valid during the call.
        let payload = unsafe { link::bytes(payload, len) };
        handle.backend.functions().call(&link::text(function), payload)
    });
    match outcome.and_then(|outcome| outcome) {
        Ok(reply) => {
            link::put(sink, &reply);
            abi::OK
        }
        Err(failure) => {
            let unknown = failure.category == ErrorCategory::UnknownFunction;
            let code = result(Err(failure), sink);
            if unknown { abi::UNSUPPORTED } else { code }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::ptr;
    use std::sync::atomic::{AtomicU32, Ordering};

    use super::*;
    use crate::host::alone;
    use crate::host::threads::fail_points::{arm_for, is_armed};
    use crate::module::{ModuleInfo, ModuleResult};

    struct Idle;

    impl WorkerModule for Idle {
        fn start(&mut self, _: &ModuleContext) -> ModuleResult {
            Ok(())
        }
        fn info(&self) -> ModuleInfo {
            ModuleInfo::new("idle", "1")
        }
    }

    static FAILURES: AtomicU32 = AtomicU32::new(0);

    unsafe extern "C" fn stops(_: *mut c_void, _: u64) -> i32 {
        1
    }

    unsafe extern "C" fn fails(_: *mut c_void, _: Str) {
        FAILURES.fetch_add(1, Ordering::SeqCst);
    }

    const HOST: Host = Host {
        struct_size: size_of::<Host>() as u32,
        abi_major: abi::MAJOR,
        abi_minor: abi::MINOR,
        ctx: ptr::null_mut(),
        log_max_level: 0,
        reserved: 0,
        incarnation: 7,
        log: None,
        stop_requested: None,
        wait_stop: Some(stops),
        report_failure: Some(fails),
        report_finished: None,
        heartbeat: None,
        publish_endpoint: None,
    };

    #[test]
    fn s17_a_plugin_hears_the_stop_after_one_fault_of_ours_and_has_failed_after_two() {
        if !alone::here(
            &[],
            s17_a_plugin_hears_the_stop_after_one_fault_of_ours_and_has_failed_after_two,
        ) {
            return;
        }
        for faults in [1, 2] {
            let host = HOST;
            let link = Link::new(&raw const host).unwrap();
            let handle = Handle::create(link, "w", Arc::new(|| Idle)).unwrap();
            let (tell, told) = crossbeam_channel::bounded(1);
            let token = handle.own.lock().unwrap().ctx.stop_token().clone();
            let _stop = token.on_stop(move || tell.send(()).unwrap());
            arm_for("bridge", faults);
            handle.follow_the_hosts_stop().unwrap();
            if faults == 1 {
                told.recv_timeout(Duration::from_secs(30)).unwrap();
                assert_eq!(FAILURES.load(Ordering::SeqCst), 0);
            } else {
                let end = Instant::now() + Duration::from_secs(30);
                while FAILURES.load(Ordering::SeqCst) == 0 {
                    assert!(Instant::now() < end, "nobody is told");
                    std::thread::yield_now();
                }
                assert!(!token.is_stopped());
            }
            assert!(!is_armed("bridge"));
        }
    }
}
