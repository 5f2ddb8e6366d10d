//! `explain`: why a worker is in its state, in sentences: what led here, what it waits for, and
//! what to do.

use std::time::SystemTime;

use super::budget::{Budget, budget};
use super::describe::CHANGED;
use super::terminal::{harmless, harmless_lines};
use super::words::{ago, end, let_go, lost_log, millis, stamp, waited};
use super::{Outcome, print, print_json};
use crate::control::{Client, Description, PastReport};
use crate::error::Result;
use crate::worker::{HealthStatus, WorkerState};

/// So many changes of state are told.
const STEPS: usize = 8;

pub(super) fn explain(client: &Client, program: &str, id: &str, json: bool) -> Result<Outcome> {
    let known = client.describe(id)?;
    if json {
        return Ok(print_json(&known));
    }
    Ok(print(&explained(&known, program, SystemTime::now())))
}

/// Everything that explains the state.
fn explained(known: &Description, program: &str, now: SystemTime) -> String {
    let mut text = format!("{}\n", headline(known, now));
    let mut section = |title: &str, lines: Vec<String>| {
        if !lines.is_empty() {
            text.push_str(&format!("\n{title}\n"));
            lines.iter().for_each(|line| text.push_str(&format!("  {line}\n")));
        }
    };
    section("What led here (UTC):", steps(known.history.iter().filter(|past| told(past)), STEPS));
    section("What last went wrong:", wrong(known, now));
    let output = known.last_output.iter().map(|line| format!("| {}", harmless(line)));
    section("Its last lines before it failed:", output.collect());
    section("What comes next:", next(known));
    section("What you can do:", advice(known, program));
    text
}

/// The state, since when, and why, in a sentence or two.
fn headline(known: &Description, now: SystemTime) -> String {
    let worker = &known.worker;
    let id = &worker.id;
    let since = format!("since {} ({} ago)", stamp(worker.since), ago(worker.since, now));
    let end = harmless(&end(worker)).into_owned();
    match worker.state {
        WorkerState::Uninitialized if !worker.waiting_for.is_empty() => {
            format!("{id} was not started yet: it waits for {}.", waited(worker))
        }
        WorkerState::Uninitialized if !known.config.enabled => {
            format!("{id} was never started: it is not enabled.")
        }
        WorkerState::Uninitialized => format!("{id} was never started."),
        WorkerState::Initializing | WorkerState::Initialized | WorkerState::Starting => {
            format!("{id} is starting {since}, incarnation {}.", worker.incarnation)
        }
        WorkerState::Running => {
            let place = worker.pid.map_or(String::new(), |pid| format!(", pid {pid}"));
            let number = worker.incarnation;
            let health = match worker.health {
                HealthStatus::None => "",
                HealthStatus::Unknown => " Its health is not known yet.",
                HealthStatus::Healthy => " It is healthy.",
                HealthStatus::Unhealthy => " It is unhealthy.",
            };
            let changed = match worker.program_changed {
                Some(true) => format!(" Its program: {CHANGED}."),
                Some(false) | None => String::new(),
            };
            format!("{id} is running {since}, incarnation {number}{place}.{health}{changed}")
        }
        WorkerState::Stopping => format!("{id} is stopping {since}: {}.", worker.cause),
        WorkerState::Stopped if worker.gave_up => {
            let failed = match known.failures {
                0 | 1 => "it failed with".to_owned(),
                failures => format!("it failed {failures} times in a row, at last with"),
            };
            format!("{id} has given up {since}: {failed}: {end}.")
        }
        WorkerState::Stopped if worker.completed => {
            let down = if worker.goal == "down" { ", and it is meant to be down" } else { "" };
            format!("{id} is stopped {since}: its work is done ({end}){down}.")
        }
        WorkerState::Stopped if worker.goal == "down" => {
            let lives =
                if let_go(worker) { " Its process lives on: it was let go of." } else { "" };
            format!("{id} is stopped {since}: it is meant to be down.{lives}")
        }
        WorkerState::Stopped => format!("{id} is stopped {since}: {}.", worker.cause),
        WorkerState::Failed => {
            let ending = if worker.ending { " What failed has not ended yet." } else { "" };
            format!("{id} has failed {since}: {end}.{ending}")
        }
    }
}

/// False for what every first start passes through.
fn told(past: &PastReport) -> bool {
    !matches!(past.to, WorkerState::Initializing | WorkerState::Initialized)
}

