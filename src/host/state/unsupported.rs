//! A state directory where there is none yet.

/// Nothing makes one.
#[derive(Debug)]
pub(crate) enum StateDir {}

/// Nobody has one.
#[derive(Debug)]
pub(crate) struct Tenure(pub(crate) std::sync::Arc<StateDir>);
