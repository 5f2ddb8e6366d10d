//! The actor as a module: the same in the test's own program, in the program that is run for hosted
//! modules, and in the plugin. It knows nothing of where it is.

use std::fs::OpenOptions;
use std::io::{self, BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

use hsu_master::crossbeam_channel::{Receiver, Sender, bounded, select};
use hsu_master::{
    EndpointInfo, Error, ErrorCategory, Health, ModuleConfig, ModuleContext, ModuleInfo,
    ModuleResult, WorkerModule, current_worker,
};
use serde::{Deserialize, Serialize};

/// What a worker does with each of its lives. Plain data, so that any place can be handed it.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Behaviour {
    /// In order; the last one is repeated.
    pub(crate) lives: Vec<Life>,
    /// The FIFO into which it says `<worker> <life> ready` when nothing is left to set up.
    pub(crate) voice: PathBuf,
    /// The FIFO whose next line lets go of a module that hangs.
    pub(crate) gate: PathBuf,
}

/// What a worker does with one life.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Life {
    /// It cannot be launched. A process's first life alone can say so, for all.
    Unlaunchable,
    /// It cannot be started. As above.
    Unstartable,
    /// Its start does not return before it is asked to end. No program can do that.
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
    /// As `Stays`, after it has greeted its own name on standard output.
    Speaks,
    /// As `Stays`, and logs a line of each level wherever it comes along. Modules alone.
    Logs,
    /// It is caught by a trap in a callback. Modules alone.
    Caught(At, How),
}

/// Where a trap is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum At {
    Initialize,
    Start,
    Info,
    Health,
    Thread,
    Stop,
    Drop,
}

/// What a trap does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum How {
    Panics,
    /// It returns an error, where one can be returned.
    Fails,
    Hangs,
    /// It ends the process, with exit code 7.
    Exits,
    PanicsWhilePanicking,
    Aborts,
    OverflowsTheStack,
    Segfaults,
}

/// The factory. It has no configuration, so that its own trap is in the worker's name.
pub(crate) fn make() -> Actor {
    match current_worker().as_deref() {
        Some("factory-panics") => panic!("caught"),
        Some("factory-hangs") => loop {
            std::thread::park();
        },
        Some("factory-exits") => std::process::exit(7),
        Some(_) | None => Actor::default(),
    }
}

/// A module that does as it is told.
#[derive(Default)]
pub(crate) struct Actor {
    behaviour: Option<Behaviour>,
    /// What to do with this life.
    life: Option<Life>,
    /// Told by the first health check, which comes when it is up and never before.
    is_up: Option<Sender<()>>,
    starts: u32,
}

impl Actor {
    fn behaviour(&self) -> &Behaviour {
        self.behaviour.as_ref().expect("initialized")
    }

    /// Springs the trap, if it is here.
    fn trap(&self, at: At) -> ModuleResult {
        match self.life {
            Some(Life::Caught(known, how)) if known == at => spring(how, &self.behaviour().gate),
            Some(_) | None => Ok(()),
        }
    }
}

impl WorkerModule for Actor {
    fn initialize(&mut self, ctx: &ModuleContext, config: &ModuleConfig) -> ModuleResult {
        let behaviour: Behaviour = config.parse()?;
        let number = usize::try_from(ctx.incarnation() - 1)?;
        let life = behaviour.lives[number.min(behaviour.lives.len() - 1)];
        if life == Life::Unlaunchable {
            return Err(io::Error::from(io::ErrorKind::AddrInUse).into());
        }
        self.behaviour = Some(behaviour);
        self.life = Some(life);
        log_all("initialize", life, &self.behaviour().gate);
        self.trap(At::Initialize)
    }

