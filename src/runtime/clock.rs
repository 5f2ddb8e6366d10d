//! The one clock of a master: moments for the core, and how they read on the wall.

use std::time::{Duration, Instant, SystemTime};

use crate::core::moment::Moment;

/// Counts from the master's start. Cheap to clone.
#[derive(Clone, Debug)]
pub(crate) struct Clock {
    start: Instant,
}

impl Clock {
    pub(crate) fn new() -> Self {
        Self { start: Instant::now() }
    }

    /// One that has run for so long already.
    #[cfg(test)]
    pub(crate) fn begun(ago: Duration) -> Self {
        Self { start: Instant::now().checked_sub(ago).unwrap() }
    }

    pub(crate) fn now(&self) -> Moment {
        Moment::after_start(self.start.elapsed())
    }

    /// The instant of a moment; `None` when it is further off than the system can count.
    pub(crate) fn instant(&self, moment: Moment) -> Option<Instant> {
        self.start.checked_add(moment.since_start())
    }

    /// How a moment reads on the wall, by what the wall clock says now: a clock that was set shows
    /// all moments by its new time.
    pub(crate) fn wall(&self, moment: Moment) -> SystemTime {
        let (now, wall) = (self.now(), SystemTime::now());
        let shifted = if moment <= now {
            wall.checked_sub(now.since(moment))
        } else {
            wall.checked_add(moment.since(now))
        };
        shifted.unwrap_or(wall)
    }

    /// How long until `moment`; zero when it has passed.
    pub(crate) fn until(&self, moment: Moment) -> Duration {
        moment.since(self.now())
    }
}
