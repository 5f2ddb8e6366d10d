//! A worker's configuration: what the YAML file says, as plain data with defaults that make `id`
//! plus what to run a complete worker.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::WorkerType;
use super::limits::LimitsConfig;
use super::logs::LogsConfig;
use super::policy::{
    HealthCheckConfig, HealthCheckType, RestartConfig, StartConfig, StopConfig, SuccessCodes,
};
use super::unmanaged::UnmanagedConfig;
use crate::module::EndpointInfo;

/// Where a module comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
#[non_exhaustive]
pub enum ModuleType {
    /// Compiled into the program and registered by name.
    Native,
    /// Loaded from a shared library.
    Plugin,
}

impl ModuleType {
    /// The word used in configuration and output.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Native => "native",
            Self::Plugin => "plugin",
        }
    }
}

/// The configuration of one worker.
///
/// Made by [`native`](Self::native), [`plugin`](Self::plugin), [`executable`](Self::executable) or
/// [`from_yaml`](Self::from_yaml), then refined by the methods below. Nothing is checked until the
/// worker is added to a master, which reports every problem at once.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct WorkerConfig {
    /// The worker's name: `[A-Za-z0-9][A-Za-z0-9._-]{0,63}`.
    pub id: String,
    /// Where it runs.
    pub worker_type: WorkerType,
    /// False: known to the master, not started by `start_all`.
    pub enabled: bool,
    /// True: when it ends for good without being asked, so does the master. One worker at most.
    pub main: bool,
    /// The package it comes from, as `name:version`. Not available yet: refused at start.
    pub package: Option<String>,
    /// The program to run, for a worker that is an executable.
    pub execution: Option<ExecutionConfig>,
    /// The process that somebody else starts, for a worker that is one.
    pub unmanaged: Option<UnmanagedConfig>,
    /// Where its module comes from.
    pub module_type: Option<ModuleType>,
    /// A factory's name, or a library's path.
    pub module_name: Option<String>,
    /// The symbol that a plugin's library exports the module under; `None`:
    /// `hsu_module_descriptor`.
    pub entry_point: Option<String>,
    /// The stack of each of a module's threads, in bytes.
    pub stack_size: usize,
    /// What `initialize` gets.
    pub config: serde_json::Value,
    /// How it starts.
    pub start: StartConfig,
    /// How it is asked for its health. `None`: the deployment's default.
    pub health_check: Option<HealthCheckConfig>,
    /// When it is started again.
    pub restart: RestartConfig,
    /// How it stops.
    pub stop: StopConfig,
    /// The ends that count as completed work. Ignored by modules, which say so themselves.
    pub success_codes: SuccessCodes,
    /// Where a program can be reached while it runs; modules publish their own.
    pub endpoints: Vec<EndpointInfo>,
    /// Where its output goes.
    pub logs: LogsConfig,
    /// What becomes of its process when the master ends without having stopped it. `None`: as
    /// [`OnMasterExit::Stop`], where the program can be its own guardian.
    pub on_master_exit: Option<OnMasterExit>,
    /// How much of the machine it may have. For processes.
    pub limits: LimitsConfig,
}

impl WorkerConfig {
    pub(crate) fn new(id: impl Into<String>, worker_type: WorkerType) -> Self {
        Self {
            id: id.into(),
            worker_type,
            enabled: true,
            main: false,
            package: None,
            execution: None,
            unmanaged: None,
            module_type: None,
            module_name: None,
            entry_point: None,
            stack_size: 2 << 20,
            config: serde_json::Value::Object(serde_json::Map::new()),
            start: StartConfig::default(),
            health_check: None,
            restart: RestartConfig::default(),
            stop: StopConfig::default(),
            success_codes: SuccessCodes::default(),
            endpoints: Vec::new(),
            logs: LogsConfig::default(),
            on_master_exit: None,
            limits: LimitsConfig::default(),
        }
    }

    /// A worker that runs the native module registered as `module`, as a thread of this process.
    pub fn native(id: impl Into<String>, module: impl Into<String>) -> Self {
        let mut config = Self::new(id, WorkerType::Module);
        config.module_type = Some(ModuleType::Native);
        config.module_name = Some(module.into());
        config
    }

    /// A worker that runs a module from the shared library at `library`, as a thread of this
    /// process.
    pub fn plugin(id: impl Into<String>, library: impl Into<String>) -> Self {
        let mut config = Self::new(id, WorkerType::Module);
        config.module_type = Some(ModuleType::Plugin);
        config.module_name = Some(library.into());
        config
    }

