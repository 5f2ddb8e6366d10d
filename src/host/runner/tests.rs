//! The runner driven over a link that encodes and decodes every order and report, as a child's
//! does.

mod functions;
mod panics;

use std::sync::Mutex;
use std::time::Duration;

use crossbeam_channel::{Receiver, bounded, unbounded};

use super::*;
use crate::module::{Health, ModuleInfo};

const LONG: Duration = Duration::from_secs(30);

/// What a test module does in each callback.
type Act = Arc<dyn Fn(&str, &ModuleContext) -> ModuleResult + Send + Sync>;

struct Scripted {
    act: Act,
    ctx: Option<ModuleContext>,
}

impl WorkerModule for Scripted {
    fn initialize(&mut self, ctx: &ModuleContext, _: &ModuleConfig) -> ModuleResult {
        self.ctx = Some(ctx.clone());
        (self.act)("initialize", ctx)
    }
    fn start(&mut self, ctx: &ModuleContext) -> ModuleResult {
        (self.act)("start", ctx)
    }
    fn stop(&mut self, ctx: &ModuleContext) -> ModuleResult {
        (self.act)("stop", ctx)
    }
    fn health(&self) -> Health {
        let ctx = self.ctx.as_ref().unwrap();
        match (self.act)("health", ctx) {
            Ok(()) => Health::healthy(),
            Err(error) => Health::unhealthy(error.to_string()),
        }
    }
    fn info(&self) -> ModuleInfo {
        let _ = (self.act)("info", self.ctx.as_ref().unwrap());
        ModuleInfo::new("scripted", "1")
    }
}

impl Drop for Scripted {
    fn drop(&mut self) {
        if let Some(ctx) = &self.ctx {
            let _ = (self.act)("drop", ctx);
        }
    }
}

/// A runner behind a codec: orders and reports cross as JSON text.
struct Linked {
    runner: Mutex<ModuleRunner>,
    report: Reporter,
    reports: Receiver<String>,
}

impl Linked {
    fn new(act: impl Fn(&str, &ModuleContext) -> ModuleResult + Send + Sync + 'static) -> Self {
        let act: Act = Arc::new(act);
        let registry = ModuleRegistry::new()
            .module("scripted", move || Scripted { act: Arc::clone(&act), ctx: None });
        let setting = Setting {
            registry,
            realm: 0,
            stack_size: 256 << 10,
            panic_hook: true,
            contained: false,
            prober: None,
        };
        let (sender, reports) = unbounded();
        let report: Reporter = Arc::new(move |report: Report| {
            let _ = sender.send(serde_json::to_string(&report).unwrap());
        });
        Self { runner: Mutex::new(ModuleRunner::new(setting)), report, reports }
    }

    fn order(&self, order: Order) {
        let text = serde_json::to_string(&order).unwrap();
        let order: Order = serde_json::from_str(&text).unwrap();
        self.runner.lock().unwrap().order(order, &self.report);
    }

    fn next(&self) -> Report {
        let text = self.reports.recv_timeout(LONG).expect("a report is due");
        serde_json::from_str(&text).unwrap()
    }

    fn launch(&self) {
        self.order(Order::Launch(Box::new(Launch {
            worker: "w".into(),
            incarnation: 3,
            module: ModuleSource::Native("scripted".into()),
            config: serde_json::json!({}),
        })));
    }

    fn launch_and_start(&self) {
        self.launch();
        assert_eq!(self.next(), Report::Launched);
        self.order(Order::Start);
        assert_eq!(self.next(), Report::Started { pid: None });
    }

    fn ask(&self) {
        self.order(Order::Ask { patience: LONG });
    }

    fn failure(&self) -> Failure {
        let report = self.next();
        let Report::Failed(failure) = report else { panic!("expected a failure: {report:?}") };
        failure
    }
}

/// A module that does `what` in `callback` and all is well elsewhere.
fn breaks_in(
    callback: &'static str,
    what: impl Fn() -> ModuleResult + Send + Sync + 'static,
) -> Linked {
    Linked::new(move |name, _| if name == callback { what() } else { Ok(()) })
}

