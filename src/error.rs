//! The one public error, and the plain data that says how a worker failed.

use std::fmt;
use std::io;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

/// So many mistakes of a configuration are told at once.
const MAX_PROBLEMS: usize = 50;
/// The longest text of others that is kept, in bytes.
const MAX_TEXT: usize = 4 << 10;

/// What the library's own functions return.
pub type Result<T = ()> = std::result::Result<T, Error>;

/// What kind of thing went wrong: a closed vocabulary that scripts and peers may match on.
///
/// Written in lower case with underscores wherever it leaves the program.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum ErrorCategory {
    /// The program, its interpreter or its directory does not exist.
    ExecutableNotFound,
    /// The operating system refused access.
    PermissionDenied,
    /// The system or a limit had no more to give: descriptors, threads, memory, argument space.
    ResourceLimit,
    /// An address was in use, refused, unreachable.
    Network,
    /// A deadline passed.
    Timeout,
    /// A worker ended, or said that it failed.
    Crash,
    /// A module panicked.
    Panic,
    /// An incarnation did not end although everything was tried.
    Stuck,
    /// A health check failed as often as its configuration allows.
    Health,
    /// Heartbeats stayed away.
    Watchdog,
    /// What was asked for cannot be right: a key, a value, a name.
    Configuration,
    /// A plugin could not be loaded or misbehaved.
    Plugin,
    /// A package could not be resolved or installed.
    Package,
    /// Somebody asked for something else meanwhile.
    Cancelled,
    /// No better word is known.
    Unknown,
    /// No worker has this id.
    UnknownWorker,
    /// The worker is not running.
    NotRunning,
    /// The worker exports no such function.
    UnknownFunction,
    /// It cannot be done in this state, and nothing was changed.
    Refused,
    /// Waiting for the answer would wait for the very thread that asks.
    WouldDeadlock,
    /// The master itself is at fault, or gone.
    Internal,
}

impl ErrorCategory {
    /// The word used in files, on the wire and in messages.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::ExecutableNotFound => "executable_not_found",
            Self::PermissionDenied => "permission_denied",
            Self::ResourceLimit => "resource_limit",
            Self::Network => "network",
            Self::Timeout => "timeout",
            Self::Crash => "crash",
            Self::Panic => "panic",
            Self::Stuck => "stuck",
            Self::Health => "health",
            Self::Watchdog => "watchdog",
            Self::Configuration => "configuration",
            Self::Plugin => "plugin",
            Self::Package => "package",
            Self::Cancelled => "cancelled",
            Self::Unknown => "unknown",
            Self::UnknownWorker => "unknown_worker",
            Self::NotRunning => "not_running",
            Self::UnknownFunction => "unknown_function",
            Self::Refused => "refused",
            Self::WouldDeadlock => "would_deadlock",
            Self::Internal => "internal",
        }
    }

    /// The category of an operating system error, where its kind says one.
    pub(crate) fn of_io(error: &io::Error) -> Option<Self> {
        use io::ErrorKind as Kind;
        #[expect(clippy::wildcard_enum_match_arm, reason = "ErrorKind is not ours and grows")]
        match error.kind() {
            Kind::PermissionDenied => Some(Self::PermissionDenied),
            Kind::TimedOut => Some(Self::Timeout),
            Kind::OutOfMemory
            | Kind::StorageFull
            | Kind::QuotaExceeded
            | Kind::ArgumentListTooLong => Some(Self::ResourceLimit),
            Kind::AddrInUse
            | Kind::AddrNotAvailable
            | Kind::ConnectionRefused
            | Kind::ConnectionReset
            | Kind::ConnectionAborted
            | Kind::NotConnected
            | Kind::HostUnreachable
            | Kind::NetworkUnreachable
            | Kind::NetworkDown => Some(Self::Network),
            _ => match error.raw_os_error() {
                // EAGAIN from a spawn, EMFILE, ENFILE: the same numbers on every Unix we know.
                Some(11 | 23 | 24) => Some(Self::ResourceLimit),
                _ => None,
            },
        }
    }
}

impl fmt::Display for ErrorCategory {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// How a worker failed: plain data, the same whether it ran as a thread or as a process.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Failure {
    /// The kind of failure.
    pub category: ErrorCategory,
    /// One lower-case sentence fragment for people.
    pub message: String,
    /// Where a panic came from, as `file:line:column`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub place: Option<String>,
    /// True when no retry can mend it: the worker gives up at once.
    #[serde(default)]
    pub permanent: bool,
}

impl Failure {
    /// A failure of `category` with a message that fits after "failed: ". A message longer than
    /// 4 KiB is cut: it is kept, copied and shown in many places.
    pub fn new(category: ErrorCategory, message: impl Into<String>) -> Self {
        Self { category, message: cut(message.into()), place: None, permanent: false }
    }

    /// The same failure, marked as one that no retry can mend.
    #[must_use]
    pub fn permanent(mut self) -> Self {
        self.permanent = true;
        self
    }

