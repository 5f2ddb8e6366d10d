//! Which modules there are: native ones by their factories, plugins by their libraries.

use std::path::{Path, PathBuf};

use crate::abi::DEFAULT_SYMBOL;
use crate::error::{Error, ErrorCategory, Failure, Result};
use crate::host::panics::guarded;
use crate::host::plugin;
use crate::module::{ModuleInfo, ModuleRegistry};
use crate::worker::ModuleType;

/// A module that a worker can name.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct KnownModule {
    /// What `module_name` says: the name it is registered under, or its library's path.
    pub name: String,
    /// Where it comes from.
    pub module_type: ModuleType,
    /// What it says of itself; the registered name and no version where asking it panicked.
    pub info: ModuleInfo,
}

/// The libraries that plugins come from. They are the process's: masters share them.
///
/// A worker loads its library by itself; this is for programs that want to know early whether one
/// can be. Nothing is ever taken out of memory, since nobody can tell whether a thread is in it.
#[derive(Clone, Debug)]
pub struct ModuleRuntime {
    prober: Option<PathBuf>,
}

impl ModuleRuntime {
    pub(super) fn new(prober: Option<PathBuf>) -> Self {
        Self { prober }
    }

    /// Loads a module from the library at `path`, where it is exported as `entry_point`; `None`:
    /// `hsu_module_descriptor`. What is loaded already stays as it is.
    ///
    /// Blocks while the library's own initialization runs.
    ///
    /// # Errors
    /// Of category `plugin`: why the library is refused.
    pub fn load_module(
        &self,
        path: impl AsRef<Path>,
        entry_point: Option<&str>,
    ) -> Result<ModuleInfo> {
        let symbol = entry_point.unwrap_or(DEFAULT_SYMBOL);
        let loaded = plugin::load(path.as_ref(), symbol, self.prober.as_deref());
        loaded.map(|described| described.info()).map_err(|failure| Error::from(&failure))
    }

    /// Lets go of a library: no new instance of its modules is made until it is loaded again. A
    /// worker that tries fails.
    ///
    /// # Errors
    /// It is not loaded, or workers run instances of it (`refused`).
    pub fn unload_module(&self, path: impl AsRef<Path>) -> Result<()> {
        plugin::unload(path.as_ref()).map_err(|failure| Error::from(&failure))
    }

    /// The modules that are loaded, in the order in which they were.
    pub fn loaded_modules(&self) -> Vec<ModuleInfo> {
        plugin::loaded().into_iter().map(|(_path, info)| info).collect()
    }
}

/// All modules that workers can name.
pub(crate) fn known(registry: &ModuleRegistry) -> Vec<KnownModule> {
    let native = registry.names().map(|name| KnownModule {
        name: name.to_owned(),
        module_type: ModuleType::Native,
        info: ask(registry, name).unwrap_or_else(|_| ModuleInfo::new(name, "")),
    });
    let module_type = ModuleType::Plugin;
    let plugins = plugin::loaded().into_iter();
    native.chain(plugins.map(|(name, info)| KnownModule { name, module_type, info })).collect()
}

/// What a native module says of itself.
fn ask(registry: &ModuleRegistry, name: &str) -> std::result::Result<ModuleInfo, Failure> {
    let gone = || Failure::new(ErrorCategory::Configuration, "it is not registered");
    let factory = registry.get(name).ok_or_else(gone)?;
    guarded("info", || factory.create().info())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::module::{ModuleContext, ModuleResult, WorkerModule};

    struct Asked(bool);

    impl WorkerModule for Asked {
        fn start(&mut self, _ctx: &ModuleContext) -> ModuleResult {
            Ok(())
        }
        fn info(&self) -> ModuleInfo {
            assert!(self.0, "not this one");
            ModuleInfo::new("asked", "7.1")
        }
    }

    #[test]
    fn modules_say_what_they_are_and_one_that_panics_hurts_nobody() {
        let registry =
            ModuleRegistry::new().module("sound", || Asked(true)).module("bad", || Asked(false));
        let natives: Vec<_> = known(&registry)
            .into_iter()
            .filter(|known| known.module_type == ModuleType::Native)
            .map(|known| (known.name, known.info.name, known.info.version))
            .collect();
        let told =
            |name: &str, info: &str, version: &str| (name.into(), info.into(), version.into());
        assert_eq!(natives, [told("bad", "bad", ""), told("sound", "asked", "7.1")]);
    }
}