    fn start(&mut self, ctx: &ModuleContext) -> ModuleResult {
        self.starts += 1;
        assert_eq!(self.starts, 1, "an instance is used for one life");
        let (life, Behaviour { voice, gate, .. }) = (self.life.unwrap(), self.behaviour());
        self.trap(At::Start)?;
        log_all("start", life, gate);
        export(ctx, life, voice, gate)?;
        match life {
            Life::Unstartable => {
                return Err(Error::new(ErrorCategory::ResourceLimit, "no room").into());
            }
            Life::Hangs => {
                ctx.stop_token().wait_stopped();
                return Ok(());
            }
            Life::Breaks | Life::Fails | Life::Completes | Life::Caught(At::Thread, _) => {
                let ((tell, is_up), behaviour) = (bounded(1), self.behaviour().clone());
                self.is_up = Some(tell);
                ctx.spawn("actor", move |ctx| act(&ctx, life, &is_up, &behaviour))?;
            }
            Life::Speaks => writeln!(io::stdout(), "hello, {}", ctx.worker_id())?,
            Life::Logs => {
                let gate = gate.clone();
                ctx.spawn("logs", move |_| {
                    log_all("thread", life, &gate);
                    Ok(())
                })?;
            }
            Life::Unlaunchable | Life::Stays | Life::Ignores | Life::Caught(..) => {
                say(voice, &format!("{} {} ready", ctx.worker_id(), ctx.incarnation()))?;
            }
        }
        ctx.publish(EndpointInfo::tcp("api", format!("127.0.0.1:{}", ctx.incarnation())));
        Ok(())
    }

    fn stop(&mut self, _ctx: &ModuleContext) -> ModuleResult {
        if self.life == Some(Life::Ignores) {
            hang(&self.behaviour().gate)?;
        }
        self.trap(At::Stop)
    }

    fn health(&self) -> Health {
        if let Some(is_up) = &self.is_up {
            let _ = is_up.try_send(());
        }
        match self.trap(At::Health) {
            Ok(()) => Health::healthy(),
            Err(error) => Health::unhealthy(error.to_string()),
        }
    }

    fn info(&self) -> ModuleInfo {
        // What cannot fail otherwise panics.
        self.trap(At::Info).unwrap();
        ModuleInfo::new("actor", "1")
    }
}

impl Drop for Actor {
    fn drop(&mut self) {
        self.trap(At::Drop).unwrap();
    }
}

fn say(voice: &Path, line: &str) -> ModuleResult {
    let mut voice = OpenOptions::new().append(true).open(voice)?;
    Ok(voice.write_all(format!("{line}\n").as_bytes())?)
}

/// Does what is to be done once up, unless the stop comes first.
fn act(
    ctx: &ModuleContext,
    life: Life,
    is_up: &Receiver<()>,
    behaviour: &Behaviour,
) -> ModuleResult {
    select! {
        recv(is_up) -> _ => {}
        recv(ctx.stop_token().receiver()) -> _ => return Ok(()),
    }
    match life {
        Life::Completes => ctx.complete(),
        Life::Fails => return Err("the actor was told to fail".into()),
        Life::Caught(_, how) => {
            say(&behaviour.voice, &format!("{} {} caught", ctx.worker_id(), ctx.incarnation()))?;
            return spring(how, &behaviour.gate);
        }
        Life::Breaks => panic!("the actor was told to break"),
        Life::Unlaunchable
        | Life::Unstartable
        | Life::Hangs
        | Life::Stays
        | Life::Ignores
        | Life::Speaks
        | Life::Logs => {}
    }
    Ok(())
}

/// Hangs until the gate lets go.
fn hang(gate: &Path) -> ModuleResult {
    let gate = OpenOptions::new().read(true).write(true).open(gate)?;
    BufReader::with_capacity(3, gate).read_line(&mut String::new())?;
    Ok(())
}

fn spring(how: How, gate: &Path) -> ModuleResult {
    match how {
        How::Panics => panic!("caught"),
        How::Fails => Err("caught".into()),
        How::Hangs => hang(gate),
        How::Exits => std::process::exit(7),
        How::PanicsWhilePanicking => {
            struct Trap;
            impl Drop for Trap {
                fn drop(&mut self) {
                    panic!("caught twice");
                }
            }
            let _trap = Trap;
            panic!("caught")
        }
        How::Aborts => std::process::abort(),
        How::OverflowsTheStack => {
            std::hint::black_box(deep(1));
            Ok(())
        }
        How::Segfaults => {
            #[expect(unsafe_code, reason = "no safe code can do that")]
            // SAFETY: nothing is there. The process is to end by it, and does.
            let read = unsafe { std::ptr::without_provenance::<u64>(1 << 12).read_volatile() };
            Err(format!("there is {read}").into())
        }
    }
}

