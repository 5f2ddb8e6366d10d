//! A state directory where there is none yet.

/// Nothing makes one.
#[derive(Debug)]
pub(crate) enum StateDir {}
