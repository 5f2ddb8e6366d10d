//! The functions that one incarnation of a module exports, and the gate before them: calls run on
//! the caller's thread, and the gate is closed before the module is stopped.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};

use crate::error::{self, Error, ErrorCategory, Failure};
use crate::host::identity::{self, Identity};
use crate::host::panics::guarded;
use crate::host::{Reply, threads};
use crate::module::Exported;
use crate::suggest;

/// The longest payload or reply of a call, in bytes: the same wherever the function runs.
pub(crate) const MAX_PAYLOAD: usize = 512 << 10;
/// How many functions one incarnation may export.
const MAX_FUNCTIONS: usize = 256;
/// How many calls that nobody waits for may run at a time.
const MAX_ASIDE: usize = 1024;
/// The longest name of a function, in bytes.
const MAX_NAME: usize = 128;

/// What one incarnation exports. Shared by the module, which fills it, and by all who call.
pub(crate) struct Functions {
    worker: Arc<str>,
    identity: Arc<Identity>,
    /// What threads for calls that nobody waits for are called, and their stack.
    thread: String,
    stack_size: usize,
    aside: AtomicUsize,
    table: Mutex<Table>,
    closed: AtomicBool,
    panics: AtomicU64,
}

#[derive(Default)]
struct Table {
    by_name: BTreeMap<Box<str>, Arc<Function>>,
    /// Answers the names that are not in the table.
    rest: Option<Arc<Function>>,
}

/// One exported function: held for reading by every call in flight, taken out when the gate is
/// closed. So the module's closure is dropped on the module's thread, whoever still knows it.
pub(crate) struct Function {
    exported: RwLock<Option<Exported>>,
    answers_any: bool,
}

impl Function {
    fn new(function: Exported, answers_any: bool) -> Arc<Self> {
        Arc::new(Self { exported: RwLock::new(Some(function)), answers_any })
    }

    /// True for what was exported for all names that are not in the table.
    pub(crate) fn answers_any(&self) -> bool {
        self.answers_any
    }
}

impl Functions {
    pub(super) fn new(
        worker: Arc<str>,
        incarnation: u64,
        identity: Arc<Identity>,
        stack_size: usize,
    ) -> Self {
        Self {
            thread: format!("{worker}#{incarnation}-call"),
            worker,
            identity,
            stack_size,
            aside: AtomicUsize::new(0),
            table: Mutex::default(),
            closed: AtomicBool::new(false),
            panics: AtomicU64::new(0),
        }
    }

    /// Adds a function.
    pub(super) fn export(&self, name: &str, function: Exported) -> error::Result<()> {
        check_name(name)?;
        let mut table = self.table();
        let refusal = if self.is_closed() {
            too_late()
        } else if table.by_name.contains_key(name) {
            let message = format!("the function {name:?} is exported already");
            Error::new(ErrorCategory::Refused, message)
        } else if table.by_name.len() >= MAX_FUNCTIONS {
            let message = format!("{MAX_FUNCTIONS} functions are exported already");
            Error::new(ErrorCategory::ResourceLimit, message)
        } else {
            table.by_name.insert(name.into(), Function::new(function, false));
            return Ok(());
        };
        // The refused closure is the module's: its drop must not meet our lock.
        drop(table);
        Err(refusal)
    }

    /// Sets what answers all other names.
    pub(super) fn export_rest(&self, function: Exported) {
        let function = Function::new(function, true);
        let mut table = self.table();
        let replaced = if self.is_closed() { Some(function) } else { table.rest.replace(function) };
        drop(table);
        drop(replaced);
    }

    /// Calls a function on this thread, which is the worker's for so long.
    pub(crate) fn call(&self, name: &str, payload: &[u8]) -> Result<Vec<u8>, Failure> {
        let function = self.find(name)?;
        self.call_found(&function, name, payload)
    }

    /// The function that answers this name.
    pub(crate) fn find(&self, name: &str) -> Result<Arc<Function>, Failure> {
        let table = self.table();
        if self.is_closed() {
            return Err(closed());
        }
        let rest = table.rest.as_ref().filter(|_| name.len() <= MAX_NAME);
        let found = table.by_name.get(name).or(rest).map(Arc::clone);
        found.ok_or_else(|| {
            let known = table.by_name.keys().map(AsRef::as_ref);
            let hint = match suggest::nearest(name, known) {
                Some(near) => format!("; did you mean {near:?}?"),
                None if table.by_name.is_empty() => "; it exports none".to_owned(),
                None => String::new(),
            };
            let message = format!("it exports no function {name:?}{hint}");
            Failure::new(ErrorCategory::UnknownFunction, message)
        })
    }

