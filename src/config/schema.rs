//! The keys of a configuration file outside of a worker's own: each with what reads it.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

use log::LevelFilter;

use super::MasterConfig;
use super::execution::{HARD, LIMITS};
use super::include::{Included, Used, include};
use super::reader::{Key, Reader};
use super::worker::{self, EXECUTION, UNMANAGED};
use super::yaml::{Mark, Node, Value};
use crate::fnv::Fnv;
use crate::worker::{
    HealthCheckConfig, HealthCheckType, LogMode, LogOverflow, LogsConfig, Mistake, OnUnhealthy,
    RestartConfig, RestartPolicy, StartConfig, StopConfig, UnmanagedConfig, WorkerConfig, WorkerId,
    signal_number,
};

/// What is said of a file without workers: it is more likely a mistake than a wish.
pub(super) const NO_WORKERS: &str = "no workers defined; write `workers: []` if none are meant";

/// How many workers one configuration may have.
const MAX_WORKERS: usize = 10_000;

/// What is read from a file, while it is read.
#[derive(Default)]
pub(super) struct Draft {
    pub(super) config: MasterConfig,
    defaults: Defaults,
    /// Where each id was used first, without regard to upper and lower case.
    ids: BTreeMap<String, Used>,
    /// The worker whose end ends the master, if there is one.
    main: Option<String>,
    pub(super) included: Included,
    pub(super) digest: Fnv,
}

impl Draft {
    /// What is read from this file.
    pub(super) fn of(file: &Path) -> Self {
        Self { included: Included::of(file), ..Self::default() }
    }
}

/// What a worker has where it says nothing itself.
#[derive(Clone, Debug)]
pub(super) struct Defaults {
    pub(super) restart: RestartConfig,
    /// The same for workers that somebody else starts.
    pub(super) unmanaged_restart: RestartConfig,
    /// Somebody has written the restart policy.
    pub(super) policy_is_written: bool,
    pub(super) stop: StopConfig,
    pub(super) start: StartConfig,
    pub(super) health_check: Option<HealthCheckConfig>,
    pub(super) logs: LogsConfig,
}

impl Default for Defaults {
    fn default() -> Self {
        Self {
            restart: RestartConfig::default(),
            unmanaged_restart: UnmanagedConfig::restart(),
            policy_is_written: false,
            stop: StopConfig::default(),
            start: StartConfig::default(),
            health_check: None,
            logs: LogsConfig::default(),
        }
    }
}

/// The file. The order counts: a worker is read with the defaults known.
pub(super) const FILE: &[Key<Draft>] = &[
    ("master", |r, node, draft| r.mapping(node, MASTER, draft)),
    ("defaults", |r, node, draft| {
        r.mapping(node, DEFAULTS, &mut draft.defaults);
        let stop = draft.defaults.stop.timeout;
        warn_of_long_stop(r, node, stop, &mut draft.config);
    }),
    ("workers", workers),
    ("include", include),
];

/// A file that another one includes: it gets the defaults of that one.
pub(super) const INCLUDED: &[Key<Draft>] = &[("workers", workers), ("include", include)];

pub(super) const MASTER: &[Key<Draft>] = &[
    ("name", |r, node, draft| {
        r.set(node, &mut draft.config.name, |r, node| name(r, node).map(Some))
    }),
    ("state_dir", |r, node, draft| {
        r.set(node, &mut draft.config.state_dir, |r, node| r.path(node).map(Some));
    }),
    ("log_dir", |r, node, draft| {
        r.set(node, &mut draft.config.log_dir, |r, node| r.path(node).map(Some));
    }),
    ("log_level", |r, node, draft| {
        r.set(node, &mut draft.config.log_level, |r, node| r.word(node, LOG_LEVELS));
    }),
    ("shutdown_timeout", |r, node, draft| {
        r.set(node, &mut draft.config.shutdown_timeout, Reader::duration);
    }),
];

pub(super) const DEFAULTS: &[Key<Defaults>] = &[
    ("restart", |r, node, defaults| {
        let since = r.found();
        defaults.restart =
            part(r, node, RESTART, RestartConfig::default(), RestartConfig::mistakes);
        if r.found() == since {
            // What is not written has another value for these.
            r.mapping(node, RESTART, &mut defaults.unmanaged_restart);
        }
        defaults.policy_is_written = node.entry("policy").is_some();
    }),
    ("stop", |r, node, defaults| {
        defaults.stop = part(r, node, STOP, StopConfig::default(), StopConfig::mistakes);
    }),
    ("start", |r, node, defaults| {
        defaults.start = part(r, node, START, StartConfig::default(), StartConfig::mistakes);
    }),
    ("health_check", |r, node, defaults| {
        let base = HealthCheckConfig::default();
        defaults.health_check =
            Some(part(r, node, HEALTH_CHECK, base, HealthCheckConfig::mistakes));
    }),
    ("logs", |r, node, defaults| {
        defaults.logs = part(r, node, LOGS, LogsConfig::default(), LogsConfig::mistakes);
    }),
];

