//! Finds the running master: by what was said, by the configuration, or because there is only one.

use std::fs;
use std::io::Read as _;
use std::path::{Path, PathBuf};

use super::Outcome;
use super::args::{Address, Program, default_config};
use super::terminal::harmless;
use crate::config;
use crate::control::{Client, SOCKET};
use crate::error::{Error, ErrorCategory};
use crate::host::state::places;
use crate::host::sys;

/// So many masters are looked for in the runtime directory.
const MAX_MASTERS: usize = 256;

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
    let socket = socket(program, address)?;
    Client::connect(&socket).map_err(|error| {
        if error.category() == ErrorCategory::NotRunning {
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

/// The socket that is meant.
pub(super) fn socket(program: &Program, address: &Address) -> Result<PathBuf, Missing> {
    let said = || std::env::var_os("HSU_SOCKET").filter(|path| !path.is_empty()).map(Into::into);
    if let Some(socket) = address.socket.clone().or_else(said) {
        return Ok(socket);
    }
    let there = |file: &PathBuf| file.exists();
    let file = address.config.clone().or_else(default_config);
    if let Some(file) = file.or_else(|| Some(PathBuf::from("workers.yaml")).filter(there)) {
        let place = config::place(&file, program.own_name()).map_err(Missing::usage)?;
        let name = place.name.as_deref().unwrap_or("hsu-master");
        return Ok(places::state_dir(place.state_dir.as_deref(), name).join(SOCKET));
    }
    match (places::named_state_dir(), program.own_name()) {
        (Some(directory), _) => Ok(directory.join(SOCKET)),
        (None, Some(name)) => Ok(places::state_dir(None, name).join(SOCKET)),
        (None, None) => the_only_one(program, &places::runtime_dir()),
    }
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
                let line = format!("{}  ({})", socket.display(), holder(directory));
                message.push_str(&format!("\n  {}", harmless(&line)));
            }
            Err(Missing::usage(Error::configuration(message)))
        }
    }
}

/// Name and pid of the master, as it has written them down.
fn holder(directory: &Path) -> String {
    let mut text = String::new();
    let read = fs::File::open(directory.join("lock"))
        .and_then(|lock| lock.take(256).read_to_string(&mut text));
    match (read, text.trim()) {
        (Ok(_), holder) if !holder.is_empty() => holder.to_owned(),
        (Ok(_) | Err(_), _) => "of unknown name".to_owned(),
    }
}
