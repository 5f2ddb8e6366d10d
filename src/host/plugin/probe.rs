//! The trial: a throw-away child loads a library, makes an instance and destroys it, so that what
//! kills a process kills that one.

use std::ffi::OsStr;
use std::fs::File;
use std::io::{self, Read, Write};
use std::os::fd::AsFd;
use std::os::unix::fs::FileTypeExt;
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::Path;
use std::process::{Child, ChildStdout, Command, Stdio};
use std::sync::{Arc, Barrier};
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};

#[cfg(feature = "cli")]
use super::file::Library;
use super::load;
use super::module::PluginModule;
use super::{ModuleDescription, PROBE_ROLE, refused};
use crate::error::Failure;
use crate::host::panics::{self, guarded};
use crate::host::reaper::Claim;
use crate::host::runner::{Backend, Setting};
use crate::host::sys::{self, Target};
use crate::host::{Launch, ModuleSource, Reporter, identity, threads};
use crate::module::{ModuleContext, ModuleRegistry};
use crate::worker::Exit;

/// How long a trial may take.
const PATIENCE: Duration = Duration::from_secs(10);
/// How much longer a child waits for its end before it ends itself.
const GRACE: Duration = Duration::from_secs(1);
/// The stack of the thread that does so.
const STACK: usize = 64 << 10;
/// How much of what a child writes is read: its verdict is the last line.
const MAX_OUTPUT: usize = 256 << 10;
/// What the instance of a trial is called.
const WORKER: &str = "probe";

/// What the child says at the end.
#[derive(Debug, Serialize, Deserialize)]
enum Verdict {
    Sound(ModuleDescription),
    Refused(Failure),
}

/// The child's whole business: tries the library, and says on standard output in one line of JSON
/// what came of it. Returns its exit code.
pub(crate) fn probe_main(file: &OsStr, symbol: &OsStr) -> i32 {
    panics::install_hook();
    let path = Path::new(file);
    let bounded = end_after(PATIENCE + GRACE, path).map_err(|error| {
        refused(path, format!("cannot be tried: no thread to bound the trial: {error}"))
    });
    let tried = bounded.and_then(|()| {
        guarded("the trial", || try_here(path, &symbol.to_string_lossy())).and_then(|tried| tried)
    });
    let (verdict, code) = match tried {
        Ok(description) => (Verdict::Sound(description), 0),
        Err(failure) => (Verdict::Refused(failure), 1),
    };
    if say(&verdict).is_ok() { code } else { 2 }
}

fn say(verdict: &Verdict) -> io::Result<()> {
    let line = serde_json::to_string(verdict).unwrap_or_default();
    // A line of its own, whatever the library has written before.
    writeln!(io::stdout().lock(), "\n{line}")
}

/// Ends this process after so long, or as soon as nobody holds the other end of its standard input,
/// and what it has started: who was to do so may be gone.
fn end_after(time: Duration, library: &Path) -> io::Result<()> {
    let deadline = Instant::now() + time;
    let running = Arc::new(Barrier::new(2));
    let line = File::from(io::stdin().as_fd().try_clone_to_owned()?);
    // By hand it may be anything else, which says nothing.
    let line = line.metadata()?.file_type().is_fifo().then_some(line);
    let (started, library) = (Arc::clone(&running), library.to_owned());
    let wait = move || {
        let waited = threads::ours("hsu-trial-end", || {
            threads::fail_point("hsu-trial-end");
            started.wait();
            let mut left = time;
            while !left.is_zero() {
                match sys::wait_readable([line.as_ref().map(AsFd::as_fd)], Some(left)) {
                    Ok([false]) => left = deadline.saturating_duration_since(Instant::now()),
                    Ok([true]) | Err(_) => break,
                }
            }
        });
        // There is no trial without a bound, and the library is not to blame.
        if let Err(fault) = waited {
            let _ = say(&Verdict::Refused(refused(&library, fault)));
            sys::exit_now(1);
        }
        // Its own group, if it leads one.
        let _ = sys::signal(Target::Group(std::process::id()), sys::SIGKILL);
        sys::exit_now(2);
    };
    threads::spawn("hsu-trial-end", STACK, wait)?;
    // A thread cannot begin while a library hangs in its constructor: the loader is locked.
    running.wait();
    Ok(())
}

