//! What makes a worker's configuration wrong, wherever it came from: a file, or a program. Every
//! mistake at once, each with its key's path.

mod execution;
mod unmanaged;

use std::time::Duration;

use super::{
    ExecutionConfig, HealthCheckConfig, Integration, ModuleType, OnMasterExit, RestartConfig,
    StartConfig, StopConfig, SuccessCodes, WorkerConfig, WorkerId, WorkerType,
};
use crate::units::MAX_DURATION;

/// The smallest stack that a thread of Rust code lives on.
const MIN_STACK: usize = 64 << 10;
/// The largest stack: beyond it, it is a mistake.
const MAX_STACK: usize = 1 << 30;
/// The largest `config` of one worker, as JSON: with the rest of `initialize` it must fit into one
/// line of the worker protocol.
const MAX_CONFIG: usize = 960 << 10;
/// The longest argument or variable that the kernel takes, in bytes, with its final NUL.
const MAX_ARGUMENT: usize = 128 << 10;
/// The longest name of a plugin's symbol.
const MAX_SYMBOL: usize = 255;
/// The steepest growth of the delay between retries, in thousandths.
const MAX_BACKOFF: u32 = 100_000;

/// How deep a `config` may be nested: it is copied by recursion.
const MAX_DEPTH: usize = 64;

/// One mistake: the path of the key, relative to the checked part, and what is wrong with it.
pub(crate) type Mistake = (String, String);

/// The mistakes found so far in one part.
#[derive(Default)]
struct Mistakes(Vec<Mistake>);

impl Mistakes {
    fn add(&mut self, path: impl Into<String>, message: impl Into<String>) {
        self.0.push((path.into(), message.into()));
    }

    fn check(&mut self, holds: bool, path: &str, message: &str) {
        if !holds {
            self.add(path, message);
        }
    }

    /// A duration that ends, and that is longer than zero if `positive`.
    fn duration(&mut self, path: &str, duration: Duration, positive: bool) {
        let zero = positive && duration.is_zero();
        self.check(!zero, path, "must be longer than zero");
        self.check(duration <= MAX_DURATION, path, "is longer than 100 years");
    }

    /// Text that the operating system takes as an argument, a variable or a path.
    fn os_text(&mut self, path: &str, bytes: &[u8]) {
        self.check(!bytes.contains(&0), path, "contains a NUL character");
        self.check(bytes.len() < MAX_ARGUMENT, path, "is longer than the system's limit, 128 KiB");
    }

    fn within(&mut self, part: &str, mistakes: Vec<Mistake>) {
        let below = |path: String| match path.as_str() {
            "" => part.to_owned(),
            path => format!("{part}.{path}"),
        };
        self.0.extend(mistakes.into_iter().map(|(path, message)| (below(path), message)));
    }
}

impl WorkerConfig {
    /// Every mistake in this configuration; none: a master takes it.
    pub(crate) fn mistakes(&self) -> Vec<Mistake> {
        let mut found = Mistakes::default();
        if let Err(error) = WorkerId::new(&self.id) {
            found.add("id", error.to_string());
        }
        self.check_what_runs(&mut found);
        self.check_module(&mut found);
        self.check_unmanaged(&mut found);
        self.check_health(&mut found);
        self.check_limits(&mut found);
        if let Some(execution) = &self.execution {
            found.within("execution", execution.mistakes());
        }
        if let Some(health_check) = &self.health_check {
            found.within("health_check", health_check.mistakes());
        }
        found.within("start", self.start.mistakes());
        found.within("restart", self.restart.mistakes());
        found.within("stop", self.stop.mistakes());
        self.success_codes.check(&mut found);
        found.within("logs", self.logs.mistakes());
        if self.is_module() {
            found.within("logs", self.logs.mistakes_of_module());
        }
        if self.on_master_exit == Some(OnMasterExit::Keep) {
            let program = self.execution.is_some() && !self.is_conversant();
            let message = "`keep` is for programs with `integration: none`: what speaks the worker \
                           protocol ends with its master";
            found.check(program, "on_master_exit", message);
        }
        found.0
    }

