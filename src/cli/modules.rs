//! `modules`: what workers can name: the program's own modules, the libraries that a configuration
//! names, and what a running master knows, with their versions.

use std::path::{Path, PathBuf};

use serde_json::{Value, json};

use super::args::{Modules, Program};
use super::{Outcome, complain, find, print};
use crate::abi::DEFAULT_SYMBOL;
use crate::error::Result;
use crate::host::plugin::examine;
use crate::host::roles::this_program;
use crate::master::{KnownModule, known_modules};
use crate::module::{ModuleInfo, ModuleRegistry};
use crate::settings::MasterConfig;
use crate::worker::{ModuleType, WorkerConfig};

/// One line of the list.
struct Listed {
    name: String,
    module_type: ModuleType,
    /// Or why it cannot be told.
    about: std::result::Result<ModuleInfo, String>,
}

pub(super) fn modules(
    registry: &ModuleRegistry,
    program: &Program,
    arguments: &Modules,
) -> Outcome {
    let libraries = match libraries(registry, arguments.config.as_deref()) {
        Ok(libraries) => libraries,
        Err(error) => {
            complain(&error);
            return Outcome::Usage;
        }
    };
    // Who names a socket wants to hear of that master; else it is told if there is one.
    let running = find::connect(program, &arguments.address)
        .map_err(|missing| (missing.outcome, missing.error))
        .and_then(|client| client.modules().map_err(|error| (Outcome::of(&error), error)));
    let running = match running {
        Err((outcome, error)) if arguments.address.socket.is_some() => {
            complain(&error);
            return outcome;
        }
        Ok(running) => running,
        Err(_) => Vec::new(),
    };
    let natives = known_modules(registry).into_iter().map(Listed::from);
    let prober = this_program().map(|program| program.path);
    let plugins = libraries.into_iter().map(|(path, symbol)| Listed {
        about: examine(&path, &symbol, prober.as_deref())
            .map(|described| described.info())
            .map_err(|failure| failure.to_string()),
        name: path.display().to_string(),
        module_type: ModuleType::Plugin,
    });
    let mut listed: Vec<Listed> = natives.chain(plugins).collect();
    for known in running.into_iter().map(Listed::from) {
        if !listed.iter().any(|listed| listed.is(&known)) {
            listed.push(known);
        }
    }
    let sound = listed.iter().all(|listed| listed.about.is_ok());
    let printed = if arguments.json {
        print(&format!("{:#}\n", Value::from_iter(listed.iter().map(as_json))))
    } else {
        print(&table(&listed))
    };
    if sound { printed } else { Outcome::Failed }
}

impl Listed {
    fn is(&self, other: &Self) -> bool {
        (self.module_type, &self.name) == (other.module_type, &other.name)
    }
}

impl From<KnownModule> for Listed {
    fn from(known: KnownModule) -> Self {
        Self { name: known.name, module_type: known.module_type, about: Ok(known.info) }
    }
}

/// The libraries that a configuration's workers name, each once, with the symbol.
fn libraries(registry: &ModuleRegistry, config: Option<&Path>) -> Result<Vec<(PathBuf, String)>> {
    let Some(config) = config else { return Ok(Vec::new()) };
    let config = MasterConfig::load_for(registry, config)?;
    let is_plugin = |worker: &&WorkerConfig| worker.module_type == Some(ModuleType::Plugin);
    let mut libraries = Vec::new();
    for worker in config.workers.iter().filter(is_plugin) {
        let symbol = worker.entry_point.as_deref().unwrap_or(DEFAULT_SYMBOL).to_owned();
        let library = (PathBuf::from(worker.module_name.clone().unwrap_or_default()), symbol);
        if !libraries.contains(&library) {
            libraries.push(library);
        }
    }
    Ok(libraries)
}

fn table(listed: &[Listed]) -> String {
    if listed.is_empty() {
        return "no modules: none is compiled in, and no configuration names a library\n"
            .to_owned();
    }
    let width = listed.iter().map(|listed| listed.name.chars().count()).max().unwrap_or(0);
    let mut text = String::new();
    for Listed { name, module_type, about } in listed {
        let told = match about {
            Ok(info) => {
                let version = if info.version.is_empty() { "-" } else { &info.version };
                format!("{} {version}  {}", info.name, info.description)
            }
            Err(why) => format!("cannot be run: {why}"),
        };
        let line = format!("{name:width$}  {:6}  {told}", module_type.as_str());
        text.push_str(line.trim_end());
        text.push('\n');
    }
    text
}

fn as_json(listed: &Listed) -> Value {
    let Listed { name, module_type, about } = listed;
    let info = about.as_ref().ok();
    json!({
        "module_name": name,
        "module_type": module_type.as_str(),
        "name": info.map(|info| &info.name),
        "version": info.map(|info| &info.version),
        "description": info.map(|info| &info.description),
        "error": about.as_ref().err(),
    })
}
