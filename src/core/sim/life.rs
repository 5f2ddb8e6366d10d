//! One incarnation as its orders and reports tell it, and the one way it ends.

use std::time::Duration;

use super::health::Probes;
use crate::core::event::WorkerSpec;
use crate::core::moment::Moment;
use crate::error::ErrorCategory;

/// How long force may take before an incarnation is written off as stuck.
pub(super) const KILL_TIMEOUT: Duration = Duration::from_secs(5);

/// Why an incarnation ends: the first reason stays.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) enum Why {
    /// Told to while it was up.
    Command,
    /// Told to while it was launching or starting.
    Cancelled,
    /// Its work is done.
    Completed,
    /// It failed by itself.
    Failed,
    /// It was not up in time.
    Timeout,
    /// Its checks failed.
    Health,
}

impl Why {
    /// The category of a failure that the core itself finds.
    pub(super) fn category(self) -> Option<ErrorCategory> {
        match self {
            Self::Timeout => Some(ErrorCategory::Timeout),
            Self::Health => Some(ErrorCategory::Health),
            Self::Cancelled => Some(ErrorCategory::Cancelled),
            Self::Command | Self::Completed | Self::Failed => None,
        }
    }
}

/// How far an end has been pressed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) enum Step {
    Ask,
    Force,
    Abandon,
}

/// An end that has begun.
#[derive(Clone, Copy, Debug)]
pub(super) struct Ending {
    pub(super) why: Why,
    pub(super) at: Moment,
    pub(super) permanent: bool,
}

/// One incarnation, as its orders and reports tell it.
#[derive(Clone, Debug)]
pub(super) struct Life {
    pub(super) number: u64,
    pub(super) ordered_at: Moment,
    pub(super) launched: bool,
    pub(super) start_ordered: bool,
    pub(super) up_at: Option<Moment>,
    /// Under a former master.
    pub(super) up_before: Duration,
    pub(super) completed_early: bool,
    pub(super) ending: Option<Ending>,
    pub(super) asked: Option<Moment>,
    pub(super) forced: Option<Moment>,
    pub(super) abandoned: bool,
    pub(super) probes: Option<Probes>,
    /// What the spec said when it was launched: whether force ends it, until when it must be up.
    pub(super) killable: bool,
    pub(super) start_by: Moment,
    /// How long it got when it was asked to end.
    pub(super) patience: Duration,
    /// It outlives the master, and was the order to let it go given?
    pub(super) let_go: Option<bool>,
}

impl Life {
    pub(super) fn new(number: u64, ordered_at: Moment, spec: &WorkerSpec) -> Self {
        Self {
            number,
            ordered_at,
            launched: false,
            start_ordered: false,
            up_at: None,
            up_before: Duration::ZERO,
            completed_early: false,
            ending: None,
            asked: None,
            forced: None,
            abandoned: false,
            probes: None,
            killable: spec.killable,
            start_by: ordered_at + spec.start_timeout,
            patience: spec.stop_timeout,
            let_go: None,
        }
    }

    /// The contract's word for where it is.
    pub(super) fn phase(&self) -> &'static str {
        match (self.ending, self.up_at, self.launched) {
            (Some(_), ..) => "ending",
            (None, Some(_), _) => "up",
            (None, None, true) => "starting",
            (None, None, false) => "launching",
        }
    }

    pub(super) fn step(&self) -> Step {
        match (self.abandoned, self.forced) {
            (true, _) => Step::Abandon,
            (false, Some(_)) => Step::Force,
            (false, None) => Step::Ask,
        }
    }

    /// Up, and nothing ends it.
    pub(super) fn is_up(&self) -> bool {
        self.ending.is_none() && self.up_at.is_some()
    }

    pub(super) fn end(&mut self, why: Why, at: Moment, permanent: bool) {
        if self.ending.is_none() {
            self.ending = Some(Ending { why, at, permanent });
        }
    }

    /// Ends it because somebody wants it to.
    pub(super) fn end_by_command(&mut self, at: Moment) {
        let why = if self.up_at.is_some() { Why::Command } else { Why::Cancelled };
        self.end(why, at, false);
    }
}
