//! What differs between deployments although the lifecycle is one: the table that the documentation
//! prints and the conformance suite holds the program to.

use super::{WorkerConfig, WorkerType};

/// Where and as what a worker runs, as far as that makes a difference.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Deployment {
    /// A module as a thread of the master: `type: module`.
    Thread,
    /// A module in a process of its own, `type: process` with `module_name`; and any program that
    /// speaks the worker protocol.
    Hosted,
    /// Any other program: `type: process` with `command` or `execution`.
    Program,
}

impl WorkerConfig {
    /// Where and as what such a worker runs.
    pub fn deployment(&self) -> Deployment {
        match self.worker_type {
            WorkerType::Module => Deployment::Thread,
            WorkerType::Process if self.is_conversant() => Deployment::Hosted,
            WorkerType::Process => Deployment::Program,
        }
    }
}

/// One thing that physics forces to differ between deployments.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Difference {
    /// What differs.
    pub aspect: &'static str,
    /// How it is with a module as a thread.
    pub thread: &'static str,
    /// How it is with a module in a process of its own.
    pub hosted: &'static str,
    /// How it is with a program.
    pub program: &'static str,
}

impl Difference {
    /// How it is in this deployment.
    pub fn of(&self, deployment: Deployment) -> &'static str {
        match deployment {
            Deployment::Thread => self.thread,
            Deployment::Hosted => self.hosted,
            Deployment::Program => self.program,
        }
    }
}

