//! What is wrong with workers' configurations in this very program: unknown modules, no program to
//! run again, and every mistake of the configuration itself.

use std::collections::BTreeMap;

use super::Host;
use super::rights::{unlaunchable, unprivileged};
#[cfg(feature = "cli")]
use crate::error::Failure;
use crate::error::Problem;
use crate::host::panics::CAN_CONTAIN;
use crate::host::runner::{uncontained, unknown_module};
use crate::module::ModuleRegistry;
use crate::runtime::NO_HOST;
use crate::worker::{Mistake, ModuleType, OnMasterExit, WorkerConfig, WorkerType};

/// Everything that is wrong with the workers of one configuration.
pub(super) fn check_workers(
    workers: &[WorkerConfig],
    registry: &ModuleRegistry,
    host: Host,
    has_state: bool,
) -> Vec<Problem> {
    let mut problems = Vec::new();
    let (mut ids, mut main) = (BTreeMap::new(), false);
    for (index, worker) in workers.iter().enumerate() {
        if let Some(first) = ids.insert(&worker.id, index) {
            let message = format!("{:?} is already used by workers[{first}]", worker.id);
            problems.push(Problem::unplaced(format!("workers[{index}].id"), message));
        }
        if worker.main && std::mem::replace(&mut main, true) {
            let message = "another worker is that already: one worker's end can end the master";
            problems.push(Problem::unplaced(format!("workers[{index}].main"), message));
        }
        for problem in check_worker(worker, registry, host, has_state) {
            let path = format!("workers[{index}].{}", problem.path);
            problems.push(Problem { path, ..problem });
        }
    }
    problems
}

/// Everything that is wrong with a configuration, whether it came from a file or from a program.
pub(super) fn check_worker(
    config: &WorkerConfig,
    registry: &ModuleRegistry,
    host: Host,
    has_state: bool,
) -> Vec<Problem> {
    let hosted = config.is_module() && config.worker_type == WorkerType::Process;
    let homeless =
        (hosted && host == Host::Own(false)).then(|| ("type".to_owned(), NO_HOST.to_owned()));
    // Which modules another program knows is not known here.
    let elsewhere = hosted && host == Host::Other;
    let unavailable = unavailable(config, registry).filter(|_| !elsewhere);
    let unguarded = unguarded(config, host, has_state);
    let refused = unprivileged(config).or_else(|| unlaunchable(config, host));
    let found = homeless.into_iter().chain(unavailable).chain(unguarded).chain(refused);
    let mistakes = config.mistakes().into_iter().chain(found);
    mistakes.map(|(path, message)| Problem::unplaced(path, message)).collect()
}

/// Why what is to become of a worker at the master's end cannot be had in this program.
fn unguarded(config: &WorkerConfig, host: Host, has_state: bool) -> Option<Mistake> {
    let message = match config.on_master_exit? {
        OnMasterExit::Keep if !has_state => {
            "`keep` needs a state directory, where the next master finds what is left \
             (master.state_dir)"
        }
        OnMasterExit::Stop
            if config.worker_type == WorkerType::Process && host == Host::Own(false) =>
        {
            "`stop` needs a guardian, which is this program, run again: begin its main with \
             hsu_master::host_if_requested(&registry), as App::run does, or name another program \
             with MasterBuilder::host_program"
        }
        OnMasterExit::Keep | OnMasterExit::Stop => return None,
    };
    Some(("on_master_exit".to_owned(), message.to_owned()))
}

/// What would keep a worker's program from being started here and now, if something would.
#[cfg(feature = "cli")]
pub(crate) fn preflight(config: &WorkerConfig) -> Option<Failure> {
    crate::runtime::preflight(config).err()
}

/// Why a module worker cannot run in this program, if it cannot.
pub(crate) fn unavailable(config: &WorkerConfig, registry: &ModuleRegistry) -> Option<Mistake> {
    let module = config.module_name.as_deref()?;
    let native = config.module_type != Some(ModuleType::Plugin);
    let failure = if config.worker_type == WorkerType::Module && !CAN_CONTAIN {
        uncontained()
    } else if native && registry.get(module).is_none() {
        unknown_module(registry, module)
    } else {
        return None;
    };
    Some(("module_name".to_owned(), failure.message))
}
