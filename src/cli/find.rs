//! Finds the running master: by what was said, by the configuration, or because there is only one.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::args::{Address, Program, default_config};
use super::terminal::harmless;
use super::{Outcome, warn};
use crate::config;
use crate::control::{Client, SOCKET};
use crate::error::{Error, ErrorCategory};
use crate::host::state::holder::{holder, last_holder};
use crate::host::state::places;
use crate::host::sys;

/// So many masters are looked for in the runtime directory.
const MAX_MASTERS: usize = 256;
/// What a master is called that has no name.
const NAME: &str = "hsu-master";

/// Why there is nobody to ask, and the exit code that says so.
pub(super) struct Missing {
    pub(super) outcome: Outcome,
    pub(super) error: Error,
}

impl Missing {
    fn usage(error: Error) -> Self {
        Self { outcome: Outcome::Usage, error }
    }

    fn none(message: String) -> Self {
        Self { outcome: Outcome::NoMaster, error: Error::new(ErrorCategory::NotRunning, message) }
    }
}

/// A connection to the master that is meant.
pub(super) fn connect(program: &Program, address: &Address) -> Result<Client, Missing> {
    let socket = place(program, address)?.socket;
    let connected = Client::connect(&socket).inspect(|client| {
        let hello = client.hello();
        if let Some(stalled) = hello.loop_stalled_ms {
            let stalled = Duration::from_millis(stalled);
            let at = harmless(hello.loop_stalled_at.as_deref().unwrap_or("something"));
            warn(&format!(
                "warning: the master's event loop has not come round for {stalled:.1?}, since it \
                 is at: {at}; commands wait, and what is shown may be old\n"
            ));
        }
    });
    connected.map_err(|error| {
        if error.category() == ErrorCategory::NotRunning {
            let directory = socket.parent().filter(|_| socket.ends_with(SOCKET));
            if let Some(holder) = directory.and_then(holder) {
                let holder = harmless(&holder);
                return Missing::none(format!("{error}; held by {holder}, which is starting"));
            }
            let name = program.name;
            return Missing::none(format!("{error}; start one with `{name} run`"));
        }
        // It is there: it hangs, is somebody else's, or of another version.
        Missing { outcome: Outcome::Failed, error }
    })
}

/// As [`connect`], for a command that is given a file to work on: one that is yet to become a
/// master's need not say where that runs. If none runs where it says, the one is meant that would
/// be meant without it.
pub(super) fn connect_beside(program: &Program, address: &Address) -> Result<Client, Missing> {
    match connect(program, address) {
        Err(missing) if missing.outcome == Outcome::NoMaster && address.config.is_some() => {
            let without = Address { config: None, ..address.clone() };
            connect(program, &without).map_err(|other| {
                // Where it was looked for first is what was asked for.
                if other.outcome == Outcome::NoMaster { missing } else { other }
            })
        }
        connected => connected,
    }
}

/// Where a master is, and what it leaves behind.
pub(super) struct Place {
    pub(super) socket: PathBuf,
    /// Where its logs are, as far as its configuration, its socket or its name tells.
    pub(super) log_dir: Option<PathBuf>,
}

/// Where the master is that is meant: by its socket, else by its configuration, else by its name.
pub(super) fn place(program: &Program, address: &Address) -> Result<Place, Missing> {
    if let Some(socket) = said(address) {
        let log_dir = socket.parent().map(|directory| directory.join("logs"));
        return Ok(Place { socket, log_dir });
    }
    let of = |log_dir: Option<&Path>, state_dir: Option<&Path>, name: &str| Place {
        socket: places::state_dir(state_dir, name).join(SOCKET),
        log_dir: Some(places::log_dir(log_dir, state_dir, name)),
    };
    let there = |file: &PathBuf| file.exists();
    let file = address.config.clone().or_else(default_config);
    if let Some(file) = file.or_else(|| Some(PathBuf::from("workers.yaml")).filter(there)) {
        let found = config::place(&file, program.own_name()).map_err(Missing::usage)?;
        let name = found.name.as_deref().unwrap_or(NAME);
        return Ok(of(found.log_dir.as_deref(), found.state_dir.as_deref(), name));
    }
    match (places::named_state_dir(), program.own_name()) {
        (None, None) => the_only_one(program, &places::runtime_dir())
            .map(|socket| Place { socket, log_dir: None }),
        (_, name) => Ok(of(None, None, name.unwrap_or(NAME))),
    }
}

/// The socket that somebody has named.
fn said(address: &Address) -> Option<PathBuf> {
    let said = || std::env::var_os("HSU_SOCKET").filter(|path| !path.is_empty()).map(Into::into);
    address.socket.clone().or_else(said)
}

/// The one live master in the runtime directory.
fn the_only_one(program: &Program, directory: &Path) -> Result<PathBuf, Missing> {
    let mut found: Vec<_> = fs::read_dir(directory)
        .into_iter()
        .flatten()
        .take(MAX_MASTERS)
        .filter_map(|entry| Some(entry.ok()?.path()))
        .filter(|directory| sys::somebody_listens(&directory.join(SOCKET)))
        .collect();
    found.sort_unstable();
    match found.as_slice() {
        [one] => Ok(one.join(SOCKET)),
        [] => {
            let (name, directory) = (program.name, directory.display());
            Err(Missing::none(format!(
                "no master runs in {directory}, and there is no workers.yaml here; \
                 start one with `{name} run`, or say which is meant with --socket or -c"
            )))
        }
        several => {
            let mut message = "several masters run; say which is meant with --socket:".to_owned();
            for directory in several {
                let socket = directory.join(SOCKET);
                let line = format!("{}  ({})", socket.display(), held_by(directory));
                message.push_str(&format!("\n  {}", harmless(&line)));
            }
            Err(Missing::usage(Error::configuration(message)))
        }
    }
}

/// Name and pid of the master there.
fn held_by(directory: &Path) -> String {
    last_holder(directory).unwrap_or_else(|| "of unknown name".to_owned())
}
