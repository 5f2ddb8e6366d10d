//! hsu-master's older format: what is made of it, what is said of it, and that nothing is lost.

use super::super::older::Translation;
use super::fuzz::{Random, mutate};
use super::*;
use crate::worker::{Ratio, RestartPolicy, UnmanagedConfig};

const SMALL: &str = include_str!("older/small.yaml");
const LARGE: &str = include_str!("older/large.yaml");

/// Reads a file `old.yaml` in `/etc/app`. No variable is known: a `$` of the older format means
/// nothing.
fn translated(text: &str) -> Result<(MasterConfig, Option<Translation>), Error> {
    let directory = Some(Path::new("/etc/app"));
    let source = Source { file: "old.yaml", directory, lookup: &|_| None, check: &nothing };
    master_and_translation(source, text)
}

fn without_warnings(mut config: MasterConfig) -> MasterConfig {
    config.warnings.clear();
    config.digest = None;
    config
}

/// A file with one managed worker that has this in its `control`, beside something to run.
fn controlled(control: &str) -> String {
    format!(
        "workers:\n- id: a\n  type: managed\n  unit:\n    managed:\n      control:\n        \
         execution: {{executable_path: /bin/x}}\n        {control}\n"
    )
}

#[test]
fn the_small_file_runs_as_it_did() {
    let (config, translation) = translated(SMALL).unwrap();
    assert!(translation.is_some());
    assert_eq!(config.shutdown_timeout, Duration::from_secs(20));
    let [worker] = &config.workers[..] else { panic!("one worker") };
    let execution = worker.execution.as_ref().unwrap();
    assert_eq!((worker.id.as_str(), worker.enabled), ("ticker", true));
    assert_eq!(execution.executable_path, Path::new("/bin/sleep"));
    assert_eq!(
        (&execution.args[..], &*execution.environment["A"]),
        (&["1000".to_owned()][..], "1")
    );
    assert_eq!(execution.working_directory.as_deref(), Some(Path::new("/bin")));
    // The profile `worker` doubles both.
    assert_eq!(worker.restart.policy, RestartPolicy::Always);
    assert_eq!(worker.restart.max_retries, 6);
    assert_eq!(worker.restart.retry_delay, Duration::from_secs(2));
    assert_eq!(worker.restart.backoff_rate, Ratio::from_thousandths(1500));
    assert_eq!(worker.stop.timeout, Duration::from_secs(5));
    let check = worker.health_check.as_ref().unwrap();
    assert_eq!((check.interval.as_secs(), check.timeout.as_secs(), check.retries), (10, 5, 2));
    assert!(worker.is_checked_by_presence());
}

/// A translation as it will be when nothing of it is pending.
fn settled(text: &str) -> String {
    let mut settled = String::new();
    let mut pending = None;
    for line in text.lines() {
        let (indent, rest) = line.split_at(line.len() - line.trim_start().len());
        if rest.starts_with("# pending, ") {
            pending = Some(indent);
            continue;
        }
        let held = rest.strip_prefix("# ").filter(|_| pending == Some(indent));
        pending = pending.filter(|_| held.is_some());
        settled.extend([indent, held.unwrap_or(rest), "\n"]);
    }
    settled
}

#[test]
fn what_is_not_known_yet_is_kept_and_told_and_what_is_known_is_not() {
    use super::super::schema::names;
    use super::super::worker::{EXECUTION, WORKER};
    let (config, translation) = translated(LARGE).unwrap();
    let text = translation.unwrap().text("old.yaml");
    for (path, key, known) in [
        ("workers[0].limits", "    limits:\n", names(WORKER).contains(&"limits")),
        ("workers[0].logs", "    logs:\n", names(WORKER).contains(&"logs")),
        ("workers[0].execution.nice", "      nice: 5\n", names(EXECUTION).contains(&"nice")),
    ] {
        let told = config
            .warnings
            .iter()
            .any(|told| told.path == path && told.message.contains("is pending"));
        assert_eq!(told, !known, "{path}");
        assert_eq!(text.contains(key), known, "{path}");
        assert!(settled(&text).contains(key), "{path}");
    }
}

/// The exact text and warnings of the large file, which has every key.
#[test]
fn every_key_becomes_what_it_meant_or_is_told() {
    let (config, translation) = translated(LARGE).unwrap();
    let text = settled(&translation.unwrap().text("old.yaml"));
    let lasting = config.warnings.iter().filter(|told| !told.message.contains("is pending"));
    let warnings: String = lasting.map(|warning| format!("{warning}\n")).collect();
    let told = include_str!("older/large.warnings.txt");
    assert!(text == include_str!("older/large.translated.yaml"), "{text}");
    assert!(warnings == told, "{warnings}");
}

