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
    /// Nothing: it gave up when its policy allowed fewer retries than now.
    Fewer,
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
    if known.worker.gave_up {
        if known.worker.last_error.as_ref().is_some_and(|error| error.permanent) {
            return Budget::Permanent;
        }
        // A reload may have changed the policy since.
        if of == 0 || known.failures <= of {
            return Budget::Fewer;
        }
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
        // The one that is told of beside this.
        let pending = known.worker.retry_in_ms.is_some() && !known.worker.gave_up;
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
            Self::Fewer => {
                format!("{failures} {noun} in a row: it gave up when it had fewer retries.")
            }
            Self::Endless if failures > 0 => {
                format!("{failures} {noun} in a row; it is retried without end.")
            }
            Self::Endless => "Should it fail, it is retried without end.".to_owned(),
            Self::Retries { left, of } if failures > 0 => {
                let left = match (left, of) {
                    (0, 1) if pending => "and this is its one retry".to_owned(),
                    (0, of) if pending => format!("and this is the last of {of} retries"),
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
        let permanently = || {
            let mut all = gave_up(1);
            all["last_error"] = json!({ "category": "configuration", "message": "no such file",
                "at": "2023-11-14T22:13:20Z", "permanent": true });
            all
        };
        // As many retries as there are now would not have been used up.
        let fewer = "6 failures in a row: it gave up when it had fewer retries.".to_owned();
        let trial = || {
            let mut all = gave_up(6);
            all["retry_in_ms"] = 1000.into();
            all["retry_at"] = "2023-11-14T22:13:25Z".into();
            all
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
                fails(5),
                format!("5 failures in a row, and this is the last of 5 retries; {cleared}"),
            ),
            (
                "on-failure",
                1,
                fails(1),
                format!("1 failure in a row, and this is its one retry; {cleared}"),
            ),
            ("on-failure", 10, trial(), fewer.clone()),
            ("on-failure", 10, gave_up(6), fewer.clone()),
            ("on-failure", 0, gave_up(6), fewer),
            (
                "on-failure",
                5,
                trial(),
                format!("6 failures in a row, all 5 retries are used; {cleared}"),
            ),
            (
                "on-failure",
                5,
                permanently(),
                "No retry could mend what went wrong, so none is made.".to_owned(),
            ),
            (
                "always",
                0,
                permanently(),
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
        assert_eq!(told("on-failure", 5, permanently()).0, Budget::Permanent);
    }
}
