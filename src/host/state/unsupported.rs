//! A state directory where there is none yet.

/// Nothing makes one.
#[derive(Debug)]
pub(crate) enum StateDir {}

/// Nobody has one.
#[derive(Debug)]
pub(crate) struct Tenure(pub(crate) std::sync::Arc<StateDir>);

/// What never becomes of one.
#[expect(dead_code, reason = "there is none to tell of")]
#[derive(Clone, Debug)]
pub(crate) enum StateNews {
    Degraded { message: String },
    Recovered,
}

/// The name of the file that nobody locks.
pub(crate) const LOG_LOCK: &str = ".lock";

/// Locks nothing: no logs are kept either.
///
/// # Errors
/// None.
pub(crate) fn hold_logs(
    _path: &std::path::Path,
    _name: &str,
    _patient: bool,
) -> crate::error::Result<Option<std::fs::File>> {
    Ok(None)
}

/// Nothing lies in one.
#[expect(clippy::unnecessary_wraps, reason = "elsewhere it can fail")]
pub(crate) fn stands(_path: &std::path::Path) -> std::io::Result<()> {
    Ok(())
}

impl StateDir {
    pub(crate) fn look_after(&self) {}
}
