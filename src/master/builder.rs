//! What a master is made from.

use std::hash::{BuildHasher, Hasher, RandomState};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use super::checks::check_workers;
use super::heirs::Inherited;
use super::held::Held;
use super::leftovers;
use super::output::{LineSink, Output, OutputLine, Outputs};
use super::own::OwnProcess;
use super::reload::{Applied, ConfigReader, ConfigSource};
use super::signals::Signals;
use super::{Host, Master, Owned, Shared};
use crate::error::{Error, ErrorCategory, Result};
use crate::host::estate::Estate;
use crate::host::identity;
use crate::host::panics;
use crate::host::process::ProcessShared;
use crate::host::roles::{Program, this_program};
use crate::host::runner::Setting;
use crate::host::state::{StateDir, Tenure};
use crate::host::sys;
use crate::logs::Logs;
use crate::module::{ModuleFactory, ModuleRegistry};
use crate::runtime::{self, Parts};
use crate::settings::MasterConfig;

/// Collects what a [`Master`] is made from.
pub struct MasterBuilder {
    registry: ModuleRegistry,
    config: MasterConfig,
    output: Option<Output>,
    panic_hook: bool,
    own_process: bool,
    owned: Option<OwnProcess>,
    keep_unknown: bool,
    seed: Option<u64>,
    host_program: Option<PathBuf>,
    source: Option<ConfigSource>,
    reader: Option<ConfigReader>,
    applied: Option<Applied>,
}

impl Default for MasterBuilder {
    fn default() -> Self {
        Self {
            registry: ModuleRegistry::new(),
            config: MasterConfig::default(),
            output: None,
            panic_hook: true,
            own_process: false,
            owned: None,
            keep_unknown: false,
            seed: None,
            host_program: None,
            source: None,
            reader: None,
            applied: None,
        }
    }
}

impl MasterBuilder {
    /// The native modules, beside those registered by [`module`](Self::module).
    #[must_use]
    pub fn registry(mut self, registry: &ModuleRegistry) -> Self {
        self.registry.extend(registry);
        self
    }

    /// Registers a native module.
    #[must_use]
    pub fn module(mut self, name: impl Into<String>, factory: impl ModuleFactory) -> Self {
        self.registry.register_native_module_factory(name, factory);
        self
    }

    /// The configuration: its workers are added when the master is built.
    #[must_use]
    pub fn config(mut self, config: MasterConfig) -> Self {
        self.config = config;
        self
    }

    /// Where the configuration comes from, for [`Master::reload_again`] and for SIGHUP: called on
    /// the thread of whoever asks, each time anew.
    #[must_use]
    pub fn source(
        mut self,
        source: impl Fn() -> Result<MasterConfig> + Send + Sync + 'static,
    ) -> Self {
        self.source = Some(Box::new(source));
        self
    }

    /// How a file is read that might become the configuration, for those who ask what it would
    /// change.
    #[cfg(feature = "cli")]
    pub(crate) fn reader(
        mut self,
        reader: impl Fn(&Path) -> Result<MasterConfig> + Send + Sync + 'static,
    ) -> Self {
        self.reader = Some(Box::new(reader));
        self
    }

    /// Who is told of each configuration that takes the place of the one before.
    #[cfg(feature = "cli")]
    pub(crate) fn applied(
        mut self,
        applied: impl Fn(&MasterConfig) + Send + Sync + 'static,
    ) -> Self {
        self.applied = Some(Box::new(applied));
        self
    }

