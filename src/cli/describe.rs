//! `describe`: everything that is known about a worker, in groups.

use std::time::SystemTime;

use super::terminal::harmless;
use super::words::{address, ago, lost_log, millis, stamp, waited};
use super::{Outcome, explain, print, print_json};
use crate::control::{Client, ConfigReport, Description, UnmanagedReport, WorkerReport};
use crate::error::Result;
use crate::worker::{Exit, LogOverflow};

pub(super) fn describe(client: &Client, id: &str, json: bool) -> Result<Outcome> {
    let known = client.describe(id)?;
    if json {
        return Ok(print_json(&known));
    }
    let mut text = described(&known, SystemTime::now());
    lines(&mut text, &[("configuration", client.hello().configuration.clone())]);
    Ok(print(&text))
}

/// One line: what it is about, and what is known of it. Nothing known, no line.
type Line = (&'static str, Option<String>);

fn described(known: &Description, now: SystemTime) -> String {
    let worker = &known.worker;
    let mut text = format!("{}\n", worker.id);
    lines(&mut text, &place(worker, &known.config));
    lines(&mut text, &present(known, now));
    lines(&mut text, &rules(&known.config));
    let endpoints = worker.endpoints.iter();
    let endpoints = endpoints.map(|known| format!("{:<16} {}", known.name, address(known)));
    list(&mut text, "endpoints", endpoints);
    list(&mut text, "history (UTC)", explain::steps(known.history.iter(), usize::MAX).into_iter());
    list(&mut text, "last lines before it failed", known.last_output.iter().cloned());
    text
}

/// What it is and where it runs.
fn place(worker: &WorkerReport, config: &ConfigReport) -> Vec<Line> {
    let module = worker.module_name.as_ref().map(|name| {
        let kind = worker.module_type.map_or("", |kind| kind.as_str());
        format!("{name} ({kind})")
    });
    let variables = Some(config.environment.join(", ")).filter(|names| !names.is_empty());
    vec![
        ("type", Some(worker.worker_type.as_str().to_owned())),
        ("module", module),
        ("command", config.command.as_ref().map(|words| quoted(words))),
        ("looks for", config.unmanaged.as_ref().map(sought)),
        ("directory", config.working_directory.clone()),
        ("variables", variables),
        ("enabled", (!config.enabled).then(|| "no".to_owned())),
    ]
}

/// What is said of a program whose file is another one by now.
pub(super) const CHANGED: &str = "its file has changed since it was started; a restart runs that";

/// What it does now, and what became of it.
fn present(known: &Description, now: SystemTime) -> Vec<Line> {
    let worker = &known.worker;
    let usage = worker.usage.as_ref().map(|usage| {
        let part = |value: Option<String>, unit: &str| value.map(|value| format!("{value} {unit}"));
        let parts = [
            part(usage.cpu_percent.map(|percent| format!("{percent:.1}")), "% of one processor"),
            part(usage.rss_bytes.map(|bytes| (bytes >> 10).to_string()), "KiB resident"),
            part(
                usage.threads.map(|threads| threads.to_string()),
                if usage.threads == Some(1) { "thread" } else { "threads" },
            ),
        ];
        parts.into_iter().flatten().collect::<Vec<_>>().join(", ")
    });
    let error = worker
        .last_error
        .as_ref()
        .map(|error| format!("{}, {} ago: {}", error.category, ago(error.at, now), error.message));
    let mut state = format!("{} since {} ({})", worker.state, stamp(worker.since), worker.cause);
    if worker.gave_up {
        state.push_str(", has given up");
    }
    let counted = |count: u64| (count > 0).then(|| count.to_string());
    let retry = worker.retry_in_ms.map(|wait| format!("in {}", millis(wait)));
    vec![
        ("state", Some(state)),
        ("goal", Some(format!("{}, phase {}", worker.goal, worker.phase))),
        ("health", Some(worker.health.to_string())),
        ("incarnation", Some(worker.incarnation.to_string())),
        ("pid", worker.pid.map(|pid| pid.to_string())),
        ("up for", worker.uptime_ms.map(millis)),
        ("program", (worker.program_changed == Some(true)).then(|| CHANGED.to_owned())),
        ("uses", usage.filter(|usage| !usage.is_empty())),
        ("waits for", Some(waited(worker)).filter(|waited| !waited.is_empty())),
        ("next start", retry),
        ("last end", worker.exit.as_ref().map(|exit| exit.text.clone())),
        ("last error", error),
        ("warning", worker.warning.clone()),
        ("restarts", Some(worker.restarts.to_string())),
        ("failures", (known.failures > 0).then(|| format!("{} in a row", known.failures))),
        ("abandoned", counted(worker.abandoned_threads)),
        ("task failures", counted(worker.task_failures)),
        ("call panics", counted(worker.call_panics)),
        ("log", lost_log(worker, now)),
    ]
}

/// Which process is meant, of those that somebody else starts.
fn sought(config: &UnmanagedReport) -> String {
    let UnmanagedReport { pid_file, process_name, process_args, port, .. } = config;
    if let Some(file) = pid_file {
        return format!("the process whose id is in {file}");
    }
    if let Some(port) = port {
        return format!("the process that listens on TCP port {port}");
    }
    let name = quoted(std::slice::from_ref(process_name.as_ref().unwrap_or(&String::new())));
    match process_args.as_slice() {
        [] => format!("the process {name}"),
        words => format!("the process {name} with {}", quoted(words)),
    }
}

/// The policy that needs no word: nothing is lost by it.
const BLOCK: &str = LogOverflow::Block.as_str();

/// How it is started, kept and stopped.
fn rules(config: &ConfigReport) -> Vec<Line> {
    let check = config.health_check.as_ref().zip(config.health_interval_ms);
    let check = check.map(|(kind, every)| format!("{kind}, every {}", millis(every)));
    let signal = |signal| Exit::Signal { signal, core_dumped: false }.to_string();
    let codes = config.success_codes.iter().flatten().map(i32::to_string);
    let signals = config.success_signals.iter().flatten().map(|number| signal(*number));
    let codes = codes.chain(signals).collect::<Vec<_>>().join(", ");
    vec![
        ("start within", Some(millis(config.start_timeout_ms))),
        ("stop by", Some(ending(config))),
        ("restart", Some(restart(config))),
        ("health check", check),
        ("success codes", Some(codes).filter(|codes| !codes.is_empty())),
        ("on master exit", config.on_master_exit.clone()),
        ("log overflow", config.log_overflow.clone().filter(|policy| policy != BLOCK)),
    ]
}

/// How it is ended.
fn ending(config: &ConfigReport) -> String {
    let Some(limit) = config.stop_timeout_ms.map(millis) else {
        return "letting go of it: it is not ours to end, and lives on".to_owned();
    };
    let Some(signal) = config.stop_signal else {
        return format!("asking it, abandoned after {limit}");
    };
    let signal = Exit::Signal { signal, core_dumped: false };
    let asked = match config.protocol {
        true => format!("asking it, or {signal}"),
        false => signal.to_string(),
    };
    let alone = if config.kill_group == Some(false) { ", the leader alone" } else { "" };
    format!("{asked}, killed after {limit}{alone}")
}

/// When it is started again.
fn restart(config: &ConfigReport) -> String {
    let policy = &config.restart_policy;
    let trial = match config.half_open_after_ms {
        0 => String::new(),
        pause => format!(", then a trial every {}", millis(pause)),
    };
    match (policy.as_str(), config.max_retries) {
        ("never", _) => policy.clone(),
        (_, 0) => format!("{policy}, retries without end"),
        (_, max) => {
            let noun = if max == 1 { "retry" } else { "retries" };
            let reset = millis(config.reset_after_ms);
            format!("{policy}, {max} {noun}, counted anew after {reset}{trial}")
        }
    }
}

fn lines(text: &mut String, lines: &[Line]) {
    for (name, value) in lines {
        if let Some(value) = value {
            text.push_str(&format!("  {name:<14} {}\n", harmless(value)));
        }
    }
}

fn list(text: &mut String, title: &str, entries: impl Iterator<Item = String>) {
    let mut entries = entries.peekable();
    if entries.peek().is_some() {
        text.push_str(&format!("  {title}\n"));
    }
    for entry in entries {
        text.push_str(&format!("    {}\n", harmless(&entry)));
    }
}

/// A command's words; those that are not plain are put in quotes.
fn quoted(words: &[String]) -> String {
    let plain = |word: &String| {
        let plain = |char: char| char.is_alphanumeric() || "-_./:=,@%+".contains(char);
        !word.is_empty() && word.chars().all(plain)
    };
    let shown = words.iter().map(|word| match plain(word) {
        true => word.clone(),
        false => format!("'{}'", word.replace('\'', "'\\''")),
    });
    shown.collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::super::samples::{description, failed, now};
    use super::*;

    #[test]
    fn everything_known_is_told_in_groups() {
        assert_eq!(
            described(&description(failed()), now()),
            "\
web
  type           process
  command        /bin/web --motd 'it'\\''s\\u{7} on'
  directory      /srv
  variables      HOME, PORT
  state          failed since 2023-11-14T22:13:20Z (crash)
  goal           up, phase none
  health         none
  incarnation    3
  next start     in 2s
  last end       exit 3
  last error     crash, 3s ago: exit 3
  restarts       2
  failures       2 in a row
  start within   30s
  stop by        signal SIGTERM (15), killed after 10s
  restart        on-failure, 5 retries, counted anew after 1m00s, then a trial every 5m00s
  success codes  0
  on master exit stop
  history (UTC)
    2023-11-14T22:13:19Z  #3   starting -> running           started
    2023-11-14T22:13:20Z  #3   running -> failed             crash: exit 3
  last lines before it failed
    opening the database
    cannot: \\u{1b}[31mrefused
"
        );
    }

    #[test]
    fn that_lines_may_be_lost_is_told() {
        let of = |policy: &str| {
            let mut known = description(json!({}));
            known.config.log_overflow = Some(policy.to_owned());
            described(&known, now())
        };
        assert!(of("drop").contains("\n  log overflow   drop\n"), "{}", of("drop"));
        assert!(!of("block").contains("overflow"), "{}", of("block"));
    }

    #[test]
    fn what_is_one_is_told_as_one() {
        let uses = |threads: u64| {
            let usage = json!({ "cpu_percent": null, "rss_bytes": 2048, "threads": threads });
            described(&description(json!({ "usage": usage })), now())
        };
        assert!(uses(1).contains("2 KiB resident, 1 thread\n"), "{}", uses(1));
        assert!(uses(2).contains("2 KiB resident, 2 threads\n"), "{}", uses(2));
    }

    fn rule(differing: Value) -> String {
        let mut config = serde_json::to_value(description(json!({})).config).unwrap();
        config.as_object_mut().unwrap().extend(differing.as_object().unwrap().clone());
        let mut text = String::new();
        let config: ConfigReport = serde_json::from_value(config).unwrap();
        lines(&mut text, &[("looks for", config.unmanaged.as_ref().map(sought))]);
        lines(&mut text, &rules(&config));
        text
    }

    #[test]
    fn what_does_not_apply_is_not_told() {
        let none = json!({ "success_codes": null, "success_signals": null, "kill_group": null,
            "on_master_exit": null, "restart_policy": "never" });
        let with = |more: Value| {
            let mut all = none.clone();
            all.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
            rule(all)
        };
        assert_eq!(
            with(json!({ "stop_signal": null, "health_check": "module",
                "health_interval_ms": 10000 })),
            "  start within   30s
  stop by        asking it, abandoned after 10s
  restart        never
  health check   module, every 10s
"
        );
        let found = |what: Value, signal: Value, timeout: Value| {
            with(json!({ "unmanaged": what, "stop_signal": signal, "stop_timeout_ms": timeout }))
        };
        let by_name = json!({ "pid_file": null, "process_name": "my daemon",
            "process_args": ["-c", "a b"], "port": null, "can_terminate": false });
        assert_eq!(
            found(by_name, Value::Null, Value::Null),
            "  looks for      the process 'my daemon' with -c 'a b'
  start within   30s
  stop by        letting go of it: it is not ours to end, and lives on
  restart        never
"
        );
        let by_port = json!({ "pid_file": null, "process_name": null, "port": 80,
            "can_terminate": true });
        let told = found(by_port, 15.into(), 10000.into());
        assert!(told.contains("the process that listens on TCP port 80\n"), "{told}");
        assert!(told.contains("stop by        signal SIGTERM (15), killed after 10s\n"), "{told}");
        let by_file = json!({ "pid_file": "/run/x.pid", "process_name": null, "port": null,
            "can_terminate": true });
        let told = found(by_file, 15.into(), 10000.into());
        assert!(told.contains("the process whose id is in /run/x.pid\n"), "{told}");
        let told = rule(json!({ "protocol": true, "kill_group": false, "success_signals": [15] }));
        for part in ["asking it, or signal SIGTERM (15)", "the leader alone", "0, signal SIGTERM"] {
            assert!(told.contains(part), "{part}: {told}");
        }
    }
}