/// The aspect, and how it is as a thread, hosted, and with a program.
const fn difference([aspect, thread, hosted, program]: [&'static str; 4]) -> Difference {
    Difference { aspect, thread, hosted, program }
}

/// Everything that depends on where a worker runs, in this version; whatever is not here is the
/// same. Whether a module was compiled in or comes from a plugin makes no difference, but for one:
/// a plugin's failed tasks (`spawn_task`) are in the log, and neither events nor counted.
///
/// | what differs | module, `type: module` | module, `type: process` | program |
/// |---|---|---|---|
/// | an ignored stop | abandoned after `stop.timeout`: stuck | killed after `stop.timeout` | killed after `stop.timeout` |
/// | an ignored forced stop | abandoned after 5 s: stuck | killed at once | killed at once |
/// | a start that hangs | failed after `start.timeout`, then as an ignored stop | failed after `start.timeout`, then as an ignored stop | cannot be: once spawned it is up |
/// | a crash | a panic, with message and place | a panic, with message and place | an exit code or a signal |
/// | a crash beyond a panic | ends the master too | is the worker's alone | is the worker's alone |
/// | an exit | ends the master too | a crash, with its exit code | a crash, or completed work |
/// | completing its work | `ctx.complete()` | `ctx.complete()` | an end listed in `success_codes` |
/// | how its end is shown | returned | exit code or signal | exit code or signal |
/// | process id | none | its own | its own |
/// | health | asked of the module | asked of the module | not checked; by its presence with `type: process` |
/// | endpoints | those the module publishes | those the module publishes | those its configuration lists |
/// | time bound of a call | none | its timeout, 30 s by default | cannot be: it exports no functions |
/// | statics | shared with other workers, kept over restarts | its own, new with each life | its own, new with each life |
/// | standard output | the master's own | read by the master, line by line | read by the master, line by line |
/// | a log record of many lines, or of many KiB | one record | a record for each line, in pieces of 16 KiB | cannot be: what it writes is its output |
/// | environment and directory | the master's own | set for the worker | set for the worker |
/// | user, umask and hard limits | the master's own | set for the worker | set for the worker |
/// | a master that is killed | ends it too | ends it within a second | ends it within a second, or leaves it to the next master |
pub const DIFFERENCES: [Difference; 18] = [
    difference([
        "an ignored stop",
        "abandoned after `stop.timeout`: stuck",
        "killed after `stop.timeout`",
        "killed after `stop.timeout`",
    ]),
    difference([
        "an ignored forced stop",
        "abandoned after 5 s: stuck",
        "killed at once",
        "killed at once",
    ]),
    difference([
        "a start that hangs",
        "failed after `start.timeout`, then as an ignored stop",
        "failed after `start.timeout`, then as an ignored stop",
        "cannot be: once spawned it is up",
    ]),
    difference([
        "a crash",
        "a panic, with message and place",
        "a panic, with message and place",
        "an exit code or a signal",
    ]),
    difference([
        "a crash beyond a panic",
        "ends the master too",
        "is the worker's alone",
        "is the worker's alone",
    ]),
    difference([
        "an exit",
        "ends the master too",
        "a crash, with its exit code",
        "a crash, or completed work",
    ]),
    difference([
        "completing its work",
        "`ctx.complete()`",
        "`ctx.complete()`",
        "an end listed in `success_codes`",
    ]),
    difference(["how its end is shown", "returned", "exit code or signal", "exit code or signal"]),
    difference(["process id", "none", "its own", "its own"]),
    difference([
        "health",
        "asked of the module",
        "asked of the module",
        "not checked; by its presence with `type: process`",
    ]),
    difference([
        "endpoints",
        "those the module publishes",
        "those the module publishes",
        "those its configuration lists",
    ]),
    difference([
        "time bound of a call",
        "none",
        "its timeout, 30 s by default",
        "cannot be: it exports no functions",
    ]),
    difference([
        "statics",
        "shared with other workers, kept over restarts",
        "its own, new with each life",
        "its own, new with each life",
    ]),
    difference([
        "standard output",
        "the master's own",
        "read by the master, line by line",
        "read by the master, line by line",
    ]),
    difference([
        "a log record of many lines, or of many KiB",
        "one record",
        "a record for each line, in pieces of 16 KiB",
        "cannot be: what it writes is its output",
    ]),
    difference([
        "environment and directory",
        "the master's own",
        "set for the worker",
        "set for the worker",
    ]),
    difference([
        "user, umask and hard limits",
        "the master's own",
        "set for the worker",
        "set for the worker",
    ]),
    difference([
        "a master that is killed",
        "ends it too",
        "ends it within a second",
        "ends it within a second, or leaves it to the next master",
    ]),
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_printed_table_is_the_constant() {
        let rows: Vec<_> = include_str!("differences.rs")
            .lines()
            .filter_map(|line| line.strip_prefix("/// | "))
            .skip(1)
            .map(str::to_owned)
            .collect();
        let printed = DIFFERENCES.map(|Difference { aspect, thread, hosted, program }| {
            format!("{aspect} | {thread} | {hosted} | {program} |")
        });
        assert_eq!(rows, printed);
    }

    #[test]
    fn each_aspect_is_there_once_and_differs() {
        for (index, known) in DIFFERENCES.iter().enumerate() {
            let at = |deployment| known.of(deployment);
            let thread = at(Deployment::Thread);
            assert!([Deployment::Hosted, Deployment::Program].iter().any(|d| at(*d) != thread));
            assert!(DIFFERENCES[..index].iter().all(|other| other.aspect != known.aspect));
        }
    }

    #[test]
    fn two_words_of_configuration_tell_the_deployment() {
        use crate::worker::Integration;
        let [native, plugin] =
            [WorkerConfig::native("w", "m"), WorkerConfig::plugin("w", "./m.so")];
        let program = WorkerConfig::executable("w", "/bin/true");
        for module in [native, plugin] {
            assert_eq!(module.deployment(), Deployment::Thread);
            let hosted = module.worker_type(WorkerType::Process);
            assert_eq!(hosted.deployment(), Deployment::Hosted);
        }
        assert_eq!(program.deployment(), Deployment::Program);
        let integrated = program.integration(Integration::Protocol);
        assert_eq!(integrated.deployment(), Deployment::Hosted);
    }
}
