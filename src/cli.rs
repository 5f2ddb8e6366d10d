//! The command line: a program's whole main in three lines, and what the stock binary is made of.

mod args;
mod budget;
mod call;
mod change;
mod check;
mod describe;
mod echo;
mod events;
mod explain;
mod find;
mod idle;
mod import;
mod limits;
mod logger;
mod logs;
mod modules;
mod output;
mod plan;
mod plugin;
mod progress;
mod run;
mod running;
#[cfg(test)]
mod samples;
mod shutdown;
mod status;
mod table;
mod terminal;
mod watch;
mod words;

use std::ffi::OsString;
use std::fmt;
use std::process::ExitCode;

use crate::error::{Error, ErrorCategory};
use crate::host::sys;
use crate::module::{ModuleFactory, ModuleRegistry};
use output::{Stream, complain, print, print_json, warn};

/// What a command ends with, as scripts see it; the worst is the last.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Outcome {
    /// Done.
    Done,
    /// The operation failed.
    Failed,
    /// The usage or the configuration is wrong.
    Usage,
    /// No master answers.
    NoMaster,
    /// No worker has this id.
    UnknownWorker,
    /// The master's own fault.
    Internal,
    /// As its main worker ended.
    Main(u8),
}

impl Outcome {
    fn code(self) -> u8 {
        match self {
            Self::Done => 0,
            Self::Failed => 1,
            Self::Usage => 2,
            Self::NoMaster => 3,
            Self::UnknownWorker => 4,
            Self::Internal => 70,
            Self::Main(code) => code,
        }
    }

    /// What an error that came from a master is for a script.
    fn of(error: &Error) -> Self {
        match error.category() {
            ErrorCategory::UnknownWorker => Self::UnknownWorker,
            ErrorCategory::Configuration => Self::Usage,
            ErrorCategory::Internal => Self::Internal,
            // The master itself is gone; a worker that does not run is named.
            ErrorCategory::NotRunning if error.worker().is_none() => Self::NoMaster,
            ErrorCategory::ExecutableNotFound
            | ErrorCategory::PermissionDenied
            | ErrorCategory::ResourceLimit
            | ErrorCategory::Network
            | ErrorCategory::Timeout
            | ErrorCategory::Crash
            | ErrorCategory::Panic
            | ErrorCategory::Stuck
            | ErrorCategory::Health
            | ErrorCategory::Watchdog
            | ErrorCategory::Plugin
            | ErrorCategory::Package
            | ErrorCategory::Cancelled
            | ErrorCategory::Unknown
            | ErrorCategory::NotRunning
            | ErrorCategory::UnknownFunction
            | ErrorCategory::Refused
            | ErrorCategory::WouldDeadlock => Self::Failed,
        }
    }
}

/// A program with its own modules and the complete command line.
///
/// ```no_run
/// use hsu_master::{App, ModuleContext, ModuleInfo, ModuleResult, WorkerModule, module_info};
///
/// #[derive(Default)]
/// struct Greeter;
///
/// impl WorkerModule for Greeter {
///     fn start(&mut self, ctx: &ModuleContext) -> ModuleResult {
///         ctx.spawn("greet", |ctx| {
///             for _ in ctx.stop_token().every(std::time::Duration::from_secs(1)) {
///                 log::info!("hello");
///             }
///             Ok(())
///         })?;
///         Ok(())
///     }
///     fn info(&self) -> ModuleInfo {
///         module_info!()
///     }
/// }
///
/// fn main() -> std::process::ExitCode {
///     App::new().module("greeter", Greeter::default).run()
/// }
/// ```
#[derive(Default)]
pub struct App {
    registry: ModuleRegistry,
    program: args::Program,
}

impl App {
    /// A program without modules.
    pub fn new() -> Self {
        Self::default()
    }

    /// The program's name, for its help and `--version`. It is also the name of a master whose
    /// configuration gives none, so it follows the rule for worker ids.
    ///
    /// Without it the program calls itself `hsu-master`, and a master is named after the directory
    /// of its configuration.
    #[must_use]
    pub fn name(mut self, name: &'static str) -> Self {
        self.program.name = name;
        self.program.named = true;
        self
    }

    /// What `--version` says. Default: the version of this library.
    #[must_use]
    pub fn version(mut self, version: &'static str) -> Self {
        self.program.version = version;
        self
    }

    /// Registers a native module under a name.
    #[must_use]
    pub fn module(mut self, name: impl Into<String>, factory: impl ModuleFactory) -> Self {
        self.registry.register_native_module_factory(name, factory);
        self
    }

    /// Runs the command that the program's arguments ask for, and returns its exit code: 0 done, 1
    /// the operation failed, 2 usage or configuration, 3 no master answers, 4 no such worker, 70
    /// the master's own fault. With a main worker it is that worker's, 128+N for signal N.
    ///
    /// To be called in `main`, before anything else: it takes the process over (see
    /// [`MasterBuilder::own_process`](crate::MasterBuilder::own_process)) and installs a logger.
    pub fn run(self) -> ExitCode {
        self.run_with(std::env::args_os())
    }

    /// As [`run`](Self::run), with these arguments; the first is the program's name.
    pub fn run_with<A: Into<OsString> + Clone>(
        self,
        arguments: impl IntoIterator<Item = A>,
    ) -> ExitCode {
        if sys::has_borrowed_rights() {
            // Whoever may start it could have it run anything with those rights.
            let message = "this program's file is set-user-ID or the like; it does not run as such";
            complain(&Error::new(ErrorCategory::Refused, message));
            return ExitCode::from(Outcome::Failed.code());
        }
        crate::host_if_requested(&self.registry);
        // Before anything is opened that could take the place of standard error.
        if let Err(error) = sys::open_std_fds() {
            complain(&Error::io("cannot open the standard descriptors", error));
            return ExitCode::from(Outcome::Failed.code());
        }
        let outcome = match args::parse(arguments, &self.program) {
            Ok(args::Verb::Run(arguments)) => run::run(&self.registry, &self.program, &arguments),
            Ok(args::Verb::Check(arguments)) => check::check(&self.registry, &arguments),
            Ok(args::Verb::Modules(arguments)) => {
                modules::modules(&self.registry, &self.program, &arguments)
            }
            Ok(args::Verb::PluginCheck(arguments)) => plugin::check(&arguments),
            Ok(args::Verb::Running(address, request)) => {
                running::ask(&self.program, &address, &request)
            }
            Ok(args::Verb::Import(arguments)) => import::import(&arguments),
            Err(error) => {
                // Help and the version are no errors, and go to standard output.
                let outcome = if error.use_stderr() { Outcome::Usage } else { Outcome::Done };
                let _ = error.print();
                outcome
            }
        };
        ExitCode::from(outcome.code())
    }
}

impl fmt::Debug for App {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("App").field("modules", &self.registry).finish()
    }
}
