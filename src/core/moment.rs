//! Time as the core knows it: nanoseconds since the master's start, handed in from outside.

use std::fmt;
use std::time::Duration;

/// A point in the master's life. Arithmetic saturates: no duration can make it panic.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Moment(u64);

impl Moment {
    /// The master's start.
    pub(crate) const ZERO: Self = Self(0);
    /// Later than everything: a deadline that never comes.
    pub(crate) const NEVER: Self = Self(u64::MAX);

    /// `duration` after the master's start.
    pub(crate) fn after_start(duration: Duration) -> Self {
        Self::ZERO + duration
    }

    /// How long after the master's start.
    pub(crate) fn since_start(self) -> Duration {
        Duration::from_nanos(self.0)
    }

    /// How long after `earlier`; zero if it is not after it.
    pub(crate) fn since(self, earlier: Self) -> Duration {
        Duration::from_nanos(self.0.saturating_sub(earlier.0))
    }
}

impl std::ops::Add<Duration> for Moment {
    type Output = Self;

    fn add(self, duration: Duration) -> Self {
        let nanos = u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX);
        Self(self.0.saturating_add(nanos))
    }
}

impl fmt::Debug for Moment {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let since = self.since_start();
        write!(f, "+{}.{:03}s", since.as_secs(), since.subsec_millis())
    }
}
