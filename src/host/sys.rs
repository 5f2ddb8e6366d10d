//! What only the operating system can do, one file for each. Linux is supported; elsewhere the same
//! functions exist and say that they are not.

#[cfg(target_os = "linux")]
mod linux;
#[cfg(target_os = "linux")]
pub(crate) use linux::*;

#[cfg(not(target_os = "linux"))]
mod other;
#[cfg(not(target_os = "linux"))]
pub(crate) use other::*;

/// Whom a signal is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Target {
    /// The process with this id.
    Process(u32),
    /// Every process of the group that this process leads.
    Group(u32),
}