    /// Exactly one thing runs, and it can run where it is meant to.
    fn check_what_runs(&self, found: &mut Mistakes) {
        let packaged = self.package.is_some();
        found.check(self.package.as_deref() != Some(""), "package", "is empty");
        let program = self.execution.as_ref().is_some_and(|execution| {
            !execution.executable_path.as_os_str().is_empty() || !execution.args.is_empty()
        });
        match self.worker_type {
            WorkerType::Module => {
                let message = "is for processes; write `type: process`, or remove it";
                found.check(self.execution.is_none(), "execution", message);
                let named = self.is_module() || packaged;
                found.check(named, "module_name", "is missing: the module to run");
            }
            WorkerType::Process if self.is_module() => {
                let message = "contradicts module_name: a worker runs a program or a module";
                found.check(!program, "execution", message);
                let speaks =
                    |execution: &ExecutionConfig| execution.integration == Integration::Protocol;
                let message = "is for programs: a module in a process of its own speaks it anyway";
                let asked = self.execution.as_ref().is_some_and(speaks);
                found.check(!asked, "execution.integration", message);
            }
            WorkerType::Process if self.unmanaged.is_some() => {}
            WorkerType::Process => {
                let path = self.execution.as_ref().map(|execution| &execution.executable_path);
                if path.is_none() && !packaged {
                    let message = "has nothing to run; write command, execution, package, \
                                   unmanaged or module_name";
                    found.add("", message);
                } else if path.is_some_and(|path| path.as_os_str().is_empty()) && !packaged {
                    found.add("execution.executable_path", "is missing: the program to run");
                }
            }
        }
    }

    /// What only modules have is there only for modules, and is usable.
    fn check_module(&self, found: &mut Mistakes) {
        if self.execution.is_some() && !self.is_conversant() {
            let empty = self.config.as_object().is_some_and(serde_json::Map::is_empty);
            let message = "is for modules and for programs with `integration: protocol`; give a \
                           program arguments or variables";
            found.check(empty, "config", message);
        }
        match (&self.module_name, self.module_type) {
            (Some(name), _) if name.is_empty() => found.add("module_name", "is empty"),
            (Some(name), Some(ModuleType::Plugin)) => {
                found.os_text("module_name", name.as_bytes());
            }
            (Some(name), Some(ModuleType::Native) | None) => {
                let message = "is a library's path; write `module_type: plugin`, or a name";
                found.check(!name.contains('/'), "module_name", message);
            }
            (None, Some(_)) => {
                let message = "says where a module comes from, but there is no module_name";
                found.check(self.package.is_some(), "module_type", message);
            }
            (None, None) => {}
        }
        if let Some(symbol) = &self.entry_point {
            let plugin = self.module_type == Some(ModuleType::Plugin);
            found.check(plugin, "entry_point", "is for plugins; write `module_type: plugin`");
            let named = !symbol.is_empty() && symbol.len() <= MAX_SYMBOL && !symbol.contains('\0');
            let message = "must be a symbol of the library, of at most 255 bytes";
            found.check(named, "entry_point", message);
        }
        found.check(self.stack_size >= MIN_STACK, "stack_size", "must be at least 64KiB");
        found.check(self.stack_size <= MAX_STACK, "stack_size", "must be at most 1GiB");
        let size = serde_json::to_vec(&self.config).map_or(0, |json| json.len());
        found.check(size <= MAX_CONFIG, "config", "is larger than 960 KiB as JSON");
        let message = "is for programs: a module publishes its own";
        found.check(self.endpoints.is_empty() || !self.is_module(), "endpoints", message);
        for (index, endpoint) in self.endpoints.iter().enumerate() {
            let told = !endpoint.name.is_empty() && !endpoint.address.is_empty();
            found.check(told, &format!("endpoints[{index}]"), "needs a name and an address");
        }
        let shallow = is_at_most(&self.config, MAX_DEPTH);
        found.check(shallow, "config", "is nested more than 64 levels deep");
        if self.worker_type == WorkerType::Module {
            let message = "must be longer than zero for a module: a thread cannot be killed";
            found.check(!self.stop.timeout.is_zero(), "stop.timeout", message);
        }
    }
}

/// True when `value` is nested at most `depth` levels deep. Recursion ends there too.
fn is_at_most(value: &serde_json::Value, depth: usize) -> bool {
    let within = |value| depth > 0 && is_at_most(value, depth - 1);
    match value {
        serde_json::Value::Array(values) => values.iter().all(within),
        serde_json::Value::Object(values) => values.values().all(within),
        serde_json::Value::Null
        | serde_json::Value::Bool(_)
        | serde_json::Value::Number(_)
        | serde_json::Value::String(_) => true,
    }
}

