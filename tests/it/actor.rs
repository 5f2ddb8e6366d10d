//! A worker that does as it is told, in each place where workers run: the same [`Behaviour`] played
//! by a module and by a shell script.

use std::fs::OpenOptions;
use std::io::{self, BufRead, BufReader, Write};
use std::path::{Path, PathBuf};

use hsu_master::crossbeam_channel::{Receiver, Sender, bounded, select};
use hsu_master::{
    EndpointInfo, Error, ErrorCategory, Health, ModuleConfig, ModuleContext, ModuleInfo,
    ModuleResult, WorkerConfig, WorkerModule, WorkerType,
};
use serde::{Deserialize, Serialize};

use crate::support::Bench;

/// What a worker does with each of its lives. Plain data, so that any place can be handed it.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Behaviour {
    /// In order; the last one is repeated.
    pub(crate) lives: Vec<Life>,
    /// The FIFO into which it says `<worker> <life> ready` when nothing is left to set up.
    voice: PathBuf,
    /// The FIFO whose next line lets go of a module that hangs.
    gate: PathBuf,
}

/// What a worker does with one life.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Life {
    /// It cannot be launched. A process's first life alone can say so, for all.
    Unlaunchable,
    /// It cannot be started. As above.
    Unstartable,
    /// Its start does not return before it is asked to end. No process can do that.
    Hangs,
    /// Once up it runs until it is asked to end.
    Stays,
    /// Once up it panics, or is ended by a signal.
    Breaks,
    /// Once up it says that it failed: with an error, or with exit code 3.
    Fails,
    /// Once up it has done its work.
    Completes,
    /// Once up it runs, also when it is asked to end.
    Ignores,
    /// As `Stays`, after it has greeted its own name on standard output. Processes alone.
    Speaks,
}

impl Behaviour {
    pub(crate) fn new(bench: &Bench, lives: &[Life]) -> Self {
        let (voice, gate) = (bench.voice().to_owned(), bench.gate().to_owned());
        Self { lives: lives.to_vec(), voice, gate }
    }

    /// What to do with the life of this number, from 1.
    fn life(&self, number: u64) -> Life {
        let index = usize::try_from(number - 1).unwrap().min(self.lives.len() - 1);
        self.lives[index]
    }
}

/// Somewhere that workers run. Another place is another constant, and a line in `PLACES`.
pub(crate) struct Place {
    pub(crate) name: &'static str,
    pub(crate) deployment: WorkerType,
    /// A worker that behaves so there.
    pub(crate) worker: fn(&str, &Behaviour) -> WorkerConfig,
    /// What the failure of such a life is called there.
    pub(crate) category: fn(Life) -> ErrorCategory,
}

/// Every place that the conformance suite visits.
pub(crate) const PLACES: [Place; 2] = [MODULE, PROCESS];

const MODULE: Place = Place {
    name: "module",
    deployment: WorkerType::Module,
    worker: |id, behaviour| {
        WorkerConfig::native(id, "actor").config(serde_json::to_value(behaviour).unwrap())
    },
    category: |life| match life {
        Life::Unlaunchable => ErrorCategory::Network,
        Life::Unstartable => ErrorCategory::ResourceLimit,
        Life::Breaks => ErrorCategory::Panic,
        Life::Fails => ErrorCategory::Crash,
        Life::Hangs => ErrorCategory::Timeout,
        Life::Ignores => ErrorCategory::Stuck,
        Life::Stays | Life::Completes | Life::Speaks => ErrorCategory::Unknown,
    },
};

const PROCESS: Place = Place {
    name: "process",
    deployment: WorkerType::Process,
    worker: |id, behaviour| match behaviour.lives[0] {
        Life::Unlaunchable => WorkerConfig::executable(id, "/nowhere/actor"),
        // A file without `#!` is there and may be executed; that it cannot be shows at the spawn.
        Life::Unstartable => WorkerConfig::executable(id, no_program(&behaviour.gate)),
        Life::Hangs
        | Life::Stays
        | Life::Breaks
        | Life::Fails
        | Life::Completes
        | Life::Ignores
        | Life::Speaks => {
            WorkerConfig::executable(id, "/bin/sh").args(["-c", &script(id, behaviour)])
        }
    },
    category: |life| match life {
        Life::Unlaunchable => ErrorCategory::ExecutableNotFound,
        Life::Unstartable => ErrorCategory::Configuration,
        Life::Breaks | Life::Fails => ErrorCategory::Crash,
        Life::Hangs | Life::Stays | Life::Completes | Life::Ignores | Life::Speaks => {
            ErrorCategory::Unknown
        }
    },
};