    /// What a module's error means for its worker, `worker`.
    ///
    /// The category is that of the first [`Error`] or [`io::Error`] in the source chain, else
    /// [`ErrorCategory::Crash`]; the message is the whole chain, separated by colons.
    pub fn from_module_error(worker: &str, error: &(dyn std::error::Error + 'static)) -> Self {
        // Whoever reads the failure knows whose it is; another worker's name stays.
        let text = |error: &(dyn std::error::Error + 'static)| match error.downcast_ref::<Error>() {
            Some(ours) if ours.worker() == Some(worker) => ours.0.message.clone(),
            Some(_) | None => error.to_string(),
        };
        let mut failure = Self::new(ErrorCategory::Crash, text(error));
        let mut known = false;
        let mut next = Some(error);
        while let Some(current) = next {
            if !known {
                if let Some(ours) = current.downcast_ref::<Error>() {
                    failure.category = ours.category();
                    failure.permanent = ours.permanent();
                    known = true;
                } else if let Some(io) = current.downcast_ref::<io::Error>() {
                    failure.category = ErrorCategory::of_io(io).unwrap_or(ErrorCategory::Crash);
                    known = true;
                }
            }
            let text = text(current);
            if !failure.message.contains(&text) {
                failure.message = cut(format!("{}: {text}", failure.message));
            }
            next = current.source();
        }
        failure
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)?;
        match &self.place {
            Some(place) => write!(f, " at {place}"),
            None => Ok(()),
        }
    }
}

/// Cuts a text that somebody else made too long.
pub(crate) fn cut(mut text: String) -> String {
    if text.len() > MAX_TEXT {
        let end = (0..=MAX_TEXT).rev().find(|end| text.is_char_boundary(*end)).unwrap_or(0);
        text.truncate(end);
        text.push_str(" ...");
    }
    text
}

/// One mistake in a configuration: what, where, and what to write instead.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Problem {
    /// The file, as it was named; empty when the text did not come from a file.
    pub file: String,
    /// Line, from 1; 0 when the place is not known.
    pub line: usize,
    /// Column, from 1; 0 when the place is not known.
    pub column: usize,
    /// The key's path, such as `workers[2].health_check.interval`.
    pub path: String,
    /// What is wrong, and what to write instead.
    pub message: String,
}

impl Problem {
    /// A mistake in a configuration that did not come from a file.
    pub(crate) fn unplaced(path: impl Into<String>, message: impl Into<String>) -> Self {
        let (path, message) = (path.into(), message.into());
        Self { file: String::new(), line: 0, column: 0, path, message }
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if !self.file.is_empty() {
            write!(f, "{}:", self.file)?;
        }
        if self.line > 0 {
            write!(f, "{}:{}: ", self.line, self.column)?;
        } else if !self.file.is_empty() {
            f.write_str(" ")?;
        }
        if !self.path.is_empty() {
            write!(f, "{}: ", self.path)?;
        }
        f.write_str(&self.message)
    }
}

/// The error of every public operation: a category, a message, and what is known beside.
///
/// Cheap to clone. Messages are lower-case fragments that fit after "failed to ...: ".
#[derive(Clone)]
pub struct Error(Arc<Inner>);

struct Inner {
    category: ErrorCategory,
    worker: Option<String>,
    message: String,
    permanent: bool,
    problems: Vec<Problem>,
    source: Option<Box<dyn std::error::Error + Send + Sync>>,
}

impl Error {
    /// An error of `category`.
    pub fn new(category: ErrorCategory, message: impl Into<String>) -> Self {
        Self(Arc::new(Inner {
            category,
            worker: None,
            message: message.into(),
            permanent: false,
            problems: Vec::new(),
            source: None,
        }))
    }

    /// An error of category `configuration`: [`permanent`](Self::permanent), since no retry mends
    /// it.
    pub fn configuration(message: impl Into<String>) -> Self {
        Self::new(ErrorCategory::Configuration, message).with(|inner| inner.permanent = true)
    }

    /// A configuration with these mistakes, of which the first 50 are told.
    pub(crate) fn rejected(mut problems: Vec<Problem>) -> Self {
        let count = problems.len();
        problems.truncate(MAX_PROBLEMS);
        let more = count - problems.len();
        let mut message = match count {
            1 => "1 problem in the configuration".to_owned(),
            _ => format!("{count} problems in the configuration"),
        };
        for problem in &problems {
            message.push_str(&format!("\n  {problem}"));
        }
        if more > 0 {
            message.push_str(&format!("\n  and {more} more"));
        }
        Self::configuration(message).with(|inner| inner.problems = problems)
    }

    pub(crate) fn io(context: impl Into<String>, source: io::Error) -> Self {
        let category = ErrorCategory::of_io(&source).unwrap_or(ErrorCategory::Unknown);
        Self::new(category, format!("{}: {source}", context.into()))
            .with(|inner| inner.source = Some(Box::new(source)))
    }

