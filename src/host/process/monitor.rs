//! The thread beside each process: it checks and spawns it, hands on what it writes, learns of its
//! end from the kernel, and reports each step. It sleeps until one of these things happens.

use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::Duration;

use super::output::Output;
use super::{Life, preflight};
use crate::error::{ErrorCategory, Failure};
use crate::host::{Report, Reporter, sys};
use crate::worker::Exit;

/// How long pipes are read that somebody outside the killed group still holds.
const LINGER: Duration = Duration::from_secs(1);

/// The whole life of one incarnation.
pub(super) fn run(life: &Life) {
    let gone = Gone(Some(&life.report));
    let program = match preflight::check(&life.plan) {
        Ok(program) => program,
        Err(failure) => return gone.told(life, Exit::Failed(failure)),
    };
    (life.report)(Report::Launched);
    if !life.gate.wait_for_start() {
        return gone.told(life, Exit::Returned);
    }
    let Spawned { leader, ended, mut output } = match spawn(life, &program) {
        Ok(spawned) => spawned,
        Err(failure) => return gone.told(life, Exit::Failed(failure)),
    };
    (life.report)(Report::Started { pid: Some(leader.child.id()) });
    watch(life, ended, &mut output);
    let exit = leader.end();
    output.drain();
    gone.told(life, exit);
    output.linger(life.plan.kill_group.then_some(LINGER));
}

/// Owes the report `Gone`, and pays it also when the monitor panics.
struct Gone<'a>(Option<&'a Reporter>);

impl Gone<'_> {
    fn told(mut self, life: &Life, exit: Exit) {
        life.gate.close();
        if let Some(report) = self.0.take() {
            report(Report::Gone(exit));
        }
    }
}

impl Drop for Gone<'_> {
    fn drop(&mut self) {
        if let Some(report) = self.0.take() {
            report(Report::Gone(Exit::Unknown));
        }
    }
}

/// A process that is there, and what to know it by.
struct Spawned<'a> {
    leader: Leader<'a>,
    /// Readable once the process has ended.
    ended: OwnedFd,
    output: Output<'a>,
}

/// Spawns the program, so that it can be watched: otherwise nothing of it is left.
fn spawn<'a>(life: &'a Life, program: &Path) -> Result<Spawned<'a>, Failure> {
    let plan = &life.plan;
    // Everything set here keeps std on posix_spawn; `pre_exec` or an id would make it fork, which
    // takes the longer the more memory the master has.
    let mut command = Command::new(program);
    command.args(&plan.args).envs(&plan.environment).env("HSU_WORKER_ID", life.worker.as_str());
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).process_group(0);
    if let Some(directory) = &plan.working_directory {
        command.current_dir(directory);
    }
    let child = command.spawn().map_err(|error| preflight::explain(&error, plan, program))?;
    let mut leader = Leader { life, child, reaped: false };
    let pid = leader.child.id();
    if let Some(limit) = life.means.nofile
        && let Err(error) = sys::set_nofile(pid, limit)
    {
        log::warn!("{life}: cannot put its descriptor limit back: {error}");
    }
    life.gate.spawned(pid);
    let ended = sys::pidfd_open(pid).map_err(|error| unwatchable(&error))?;
    let output = Output::of(life, &mut leader.child).map_err(|error| unwatchable(&error))?;
    Ok(Spawned { leader, ended, output })
}

fn unwatchable(error: &io::Error) -> Failure {
    let category = ErrorCategory::of_io(error).unwrap_or(ErrorCategory::Unknown);
    let hint = match error.raw_os_error() {
        Some(sys::ENOSYS) => "; Linux 5.3 or newer is needed",
        _ => "",
    };
    Failure::new(category, format!("cannot watch the process, so it was killed: {error}{hint}"))
}

/// Hands on what the process writes until it has ended.
fn watch(life: &Life, ended: OwnedFd, output: &mut Output<'_>) {
    loop {
        let [out, err] = output.open();
        match sys::wait_readable([Some(ended.as_fd()), out, err], None) {
            Ok([true, _, _]) => return,
            Ok([false, out, err]) => output.read_ready([out, err]),
            Err(error) => {
                // Its end is still learnt of: reaping waits for it.
                log::error!("{life}: cannot wait for its output: {error}");
                return;
            }
        }
    }
}

/// A child that leads its group and is not reaped. Dropped before it was, it is killed and reaped.
struct Leader<'a> {
    life: &'a Life,
    child: Child,
    reaped: bool,
}

impl Leader<'_> {
    /// Waits for its end, kills what is left of its group, and reaps it.
    fn end(mut self) -> Exit {
        self.reap()
    }

    fn reap(&mut self) -> Exit {
        self.reaped = true;
        let gate = &self.life.gate;
        // The first wait is not under the gate's lock: a debugger may hear of the end before us,
        // and keep us waiting.
        match sys::await_end(self.child.id()).and_then(|()| gate.reap(&mut self.child)) {
            Ok(status) => exit_of(status),
            Err(error) => {
                gate.close();
                log::error!("{}: how it ended is lost: {error}", self.life);
                Exit::Unknown
            }
        }
    }
}

impl Drop for Leader<'_> {
    fn drop(&mut self) {
        if !self.reaped {
            self.life.gate.force();
            self.reap();
        }
    }
}

fn exit_of(status: ExitStatus) -> Exit {
    match (status.code(), status.signal()) {
        (Some(code), _) => Exit::Code(code),
        (None, Some(signal)) => Exit::Signal { signal, core_dumped: status.core_dumped() },
        (None, None) => Exit::Unknown,
    }
}
