//! Process workers: each incarnation is a child process. A launcher checks and spawns it; a monitor
//! thread of its own reads its output and reports its end. Orders go past both, through the gate.

#[cfg(target_os = "linux")]
mod accounts;
#[cfg(target_os = "linux")]
mod adopted;
#[cfg(target_os = "linux")]
mod env_file;
#[cfg(target_os = "linux")]
mod fifo;
mod gate;
#[cfg(target_os = "linux")]
mod interpreter;
#[cfg(target_os = "linux")]
mod launcher;
#[cfg(not(target_os = "linux"))]
#[path = "process/unsupported.rs"]
mod launcher;
mod launchers;
#[cfg(target_os = "linux")]
mod left;
#[cfg(target_os = "linux")]
mod link;
#[cfg(target_os = "linux")]
mod monitor;
#[cfg(target_os = "linux")]
mod oom;
#[cfg(target_os = "linux")]
mod output;
#[cfg(target_os = "linux")]
mod preflight;
mod settings;
#[cfg(target_os = "linux")]
mod staged;
#[cfg(test)]
#[cfg(target_os = "linux")]
mod tests;
#[cfg(target_os = "linux")]
mod variables;

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fmt;
use std::io::{self, PipeReader, PipeWriter};
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use super::estate::Estate;
#[cfg(target_os = "linux")]
use super::estate::{Adoption, Afterwards};
#[cfg(target_os = "linux")]
use super::reaper::{Escapees, end_escapees};
#[cfg(target_os = "linux")]
use super::{Dialect, Launch, Outlet, Report, Stream};
use super::{ModuleSource, Order, OutputSink, RemoteFunctions, Reporter, sys};
use crate::error::{ErrorCategory, Failure};
#[cfg(not(target_os = "linux"))]
use crate::worker::HardLimits;
use crate::worker::{ExecutionConfig, Exit, LogMode, WorkerId};
use gate::Gate;
use launchers::Launchers;
#[cfg(target_os = "linux")]
use link::Link;
pub(crate) use settings::Settings;

/// As much is read at once; of what is not filled no memory is taken.
const BUFFER: usize = 256 << 10;
/// As many idle buffers are kept; there may be more in use.
const SPARE_BUFFERS: usize = 4;

/// What to run, and how to end it.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct ProcessPlan {
    /// Without a slash it is looked up in the worker's `PATH`; a relative path with one starts at
    /// the working directory.
    pub(crate) program: PathBuf,
    pub(crate) args: Vec<String>,
    /// Added to the master's environment.
    pub(crate) environment: BTreeMap<String, String>,
    /// `None`: the master's own.
    pub(crate) working_directory: Option<PathBuf>,
    /// The signal that asks it to end.
    pub(crate) signal: i32,
    /// True: signals go to its whole group, and nothing of that outlives it.
    pub(crate) kill_group: bool,
    /// What it goes by in lists of processes; `None`: its path.
    pub(crate) name: Option<OsString>,
    /// It speaks the worker protocol.
    pub(crate) link: Option<Box<LinkPlan>>,
    /// Where its output goes.
    pub(crate) output: LogMode,
    /// What becomes of it when the master ends.
    #[cfg(target_os = "linux")]
    pub(crate) afterwards: Afterwards,
    /// A file with further variables; those above win.
    pub(crate) env_file: Option<PathBuf>,
    /// Hardly anything of the master's environment.
    pub(crate) clear_environment: bool,
    /// What it sets on itself before it becomes the program.
    pub(crate) settings: Option<Box<Settings>>,
}

/// What a process that speaks the worker protocol is told.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct LinkPlan {
    /// The module it is to be; an empty name for a program of its own.
    pub(crate) module: ModuleSource,
    /// It is this very program, as a module host.
    pub(crate) hosted: bool,
    pub(crate) config: serde_json::Value,
    /// The stack of each of the module's threads, in bytes.
    pub(crate) stack_size: usize,
    /// How long `initialize` may take, and `start`.
    pub(crate) start_timeout: Duration,
    /// How long an answer to `health` may take.
    pub(crate) probe_timeout: Duration,
}

