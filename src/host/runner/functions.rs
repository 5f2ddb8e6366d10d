//! The functions that one incarnation of a module exports, and the gate before them: calls run on
//! the caller's thread, and the gate is closed before the module is stopped.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};

use crate::error::{Error, ErrorCategory, Failure, Result as OurResult};
use crate::host::identity::{self, Identity};
use crate::host::panics::guarded;
use crate::module::Exported;
use crate::suggest;

/// The longest payload or reply of a call, in bytes: the same wherever the function runs.
pub(crate) const MAX_PAYLOAD: usize = 512 << 10;
/// How many functions one incarnation may export.
const MAX_FUNCTIONS: usize = 256;
/// The longest name of a function, in bytes.
const MAX_NAME: usize = 128;

/// What one incarnation exports. Shared by the module, which fills it, and by all who call.
pub(crate) struct Functions {
    worker: Arc<str>,
    identity: Arc<Identity>,
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
pub(crate) struct Function(RwLock<Option<Exported>>);

impl Function {
    fn new(function: Exported) -> Arc<Self> {
        Arc::new(Self(RwLock::new(Some(function))))
    }
}

impl Functions {
    pub(super) fn new(worker: Arc<str>, identity: Arc<Identity>) -> Self {
        Self {
            worker,
            identity,
            table: Mutex::default(),
            closed: AtomicBool::new(false),
            panics: AtomicU64::new(0),
        }
    }

    /// Adds a function.
    pub(super) fn export(&self, name: &str, function: Exported) -> OurResult<()> {
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
            table.by_name.insert(name.into(), Function::new(function));
            return Ok(());
        };
        // The refused closure is the module's: its drop must not meet our lock.
        drop(table);
        Err(refusal)
    }

    /// Sets what answers all other names.
    pub(super) fn export_rest(&self, function: Exported) {
        let function = Function::new(function);
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
        let found = table.by_name.get(name).or(table.rest.as_ref()).map(Arc::clone);
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
        let Ok(function) = function.0.try_read() else { return Err(closed()) };
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

    /// How many calls panicked.
    #[cfg_attr(not(test), expect(dead_code, reason = "calls are to come"))]
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
            let taken = function.0.write().unwrap_or_else(PoisonError::into_inner).take();
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

/// `[A-Za-z0-9][A-Za-z0-9._/-]*`, at most 128 bytes.
fn check_name(name: &str) -> OurResult<()> {
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

/// Holds payloads and replies to the limit.
pub(in crate::host) fn check_size(what: &str, bytes: &[u8]) -> Result<(), Failure> {
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
