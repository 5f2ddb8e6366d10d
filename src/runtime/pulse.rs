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
/// late, before a silence counts; also in a loop that is late in each turn, for [`MOST_GRACE`] at
/// most.
#[derive(Debug, Default)]
pub(super) struct Grace {
    /// No deadline before this moment is judged before it.
    until: Option<Moment>,
    /// When the first of the deadlines was put off that wait to be judged.
    waiting: Option<Moment>,
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
            self.waiting = None;
            return false;
        };
        let late = now.since(due);
        let judges = match self.until.filter(|until| due < *until) {
            Some(until) => until <= now,
            None => late <= LATE,
        };
        if judges {
            self.waiting = None;
        } else {
            self.waiting.get_or_insert(now);
            // A deadline that nothing has put off yet.
            if self.until.is_none_or(|until| until <= due) {
                self.put_off(late, now);
            }
        }
        judges
    }

    /// A turn took so long and ended at `now`: what was sent in it was sent late.
    pub(super) fn stood(&mut self, took: Duration, now: Moment) {
        if took > LATE {
            self.put_off(took, now);
        }
    }

    fn put_off(&mut self, by: Duration, now: Moment) {
        let until = (now + by.min(MOST_GRACE)).max(self.until.unwrap_or(now));
        let last = self.waiting.map_or(until, |waiting| waiting + MOST_GRACE);
        self.until = Some(until.min(last));
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
    fn s30_a_loop_that_is_late_in_each_turn_judges_within_bounds() {
        for took in [251, 300, 1_900, 2_100, 60_000] {
            let mut grace = Grace::default();
            let (mut now, mut due, mut first, mut judged) = (0, 1_000, None, 0);
            while judged < 3 {
                if grace.judges(Some(at(due)), at(now)) {
                    let first = first.take().unwrap_or(now);
                    assert!(now - first <= 2_000 + took, "turns of {took}: {first} to {now}");
                    judged += 1;
                    due = now + 1_000;
                } else if due <= now {
                    let first = *first.get_or_insert(now);
                    assert!(grace.wake(at(due)) <= at(first + 2_000));
                    assert!(now - first < 2_000 + took, "turns of {took}: not judged by {now}");
                }
                now += took;
                grace.stood(Duration::from_millis(took), at(now));
            }
        }
    }

    #[test]
    fn s30_a_deadline_that_is_met_leaves_the_next_one_its_time() {
        let mut grace = Grace::default();
        grace.stood(Duration::from_millis(1_900), at(1_000));
        assert!(!grace.judges(Some(at(900)), at(1_000)));
        // What answered it came in time; a long turn later another one is due.
        assert!(!grace.judges(Some(at(9_000)), at(2_900)));
        grace.stood(Duration::from_millis(1_900), at(9_100));
        assert!(!grace.judges(Some(at(9_000)), at(9_100)));
        assert_eq!(grace.wake(at(9_000)), at(11_000));
        // A short turn takes nothing of what a long one gave.
        grace.stood(Duration::from_millis(300), at(9_400));
        assert!(!grace.judges(Some(at(9_000)), at(10_999)));
        assert!(grace.judges(Some(at(9_000)), at(11_000)));
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
