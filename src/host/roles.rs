//! What this program can be besides itself, when a master runs it again: chosen by the first
//! argument, never by the environment.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

#[cfg(target_os = "linux")]
use super::child::serve;
#[cfg(target_os = "linux")]
use super::guard;
#[cfg(target_os = "linux")]
use super::launch;
use super::{plugin, protocol};
use crate::module::ModuleRegistry;

/// The program itself, whatever has become of its file since it was started.
const SELF: &str = "/proc/self/exe";

/// How this program is run again. Set once, by the hook.
static PROGRAM: OnceLock<Option<Program>> = OnceLock::new();

/// A program that calls the hook first thing in its main.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Program {
    pub(crate) path: PathBuf,
    /// What it is called in lists of processes; `None`: its path.
    pub(crate) name: Option<OsString>,
}

/// Serves the master that has started this process, if one has; else returns at once.
///
/// The first statement of a plain `main`, before any thread and any logger: a master that runs
/// modules in processes of their own (`type: process` with `module_name`), or processes with
/// settings such as `user`, starts this same program again, and here that second process becomes
/// what it is for, and never returns.
/// [`App::run`](crate::App::run) calls it by itself. A [`Master`](crate::Master) in a program that
/// has not called it refuses such workers.
///
/// `modules` are the native modules that workers may name.
///
/// # Panics
/// Never.
pub fn host_if_requested(modules: &ModuleRegistry) {
    let mut arguments = std::env::args_os();
    let name = arguments.next();
    PROGRAM.get_or_init(|| itself(name));
    let role = arguments.next();
    #[cfg(target_os = "linux")]
    if role.as_ref().is_some_and(|role| role == launch::LAUNCH_ROLE) {
        std::process::exit(launch::main());
    }
    if role.as_ref().is_some_and(|role| role == protocol::HOST_ROLE) {
        std::process::exit(serve(modules));
    }
    #[cfg(target_os = "linux")]
    if role.as_ref().is_some_and(|role| role == guard::GUARD_ROLE) {
        std::process::exit(guard::guard_main(arguments.next()));
    }
    if role.is_some_and(|role| role == plugin::PROBE_ROLE) {
        let (file, symbol) = (arguments.next(), arguments.next());
        let code = plugin::probe_main(&file.unwrap_or_default(), &symbol.unwrap_or_default());
        std::process::exit(code);
    }
}

/// Elsewhere no master runs this program again.
#[cfg(not(target_os = "linux"))]
fn serve(_: &ModuleRegistry) -> i32 {
    78
}

/// How to run this program again; `None` where it would not know what it is run for.
pub(crate) fn this_program() -> Option<Program> {
    PROGRAM.get().cloned().flatten()
}

fn itself(name: Option<OsString>) -> Option<Program> {
    if Path::new(SELF).exists() {
        return Some(Program { path: SELF.into(), name });
    }
    // Without /proc the path must do; another file may be there by then.
    std::env::current_exe().ok().map(|path| Program { path, name })
}
