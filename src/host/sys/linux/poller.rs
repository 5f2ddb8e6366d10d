//! Linux: several threads wait for the same descriptors, and one of them is woken.

use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd};
use std::ptr;

use super::checked;

/// Descriptors that any number of threads wait for: one thread is woken for one that is ready.
pub(crate) struct Poller(OwnedFd);

/// How often a descriptor that is ready wakes somebody.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Wakes {
    /// Whenever it is ready.
    Always,
    /// Once, until it is armed again.
    Once,
    /// When something new is there, and whenever it is armed.
    News,
    /// When nobody writes any more. What is written wakes nobody.
    End,
}

impl Poller {
    /// # Errors
    /// When there is no descriptor left.
    pub(crate) fn new() -> io::Result<Self> {
        // SAFETY: the call takes an integer.
        let fd = checked(unsafe { libc::epoll_create1(libc::EPOLL_CLOEXEC) })?;
        // SAFETY: the kernel has just made this descriptor, and nobody else knows its number.
        Ok(Self(unsafe { OwnedFd::from_raw_fd(fd) }))
    }

    /// Waits for `fd` to be readable too. Whoever is woken for it is told `token`.
    ///
    /// # Errors
    /// As the call has them.
    pub(crate) fn add(&self, fd: &impl AsFd, token: u64, wakes: Wakes) -> io::Result<()> {
        self.control(libc::EPOLL_CTL_ADD, fd, token, wakes)
    }

    /// Waits for a descriptor again. It wakes somebody at once if it is ready.
    ///
    /// # Errors
    /// As the call has them.
    pub(crate) fn arm(&self, fd: &impl AsFd, token: u64, wakes: Wakes) -> io::Result<()> {
        self.control(libc::EPOLL_CTL_MOD, fd, token, wakes)
    }

    /// Waits for a descriptor no more.
    ///
    /// # Errors
    /// As the call has them.
    pub(crate) fn remove(&self, fd: &impl AsFd) -> io::Result<()> {
        let (own, fd) = (self.0.as_raw_fd(), fd.as_fd().as_raw_fd());
        // SAFETY: the event is not looked at; both descriptors are open.
        checked(unsafe { libc::epoll_ctl(own, libc::EPOLL_CTL_DEL, fd, ptr::null_mut()) })?;
        Ok(())
    }

    /// Becomes readable when one of the descriptors is ready, for those who wait for more.
    pub(crate) fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }

    fn control(&self, what: i32, fd: &impl AsFd, token: u64, wakes: Wakes) -> io::Result<()> {
        let events = match wakes {
            Wakes::Always => libc::EPOLLIN,
            Wakes::Once => libc::EPOLLIN | libc::EPOLLONESHOT,
            Wakes::News => libc::EPOLLIN | libc::EPOLLET,
            Wakes::End => libc::EPOLLET,
        };
        let events = events.cast_unsigned();
        let mut event = libc::epoll_event { events, u64: token };
        let (own, fd) = (self.0.as_raw_fd(), fd.as_fd().as_raw_fd());
        // SAFETY: `event` is readable and outlives the call; both descriptors are open.
        checked(unsafe { libc::epoll_ctl(own, what, fd, &raw mut event) })?;
        Ok(())
    }

    /// Has it be no longer readable for news that there are.
    pub(crate) fn hush(&self) {
        let mut event = libc::epoll_event { events: 0, u64: 0 };
        // SAFETY: `event` has room for the one event that is asked for, and outlives the call. What
        // it says is learnt by looking.
        unsafe { libc::epoll_wait(self.0.as_raw_fd(), &raw mut event, 1, 0) };
    }

    /// Waits until a descriptor is ready, and says which.
    ///
    /// # Errors
    /// As the call has them.
    pub(crate) fn wait(&self) -> io::Result<u64> {
        loop {
            let mut event = libc::epoll_event { events: 0, u64: 0 };
            // SAFETY: `event` has room for the one event that is asked for, and outlives the call.
            let result = unsafe { libc::epoll_wait(self.0.as_raw_fd(), &raw mut event, 1, -1) };
            match checked(result) {
                Ok(0) => {}
                Ok(_) => return Ok(event.u64),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
    }
}
