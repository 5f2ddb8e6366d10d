//! What the loop is at, for whoever finds that it stands still: the loop notes it as it goes, and
//! nobody wakes up to watch it. And what its being late means for deadlines.

pub(super) mod steps;

use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use log::Level;

use super::clock::Clock;
use crate::core::moment::Moment;
use crate::logs::Scribe;
use crate::worker::WorkerId;

/// A turn of the loop that takes longer is told of.
const STALL: Duration = Duration::from_secs(1);
/// A loop that is later than this was kept from running, and others of its process with it.
const LATE: Duration = Duration::from_millis(250);
/// So long deadlines are put off at most.
const MOST_GRACE: Duration = Duration::from_secs(2);

/// What one loop is at.
pub(crate) struct Pulse {
    clock: Clock,
    /// When the turn began, in nanoseconds and never 0; 0 while the loop waits.
    began: AtomicU64,
    turn: Mutex<Turn>,
    /// Which turn somebody has found to be a stall.
    told: AtomicU64,
    /// Says so in the master's log: who finds it must not wait for the logger, since that is what
    /// the loop may wait for.
    scribe: Option<Scribe>,
}

/// What one turn is made of.
struct Turn {
    step: Step,
    since: Moment,
    /// What took longest, if anything took long.
    slowest: Option<(Duration, Step)>,
}

#[derive(Clone)]
struct Step {
    what: &'static str,
    worker: Option<WorkerId>,
}

/// A loop that stands still.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Stall {
    /// For how long it has not come round.
    pub(crate) lasts: Duration,
    /// What it is at.
    pub(crate) at: String,
}

impl Pulse {
    pub(super) fn new(clock: Clock, scribe: Option<Scribe>) -> Self {
        let step = Step { what: "nothing", worker: None };
        let turn = Mutex::new(Turn { step, since: Moment::ZERO, slowest: None });
        Self { clock, began: AtomicU64::new(0), turn, told: AtomicU64::new(0), scribe }
    }

    /// The loop begins a turn.
    pub(super) fn begin(&self, now: Moment) {
        self.turn().since = now;
        self.began.store(nanos(now).max(1), Ordering::Relaxed);
    }

    /// The loop is about to do this.
    pub(super) fn at(&self, what: &'static str, worker: Option<&WorkerId>) {
        let now = self.clock.now();
        let mut turn = self.turn();
        turn.step_ends(now);
        turn.step = Step { what, worker: worker.cloned() };
    }

    /// The loop has come round. Returns how long that took, and when it was.
    pub(super) fn end(&self) -> (Duration, Moment) {
        let now = self.clock.now();
        let began =
            Moment::after_start(Duration::from_nanos(self.began.swap(0, Ordering::Relaxed)));
        let took = now.since(began);
        let slowest = {
            let mut turn = self.turn();
            turn.step_ends(now);
            turn.slowest.take()
        };
        if took > STALL {
            let most = slowest.map_or_else(String::new, |(lasted, step)| {
                format!(", {lasted:.1?} of it at: {step}")
            });
            log::warn!("the event loop did not come round for {took:.1?}{most}");
        }
        (took, now)
    }

    /// Whether the loop stands still. Says so in the log, once for each time.
    pub(crate) fn stall(&self) -> Option<Stall> {
        let began = self.began.load(Ordering::Relaxed);
        let lasts = Duration::from_nanos(nanos(self.clock.now()).saturating_sub(began));
        if began == 0 || lasts <= STALL {
            return None;
        }
        let stall = Stall { lasts, at: self.turn().step.to_string() };
        if let Some(scribe) = &self.scribe
            && self.told.swap(began, Ordering::Relaxed) != began
        {
            scribe.notice(Level::Warn, stall.to_string());
        }
        Some(stall)
    }

    fn turn(&self) -> MutexGuard<'_, Turn> {
        self.turn.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Turn {
    fn step_ends(&mut self, now: Moment) {
        let lasted = now.since(self.since);
        self.since = now;
        if lasted > LATE && self.slowest.as_ref().is_none_or(|(longest, _)| lasted > *longest) {
            self.slowest = Some((lasted, self.step.clone()));
        }
    }
}

fn nanos(moment: Moment) -> u64 {
    u64::try_from(moment.since_start().as_nanos()).unwrap_or(u64::MAX)
}

impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.worker {
            Some(worker) => write!(f, "{} {worker}", self.what),
            None => f.write_str(self.what),
        }
    }
}

impl fmt::Display for Stall {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "the event loop has not come round for {:.1?}; it is at: {}", self.lasts, self.at)
    }
}

/// When deadlines are judged. When the loop was kept from running (the machine is overloaded, the
/// process was stopped, something held the loop up), the threads that bring answers were, too: what
/// they bring now is no later than the loop itself. So deadlines wait for as long as the loop was
/// late, within bounds, before a silence counts.
#[derive(Debug, Default)]
pub(super) struct Grace {
    /// No deadline before this moment is judged before it.
    until: Option<Moment>,
    /// When the first of the deadlines that wait now was put off.
    since: Option<Moment>,
}

