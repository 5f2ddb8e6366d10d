//! The module host: this program, run again by a master to be one module. The same runner as in
//! the master, behind the worker protocol on standard input.

mod calls;
mod logger;
#[cfg(test)]
mod tests;

use std::collections::{BTreeSet, VecDeque};
use std::io::{self, Write as _};
use std::os::unix::net::UnixStream;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::{Duration, Instant};

use signal_hook::consts::{SIGINT, SIGTERM};
use signal_hook::iterator::{Handle, Signals};
use signal_hook::low_level::emulate_default_handler;

use crate::error::{ErrorCategory, Failure};
use crate::host::protocol::frames::Frames;
use crate::host::protocol::{self, FromMaster, Hello, Initialize, Method, Reply, Wellness};
use crate::host::runner::functions::Functions;
use crate::host::runner::{ModuleRunner, Setting};
use crate::host::{Order, Report, Reporter, sys, threads};
use crate::module::{ModuleInfo, ModuleRegistry};
use crate::worker::Exit;
use calls::{Call, Crew};

/// Exit codes: the module ended in order.
const STOPPED: i32 = 0;
/// The master is gone.
const MASTER_GONE: i32 = 75;
/// There is no master, or it is not spoken to in its protocol.
const MISUSED: i32 = 78;
/// The module panicked.
const PANICKED: i32 = 101;

/// How long a module may take to end once its master is gone.
const ORPHAN_PATIENCE: Duration = Duration::from_millis(500);
/// How long a module may take to end when a signal asks for it.
const SIGNAL_PATIENCE: Duration = Duration::from_secs(10);
const SIGNAL_STACK: usize = 128 << 10;
/// How long replies to calls that have returned may take to be sent.
const SETTLING: Duration = Duration::from_secs(1);
/// How much is read at once.
const BUFFER: usize = 64 << 10;

/// Is a module host until the module has ended or the master is gone. The exit code.
pub(crate) fn serve(registry: &ModuleRegistry) -> i32 {
    let socket = match sys::take_socket_from_stdin() {
        Ok(socket) => socket,
        Err(error) => {
            complain(&format!(
                "{} is for masters, which start module hosts with a socket as standard input: \
                 {error}",
                protocol::HOST_ROLE
            ));
            return MISUSED;
        }
    };
    logger::install();
    if let Err(error) = sys::install_last_words() {
        log::warn!("what ends this process will not be named: {error}");
    }
    open(registry, socket).map_or_else(
        |error| {
            complain(&format!("cannot serve the master: {error}"));
            MISUSED
        },
        |(host, signals)| host.conclude(signals),
    )
}

/// Greets the master, and has a thread listen to it.
fn open(registry: &ModuleRegistry, socket: UnixStream) -> io::Result<(Arc<Host>, Signals)> {
    let signals = Signals::new([SIGTERM, SIGINT])?;
    let host = Host::new(registry, socket, signals.handle())?;
    let ModuleInfo { name, version, .. } = crate::module_info!();
    let (protocol, build) = (protocol::VERSION, protocol::BUILD.to_owned());
    host.say(&Reply::Hello(&Hello { protocol, build, name, version }));
    Crew::enlarge(&host)?;
    Ok((host, signals))
}

/// Says something to whoever started this by hand.
fn complain(message: &str) {
    let _ = writeln!(io::stderr(), "error: {message}");
}

/// All that the threads of a module host share.
struct Host {
    registry: ModuleRegistry,
    /// For writing; whole lines under the lock.
    out: Mutex<Out>,
    inbox: Mutex<Inbox>,
    runner: Mutex<Option<ModuleRunner>>,
    functions: OnceLock<Arc<Functions>>,
    owed: Mutex<Owed>,
    end: Mutex<End>,
    /// Told when the module has ended.
    ended: Condvar,
    /// Closed when the module has ended: who waits for signals waits no longer.
    signals: Handle,
    panicked: AtomicBool,
    crew: Crew,
}

