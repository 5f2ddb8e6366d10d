//! How a worker is configured, as a description tells it: effective values, and nothing of what
//! does not apply to it. Also how much patience its restart policy has left.

use serde::{Deserialize, Serialize};

use super::millis;
use crate::control::redact::redacted;
use crate::worker::{
    HealthCheckType, LogMode, OnMasterExit, RestartConfig, RestartPolicy, UnmanagedConfig,
    WorkerConfig, WorkerDiagnostics, WorkerType,
};

/// The part of a worker's configuration that explains what it does, as it takes effect: what does
/// not apply is null. Values of its environment and a module's `config` are not told: they may be
/// secrets.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct ConfigReport {
    /// False: it is not started with the others.
    pub enabled: bool,
    /// Its program and arguments, for a program.
    pub command: Option<Vec<String>>,
    /// Where the program runs.
    pub working_directory: Option<String>,
    /// The names of the variables that are set for it.
    pub environment: Vec<String>,
    /// How its process is found, if somebody else starts it.
    pub unmanaged: Option<UnmanagedReport>,
    /// True when it speaks the worker protocol with its master: a module in a process of its own,
    /// or a program that is so configured. It is asked to end in words then.
    #[serde(default)]
    pub protocol: bool,
    /// How long launch and start may take together.
    pub start_timeout_ms: u64,
    /// How long it has to end before its process is killed, or its thread abandoned. Null where a
    /// stop only lets go of it.
    pub stop_timeout_ms: Option<u64>,
    /// The number of the signal that asks it to end, or that does if words do not reach it. Null
    /// where no signal is sent.
    pub stop_signal: Option<i32>,
    /// True when its whole process group is ended. Null where it has none of ours.
    pub kill_group: Option<bool>,
    /// The restart policy's word.
    pub restart_policy: String,
    /// Retries in a row before it gives up; 0: it never does.
    pub max_retries: u32,
    /// Up for so long, and the failures are forgotten.
    pub reset_after_ms: u64,
    /// So long after giving up it is tried once more; 0: never.
    pub half_open_after_ms: u64,
    /// Who is asked for its health, if it is: `module` or `process`.
    pub health_check: Option<String>,
    /// How often its health is asked for, if it is.
    pub health_interval_ms: Option<u64>,
    /// Exit codes that count as success, where the master sees one that could.
    pub success_codes: Option<Vec<i32>>,
    /// Signals whose deaths count as success, as above.
    pub success_signals: Option<Vec<i32>>,
    /// What becomes of its process when the master ends without having stopped it: `stop` or
    /// `keep`. Null: nobody sees to it, as of a process that somebody else has started.
    pub on_master_exit: Option<String>,
    /// What happens when it writes faster than the disk takes it: `block` or `drop`. Null where
    /// nothing of it is captured.
    #[serde(default)]
    pub log_overflow: Option<String>,
}

/// How a process that somebody else starts is found, by one of three ways, and what may be done to
/// it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct UnmanagedReport {
    /// The file that has its process id.
    pub pid_file: Option<String>,
    /// Its name,
    pub process_name: Option<String>,
    /// and arguments that it has, in this order, maybe among others.
    #[serde(default)]
    pub process_args: Vec<String>,
    /// The TCP port that it listens on.
    pub port: Option<u16>,
    /// True: a stop ends it. False: a stop lets go of it, and it lives on.
    pub can_terminate: bool,
}

impl From<&UnmanagedConfig> for UnmanagedReport {
    fn from(config: &UnmanagedConfig) -> Self {
        Self {
            pid_file: config.pid_file.as_ref().map(|file| file.display().to_string()),
            process_name: config.process_name.clone(),
            process_args: redacted(config.process_args.iter().cloned()),
            port: config.port,
            can_terminate: config.can_terminate,
        }
    }
}

