//! What differs between two configurations of one worker, key by key, and whether a running
//! incarnation can live with it.

use super::{ExecutionConfig, HealthCheckConfig, HealthCheckType, UnmanagedConfig, WorkerConfig};

/// What a change of a key asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Need {
    /// It holds for the incarnation that runs.
    Nothing,
    /// It holds for a new incarnation only.
    Restart,
}

/// What differs between two configurations of a worker.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Changes {
    /// The paths of the keys.
    pub(crate) keys: Vec<&'static str>,
    /// True when the incarnation that runs cannot live with all of them.
    pub(crate) restart: bool,
}

/// A key, what its change asks for, and whether it is the same in both.
type Key = (&'static str, Need, fn(&WorkerConfig, &WorkerConfig) -> bool);

/// Every key but `id`, which says whose configurations they are, and `enabled`, which says whether
/// it is meant to run.
const KEYS: &[Key] = &[
    ("type", Need::Restart, |a, b| a.worker_type == b.worker_type),
    ("main", Need::Nothing, |a, b| a.main == b.main),
    ("package", Need::Restart, |a, b| a.package == b.package),
    ("execution.executable_path", Need::Restart, |a, b| {
        of_program(a, b, |a, b| a.executable_path == b.executable_path)
    }),
    ("execution.args", Need::Restart, |a, b| of_program(a, b, |a, b| a.args == b.args)),
    ("execution.environment", Need::Restart, |a, b| {
        of_program(a, b, |a, b| a.environment == b.environment)
    }),
    ("execution.working_directory", Need::Restart, |a, b| {
        of_program(a, b, |a, b| a.working_directory == b.working_directory)
    }),
    ("execution.integration", Need::Restart, |a, b| {
        of_program(a, b, |a, b| a.integration == b.integration)
    }),
    ("unmanaged.pid_file", Need::Restart, |a, b| of_others(a, b, |u| u.pid_file.clone())),
    ("unmanaged.process_name", Need::Restart, |a, b| of_others(a, b, |u| u.process_name.clone())),
    ("unmanaged.process_args", Need::Restart, |a, b| of_others(a, b, |u| u.process_args.clone())),
    ("unmanaged.port", Need::Restart, |a, b| of_others(a, b, |u| u.port)),
    ("unmanaged.can_terminate", Need::Restart, |a, b| of_others(a, b, |u| u.can_terminate)),
    ("execution.env_file", Need::Restart, |a, b| of_program(a, b, |a, b| a.env_file == b.env_file)),
    ("execution.clear_environment", Need::Restart, |a, b| {
        of_program(a, b, |a, b| a.clear_environment == b.clear_environment)
    }),
    ("execution.user", Need::Restart, |a, b| of_program(a, b, |a, b| a.user == b.user)),
    ("execution.group", Need::Restart, |a, b| of_program(a, b, |a, b| a.group == b.group)),
    ("execution.supplementary_groups", Need::Restart, |a, b| {
        of_program(a, b, |a, b| a.supplementary_groups == b.supplementary_groups)
    }),
    ("execution.umask", Need::Restart, |a, b| of_program(a, b, |a, b| a.umask == b.umask)),
    ("execution.nice", Need::Restart, |a, b| of_program(a, b, |a, b| a.nice == b.nice)),
    ("execution.oom_score_adj", Need::Restart, |a, b| {
        of_program(a, b, |a, b| a.oom_score_adj == b.oom_score_adj)
    }),
    ("execution.no_new_privs", Need::Restart, |a, b| {
        of_program(a, b, |a, b| a.no_new_privs == b.no_new_privs)
    }),
    ("limits.hard.memory", Need::Restart, |a, b| a.limits.hard.memory == b.limits.hard.memory),
    ("limits.hard.open_files", Need::Restart, |a, b| {
        a.limits.hard.open_files == b.limits.hard.open_files
    }),
    ("limits.hard.processes", Need::Restart, |a, b| {
        a.limits.hard.processes == b.limits.hard.processes
    }),
    ("limits.hard.core", Need::Restart, |a, b| a.limits.hard.core == b.limits.hard.core),
    ("on_master_exit", Need::Restart, |a, b| a.on_master_exit == b.on_master_exit),
    ("module_type", Need::Restart, |a, b| a.module_type == b.module_type),
    ("module_name", Need::Restart, |a, b| a.module_name == b.module_name),
    ("entry_point", Need::Restart, |a, b| a.entry_point == b.entry_point),
    ("stack_size", Need::Restart, |a, b| a.stack_size == b.stack_size),
    ("config", Need::Restart, |a, b| a.config == b.config),
    ("endpoints", Need::Restart, |a, b| a.endpoints == b.endpoints),
    // Held by the process's gate from its spawn on.
    ("stop.signal", Need::Restart, |a, b| a.stop.signal == b.stop.signal),
    ("stop.kill_group", Need::Restart, |a, b| a.stop.kill_group == b.stop.kill_group),
    ("stop.timeout", Need::Nothing, |a, b| a.stop.timeout == b.stop.timeout),
    ("start.timeout", Need::Nothing, |a, b| a.start.timeout == b.start.timeout),
    ("success_codes", Need::Nothing, |a, b| a.success_codes == b.success_codes),
    ("health_check.type", Need::Nothing, |a, b| {
        of_check(a, b, |c| c.check_type.unwrap_or(HealthCheckType::Module))
    }),
    ("health_check.interval", Need::Nothing, |a, b| of_check(a, b, |c| c.interval)),
    ("health_check.timeout", Need::Nothing, |a, b| of_check(a, b, |c| c.timeout)),
    ("health_check.initial_delay", Need::Nothing, |a, b| of_check(a, b, |c| c.initial_delay)),
    ("health_check.retries", Need::Nothing, |a, b| of_check(a, b, |c| c.retries)),
    ("health_check.successes", Need::Nothing, |a, b| of_check(a, b, |c| c.successes)),
    ("health_check.on_unhealthy", Need::Nothing, |a, b| of_check(a, b, |c| c.on_unhealthy)),
    ("restart.policy", Need::Nothing, |a, b| a.restart.policy == b.restart.policy),
    ("restart.max_retries", Need::Nothing, |a, b| a.restart.max_retries == b.restart.max_retries),
    ("restart.retry_delay", Need::Nothing, |a, b| a.restart.retry_delay == b.restart.retry_delay),
    ("restart.backoff_rate", Need::Nothing, |a, b| {
        a.restart.backoff_rate == b.restart.backoff_rate
    }),
    ("restart.max_delay", Need::Nothing, |a, b| a.restart.max_delay == b.restart.max_delay),
    ("restart.jitter", Need::Nothing, |a, b| a.restart.jitter == b.restart.jitter),
    ("restart.reset_after", Need::Nothing, |a, b| a.restart.reset_after == b.restart.reset_after),
    ("restart.half_open_after", Need::Nothing, |a, b| {
        a.restart.half_open_after == b.restart.half_open_after
    }),
    ("restart.startup_grace_period", Need::Nothing, |a, b| {
        a.restart.startup_grace_period == b.restart.startup_grace_period
    }),
];

/// The same in both programs; no program is one without anything.
fn of_program(
    a: &WorkerConfig,
    b: &WorkerConfig,
    same: fn(&ExecutionConfig, &ExecutionConfig) -> bool,
) -> bool {
    let none = ExecutionConfig::default();
    same(a.execution.as_ref().unwrap_or(&none), b.execution.as_ref().unwrap_or(&none))
}

/// The same of what is said of others' processes.
fn of_others<T: PartialEq>(
    a: &WorkerConfig,
    b: &WorkerConfig,
    of: fn(&UnmanagedConfig) -> T,
) -> bool {
    a.unmanaged.as_ref().map(of) == b.unmanaged.as_ref().map(of)
}

/// The same in both checks; none is the deployment's own.
fn of_check<T: PartialEq>(
    a: &WorkerConfig,
    b: &WorkerConfig,
    of: fn(&HealthCheckConfig) -> T,
) -> bool {
    let default = HealthCheckConfig::default();
    of(a.health_check.as_ref().unwrap_or(&default))
        == of(b.health_check.as_ref().unwrap_or(&default))
}

impl WorkerConfig {
    /// What `new` changes in this configuration, apart from `enabled`.
    pub(crate) fn changes(&self, new: &Self) -> Changes {
        let mut changes = Changes::default();
        for (key, need, same) in KEYS {
            if !same(self, new) {
                changes.keys.push(key);
                changes.restart |= *need == Need::Restart;
            }
        }
        changes
    }
}
