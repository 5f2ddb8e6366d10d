//! Spawns a program in two stages: first the launcher, which is told what to set on itself, then
//! what it becomes. That it has become it shows in its line's end.

use std::io::{self, Read};
use std::net::Shutdown;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::net::UnixStream;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::Command;
use std::sync::Arc;

use super::accounts::Identity;
use super::gate::HangUp;
use super::launcher::Prepared;
use super::{Life, ProcessPlan, Settings, preflight};
use crate::error::{ErrorCategory, Failure};
use crate::host::launch::{Instructions, LAUNCH_ROLE, Raw, Step, Word};
use crate::host::sys::{self, Limit, Resource};
use crate::worker::Exit;

/// A launcher says less.
const MOST_SAID: u64 = 64 << 10;

/// A launcher that is to be spawned, and what it is told.
pub(super) struct Stage<'p> {
    prepared: &'p Prepared,
    plan: &'p ProcessPlan,
    settings: &'p Settings,
    instructions: Instructions,
    line: Arc<UnixStream>,
}

impl<'p> Stage<'p> {
    /// A stage, and the command that runs its launcher.
    ///
    /// # Errors
    /// There is no descriptor left.
    pub(super) fn set(
        life: &'p Life,
        settings: &'p Settings,
        prepared: &'p Prepared,
        linked: bool,
    ) -> Result<(Self, Command), Failure> {
        let plan = &*life.plan;
        let (line, theirs) = UnixStream::pair().map_err(|error| no_line(&error))?;
        let mut command = Command::new(&settings.launcher.path);
        if let Some(name) = &settings.launcher.name {
            command.arg0(name);
        }
        command.arg(LAUNCH_ROLE).stdin(OwnedFd::from(theirs));
        let instructions = instructions(life, settings, prepared, linked);
        let line = Arc::new(line);
        Ok((Self { prepared, plan, settings, instructions, line }, command))
    }

    /// What ends the wait for the launcher, whatever that does.
    pub(super) fn hang_up(&self) -> HangUp {
        let line = Arc::clone(&self.line);
        Box::new(move || {
            // Fails only where the launcher has closed its end, and with it the wait.
            let _ = line.shutdown(Shutdown::Both);
        })
    }

    /// Why the launcher could not be spawned.
    pub(super) fn unspawned(&self, error: &io::Error) -> Failure {
        let category = ErrorCategory::of_io(error).unwrap_or(ErrorCategory::Unknown);
        let launcher = self.settings.launcher.path.display();
        Failure::new(category, format!("cannot run the launcher, {launcher}: {error}"))
    }

    /// Tells the launcher what it is to do, and waits until it has become the program.
    ///
    /// # Errors
    /// Why it has not; with `None` it has just ended.
    pub(super) fn play(&self, input: Option<OwnedFd>) -> Result<(), Option<Failure>> {
        // That it hears no more shows in what it says.
        let _ = self.instruct(input);
        let mut said = Vec::new();
        let read = (&*self.line).take(MOST_SAID).read_to_end(&mut said);
        let mut exec = false;
        for line in said.split(|byte| *byte == b'\n').filter(|line| !line.is_empty()) {
            match serde_json::from_slice::<Word>(line) {
                Ok(Word { step: Step::Exec, errno: None, .. }) => exec = true,
                Ok(word) => return Err(Some(self.refused(&word))),
                Err(_) => return Err(None),
            }
        }
        match exec && read.is_ok() {
            true => Ok(()),
            false => Err(None),
        }
    }

