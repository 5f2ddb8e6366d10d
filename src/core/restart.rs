//! When an ended worker is started again: policy, backoff, giving up. Integer arithmetic that
//! saturates.

use std::time::Duration;

use super::planted::{Bug, planted};
use super::rng::Rng;
use crate::worker::{Ratio, RestartConfig, RestartPolicy};

/// What follows an end that nobody asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Decision {
    /// Start again after this pause.
    Again(Duration),
    /// It failed too often; one trial after this pause, if there is one.
    GiveUp(Option<Duration>),
    /// Its work is done, and stays done.
    Rest,
}

/// What follows a failure. `stayed_up` is `None` when the incarnation never came up; `failures`
/// counts consecutive incarnations that did not stay up for `reset_after`.
pub(super) fn after_failure(
    policy: &RestartConfig,
    failures: &mut u32,
    stayed_up: Option<Duration>,
    permanent: bool,
    rng: &mut Rng,
) -> Decision {
    let healthy_run = stayed_up.is_some_and(|uptime| uptime >= policy.reset_after);
    *failures = if healthy_run { 0 } else { failures.saturating_add(1) };
    if permanent || policy.policy == RestartPolicy::Never {
        Decision::GiveUp(None)
    } else if healthy_run {
        Decision::Again(Duration::ZERO)
    } else if policy.max_retries > 0 && *failures > policy.max_retries {
        Decision::GiveUp(Some(policy.half_open_after).filter(|pause| !pause.is_zero()))
    } else {
        let n = if planted(Bug::BackoffFlat) { 1 } else { *failures };
        Decision::Again(backoff(policy, n, rng))
    }
}

/// What follows completed work. It spends no retry.
pub(super) fn after_completion(
    policy: &RestartConfig,
    failures: &mut u32,
    stayed_up: Option<Duration>,
    rng: &mut Rng,
) -> Decision {
    let healthy_run = stayed_up.is_some_and(|uptime| uptime >= policy.reset_after);
    if healthy_run {
        *failures = 0;
    } else if planted(Bug::CompletionSpendsRetry) {
        *failures += 1;
    }
    match policy.policy {
        RestartPolicy::Never | RestartPolicy::OnFailure => Decision::Rest,
        RestartPolicy::Always | RestartPolicy::UnlessStopped => {
            Decision::Again(if healthy_run { Duration::ZERO } else { backoff(policy, 1, rng) })
        }
    }
}

/// The pause before retry `n`, from 1: `retry_delay * backoff_rate^(n-1)`, at most `max_delay`,
/// then jittered.
fn backoff(policy: &RestartConfig, n: u32, rng: &mut Rng) -> Duration {
    let cap = policy.max_delay.as_nanos();
    let mut delay = policy.retry_delay.as_nanos().min(cap);
    for _ in 1..n {
        let grown = scale(delay, policy.backoff_rate).min(cap);
        // At the cap, at zero, or without growth, all further turns are the same.
        if grown <= delay {
            break;
        }
        delay = grown;
    }
    let stray = scale(delay, policy.jitter.min(Ratio::from_thousandths(1000)));
    let stray = u64::try_from(stray).unwrap_or(u64::MAX / 2).min(u64::MAX / 2);
    let nanos = delay.saturating_sub(u128::from(stray)) + u128::from(rng.up_to(2 * stray));
    Duration::from_nanos(u64::try_from(nanos).unwrap_or(u64::MAX))
}

