//! The launcher where process workers are not supported yet: it says so.

use super::Life;
use crate::error::{ErrorCategory, Failure};
use crate::host::Report;
use crate::worker::Exit;

pub(super) fn launch(life: Life) {
    (life.report)(Report::Gone(Exit::Failed(unsupported())));
}

#[cfg(feature = "cli")]
pub(super) fn check(_plan: &super::ProcessPlan) -> Result<(), Failure> {
    Err(unsupported())
}

fn unsupported() -> Failure {
    let message = "process workers are not supported on this system";
    Failure::new(ErrorCategory::Refused, message).permanent()
}
