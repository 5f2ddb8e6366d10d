//! How a worker starts, stops, is asked for its health and is started again: the policies of its
//! configuration.

use std::fmt;
use std::time::Duration;

use super::Exit;

/// How a worker starts.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct StartConfig {
    /// How long launch, start and readiness may take together. Default 30 s.
    pub timeout: Duration,
}

impl Default for StartConfig {
    fn default() -> Self {
        Self { timeout: Duration::from_secs(30) }
    }
}

/// How a worker stops.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct StopConfig {
    /// The signal that asks a process to end. Default `SIGTERM`; always followed by `SIGCONT`.
    pub signal: i32,
    /// How long it may take before force is used. Default 10 s.
    pub timeout: Duration,
    /// True: signals go to the whole process group, and what is left of it is killed when its
    /// leader has ended. False: everything goes to the leader alone and stragglers live. Default
    /// true.
    pub kill_group: bool,
}

impl Default for StopConfig {
    fn default() -> Self {
        Self { signal: 15, timeout: Duration::from_secs(10), kill_group: true }
    }
}

impl StopConfig {
    /// The signal that asks a process to end.
    #[must_use]
    pub fn signal(mut self, signal: i32) -> Self {
        self.signal = signal;
        self
    }

    /// How long the end may take before force is used.
    #[must_use]
    pub fn timeout(mut self, timeout: Duration) -> Self {
        self.timeout = timeout;
        self
    }

    /// Whether signals and the final sweep go to the whole process group.
    #[must_use]
    pub fn kill_group(mut self, kill_group: bool) -> Self {
        self.kill_group = kill_group;
        self
    }
}

/// Which ends lead to another start.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum RestartPolicy {
    /// None: the first failure is given up.
    Never,
    /// Failures only.
    #[default]
    OnFailure,
    /// Failures and completed work.
    Always,
    /// As `always`, but what a command stopped stays down over a new master too.
    UnlessStopped,
}

impl RestartPolicy {
    /// All of them, in the order of the documentation.
    pub const ALL: [Self; 4] = [Self::Never, Self::OnFailure, Self::Always, Self::UnlessStopped];

    /// The word used in configuration.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Never => "never",
            Self::OnFailure => "on-failure",
            Self::Always => "always",
            Self::UnlessStopped => "unless-stopped",
        }
    }
}

/// A ratio in thousandths, so that no decision depends on floating point.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Ratio(u32);

impl Ratio {
    /// `thousandths` / 1000.
    pub const fn from_thousandths(thousandths: u32) -> Self {
        Self(thousandths)
    }

    /// The ratio times 1000.
    pub const fn thousandths(self) -> u32 {
        self.0
    }
}

impl fmt::Debug for Ratio {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{:03}", self.0 / 1000, self.0 % 1000)
    }
}

/// When a worker is started again, and how often.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct RestartConfig {
    /// Which ends lead to another start. Default on failure.
    pub policy: RestartPolicy,
    /// Retries after consecutive incarnations that did not stay up for `reset_after`; then the
    /// worker gives up. 0: never give up. Default 5.
    pub max_retries: u32,
    /// The first delay; after a run of at least `reset_after` the restart is immediate. Default 200
    /// ms.
    pub retry_delay: Duration,
    /// How much longer each further delay is; at least 1. Default 2.
    pub backoff_rate: Ratio,
    /// The longest delay, before jitter. Default 60 s.
    pub max_delay: Duration,
    /// How far a delay strays at random, as a part of itself; at most 1. Default 0.1.
    pub jitter: Ratio,
    /// Up this long, and the count and the delay start over. Default 60 s.
    pub reset_after: Duration,
    /// After giving up, one trial this much later, and again. Zero: never. Default 5 min.
    pub half_open_after: Duration,
    /// Failing health checks do not restart the worker before this much time up. Default 0.
    pub startup_grace_period: Duration,
}

impl Default for RestartConfig {
    fn default() -> Self {
        Self {
            policy: RestartPolicy::default(),
            max_retries: 5,
            retry_delay: Duration::from_millis(200),
            backoff_rate: Ratio::from_thousandths(2000),
            max_delay: Duration::from_secs(60),
            jitter: Ratio::from_thousandths(100),
            reset_after: Duration::from_secs(60),
            half_open_after: Duration::from_secs(300),
            startup_grace_period: Duration::ZERO,
        }
    }
}

impl RestartConfig {
    /// The defaults with another policy.
    pub fn policy(policy: RestartPolicy) -> Self {
        Self { policy, ..Self::default() }
    }

    /// How many retries before giving up; 0: never give up.
    #[must_use]
    pub fn max_retries(mut self, max_retries: u32) -> Self {
        self.max_retries = max_retries;
        self
    }

    /// The first delay.
    #[must_use]
    pub fn retry_delay(mut self, delay: Duration) -> Self {
        self.retry_delay = delay;
        self
    }

    /// How much longer each further delay is.
    #[must_use]
    pub fn backoff_rate(mut self, rate: Ratio) -> Self {
        self.backoff_rate = rate;
        self
    }