struct Out {
    socket: UnixStream,
    /// Lines that are not sent yet.
    kept: Vec<u8>,
}

impl Out {
    fn flush(&mut self) {
        let Self { socket, kept } = self;
        if !kept.is_empty() {
            let _ = socket.write_all(kept);
            kept.clear();
            kept.shrink_to(BUFFER);
        }
    }
}

/// What is read, by one thread at a time.
struct Inbox {
    socket: UnixStream,
    frames: Frames,
    buffer: Box<[u8]>,
}

/// Answers that the module owes.
#[derive(Default)]
struct Owed {
    initialize: Option<u64>,
    start: Option<u64>,
    stop: Option<u64>,
    infos: Vec<u64>,
    probes: BTreeSet<u64>,
}

#[derive(Default)]
struct End {
    /// The module has ended; this process is to end with this code.
    code: Option<i32>,
    /// Whatever the module does, this process is to end with this code.
    leaving: Option<i32>,
}

impl Host {
    fn new(
        registry: &ModuleRegistry,
        socket: UnixStream,
        signals: Handle,
    ) -> io::Result<Arc<Self>> {
        let out = Out { socket: socket.try_clone()?, kept: Vec::new() };
        let crew = Crew::new(&socket)?;
        let buffer = vec![0; BUFFER].into_boxed_slice();
        Ok(Arc::new(Self {
            registry: registry.clone(),
            out: Mutex::new(out),
            inbox: Mutex::new(Inbox { socket, frames: Frames::default(), buffer }),
            runner: Mutex::new(None),
            functions: OnceLock::new(),
            owed: Mutex::default(),
            end: Mutex::default(),
            ended: Condvar::new(),
            signals,
            panicked: AtomicBool::new(false),
            crew,
        }))
    }

    /// Tells the master something, after all that was kept. That it is gone is learnt by reading.
    fn say(&self, reply: &Reply<'_>) {
        let mut out = lock(&self.out);
        reply.write(&mut out.kept);
        out.flush();
    }

    /// As `say`, but with what is said next, if there is not much of it yet.
    fn say_soon(&self, reply: &Reply<'_>) {
        let mut out = lock(&self.out);
        reply.write(&mut out.kept);
        if out.kept.len() >= BUFFER {
            out.flush();
        }
    }

    /// Says what was kept.
    fn flush(&self) {
        lock(&self.out).flush();
    }

    fn refuse(&self, id: u64, category: ErrorCategory, message: impl Into<String>) {
        self.say(&Reply::Refused(id, &Failure::new(category, message)));
    }

    /// Reads what is there, once, and does what is asked for. Calls are left to be run. False:
    /// nothing was there.
    fn hear(self: &Arc<Self>, inbox: &mut Inbox, calls: &mut VecDeque<Call>) -> bool {
        match sys::receive_now(&inbox.socket, &mut inbox.buffer) {
            Ok(0) => self.leave(MASTER_GONE),
            Ok(read) => inbox.frames.push(&inbox.buffer[..read]),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => return true,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return false,
            Err(_) => self.leave(MASTER_GONE),
        }
        loop {
            match inbox.frames.next() {
                Ok(None) => return true,
                Ok(Some(line)) => match FromMaster::read(line) {
                    Ok(request) => calls.extend(self.take(request)),
                    Err((Some(id), message)) => self.refuse(id, ErrorCategory::Refused, message),
                    Err((None, message)) => self.broken_off(&message),
                },
                Err(error) => self.broken_off(&error.to_string()),
            }
        }
    }