    /// A worker that runs the program at `path` as a child process.
    pub fn executable(id: impl Into<String>, path: impl Into<PathBuf>) -> Self {
        let mut config = Self::new(id, WorkerType::Process);
        config.execution =
            Some(ExecutionConfig { executable_path: path.into(), ..ExecutionConfig::default() });
        config
    }

    /// A worker that somebody else starts. It is looked for again for ever, at least every 5 s.
    pub fn unmanaged(id: impl Into<String>, unmanaged: UnmanagedConfig) -> Self {
        let mut config = Self::new(id, WorkerType::Process);
        config.restart = UnmanagedConfig::restart();
        config.unmanaged = Some(unmanaged);
        config
    }

    /// Where the worker runs: the one word that decides it.
    #[must_use]
    pub fn worker_type(mut self, worker_type: WorkerType) -> Self {
        self.worker_type = worker_type;
        self
    }

    /// False: known to the master, not started by `start_all`.
    #[must_use]
    pub fn enabled(mut self, enabled: bool) -> Self {
        self.enabled = enabled;
        self
    }

    /// True: when it ends for good without being asked, so does the master, and
    /// [`Master::main_exit`](crate::Master::main_exit) says how. In a file its restart policy is
    /// then `never` by default; here it is what it is.
    #[must_use]
    pub fn main(mut self, main: bool) -> Self {
        self.main = main;
        self
    }

    /// What the module's `initialize` gets.
    #[must_use]
    pub fn config(mut self, config: serde_json::Value) -> Self {
        self.config = config;
        self
    }

    /// The program's arguments, without its name. Ignored by modules.
    #[must_use]
    pub fn args<A: Into<String>>(mut self, args: impl IntoIterator<Item = A>) -> Self {
        if let Some(execution) = &mut self.execution {
            execution.args = args.into_iter().map(Into::into).collect();
        }
        self
    }

    /// One variable of the program's environment. Ignored by modules.
    #[must_use]
    pub fn env(mut self, name: impl Into<String>, value: impl Into<String>) -> Self {
        if let Some(execution) = &mut self.execution {
            execution.environment.insert(name.into(), value.into());
        }
        self
    }

    /// The program's working directory. Ignored by modules.
    #[must_use]
    pub fn working_directory(mut self, directory: impl Into<PathBuf>) -> Self {
        if let Some(execution) = &mut self.execution {
            execution.working_directory = Some(directory.into());
        }
        self
    }

    /// The symbol that a plugin's library exports the module under, where it is not
    /// `hsu_module_descriptor`.
    #[must_use]
    pub fn entry_point(mut self, symbol: impl Into<String>) -> Self {
        self.entry_point = Some(symbol.into());
        self
    }

    /// The stack of each of the module's threads, in bytes; at least 64 KiB.
    #[must_use]
    pub fn stack_size(mut self, bytes: usize) -> Self {
        self.stack_size = bytes;
        self
    }

    /// How long launch, start and readiness may take together.
    #[must_use]
    pub fn start_timeout(mut self, timeout: Duration) -> Self {
        self.start.timeout = timeout;
        self
    }

    /// When the worker is started again.
    #[must_use]
    pub fn restart(mut self, restart: RestartConfig) -> Self {
        self.restart = restart;
        self
    }

    /// How the worker stops.
    #[must_use]
    pub fn stop(mut self, stop: StopConfig) -> Self {
        self.stop = stop;
        self
    }

    /// How the worker is asked for its health.
    #[must_use]
    pub fn health_check(mut self, health_check: HealthCheckConfig) -> Self {
        self.health_check = Some(health_check);
        self
    }

    /// One more address at which the program can be reached while it runs. Modules publish theirs.
    #[must_use]
    pub fn endpoint(mut self, endpoint: EndpointInfo) -> Self {
        self.endpoints.push(endpoint);
        self
    }

    /// The ends that count as completed work. Ignored by modules, which say so themselves.
    #[must_use]
    pub fn success_codes(mut self, codes: SuccessCodes) -> Self {
        self.success_codes = codes;
        self
    }

    /// Where its output goes, and how much of it is kept.
    #[must_use]
    pub fn logs(mut self, logs: LogsConfig) -> Self {
        self.logs = logs;
        self
    }

    /// What becomes of its process when the master ends without having stopped it.
    #[must_use]
    pub fn on_master_exit(mut self, what: OnMasterExit) -> Self {
        self.on_master_exit = Some(what);
        self
    }

    /// Changes how a process is run: its user, its umask and the like. For a module, what its
    /// process is like, wherever it has one of its own.
    #[must_use]
    pub fn execution(mut self, change: impl FnOnce(&mut ExecutionConfig)) -> Self {
        change(self.execution.get_or_insert_default());
        self
    }