#[test]
fn a_life_in_order() {
    let (told, heard) = unbounded();
    let link = Linked::new(move |name, ctx| {
        told.send(name.to_owned())?;
        assert_eq!((ctx.worker_id(), ctx.incarnation()), ("w", 3));
        Ok(())
    });
    link.launch_and_start();
    link.order(Order::Probe { probe: 1 });
    assert_eq!(link.next(), Report::Probed { probe: 1, healthy: true, reason: String::new() });
    link.ask();
    assert_eq!(link.next(), Report::Gone(Exit::Returned));
    let called: Vec<_> = heard.try_iter().collect();
    assert_eq!(called, ["initialize", "start", "info", "health", "stop", "drop"]);
}

#[test]
fn a_panic_in_any_callback_is_a_failure_that_names_it() {
    for callback in ["initialize", "start", "info", "health"] {
        let link = breaks_in(callback, || panic!("boom"));
        link.launch();
        if callback != "initialize" {
            assert_eq!(link.next(), Report::Launched);
            link.order(Order::Start);
        }
        if callback == "health" {
            assert_eq!(link.next(), Report::Started { pid: None });
            link.order(Order::Probe { probe: 1 });
        }
        let failure = link.failure();
        assert_eq!(failure.message, format!("panicked in {callback}: boom"));
        assert_eq!(failure.category, ErrorCategory::Panic);
        assert!(failure.place.unwrap().contains("tests.rs"));
        link.ask();
        assert_eq!(link.next(), Report::Gone(Exit::Returned), "{callback}");
    }
}

#[test]
fn what_breaks_in_stop_or_drop_is_told_with_the_end() {
    for callback in ["stop", "drop"] {
        let link = breaks_in(callback, || panic!("boom"));
        link.launch_and_start();
        link.ask();
        let Report::Gone(Exit::Failed(failure)) = link.next() else { panic!("expected Gone") };
        assert_eq!(failure.message, format!("panicked in {callback}: boom"));
    }
    let link = breaks_in("stop", || Err("cannot flush".into()));
    link.launch_and_start();
    link.ask();
    let Report::Gone(Exit::Failed(failure)) = link.next() else { panic!("expected Gone") };
    assert_eq!((failure.category, &*failure.message), (ErrorCategory::Crash, "cannot flush"));
}

#[test]
fn stop_is_called_only_after_a_good_start() {
    let (told, heard) = unbounded();
    let link = Linked::new(move |name, _| {
        told.send(name.to_owned())?;
        if name == "start" { Err("no port".into()) } else { Ok(()) }
    });
    link.launch();
    assert_eq!(link.next(), Report::Launched);
    link.order(Order::Start);
    assert_eq!(link.failure().message, "no port");
    link.ask();
    assert_eq!(link.next(), Report::Gone(Exit::Returned));
    assert_eq!(heard.try_iter().collect::<Vec<_>>(), ["initialize", "start", "drop"]);
}

#[test]
fn a_panic_of_the_factory_is_the_workers() {
    let registry = ModuleRegistry::new().module("scripted", || -> Scripted { panic!("no parts") });
    let mut link = Linked::new(|_, _| Ok(()));
    link.runner.get_mut().unwrap().setting.registry = registry;
    link.launch();
    assert_eq!(link.failure().message, "panicked in the factory: no parts");
    link.ask();
    assert_eq!(link.next(), Report::Gone(Exit::Returned));
}

#[test]
fn a_spawned_thread_that_dies_is_the_workers_crash() {
    for panics in [false, true] {
        let link = Linked::new(move |name, ctx| {
            if name == "start" {
                ctx.spawn("serve", move |_| {
                    assert!(!panics, "boom");
                    Err("gone".into())
                })?;
            }
            Ok(())
        });
        link.launch();
        assert_eq!(link.next(), Report::Launched);
        link.order(Order::Start);
        let mut reports = [link.next(), link.next()];
        reports.sort_by_key(|report| matches!(report, Report::Failed(_)));
        let Report::Failed(failure) = &reports[1] else { panic!("{reports:?}") };
        if panics {
            assert_eq!(failure.message, "panicked in thread \"serve\": boom");
        } else {
            assert_eq!(failure.message, "gone");
        }
        link.ask();
        assert_eq!(link.next(), Report::Gone(Exit::Returned));
    }
}

