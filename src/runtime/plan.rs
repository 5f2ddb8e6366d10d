//! From a worker's configuration to what the core and the hosts need of it.

use std::sync::Arc;

use crate::abi::DEFAULT_SYMBOL;
use crate::core::event::{HealthPolicy, WorkerSpec};
use crate::error::{ErrorCategory, Failure};
use crate::host::ModuleSource;
use crate::host::process::ProcessPlan;
use crate::worker::{HealthCheckConfig, ModuleType, WorkerConfig, WorkerType};

/// What to run when a worker is launched.
pub(super) enum Plan {
    /// A module, on a thread.
    Module { module: ModuleSource },
    /// A program.
    Process(Arc<ProcessPlan>),
    /// Something that cannot be run yet: its launch fails with this.
    NotYet(Failure),
}

impl Plan {
    pub(super) fn new(config: &WorkerConfig) -> Self {
        let not_yet =
            |category, message: &str| Self::NotYet(Failure::new(category, message).permanent());
        match (&config.package, config.module_type, &config.module_name, &config.execution) {
            (Some(package), ..) => not_yet(
                ErrorCategory::Package,
                &format!("packages are not available yet, so {package:?} cannot be resolved"),
            ),
            (None, _, Some(_), _) if config.worker_type == WorkerType::Process => not_yet(
                ErrorCategory::Configuration,
                "a module in a process of its own is not available yet: write `type: module`, or \
                 run the module's own program",
            ),
            (None, kind, Some(module), _) => Self::Module {
                module: match kind {
                    Some(ModuleType::Plugin) => ModuleSource::Plugin {
                        path: module.into(),
                        entry_point: config
                            .entry_point
                            .clone()
                            .unwrap_or_else(|| DEFAULT_SYMBOL.to_owned()),
                    },
                    Some(ModuleType::Native) | None => ModuleSource::Native(module.clone()),
                },
            },
            (None, _, None, Some(execution)) => Self::Process(Arc::new(ProcessPlan {
                program: execution.executable_path.clone(),
                args: execution.args.clone(),
                environment: execution.environment.clone(),
                working_directory: execution.working_directory.clone(),
                signal: config.stop.signal,
                kill_group: config.stop.kill_group,
            })),
            (None, _, None, None) => {
                not_yet(ErrorCategory::Configuration, "there is nothing to run")
            }
        }
    }
}

/// Checks whether a worker's program could be started here and now. Modules always could.
///
/// # Errors
/// What is missing or refused.
#[cfg(feature = "cli")]
pub(crate) fn preflight(config: &WorkerConfig) -> Result<(), Failure> {
    match Plan::new(config) {
        Plan::Process(plan) => plan.preflight(),
        Plan::Module { .. } => Ok(()),
        Plan::NotYet(failure) => Err(failure),
    }
}

/// The core's part of a configuration.
pub(crate) fn worker_spec(config: &WorkerConfig) -> WorkerSpec {
    let default_check = config.is_module().then(HealthCheckConfig::default);
    let check = config.health_check.clone().or(default_check);
    WorkerSpec {
        start_timeout: config.start.timeout,
        stop_timeout: config.stop.timeout,
        killable: config.worker_type == WorkerType::Process,
        restart: config.restart.clone(),
        health: check.map(|check| HealthPolicy {
            interval: check.interval,
            timeout: check.timeout,
            initial_delay: check.initial_delay,
            retries: check.retries,
            successes: check.successes,
            on_unhealthy: check.on_unhealthy,
        }),
        success: config.success_codes.clone(),
        depends_on: Vec::new(),
    }
}