/// Loads the library into this process, makes an instance, and destroys it.
fn try_here(path: &Path, symbol: &str) -> Result<ModuleDescription, Failure> {
    let loaded = load::open(path, symbol, None)?;
    let mut module = PluginModule::new(loaded.enter()?);
    let backend = backend();
    let ctx = ModuleContext::new(backend.clone());
    let _lent = identity::lend(&backend.identity());
    let broken = |failure: Failure| {
        let (permanent, failure) = (failure.permanent, refused(path, failure));
        if permanent { failure.permanent() } else { failure }
    };
    let created = guarded("create", || {
        let created = module.create(&ctx);
        created.map_err(|error| Failure::from_module_error(WORKER, error.as_ref()))
    });
    created.and_then(|created| created).map_err(broken)?;
    backend.fire(None);
    guarded("destroy", || drop(module)).map_err(broken)?;
    Ok(loaded.description.clone())
}

/// What stands behind the context of an instance that no master knows.
pub(super) fn backend() -> Arc<Backend> {
    let launch = Launch {
        worker: WORKER.to_owned(),
        incarnation: 1,
        module: ModuleSource::Native(String::new()),
        config: serde_json::Value::Null,
    };
    let setting = Setting {
        registry: ModuleRegistry::new(),
        realm: identity::next_realm(),
        stack_size: 2 << 20,
        panic_hook: true,
        contained: false,
        prober: None,
    };
    let silent: Reporter = Arc::new(|_| {});
    Arc::new(Backend::new(&launch, &setting, silent))
}

/// Has a child of `program`, which knows the role, try a library.
///
/// Blocks until the child has ended, ten seconds at most.
///
/// # Errors
/// Why the library is refused, or that there was no trial.
pub(crate) fn probe(
    program: &Path,
    file: &Path,
    symbol: &str,
) -> Result<ModuleDescription, Failure> {
    let mut command = Command::new(program);
    command.arg(PROBE_ROLE).arg(file).arg(symbol);
    try_by(command, file, PATIENCE)
}

/// Runs a child that tries `file`, and gives its verdict.
fn try_by(
    mut command: Command,
    file: &Path,
    patience: Duration,
) -> Result<ModuleDescription, Failure> {
    let program = command.get_program().to_owned();
    let no_trial = |error: io::Error| {
        refused(file, format!("cannot be tried by {}: {error}", program.display()))
    };
    // A group of its own: what it starts goes with it.
    command.process_group(0);
    // Nothing is written to its standard input: that it ends says that we are gone.
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null());
    let child = command.spawn().map_err(no_trial)?;
    let claim = Claim::on(child.id());
    let mut trial = Trial { child, _claim: claim };
    let stdout = trial.child.stdout.take().ok_or(io::ErrorKind::BrokenPipe);
    let output = stdout.map_err(io::Error::from).and_then(|stdout| trial.read(stdout, patience));
    let Some(output) = output.map_err(no_trial)? else {
        let message = format!("a process that loads it does not end within {patience:?}");
        return Err(refused(file, message));
    };
    trial.sweep();
    let status = trial.child.wait().map_err(no_trial)?;
    match (status.signal(), verdict(&output)) {
        (Some(signal), _) => {
            let end = Exit::Signal { signal, core_dumped: status.core_dumped() };
            Err(refused(file, format!("it kills the process with {end}")).permanent())
        }
        (None, Some(Verdict::Sound(description))) => Ok(description),
        (None, Some(Verdict::Refused(failure))) => Err(failure),
        (None, None) => {
            let message = format!("it ends the process that loads it ({status})");
            Err(refused(file, message).permanent())
        }
    }
}

/// The last line that is one.
fn verdict(output: &[u8]) -> Option<Verdict> {
    let lines = output.rsplit(|byte| *byte == b'\n');
    lines.filter(|line| !line.is_empty()).find_map(|line| serde_json::from_slice(line).ok())
}

/// A child with a trial to do. Dropped, it is killed, and all it has started with it.
struct Trial {
    child: Child,
    /// It is ours to reap. Given up only after that: fields go after the drop below.
    _claim: Claim,
}

impl Trial {
    /// Reads what the child writes until it ends; `None` when that takes too long.
    fn read(&self, stdout: ChildStdout, patience: Duration) -> io::Result<Option<Vec<u8>>> {
        let ended = sys::pidfd_open(self.child.id())?;
        sys::set_nonblocking(stdout.as_fd())?;
        let deadline = Instant::now() + patience;
        let (mut stdout, mut output) = (Some(stdout), Vec::new());
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Ok(None);
            }
            let fds = [stdout.as_ref().map(AsFd::as_fd), Some(ended.as_fd())];
            let [_, gone] = sys::wait_readable(fds, Some(left))?;
            if let Some(pipe) = &mut stdout
                && drain(pipe, &mut output)?
            {
                stdout = None;
            }
            if gone {
                return Ok(Some(output));
            }
        }
    }

    /// Kills what the child has started and left behind. It must not have been reaped: its id is
    /// that of its group.
    fn sweep(&self) {
        let _ = sys::signal(Target::Group(self.child.id()), sys::SIGKILL);
    }
}