/// Calls itself until there is no stack left.
fn deep(depth: u64) -> u64 {
    if depth == u64::MAX {
        return 0;
    }
    let frame = std::hint::black_box([depth; 64]);
    deep(depth + 1) + frame[usize::try_from(depth % 64).unwrap()]
}

/// Lines that the gate's path tells from those of other tests.
fn log_all(place: &str, life: Life, gate: &Path) {
    if life == Life::Logs {
        for level in log::Level::iter() {
            log::log!(target: "actor::of", level, "{place} {level} {}", gate.display());
        }
    }
}

#[derive(Serialize, Deserialize)]
struct Sum {
    terms: Vec<i64>,
}

/// Everything that a function may come to.
fn export(ctx: &ModuleContext, life: Life, voice: &Path, gate: &Path) -> ModuleResult {
    static COUNT: AtomicU64 = AtomicU64::new(0);
    let number = ctx.incarnation();
    ctx.export("echo", |payload| Ok(payload.to_vec()))?;
    ctx.export("life", move |_| Ok(number.to_string().into_bytes()))?;
    ctx.export("who", |_| Ok(current_worker().unwrap_or_default().into_bytes()))?;
    ctx.export("more", |payload| Ok(vec![0; payload.len() + 1]))?;
    ctx.export("count", |_| Ok((COUNT.fetch_add(1, Ordering::SeqCst) + 1).to_string().into()))?;
    ctx.export("panic", |_| panic!("out of paper"))?;
    ctx.export("fail", |payload| {
        Err(format!("out of ink{}", String::from_utf8_lossy(payload).repeat(8)).into())
    })?;
    let publisher = ctx.clone();
    ctx.export("publish", move |payload| {
        let name = String::from_utf8_lossy(payload).repeat(8);
        publisher.publish(EndpointInfo::tcp(&name, "127.0.0.1:1"));
        publisher.publish(EndpointInfo::tcp("long", &name));
        Ok(Vec::new())
    })?;
    ctx.export("refuse", |_| Err(Error::new(ErrorCategory::Refused, "not on Sundays").into()))?;
    ctx.export_json("sum", |sum: Sum| Ok(sum.terms.iter().sum::<i64>()))?;
    let log_at = gate.to_owned();
    ctx.export("log", move |payload| {
        if payload.is_empty() {
            log_all("function", life, &log_at);
        } else {
            log::info!("{}", String::from_utf8_lossy(payload));
        }
        Ok(Vec::new())
    })?;
    ctx.export_json("flood", |(mark, lines): (String, u32)| {
        for line in 0..lines {
            log::info!("{mark} {line}");
        }
        Ok(())
    })?;
    let own = ctx.clone();
    ctx.export("task", move |payload| {
        let message = String::from_utf8(payload.to_vec())?;
        own.spawn_task("job", |_| Err(message.into()))?;
        Ok(Vec::new())
    })?;
    let own = ctx.clone();
    ctx.export("adopt", move |_| {
        let own = own.clone();
        std::thread::Builder::new().spawn(move || {
            own.adopt_thread();
            panic!("caught");
        })?;
        Ok(Vec::new())
    })?;
    let own = ctx.clone();
    ctx.export("give-up", move |_| {
        own.fail(Error::new(ErrorCategory::Network, "no line"));
        Ok(Vec::new())
    })?;
    // What a module must not do, and what is its own affair in a process of its own.
    ctx.export("reap", |_| {
        let child = std::process::Command::new("true").spawn()?;
        #[expect(unsafe_code, reason = "there is no safe way to wait for any child")]
        // SAFETY: it takes no pointer but null.
        let reaped = unsafe { libc::waitpid(-1, std::ptr::null_mut(), 0) };
        Ok(format!("{}", u32::try_from(reaped)? == child.id()).into_bytes())
    })?;
    let (voice, gate) = (voice.to_owned(), gate.to_owned());
    ctx.export("slow", move |payload| {
        say(&voice, "slow")?;
        hang(&gate)?;
        Ok(payload.to_vec())
    })?;
    Ok(())
}