#[test]
fn a_failed_task_is_told_and_no_crash() {
    let link = Linked::new(|name, ctx| {
        if name == "start" {
            ctx.spawn_task("request", |_| panic!("bad request"))?;
        }
        Ok(())
    });
    link.launch();
    assert_eq!(link.next(), Report::Launched);
    link.order(Order::Start);
    let mut reports = [link.next(), link.next()];
    reports.sort_by_key(|report| matches!(report, Report::TaskFailed(_)));
    assert!(matches!(&reports, [Report::Started { .. }, Report::TaskFailed(_)]), "{reports:?}");
    link.ask();
    assert_eq!(link.next(), Report::Gone(Exit::Returned));
}

#[test]
fn the_stop_wakes_a_blocked_start_and_joins_threads() {
    let (told, heard) = bounded::<&str>(8);
    let link = Linked::new(move |name, ctx| {
        if name == "start" {
            let (wake, woken) = bounded::<()>(1);
            let _guard = ctx.stop_token().on_stop(move || wake.send(()).unwrap());
            let thread = told.clone();
            ctx.spawn("slow", move |ctx| {
                ctx.stop_token().wait_stopped();
                thread.send("thread")?;
                Ok(())
            })?;
            told.send("blocked")?;
            woken.recv_timeout(LONG)?;
        }
        if name == "drop" {
            told.send("drop")?;
        }
        Ok(())
    });
    link.launch();
    assert_eq!(link.next(), Report::Launched);
    link.order(Order::Start);
    assert_eq!(heard.recv_timeout(LONG), Ok("blocked"));
    link.ask();
    assert_eq!(link.next(), Report::Started { pid: None });
    assert_eq!(link.next(), Report::Gone(Exit::Returned));
    // The thread was joined before the instance was dropped.
    assert_eq!(heard.try_iter().collect::<Vec<_>>(), ["thread", "drop"]);
}

#[test]
fn after_the_end_the_context_is_harmless() {
    let kept: Arc<Mutex<Option<ModuleContext>>> = Arc::default();
    let link = Linked::new({
        let kept = Arc::clone(&kept);
        move |_, ctx| {
            *kept.lock().unwrap() = Some(ctx.clone());
            Ok(())
        }
    });
    link.launch_and_start();
    link.ask();
    assert_eq!(link.next(), Report::Gone(Exit::Returned));
    let ctx = kept.lock().unwrap().take().unwrap();
    assert!(ctx.stop_token().is_stopped());
    let refused = ctx.spawn("late", |_| Ok(())).unwrap_err();
    assert_eq!(refused.category(), ErrorCategory::Refused);
}

#[test]
fn tasks_are_limited_and_counted_down_again() {
    let (release, held) = bounded::<()>(0);
    let link = Linked::new(move |name, ctx| {
        if name == "start" {
            for _ in 0..1024 {
                let held = held.clone();
                ctx.spawn_task("t", move |_| {
                    let _ = held.recv();
                    Ok(())
                })?;
            }
            let over = ctx.spawn_task("t", |_| Ok(())).unwrap_err();
            assert_eq!(over.category(), ErrorCategory::ResourceLimit);
        }
        Ok(())
    });
    link.launch_and_start();
    drop(release);
    link.ask();
    assert_eq!(link.next(), Report::Gone(Exit::Returned));
}

#[test]
fn an_adopted_threads_panic_is_the_workers_crash() {
    let link = Linked::new(|name, ctx| {
        if name == "start" {
            let ctx = ctx.clone();
            let foreign = std::thread::Builder::new().spawn(move || {
                ctx.adopt_thread();
                panic!("foreign");
            })?;
            let _ = foreign.join();
        }
        Ok(())
    });
    link.launch();
    assert_eq!(link.next(), Report::Launched);
    link.order(Order::Start);
    assert_eq!(link.failure().message, "panicked on an adopted thread: foreign");
    assert_eq!(link.next(), Report::Started { pid: None });
    link.ask();
    assert_eq!(link.next(), Report::Gone(Exit::Returned));
}

#[test]
fn an_unknown_module_is_refused_with_the_known_ones() {
    let link = Linked::new(|_, _| Ok(()));
    link.order(Order::Launch(Box::new(Launch {
        worker: "w".into(),
        incarnation: 1,
        module: ModuleSource::Native("scriptd".into()),
        config: serde_json::Value::Null,
    })));
    let Report::Gone(Exit::Failed(failure)) = link.next() else { panic!("expected Gone") };
    assert_eq!(failure.message, "no native module is called \"scriptd\"; registered are scripted");
    assert!(failure.permanent);
}
