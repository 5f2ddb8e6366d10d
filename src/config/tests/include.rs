//! Included files and replicas (FAULTS C17, C18): what is found, in which order, and where what is
//! wrong is placed.

use std::fs;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};

use super::super::{load, nothing};
use super::{MasterConfig, lookup, problems, read, shown};
use crate::error::Error;

/// A directory with these files; the first one is read.
struct Files(tempfile::TempDir);

impl Files {
    fn new(files: &[(&str, &str)]) -> Self {
        let directory = tempfile::tempdir().unwrap();
        for (name, text) in files {
            let path = directory.path().join(name);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        }
        Self(directory)
    }

    fn path(&self) -> &Path {
        self.0.path()
    }

    fn load(&self) -> Result<MasterConfig, Error> {
        load(&self.path().join("w.yaml"), &lookup, &nothing)
    }

    /// The problems, without the directory's name.
    fn problems(&self) -> Vec<String> {
        let directory = format!("{}/", self.path().display());
        let error = self.load().unwrap_err();
        let plain =
            |text: String| text.replace(&directory, "").trim_start_matches("w.yaml:").to_owned();
        shown(&error).into_iter().map(plain).collect()
    }
}

fn ids(config: &MasterConfig) -> Vec<&str> {
    config.workers.iter().map(|worker| worker.id.as_str()).collect()
}

#[test]
fn included_workers_follow_in_order_with_the_defaults_and_their_own_directory() {
    let files = Files::new(&[
        (
            "w.yaml",
            "include: [d/*.yaml, one.yml, d/b.yaml]\ndefaults: {restart: {max_retries: 7}}\n\
             workers: [{id: own, command: x}]\n",
        ),
        ("d/b.yaml", "workers: [{id: b, command: ./run}]\n"),
        ("d/a.yaml", "workers:\n- {id: a, command: x}\ninclude: [../deep/?.yaml]\n"),
        ("d/.hidden.yaml", "workers: [{id: hidden, command: x}]\n"),
        ("d/c.yaml.bak", "not read"),
        ("d/c.yaml/is-a-directory", ""),
        ("deep/1.yaml", "workers: [{id: deep, command: x}]\n"),
        ("deep/10.yaml", "not read"),
        ("one.yml", "workers: []\n"),
    ]);
    let config = files.load().unwrap();
    assert_eq!(ids(&config), ["own", "a", "deep", "b"]);
    assert_eq!(config.warnings, []);
    // What an included file says is a part of the whole.
    fs::write(files.path().join("one.yml"), "workers: [] # the same\n").unwrap();
    assert_ne!(files.load().unwrap().digest, config.digest);
    assert!(config.workers.iter().all(|worker| worker.restart.max_retries == 7));
    let execution = config.workers[3].execution.as_ref().unwrap();
    assert_eq!(execution.executable_path, files.path().join("d/run"));
    assert_eq!(execution.working_directory.as_deref(), Some(&*files.path().join("d")));
}

#[test]
fn problems_are_placed_in_the_file_that_has_them() {
    let files = Files::new(&[
        ("w.yaml", "workers:\n- {id: A, command: x}\n- {id: b}\ninclude: ['d/*']\n"),
        ("d/1", "workers:\n- {id: c, comand: x}\n- {id: a, command: x}\ndefaults: {}\n"),
        ("d/2", "workers: [\n"),
        ("d/3", "workers: [{id: c, command: x}]\n"),
    ]);
    let nothing = "has nothing to run; write command, execution, package, unmanaged or module_name";
    let expected = [
        &format!("3:4: workers[1]: {nothing}"),
        &format!("d/1:2:4: workers[0]: {nothing}"),
        "d/1:2:11: workers[0].comand: unknown key; did you mean `command`?",
        "d/1:3:8: workers[1].id: \"a\" is already used by workers[0] in line 2 of w.yaml",
        "d/1:4:1: defaults: unknown key; known here: workers, include",
    ];
    let found = files.problems();
    assert_eq!(found[..5], expected);
    assert!(found[5].starts_with("d/2:2:1: "), "{found:?}");
    let last = "d/3:1:16: workers[0].id: \"c\" is already used by workers[0] in line 2 of d/1";
    assert_eq!(found[6], last);
}