    fn instruct(&self, input: Option<OwnedFd>) -> io::Result<()> {
        let mut text = serde_json::to_vec(&self.instructions)?;
        text.push(b'\n');
        let mut beside = input.as_ref().map(AsFd::as_fd);
        let mut rest = &text[..];
        while !rest.is_empty() {
            match sys::send_beside(&self.line, rest, beside) {
                Ok(sent) => {
                    beside = None;
                    rest = &rest[sent..];
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    /// What a step failed with, for people.
    fn refused(&self, Word { step, errno, detail }: &Word) -> Failure {
        let error = match errno.filter(|errno| *errno != 0) {
            Some(errno) => io::Error::from_raw_os_error(errno),
            None => io::Error::other(detail.clone()),
        };
        let settings = self.settings;
        let identity = self.prepared.identity.as_ref();
        let message = match step {
            Step::Exec => return self.not_run(&error),
            Step::Directory => {
                let directory = self.prepared.directory.as_deref().unwrap_or(Path::new("."));
                let what = format!("working directory {}", directory.display());
                if let Some(failure) = self.closed(&error, directory, "enter", &what) {
                    return failure;
                }
                format!("cannot enter {what}: {error}")
            }
            Step::Limit => format!("cannot set limits.hard.{detail}: {error}"),
            Step::OomScore => {
                let score = settings.oom_score_adj.unwrap_or_default();
                format!("cannot set oom_score_adj to {score}: {error}")
            }
            Step::Nice => {
                let nice = settings.nice.unwrap_or_default();
                format!("cannot set nice to {nice}: {error}")
            }
            Step::Groups => format!("cannot set the supplementary groups: {error}"),
            Step::Group => {
                let gid = identity.and_then(|identity| identity.gid).unwrap_or_default();
                let group = settings.group.clone().unwrap_or_else(|| gid.to_string());
                format!("cannot switch to group '{group}': {error}")
            }
            Step::User => {
                let user = settings.user.as_deref().unwrap_or_default();
                format!("cannot switch to user '{user}': {error}")
            }
            Step::Verify => {
                let user = settings.user.as_deref().unwrap_or_default();
                format!("cannot switch to user '{user}' for good: {error}")
            }
            Step::NoNewPrivs => format!("cannot set no_new_privs: {error}"),
            Step::Instructions | Step::Input => {
                format!("the launcher was told what it cannot do: {error}")
            }
        };
        Failure::new(ErrorCategory::of_io(&error).unwrap_or(ErrorCategory::Unknown), message)
    }

    /// Why the last step, to become the program, failed.
    fn not_run(&self, error: &io::Error) -> Failure {
        let program = &self.prepared.program;
        let what = format!("program {}", program.display());
        self.closed(error, program, "execute", &what)
            .unwrap_or_else(|| preflight::explain(error, self.plan, program))
    }

    /// What keeps the worker's user from `path`, if that is why a step failed.
    fn closed(&self, error: &io::Error, path: &Path, verb: &str, what: &str) -> Option<Failure> {
        let other: &Identity = self.prepared.identity.as_ref().filter(|who| who.is_other())?;
        if error.kind() != io::ErrorKind::PermissionDenied {
            return None;
        }
        let uid = other.uid();
        Some(preflight::denied(match other.barrier(path) {
            Some((place, false)) => {
                format!("uid {uid} may not search {} for {what}", place.display())
            }
            Some((_, true)) => format!("uid {uid} may not {verb} {what}"),
            // An access list, a file system mounted noexec, a script's interpreter.
            None => format!("uid {uid} may not {verb} {what}: {error}"),
        }))
    }
}

fn no_line(error: &io::Error) -> Failure {
    let category = ErrorCategory::of_io(error).unwrap_or(ErrorCategory::Unknown);
    Failure::new(category, format!("cannot open a line to the launcher: {error}"))
}

/// What is said of a launcher that ended without a word.
pub(super) fn ended_silently(exit: &Exit) -> Failure {
    let message = format!(
        "the launcher ended before it had run the program: {exit}; its main must begin with \
         hsu_master::host_if_requested"
    );
    Failure::new(ErrorCategory::Unknown, message)
}

fn instructions(
    life: &Life,
    settings: &Settings,
    prepared: &Prepared,
    linked: bool,
) -> Instructions {
    let plan = &life.plan;
    let raw = |text: &[u8]| Raw(text.to_vec());
    let program = prepared.program.as_os_str();
    let name = plan.name.as_deref().unwrap_or(program);
    let arguments = plan.args.iter().map(String::as_bytes);
    let identity = prepared.identity.clone().unwrap_or_default();
    Instructions {
        program: raw(program.as_bytes()),
        arguments: [name.as_bytes()].into_iter().chain(arguments).map(raw).collect(),
        variables: prepared.variables.all().into_iter().map(Raw).collect(),
        linked,
        directory: prepared.directory.as_ref().map(|path| raw(path.as_os_str().as_bytes())),
        limits: limits(settings, life.means.nofile),
        oom_score_adj: settings.oom_score_adj,
        nice: settings.nice,
        umask: settings.umask,
        groups: identity.groups,
        gid: identity.gid,
        uid: identity.uid,
        no_new_privs: settings.no_new_privs,
    }
}

/// The limits to set. The one on memory comes last: what is done after it may need some.
fn limits(settings: &Settings, nofile: Option<Limit>) -> Vec<(Resource, Limit)> {
    let hard = &settings.hard;
    let same = |value: u64| Limit { soft: value, hard: value };
    [
        (Resource::CoreDump, hard.core.map(same)),
        // The one that the master raised for itself alone is put back by the launcher: from here
        // it could undo what the launcher sets.
        (Resource::Descriptors, hard.open_files.map(same).or(nofile)),
        (Resource::Processes, hard.processes.map(same)),
        (Resource::AddressSpace, hard.memory.map(same)),
    ]
    .into_iter()
    .filter_map(|(resource, limit)| Some((resource, limit?)))
    .collect()
}
