//! Plugins: modules in shared libraries, behind the C interface of `include/hsu_module.h`. A
//! library is looked at, tried in a child where that is possible, loaded, and never unloaded.

#[cfg(all(feature = "plugins", target_os = "linux"))]
mod descriptor;
#[cfg(all(feature = "plugins", target_os = "linux"))]
mod elf;
#[cfg(all(feature = "plugins", target_os = "linux"))]
mod file;
#[cfg(all(feature = "plugins", target_os = "linux"))]
mod host_side;
#[cfg(all(feature = "plugins", target_os = "linux"))]
mod load;
#[cfg(all(feature = "plugins", target_os = "linux"))]
mod module;
#[cfg(all(feature = "plugins", target_os = "linux"))]
mod probe;
#[cfg(not(all(feature = "plugins", target_os = "linux")))]
mod unsupported;

#[cfg(all(feature = "plugins", target_os = "linux"))]
use std::{fmt::Display, path::Path};

use serde::{Deserialize, Serialize};

#[cfg(all(feature = "plugins", target_os = "linux"))]
use crate::error::{ErrorCategory, Failure};
use crate::module::ModuleInfo;

#[cfg(not(all(feature = "plugins", target_os = "linux")))]
pub(crate) use unsupported::*;
#[cfg(all(feature = "plugins", target_os = "linux"))]
pub(crate) use {load::*, module::instance, probe::*};

/// The first argument of a program that is to try a library.
pub(crate) const PROBE_ROLE: &str = "__hsu-probe";

/// What a library says of one of its modules.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct ModuleDescription {
    pub(crate) name: String,
    pub(crate) version: String,
    pub(crate) description: String,
    pub(crate) author: String,
    pub(crate) built_with: String,
    /// Major and minor version of the interface.
    pub(crate) abi: (u16, u16),
    pub(crate) single_instance: bool,
    /// It has functions that can be called.
    pub(crate) callable: bool,
}

impl ModuleDescription {
    /// As module authors say it.
    pub(crate) fn info(&self) -> ModuleInfo {
        ModuleInfo::new(&self.name, &self.version)
            .description(&self.description)
            .author(&self.author)
    }
}

/// Why a library cannot be used.
#[cfg(all(feature = "plugins", target_os = "linux"))]
fn refused(path: &Path, why: impl Display) -> Failure {
    Failure::new(ErrorCategory::Plugin, format!("plugin {}: {why}", path.display()))
}
