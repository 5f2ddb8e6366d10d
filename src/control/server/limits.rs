//! How much of what costs a thread or much memory there may be at a time, over all connections.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use crate::error::{Error, ErrorCategory, Result};

/// So many of something at a time.
pub(super) struct Limit {
    most: usize,
    what: &'static str,
    taken: Arc<AtomicUsize>,
}

/// One of the so many, until it is dropped.
#[derive(Debug)]
pub(super) struct Permit(Arc<AtomicUsize>);

impl Limit {
    /// `what`: the things in the plural.
    pub(super) fn new(most: usize, what: &'static str) -> Self {
        Self { most, what, taken: Arc::default() }
    }

    /// Takes one more.
    ///
    /// # Errors
    /// There are so many already (`refused`).
    pub(super) fn take(&self) -> Result<Permit> {
        let before = self.taken.fetch_add(1, Ordering::Relaxed);
        let permit = Permit(Arc::clone(&self.taken));
        if before < self.most {
            return Ok(permit);
        }
        let message = format!("busy: there are {} {} already", self.most, self.what);
        Err(Error::new(ErrorCategory::Refused, message))
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn there_is_room_for_so_many_and_again_when_one_is_gone() {
        let limit = Limit::new(2, "jobs");
        let first = limit.take().unwrap();
        let _second = limit.take().unwrap();
        for _ in 0..3 {
            let error = limit.take().unwrap_err();
            assert_eq!(error.category(), ErrorCategory::Refused);
            assert_eq!(error.message(), "busy: there are 2 jobs already");
        }
        drop(first);
        limit.take().unwrap();
    }
}
