//! The command line: a program's whole main in three lines, and what the stock binary is made of.

mod args;
mod check;
mod echo;
mod logger;
mod modules;
mod plugin;
mod run;

use std::ffi::OsString;
use std::fmt;
use std::process::ExitCode;

use crate::error::Error;
use crate::host::sys;
use crate::module::{ModuleFactory, ModuleRegistry};

/// What a command ends with, as scripts see it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Outcome {
    /// Done.
    Done,
    /// The operation failed.
    Failed,
    /// The usage or the configuration is wrong.
    Usage,
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
            Self::Internal => 70,
            Self::Main(code) => code,
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
}

impl App {
    /// A program without modules.
    pub fn new() -> Self {
        Self::default()
    }

    /// Registers a native module under a name.
    #[must_use]
    pub fn module(mut self, name: impl Into<String>, factory: impl ModuleFactory) -> Self {
        self.registry.register_native_module_factory(name, factory);
        self
    }

    /// Runs the command that the program's arguments ask for, and returns its exit code: 0 done, 1
    /// the operation failed, 2 usage or configuration, 70 the master's own fault. With a main
    /// worker it is that worker's, 128+N for signal N.
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
        crate::host_if_requested(&self.registry);
        // Before anything is opened that could take the place of standard error.
        if let Err(error) = sys::open_std_fds() {
            complain(&Error::io("cannot open the standard descriptors", error));
            return ExitCode::from(Outcome::Failed.code());
        }
        let outcome = match args::parse(arguments) {
            Ok(args::Verb::Run(arguments)) => run::run(&self.registry, &arguments),
            Ok(args::Verb::Check(arguments)) => check::check(&self.registry, &arguments),
            Ok(args::Verb::Modules(arguments)) => modules::modules(&self.registry, &arguments),
            Ok(args::Verb::PluginCheck(arguments)) => plugin::check(&arguments),
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

/// Says what went wrong, on standard error. Nobody reading it is no reason to fail.
fn complain(error: &Error) {
    use std::io::Write as _;
    let _ = writeln!(std::io::stderr(), "error: {error}");
}

/// Prints to standard output. A reader that went away is no reason to fail; a full disk is.
fn print(text: &str) -> Outcome {
    use std::io::Write as _;
    let mut out = std::io::stdout().lock();
    match out.write_all(text.as_bytes()).and_then(|()| out.flush()) {
        Err(error) if error.kind() != std::io::ErrorKind::BrokenPipe => {
            complain(&Error::io("cannot write to standard output", error));
            Outcome::Failed
        }
        Ok(()) | Err(_) => Outcome::Done,
    }
}
