//! What comes before a process is there: its program is checked and spawned.

use std::io;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::Arc;

#[cfg(feature = "cli")]
use super::ProcessPlan;
use super::monitor::{Gone, Monitor, Process};
use super::{Life, preflight};
use crate::error::{ErrorCategory, Failure};
use crate::host::{Report, protocol};
use crate::worker::{Exit, LogMode};

/// Brings a life to the point where its process runs and has a monitor, and reports each step.
pub(super) fn launch(life: Life) {
    let life = Arc::new(life);
    let gone = Gone::owed_by(&life);
    let program = match preflight::check(&life.plan) {
        Ok(program) => program,
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
    let process = match spawn(&life, &program) {
        Ok(process) => process,
        Err(failure) => return gone.told(Exit::Failed(failure)),
    };
    if !linked {
        (life.report)(Report::Started { pid: Some(process.id()) });
    }
    // Before anything of its output is read.
    life.means.output.started(&life.worker, life.incarnation, process.id());
    monitor.watch(process, gone);
}

/// Checks whether a plan's program could be spawned here and now.
#[cfg(feature = "cli")]
pub(super) fn check(plan: &ProcessPlan) -> Result<(), Failure> {
    preflight::check(plan).map(drop)
}

/// Spawns the program, so that it can be watched: otherwise nothing of it is left.
fn spawn(life: &Arc<Life>, program: &Path) -> Result<Process, Failure> {
    let plan = &life.plan;
    // Everything set here keeps std on posix_spawn; `pre_exec` or an id would make it fork, which
    // takes the longer the more memory the master has.
    let mut command = Command::new(program);
    command.args(&plan.args).envs(&plan.environment).env("HSU_WORKER_ID", life.worker.as_str());
    match life.link.as_ref().and_then(|link| link.take_theirs()) {
        Some(socket) => command.stdin(socket).env(protocol::VARIABLE, "1"),
        None => command.stdin(Stdio::null()).env_remove(protocol::VARIABLE),
    };
    let (out, err) = outputs(life)?;
    command.stdout(out).stderr(err).process_group(0);
    if let Some(name) = &plan.name {
        command.arg0(name);
    }
    if let Some(directory) = &plan.working_directory {
        command.current_dir(directory);
    }
    let child = command.spawn().map_err(|error| preflight::explain(&error, plan, program))?;
    Process::of(life, child)
}

/// Where its standard output and standard error go.
fn outputs(life: &Life) -> Result<(Stdio, Stdio), Failure> {
    let cannot = |error: io::Error| {
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
