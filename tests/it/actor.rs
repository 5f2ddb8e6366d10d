//! A worker that does as it is told, in each place where workers run: the same [`Behaviour`] played
//! by a module, wherever that runs, by a program that speaks the worker protocol, and by a script.

mod module;

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

use hsu_master::{Deployment, ErrorCategory, Integration, WorkerConfig, WorkerType};

use crate::support::{Bench, example};

pub(crate) use module::{At, Behaviour, How, Life, make};

impl Behaviour {
    pub(crate) fn new(bench: &Bench, lives: &[Life]) -> Self {
        let (voice, gate) = (bench.voice().to_owned(), bench.gate().to_owned());
        Self { lives: lives.to_vec(), voice, gate }
    }
}

/// Somewhere that workers run. Another place is another constant, and a line in `PLACES`.
pub(crate) struct Place {
    pub(crate) name: &'static str,
    pub(crate) deployment: Deployment,
    pub(crate) is_of_a_module: bool,
    /// False: this machine has not what it takes.
    pub(crate) is_there: fn() -> bool,
    /// A worker that behaves so there.
    pub(crate) worker: fn(&str, &Behaviour) -> WorkerConfig,
    /// What the failure of such a life is called there.
    pub(crate) category: fn(Life) -> ErrorCategory,
}

/// Every place that the conformance suite visits.
pub(crate) const PLACES: [Place; 6] =
    [THREAD, HOSTED, PLUGIN_AS_THREAD, HOSTED_PLUGIN, INTEGRATED, PROGRAM];

const THREAD: Place = Place {
    name: "thread",
    deployment: Deployment::Thread,
    is_of_a_module: true,
    is_there: || true,
    worker: |id, behaviour| WorkerConfig::native(id, "actor").config(json(behaviour)),
    category: of_a_module,
};

pub(crate) const HOSTED: Place = Place {
    name: "hosted",
    deployment: Deployment::Hosted,
    is_of_a_module: true,
    is_there: || true,
    worker: |id, behaviour| (THREAD.worker)(id, behaviour).worker_type(WorkerType::Process),
    category: of_a_module,
};

const PLUGIN_AS_THREAD: Place = Place {
    name: "plugin",
    deployment: Deployment::Thread,
    is_of_a_module: true,
    is_there: || cfg!(feature = "plugins"),
    worker: |id, behaviour| {
        let library = example("libactor_plugin.so");
        WorkerConfig::plugin(id, library.to_str().unwrap()).config(json(behaviour))
    },
    category: of_a_module,
};

const HOSTED_PLUGIN: Place = Place {
    name: "hosted plugin",
    deployment: Deployment::Hosted,
    is_of_a_module: true,
    is_there: || cfg!(feature = "plugins"),
    worker: |id, behaviour| {
        (PLUGIN_AS_THREAD.worker)(id, behaviour).worker_type(WorkerType::Process)
    },
    category: of_a_module,
};

/// A program in another language, that speaks the worker protocol.
const INTEGRATED: Place = Place {
    name: "integrated",
    deployment: Deployment::Hosted,
    is_of_a_module: false,
    is_there: || python().is_some(),
    worker: |id, behaviour| {
        let script = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/it/actor/actor.py");
        let program = WorkerConfig::executable(id, python().unwrap()).args(["-IS", script]);
        program.integration(Integration::Protocol).config(json(behaviour))
    },
    category: of_a_module,
};

/// The interpreter itself: what is called so may be a script that looks for it each time.
fn python() -> Option<&'static Path> {
    static FOUND: OnceLock<Option<PathBuf>> = OnceLock::new();
    let found = FOUND.get_or_init(|| {
        let itself = ["-c", "import sys; print(sys.executable)"];
        let told = Command::new("python3").args(itself).output().ok()?;
        let path = PathBuf::from(String::from_utf8(told.stdout).ok()?.trim());
        path.is_absolute().then_some(path)
    });
    found.as_deref()
}

fn json(behaviour: &Behaviour) -> serde_json::Value {
    serde_json::to_value(behaviour).unwrap()
}

fn of_a_module(life: Life) -> ErrorCategory {
    match life {
        Life::Unlaunchable => ErrorCategory::Network,
        Life::Unstartable => ErrorCategory::ResourceLimit,
        Life::Breaks => ErrorCategory::Panic,
        Life::Fails => ErrorCategory::Crash,
        Life::Hangs => ErrorCategory::Timeout,
        Life::Ignores => ErrorCategory::Stuck,
        Life::Stays | Life::Completes | Life::Speaks | Life::Logs | Life::Caught(..) => {
            ErrorCategory::Unknown
        }
    }
}

const PROGRAM: Place = Place {
    name: "program",
    deployment: Deployment::Program,
    is_of_a_module: false,
    is_there: || true,
    worker: |id, behaviour| {
        if behaviour.lives[0] == Life::Unlaunchable {
            return WorkerConfig::executable(id, "/nowhere/actor");
        }
        if behaviour.lives[0] == Life::Unstartable {
            // A file without `#!` is there and may be executed; that it cannot be shows at the
            // spawn.
            return WorkerConfig::executable(id, no_program(&behaviour.gate));
        }
        WorkerConfig::executable(id, "/bin/sh").args(["-c", &script(id, behaviour)])
    },
    category: |life| {
        if life == Life::Unlaunchable {
            ErrorCategory::ExecutableNotFound
        } else if life == Life::Unstartable {
            ErrorCategory::Configuration
        } else if matches!(life, Life::Breaks | Life::Fails) {
            ErrorCategory::Crash
        } else {
            ErrorCategory::Unknown
        }
    },
};

/// A file that may be executed and is no program, made by a shell: a descriptor of ours, open for
/// writing, could leak into another test's child for a moment, in which the file would be busy.
fn no_program(beside: &Path) -> PathBuf {
    let path = beside.with_file_name("no-program");
    let make = r#"echo nothing > "$1"; chmod 755 "$1""#;
    let made = Command::new("/bin/sh").args(["-c", make, "sh"]).arg(&path).status();
    assert!(made.unwrap().success());
    path
}

/// The behaviour as a shell script. A process does not know its incarnation: it counts its lives in
/// a file.
fn script(id: &str, behaviour: &Behaviour) -> String {
    let lives: Vec<_> = behaviour.lives.iter().map(|life| words(*life)).collect();
    let (last, before) = lives.split_last().unwrap();
    let cases: String =
        before.iter().enumerate().map(|(at, words)| format!("{}) {words};;\n", at + 1)).collect();
    let (voice, gate) = (behaviour.voice.display(), behaviour.gate.display());
    format!(
        "say() {{ echo \"{id} $n $1\" > {voice}; }}
        echo >> {gate}.{id}; n=0; while read -r line; do n=$((n + 1)); done < {gate}.{id}
        starts=$((starts + 1)); [ $starts = 1 ] || exit 99
        case $n in\n{cases}*) {last};;\nesac"
    )
}

fn words(life: Life) -> &'static str {
    match life {
        Life::Unlaunchable | Life::Unstartable | Life::Hangs | Life::Logs | Life::Caught(..) => {
            "exit 98"
        }
        Life::Stays => "say ready; exec sleep 1000",
        Life::Speaks => "echo hello, $HSU_WORKER_ID; exec sleep 1000",
        Life::Breaks => "kill -KILL $$",
        Life::Fails => "exit 3",
        Life::Completes => "exit 0",
        Life::Ignores => "trap '' TERM; say ready; exec sleep 1000",
    }
}
