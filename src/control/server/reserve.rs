//! Descriptors that are kept for when the system has no more to give: a master that is short of
//! them still answers those who ask it why, or tells them that it cannot.

use std::io;
use std::os::fd::OwnedFd;

use crate::host::sys;

/// What one connection takes: its socket, and what wakes its thread.
const SIZE: usize = 2;

/// Open for nothing, until they are needed.
#[derive(Default)]
pub(super) struct Reserve {
    /// What one connection is served with, for as long as it lasts.
    to_serve: Vec<OwnedFd>,
    /// What others are turned away with meanwhile, each for a moment.
    to_refuse: Option<OwnedFd>,
}

impl Reserve {
    /// Takes what is missing, as far as the system has it. True: nothing is missing.
    pub(super) fn fill(&mut self) -> bool {
        if self.to_refuse.is_none() {
            self.to_refuse = sys::eventfd().ok();
        }
        while self.to_serve.len() < SIZE {
            let Ok(fd) = sys::eventfd() else { return false };
            self.to_serve.push(fd);
        }
        self.to_refuse.is_some()
    }

    /// Opens something for one connection, which gets all that is kept for one if there is no
    /// descriptor for it.
    pub(super) fn for_one<T>(&mut self, open: impl Fn() -> io::Result<T>) -> io::Result<T> {
        match open() {
            Err(error) if is_shortage(&error) && self.to_serve.len() == SIZE => {
                self.to_serve.clear();
                open()
            }
            opened => opened,
        }
    }

    /// Does what takes one descriptor and gives it back.
    pub(super) fn for_a_moment<T>(&mut self, work: impl FnOnce() -> T) -> T {
        self.to_refuse = None;
        let done = work();
        self.to_refuse = sys::eventfd().ok();
        done
    }
}

/// True when there was no descriptor for it, in this process or in the system.
fn is_shortage(error: &io::Error) -> bool {
    matches!(error.raw_os_error(), Some(sys::EMFILE | sys::ENFILE))
}