    /// How much of the machine a process may have.
    #[must_use]
    pub fn limits(mut self, limits: LimitsConfig) -> Self {
        self.limits = limits;
        self
    }

    /// What the program and the master say to each other. Ignored by modules.
    #[must_use]
    pub fn integration(mut self, integration: Integration) -> Self {
        if let Some(execution) = &mut self.execution {
            execution.integration = integration;
        }
        self
    }

    /// True when the worker is a program that speaks the worker protocol.
    pub(crate) fn is_integrated(&self) -> bool {
        let speaks = |execution: &ExecutionConfig| execution.integration == Integration::Protocol;
        !self.is_module() && self.execution.as_ref().is_some_and(speaks)
    }

    /// True when a module or a program answers for itself: it can be asked for its health, and
    /// called.
    pub(crate) fn is_conversant(&self) -> bool {
        self.is_module() || self.is_integrated()
    }

    /// False when the worker is a process that is not ours to end.
    pub(crate) fn can_be_killed(&self) -> bool {
        self.unmanaged.as_ref().is_none_or(|unmanaged| unmanaged.can_terminate)
    }

    /// True when the worker's process outlives its master.
    pub(crate) fn is_kept(&self) -> bool {
        self.worker_type == WorkerType::Process && self.on_master_exit == Some(OnMasterExit::Keep)
    }

    /// True when the worker's health is that its process is there.
    pub(crate) fn is_checked_by_presence(&self) -> bool {
        let kind = self.health_check.as_ref().and_then(|check| check.check_type);
        kind == Some(HealthCheckType::Process)
    }

    /// True when the worker is a module, wherever it runs.
    pub(crate) fn is_module(&self) -> bool {
        self.module_name.is_some()
    }

    /// Where its module comes from, for a module.
    pub(crate) fn source_of_module(&self) -> Option<ModuleType> {
        self.is_module().then(|| self.module_type.unwrap_or(ModuleType::Native))
    }

    /// How it is asked for its health, if it is.
    pub(crate) fn effective_health_check(&self) -> Option<HealthCheckConfig> {
        let default_check = self.is_conversant().then(HealthCheckConfig::default);
        self.health_check.clone().or(default_check)
    }
}

/// What becomes of a worker's process when its master ends without having stopped it: killed,
/// crashed, or told to let go.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum OnMasterExit {
    /// It is ended, with its whole group, by the master's guardian: this program, run again.
    Stop,
    /// It lives on, its output waits, and the next master of the state directory adopts it. For
    /// programs alone.
    Keep,
}

impl OnMasterExit {
    /// The word used in configuration.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Stop => "stop",
            Self::Keep => "keep",
        }
    }
}

/// What a program and its master say to each other.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Integration {
    /// Nothing: it is started, and ended by signals.
    #[default]
    None,
    /// It speaks the worker protocol on its standard input, as `docs/protocol.md` has it.
    Protocol,
}

impl Integration {
    /// The word used in configuration.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::Protocol => "protocol",
        }
    }
}

/// The program of a process worker.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct ExecutionConfig {
    /// The program. Without a slash it is looked up in the worker's `PATH`.
    pub executable_path: PathBuf,
    /// Its arguments, without its name.
    pub args: Vec<String>,
    /// Variables added to the master's environment.
    pub environment: BTreeMap<String, String>,
    /// A file with further variables, read at each launch; those of `environment` win.
    pub env_file: Option<PathBuf>,
    /// True: of the master's environment it gets `PATH`, `HOME`, `USER`, `LANG` and `TZ` alone.
    pub clear_environment: bool,
    /// Its working directory; `None`: the configuration file's directory, or the master's own.
    pub working_directory: Option<PathBuf>,
    /// What the program and the master say to each other.
    pub integration: Integration,
    /// The user it runs as, by name or number; `None`: the master's. Needs root.
    pub user: Option<String>,
    /// The group it runs as, by name or number; `None`: the user's own, or the master's. Needs
    /// root.
    pub group: Option<String>,
    /// Further groups, beside those that the system's database has the user in. Needs root.
    pub supplementary_groups: Vec<String>,
    /// The permissions that files it makes do not get; `None`: the master's.
    pub umask: Option<u32>,
    /// How much it gives way to other processes, -20 to 19; `None`: the master's.
    pub nice: Option<i32>,
    /// How likely it is killed when memory runs out, -1000 to 1000; `None`: the master's.
    pub oom_score_adj: Option<i32>,
    /// True: it can never get more rights than it has, not by a set-user-id program either.
    pub no_new_privs: bool,
}