/// The last changes of state, at most so many.
pub(super) fn steps<'p>(
    history: impl DoubleEndedIterator<Item = &'p PastReport>,
    most: usize,
) -> Vec<String> {
    let mut told: Vec<_> = history.rev().take(most).collect();
    told.reverse();
    let step = |past: &PastReport| {
        let PastReport { at, from, to, cause, incarnation, .. } = past;
        let change = format!("{from} -> {to}");
        let detail = past.message.clone().or_else(|| Some(past.exit.as_ref()?.text.clone()));
        let detail = detail.map_or(String::new(), |detail| {
            format!(": {}", harmless(detail.lines().next().unwrap_or("")))
        });
        format!("{}  #{incarnation:<3} {change:<29} {cause}{detail}", stamp(*at))
    };
    told.into_iter().map(step).collect()
}

fn wrong(known: &Description, now: SystemTime) -> Vec<String> {
    let worker = &known.worker;
    let mut lines = Vec::new();
    if let Some(error) = &worker.last_error {
        let message = harmless_lines(&error.message, "    ");
        lines.push(format!("{}, {} ago: {message}", error.category, ago(error.at, now)));
    }
    if let Some(warning) = &worker.warning {
        lines.push(format!("while it stopped: {}", harmless_lines(warning, "    ")));
    }
    if worker.abandoned_threads > 0 {
        let count = worker.abandoned_threads;
        lines.push(format!("{count} of its incarnations did not end and were abandoned"));
    }
    if let Some(lost) = lost_log(worker, now) {
        lines.push(format!("its log: {}", harmless(&lost)));
    }
    lines
}

/// What it waits for, and how much patience is left.
fn next(known: &Description) -> Vec<String> {
    let worker = &known.worker;
    let mut lines = Vec::new();
    if let (Some(wait), Some(at)) = (worker.retry_in_ms, worker.retry_at) {
        let what = match (worker.gave_up, worker.state) {
            (true, _) => "One trial start",
            (false, WorkerState::Failed) => "Its next start",
            (false, _) => "It runs again",
        };
        lines.push(format!("{what} in {} (at {}).", millis(wait), stamp(at)));
    } else if !worker.waiting_for.is_empty() {
        lines.push(format!("It starts once this holds: {}.", waited(worker)));
    } else if worker.phase == "none" {
        lines.push("Nothing starts it by itself.".to_owned());
    }
    if worker.goal == "up" {
        lines.extend(budget(known).told(known));
    } else if worker.completed && worker.phase == "none" {
        let policy = &known.config.restart_policy;
        lines.push(format!("Its restart policy (`{policy}`) holds again once it is started."));
    }
    lines
}

