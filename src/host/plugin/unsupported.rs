//! A program without plugins: whoever asks for one is told so.

use std::path::Path;

use super::ModuleDescription;
use crate::error::{ErrorCategory, Failure};
use crate::module::{ModuleInfo, WorkerModule};

fn unsupported() -> Failure {
    let message = if cfg!(feature = "plugins") {
        "plugins are supported on Linux only so far"
    } else {
        "this program is built without the feature `plugins`"
    };
    Failure::new(ErrorCategory::Plugin, message).permanent()
}

pub(crate) fn instance(
    _path: &Path,
    _symbol: &str,
    _prober: Option<&Path>,
) -> Result<Box<dyn WorkerModule>, Failure> {
    Err(unsupported())
}

pub(crate) fn load(
    _path: &Path,
    _symbol: &str,
    _prober: Option<&Path>,
) -> Result<ModuleDescription, Failure> {
    Err(unsupported())
}

pub(crate) fn unload(_path: &Path) -> Result<(), Failure> {
    Err(unsupported())
}

pub(crate) fn loaded() -> Vec<(String, ModuleInfo)> {
    Vec::new()
}

#[cfg(feature = "cli")]
pub(crate) fn examine(
    _path: &Path,
    _symbol: &str,
    _prober: Option<&Path>,
) -> Result<ModuleDescription, Failure> {
    Err(unsupported())
}

#[cfg(feature = "cli")]
pub(crate) fn look(_file: &Path) -> Result<(), Failure> {
    Err(unsupported())
}

pub(crate) fn probe_main(_file: &std::ffi::OsStr, _symbol: &std::ffi::OsStr) -> i32 {
    1
}