impl ExecutionConfig {
    fn mistakes(&self) -> Vec<Mistake> {
        let mut found = Mistakes::default();
        let path = self.executable_path.as_os_str().as_encoded_bytes();
        found.os_text("executable_path", path);
        if let Some(directory) = &self.working_directory {
            let directory = directory.as_os_str().as_encoded_bytes();
            found.check(!directory.is_empty(), "working_directory", "is empty");
            found.os_text("working_directory", directory);
        }
        for (index, argument) in self.args.iter().enumerate() {
            found.os_text(&format!("args[{index}]"), argument.as_bytes());
        }
        for (name, value) in &self.environment {
            let path = format!("environment.{name}");
            let named = !name.is_empty() && !name.contains('=');
            found.check(named, &path, "is not a variable's name: it is empty or contains '='");
            found.os_text(&path, format!("{name}={value}").as_bytes());
        }
        self.check_settings(&mut found);
        found.0
    }
}

impl StartConfig {
    pub(crate) fn mistakes(&self) -> Vec<Mistake> {
        let mut found = Mistakes::default();
        found.duration("timeout", self.timeout, true);
        found.0
    }
}

impl StopConfig {
    pub(crate) fn mistakes(&self) -> Vec<Mistake> {
        let mut found = Mistakes::default();
        found.check((1..=64).contains(&self.signal), "signal", "must be a signal, 1 to 64");
        found.duration("timeout", self.timeout, false);
        found.0
    }
}

impl RestartConfig {
    pub(crate) fn mistakes(&self) -> Vec<Mistake> {
        let mut found = Mistakes::default();
        let rate = self.backoff_rate.thousandths();
        found.check(rate >= 1000, "backoff_rate", "must be at least 1");
        found.check(rate <= MAX_BACKOFF, "backoff_rate", "must be at most 100");
        found.check(self.jitter.thousandths() <= 1000, "jitter", "must be at most 1");
        found.duration("retry_delay", self.retry_delay, false);
        found.duration("max_delay", self.max_delay, false);
        // A run of no time at all would count as a success and be restarted at once, for ever.
        found.duration("reset_after", self.reset_after, true);
        found.duration("half_open_after", self.half_open_after, false);
        found.duration("startup_grace_period", self.startup_grace_period, false);
        found.0
    }
}

impl HealthCheckConfig {
    pub(crate) fn mistakes(&self) -> Vec<Mistake> {
        let mut found = Mistakes::default();
        found.duration("interval", self.interval, true);
        found.duration("timeout", self.timeout, true);
        found.duration("initial_delay", self.initial_delay, false);
        found.check(self.retries >= 1, "retries", "must be at least 1");
        found.check(self.successes >= 1, "successes", "must be at least 1");
        found.0
    }
}