#[test]
fn a_translation_says_the_same_as_the_file() {
    for text in [SMALL, LARGE] {
        let (config, translation) = translated(text).unwrap();
        let printed = translation.unwrap().text("old.yaml");
        let (again, nothing) = translated(&printed).unwrap();
        assert!(nothing.is_none(), "it is in today's format");
        // That a stop is cut short by the shutdown is so in both.
        let same = config.warnings.iter().filter(|w| w.message.contains("cut short")).count();
        assert_eq!(again.warnings.len(), same, "{:?}", again.warnings);
        assert_eq!(without_warnings(again), without_warnings(config));
    }
}

#[test]
fn processes_of_others_are_found_as_they_were() {
    let (config, _) = translated(LARGE).unwrap();
    let unmanaged: Vec<_> =
        config.workers.iter().filter_map(|worker| worker.unmanaged.clone()).collect();
    let expected = [
        UnmanagedConfig::pid_file("/run/nginx.pid").can_terminate(true),
        UnmanagedConfig::process_name("agent").process_args(["-d", "7"]),
        UnmanagedConfig::port(8080).can_terminate(true),
    ];
    assert_eq!(unmanaged, expected);
    for worker in config.workers.iter().filter(|worker| worker.unmanaged.is_some()) {
        assert_eq!(worker.restart, UnmanagedConfig::restart());
    }
}

#[test]
fn durations_are_gos() {
    for (written, expected) in [
        ("1h30m", "90m"),
        ("1.5h", "90m"),
        ("0.25s", "250ms"),
        (".5s", "500ms"),
        ("1m0.000000001s", "60000000001ns"),
        ("500us", "500us"),
        ("2\u{b5}s", "2us"),
        ("0", "0s"),
        ("'0s'", "0s"),
        ("+3s", "3s"),
        ("5000000000", "5s"),
        ("1", "1ns"),
    ] {
        let text = controlled(&format!("graceful_timeout: {written}"));
        let (config, translation) = translated(&text).unwrap();
        let printed = translation.unwrap().text("x");
        assert!(printed.contains(&format!("timeout: {expected}\n")), "{written}: {printed}");
        assert_eq!(
            config.workers[0].stop.timeout,
            crate::units::parse_duration(expected).unwrap(),
            "{written}"
        );
    }
}

#[test]
fn a_limit_of_zero_was_none() {
    let none = "limits: {memory: {max_rss: 0, max_virtual: 0}, \
                cpu: {max_cores: 0.0, max_time: 0s}, process: {max_processes: 0}}";
    let (config, translation) = translated(&controlled(none)).unwrap();
    assert_eq!(config.warnings, []);
    assert_eq!(config.workers[0].limits, crate::worker::LimitsConfig::default());
    let text = translation.unwrap().text("x");
    for limit in [
        "memory.max_rss",
        "hard.memory",
        "cpu.max_percent",
        "cpu.max_time",
        "process.max_processes",
    ] {
        let told = format!("# limits.{limit} was 0, which is no limit, and is left out\n");
        assert!(text.contains(&told), "{limit}: {text}");
    }
    assert!(!text.contains("limits:"), "{text}");
    let some = "limits: {memory: {max_rss: 0, max_virtual: 2097152}}";
    let (config, _) = translated(&controlled(some)).unwrap();
    assert_eq!(config.workers[0].limits.hard.memory, Some(2 << 20));
}

/// The problems of a text, without the file's name.
fn told(text: &str) -> Vec<String> {
    let error = translated(text).err().unwrap_or_else(|| panic!("{text:?} was accepted"));
    let told = error.problems().iter().map(ToString::to_string);
    told.map(|problem| problem.trim_start_matches("old.yaml:").to_owned()).collect()
}

