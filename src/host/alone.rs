//! For tests: runs one test again in a process of its own, where no other test's descriptors, signals
//! or limits are in the way.

use std::process::{Command, Output, Stdio};

/// Set in the process of its own; its value is the test's name.
const MARK: &str = "HSU_TEST_ALONE";

/// The outcome of the test `name`, run alone by the command `prefix`; `None` in that very process.
pub(super) fn run(prefix: &[&str], name: &str) -> Option<Output> {
    if std::env::var(MARK).as_deref() == Ok(name) {
        return None;
    }
    let own = std::env::current_exe().unwrap();
    let mut command = match prefix {
        [] => Command::new(own),
        [program, args @ ..] => {
            let mut command = Command::new(program);
            command.args(args).arg(own);
            command
        }
    };
    command.args(["--exact", name, "--nocapture", "--test-threads=1"]);
    Some(command.env(MARK, name).stdin(Stdio::null()).output().unwrap())
}

/// True in the process of its own, where the test's body is to run. Elsewhere it has run there, and
/// what failed there fails here.
pub(super) fn here(prefix: &[&str], name: &str) -> bool {
    let Some(ended) = run(prefix, name) else { return true };
    let (out, err) =
        (String::from_utf8_lossy(&ended.stdout), String::from_utf8_lossy(&ended.stderr));
    assert!(ended.status.success(), "{name}: {}\n{out}\n{err}", ended.status);
    assert!(out.contains("1 passed"), "{name} did not run:\n{out}");
    false
}
