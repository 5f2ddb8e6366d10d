//! For tests: runs one test again in a process of its own, where no other test's descriptors,
//! signals or limits are in the way.

use std::any::type_name;
use std::process::{Command, Output, Stdio};

/// Set in the process of its own; its value is the test's name.
const MARK: &str = "HSU_TEST_ALONE";

/// The outcome of `test`, run alone by the command `prefix`; `None` in that very process.
pub(crate) fn run<F: Fn()>(prefix: &[&str], _test: F) -> Option<Output> {
    let name = type_name::<F>().split_once("::").map(|(_crate, path)| path).unwrap();
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
pub(crate) fn here<F: Fn()>(prefix: &[&str], test: F) -> bool {
    let Some(ended) = run(prefix, test) else { return true };
    let text = |bytes| String::from_utf8_lossy(bytes).into_owned();
    let (out, err) = (text(&ended.stdout), text(&ended.stderr));
    assert!(ended.status.success(), "alone: {}\n{out}\n{err}", ended.status);
    assert!(out.contains("1 passed"), "it did not run alone:\n{out}");
    false
}
