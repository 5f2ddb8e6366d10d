//! From a worker's configuration to what the core and the hosts need of it.

use std::path::{self, Path};
use std::sync::Arc;

use crate::abi::DEFAULT_SYMBOL;
use crate::core::event::{HealthPolicy, WorkerSpec};
use crate::error::{ErrorCategory, Failure};
use crate::host::ModuleSource;
#[cfg(target_os = "linux")]
use crate::host::estate::{Afterwards, fingerprint};
#[cfg(feature = "cli")]
use crate::host::plugin;
use crate::host::process::{LinkPlan, ProcessPlan, Settings};
use crate::host::protocol::HOST_ROLE;
use crate::host::roles::Program;
#[cfg(feature = "cli")]
use crate::host::roles::this_program;
use crate::host::unmanaged::UnmanagedPlan;
use crate::worker::{LogMode, ModuleType, SuccessCodes, WorkerConfig, WorkerType};

/// What to run when a worker is launched.
pub(super) enum Plan {
    /// A module, on a thread.
    Module { module: ModuleSource },
    /// A program.
    Process(Arc<ProcessPlan>),
    /// A process that somebody else starts.
    Unmanaged(Arc<UnmanagedPlan>),
    /// Something that cannot be run yet: its launch fails with this.
    NotYet(Failure),
}

impl Plan {
    /// `host`: the program that is run for a module in a process of its own.
    pub(super) fn new(config: &WorkerConfig, host: Option<&Program>) -> Self {
        let not_yet =
            |category, message: &str| Self::NotYet(Failure::new(category, message).permanent());
        let execution = config.execution.clone().unwrap_or_default();
        let needed = Settings::needed(&execution, &config.limits.hard);
        if let Some(key) = needed.filter(|_| host.is_none()) {
            return not_yet(ErrorCategory::Configuration, &format!("{key} {NO_LAUNCHER}"));
        }
        match (&config.package, config.module_type, &config.module_name, &config.execution) {
            (Some(package), ..) => not_yet(
                ErrorCategory::Package,
                &format!("packages are not available yet, so {package:?} cannot be resolved"),
            ),
            (None, _, Some(module), _) if config.worker_type == WorkerType::Process => match host {
                Some(host) => Self::Process(Arc::new(hosted(config, module, host))),
                None => not_yet(ErrorCategory::Configuration, NO_HOST),
            },
            (None, _, Some(module), _) => Self::Module { module: source(config, module) },
            (None, _, None, Some(execution)) => {
                let mut plan = program(config, &execution.executable_path, host);
                let none = ModuleSource::Native(String::new());
                plan.link = config.is_integrated().then(|| link(config, none, false).into());
                Self::Process(Arc::new(plan))
            }
            (None, _, None, None) => match config.unmanaged.clone() {
                Some(what) => {
                    let signal = config.stop.signal;
                    Self::Unmanaged(Arc::new(UnmanagedPlan { what, signal }))
                }
                None => not_yet(ErrorCategory::Configuration, "there is nothing to run"),
            },
        }
    }
}

/// What keeps a module from running in a process of its own.
pub(crate) const NO_HOST: &str = "a module in a process of its own is this program, run again: \
    begin its main with hsu_master::host_if_requested(&registry), as App::run does, or name \
    another program with MasterBuilder::host_program";

/// What keeps a process from getting settings that it has to set on itself.
pub(crate) const NO_LAUNCHER: &str = "is set by this program, run again for a moment: begin its \
    main with hsu_master::host_if_requested(&registry), as App::run does, or name another program \
    with MasterBuilder::host_program";

