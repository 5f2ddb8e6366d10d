//! The launcher where process workers are not supported yet: it says so.

use super::Life;
use crate::error::{ErrorCategory, Failure};
use crate::host::Report;
use crate::worker::Exit;

pub(super) fn launch(life: Life) {
    let message = "process workers are not supported on this system";
    let failure = Failure::new(ErrorCategory::Refused, message).permanent();
    (life.report)(Report::Gone(Exit::Failed(failure)));
}