    /// Does what is asked for, unless it is a call.
    fn take(self: &Arc<Self>, request: FromMaster<'_>) -> Option<Call> {
        let FromMaster { id, deadline_ms, method } = request;
        match method {
            Method::Initialize(initialize) => self.initialize(id, *initialize),
            Method::Start => {
                lock(&self.owed).start = Some(id);
                self.order(id, Order::Start);
            }
            Method::Stop => {
                lock(&self.owed).stop = Some(id);
                let patience = Duration::from_millis(deadline_ms.unwrap_or(u64::MAX));
                if !self.order(id, Order::Ask { patience }) {
                    self.ended(STOPPED);
                }
            }
            Method::Health => {
                lock(&self.owed).probes.insert(id);
                self.order(id, Order::Probe { probe: id });
            }
            Method::Info => {
                lock(&self.owed).infos.push(id);
                self.order(id, Order::Info);
            }
            Method::Call(asked) => match asked.payload() {
                Ok(payload) => {
                    let function = asked.function.into_owned();
                    let patience = deadline_ms.map(Duration::from_millis);
                    let due = patience.and_then(|patience| Instant::now().checked_add(patience));
                    return Some(Call { id, function, payload, due });
                }
                Err(message) => self.refuse(id, ErrorCategory::Refused, message),
            },
            Method::Unknown(method) => {
                let message = format!("this worker knows no method {method:?}");
                self.refuse(id, ErrorCategory::Refused, message);
            }
        }
        None
    }

    /// Hands an order to the runner. False: there is none, and the request is answered so.
    fn order(self: &Arc<Self>, id: u64, order: Order) -> bool {
        let mut runner = lock(&self.runner);
        let Some(runner) = &mut *runner else {
            self.refuse(id, ErrorCategory::Refused, "initialize comes first");
            return false;
        };
        runner.order(order, &self.reporter());
        true
    }

    fn initialize(self: &Arc<Self>, id: u64, initialize: Initialize) {
        let Initialize { launch, log_level, stack_size } = initialize;
        logger::set_level(&log_level);
        sys::name_process(&launch.worker);
        let mut runner = lock(&self.runner);
        if runner.is_some() {
            return self.refuse(id, ErrorCategory::Refused, "it is initialized already");
        }
        lock(&self.owed).initialize = Some(id);
        let setting = Setting {
            registry: self.registry.clone(),
            realm: 0,
            stack_size,
            panic_hook: true,
            // What a panic ends here is this module's process and nobody else's.
            contained: true,
            // For the same reason plugins are loaded without a trial.
            prober: None,
        };
        let runner = runner.insert(ModuleRunner::new(setting));
        runner.order(Order::Launch(Box::new(launch)), &self.reporter());
        if let Some(functions) = runner.functions() {
            let _ = self.functions.set(functions);
        }
    }

    fn reporter(self: &Arc<Self>) -> Reporter {
        let host = Arc::clone(self);
        Arc::new(move |report| host.reported(report))
    }

    /// What the runner reports, in the protocol's words.
    fn reported(&self, report: Report) {
        let owed = |which: fn(&mut Owed) -> Option<u64>| which(&mut lock(&self.owed));
        match report {
            Report::Launched => {
                if let Some(id) = owed(|owed| owed.initialize.take()) {
                    self.say(&Reply::Done(id));
                }
            }
            Report::Started { .. } => {
                if let Some(id) = owed(|owed| owed.start.take()) {
                    self.say(&Reply::Done(id));
                }
            }
            Report::Probed { probe, healthy, reason } => {
                if lock(&self.owed).probes.remove(&probe) {
                    self.say(&Reply::Health(probe, &Wellness { healthy, reason }));
                }
            }
            Report::Informed(info) => {
                for id in std::mem::take(&mut lock(&self.owed).infos) {
                    self.say(&Reply::Info(id, &info));
                }
            }
            Report::Endpoint(endpoint) => self.say(&Reply::Endpoint(&endpoint)),
            Report::Completed => self.say(&Reply::Finished),
            Report::TaskFailed(failure) => self.say(&Reply::TaskFailed(&failure)),
            Report::Failed(failure) => {
                if failure.category == ErrorCategory::Panic {
                    self.panicked.store(true, Ordering::SeqCst);
                }
                match owed(|owed| owed.initialize.take().or_else(|| owed.start.take())) {
                    Some(id) => self.say(&Reply::Refused(id, &failure)),
                    None => self.say(&Reply::Failed(&failure)),
                }
            }
            // A module has no process of its own that could be killed.
            Report::Presumed(_) => {}
            Report::Gone(exit) => self.gone(exit),
        }
    }