fn advice(known: &Description, program: &str) -> Vec<String> {
    let worker = &known.worker;
    let id = &worker.id;
    let logs = format!("{program} logs {id}");
    let command = |verb: &str, why: &str| {
        let line = format!("{program} {verb} {id}");
        format!("{line:<40}  {why}").trim_end().to_owned()
    };
    match worker.state {
        WorkerState::Failed if worker.ending && worker.abandoned_threads > 0 => {
            vec![command("restart --force", "to leave what hangs behind and start anew")]
        }
        WorkerState::Failed => {
            vec![logs, command("restart", "to try now"), command("stop", "to end the trying")]
        }
        WorkerState::Stopped if worker.gave_up => {
            let why = match budget(known) {
                Budget::Never => "to try again",
                Budget::Permanent => "once that is put right",
                Budget::Fewer | Budget::Endless | Budget::Retries { .. } => {
                    "to try again, with all retries"
                }
            };
            vec![logs, command("start", why)]
        }
        WorkerState::Stopped | WorkerState::Uninitialized if !worker.waiting_for.is_empty() => {
            vec![command("start --force", "to start it all the same")]
        }
        WorkerState::Stopped | WorkerState::Uninitialized => vec![command("start", "")],
        WorkerState::Running if worker.health == HealthStatus::Unhealthy => {
            vec![logs, command("restart", "")]
        }
        WorkerState::Initializing | WorkerState::Initialized | WorkerState::Starting => {
            let limit = millis(known.config.start_timeout_ms);
            vec![command("wait --for running", &format!("(its start may take {limit})"))]
        }
        WorkerState::Stopping => {
            let (thread, limit) = (worker.pid.is_none(), known.config.stop_timeout_ms.map(millis));
            let Some(limit) = limit else { return Vec::new() };
            let why = match thread {
                true => format!("to give it 5 s more, not {limit}"),
                false => format!("to kill it now, not after {limit}"),
            };
            vec![command("stop --force", &why)]
        }
        WorkerState::Running => Vec::new(),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::super::samples::{description, failed, now};
    use super::*;

    fn text(differing: Value) -> String {
        explained(&description(differing), "my-app", now())
    }

    #[test]
    fn a_failure_is_explained_with_what_led_to_it_and_what_comes_next() {
        assert_eq!(
            text(failed()),
            "\
web has failed since 2023-11-14T22:13:20Z (3s ago): exit 3.

What led here (UTC):
  2023-11-14T22:13:19Z  #3   starting -> running           started
  2023-11-14T22:13:20Z  #3   running -> failed             crash: exit 3

What last went wrong:
  crash, 3s ago: exit 3

Its last lines before it failed:
  | opening the database
  | cannot: \\u{1b}[31mrefused

What comes next:
  Its next start in 2s (at 2023-11-14T22:13:25Z).
  2 failures in a row, 3 of 5 retries are left; 1m00s of running clear the count.

What you can do:
  my-app logs web
  my-app restart web                        to try now
  my-app stop web                           to end the trying
"
        );
    }

    #[test]
    fn each_state_has_its_sentence() {
        let down = json!({ "phase": "none", "pid": null, "uptime_ms": null });
        let with = |more: Value| {
            let mut all = down.clone();
            all.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
            text(all)
        };
        let first = |text: String| text.lines().next().unwrap_or("").to_owned();
        let exit = json!({ "code": 0, "signal": null, "text": "exit 0" });
        let waiting = json!([{ "id": "db", "condition": "healthy" }]);
        let gave_up = json!({
            "state": "stopped", "gave_up": true, "failures": 6,
            "exit": { "code": null, "signal": 9, "text": "signal SIGKILL (9)" },
        });
        let since = "since 2023-11-14T22:13:20Z (3s ago)";
        for (told, expected) in [
            (
                text(json!({ "health": "healthy" })),
                "running S, incarnation 3, pid 4711. It is healthy.",
            ),
            (
                with(json!({ "state": "stopped", "goal": "down" })),
                "stopped S: it is meant to be down.",
            ),
            (
                with(json!({ "state": "stopped", "completed": true, "exit": exit })),
                "stopped S: its work is done (exit 0).",
            ),
            (
                with(json!({ "state": "stopped", "completed": true, "goal": "down",
                    "exit": exit })),
                "stopped S: its work is done (exit 0), and it is meant to be down.",
            ),
            (with(json!({ "state": "stopping", "cause": "command" })), "stopping S: command."),
        ] {
            assert_eq!(first(told), format!("web is {}", expected.replace('S', since)));
        }
        for (told, expected) in [
            (with(json!({ "state": "uninitialized" })), "web was never started."),
            (
                with(json!({ "state": "uninitialized", "waiting_for": waiting })),
                "web was not started yet: it waits for db healthy.",
            ),
        ] {
            assert_eq!(first(told), expected);
        }
        let told = first(with(gave_up));
        let expected = "it failed 6 times in a row, at last with: signal SIGKILL (9).";
        assert_eq!(told, format!("web has given up {since}: {expected}"));
    }

    #[test]
    fn a_command_that_keeps_work_that_is_done_from_being_done_again_is_told() {
        let stopped = json!({ "state": "stopped", "completed": true, "goal": "down",
            "phase": "none", "pid": null, "uptime_ms": null });
        let mut known = description(stopped.clone());
        known.config.restart_policy = "always".to_owned();
        let told = explained(&known, "my-app", now());
        let next = "Nothing starts it by itself.\n  Its restart policy (`always`) holds again once \
                    it is started.\n";
        assert!(told.contains(next), "{told}");
        assert_eq!(super::super::words::matter(&known.worker), "completed, meant to be down");
        known.worker.goal = "up".to_owned();
        assert_eq!(super::super::words::matter(&known.worker), "completed");
    }

    #[test]
    fn what_is_lost_of_a_log_is_told_while_it_is_and_after() {
        let trouble = |since: Value| {
            json!({ "log_dropped": 1_108_835, "log_trouble": {
                "message": "No space left on device (os error 28)",
                "at": "2023-11-14T22:13:22Z", "since": since,
            } })
        };
        let end = "last error at 2023-11-14T22:13:22Z: No space left on device (os error 28)\n";
        let told = text(trouble(json!("2023-11-14T22:13:20Z")));
        let now =
            "  its log: 1108835 bytes dropped, degraded since 2023-11-14T22:13:20Z (3s ago), ";
        assert!(told.contains(&format!("went wrong:\n{now}{end}")), "{told}");
        let told = text(trouble(Value::Null));
        assert!(told.contains(&format!("1108835 bytes dropped, written again, {end}")), "{told}");
    }

    #[test]
    fn a_worker_that_gave_up_has_no_retries_left() {
        let told = text(json!({ "state": "stopped", "phase": "none", "gave_up": true,
            "failures": 6 }));
        assert!(told.contains("6 failures in a row, all 5 retries are used"), "{told}");
        assert!(told.contains("Nothing starts it by itself."), "{told}");
        assert!(told.contains("my-app start web"), "{told}");
    }
}