impl ConfigReport {
    /// `guarded`: the master has a guardian.
    pub(in crate::control) fn new(config: &WorkerConfig, guarded: bool) -> Self {
        let execution = config.execution.as_ref().filter(|_| !config.is_module());
        let settings = config.execution.as_ref();
        let command = execution.map(|execution| {
            let program = execution.executable_path.display().to_string();
            redacted(std::iter::once(program).chain(execution.args.iter().cloned()))
        });
        let directory = settings.and_then(|execution| execution.working_directory.as_ref());
        let process = config.worker_type == WorkerType::Process;
        let stops = config.can_be_killed();
        let own = process && config.unmanaged.is_none();
        let captured = config.logs.mode == LogMode::Capture && config.unmanaged.is_none();
        let check = config.effective_health_check();
        let kind = |check: Option<HealthCheckType>| check.unwrap_or(HealthCheckType::Module);
        // Of a module and of others' processes no exit is a success.
        let success = (own && !config.is_module()).then_some(&config.success_codes);
        Self {
            enabled: config.enabled,
            command,
            working_directory: directory.map(|directory| directory.display().to_string()),
            environment: settings
                .map(|execution| execution.environment.keys().cloned().collect())
                .unwrap_or_default(),
            unmanaged: config.unmanaged.as_ref().map(UnmanagedReport::from),
            protocol: process && config.is_conversant(),
            start_timeout_ms: millis(config.start.timeout),
            stop_timeout_ms: stops.then(|| millis(config.stop.timeout)),
            stop_signal: (process && stops).then_some(config.stop.signal),
            kill_group: own.then_some(config.stop.kill_group),
            restart_policy: config.restart.policy.as_str().to_owned(),
            max_retries: config.restart.max_retries,
            reset_after_ms: millis(config.restart.reset_after),
            half_open_after_ms: millis(config.restart.half_open_after),
            health_check: check.as_ref().map(|c| kind(c.check_type).as_str().to_owned()),
            health_interval_ms: check.as_ref().map(|check| millis(check.interval)),
            success_codes: success.map(|success| success.codes.clone()),
            success_signals: success.map(|success| success.signals.clone()),
            on_master_exit: afterwards(config, guarded).map(|what| what.as_str().to_owned()),
            log_overflow: captured.then(|| config.logs.overflow.as_str().to_owned()),
        }
    }
}

/// What becomes of a worker's process when its master ends without having stopped it.
fn afterwards(config: &WorkerConfig, guarded: bool) -> Option<OnMasterExit> {
    if config.worker_type != WorkerType::Process || config.unmanaged.is_some() {
        return None;
    }
    // Who speaks with the master ends with the line to it.
    let by_itself = guarded || config.is_conversant();
    config.on_master_exit.or(by_itself.then_some(OnMasterExit::Stop))
}

/// The failures in a row that count, and how many more are followed by a retry; `None`: all are.
pub(in crate::control) fn patience(
    known: &WorkerDiagnostics,
    failures: u32,
    restart: &RestartConfig,
) -> (u32, Option<u32>) {
    // The policy forgets them at the next end; up so long, nobody need remember them.
    let steady = known.uptime.is_some_and(|up| up >= restart.reset_after);
    let failures = if steady { 0 } else { failures };
    let left = match (restart.policy, restart.max_retries) {
        (RestartPolicy::Never, _) => Some(0),
        _ if known.gave_up => Some(0),
        (_, 0) => None,
        // A start by command begins anew.
        (_, max) if known.goal != "up" => Some(max),
        (_, max) => Some(max.saturating_sub(failures)),
    };
    (failures, left)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn report(yaml: &str, guarded: bool) -> ConfigReport {
        ConfigReport::new(&WorkerConfig::from_yaml(yaml).unwrap(), guarded)
    }

    #[test]
    fn what_does_not_apply_is_null_and_what_does_is_as_it_takes_effect() {
        let hosted = report("{ id: a, type: process, module_name: m }", true);
        assert_eq!((hosted.protocol, hosted.command), (true, None));
        assert_eq!((hosted.stop_signal, hosted.kill_group), (Some(15), Some(true)));
        assert_eq!((hosted.success_codes, hosted.health_interval_ms), (None, Some(10_000)));
        assert_eq!(hosted.on_master_exit.as_deref(), Some("stop"));
        let program = "{ id: a, command: x, success_codes: [0, 7, SIGTERM] }";
        let program = report(program, false);
        assert_eq!((program.protocol, program.health_check), (false, None));
        assert_eq!(
            (program.success_codes, program.success_signals),
            (Some(vec![0, 7]), Some(vec![15]))
        );
        assert_eq!(program.on_master_exit, None, "without a guardian nobody sees to it");
        assert_eq!(program.log_overflow.as_deref(), Some("block"));
        let dropping = report("{ id: a, command: x, logs: { overflow: drop } }", true);
        assert_eq!(dropping.log_overflow.as_deref(), Some("drop"));
        let silent = report("{ id: a, command: x, logs: { mode: discard } }", true);
        assert_eq!(silent.log_overflow, None);
        assert_eq!(report("{ id: a, command: x }", true).on_master_exit.as_deref(), Some("stop"));
        let ours = "{ id: a, unmanaged: { port: 80, can_terminate: true } }";
        let ours = report(ours, true);
        assert_eq!((ours.stop_signal, ours.stop_timeout_ms), (Some(15), Some(10_000)));
        assert_eq!((ours.kill_group, ours.success_codes, ours.on_master_exit), (None, None, None));
        assert_eq!(ours.unmanaged.unwrap().port, Some(80));
        let named = "{ id: a, unmanaged: { process_name: x, process_args: [--password=p] } }";
        let named = report(named, true).unmanaged.unwrap();
        assert_eq!(named.process_name.as_deref(), Some("x"));
        assert!(!format!("{named:?}").contains("=p"), "{named:?}");
    }
}
