//! How much patience a worker's restart policy has left, in sentences.

use super::words::millis;
use crate::control::Description;

/// What follows a failure, now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Budget {
    /// Nothing: the policy makes no retries.
    Never,
    /// Nothing: what went wrong cannot be mended by a retry.
    Permanent,
    /// A retry, however often it fails.
    Endless,
    /// So many retries of so many.
    Retries { left: u32, of: u32 },
}

pub(super) fn budget(known: &Description) -> Budget {
    let of = known.config.max_retries;
    if known.config.restart_policy == "never" {
        return Budget::Never;
    }
    // It gave up sooner than its failures would have made it.
    if known.worker.gave_up && (of == 0 || known.failures <= of) {
        return Budget::Permanent;
    }
    if of == 0 {
        return Budget::Endless;
    }
    Budget::Retries { left: of.saturating_sub(known.failures), of }
}

impl Budget {
    /// What is said of a worker that is meant to run.
    pub(super) fn told(self, known: &Description) -> Vec<String> {
        let failures = known.failures;
        let noun = if failures == 1 { "failure" } else { "failures" };
        let done = known.worker.completed;
        let unmanaged = known.config.unmanaged.is_some();
        let mut lines = vec![match self {
            // Nothing is running that could fail.
            Self::Endless | Self::Retries { .. } if done => return self.of_done(known),
            Self::Endless if unmanaged => {
                "Should its process be gone, another one is looked for, without end.".to_owned()
            }
            Self::Never if known.worker.gave_up => {
                "Its restart policy is `never`: no retries are made.".to_owned()
            }
            Self::Never => "Its restart policy is `never`: it is not started again.".to_owned(),
            Self::Permanent => "No retry could mend what went wrong, so none is made.".to_owned(),
            Self::Endless if failures > 0 => {
                format!("{failures} {noun} in a row; it is retried without end.")
            }
            Self::Endless => "Should it fail, it is retried without end.".to_owned(),
            Self::Retries { left, of } if failures > 0 => {
                let left = match (left, of) {
                    (0, 1) => "its one retry is used".to_owned(),
                    (0, of) => format!("all {of} retries are used"),
                    (left, of) => format!("{left} of {of} retries are left"),
                };
                let reset = millis(known.config.reset_after_ms);
                format!("{failures} {noun} in a row, {left}; {reset} of running clear the count.")
            }
            Self::Retries { of: 1, .. } => "Should it fail, it has 1 retry.".to_owned(),
            Self::Retries { of, .. } => format!("Should it fail, it has {of} retries in a row."),
        }];
        lines.extend(self.of_done(known));
        lines
    }

    /// What is said of work that is done, or will be.
    fn of_done(self, known: &Description) -> Vec<String> {
        let (worker, config) = (&known.worker, &known.config);
        let also = match config.restart_policy.as_str() {
            // Others' processes are looked for, whatever became of the last one.
            _ if worker.gave_up || config.unmanaged.is_some() => None,
            "on-failure" if worker.completed && worker.phase == "none" => {
                Some("Its restart policy is `on-failure`, and it did not fail.")
            }
            "always" => Some("When its work is done it is started again, too (`always`)."),
            "unless-stopped" => Some(
                "When its work is done it is started again, too, and what a command stops stays \
                 down, under the next master too (`unless-stopped`).",
            ),
            _ => None,
        };
        also.map(str::to_owned).into_iter().collect()
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::super::samples::{description, failed};
    use super::*;

    fn told(policy: &str, max: u32, more: Value) -> (Budget, String) {
        let mut known = description(json!({}));
        known.config.restart_policy = policy.to_owned();
        known.config.max_retries = max;
        let mut all = serde_json::to_value(&known).unwrap();
        all.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        let known = serde_json::from_value(all).unwrap();
        let budget = budget(&known);
        (budget, budget.told(&known).join(" "))
    }

    #[test]
    fn each_policy_says_what_follows_a_failure() {
        let runs = || json!({});
        let fails = |failures: u32| {
            let mut failed = failed();
            failed["failures"] = failures.into();
            failed
        };
        let gave_up = |failures: u32| {
            json!({ "state": "stopped", "phase": "none", "pid": null, "uptime_ms": null,
                "gave_up": true, "failures": failures })
        };
        let done = || json!({ "state": "stopped", "phase": "none", "completed": true });
        let cleared = "1m00s of running clear the count.";
        let always = "When its work is done it is started again, too (`always`).";
        for (policy, max, more, expected) in [
            ("on-failure", 5, runs(), "Should it fail, it has 5 retries in a row.".to_owned()),
            ("on-failure", 1, runs(), "Should it fail, it has 1 retry.".to_owned()),
            ("on-failure", 0, runs(), "Should it fail, it is retried without end.".to_owned()),
            (
                "on-failure",
                0,
                fails(7),
                "7 failures in a row; it is retried without end.".to_owned(),
            ),
            (
                "on-failure",
                5,
                fails(1),
                format!("1 failure in a row, 4 of 5 retries are left; {cleared}"),
            ),
            (
                "on-failure",
                5,
                gave_up(6),
                format!("6 failures in a row, all 5 retries are used; {cleared}"),
            ),
            (
                "on-failure",
                5,
                gave_up(1),
                "No retry could mend what went wrong, so none is made.".to_owned(),
            ),
            (
                "always",
                0,
                gave_up(1),
                "No retry could mend what went wrong, so none is made.".to_owned(),
            ),
            (
                "on-failure",
                5,
                done(),
                "Its restart policy is `on-failure`, and it did not fail.".to_owned(),
            ),
            (
                "never",
                5,
                runs(),
                "Its restart policy is `never`: it is not started again.".to_owned(),
            ),
            (
                "never",
                5,
                gave_up(1),
                "Its restart policy is `never`: no retries are made.".to_owned(),
            ),
            ("always", 5, runs(), format!("Should it fail, it has 5 retries in a row. {always}")),
            ("always", 0, runs(), format!("Should it fail, it is retried without end. {always}")),
        ] {
            assert_eq!(told(policy, max, more.clone()).1, expected, "{policy} {max} {more}");
        }
        assert!(told("unless-stopped", 5, runs()).1.contains("under the next master too"));
        assert_eq!(told("never", 5, gave_up(1)).0, Budget::Never);
        assert_eq!(told("on-failure", 5, gave_up(1)).0, Budget::Permanent);
    }
}