impl ProcessPlan {
    /// True when it is said whom it runs as.
    #[cfg(target_os = "linux")]
    fn names_user(&self) -> bool {
        self.settings.as_ref().is_some_and(|settings| settings.user.is_some())
    }

    /// Checks whether the program could be spawned here and now.
    ///
    /// # Errors
    /// What is missing or refused.
    #[cfg(feature = "cli")]
    pub(crate) fn preflight(&self) -> Result<(), Failure> {
        launcher::check(self)
    }
}

/// The key of `execution` that a master which is not root cannot heed, if there is one. It may take
/// the time of a server's answer.
pub(crate) fn unprivileged(execution: &ExecutionConfig) -> Option<&'static str> {
    #[cfg(target_os = "linux")]
    return accounts::unprivileged(execution);
    #[cfg(not(target_os = "linux"))]
    Settings::needed(execution, &HardLimits::default())
}

/// The number of a user that is named by name or number; `None`: it cannot be found. It may take
/// the time of a server's answer.
#[cfg(target_os = "linux")]
pub(crate) fn uid_of(user: &str) -> Option<u32> {
    accounts::user_of(user).ok().map(|(uid, _)| uid)
}

/// What all process workers of a master share. Dropping it tells monitors that only wait for the
/// output of stragglers to end.
pub(crate) struct ProcessShared {
    means: Arc<Means>,
    launchers: Launchers,
    /// Closed when the master ends, which `Means::master_ended` shows to all at once.
    master_lives: Mutex<Option<PipeWriter>>,
}

impl ProcessShared {
    /// `nofile`: the descriptor limit that children get, if ours was raised.
    ///
    /// # Errors
    /// When there is no descriptor left.
    pub(crate) fn new(
        output: Arc<dyn OutputSink>,
        nofile: Option<sys::Limit>,
        estate: Arc<Estate>,
    ) -> io::Result<Arc<Self>> {
        let (master_ended, master_lives) = io::pipe()?;
        let buffers = Buffers::default();
        let means = Means {
            output,
            nofile,
            buffers,
            master_ended,
            estate,
            #[cfg(target_os = "linux")]
            kills: oom::Kills::new(),
        };
        let means = Arc::new(means);
        let launchers = Launchers::new();
        let master_lives = Mutex::new(Some(master_lives));
        Ok(Arc::new(Self { means, launchers, master_lives }))
    }

    /// Hands on what workers have written that have ended while no master ran. May block for as
    /// long as the output sink does.
    #[cfg(target_os = "linux")]
    pub(crate) fn hand_on_left(&self) {
        left::hand_on(&self.means);
    }

    /// The master ends: whoever watches what lives on lets go of it, which is waited for, for a
    /// while. What it writes from then on is the next master's.
    pub(crate) fn let_go(&self) {
        drop(self.master_lives.lock().unwrap_or_else(PoisonError::into_inner).take());
        // A panic of the loop is no orderly end.
        self.means.estate.await_let_go(!std::thread::panicking());
    }

    /// The master's arrangements for its end.
    pub(crate) fn estate(&self) -> &Estate {
        &self.means.estate
    }
}

impl Drop for ProcessShared {
    fn drop(&mut self) {
        self.let_go();
        self.means.estate.close(!std::thread::panicking());
    }
}

/// The part of `ProcessShared` that monitors hold on to.
#[cfg_attr(not(target_os = "linux"), expect(dead_code, reason = "nothing is run there"))]
struct Means {
    output: Arc<dyn OutputSink>,
    nofile: Option<sys::Limit>,
    buffers: Buffers,
    master_ended: PipeReader,
    estate: Arc<Estate>,
    /// What the kernel has killed.
    #[cfg(target_os = "linux")]
    kills: oom::Kills,
}

/// Buffers lent for one read each, so that a thousand silent processes need none.
#[derive(Default)]
struct Buffers(Mutex<Vec<Box<[u8]>>>);