fn scale(nanos: u128, ratio: Ratio) -> u128 {
    nanos.saturating_mul(u128::from(ratio.thousandths())) / 1000
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: fn(u64) -> Duration = Duration::from_millis;

    fn without_jitter() -> RestartConfig {
        RestartConfig { jitter: Ratio::from_thousandths(0), ..RestartConfig::default() }
    }

    #[test]
    fn the_pause_grows_to_the_cap() {
        let policy = without_jitter().max_delay(MS(1500));
        let rng = &mut Rng::new(1);
        let pauses: Vec<_> = (1..=6).map(|n| backoff(&policy, n, rng)).collect();
        assert_eq!(pauses, [MS(200), MS(400), MS(800), MS(1500), MS(1500), MS(1500)]);
        assert_eq!(backoff(&policy, u32::MAX, rng), MS(1500));
    }

    #[test]
    fn jitter_stays_within_its_part_on_both_sides() {
        let mut policy = without_jitter();
        policy.jitter = Ratio::from_thousandths(100);
        let rng = &mut Rng::new(7);
        let pauses: Vec<_> = (0..1000).map(|_| backoff(&policy, 1, rng)).collect();
        assert!(pauses.iter().all(|pause| (MS(180)..=MS(220)).contains(pause)));
        assert!(pauses.iter().any(|pause| *pause < MS(185)));
        assert!(pauses.iter().any(|pause| *pause > MS(215)));
    }

    #[test]
    fn no_duration_can_break_the_arithmetic() {
        let rng = &mut Rng::new(3);
        for (delay, cap, rate, jitter) in [
            (Duration::MAX, Duration::MAX, u32::MAX, 1000),
            (Duration::ZERO, Duration::MAX, u32::MAX, u32::MAX),
            (MS(1), Duration::ZERO, 0, 1000),
            (Duration::from_nanos(1), Duration::MAX, 1001, 1),
        ] {
            let mut policy = RestartConfig::default().retry_delay(delay).max_delay(cap);
            policy.backoff_rate = Ratio::from_thousandths(rate);
            policy.jitter = Ratio::from_thousandths(jitter);
            for n in [1, 2, 100, 1_000_000] {
                let _ = backoff(&policy, n, rng);
            }
        }
        let zero = RestartConfig::default().retry_delay(Duration::ZERO);
        assert_eq!(backoff(&zero, 9, rng), Duration::ZERO);
    }

    #[test]
    fn every_policy_meets_every_end() {
        use RestartPolicy::{Always, Never, OnFailure, UnlessStopped};
        let again = Decision::Again(MS(200));
        for (kind, failed, completed) in [
            (Never, Decision::GiveUp(None), Decision::Rest),
            (OnFailure, again, Decision::Rest),
            (Always, again, again),
            (UnlessStopped, again, again),
        ] {
            let mut policy = without_jitter();
            policy.policy = kind;
            let rng = &mut Rng::new(1);
            let short = Some(MS(1));
            assert_eq!(after_failure(&policy, &mut 0, short, false, rng), failed, "{kind:?}");
            assert_eq!(after_completion(&policy, &mut 0, short, rng), completed, "{kind:?}");
            let permanent = after_failure(&policy, &mut 0, short, true, rng);
            assert_eq!(permanent, Decision::GiveUp(None), "{kind:?}");
        }
    }

    #[test]
    fn the_budget_counts_consecutive_short_lives() {
        let policy = without_jitter().max_retries(2);
        let (rng, mut failures) = (&mut Rng::new(1), 0);
        let mut fail = |stayed_up| after_failure(&policy, &mut failures, stayed_up, false, rng);
        assert_eq!(fail(None), Decision::Again(MS(200)));
        assert_eq!(fail(Some(MS(59_999))), Decision::Again(MS(400)));
        assert_eq!(fail(Some(MS(60_000))), Decision::Again(Duration::ZERO));
        assert_eq!(fail(None), Decision::Again(MS(200)));
        assert_eq!(fail(None), Decision::Again(MS(400)));
        let trial = Decision::GiveUp(Some(Duration::from_secs(300)));
        assert_eq!(fail(None), trial);
        // A half-open trial that fails gives up again, any number of times.
        assert_eq!(fail(None), trial);
        let forever = without_jitter().max_retries(0);
        assert_eq!(
            after_failure(&forever, &mut 1_000_000, None, false, rng),
            Decision::Again(Duration::from_secs(60))
        );
        let never = without_jitter().max_retries(1).half_open_after(Duration::ZERO);
        assert_eq!(after_failure(&never, &mut 1, None, false, rng), Decision::GiveUp(None));
    }
}
