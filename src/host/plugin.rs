//! stub
use crate::error::Failure;
use crate::module::WorkerModule;
use std::path::Path;
pub(crate) fn instance(
    _: &Path,
    _: &str,
    _: Option<&Path>,
) -> Result<Box<dyn WorkerModule>, Failure> {
    Err(Failure::new(crate::error::ErrorCategory::Plugin, "x"))
}
