//! Programs as child processes: how they end, why they cannot be run, what they write, and what a
//! thousand of them cost. What no test can provoke, a process that survives SIGKILL (FAULTS A17),
//! is in the simulation.

mod crowds;
mod ends;
mod fresh;
mod memory;
mod output;
mod refusals;

use std::io::Write;
use std::path::PathBuf;
use std::process::{Command, Stdio};

use hsu_master::{Master, RestartPolicy, WorkerConfig};

use crate::support::{Bench, quick};

fn bench() -> Bench {
    Bench::new(Master::builder())
}

/// A worker that runs a shell script, and is given up when it fails.
fn shell(id: &str, script: &str) -> WorkerConfig {
    let mut restart = quick();
    restart.policy = RestartPolicy::Never;
    WorkerConfig::executable(id, "/bin/sh").args(["-c", script]).restart(restart)
}

/// As `shell`, for scripts that say something into `$VOICE` or wait at `$GATE`.
fn scripted(bench: &Bench, id: &str, script: &str) -> WorkerConfig {
    let path = |path: &std::path::Path| path.to_str().unwrap().to_owned();
    shell(id, script).env("VOICE", path(bench.voice())).env("GATE", path(bench.gate()))
}

/// A directory for programs, by its real path.
struct Programs {
    _directory: tempfile::TempDir,
    path: PathBuf,
}

impl Programs {
    fn new() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let path = std::fs::canonicalize(directory.path()).unwrap();
        Self { _directory: directory, path }
    }

    /// A file made by another process: a descriptor of ours, open for writing, could leak into
    /// another test's child for a moment, in which the file would be busy.
    fn file(&self, name: &str, mode: &str, content: &[u8]) -> String {
        let path = self.path.join(name).to_str().unwrap().to_owned();
        let mut shell = Command::new("/bin/sh");
        shell.args(["-c", r#"cat > "$1"; chmod "$2" "$1""#, "sh", &path, mode]);
        let mut shell = shell.stdin(Stdio::piped()).spawn().unwrap();
        shell.stdin.take().unwrap().write_all(content).unwrap();
        assert!(shell.wait().unwrap().success());
        path
    }
}
