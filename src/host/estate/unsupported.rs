//! What a master leaves behind, where it runs no processes yet: nothing.

/// No arrangements are made.
pub(crate) struct Estate(());
