//! What comes before a process is there: its program is checked and spawned.

use std::fs::File;
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::sync::Arc;

use super::accounts::{self, Identity};
use super::monitor::{Gone, Monitor, Process};
use super::staged::{self, Stage};
use super::variables::Variables;
use super::{Life, ProcessPlan, Settings, preflight};
use crate::error::{ErrorCategory, Failure};
use crate::host::{Report, protocol, threads};
use crate::worker::{Exit, LogMode};

/// Brings a life to the point where its process runs and has a monitor, and reports each step.
pub(super) fn launch(life: Life) {
    let life = Arc::new(life);
    let gone = Gone::owed_by(&life);
    let prepared = match Prepared::of(&life.plan) {
        Ok(prepared) => prepared,
        Err(failure) => return gone.told(Exit::Failed(failure)),
    };
    let linked = life.link.is_some();
    if !linked {
        (life.report)(Report::Launched);
    }
    // While the order to start is on its way, and before there is anything to be watched.
    let monitor = match Monitor::start(&life) {
        Ok(monitor) => monitor,
        Err(failure) => return gone.told(Exit::Failed(failure)),
    };
    if !life.gate.wait_for_start() {
        return gone.told(Exit::Returned);
    }
    let process = match spawn(&life, prepared) {
        Ok(process) => process,
        Err(exit) => return gone.told(exit),
    };
    if !linked {
        (life.report)(Report::Started { pid: Some(process.id()) });
    }
    threads::fail_point("launcher");
    process.put_down();
    // Before anything of its output is read.
    life.means.output.started(&life.worker, life.incarnation, process.id());
    monitor.watch(process, gone);
}

/// Checks whether a plan's program could be spawned here and now.
#[cfg(feature = "cli")]
pub(super) fn check(plan: &ProcessPlan) -> Result<(), Failure> {
    Prepared::of(plan).map(drop)
}

/// What is known of a process before it is there.
pub(super) struct Prepared {
    pub(super) program: PathBuf,
    /// `None`: the master's own.
    pub(super) directory: Option<PathBuf>,
    pub(super) variables: Variables,
    pub(super) identity: Option<Identity>,
}

impl Prepared {
    /// Looks up whom a plan's process runs as, reads its file of variables, and finds its program.
    fn of(plan: &ProcessPlan) -> Result<Self, Failure> {
        let identity = plan.settings.as_deref().map(accounts::resolve).transpose()?;
        let variables = Variables::of(plan, identity.as_ref())?;
        let program = preflight::check(plan, variables.get("PATH").as_deref())?;
        let directory = plan.working_directory.clone();
        Ok(Self { program, directory, variables, identity })
    }
}

/// Spawns the program, so that it can be watched: otherwise nothing of it is left.
fn spawn(life: &Arc<Life>, mut prepared: Prepared) -> Result<Process, Exit> {
    let socket = life.link.as_ref().and_then(|link| link.take_theirs());
    let variables = &mut prepared.variables;
    for (name, value) in life.means.estate.marks(&life.worker, life.incarnation) {
        variables.set(name, &value);
    }
    match &socket {
        Some(_) => variables.set(protocol::VARIABLE, "1"),
        None => variables.unset(protocol::VARIABLE),
    }
    match life.plan.settings.as_deref() {
        Some(settings) => spawn_staged(life, settings, &prepared, socket),
        None => spawn_directly(life, &prepared, socket).map_err(Exit::Failed),
    }
}

fn spawn_directly(
    life: &Arc<Life>,
    prepared: &Prepared,
    socket: Option<OwnedFd>,
) -> Result<Process, Failure> {
    let Prepared { program, directory, variables, identity: _ } = prepared;
    let plan = &life.plan;
    // Everything set here and in `inherited` keeps std on posix_spawn; `pre_exec` or an id would
    // make it fork, which takes the longer the more memory the master has.
    let mut command = Command::new(program);
    command.args(&plan.args).stdin(socket.map_or_else(Stdio::null, Stdio::from));
    variables.apply(&mut command);
    if let Some(name) = &plan.name {
        command.arg0(name);
    }
    if let Some(directory) = directory {
        command.current_dir(directory);
    }
    let fifos = inherited(life, &mut command)?;
    let child = command.spawn().map_err(|error| preflight::explain(&error, plan, program))?;
    // It has its ends of everything by now, and ours must be the only others.
    drop(command);
    Process::of(life, child, fifos, None)
}

/// Spawns the launcher, and waits until it has become the program, or is to end: it may hang in a
/// step, on a file system that does not answer, and then it is its monitor that waits.
fn spawn_staged(
    life: &Arc<Life>,
    settings: &Settings,
    prepared: &Prepared,
    socket: Option<OwnedFd>,
) -> Result<Process, Exit> {
    let staged = Stage::set(life, settings, prepared, socket.is_some());
    let (stage, mut command) = staged.map_err(Exit::Failed)?;
    let fifos = inherited(life, &mut command).map_err(Exit::Failed)?;
    let child = command.spawn().map_err(|error| Exit::Failed(stage.unspawned(&error)))?;
    // With it goes our hold on the launcher's end of the line.
    drop(command);
    let process = Process::of(life, child, fifos, Some(stage.hang_up())).map_err(Exit::Failed)?;
    match stage.play(socket) {
        Ok(()) => {
            life.gate.spawned(process.id());
            Ok(process)
        }
        Err(Some(failure)) => Err(Exit::Failed(failure)),
        Err(None) if life.gate.is_live() => Ok(process),
        Err(None) => Err(Exit::Failed(staged::ended_silently(&process.end()))),
    }
}

/// What a program gets of us, whichever way it is spawned. Our ends of the FIFOs that a process
/// writes to which is to outlive its master: it keeps them open itself.
fn inherited(life: &Life, command: &mut Command) -> Result<Option<[File; 2]>, Failure> {
    let estate = &life.means.estate;
    estate.expects(&life.worker, &life.plan.afterwards);
    let (out, err) = outputs(life)?;
    command.stdout(out).stderr(err).process_group(0);
    // What the process writes elsewhere needs no master.
    if !life.plan.afterwards.keep || life.plan.output != LogMode::Capture {
        return Ok(None);
    }
    let [(their_out, out), (their_err, err)] = match estate.make_fifos(&life.worker) {
        Ok(made) => made,
        Err(error) => {
            // Better one that runs than none: the disk may be full.
            log::warn!(
                "{life}: cannot make the FIFOs that its output waits in when its master ends, so \
                 it writes to this master alone: {error}"
            );
            return Ok(None);
        }
    };
    command.stdout(their_out).stderr(their_err);
    Ok(Some([out, err]))
}

/// Where its standard output and standard error go.
fn outputs(life: &Life) -> Result<(Stdio, Stdio), Failure> {
    let cannot = |error: io::Error| {
        if error.kind() == io::ErrorKind::Unsupported {
            // There is no directory for it.
            let failure = Failure::new(ErrorCategory::Configuration, error.to_string());
            return failure.permanent();
        }
        let category = ErrorCategory::of_io(&error).unwrap_or(ErrorCategory::Unknown);
        Failure::new(category, format!("cannot open its log file: {error}"))
    };
    match life.plan.output {
        LogMode::Capture => Ok((Stdio::piped(), Stdio::piped())),
        LogMode::Inherit => Ok((Stdio::inherit(), Stdio::inherit())),
        LogMode::Discard => Ok((Stdio::null(), Stdio::null())),
        LogMode::File => {
            let file = life.means.output.file(&life.worker).map_err(cannot)?;
            let again = file.try_clone().map_err(cannot)?;
            Ok((file.into(), again.into()))
        }
    }
}