    /// As `call`, for a function that was found before.
    pub(crate) fn call_found(
        &self,
        function: &Function,
        name: &str,
        payload: &[u8],
    ) -> Result<Vec<u8>, Failure> {
        check_size("payload", payload)?;
        if self.is_closed() {
            return Err(closed());
        }
        // Nobody but `close` writes.
        let Ok(function) = function.exported.try_read() else { return Err(closed()) };
        let Some(function) = &*function else { return Err(closed()) };
        let lent = identity::lend(&self.identity);
        let outcome = guarded(format_args!("function {name:?}"), || {
            // Reading an error and dropping it run the module's code too.
            function(name, payload)
                .map_err(|error| Failure::from_module_error(&self.worker, error.as_ref()))
        });
        drop(lent);
        let reply = outcome.unwrap_or_else(|panicked| {
            self.panics.fetch_add(1, Ordering::Relaxed);
            Err(panicked)
        })?;
        check_size("reply", &reply)?;
        Ok(reply)
    }

    /// As `call`, on a thread of its own; never waits.
    pub(crate) fn call_aside(self: &Arc<Self>, name: &str, payload: Vec<u8>, reply: Reply) {
        let running = Aside(Arc::clone(self));
        if self.aside.fetch_add(1, Ordering::Relaxed) >= MAX_ASIDE {
            let message = format!("busy: {MAX_ASIDE} calls that nobody waits for are running");
            return reply(Err(Failure::new(ErrorCategory::Refused, message)));
        }
        let name = name.to_owned();
        // A refused thread drops what it was to run, and the caller is to hear why.
        let reply = Arc::new(Mutex::new(Some(reply)));
        let take = |reply: &Mutex<Option<Reply>>| {
            reply.lock().unwrap_or_else(PoisonError::into_inner).take()
        };
        let taken = Arc::clone(&reply);
        let spawned = threads::spawn(&self.thread, self.stack_size, move || {
            let outcome = threads::ours(&running.0.thread, || {
                threads::fail_point("module-call");
                running.0.call(&name, &payload)
            });
            let outcome = outcome.and_then(|outcome| outcome);
            drop(running);
            if let Some(reply) = take(&taken) {
                reply(outcome);
            }
        });
        if let Err(error) = spawned
            && let Some(reply) = take(&reply)
        {
            let message = format!("cannot start a thread for the call: {error}");
            reply(Err(Failure::new(ErrorCategory::ResourceLimit, message)));
        }
    }

    /// How many calls panicked.
    pub(crate) fn panics(&self) -> u64 {
        self.panics.load(Ordering::Relaxed)
    }

    /// Refuses new calls, waits until those in flight have ended, and drops the functions. Called
    /// on the module's own thread. It sets no deadline: who waits for the module's end has one.
    pub(super) fn close(&self) -> Result<(), Failure> {
        let table = {
            let mut table = self.table();
            self.closed.store(true, Ordering::Release);
            std::mem::take(&mut *table)
        };
        let mut result = Ok(());
        for function in table.by_name.into_values().chain(table.rest) {
            let taken = function.exported.write().unwrap_or_else(PoisonError::into_inner).take();
            result = result.and(guarded("the drop of a function", move || drop(taken)));
        }
        result
    }

    fn is_closed(&self) -> bool {
        self.closed.load(Ordering::Acquire)
    }

    fn table(&self) -> MutexGuard<'_, Table> {
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// One call that nobody waits for; counted until it is dropped, also when it never ran.
struct Aside(Arc<Functions>);

impl Drop for Aside {
    fn drop(&mut self) {
        self.0.aside.fetch_sub(1, Ordering::Relaxed);
    }
}

/// `[A-Za-z0-9][A-Za-z0-9._/-]*`, at most 128 bytes.
fn check_name(name: &str) -> error::Result<()> {
    let allowed = |b: u8| b.is_ascii_alphanumeric() || b"._/-".contains(&b);
    let begins_well = name.starts_with(|c: char| c.is_ascii_alphanumeric());
    if begins_well && name.len() <= MAX_NAME && name.bytes().all(allowed) {
        return Ok(());
    }
    let shown: String = name.chars().take(MAX_NAME).collect();
    Err(Error::configuration(format!(
        "{shown:?} cannot be a function's name: use 1 to {MAX_NAME} letters, digits, '.', '_', '/' \
         and '-', a letter or a digit first"
    )))
}

/// Holds what a call sends to the limits, before it is sent anywhere.
pub(crate) fn check_call(name: &str, payload: &[u8]) -> Result<(), Failure> {
    if name.len() > MAX_NAME {
        let message = format!("it exports no function {name:?}");
        return Err(Failure::new(ErrorCategory::UnknownFunction, message));
    }
    check_size("payload", payload)
}

/// Holds payloads and replies to the limit.
pub(crate) fn check_size(what: &str, bytes: &[u8]) -> Result<(), Failure> {
    if bytes.len() <= MAX_PAYLOAD {
        return Ok(());
    }
    let size = bytes.len();
    let message = format!("the {what} has {size} bytes; at most {MAX_PAYLOAD} are allowed");
    Err(Failure::new(ErrorCategory::Refused, message))
}

fn closed() -> Failure {
    Failure::new(ErrorCategory::NotRunning, "it is stopping and takes no calls")
}

/// The answer to an export that comes too late.
pub(super) fn too_late() -> Error {
    Error::new(ErrorCategory::Refused, "the stop has begun: nothing can be exported any more")
}