/// Reads what is in the pipe, of which the last part is kept. True at its end.
fn drain(pipe: &mut ChildStdout, output: &mut Vec<u8>) -> io::Result<bool> {
    let mut buffer = [0; 8192];
    // Who writes without end is cut off by the deadline, not waited for here.
    for _ in 0..MAX_OUTPUT / buffer.len() {
        match pipe.read(&mut buffer) {
            Ok(0) => return Ok(true),
            Ok(count) => output.extend_from_slice(&buffer[..count]),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    output.drain(..output.len().saturating_sub(MAX_OUTPUT));
    Ok(false)
}

impl Drop for Trial {
    fn drop(&mut self) {
        if let Ok(None) = self.child.try_wait() {
            self.sweep();
            // It may have left its group.
            let _ = self.child.kill();
            let _ = self.child.wait();
        }
    }
}

/// Says what a library is: tried in a child where `program` can be one, else loaded here.
///
/// # Errors
/// Why it is refused.
#[cfg(feature = "cli")]
pub(crate) fn examine(
    file: &Path,
    symbol: &str,
    program: Option<&Path>,
) -> Result<ModuleDescription, Failure> {
    look(file)?;
    match program {
        Some(program) => probe(program, file, symbol),
        None => try_here(file, symbol),
    }
}

/// Looks at a library without running anything of it.
///
/// # Errors
/// Why it is refused.
#[cfg(feature = "cli")]
pub(crate) fn look(file: &Path) -> Result<(), Failure> {
    Library::open(file)?.check()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::host::alone;
    use crate::host::threads::fail_points::arm;

    fn tried(script: &str, patience: Duration) -> Result<ModuleDescription, String> {
        let mut command = Command::new("/bin/sh");
        command.args(["-c", script]);
        try_by(command, Path::new("lib.so"), patience).map_err(|failure| failure.message)
    }

    #[test]
    fn a_trial_ends_with_a_verdict_or_with_what_became_of_the_child() {
        let long = Duration::from_secs(30);
        let sound = r#"{"Sound":{"name":"n","version":"1","description":"","author":"",
            "built_with":"","abi":[1,0],"single_instance":false,"callable":true}}"#
            .replace('\n', "");
        let said = tried(&format!("echo noise; echo '{sound}'; echo more"), long).unwrap();
        assert_eq!((said.name.as_str(), said.abi), ("n", (1, 0)));
        for (script, message) in [
            ("kill -ABRT $$", "it kills the process with signal SIGABRT (6)"),
            ("exit 0", "it ends the process that loads it (exit status: 0)"),
            ("echo garbage; exit 3", "it ends the process that loads it (exit status: 3)"),
            (r#"echo '{"Refused":{"category":"plugin","message":"no"}}'; exit 1"#, "no"),
        ] {
            let refusal = tried(script, long).unwrap_err();
            assert!(refusal.contains(message), "{refusal}");
        }
        let refusal = try_by(Command::new("/nowhere"), Path::new("lib.so"), long).unwrap_err();
        assert!(refusal.message.contains("lib.so: cannot be tried by /nowhere: No such file"));
    }

    #[test]
    fn a_trial_that_does_not_end_is_ended_with_all_it_has_started() {
        let short = Duration::from_millis(300);
        for script in ["sleep 3600 & echo x; wait", "exec >&-; sleep 3600", "yes | cat"] {
            let refusal = tried(script, short).unwrap_err();
            assert!(refusal.contains("does not end within 300ms"), "{refusal}");
        }
        // What is left behind holds the pipe, and is not waited for.
        let begun = Instant::now();
        tried("sleep 3600 & exit 0", Duration::from_secs(1800)).unwrap_err();
        assert!(begun.elapsed() < Duration::from_secs(1800));
    }

    #[test]
    fn s17_a_trial_whose_bound_is_lost_ends_with_a_verdict_that_says_so() {
        let test = s17_a_trial_whose_bound_is_lost_ends_with_a_verdict_that_says_so;
        let Some(ended) = alone::run(&[], test) else {
            arm("hsu-trial-end");
            let _ = end_after(Duration::from_secs(30), Path::new("lib.so"));
            unreachable!("it has gone on");
        };
        let said = String::from_utf8_lossy(&ended.stdout);
        assert_eq!(ended.status.code(), Some(1), "{said}");
        let Some(Verdict::Refused(failure)) = verdict(&ended.stdout) else { panic!("{said}") };
        assert!(failure.message.contains("lib.so: an internal fault: panicked in"), "{failure}");
        assert!(!failure.permanent, "{failure}");
    }
}
