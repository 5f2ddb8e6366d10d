//! Processes that somebody else starts: each incarnation finds one, watches it through a descriptor
//! that pins its identity, and signals it only through that descriptor, if it may at all.

#[cfg(target_os = "linux")]
mod find;
#[cfg(target_os = "linux")]
mod processes;
#[cfg(test)]
#[cfg(target_os = "linux")]
mod tests;

use std::sync::Arc;

use super::{Order, Reporter};
use crate::worker::{UnmanagedConfig, WorkerId};

/// How to find a process, and how to end it.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct UnmanagedPlan {
    pub(crate) what: UnmanagedConfig,
    /// The signal that asks it to end, if it may be ended.
    pub(crate) signal: i32,
}

#[cfg(not(target_os = "linux"))]
mod unsupported {
    use super::{Arc, Order, Reporter, UnmanagedPlan, WorkerId};
    use crate::error::{ErrorCategory, Failure};
    use crate::host::Report;
    use crate::worker::Exit;

    /// The handle on nothing: others' processes are not found here.
    pub(crate) struct UnmanagedHost;

    impl UnmanagedHost {
        pub(crate) fn launch(
            _worker: &WorkerId,
            _incarnation: u64,
            _plan: &Arc<UnmanagedPlan>,
            report: Reporter,
        ) -> Self {
            let message = "others' processes cannot be watched on this system";
            let failure = Failure::new(ErrorCategory::Configuration, message).permanent();
            report(Report::Gone(Exit::Failed(failure)));
            Self
        }

        pub(crate) fn order(&self, _order: &Order) {}
    }
}
#[cfg(not(target_os = "linux"))]
pub(crate) use unsupported::UnmanagedHost;

#[cfg(target_os = "linux")]
pub(crate) use linux::UnmanagedHost;

#[cfg(target_os = "linux")]
mod linux {
    use std::io::{self, PipeReader, PipeWriter};
    use std::os::fd::AsFd;
    use std::sync::{Mutex, MutexGuard, PoisonError};

    use super::find::find;
    use super::{Arc, Order, Reporter, UnmanagedPlan, WorkerId};
    use crate::error::{ErrorCategory, Failure};
    use crate::host::attached::Attached;
    use crate::host::{Report, sys, threads};
    use crate::worker::Exit;

    /// A watcher reads small files of `/proc`, and calls into the logger.
    const STACK: usize = 256 << 10;

    /// The handle on one incarnation: one process of others. Dropped, it lets go of the process.
    pub(crate) struct UnmanagedHost {
        hold: Arc<Hold>,
        plan: Arc<UnmanagedPlan>,
        report: Reporter,
        /// Closed to wake the watcher and send it home.
        leash: Mutex<Option<PipeWriter>>,
    }

    /// What is held of the process.
    struct Hold {
        /// `api#3`
        life: String,
        state: Mutex<State>,
    }

    enum State {
        Looking,
        Holding(Arc<Attached>),
        /// It has ended, or is let go of.
        Done,
    }

    impl UnmanagedHost {
        /// Begins an incarnation. Reports `Launched` once the process is found, else `Gone` with
        /// the reason why it is not; then `Gone` when it has ended or is let go of.
        pub(crate) fn launch(
            worker: &WorkerId,
            incarnation: u64,
            plan: &Arc<UnmanagedPlan>,
            report: Reporter,
        ) -> Self {
            let life = format!("{worker}#{incarnation}");
            let hold = Arc::new(Hold { life, state: Mutex::new(State::Looking) });
            let leash = watch(&hold, plan, &report);
            let leash = leash.map_err(|error| {
                let message = format!("cannot watch a process: {error}");
                let category = ErrorCategory::of_io(&error).unwrap_or(ErrorCategory::ResourceLimit);
                report(Report::Gone(Exit::Failed(Failure::new(category, message))));
            });
            Self { hold, plan: Arc::clone(plan), report, leash: Mutex::new(leash.ok()) }
        }

