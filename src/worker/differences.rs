//! What differs between deployments although the lifecycle is one: the table that the documentation
//! prints and the conformance suite holds the program to.

use super::WorkerType;

/// One thing that physics forces to differ between deployments.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Difference {
    /// What differs.
    pub aspect: &'static str,
    /// How it is with `type: module`.
    pub module: &'static str,
    /// How it is with `type: process`.
    pub process: &'static str,
}

impl Difference {
    /// How it is in this deployment.
    pub fn of(&self, deployment: WorkerType) -> &'static str {
        match deployment {
            WorkerType::Module => self.module,
            WorkerType::Process => self.process,
        }
    }
}

const fn difference(
    aspect: &'static str,
    module: &'static str,
    process: &'static str,
) -> Difference {
    Difference { aspect, module, process }
}

/// Everything that depends on where a worker runs, in this version; whatever is not here is the
/// same.
///
/// | what differs | `type: module` | `type: process` |
/// |---|---|---|
/// | an ignored stop | abandoned after `stop.timeout`: stuck | killed after `stop.timeout` |
/// | an ignored forced stop | abandoned after 5 s: stuck | killed at once |
/// | a start that hangs | failed after `start.timeout` | cannot be: once spawned it is up |
/// | a crash | a panic, with message and place | an exit code or a signal |
/// | a crash beyond a panic | ends the master too | is the worker's alone |
/// | completing its work | `ctx.complete()` | an end listed in `success_codes` |
/// | how its end is shown | returned | exit code or signal |
/// | process id | none | its own |
/// | health | asked of the module | not checked |
/// | endpoints | those the module publishes | those its configuration lists |
/// | standard output | the master's own | read by the master, line by line |
/// | environment and directory | the master's own | set for the worker |
pub const DIFFERENCES: [Difference; 12] = [
    difference(
        "an ignored stop",
        "abandoned after `stop.timeout`: stuck",
        "killed after `stop.timeout`",
    ),
    difference("an ignored forced stop", "abandoned after 5 s: stuck", "killed at once"),
    difference(
        "a start that hangs",
        "failed after `start.timeout`",
        "cannot be: once spawned it is up",
    ),
    difference("a crash", "a panic, with message and place", "an exit code or a signal"),
    difference("a crash beyond a panic", "ends the master too", "is the worker's alone"),
    difference("completing its work", "`ctx.complete()`", "an end listed in `success_codes`"),
    difference("how its end is shown", "returned", "exit code or signal"),
    difference("process id", "none", "its own"),
    difference("health", "asked of the module", "not checked"),
    difference("endpoints", "those the module publishes", "those its configuration lists"),
    difference("standard output", "the master's own", "read by the master, line by line"),
    difference("environment and directory", "the master's own", "set for the worker"),
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
        let printed = DIFFERENCES
            .map(|known| format!("{} | {} | {} |", known.aspect, known.module, known.process));
        assert_eq!(rows, printed);
    }

    #[test]
    fn each_aspect_is_there_once_and_differs() {
        for (index, known) in DIFFERENCES.iter().enumerate() {
            assert_ne!(known.of(WorkerType::Module), known.of(WorkerType::Process));
            assert!(DIFFERENCES[..index].iter().all(|other| other.aspect != known.aspect));
        }
    }
}