impl Grace {
    /// When the loop is to wake for the deadline `due`.
    pub(super) fn wake(&self, due: Moment) -> Moment {
        self.until.map_or(due, |until| due.max(until))
    }

    /// Whether deadlines are judged at `now`, of which `due` is the first; all that was heard by
    /// then has been applied.
    pub(super) fn judges(&mut self, due: Option<Moment>, now: Moment) -> bool {
        let Some(due) = due.filter(|due| *due <= now) else {
            self.since = None;
            return false;
        };
        let until = self.until.filter(|until| due < *until).unwrap_or_else(|| {
            let late = now.since(due);
            if late > LATE { now + late.min(MOST_GRACE) } else { now }
        });
        if until <= now {
            self.since = None;
            return true;
        }
        self.put_off(until, now);
        false
    }

    /// Nothing before `until` is judged before it, and nothing waits for longer than it may.
    fn put_off(&mut self, until: Moment, now: Moment) {
        let since = *self.since.get_or_insert(now);
        self.until = Some(until.min(since + MOST_GRACE));
    }

    /// A turn took so long and ended at `now`: what was sent in it was sent late.
    pub(super) fn stood(&mut self, took: Duration, now: Moment) {
        if took > LATE {
            let until = now + took.min(MOST_GRACE);
            self.until = Some(self.since.map_or(until, |since| until.min(since + MOST_GRACE)));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(ms: u64) -> Moment {
        Moment::after_start(Duration::from_millis(ms))
    }

    #[test]
    fn s30_a_late_loop_hears_before_it_judges_and_judges_at_last() {
        let mut grace = Grace::default();
        assert!(!grace.judges(None, at(9)) && !grace.judges(Some(at(10)), at(9)));
        assert!(grace.judges(Some(at(1_000)), at(1_250)), "a little late is not late");
        // Its thread was stopped for 20 s, as were those that bring answers.
        assert!(!grace.judges(Some(at(2_000)), at(22_000)));
        assert_eq!(grace.wake(at(2_000)), at(24_000));
        assert!(!grace.judges(Some(at(2_000)), at(23_999)));
        assert!(grace.judges(Some(at(2_000)), at(24_000)));
        // The next deadline has nothing to do with that.
        assert_eq!(grace.wake(at(30_000)), at(30_000));
        assert!(grace.judges(Some(at(30_000)), at(30_001)));
        // By so much as it was late.
        assert!(!grace.judges(Some(at(40_000)), at(40_300)));
        assert!(grace.judges(Some(at(40_000)), at(40_600)));
        // However late it is then: it judges in the end.
        assert!(!grace.judges(Some(at(50_000)), at(60_000)));
        assert!(grace.judges(Some(at(50_000)), at(99_000)));
    }

    #[test]
    fn s30_what_was_sent_in_a_long_turn_has_as_much_time_more() {
        let mut grace = Grace::default();
        grace.stood(Duration::from_millis(1_900), at(1_900));
        assert!(!grace.judges(Some(at(2_000)), at(2_000)));
        assert!(grace.judges(Some(at(2_000)), at(3_800)));
        grace.stood(Duration::from_millis(20), at(5_000));
        assert!(grace.judges(Some(at(5_001)), at(5_001)));
    }

    #[test]
    fn s30_a_loop_that_is_always_late_judges_at_last() {
        let mut grace = Grace::default();
        let mut judged = Vec::new();
        let mut due = at(1_000);
        for turn in 1..=100 {
            let now = at(turn * 300);
            if grace.judges(Some(due), now) {
                judged.push((due, now));
                due = now + Duration::from_secs(1);
            }
            grace.stood(Duration::from_millis(300), now + Duration::from_millis(300));
        }
        assert!(judged.len() > 5, "{judged:?}");
        for (due, now) in judged {
            assert!(now.since(due) <= MOST_GRACE + Duration::from_millis(600), "{due:?} {now:?}");
        }
        // What was answered in time puts off nothing for the next one.
        grace.stood(Duration::from_secs(1), at(40_000));
        assert!(!grace.judges(Some(at(40_500)), at(40_500)));
        assert!(!grace.judges(None, at(40_600)));
        assert_eq!(grace.since, None);
    }

    #[test]
    fn s18_a_loop_that_stands_still_says_at_what() {
        let pulse = Pulse::new(Clock::begun(Duration::from_secs(100)), None);
        assert_eq!(pulse.stall(), None);
        pulse.begin(at(1));
        pulse.at("launch of", Some(&WorkerId::new("web").unwrap()));
        let stall = pulse.stall().unwrap();
        assert!(stall.lasts > Duration::from_secs(99), "{stall}");
        assert_eq!(stall.at, "launch of web");
        assert!(pulse.end().0 > Duration::from_secs(99));
        assert_eq!(pulse.stall(), None);
        pulse.begin(pulse.clock.now());
        assert!(pulse.stall().is_none_or(|stall| stall.lasts > STALL));
    }
}
