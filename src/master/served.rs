//! What the server of a master's socket asks of it, beside what programs may.

use std::path::Path;
use std::sync::Arc;
use std::task::Waker;

use super::Master;
use crate::error::{Error, ErrorCategory, Result};
use crate::runtime::{Board, Watch};

impl Master {
    /// What the loop publishes.
    pub(crate) fn board(&self) -> &Arc<Board> {
        &self.shared.handle.board
    }

    /// True once the loop has ended, in whatever way.
    pub(crate) fn has_ended(&self) -> bool {
        self.board().has_ended()
    }

    /// Has `waker` called when the loop ends.
    pub(crate) fn watch_end(&self, waker: Waker) -> Watch {
        self.board().watch_end(waker)
    }

    /// What a reload did.
    pub(crate) fn reload_served(&self) -> Result<serde_json::Value> {
        Err(Error::new(ErrorCategory::Refused, "not available yet"))
    }

    /// What a reload would do.
    pub(crate) fn plan_served(&self, _config: Option<&Path>) -> Result<serde_json::Value> {
        Err(Error::new(ErrorCategory::Refused, "not available yet"))
    }
}
