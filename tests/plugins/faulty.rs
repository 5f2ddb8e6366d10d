//! A plugin for tests: its configuration says what it does in which callback, so that one library
//! shows every way in which a module can break.

#![forbid(unsafe_code)]

use hsu_master::{
    EndpointInfo, EndpointType, Error, ErrorCategory, Health, ModuleConfig, ModuleContext,
    ModuleInfo, ModuleResult, WorkerModule,
};
use serde::Deserialize;

/// What to do, by the name of a callback; nothing where nothing is said.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct Config {
    initialize: Act,
    start: Act,
    stop: Act,
    health: Act,
    info: Act,
    drop: Act,
    /// On a thread that is started with `spawn`.
    thread: Act,
    /// On a thread that is started with `spawn_task`.
    task: Act,
    /// On a thread that nobody knows.
    stranger: Act,
}

#[derive(Clone, Copy, Debug, Default, Deserialize, PartialEq, Eq)]
#[serde(rename_all = "snake_case")]
enum Act {
    #[default]
    Nothing,
    Panic,
    /// A panic without text.
    PanicAny,
    /// A panic whose payload panics when it is dropped.
    PanicTrap,
    Index,
    Error,
    Network,
    Rejected,
    /// An error of the configuration that another try may mend.
    Unsure,
    /// An error whose last line could be taken for a category.
    Talk,
    Complete,
    Fail,
    Hang,
}

struct Trap;

impl Drop for Trap {
    fn drop(&mut self) {
        panic!("the payload's own drop");
    }
}

impl Act {
    fn run(self, at: &str, ctx: Option<&ModuleContext>) -> ModuleResult {
        match self {
            Self::Nothing => {}
            Self::Panic => panic!("boom in {at}"),
            Self::PanicAny => std::panic::panic_any(42),
            Self::PanicTrap => std::panic::panic_any(Trap),
            Self::Index => drop([0_u8; 3][at.len() + 3..].to_vec()),
            Self::Error => return Err(format!("error in {at}").into()),
            Self::Network => {
                return Err(std::io::Error::from(std::io::ErrorKind::AddrInUse).into());
            }
            Self::Rejected => return Err(Error::configuration("config.port: no port").into()),
            Self::Unsure => {
                return Err(Error::new(ErrorCategory::Configuration, "no file yet").into());
            }
            Self::Talk => return Err("three\nlines\n[network]".into()),
            Self::Complete => ctx.into_iter().for_each(ModuleContext::complete),
            Self::Fail => ctx.into_iter().for_each(|ctx| ctx.fail(format!("failed in {at}"))),
            Self::Hang => loop {
                std::thread::park();
            },
        }
        Ok(())
    }
}

#[derive(Default)]
struct Faulty {
    config: Config,
}

impl WorkerModule for Faulty {
    fn initialize(&mut self, ctx: &ModuleContext, config: &ModuleConfig) -> ModuleResult {
        log::info!("initialize");
        self.config = config.parse()?;
        self.config.initialize.run("initialize", Some(ctx))
    }

    fn start(&mut self, ctx: &ModuleContext) -> ModuleResult {
        log::info!("start {}#{}", ctx.worker_id(), ctx.incarnation());
        log::debug!("for nobody");
        let Config { start, thread, task, stranger, .. } = self.config;
        ctx.spawn("work", move |ctx| {
            log::warn!("on a thread");
            thread.run("thread", Some(&ctx))?;
            ctx.stop_token().wait_stopped();
            log::info!("the thread ends");
            Ok(())
        })?;
        if task != Act::Nothing {
            ctx.spawn_task("task", move |ctx| task.run("task", Some(&ctx)))?;
        }
        if stranger != Act::Nothing {
            let unknown = std::thread::Builder::new();
            unknown.spawn(move || stranger.run("stranger", None).is_ok())?.join().unwrap_or(false);
        }
        ctx.export("upper", |payload| Ok(payload.to_ascii_uppercase()))?;
        ctx.export("who", |_| Ok(hsu_master::current_worker().unwrap_or_default().into_bytes()))?;
        ctx.export("panic", |_| panic!("boom in a function"))?;
        ctx.export("fail", |_| Err("error in a function".into()))?;
        ctx.export("refuse", |_| Err(Error::new(ErrorCategory::Refused, "not today").into()))?;
        ctx.export("large", |payload| Ok(vec![b'x'; payload.len() * 2]))?;
        ctx.publish(EndpointInfo::new("api", EndpointType::Tcp, "127.0.0.1:7"));
        start.run("start", Some(ctx))
    }

    fn stop(&mut self, ctx: &ModuleContext) -> ModuleResult {
        let fired = ctx.stop_token().is_stopped();
        log::info!("stop, fired {fired}, bounded {}", ctx.stop_token().deadline().is_some());
        self.config.stop.run("stop", Some(ctx))
    }

    fn health(&self) -> Health {
        match self.config.health.run("health", None) {
            Ok(()) => Health::healthy(),
            Err(error) => Health::unhealthy(error.to_string()),
        }
    }

    fn info(&self) -> ModuleInfo {
        let _ = self.config.info.run("info", None);
        ModuleInfo::new("faulty", "1.2.3").endpoint(EndpointInfo::tcp("listed", "127.0.0.1:8"))
    }
}

impl Drop for Faulty {
    fn drop(&mut self) {
        log::info!("drop");
        let _ = self.config.drop.run("drop", None);
    }
}

fn faulty_in_its_factory() -> Faulty {
    panic!("boom in the factory")
}

hsu_master::export_module!(Faulty::default);
hsu_master::export_module!(symbol = bad_factory, faulty_in_its_factory);