impl Buffers {
    /// Lends a buffer to `work`.
    #[cfg_attr(not(target_os = "linux"), expect(dead_code, reason = "nothing is read there"))]
    fn lend<R>(&self, work: impl FnOnce(&mut [u8]) -> R) -> R {
        let spare = self.0.lock().unwrap_or_else(PoisonError::into_inner).pop();
        let mut buffer = spare.unwrap_or_else(|| vec![0; BUFFER].into_boxed_slice());
        let result = work(&mut buffer);
        let mut spares = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if spares.len() < SPARE_BUFFERS {
            spares.push(buffer);
        }
        result
    }
}

/// One life of a process worker, as its launcher and its monitor know it. Displayed as `api#3`.
#[cfg_attr(not(target_os = "linux"), expect(dead_code, reason = "nothing is run there"))]
struct Life {
    worker: WorkerId,
    incarnation: u64,
    plan: Arc<ProcessPlan>,
    means: Arc<Means>,
    gate: Arc<Gate>,
    /// The line to a process that speaks the worker protocol.
    #[cfg(target_os = "linux")]
    link: Option<Arc<Link>>,
    report: Reporter,
}

#[cfg(target_os = "linux")]
impl Life {
    /// Where its output comes from, and how its lines are to be read.
    fn outlet(&self, stream: Stream) -> Outlet<'_> {
        let dialect = match self.plan.link.as_deref() {
            None => Dialect::Plain,
            Some(LinkPlan { hosted: false, .. }) => Dialect::Leveled,
            Some(LinkPlan { hosted: true, .. }) => Dialect::Records,
        };
        Outlet { worker: &self.worker, incarnation: self.incarnation, stream, dialect }
    }

    /// All is handed on that it had written by its end.
    fn read_out(&self) {
        if self.plan.afterwards.keep {
            self.means.estate.read_out(&self.worker);
        }
    }
}

#[cfg(target_os = "linux")]
impl Life {
    /// Kills what has left the group of a process that is no more, where that would be killed too.
    fn end_escapees(&self) {
        if !self.plan.kill_group {
            return;
        }
        let (worker, incarnation) = (&self.worker, self.incarnation);
        let Escapees { killed, left } =
            end_escapees(|marks| self.means.estate.marked(marks, worker, incarnation));
        let list = |pids: &[u32]| pids.iter().map(u32::to_string).collect::<Vec<_>>().join(", ");
        if !killed.is_empty() {
            let (count, list) = (killed.len(), list(&killed));
            log::warn!(
                "{self}: {count} of its processes had left its group, and were killed: {list}"
            );
        }
        if !left.is_empty() {
            log::error!("{self}: of its processes these do not end: {}", list(&left));
        }
    }
}

impl fmt::Display for Life {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}#{}", self.worker, self.incarnation)
    }
}

/// The handle on one incarnation of a process worker. Dropped before `Order::Start`, it calls the
/// start off; later its drop changes nothing. Nobody joins the monitor: `Report::Gone` says that
/// the process is no more, and what the thread may still do is read what stragglers write.
pub(crate) struct ProcessHost {
    gate: Arc<Gate>,
    #[cfg(target_os = "linux")]
    link: Option<Arc<Link>>,
}

impl ProcessHost {
    /// Begins an incarnation. Reports `Launched` once it is known that the program can be spawned,
    /// or, if it speaks the worker protocol, once it is initialized; else `Gone` with the reason
    /// why not.
    pub(crate) fn launch(
        worker: WorkerId,
        incarnation: u64,
        plan: Arc<ProcessPlan>,
        shared: &ProcessShared,
        report: Reporter,
    ) -> Self {
        let gate = Arc::new(Gate::new(plan.signal, plan.kill_group));
        #[cfg(target_os = "linux")]
        let link = match open_link(&worker, incarnation, &plan, &shared.means, &report) {
            Ok(link) => link,
            Err(failure) => {
                gate.close();
                report(Report::Gone(Exit::Failed(failure)));
                return Self { gate, link: None };
            }
        };
        #[cfg(target_os = "linux")]
        if link.is_some() {
            // Its launch is its process; what it is ordered to start is the module in there.
            gate.start();
        }
        let means = Arc::clone(&shared.means);
        let life = Life {
            worker,
            incarnation,
            plan,
            means,
            gate: Arc::clone(&gate),
            #[cfg(target_os = "linux")]
            link: link.clone(),
            report,
        };
        shared.launchers.launch(life);
        Self {
            gate,
            #[cfg(target_os = "linux")]
            link,
        }
    }