    pub(crate) fn of_failure(worker: &str, failure: &Failure) -> Self {
        Self::from(failure).of_worker(worker)
    }

    /// What a master said over its socket.
    pub(crate) fn told(
        category: ErrorCategory,
        message: String,
        worker: Option<String>,
        permanent: bool,
        problems: Vec<Problem>,
    ) -> Self {
        let source = None;
        Self(Arc::new(Inner { category, worker, message, permanent, problems, source }))
    }

    /// The message alone, without the worker's name.
    pub(crate) fn message(&self) -> &str {
        &self.0.message
    }

    /// The same error, as one that no retry can mend.
    fn permanently(self) -> Self {
        self.with(|inner| inner.permanent = true)
    }

    pub(crate) fn of_worker(self, worker: &str) -> Self {
        self.with(|inner| inner.worker = Some(worker.to_owned()))
    }

    /// Changes a freshly made error; one that was cloned already stays as it is.
    fn with(mut self, change: impl FnOnce(&mut Inner)) -> Self {
        if let Some(inner) = Arc::get_mut(&mut self.0) {
            change(inner);
        }
        self
    }

    /// The kind of error.
    pub fn category(&self) -> ErrorCategory {
        self.0.category
    }

    /// The worker it is about, if it is about one.
    pub fn worker(&self) -> Option<&str> {
        self.0.worker.as_deref()
    }

    /// The mistakes found, when a configuration was rejected; at most 50.
    pub fn problems(&self) -> &[Problem] {
        &self.0.problems
    }

    /// True when no retry can mend it. A worker that fails with such an error gives up at once.
    pub fn permanent(&self) -> bool {
        self.0.permanent
    }

    /// True when a deadline passed.
    pub fn is_timeout(&self) -> bool {
        self.0.category == ErrorCategory::Timeout
    }

    /// True when there is no such worker or function.
    pub fn is_not_found(&self) -> bool {
        matches!(self.0.category, ErrorCategory::UnknownWorker | ErrorCategory::UnknownFunction)
    }

    /// True when the worker, or the master, is not there to answer.
    pub fn is_unavailable(&self) -> bool {
        matches!(self.0.category, ErrorCategory::NotRunning | ErrorCategory::Internal)
    }

    /// True when a module panicked.
    pub fn is_panic(&self) -> bool {
        self.0.category == ErrorCategory::Panic
    }

    /// True when it was refused: not in this state, not with this request, or too much of it.
    pub fn is_refused(&self) -> bool {
        self.0.category == ErrorCategory::Refused
    }

    /// True when another command took its place.
    pub fn is_cancelled(&self) -> bool {
        self.0.category == ErrorCategory::Cancelled
    }

    /// True when an incarnation did not end although everything was tried.
    pub fn is_stuck(&self) -> bool {
        self.0.category == ErrorCategory::Stuck
    }
}

impl From<&Failure> for Error {
    fn from(failure: &Failure) -> Self {
        let error = Self::new(failure.category, failure.to_string());
        if failure.permanent { error.permanently() } else { error }
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.0.worker {
            Some(worker) => write!(f, "worker {worker}: {}", self.0.message),
            None => f.write_str(&self.0.message),
        }
    }
}

/// What a `main` that returns it prints: its category and its text.
impl fmt::Debug for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {self}", self.0.category)
    }
}

impl std::error::Error for Error {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        self.0.source.as_deref().map(|source| source as _)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug)]
    struct Wrapped(io::Error);
    impl fmt::Display for Wrapped {
        fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("loading the table")
        }
    }
    impl std::error::Error for Wrapped {
        fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
            Some(&self.0)
        }
    }

    #[test]
    fn a_modules_error_takes_the_category_of_the_first_known_cause() {
        let error = Wrapped(io::Error::from(io::ErrorKind::AddrInUse));
        let failure = Failure::from_module_error("w", &error);
        assert_eq!(failure.category, ErrorCategory::Network);
        assert!(failure.message.starts_with("loading the table: "), "{}", failure.message);
        let plain = Failure::from_module_error("w", &fmt::Error);
        assert_eq!(plain.category, ErrorCategory::Crash);
        let ours = Error::configuration("no port").of_worker("w");
        let failure = Failure::from_module_error("w", &ours);
        assert_eq!((failure.category, failure.permanent), (ErrorCategory::Configuration, true));
        assert_eq!(failure.message, "no port");
        let others = Failure::from_module_error("v", &ours);
        assert_eq!(others.message, "worker w: no port");
    }

    #[test]
    fn every_category_is_written_as_serde_writes_it() {
        for category in [
            ErrorCategory::ExecutableNotFound,
            ErrorCategory::WouldDeadlock,
            ErrorCategory::UnknownFunction,
        ] {
            let json = serde_json::to_string(&category).unwrap();
            assert_eq!(json, format!("\"{category}\""));
        }
    }
}