    /// How far a delay strays at random, as a part of itself.
    #[must_use]
    pub fn jitter(mut self, jitter: Ratio) -> Self {
        self.jitter = jitter;
        self
    }

    /// Failing health checks do not restart the worker before this much time up.
    #[must_use]
    pub fn startup_grace_period(mut self, period: Duration) -> Self {
        self.startup_grace_period = period;
        self
    }

    /// The longest delay, before jitter.
    #[must_use]
    pub fn max_delay(mut self, delay: Duration) -> Self {
        self.max_delay = delay;
        self
    }

    /// How long an incarnation must stay up for the count to start over.
    #[must_use]
    pub fn reset_after(mut self, uptime: Duration) -> Self {
        self.reset_after = uptime;
        self
    }

    /// How long after giving up a trial is made; zero: never.
    #[must_use]
    pub fn half_open_after(mut self, delay: Duration) -> Self {
        self.half_open_after = delay;
        self
    }
}

/// What happens to a worker whose checks fail as often as allowed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum OnUnhealthy {
    /// It fails, and the restart policy decides.
    #[default]
    Restart,
    /// Only its health says so.
    Log,
    /// It fails and stays down.
    Stop,
}

/// Who is asked for a worker's health.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum HealthCheckType {
    /// The worker itself: a module's `is_healthy`, on its own thread, or a program that speaks the
    /// worker protocol.
    Module,
    /// The system: a process is healthy while it is there.
    Process,
}

impl HealthCheckType {
    /// The word used in configuration.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Module => "module",
            Self::Process => "process",
        }
    }
}

/// How a worker is asked for its health.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct HealthCheckConfig {
    /// Who is asked; `None`: the worker itself.
    pub check_type: Option<HealthCheckType>,
    /// From the begin of one check to the begin of the next. Default 10 s.
    pub interval: Duration,
    /// How long an answer may take. Default 2 s.
    pub timeout: Duration,
    /// From running to the first check. Default 0.
    pub initial_delay: Duration,
    /// Failures in a row that make it unhealthy. Default 3.
    pub retries: u32,
    /// Successes in a row that make it healthy. Default 1.
    pub successes: u32,
    /// What then happens. Default restart.
    pub on_unhealthy: OnUnhealthy,
}

impl Default for HealthCheckConfig {
    fn default() -> Self {
        Self {
            check_type: None,
            interval: Duration::from_secs(10),
            timeout: Duration::from_secs(2),
            initial_delay: Duration::ZERO,
            retries: 3,
            successes: 1,
            on_unhealthy: OnUnhealthy::default(),
        }
    }
}

impl HealthCheckConfig {
    /// The defaults with another interval.
    pub fn every(interval: Duration) -> Self {
        Self { interval, ..Self::default() }
    }

    /// Who is asked.
    #[must_use]
    pub fn check_type(mut self, check_type: HealthCheckType) -> Self {
        self.check_type = Some(check_type);
        self
    }

    /// How long an answer may take.
    #[must_use]
    pub fn timeout(mut self, timeout: Duration) -> Self {
        self.timeout = timeout;
        self
    }

    /// From running to the first check.
    #[must_use]
    pub fn initial_delay(mut self, delay: Duration) -> Self {
        self.initial_delay = delay;
        self
    }

    /// Successes in a row that make the worker healthy.
    #[must_use]
    pub fn successes(mut self, successes: u32) -> Self {
        self.successes = successes;
        self
    }

    /// Failures in a row that make the worker unhealthy.
    #[must_use]
    pub fn retries(mut self, retries: u32) -> Self {
        self.retries = retries;
        self
    }

    /// What happens to an unhealthy worker.
    #[must_use]
    pub fn on_unhealthy(mut self, action: OnUnhealthy) -> Self {
        self.on_unhealthy = action;
        self
    }
}

/// The ends of a process that count as completed work. Default: exit code 0.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct SuccessCodes {
    /// Exit codes, 0 to 255.
    pub codes: Vec<i32>,
    /// Signal numbers.
    pub signals: Vec<i32>,
}

impl Default for SuccessCodes {
    fn default() -> Self {
        Self { codes: vec![0], signals: Vec::new() }
    }
}

impl SuccessCodes {
    /// These exit codes and no signal.
    pub fn codes(codes: impl IntoIterator<Item = i32>) -> Self {
        Self { codes: codes.into_iter().collect(), signals: Vec::new() }
    }

    /// The same with these signals.
    #[must_use]
    pub fn signals(mut self, signals: impl IntoIterator<Item = i32>) -> Self {
        self.signals = signals.into_iter().collect();
        self
    }

    /// Whether a process that ended like this has done its work.
    pub(crate) fn accept(&self, exit: &Exit) -> bool {
        match exit {
            Exit::Code(code) => self.codes.contains(code),
            Exit::Signal { signal, .. } => self.signals.contains(signal),
            Exit::Returned | Exit::Failed(_) | Exit::Unknown | Exit::LetGo => false,
        }
    }
}