#[test]
fn mistakes_are_told_at_their_place_in_the_older_file() {
    for (control, expected) in [
        ("graceful_timeout: 5", ""),
        ("graceful_timeout: '5'", "8:27: workers[0].stop.timeout: \"5\" has no unit"),
        ("graceful_timeout: -5s", "8:27: workers[0].stop.timeout: \"-5s\" is not a duration"),
        ("graceful_timeout: [1]", "8:28: workers[0].stop.timeout: must be a duration"),
        (
            "restart_policy: sometimes",
            "8:25: workers[0].restart.policy: \"sometimes\" is not known",
        ),
        ("restart: {max_retries: many}", "8:32: workers[0].restart.max_retries: \"many\" is not"),
        ("restart: {backoff_rate: 0.5}", "8:33: workers[0].restart.backoff_rate: must be at least"),
        ("limits: 5", "8:17: workers[0].unit.managed.control.limits: must be a mapping"),
        (
            "restart: {a: 1, a: 2}",
            "8:25: workers[0].unit.managed.control.restart.a: is written twice",
        ),
    ] {
        let text = controlled(control);
        match expected {
            "" => assert!(translated(&text).is_ok(), "{control}"),
            expected => {
                let told = told(&text);
                assert!(told.iter().any(|told| told.starts_with(expected)), "{control}: {told:?}");
            }
        }
    }
    let unmanaged = |discovery: &str| {
        format!("workers: [{{id: a, type: unmanaged, unit: {{unmanaged: {{{discovery}}}}}}}]\n")
    };
    for (text, expected) in [
        (
            unmanaged("discovery: {method: service-name, service_name: x}"),
            "services are not looked up",
        ),
        (unmanaged("discovery: {method: port, port: 5, protocol: udp}"), "must be tcp"),
        (unmanaged("control: {}"), "has nothing to run"),
        ("workers: [{id: a, type: managed}]\n".to_owned(), "has no unit"),
        ("workers: [{id: a, unit: {}}]\n".to_owned(), "must be of one kind"),
        (
            "workers: [{id: a, type: managed, unit: {integrated: {}}}]\n".to_owned(),
            "has no `managed`",
        ),
        ("workers: [{id: a, type: 1, unit: {managed: {}}}]\n".to_owned(), "must be managed,"),
        (
            "workers: [{type: managed, unit: {managed: {}}}]\n".to_owned(),
            "workers[0].id: is missing",
        ),
    ] {
        let told = told(&text);
        assert!(told.iter().any(|told| told.contains(expected)), "{text}: {told:?}");
    }
}

#[test]
fn a_file_is_wholly_in_one_format() {
    let text = "workers:\n- {id: a, command: x}\n- {id: b, type: managed, unit: {}}\n";
    let problem = "3:26: workers[1]: is in the format of hsu-master's Go version, and workers[0] \
                   in line 2 is not: a file is wholly in one format";
    assert_eq!(told(text), [problem]);
    let text = format!("defaults: {{}}\n{SMALL}");
    assert!(told(&text)[0].starts_with("1:1: defaults: is not of the format"), "{:?}", told(&text));
    // What a worker of today may have does not make it one of then.
    assert!(translated("workers: [{id: unit, command: managed}]\n").unwrap().1.is_none());
}

#[test]
fn a_key_that_is_not_known_is_named() {
    let (config, _) = translated(&controlled("restrat: {policy: always}")).unwrap();
    let shown: Vec<String> = config.warnings.iter().map(ToString::to_string).collect();
    let expected = "old.yaml:8:9: workers[0].unit.managed.control.restrat: is no key of \
                    hsu-master's Go version here, and is left out";
    assert_eq!(shown, [expected]);
}

const PIECES: &[&str] = &[
    "{",
    "}",
    "[",
    "]",
    ": ",
    "- ",
    "\n",
    "\n    ",
    "\"",
    "'",
    "~",
    "$",
    "${A}",
    "$$",
    "\\",
    "1.10",
    "-1",
    "true",
    "0s",
    "1.5h",
    "99999999999999999999",
    "\u{85}",
    "\u{2028}",
    "ä",
    "\\x07",
    ".inf",
    "unit:",
    "managed:",
    "integrated:",
    "unmanaged:",
    "type: ",
    "port",
    "--port",
    "=",
    "http",
    "tcp",
    "process",
    "restart",
    "policy: ",
    "max_retries: ",
    "limits: ",
    "id: b",
    ",",
    "#",
    "&a ",
    "*a",
];

#[test]
fn no_older_file_makes_the_reader_panic_and_every_translation_says_the_same() {
    let mut random = Random(0x9E37_79B9_7F4A_7C15);
    let (mut accepted, mut older) = (0, 0);
    for round in 0..1_000 {
        let seed = if round % 4 == 0 { LARGE } else { SMALL };
        let mut text: Vec<char> = seed.chars().collect();
        for _ in 0..=random.below(3) {
            mutate(&mut text, PIECES, &mut random);
        }
        let text: String = text.into_iter().collect();
        let Ok((config, translation)) = translated(&text) else { continue };
        accepted += 1;
        let Some(translation) = translation else { continue };
        older += 1;
        let printed = translation.text("old.yaml\n\u{7}");
        let again = translated(&printed);
        let (again, _) = again.unwrap_or_else(|error| panic!("{text}\n\n{printed}\n{error}"));
        assert_eq!(without_warnings(again), without_warnings(config), "{text}\n\n{printed}");
    }
    // All sides are visited.
    assert!((100..990).contains(&accepted) && older > 100, "{accepted} {older}");
}