pub(super) const RESTART: &[Key<RestartConfig>] = &[
    ("policy", |r, node, restart| {
        let words = RestartPolicy::ALL.map(|policy| (policy.as_str(), policy));
        r.set(node, &mut restart.policy, |r, node| r.word(node, &words));
    }),
    ("max_retries", |r, node, restart| r.set(node, &mut restart.max_retries, Reader::count)),
    ("retry_delay", |r, node, restart| r.set(node, &mut restart.retry_delay, Reader::duration)),
    ("backoff_rate", |r, node, restart| r.set(node, &mut restart.backoff_rate, Reader::ratio)),
    ("max_delay", |r, node, restart| r.set(node, &mut restart.max_delay, Reader::duration)),
    ("jitter", |r, node, restart| r.set(node, &mut restart.jitter, Reader::ratio)),
    ("reset_after", |r, node, restart| r.set(node, &mut restart.reset_after, Reader::duration)),
    ("half_open_after", |r, node, restart| {
        r.set(node, &mut restart.half_open_after, Reader::duration);
    }),
    ("startup_grace_period", |r, node, restart| {
        r.set(node, &mut restart.startup_grace_period, Reader::duration);
    }),
];

pub(super) const STOP: &[Key<StopConfig>] = &[
    ("signal", |r, node, stop| r.set(node, &mut stop.signal, signal)),
    ("timeout", |r, node, stop| r.set(node, &mut stop.timeout, Reader::duration)),
    ("kill_group", |r, node, stop| r.set(node, &mut stop.kill_group, Reader::boolean)),
];

pub(super) const START: &[Key<StartConfig>] =
    &[("timeout", |r, node, start| r.set(node, &mut start.timeout, Reader::duration))];

pub(super) const HEALTH_CHECK: &[Key<HealthCheckConfig>] = &[
    ("type", |r, node, check| {
        r.set(node, &mut check.check_type, |r, node| r.word(node, HEALTH_TYPES).map(Some));
    }),
    ("interval", |r, node, check| r.set(node, &mut check.interval, Reader::duration)),
    ("timeout", |r, node, check| r.set(node, &mut check.timeout, Reader::duration)),
    ("initial_delay", |r, node, check| r.set(node, &mut check.initial_delay, Reader::duration)),
    ("retries", |r, node, check| r.set(node, &mut check.retries, Reader::count)),
    ("successes", |r, node, check| r.set(node, &mut check.successes, Reader::count)),
    ("on_unhealthy", |r, node, check| {
        r.set(node, &mut check.on_unhealthy, |r, node| r.word(node, ON_UNHEALTHY));
    }),
];

pub(super) const LOGS: &[Key<LogsConfig>] = &[
    ("mode", |r, node, logs| {
        let words = LogMode::ALL.map(|mode| (mode.as_str(), mode));
        r.set(node, &mut logs.mode, |r, node| r.word(node, &words));
    }),
    ("max_size", |r, node, logs| {
        r.set(node, &mut logs.max_size, |r, node| r.size(node).map(|size| size as u64));
    }),
    ("max_files", |r, node, logs| r.set(node, &mut logs.max_files, Reader::count)),
    ("timestamps", |r, node, logs| r.set(node, &mut logs.timestamps, Reader::boolean)),
    ("overflow", |r, node, logs| {
        let words = LogOverflow::ALL.map(|overflow| (overflow.as_str(), overflow));
        r.set(node, &mut logs.overflow, |r, node| r.word(node, &words));
    }),
];

/// The keys of a mapping.
pub(super) fn names<T>(keys: &[Key<T>]) -> Vec<&'static str> {
    keys.iter().map(|(key, _)| *key).collect()
}

/// The mappings within a worker, with their keys.
pub(super) fn parts() -> Vec<(&'static str, Vec<&'static str>)> {
    vec![
        ("execution", names(EXECUTION)),
        ("unmanaged", names(UNMANAGED)),
        ("start", names(START)),
        ("health_check", names(HEALTH_CHECK)),
        ("restart", names(RESTART)),
        ("stop", names(STOP)),
        ("logs", names(LOGS)),
        ("limits", names(LIMITS)),
        ("limits.hard", names(HARD)),
    ]
}

const LOG_LEVELS: &[(&str, LevelFilter)] = &[
    ("error", LevelFilter::Error),
    ("warn", LevelFilter::Warn),
    ("info", LevelFilter::Info),
    ("debug", LevelFilter::Debug),
    ("trace", LevelFilter::Trace),
    ("off", LevelFilter::Off),
];