/// A program as it is configured.
fn program(config: &WorkerConfig, path: &Path, launcher: Option<&Program>) -> ProcessPlan {
    let execution = config.execution.clone().unwrap_or_default();
    let hard = &config.limits.hard;
    let settings = launcher
        .filter(|_| Settings::needed(&execution, hard).is_some())
        .map(|launcher| Box::new(Settings::new(launcher.clone(), &execution, hard)));
    ProcessPlan {
        program: path.to_owned(),
        args: execution.args,
        environment: execution.environment,
        working_directory: execution.working_directory,
        signal: config.stop.signal,
        kill_group: config.stop.kill_group,
        name: None,
        link: None,
        output: config.logs.mode,
        #[cfg(target_os = "linux")]
        afterwards: Afterwards {
            keep: config.is_kept(),
            configuration: fingerprint(config),
            patience: config.stop.timeout,
        },
        env_file: execution.env_file,
        clear_environment: execution.clear_environment,
        settings,
    }
}

/// A module in a process of its own.
fn hosted(config: &WorkerConfig, module: &str, host: &Program) -> ProcessPlan {
    ProcessPlan {
        args: vec![HOST_ROLE.to_owned()],
        name: host.name.clone(),
        link: Some(link(config, source(config, module), true).into()),
        // Its log lines are the master's too, even where its log file is not wanted.
        output: LogMode::Capture,
        ..program(config, &host.path, Some(host))
    }
}

/// Where a module's instances come from, wherever they live.
fn source(config: &WorkerConfig, module: &str) -> ModuleSource {
    if config.module_type != Some(ModuleType::Plugin) {
        return ModuleSource::Native(module.to_owned());
    }
    // A child may have another working directory.
    let path = path::absolute(module).unwrap_or_else(|_| module.into());
    let entry_point = config.entry_point.clone().unwrap_or_else(|| DEFAULT_SYMBOL.to_owned());
    ModuleSource::Plugin { path, entry_point }
}

fn link(config: &WorkerConfig, module: ModuleSource, hosted: bool) -> LinkPlan {
    LinkPlan {
        module,
        hosted,
        config: config.config.clone(),
        stack_size: config.stack_size,
        start_timeout: config.start.timeout,
        probe_timeout: config.health_check.clone().unwrap_or_default().timeout,
    }
}

/// Checks whether a worker's program could be started here and now, or its library be loaded.
/// Native modules always could.
///
/// # Errors
/// What is missing or refused.
#[cfg(feature = "cli")]
pub(crate) fn preflight(config: &WorkerConfig) -> Result<(), Failure> {
    let look = |module: &ModuleSource| match module {
        ModuleSource::Plugin { path, .. } => plugin::look(path),
        ModuleSource::Native(_) => Ok(()),
    };
    match Plan::new(config, this_program().as_ref()) {
        Plan::Process(plan) => {
            plan.preflight()?;
            plan.link.as_ref().map_or(Ok(()), |link| look(&link.module))
        }
        Plan::Module { module } => look(&module),
        // It may come at any time.
        Plan::Unmanaged(_) => Ok(()),
        Plan::NotYet(failure) => Err(failure),
    }
}

/// The ends of a worker's process that mean that its work is done.
pub(super) fn success_codes(config: &WorkerConfig) -> SuccessCodes {
    match config.is_module() {
        // Its work is done when it says so; an exit of its process is a crash.
        true => SuccessCodes::codes([]),
        false => config.success_codes.clone(),
    }
}

/// The core's part of a configuration.
pub(crate) fn worker_spec(config: &WorkerConfig) -> WorkerSpec {
    let check = config.effective_health_check();
    WorkerSpec {
        start_timeout: config.start.timeout,
        stop_timeout: config.stop.timeout,
        killable: config.worker_type == WorkerType::Process && config.can_be_killed(),
        // Who has not started a process does not end it with himself.
        keeps: config.is_kept() || config.unmanaged.is_some(),
        restart: config.restart.clone(),
        health: check.map(|check| HealthPolicy {
            interval: check.interval,
            timeout: check.timeout,
            initial_delay: check.initial_delay,
            retries: check.retries,
            successes: check.successes,
            on_unhealthy: check.on_unhealthy,
        }),
        success: success_codes(config),
        depends_on: Vec::new(),
    }
}