    /// The module has wound down: the last that is said of it.
    fn gone(&self, exit: Exit) {
        let mut owed = lock(&self.owed);
        let (launching, stop) = (owed.initialize.take().or(owed.start.take()), owed.stop.take());
        drop(owed);
        let failure = match exit {
            Exit::Failed(failure) => Some(failure),
            Exit::Code(_) | Exit::Signal { .. } | Exit::Returned | Exit::Unknown | Exit::LetGo => {
                None
            }
        };
        if let Some(failure) = &failure {
            let panicked = failure.category == ErrorCategory::Panic;
            self.panicked.fetch_or(panicked, Ordering::SeqCst);
        }
        for id in launching.into_iter().chain(stop) {
            match &failure {
                Some(failure) => self.say(&Reply::Refused(id, failure)),
                None => self.say(&Reply::Done(id)),
            }
        }
        // A function that has returned before the end has its reply sent before the end.
        self.crew.settle(SETTLING);
        self.flush();
        let panicked = self.panicked.load(Ordering::SeqCst);
        self.ended(if panicked { PANICKED } else { STOPPED });
    }

    fn ended(&self, code: i32) {
        let mut end = lock(&self.end);
        let code = end.leaving.unwrap_or(code);
        end.code.get_or_insert(code);
        drop(end);
        self.ended.notify_all();
        self.signals.close();
    }

    /// The master does not keep to the protocol, so that it can be told nothing either.
    fn broken_off(&self, message: &str) -> ! {
        log::error!("the master broke the worker protocol: {message}");
        self.leave(MISUSED)
    }

    /// Asks the module to end, waits a moment for that, and ends this process, whatever else still
    /// runs in it: nobody is there to kill it.
    fn leave(&self, code: i32) -> ! {
        lock(&self.end).leaving = Some(code);
        self.end_module(ORPHAN_PATIENCE, code);
        let (end, patience) = (lock(&self.end), ORPHAN_PATIENCE);
        drop(self.ended.wait_timeout_while(end, patience, |end| end.code.is_none()));
        sys::exit_now(code)
    }

    /// Asks the module to end, though its master has not. Without one, all is over.
    fn end_module(&self, patience: Duration, code: i32) {
        let silent: Reporter = Arc::new(|_| {});
        match &mut *lock(&self.runner) {
            Some(runner) => runner.order(Order::Ask { patience }, &silent),
            None => self.ended(code),
        }
    }

    /// Waits for the module's end, and says which code this process is to end with.
    ///
    /// A signal ends the module in order, and then this process, as signals do: the master takes it
    /// for a crash, unless it has asked for the end itself. A second one ends the process at once,
    /// and so does a module that takes too long.
    fn conclude(self: &Arc<Self>, mut signals: Signals) -> i32 {
        let mut first = None;
        for signal in signals.forever() {
            if first.replace(signal).is_some() {
                break;
            }
            log::info!("signal {signal}: the module is to end");
            self.end_module(SIGNAL_PATIENCE, STOPPED);
            let host = Arc::clone(self);
            let watch = move || {
                let _said = threads::ours("hsu-signal", || {
                    threads::fail_point("hsu-signal");
                    let (end, patience) = (lock(&host.end), SIGNAL_PATIENCE);
                    drop(host.ended.wait_timeout_while(end, patience, |end| end.code.is_none()));
                });
                // Also if that broke off: rather too early than never.
                let _ = emulate_default_handler(signal);
            };
            if threads::spawn("hsu-signal", SIGNAL_STACK, watch).is_err() {
                break;
            }
        }
        if let Some(signal) = first {
            // It returns only if the system has refused.
            let _ = emulate_default_handler(signal);
        }
        lock(&self.end).code.unwrap_or(STOPPED)
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