/// A file that may be executed and is no program, made by a shell: a descriptor of ours, open for
/// writing, could leak into another test's child for a moment, in which the file would be busy.
fn no_program(beside: &Path) -> PathBuf {
    let path = beside.with_file_name("no-program");
    let make = r#"echo nothing > "$1"; chmod 755 "$1""#;
    let made = std::process::Command::new("/bin/sh").args(["-c", make, "sh"]).arg(&path).status();
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
        Life::Unlaunchable | Life::Unstartable | Life::Hangs => "exit 98",
        Life::Stays => "say ready; exec sleep 1000",
        Life::Speaks => "echo hello, $HSU_WORKER_ID; exec sleep 1000",
        Life::Breaks => "kill -KILL $$",
        Life::Fails => "exit 3",
        Life::Completes => "exit 0",
        Life::Ignores => "trap '' TERM; say ready; exec sleep 1000",
    }
}

/// The behaviour as a module.
#[derive(Default)]
pub(crate) struct Actor {
    behaviour: Option<Behaviour>,
    /// Told by the first health check, which comes when it is up and never before.
    is_up: Option<Sender<()>>,
    starts: u32,
}

impl Actor {
    fn behaviour(&self) -> &Behaviour {
        self.behaviour.as_ref().expect("initialized")
    }
}

impl WorkerModule for Actor {
    fn initialize(&mut self, ctx: &ModuleContext, config: &ModuleConfig) -> ModuleResult {
        let behaviour: Behaviour = config.parse()?;
        if behaviour.life(ctx.incarnation()) == Life::Unlaunchable {
            return Err(io::Error::from(io::ErrorKind::AddrInUse).into());
        }
        self.behaviour = Some(behaviour);
        Ok(())
    }

    fn start(&mut self, ctx: &ModuleContext) -> ModuleResult {
        self.starts += 1;
        assert_eq!(self.starts, 1, "an instance is used for one life");
        let life = self.behaviour().life(ctx.incarnation());
        match life {
            Life::Unstartable => {
                return Err(Error::new(ErrorCategory::ResourceLimit, "no room").into());
            }
            Life::Hangs => {
                ctx.stop_token().wait_stopped();
                return Ok(());
            }
            Life::Breaks | Life::Fails | Life::Completes => {
                let (tell, is_up) = bounded(1);
                self.is_up = Some(tell);
                ctx.spawn("actor", move |ctx| act(&ctx, life, &is_up))?;
            }
            Life::Unlaunchable | Life::Stays | Life::Ignores | Life::Speaks => {
                let line = format!("{} {} ready\n", ctx.worker_id(), ctx.incarnation());
                let mut voice = OpenOptions::new().append(true).open(&self.behaviour().voice)?;
                voice.write_all(line.as_bytes())?;
            }
        }
        ctx.publish(EndpointInfo::tcp("api", format!("127.0.0.1:{}", ctx.incarnation())));
        Ok(())
    }

    fn stop(&mut self, ctx: &ModuleContext) -> ModuleResult {
        if self.behaviour().life(ctx.incarnation()) == Life::Ignores {
            let gate = OpenOptions::new().read(true).write(true).open(&self.behaviour().gate)?;
            BufReader::with_capacity(3, gate).read_line(&mut String::new())?;
        }
        Ok(())
    }

    fn health(&self) -> Health {
        if let Some(is_up) = &self.is_up {
            let _ = is_up.try_send(());
        }
        Health::healthy()
    }

    fn info(&self) -> ModuleInfo {
        ModuleInfo::new("actor", "1")
    }
}

/// Does what is to be done once up, unless the stop comes first.
fn act(ctx: &ModuleContext, life: Life, is_up: &Receiver<()>) -> ModuleResult {
    select! {
        recv(is_up) -> _ => {}
        recv(ctx.stop_token().receiver()) -> _ => return Ok(()),
    }
    if life == Life::Completes {
        ctx.complete();
    } else if life == Life::Fails {
        return Err("the actor was told to fail".into());
    } else {
        panic!("the actor was told to break");
    }
    Ok(())
}
