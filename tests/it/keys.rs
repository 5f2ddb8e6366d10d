//! Every configuration key changes what happens. The keys are those of `src/config/tests/keys.txt`,
//! which a test beside the reader holds to what the reader reads: a key that is read and does
//! nothing, or that nobody has thought of here, cannot be.

mod health;
mod logs;
mod master;
mod module;
mod others;
mod program;
mod restart;
mod settings;
mod stop;

use std::collections::BTreeSet;
use std::sync::Mutex;

use hsu_master::crossbeam_channel::{Receiver, unbounded};
use hsu_master::{Error, Master, MasterConfig, WorkerDiagnostics, WorkerState};

use crate::actor;
use crate::support::{Bench, PATIENCE, example, until};
use module::Teller;

/// Every key there is.
const KEYS: &str = include_str!("../../src/config/tests/keys.txt");

/// What shows that a key does something.
#[derive(Clone, Copy)]
pub(crate) struct Row {
    key: &'static str,
    /// A file with the key, whose value is `%`. `@dir` is the file's directory, `@pid` this test's
    /// own process id, `@plugin` a library. Beside it there are
    /// `one.yaml` and `two.yaml`, each with a worker of its name, `one.env` and `two.env`.
    file: &'static str,
    /// Two values, and what comes of each of them.
    values: [(&'static str, &'static str); 2],
    /// Runs the file, and says what came of it. It is told what is expected: it may wait for that,
    /// and be sure that it is not what would have come before that.
    observe: fn(&Scene, &str) -> String,
}

/// All rows, each part with the key that its rows' begin with; the first that fits has the row.
const PARTS: [(&str, &[Row]); 14] = [
    ("master.", master::ROWS),
    ("defaults.", master::DEFAULTS),
    ("execution.", program::EXECUTION),
    ("limits.", settings::LIMITS),
    ("logs.", logs::ROWS),
    ("unmanaged.", others::ROWS),
    ("endpoints.", program::ENDPOINTS),
    ("start.", module::START),
    ("health_check.", health::ROWS),
    ("restart.", restart::ROWS),
    ("stop.", stop::ROWS),
    ("module_", module::ROWS),
    ("e", program::ENABLED),
    ("", program::ROWS),
];

/// A master that runs a file.
pub(crate) struct Scene {
    bench: Bench,
    /// What the module `teller` tells.
    told: Receiver<String>,
    directory: tempfile::TempDir,
}

impl Scene {
    fn new(file: &str) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("workers.yaml");
        let text = file.replace("@dir", directory.path().to_str().unwrap());
        let text = text.replace("@pid", &std::process::id().to_string());
        let text = match text.contains("@plugin") {
            true => text.replace("@plugin", example("libfaulty_plugin.so").to_str().unwrap()),
            false => text,
        };
        std::fs::write(&path, text).unwrap();
        for id in ["one", "two"] {
            let text = format!("workers: [{{id: {id}, command: sleep 1000}}]");
            std::fs::write(directory.path().join(format!("{id}.yaml")), text).unwrap();
            std::fs::write(directory.path().join(format!("{id}.env")), format!("A={id}")).unwrap();
        }
        let config = MasterConfig::load(&path);
        let config = config.unwrap_or_else(|error| panic!("{file}\n{error}"));
        let (tell, told) = unbounded();
        let tell = Mutex::new(tell);
        let teller = move || Teller::new(tell.lock().unwrap().clone());
        let builder = Master::builder().module("teller", teller).module("actor", actor::make);
        let builder = builder.host_program(example("actor_host")).seed(1).config(config);
        Self { bench: Bench::new(builder), told, directory }
    }

    /// Starts the worker `w`, whatever comes of it.
    fn start(&self) -> Result<u64, Error> {
        self.bench.master.start_worker("w")
    }

    fn known(&self) -> WorkerDiagnostics {
        self.bench.known("w")
    }

    fn once(&self, fits: impl Fn(&WorkerDiagnostics) -> bool) -> WorkerDiagnostics {
        self.bench.once("w", fits)
    }

    /// The next thing that the module tells.
    fn tells(&self) -> String {
        self.told.recv_timeout(PATIENCE).expect("the module told nothing more")
    }

    /// Whether something comes to be so. Where it is expected it is waited for; else a moment goes
    /// by, in which it would have come.
    fn comes(&self, expected: bool, so: impl Fn() -> bool) -> bool {
        if expected {
            until(&so);
            return true;
        }
        let (_silent, nothing) = unbounded::<()>();
        let _ = nothing.recv_timeout(crate::support::ms(100));
        so()
    }
}

/// How a start ended.
fn outcome(started: Result<u64, Error>) -> String {
    match started {
        Ok(_) => "started".to_owned(),
        Err(error) => error.category().to_string(),
    }
}

fn is_down(known: &WorkerDiagnostics) -> bool {
    known.state == WorkerState::Stopped
}

/// Plays the rows of one part.
fn play(part: &str) {
    let (_, rows) = PARTS.iter().find(|(name, _)| *name == part).unwrap();
    assert!(!rows.is_empty());
    for row in *rows {
        let [(_, one), (_, other)] = row.values;
        assert_ne!(one, other, "{}: it is to make a difference", row.key);
        let name = row.key.rsplit('.').next().unwrap();
        assert!(row.file.contains(&format!("{name}: %")), "{}: it is not in its file", row.key);
        for (value, expected) in row.values {
            let scene = Scene::new(&row.file.replace('%', value));
            let seen = (row.observe)(&scene, expected);
            assert_eq!(seen, expected, "{}: {value}", row.key);
        }
    }
}

#[test]
fn every_key_has_a_row_and_every_row_a_key() {
    let keys: BTreeSet<&str> = KEYS.lines().collect();
    let mut rows = BTreeSet::new();
    for (part, listed) in PARTS {
        for row in listed {
            assert!(rows.insert(row.key), "{} is there twice", row.key);
            let fits = |(name, _): &&(&str, &[Row])| row.key.starts_with(name);
            assert_eq!(PARTS.iter().find(fits).unwrap().0, part, "{}", row.key);
        }
    }
    let missing: Vec<_> = keys.difference(&rows).collect();
    assert!(missing.is_empty(), "keys that nothing shows to do anything: {missing:?}");
    let unknown: Vec<_> = rows.difference(&keys).collect();
    assert!(unknown.is_empty(), "no such keys: {unknown:?}");
}

macro_rules! parts {
    ($($test:ident $part:literal)*) => {
        $(#[test]
        fn $test() {
            play($part);
        })*

        #[test]
        fn every_part_is_played() {
            assert_eq!(PARTS.map(|(part, _)| part), [$($part),*]);
        }
    };
}

parts! {
    the_masters_keys_do_something "master."
    defaults_do_something "defaults."
    execution_does_something "execution."
    limits_do_something "limits."
    logs_do_something "logs."
    unmanaged_does_something "unmanaged."
    endpoints_do_something "endpoints."
    start_does_something "start."
    health_check_does_something "health_check."
    restart_does_something "restart."
    stop_does_something "stop."
    modules_keys_do_something "module_"
    enabled_and_entry_point_do_something "e"
    the_other_keys_of_workers_do_something ""
}
