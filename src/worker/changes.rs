//! What differs between two configurations of one worker, key by key, and whether a running
//! incarnation can live with it.

use super::{
    ExecutionConfig, HealthCheckConfig, HealthCheckType, LogsConfig, OnMasterExit, UnmanagedConfig,
    WorkerConfig,
};

/// What differs between two configurations of a worker.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Changes {
    /// The paths of the keys.
    pub(crate) keys: Vec<&'static str>,
    /// True when the incarnation that runs cannot live with all of them.
    pub(crate) restart: bool,
}

/// A key, and whether it is the same in both.
type Key = (&'static str, fn(&WorkerConfig, &WorkerConfig) -> bool);

/// What is said of a difference that no key below tells.
const OTHER: &str = "something else";

/// Every key but `id`, which says whose configurations they are, and `enabled`, which says whether
/// it is meant to run.
const KEYS: &[Key] = &[
    ("type", |a, b| a.worker_type == b.worker_type),
    ("main", |a, b| a.main == b.main),
    ("package", |a, b| a.package == b.package),
    ("execution.executable_path", |a, b| {
        of_program(a, b, |a, b| a.executable_path == b.executable_path)
    }),
    ("execution.args", |a, b| of_program(a, b, |a, b| a.args == b.args)),
    ("execution.environment", |a, b| of_program(a, b, |a, b| a.environment == b.environment)),
    ("execution.working_directory", |a, b| {
        of_program(a, b, |a, b| a.working_directory == b.working_directory)
    }),
    ("execution.integration", |a, b| of_program(a, b, |a, b| a.integration == b.integration)),
    ("execution.env_file", |a, b| of_program(a, b, |a, b| a.env_file == b.env_file)),
    ("execution.clear_environment", |a, b| {
        of_program(a, b, |a, b| a.clear_environment == b.clear_environment)
    }),
    ("execution.user", |a, b| of_program(a, b, |a, b| a.user == b.user)),
    ("execution.group", |a, b| of_program(a, b, |a, b| a.group == b.group)),
    ("execution.supplementary_groups", |a, b| {
        of_program(a, b, |a, b| a.supplementary_groups == b.supplementary_groups)
    }),
    ("execution.umask", |a, b| of_program(a, b, |a, b| a.umask == b.umask)),
    ("execution.nice", |a, b| of_program(a, b, |a, b| a.nice == b.nice)),
    ("execution.oom_score_adj", |a, b| of_program(a, b, |a, b| a.oom_score_adj == b.oom_score_adj)),
    ("execution.no_new_privs", |a, b| of_program(a, b, |a, b| a.no_new_privs == b.no_new_privs)),
    ("limits.hard.memory", |a, b| a.limits.hard.memory == b.limits.hard.memory),
    ("limits.hard.open_files", |a, b| a.limits.hard.open_files == b.limits.hard.open_files),
    ("limits.hard.processes", |a, b| a.limits.hard.processes == b.limits.hard.processes),
    ("limits.hard.core", |a, b| a.limits.hard.core == b.limits.hard.core),
    ("on_master_exit", |a, b| {
        let stop = OnMasterExit::Stop;
        a.on_master_exit.unwrap_or(stop) == b.on_master_exit.unwrap_or(stop)
    }),
    ("unmanaged.pid_file", |a, b| of_others(a, b, |u| u.pid_file.clone())),
    ("unmanaged.process_name", |a, b| of_others(a, b, |u| u.process_name.clone())),
    ("unmanaged.process_args", |a, b| of_others(a, b, |u| u.process_args.clone())),
    ("unmanaged.port", |a, b| of_others(a, b, |u| u.port)),
    ("unmanaged.can_terminate", |a, b| of_others(a, b, |u| u.can_terminate)),
    ("module_type", |a, b| a.module_type == b.module_type),
    ("module_name", |a, b| a.module_name == b.module_name),
    ("entry_point", |a, b| a.entry_point == b.entry_point),
    ("stack_size", |a, b| a.stack_size == b.stack_size),
    ("config", |a, b| a.config == b.config),
    ("endpoints", |a, b| a.endpoints == b.endpoints),
    ("logs.mode", |a, b| a.logs.mode == b.logs.mode),
    ("logs.max_size", |a, b| a.logs.max_size == b.logs.max_size),
    ("logs.max_files", |a, b| a.logs.max_files == b.logs.max_files),
    ("logs.timestamps", |a, b| a.logs.timestamps == b.logs.timestamps),
    ("logs.overflow", |a, b| a.logs.overflow == b.logs.overflow),
    ("stop.signal", |a, b| a.stop.signal == b.stop.signal),
    ("stop.kill_group", |a, b| a.stop.kill_group == b.stop.kill_group),
    ("stop.timeout", |a, b| a.stop.timeout == b.stop.timeout),
    ("start.timeout", |a, b| a.start.timeout == b.start.timeout),
    ("success_codes", |a, b| a.success_codes == b.success_codes),
    ("health_check.type", |a, b| {
        of_check(a, b, |c| c.check_type.unwrap_or(HealthCheckType::Module))
    }),
    ("health_check.interval", |a, b| of_check(a, b, |c| c.interval)),
    ("health_check.timeout", |a, b| of_check(a, b, |c| c.timeout)),
    ("health_check.initial_delay", |a, b| of_check(a, b, |c| c.initial_delay)),
    ("health_check.retries", |a, b| of_check(a, b, |c| c.retries)),
    ("health_check.successes", |a, b| of_check(a, b, |c| c.successes)),
    ("health_check.on_unhealthy", |a, b| of_check(a, b, |c| c.on_unhealthy)),
    ("restart.policy", |a, b| a.restart.policy == b.restart.policy),
    ("restart.max_retries", |a, b| a.restart.max_retries == b.restart.max_retries),
    ("restart.retry_delay", |a, b| a.restart.retry_delay == b.restart.retry_delay),
    ("restart.backoff_rate", |a, b| a.restart.backoff_rate == b.restart.backoff_rate),
    ("restart.max_delay", |a, b| a.restart.max_delay == b.restart.max_delay),
    ("restart.jitter", |a, b| a.restart.jitter == b.restart.jitter),
    ("restart.reset_after", |a, b| a.restart.reset_after == b.restart.reset_after),
    ("restart.half_open_after", |a, b| a.restart.half_open_after == b.restart.half_open_after),
    ("restart.startup_grace_period", |a, b| {
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
        let differ = KEYS.iter().filter(|(_, same)| !same(self, new));
        let mut keys: Vec<_> = differ.map(|(key, _)| *key).collect();
        let restart = !self.lives_with(new);
        if restart && keys.is_empty() {
            keys.push(OTHER);
        }
        Changes { keys, restart }
    }

    /// True when an incarnation of this configuration can go on under `new`: they differ in nothing
    /// but what holds at once. What is not named here needs a new incarnation, known or not.
    fn lives_with(&self, new: &Self) -> bool {
        let mut adapted = self.clone();
        adapted.enabled = new.enabled;
        adapted.main = new.main;
        adapted.start.clone_from(&new.start);
        adapted.health_check.clone_from(&new.health_check);
        adapted.restart.clone_from(&new.restart);
        // The signal and its target are held by the process's gate from its spawn on.
        adapted.stop.timeout = new.stop.timeout;
        adapted.success_codes.clone_from(&new.success_codes);
        // A process has its output where it was spawned with it.
        adapted.logs = LogsConfig { mode: adapted.logs.mode, ..new.logs };
        adapted == *new
    }
}