impl SuccessCodes {
    fn check(&self, found: &mut Mistakes) {
        for code in self.codes.iter().filter(|code| !(0..=255).contains(*code)) {
            found.add("success_codes", format!("{code} is not an exit code; they are 0 to 255"));
        }
        for signal in self.signals.iter().filter(|signal| !(1..=64).contains(*signal)) {
            found.add("success_codes", format!("{signal} is not a signal; they are 1 to 64"));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::worker::Ratio;

    type Change = fn(&mut WorkerConfig);
    type CheckChange = fn(&mut HealthCheckConfig);

    fn paths(config: &WorkerConfig) -> Vec<String> {
        config.mistakes().into_iter().map(|(path, _)| path).collect()
    }

    #[test]
    fn what_the_constructors_make_is_right() {
        for config in [
            WorkerConfig::native("a", "m"),
            WorkerConfig::native("a", "m").worker_type(WorkerType::Process),
            WorkerConfig::plugin("a", "./lib.so"),
            WorkerConfig::executable("a", "/bin/true").args(["x"]).env("A", "B"),
            WorkerConfig::native("a", "m").health_check(HealthCheckConfig::default()),
        ] {
            assert_eq!(config.mistakes(), [], "{config:?}");
        }
    }

    #[test]
    fn every_rule_for_a_module_is_enforced() {
        let cases: &[(&str, Change)] = &[
            ("id", |c| c.id = "../x".into()),
            ("execution", |c| c.execution = Some(ExecutionConfig::default())),
            ("module_name", |c| c.module_name = Some(String::new())),
            ("module_name", |c| c.module_name = Some("./lib.so".into())),
            ("entry_point", |c| c.entry_point = Some("other".into())),
            ("entry_point", |c| *c = WorkerConfig::plugin("a", "./l.so").entry_point("")),
            ("entry_point", |c| *c = WorkerConfig::plugin("a", "./l.so").entry_point("a\0b")),
            ("stack_size", |c| c.stack_size = MIN_STACK - 1),
            ("stack_size", |c| c.stack_size = MAX_STACK + 1),
            ("config", |c| c.config = serde_json::Value::String("x".repeat(MAX_CONFIG))),
            ("package", |c| c.package = Some(String::new())),
            ("start.timeout", |c| c.start.timeout = Duration::ZERO),
            ("start.timeout", |c| c.start.timeout = Duration::MAX),
            ("stop.timeout", |c| c.stop.timeout = Duration::MAX),
            ("stop.signal", |c| c.stop.signal = 0),
            ("stop.signal", |c| c.stop.signal = 65),
            ("on_master_exit", |c| c.on_master_exit = Some(OnMasterExit::Keep)),
            ("restart.backoff_rate", |c| c.restart.backoff_rate = Ratio::from_thousandths(999)),
            ("restart.backoff_rate", |c| c.restart.backoff_rate = Ratio::from_thousandths(100_001)),
            ("restart.jitter", |c| c.restart.jitter = Ratio::from_thousandths(1001)),
            ("restart.retry_delay", |c| c.restart.retry_delay = Duration::MAX),
            ("restart.max_delay", |c| c.restart.max_delay = Duration::MAX),
            ("restart.reset_after", |c| c.restart.reset_after = Duration::ZERO),
            ("restart.half_open_after", |c| c.restart.half_open_after = Duration::MAX),
            ("restart.startup_grace_period", |c| c.restart.startup_grace_period = Duration::MAX),
            ("success_codes", |c| c.success_codes = SuccessCodes::codes([256])),
            ("success_codes", |c| c.success_codes = SuccessCodes::codes([-1])),
            ("success_codes", |c| c.success_codes = SuccessCodes::codes([0]).signals([0])),
        ];
        for (path, change) in cases {
            let mut config = WorkerConfig::native("a", "m");
            change(&mut config);
            assert_eq!(paths(&config), [*path], "{config:?}");
        }
        let checks: &[(&str, CheckChange)] = &[
            ("health_check.interval", |h| h.interval = Duration::ZERO),
            ("health_check.timeout", |h| h.timeout = Duration::ZERO),
            ("health_check.initial_delay", |h| h.initial_delay = Duration::MAX),
            ("health_check.retries", |h| h.retries = 0),
            ("health_check.successes", |h| h.successes = 0),
        ];
        for (path, change) in checks {
            let mut check = HealthCheckConfig::default();
            change(&mut check);
            assert_eq!(paths(&WorkerConfig::native("a", "m").health_check(check)), [*path]);
        }
        let nameless = WorkerConfig::executable("a", "x").worker_type(WorkerType::Module);
        assert_eq!(paths(&nameless), ["execution", "module_name"]);
    }

    #[test]
    fn every_rule_for_a_program_is_enforced() {
        let cases: &[(&str, Change)] = &[
            ("", |c| c.execution = None),
            ("execution", |c| c.module_name = Some("m".into())),
            ("health_check", |c| c.health_check = Some(HealthCheckConfig::default())),
            ("config", |c| c.config = serde_json::json!({"a": 1})),
            ("module_type", |c| c.module_type = Some(ModuleType::Native)),
            ("execution.executable_path", |c| {
                c.execution = Some(ExecutionConfig::default());
            }),
            ("execution.executable_path", |c| {
                c.execution =
                    Some(ExecutionConfig { executable_path: "a\0".into(), ..Default::default() });
            }),
            ("execution.working_directory", |c| *c = c.clone().working_directory("")),
            ("execution.working_directory", |c| *c = c.clone().working_directory("a\0")),
            ("execution.args[1]", |c| *c = c.clone().args(["a", "b\0"])),
            ("execution.args[0]", |c| *c = c.clone().args(["x".repeat(MAX_ARGUMENT)])),
            ("execution.environment.", |c| *c = c.clone().env("", "x")),
            ("execution.environment.A=", |c| *c = c.clone().env("A=", "x")),
            ("execution.environment.A", |c| *c = c.clone().env("A", "x\0")),
            ("execution.environment.A", |c| *c = c.clone().env("A", "x".repeat(MAX_ARGUMENT))),
        ];
        for (path, change) in cases {
            let mut config = WorkerConfig::executable("a", "/bin/true");
            change(&mut config);
            assert_eq!(paths(&config), [*path], "{path}");
        }
    }
}
