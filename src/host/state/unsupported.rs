//! A state directory where there is none yet.

/// Nothing makes one.
#[derive(Debug)]
pub(crate) enum StateDir {}

/// Nobody has one.
#[derive(Debug)]
pub(crate) struct Tenure(pub(crate) std::sync::Arc<StateDir>);

/// Nothing lies in one.
#[expect(clippy::unnecessary_wraps, reason = "elsewhere it can fail")]
pub(crate) fn stands(_path: &std::path::Path) -> std::io::Result<()> {
    Ok(())
}

impl StateDir {
    pub(crate) fn look_after(&self) {}
}