    /// Nothing was started here.
    #[cfg(not(target_os = "linux"))]
    pub(crate) fn adopt(
        _adoption: super::estate::Adoption,
        plan: Arc<ProcessPlan>,
        _shared: &ProcessShared,
        _report: Reporter,
    ) -> Self {
        Self { gate: Arc::new(Gate::new(plan.signal, plan.kill_group)) }
    }

    /// Takes over a process that a former master has started.
    #[cfg(target_os = "linux")]
    pub(crate) fn adopt(
        adoption: Adoption,
        plan: Arc<ProcessPlan>,
        shared: &ProcessShared,
        report: Reporter,
    ) -> Self {
        let Adoption { worker, process, record, .. } = adoption;
        let (incarnation, means) = (record.incarnation, Arc::clone(&shared.means));
        let process = Arc::new(process);
        let gate = Arc::new(Gate::to(Arc::clone(&process), plan.signal, plan.kill_group));
        let host = Self { gate: Arc::clone(&gate), link: None };
        let life = Life { worker, incarnation, plan, means, gate, link: None, report };
        adopted::watch_over(life, process);
        host
    }

    /// Carries out an order. Never blocks.
    pub(crate) fn order(&self, order: &Order) {
        #[cfg(target_os = "linux")]
        if let Some(link) = &self.link {
            return self.order_over(link, order);
        }
        match order {
            Order::Start => self.gate.start(),
            Order::Ask { patience: _ } => self.gate.ask(),
            Order::Force { patience: _ } => self.gate.force(),
            // It was launched by its constructor, is not asked for anything this way, and its end
            // is reported however late it comes.
            Order::Launch(_) | Order::Probe { probe: _ } | Order::Info | Order::Abandon => {}
        }
    }

    /// Who answers calls of its functions, if it speaks the worker protocol.
    pub(crate) fn functions(&self) -> Option<Arc<dyn RemoteFunctions>> {
        #[cfg(target_os = "linux")]
        if let Some(link) = &self.link {
            return Some(Arc::clone(link) as Arc<dyn RemoteFunctions>);
        }
        None
    }

    /// Carries out an order to a process that speaks the worker protocol.
    #[cfg(target_os = "linux")]
    fn order_over(&self, link: &Link, order: &Order) {
        match order {
            Order::Start => link.start(),
            Order::Probe { probe } => link.probe(*probe),
            Order::Ask { patience } => {
                // A launcher hears nothing, and may never become what does.
                if !self.gate.is_staged() && link.stop(*patience) {
                    self.gate.resume();
                } else {
                    self.gate.ask();
                }
            }
            Order::Force { patience: _ } => {
                link.give_up();
                self.gate.force();
            }
            Order::Launch(_) | Order::Info | Order::Abandon => {}
        }
    }
}

/// The line to a process that is to be launched, if it speaks the worker protocol.
#[cfg(target_os = "linux")]
fn open_link(
    worker: &WorkerId,
    incarnation: u64,
    plan: &ProcessPlan,
    means: &Arc<Means>,
    report: &Reporter,
) -> Result<Option<Arc<Link>>, Failure> {
    let Some(plan) = plan.link.as_deref() else { return Ok(None) };
    let (module, config) = (plan.module.clone(), plan.config.clone());
    let launch = Launch { worker: worker.to_string(), incarnation, module, config };
    let (means, report) = (Arc::clone(means), Arc::clone(report));
    Link::new(plan.clone(), launch, means, report).map(Some).map_err(|error| {
        let category = ErrorCategory::of_io(&error).unwrap_or(ErrorCategory::Unknown);
        Failure::new(category, format!("cannot open the line to its process: {error}"))
    })
}

impl Drop for ProcessHost {
    fn drop(&mut self) {
        self.gate.call_off();
    }
}