        /// Carries out an order. Never blocks.
        pub(crate) fn order(&self, order: &Order) {
            match order {
                Order::Start => {
                    if let State::Holding(process) = &*self.hold.lock() {
                        (self.report)(Report::Started { pid: Some(process.pid()) });
                    }
                }
                Order::Ask { patience: _ } => self.end(&[self.plan.signal, sys::SIGCONT]),
                Order::Force { patience: _ } => self.end(&[sys::SIGKILL]),
                Order::Launch(_) | Order::Probe { probe: _ } | Order::Info | Order::Abandon => {}
            }
        }

        /// Ends the process with these signals, if it may be ended, or lets go of it.
        fn end(&self, signals: &[i32]) {
            let held = match &*self.hold.lock() {
                State::Holding(process) => Some(Arc::clone(process)),
                State::Looking | State::Done => None,
            };
            let life = &self.hold.life;
            match held {
                Some(process) if self.plan.what.can_terminate => {
                    for signal in signals {
                        if let Err(error) = process.signal(*signal) {
                            let pid = process.pid();
                            log::warn!("{life}: cannot send signal {signal} to {pid}: {error}");
                        }
                    }
                }
                Some(process) => {
                    let pid = process.pid();
                    log::info!("{life} lets go of process {pid}, which is not ours to end");
                    self.let_go();
                }
                None => self.let_go(),
            }
        }

        fn let_go(&self) {
            drop(self.leash.lock().unwrap_or_else(PoisonError::into_inner).take());
        }
    }

    impl Hold {
        fn lock(&self) -> MutexGuard<'_, State> {
            // Every change of the state is a single assignment: a panic leaves nothing half done.
            self.state.lock().unwrap_or_else(PoisonError::into_inner)
        }
    }

    /// Starts the thread that finds a process and watches it, until the pipe's end that this
    /// returns is closed.
    fn watch(
        hold: &Arc<Hold>,
        plan: &Arc<UnmanagedPlan>,
        report: &Reporter,
    ) -> io::Result<PipeWriter> {
        let (released, leash) = io::pipe()?;
        let (plan, hold, report) = (Arc::clone(plan), Arc::clone(hold), Arc::clone(report));
        let thread = threads::spawn(&hold.life.clone(), STACK, move || {
            let gone = Gone { hold, report, exit: Exit::Unknown };
            let life = &gone.hold.life;
            let found = threads::twice(life, || {
                threads::fail_point("unmanaged-find");
                find(&plan.what)
            });
            let exit = match found.and_then(|found| found) {
                Ok(found) => keep_in_sight(found, &released, &gone),
                Err(failure) => Exit::Failed(failure),
            };
            gone.told(exit);
        })?;
        // Nobody joins it: its report of the end is the last thing it does.
        drop(thread);
        Ok(leash)
    }

    /// Waits until the process has ended, or is let go of, and says which.
    fn keep_in_sight(found: Attached, released: &PipeReader, gone: &Gone) -> Exit {
        let process = Arc::new(found);
        *gone.hold.lock() = State::Holding(Arc::clone(&process));
        (gone.report)(Report::Launched);
        let life = &gone.hold.life;
        let seen = threads::twice(life, || {
            threads::fail_point("unmanaged");
            loop {
                match sys::wait_readable([Some(process.as_fd()), Some(released.as_fd())], None) {
                    Ok([false, false]) => {}
                    Ok([true, _]) => return Exit::Unknown,
                    Ok([false, true]) => return Exit::LetGo,
                    Err(error) => {
                        log::error!("{life}: cannot wait for its end: {error}");
                        return Exit::Unknown;
                    }
                }
            }
        });
        // It is not ours to end: it is looked for and found again as the restart policy has it.
        seen.unwrap_or_else(Exit::Failed)
    }

    /// Owes the report `Gone`, and pays it also when the thread that has it panics.
    struct Gone {
        hold: Arc<Hold>,
        report: Reporter,
        exit: Exit,
    }

    impl Gone {
        fn told(mut self, exit: Exit) {
            self.exit = exit;
        }
    }

    impl Drop for Gone {
        fn drop(&mut self) {
            *self.hold.lock() = State::Done;
            let exit = std::mem::replace(&mut self.exit, Exit::Unknown);
            (self.report)(Report::Gone(exit));
        }
    }
}