    /// Where the lines go that process workers write. Without it they are read and dropped, so that
    /// no worker ever waits for a reader.
    ///
    /// It is called on the workers' monitor threads and must not block: the worker's own writes
    /// would wait behind it, and so would the news of its end. Should it panic, the line is lost.
    #[must_use]
    pub fn output(mut self, output: impl Fn(OutputLine<'_>) + Send + Sync + 'static) -> Self {
        self.output = Some(Box::new(output));
        self
    }

    /// False: no panic hook is installed. A module's panic is then caught all the same, but its
    /// place is not known, and the hook that is there prints it.
    #[must_use]
    pub fn panic_hook(mut self, install: bool) -> Self {
        self.panic_hook = install;
        self
    }

    /// The process belongs to this master, as a supervisor's own program does. When it is built:
    ///
    /// - descriptors 0 to 2 are opened on `/dev/null` where they are closed, and inherited ones
    ///   from 3 up are marked to be closed in children (those of `LISTEN_FDS` are spared);
    /// - signals that were ignored are set to their defaults, and none is held back;
    /// - the soft descriptor limit is raised to the hard one, and put back in each child;
    /// - a signal that ends it (a segmentation fault, an abort) first says on standard error on
    ///   which thread it came, so that the module is known that brought it down;
    /// - a write beyond the limit of file sizes (`ulimit -f`) fails instead of ending the process;
    /// - SIGTERM, SIGINT and SIGQUIT shut down, a second one kills at once, a third one exits (the
    ///   same signal within 200 ms is the same request); SIGHUP reloads from the
    ///   [`source`](Self::source), or is as SIGTERM if the controlling terminal is gone; SIGUSR1
    ///   logs every worker's state; SIGUSR2 is [`Master::reopen_logs`]; others that would end it by
    ///   default, such as SIGALRM and the real-time ones, are logged. All of this holds from the
    ///   beginning of [`build`](Self::build), at whose end is done what was asked for meanwhile.
    ///   After the master's end they do what they do by default, but for real-time ones, which are
    ///   then ignored.
    ///
    /// On Linux it becomes a subreaper too, until the master's end: processes that lose their
    /// parent become its children, and are reaped when they end, which a handler for SIGCHLD tells.
    /// The statuses of children that modules spawn by themselves are left to them, however late
    /// they wait. To tell the ones from the others, each worker's limit of file locks, which Linux
    /// does not heed (`ulimit -x`), is one below the master's. Ended children that may be a
    /// module's and that nobody waits for stay, up to 1,024 of them; then the oldest are reaped.
    #[must_use]
    pub fn own_process(mut self) -> Self {
        self.own_process = true;
        self
    }

    /// As [`own_process`](Self::own_process), for a process that was taken before this.
    #[cfg(feature = "cli")]
    pub(crate) fn owning(mut self, own: OwnProcess) -> Self {
        self.owned = Some(own);
        self
    }

    /// For programs that add workers after [`build`](Self::build): what a former master of the
    /// state directory has left running of workers that are not in the configuration, with
    /// `on_master_exit: keep`, waits for them.
    ///
    /// [`Master::add_worker`] of such an id takes the process over, as `build` does with those of
    /// configured workers; one that is not to go on (the worker is not kept any more, or not
    /// enabled) is stopped, and the worker's next life begins after it. The first
    /// [`Master::start_all`] stops what nobody has added. A master that ends before leaves it to
    /// the next one.
    ///
    /// False, as by default: `build` ends everything that it does not know, so that an id which is
    /// added later begins anew. Never is a second copy of a worker started beside a first.
    #[must_use]
    pub fn keep_unknown(mut self, keep: bool) -> Self {
        self.keep_unknown = keep;
        self
    }

    /// The program that is run for modules in processes of their own, and for a moment before
    /// processes with settings such as `user`, instead of this one. Its main must begin with
    /// [`host_if_requested`](crate::host_if_requested), and it must know the modules by the same
    /// names. For tests, whose own program is the test runner.
    #[must_use]
    pub fn host_program(mut self, path: impl Into<PathBuf>) -> Self {
        self.host_program = Some(path.into());
        self
    }

    /// The seed of all jitter; by default it is drawn at random.
    #[must_use]
    pub fn seed(mut self, seed: u64) -> Self {
        self.seed = Some(seed);
        self
    }

    /// Starts the event loop and adds the configured workers. Starts no worker.
    ///
    /// # Errors
    /// SIGCHLD is ignored, so that exit codes would be lost; a worker's configuration is wrong; the
    /// state or log directory is another master's, or not to be trusted; the system has no thread
    /// or descriptor left.
    pub fn build(mut self) -> Result<Master> {
        let (signals, nofile) = self.take_process()?;
        let (host, host_program) = self.host();
        self.check(host)?;
        let name = self.config.name.clone().unwrap_or_else(|| "hsu-master".to_owned());
        let state = open_state(self.config.state_dir.as_deref(), &name)?;
        let realm = identity::next_realm();
        let log_dir = log_dir(self.config.log_dir.clone(), self.config.state_dir.as_deref());
        let logs = Logs::open_for(&name, log_dir.as_deref(), realm)?;
        let prober = host_program.as_ref().map(|program| program.path.clone());
        let setting = self.setting(realm, prober.clone());
        let lines = LineSink::new(self.output, realm);
        let outputs = Arc::new(Outputs { logs: logs.clone(), lines });
        let workers = &self.config.workers;
        let (estate, mut inheritance) =
            Estate::open(host_program.clone(), state.clone(), workers, self.keep_unknown)
                .map_err(|error| Error::io("cannot read what a former master left", error))?;
        let inherited = Inherited::of(&mut inheritance);
        let processes = ProcessShared::new(outputs, nofile, Arc::new(estate))
            .map_err(|error| Error::io("cannot open a pipe", error))?;
        let seed = self.seed.unwrap_or_else(|| RandomState::new().build_hasher().finish());
        let (handle, thread) = runtime::start(Parts {
            name: name.clone(),
            seed,
            shutdown_timeout: self.config.shutdown_timeout,
            setting,
            processes: Arc::clone(&processes),
            host_program,
            logs: logs.clone(),
        })
        .map_err(|error| Error::io("cannot start the event loop's thread", error))?;
        let shared = Shared {
            handle,
            registry: self.registry,
            host,
            current: Mutex::new(Held::new(self.config)),
            reloading: Mutex::new(()),
            source: self.source,
            reader: self.reader,
            applied: self.applied,
            prober,
            logs,
            state: state.clone(),
            inherited: Mutex::new(inherited),
        };
        let owned = Owned {
            thread: Mutex::new(Some(thread)),
            _signals: None,
            #[cfg(target_os = "linux")]
            _reaper: None,
            #[cfg(target_os = "linux")]
            _server: None,
            _state: state.map(Tenure),
        };
        let mut master = Master { shared: Arc::new(shared), owned: Some(owned) };
        let mut remnants = leftovers::by_worker(inheritance);
        master.add_configured(&mut remnants)?;
        #[cfg(target_os = "linux")]
        processes.hand_on_left();
        // Before anybody can ask for a worker of such a name.
        master.end_strangers(remnants);
        #[cfg(target_os = "linux")]
        master.listen(&name)?;
        if signals.is_none() {
            master.await_strangers();
        }
        master.obey(signals)?;
        Ok(master)
    }

    /// The signals and the descriptor limit for children, if the process is this master's.
    fn take_process(&mut self) -> Result<(Option<Signals>, Option<sys::Limit>)> {
        let own = match self.owned.take() {
            None if self.own_process => Some(OwnProcess::take()?),
            own => own,
        };
        if own.is_some() && self.panic_hook {
            panics::install_hook();
        }
        Ok(own.map_or((None, None), |own| (Some(own.signals), own.nofile)))
    }

    /// Which program runs modules in processes of their own, and how.
    fn host(&self) -> (Host, Option<Program>) {
        match &self.host_program {
            Some(path) => (Host::Other, Some(Program { path: path.clone(), name: None })),
            None => {
                let own = this_program();
                (Host::Own(own.is_some()), own)
            }
        }
    }

    /// What keeps this master from being one.
    fn check(&self, host: Host) -> Result<()> {
        if sys::sigchld_is_ignored() {
            let message = "SIGCHLD is ignored in this process, so exit codes would be lost: set it \
                           to its default before building a master";
            return Err(Error::new(ErrorCategory::Refused, message));
        }
        let has_state = self.config.state_dir.is_some();
        let problems = check_workers(&self.config.workers, &self.registry, host, has_state);
        if problems.is_empty() { Ok(()) } else { Err(Error::rejected(problems)) }
    }

    /// What modules' runners are set to.
    fn setting(&self, realm: u64, prober: Option<PathBuf>) -> Setting {
        Setting {
            registry: self.registry.clone(),
            realm,
            stack_size: 0,
            panic_hook: self.panic_hook,
            contained: false,
            prober,
        }
    }
}

/// Where logs are kept, if they are: where it was said, or in the state directory.
fn log_dir(log_dir: Option<PathBuf>, state_dir: Option<&Path>) -> Option<PathBuf> {
    log_dir.or_else(|| Some(state_dir?.join("logs")))
}

/// Takes the state directory, if there is to be one.
#[cfg(target_os = "linux")]
fn open_state(path: Option<&Path>, name: &str) -> Result<Option<Arc<StateDir>>> {
    path.map(|path| StateDir::open(path, name)).transpose()
}

#[cfg(not(target_os = "linux"))]
fn open_state(path: Option<&Path>, _name: &str) -> Result<Option<Arc<StateDir>>> {
    match path {
        None => Ok(None),
        Some(_) => {
            let message = "a state directory is not supported on this system yet";
            Err(Error::new(ErrorCategory::Refused, message))
        }
    }
}

impl std::fmt::Debug for MasterBuilder {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("MasterBuilder")
            .field("modules", &self.registry)
            .field("own_process", &self.own_process)
            .finish_non_exhaustive()
    }
}
