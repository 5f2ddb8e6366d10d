//! What a seed decides: which faults strike and how often, and which workers there are.

use std::time::Duration;

use super::dice::Dice;
use crate::core::event::{Condition, HealthPolicy, WorkerSpec};
use crate::worker::{OnUnhealthy, Ratio, RestartConfig, RestartPolicy, SuccessCodes, WorkerId};

/// What can go wrong, or at least not smoothly.
#[derive(Clone, Copy, Debug)]
pub(super) enum Fault {
    LaunchError,
    LaunchFailure,
    LaunchHangs,
    StartError,
    StartFailure,
    StartHangs,
    Permanent,
    Crash,
    Failure,
    Success,
    Completion,
    EarlyCompletion,
    AskIgnored,
    ForceIgnored,
    SlowEnd,
    Unhealthy,
    NoAnswer,
    LateAnswer,
    LateReport,
    LostReport,
    Duplicate,
    StaleReport,
    Stall,
    IdleTick,
}

/// How often each fault strikes, in percent. Most seeds know few, some of them at high rates.
#[derive(Clone, Debug)]
pub(super) struct Faults([u64; Fault::IdleTick as usize + 1]);

impl Faults {
    pub(super) const NONE: Self = Self([0; Fault::IdleTick as usize + 1]);

    pub(super) fn draw(dice: &mut Dice) -> Self {
        let mut faults = Self::NONE;
        let share = *dice.pick(&[10, 30, 60]);
        for rate in &mut faults.0 {
            if dice.percent(share) {
                *rate = *dice.pick(&[3, 10, 30, 80]);
            }
        }
        faults
    }

    pub(super) fn strike(&self, dice: &mut Dice, fault: Fault) -> bool {
        dice.percent(self.0[fault as usize])
    }
}

/// What clients ask for.
#[derive(Clone, Copy, Debug)]
pub(super) enum Wish {
    Start,
    Stop,
    Restart,
    Remove,
    Add,
    Adopt,
    Update,
    Settle,
    Shutdown,
}

/// What the clients of a seed ask for most, and how often they use force.
#[derive(Clone, Debug)]
pub(super) struct Clients {
    force: u64,
    wishes: Vec<Wish>,
}

impl Clients {
    pub(super) fn draw(dice: &mut Dice) -> Self {
        use Wish::{Add, Adopt, Remove, Restart, Settle, Shutdown, Start, Stop, Update};
        let mut wishes = [[Start; 12], [Stop; 12], [Restart; 12]].concat();
        wishes.extend([[Remove; 4], [Add; 4], [Adopt; 4], [Update; 4]].concat());
        wishes.extend([Start, Start, Add, Add, Add, Settle, Shutdown]);
        let favourite = *dice.pick(&[Start, Stop, Restart, Remove, Add, Adopt, Update]);
        let eagerness = *dice.pick(&[0, 0, 20, 300]);
        wishes.extend(std::iter::repeat_n(favourite, eagerness));
        Self { force: *dice.pick(&[10, 30, 90]), wishes }
    }

    /// One wish, and whether it is meant by force.
    pub(super) fn want(&self, dice: &mut Dice) -> (Wish, bool) {
        (*dice.pick(&self.wishes), dice.percent(self.force))
    }
}

/// A timeout: mostly ordinary, sometimes nothing, sometimes for ever.
fn timeout(dice: &mut Dice, ordinary: &[u64]) -> Duration {
    match dice.below(20) {
        0 => Duration::ZERO,
        1 => Duration::MAX,
        _ => dice.millis(ordinary),
    }
}

fn restart(dice: &mut Dice) -> RestartConfig {
    RestartConfig {
        policy: *dice.pick(&RestartPolicy::ALL),
        max_retries: *dice.pick(&[0, 1, 2, 5]),
        retry_delay: timeout(dice, &[50, 200, 1000]),
        backoff_rate: Ratio::from_thousandths(*dice.pick(&[1000, 1500, 2000, 10_000, u32::MAX])),
        max_delay: timeout(dice, &[100, 1000, 60_000]),
        jitter: Ratio::from_thousandths(*dice.pick(&[0, 100, 1000])),
        reset_after: dice.millis(&[0, 500, 2000, 60_000]),
        half_open_after: dice.millis(&[0, 1000, 300_000]),
        startup_grace_period: dice.millis(&[0, 0, 2000]),
    }
}

fn health(dice: &mut Dice) -> HealthPolicy {
    let interval = dice.millis(&[100, 1000, 10_000]);
    HealthPolicy {
        interval,
        timeout: interval.min(dice.millis(&[20, 100, 2000])),
        initial_delay: dice.millis(&[0, 500]),
        retries: *dice.pick(&[1, 2, 3]),
        successes: *dice.pick(&[1, 2]),
        on_unhealthy: *dice.pick(&[OnUnhealthy::Restart, OnUnhealthy::Log, OnUnhealthy::Stop]),
    }
}

/// A worker that depends on some of those in `others`, each told with whether it has health checks.
pub(super) fn spec(dice: &mut Dice, others: &[(WorkerId, bool)]) -> WorkerSpec {
    let mut depends_on = Vec::new();
    for (id, has_health) in others {
        if dice.percent(30) {
            let conditions = [Condition::Started, Condition::Completed, Condition::Healthy];
            depends_on.push((id.clone(), *dice.pick(&conditions[..2 + usize::from(*has_health)])));
        }
    }
    WorkerSpec {
        start_timeout: timeout(dice, &[100, 1000, 30_000]),
        stop_timeout: timeout(dice, &[100, 1000, 10_000]),
        killable: dice.percent(50),
        keeps: dice.percent(50),
        restart: restart(dice),
        health: dice.percent(40).then(|| health(dice)),
        success: SuccessCodes { codes: vec![0], signals: vec![15] },
        depends_on,
    }
}
