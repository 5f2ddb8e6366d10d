//! What comes before a process is there: its program is checked and spawned.

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
use crate::error::Failure;
use crate::host::{Report, protocol};
use crate::worker::Exit;

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
    variables.set("HSU_WORKER_ID", life.worker.as_str());
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
    let child = inherited(&mut command).spawn();
    Process::of(life, child.map_err(|error| preflight::explain(&error, plan, program))?)
}

/// Spawns the launcher, and waits until it has become the program.
fn spawn_staged(
    life: &Arc<Life>,
    settings: &Settings,
    prepared: &Prepared,
    socket: Option<OwnedFd>,
) -> Result<Process, Exit> {
    let staged = Stage::set(life, settings, prepared, socket.is_some());
    let (stage, mut command) = staged.map_err(Exit::Failed)?;
    let child = inherited(&mut command).spawn();
    let child = child.map_err(|error| Exit::Failed(stage.unspawned(&error)))?;
    // With it goes our hold on the launcher's end of the line.
    drop(command);
    let process = Process::of(life, child).map_err(Exit::Failed)?;
    match stage.play(socket) {
        Ok(()) => {
            life.gate.spawned(process.id());
            Ok(process)
        }
        Err(Some(failure)) => Err(Exit::Failed(failure)),
        Err(None) if life.gate.is_forced() => Err(process.end()),
        Err(None) => Err(Exit::Failed(staged::ended_silently(&process.end()))),
    }
}

/// What a program gets of us, whichever way it is spawned.
fn inherited(command: &mut Command) -> &mut Command {
    command.stdout(Stdio::piped()).stderr(Stdio::piped()).process_group(0)
}
