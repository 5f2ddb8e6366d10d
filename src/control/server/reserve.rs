//! Descriptors that are kept for when the system has no more to give: a master that is short of
//! them still answers those who ask it why.

use std::io;
use std::os::fd::OwnedFd;

use crate::host::sys;

/// What one connection takes: its socket, and what wakes its thread.
const SIZE: usize = 2;

/// Open for nothing, until they are needed.
#[derive(Default)]
pub(super) struct Reserve(Vec<OwnedFd>);

impl Reserve {
    /// Takes what is missing, as far as the system has it.
    pub(super) fn fill(&mut self) {
        while self.0.len() < SIZE {
            let Ok(fd) = sys::eventfd() else { return };
            self.0.push(fd);
        }
    }

    /// Opens something for one connection, which gets all of the reserve if there is no descriptor
    /// for it.
    pub(super) fn for_one<T>(&mut self, open: impl Fn() -> io::Result<T>) -> io::Result<T> {
        match open() {
            Err(error) if is_shortage(&error) && self.0.len() == SIZE => {
                self.0.clear();
                open()
            }
            opened => opened,
        }
    }
}

/// True when there was no descriptor for it, in this process or in the system.
fn is_shortage(error: &io::Error) -> bool {
    matches!(error.raw_os_error(), Some(sys::EMFILE | sys::ENFILE))
}