pub(super) const HEALTH_TYPES: &[(&str, HealthCheckType)] =
    &[("module", HealthCheckType::Module), ("process", HealthCheckType::Process)];

const ON_UNHEALTHY: &[(&str, OnUnhealthy)] =
    &[("restart", OnUnhealthy::Restart), ("log", OnUnhealthy::Log), ("stop", OnUnhealthy::Stop)];

/// One part of `defaults`. A part with mistakes is told once, and is not passed on to the workers.
fn part<T: Clone>(
    r: &mut Reader<'_>,
    node: &Node,
    keys: &[Key<T>],
    base: T,
    mistakes: fn(&T) -> Vec<Mistake>,
) -> T {
    let since = r.found();
    let mut read = base.clone();
    r.mapping(node, keys, &mut read);
    let mistakes = mistakes(&read);
    if mistakes.is_empty() {
        return read;
    }
    r.mistakes(since, node, mistakes);
    base
}

/// The name of a master: part of a path, hence as strict as a worker's id.
fn name(r: &mut Reader<'_>, node: &Node) -> Option<String> {
    let name = r.text(node)?;
    if WorkerId::new(&name).is_ok() {
        return Some(name);
    }
    let rule = "is not a name; use at most 64 letters, digits, '.', '_' and '-', the first of \
                which is a letter or a digit";
    r.problem(node.at, rule);
    None
}

/// A signal by name or number.
fn signal(r: &mut Reader<'_>, node: &Node) -> Option<i32> {
    let text = r.text(node)?;
    let signal = signal_number(&text);
    if signal.is_none() {
        r.problem(node.at, format!("{text:?} is not a signal; write for example SIGTERM"));
    }
    signal
}

/// The list of workers.
fn workers(r: &mut Reader<'_>, node: &Node, draft: &mut Draft) {
    if node.value == Value::Null {
        r.problem(node.at, NO_WORKERS);
        return;
    }
    let defaults = draft.defaults.clone();
    let mut index = 0;
    let mut left = (MAX_WORKERS + 1).saturating_sub(draft.config.workers.len());
    let read = r.list(node, |r, node| {
        let made = worker::workers(r, node, &defaults);
        if let Some(id) = node.find("id").filter(|id| id.text() != Some("")) {
            let new = |config: &WorkerConfig| check_unique(r, index, id.at, config, &mut draft.ids);
            // Of several that clash one tells it all.
            let _ = made.iter().all(new);
        }
        for config in made.iter().filter(|config| config.main) {
            check_main(r, node, config, &mut draft.main);
        }
        if let Some(config) = made.first() {
            let stop = config.stop.timeout;
            warn_of_long_stop(r, node, stop, &mut draft.config);
        }
        index += 1;
        left = left.saturating_sub(made.len());
        if left == 0 {
            let message = format!("is one too many: there may be {MAX_WORKERS} workers");
            r.problem(node.at, message);
        }
        (left > 0).then_some(made)
    });
    draft.config.workers.extend(read.unwrap_or_default().into_iter().flatten());
}

/// Ids that differ only in case are the same file on some systems, and the same word to people.
fn check_unique(
    r: &mut Reader<'_>,
    index: usize,
    at: Mark,
    config: &WorkerConfig,
    ids: &mut BTreeMap<String, Used>,
) -> bool {
    let (id, file) = (&config.id, r.source.file.to_owned());
    match ids.get(&id.to_ascii_lowercase()) {
        None => {
            ids.insert(id.to_ascii_lowercase(), Used { file, index, at });
            true
        }
        Some(first) => {
            let message = format!("{id:?} is already used by {}", first.seen_from(&file));
            r.under("id", |r| r.problem(at, message));
            false
        }
    }
}

/// One worker at most ends the master by its own end.
fn check_main(r: &mut Reader<'_>, node: &Node, config: &WorkerConfig, main: &mut Option<String>) {
    match main {
        None => *main = Some(config.id.clone()),
        Some(first) => {
            let message = format!("is {first:?} already: one worker's end can end the master");
            r.under("main", |r| r.problem(node.place("main"), message));
        }
    }
}

/// Warns of a stop that the master's own shutdown would cut short.
fn warn_of_long_stop(r: &Reader<'_>, node: &Node, stop: Duration, config: &mut MasterConfig) {
    let Some(written) = node.find("stop.timeout") else { return };
    if stop > config.shutdown_timeout {
        let message = "is longer than master.shutdown_timeout, at whose end it is cut short";
        config.warnings.push(r.note("stop.timeout", written.at, message));
    }
}
