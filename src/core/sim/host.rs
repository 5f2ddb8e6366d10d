//! A simulated host: one incarnation with its own ideas about orders. It obeys physics alone: what
//! is dead says nothing.

use std::time::Duration;

use super::dice::Dice;
use super::draw::{Fault, Faults};
use crate::core::event::{Effect, Report};
use crate::error::{ErrorCategory, Failure};
use crate::worker::Exit;

/// What a host does later.
#[derive(Clone, Debug)]
pub(super) enum Act {
    Say(Report),
    End(Exit),
}

/// One incarnation's host.
#[derive(Clone, Debug)]
pub(super) struct Host {
    pub(super) alive: bool,
    killable: bool,
    ignores_ask: bool,
    ignores_force: bool,
    /// The newest order of each kind that still waits to be obeyed.
    launching: bool,
    starting: bool,
    ending: bool,
    probe: Option<u64>,
}

fn crash(dice: &mut Dice, faults: &Faults) -> Failure {
    let failure = Failure::new(ErrorCategory::Crash, "it broke");
    match faults.strike(dice, Fault::Permanent) {
        true => failure.permanent(),
        false => failure,
    }
}

fn soon(dice: &mut Dice) -> Duration {
    dice.millis(&[0, 1, 1, 5, 20, 100])
}

fn later(dice: &mut Dice) -> Duration {
    dice.millis(&[0, 20, 500, 500, 2000, 10_000, 60_000])
}

impl Host {
    pub(super) fn new(dice: &mut Dice, faults: &Faults, killable: bool) -> Self {
        Self {
            alive: true,
            killable,
            ignores_ask: faults.strike(dice, Fault::AskIgnored),
            ignores_force: faults.strike(dice, Fault::ForceIgnored),
            launching: false,
            starting: false,
            ending: false,
            probe: None,
        }
    }

    /// When an incarnation that a former master left will end by itself, if it does. How is not
    /// known.
    pub(super) fn left_alone(dice: &mut Dice, faults: &Faults) -> Option<(Duration, Act)> {
        let ends = faults.strike(dice, Fault::Crash);
        ends.then(|| (later(dice), Act::End(Exit::Unknown)))
    }

    /// What it will do about an order, and when.
    pub(super) fn obey(
        &mut self,
        dice: &mut Dice,
        faults: &Faults,
        order: &Effect,
    ) -> Vec<(Duration, Act)> {
        match order {
            Effect::Launch { .. } => self.launch(dice, faults),
            Effect::Start { .. } => self.start(dice, faults),
            Effect::Probe { probe, .. } => self.answer(dice, faults, *probe),
            Effect::Ask { .. } => {
                self.ending = true;
                let exit = if self.killable { Exit::Code(0) } else { Exit::Returned };
                let slow = faults.strike(dice, Fault::SlowEnd);
                let pause = if slow { later(dice) } else { soon(dice) };
                if self.ignores_ask { vec![] } else { vec![(pause, Act::End(exit))] }
            }
            Effect::Force { .. } => {
                self.ending = true;
                let killed = Exit::Signal { signal: 9, core_dumped: false };
                match (self.killable, self.ignores_force, self.ignores_ask) {
                    (true, false, _) => vec![(soon(dice), Act::End(killed))],
                    (false, _, false) => vec![(soon(dice), Act::End(Exit::Returned))],
                    (true, true, _) | (false, _, true) => vec![],
                }
            }
            Effect::Abandon { .. } => {
                self.ending = true;
                vec![]
            }
            // It lives where nobody sees it.
            Effect::LetGo { .. } => {
                self.alive = false;
                vec![]
            }
            Effect::Transition(_)
            | Effect::Health { .. }
            | Effect::Reply { .. }
            | Effect::Changed { .. }
            | Effect::Forgotten { .. }
            | Effect::AllDown => vec![],
        }
    }

    fn launch(&mut self, dice: &mut Dice, faults: &Faults) -> Vec<(Duration, Act)> {
        self.launching = true;
        let mut acts = Vec::new();
        if faults.strike(dice, Fault::EarlyCompletion) {
            acts.push((soon(dice), Act::Say(Report::Completed)));
        }
        if faults.strike(dice, Fault::LaunchFailure) {
            acts.push((soon(dice), Act::Say(Report::Failed(crash(dice, faults)))));
        } else if faults.strike(dice, Fault::LaunchError) {
            acts.push((soon(dice), Act::End(Exit::Failed(crash(dice, faults)))));
        } else if !faults.strike(dice, Fault::LaunchHangs) {
            acts.push((soon(dice), Act::Say(Report::Launched)));
        }
        acts
    }

    fn start(&mut self, dice: &mut Dice, faults: &Faults) -> Vec<(Duration, Act)> {
        self.launching = false;
        self.starting = true;
        let ready = soon(dice);
        let mut acts = Vec::new();
        if faults.strike(dice, Fault::StartFailure) {
            acts.push((ready, Act::Say(Report::Failed(crash(dice, faults)))));
        } else if faults.strike(dice, Fault::StartError) {
            acts.push((ready, Act::End(self.own_end(dice, faults))));
        } else if !faults.strike(dice, Fault::StartHangs) {
            acts.push((ready, Act::Say(Report::Started)));
        }
        if faults.strike(dice, Fault::EarlyCompletion) {
            acts.push((soon(dice), Act::Say(Report::Completed)));
        }
        if faults.strike(dice, Fault::Completion) {
            acts.push((ready + later(dice), Act::Say(Report::Completed)));
        }
        if faults.strike(dice, Fault::Failure) {
            acts.push((ready + later(dice), Act::Say(Report::Failed(crash(dice, faults)))));
        }
        if faults.strike(dice, Fault::Crash) {
            acts.push((ready + later(dice), Act::End(self.own_end(dice, faults))));
        }
        acts
    }

    fn own_end(&self, dice: &mut Dice, faults: &Faults) -> Exit {
        if !self.killable {
            return Exit::Failed(crash(dice, faults));
        }
        let success = faults.strike(dice, Fault::Success);
        match (success, dice.percent(50)) {
            (true, true) => Exit::Code(0),
            (true, false) => Exit::Signal { signal: 15, core_dumped: false },
            (false, true) => Exit::Code(1),
            (false, false) => Exit::Unknown,
        }
    }

    fn answer(&mut self, dice: &mut Dice, faults: &Faults, probe: u64) -> Vec<(Duration, Act)> {
        self.probe = Some(probe);
        if faults.strike(dice, Fault::NoAnswer) {
            return vec![];
        }
        let late = faults.strike(dice, Fault::LateAnswer);
        let pause = if late { later(dice) } else { dice.millis(&[0, 1, 10]) };
        let healthy = !faults.strike(dice, Fault::Unhealthy);
        vec![(pause, Act::Say(Report::Probed { probe, healthy, reason: String::new() }))]
    }

    /// All faults are over: does at once what it was told to do long ago.
    pub(super) fn heal(&mut self) -> Vec<Act> {
        (self.ignores_ask, self.ignores_force) = (false, false);
        if !self.alive {
            return vec![];
        }
        if self.ending {
            return vec![Act::End(Exit::Unknown)];
        }
        let mut acts = Vec::new();
        if self.launching {
            acts.push(Act::Say(Report::Launched));
        }
        if self.starting {
            acts.push(Act::Say(Report::Started));
        }
        if let Some(probe) = self.probe {
            acts.push(Act::Say(Report::Probed { probe, healthy: true, reason: String::new() }));
        }
        acts
    }
}