#[test]
fn c18_what_is_not_there_is_a_warning_of_a_pattern_and_an_error_of_a_name() {
    let files = Files::new(&[("w.yaml", "include: [d/*.yaml, '?.yml']\n")]);
    let config = files.load().unwrap();
    let warnings: Vec<_> = config.warnings.iter().map(|problem| problem.message.clone()).collect();
    let expected =
        [r#""d/*.yaml" names no file that is there"#, r#""?.yml" names no file that is there"#];
    assert_eq!(warnings, expected);
    let files = Files::new(&[("w.yaml", "include: [gone.yaml, '*/x.yaml', d]\n"), ("d/x", "")]);
    let found = files.problems();
    assert!(found[0].starts_with("1:11: include[0]: gone.yaml cannot be opened: "), "{found:?}");
    assert!(found[1].contains("has `*` or `?` in a directory"), "{found:?}");
    assert_eq!(found[2], "1:34: include[2]: d is a directory; name the file in it");
}

#[test]
fn c18_loops_are_named_and_depth_and_number_have_an_end() {
    let files = Files::new(&[
        ("w.yaml", "include: [a.yaml]\n"),
        ("a.yaml", "include: [b.yaml]\n"),
        ("b.yaml", "include: ['[ab].yaml', a.yaml]\n"),
    ]);
    let found = files.problems();
    assert!(found[0].contains("[ab].yaml cannot be opened"), "no other wildcards: {found:?}");
    assert!(found[1].contains("a.yaml includes itself: w.yaml -> a.yaml -> b.yaml -> a.yaml"));

    let names: Vec<_> =
        (0..11).map(|n| (format!("{n}"), format!("include: ['{}']\n", n + 1))).collect();
    let mut all: Vec<(&str, &str)> = names.iter().map(|(a, b)| (a.as_str(), b.as_str())).collect();
    all.push(("w.yaml", "include: ['0']\n"));
    let found = Files::new(&all).problems();
    assert_eq!(found, ["7:1:11: include[0]: 8 is more than 8 files away from the first one"]);

    let names: Vec<_> = (0..300).map(|n| format!("d/{n}")).collect();
    let mut all: Vec<(&str, &str)> = names.iter().map(|name| (name.as_str(), "")).collect();
    all.push(("w.yaml", "include: ['d/*']\n"));
    let found = Files::new(&all).problems();
    assert!(found[0].contains("at most 256 files"), "{}", found[0]);
}

#[test]
fn c17_a_file_that_changes_under_the_reader_is_read_whole_or_not_at_all() {
    let files = Files::new(&[("w.yaml", "workers: []\n")]);
    let path = files.path().join("w.yaml");
    let of = |name: &str| {
        let worker = |n| format!("- {{id: {name}-{n}, command: x}}\n");
        format!("workers:\n{}", (0..100).map(worker).collect::<String>())
    };
    let (short, long) = (of("a"), of("a-long-name"));
    let stop = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let write = || {
            for text in [&short, &long].into_iter().cycle() {
                if stop.load(Ordering::Relaxed) {
                    break;
                }
                // As an editor does that writes in place.
                fs::write(&path, text).unwrap();
            }
        };
        let writer = std::thread::Builder::new().spawn_scoped(scope, write).unwrap();
        for _ in 0..50 {
            let Ok(config) = files.load() else { continue };
            let all = ids(&config);
            let same = |name: &&str| name.starts_with("a-long") == all[0].starts_with("a-long");
            assert!(all.is_empty() || all.len() == 100 && all.iter().all(same), "a mixture");
        }
        stop.store(true, Ordering::Relaxed);
        writer.join().unwrap();
    });
}

#[test]
fn replicas_are_numbered_and_know_their_number() {
    let text = "
workers:
- id: w
  replicas: 3
  command: [x, '--port', '80${INDEX}', '${ID}', '${PORT}']
  execution: {environment: {NAME: 'n-${INDEX}'}}
- {id: one, replicas: 1, command: ['x', '${INDEX}', '${ID}']}
";
    let config = read(text).unwrap();
    assert_eq!(ids(&config), ["w-1", "w-2", "w-3", "one"]);
    let args = |n: usize| config.workers[n].execution.as_ref().unwrap().args.clone();
    assert_eq!(args(1), ["--port", "802", "w-2", "8080"]);
    assert_eq!(args(3), ["1", "one"]);
    let environment = &config.workers[2].execution.as_ref().unwrap().environment;
    assert_eq!(environment["NAME"], "n-3");
}

#[test]
fn what_is_wrong_with_replicas_is_told_once() {
    for (worker, expected) in [
        ("{id: w, command: x, replicas: 0}", "1:41: workers[0].replicas: must be from 1 to 1000"),
        (
            "{id: w, command: x, replicas: 1001}",
            "1:41: workers[0].replicas: must be from 1 to 1000",
        ),
        (
            "{id: w, command: x, replicas: 9, restart: {jitter: 2}}",
            "1:62: workers[0].restart.jitter: must be at most 1",
        ),
        (
            "{id: w, command: x, replicas: 2, main: true}",
            "1:50: workers[0].main: contradicts replicas: one worker's end can end the master",
        ),
        (
            "{id: w-2, command: x}, {id: w, command: x, replicas: 3}",
            "1:39: workers[1].id: \"w-2\" is already used by workers[0] in line 1",
        ),
        (
            "{id: a, command: x, main: true}, {id: b, command: x, main: true}",
            "1:70: workers[1].main: is \"a\" already: one worker's end can end the master",
        ),
    ] {
        assert_eq!(problems(&format!("workers: [{worker}]\n")), [expected], "{worker}");
    }
    let long = "x".repeat(63);
    let found = problems(&format!("workers: [{{id: {long}, replicas: 2, command: x}}]\n"));
    assert!(found[0].contains("is 65 bytes long"), "{found:?}");
    let many = "{id: wN, command: x, replicas: 1000},\n";
    let many: String = (0..11).map(|n| many.replace('N', &format!("{n}x"))).collect();
    let found = problems(&format!("workers: [{many}]\n"));
    assert!(found[0].contains("there may be 10000 workers"), "{found:?}");
    let error = crate::WorkerConfig::from_yaml("{id: w, command: x, replicas: 2}").unwrap_err();
    assert_eq!(shown(&error), ["1:31: replicas: makes several workers, and this is to be one"]);
}

#[test]
fn a_main_worker_is_not_restarted_unless_somebody_says_so() {
    use crate::worker::RestartPolicy::{Always, Never, OnFailure};
    for (text, policy) in [
        ("workers: [{id: a, command: x, main: true}]", Never),
        ("workers: [{id: a, command: x, main: true, restart: {max_retries: 1}}]", Never),
        ("workers: [{id: a, command: x, main: true, restart: {policy: on-failure}}]", OnFailure),
        (
            "defaults: {restart: {policy: always}}\nworkers: [{id: a, command: x, main: true}]",
            Always,
        ),
        ("workers: [{id: a, command: x, main: false}]", OnFailure),
    ] {
        assert_eq!(read(text).unwrap().workers[0].restart.policy, policy, "{text}");
    }
}
