//! What the master offers to modules: endpoints, threads, tasks, configuration, the stop token, and
//! their name in the log.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};

use hsu_master::crossbeam_channel::{bounded, unbounded};
use hsu_master::{
    EndpointInfo, EndpointKind, ErrorCategory, EventKind, Master, ModuleContext, ModuleInfo,
    ModuleResult, StopConfig, WorkerConfig, WorkerModule, WorkerState, configured, current_worker,
    from_config,
};
use serde::Deserialize;

use super::{UP, bench, worker};
use crate::alone;
use crate::made::{Made, next};
use crate::support::{Bench, answer, quick};

/// Serves its incarnation to whoever connects.
fn serve(ctx: &ModuleContext) -> ModuleResult {
    let listener = TcpListener::bind("127.0.0.1:0")?;
    ctx.publish(EndpointInfo::tcp("api", listener.local_addr()?));
    ctx.spawn("accept", move |ctx| {
        for stream in ctx.stop_token().incoming(&listener) {
            write!(stream?, "life {}", ctx.incarnation())?;
        }
        Ok(())
    })
    .map_err(Into::into)
}

#[test]
fn endpoints_move_with_the_incarnation() {
    let bench = bench(Made::new().start(serve));
    let master = &bench.master;
    bench.add(worker("w"));
    let error = master.endpoint("w", "api").unwrap_err();
    assert_eq!(error.category(), ErrorCategory::NotRunning);
    let visit = || {
        let endpoint = master.endpoint("w", "api").unwrap();
        assert_eq!((endpoint.kind, endpoint.worker.as_str()), (EndpointKind::Url, "w"));
        let mut text = String::new();
        let mut stream = TcpStream::connect(&endpoint.info.address).unwrap();
        stream.read_to_string(&mut text).unwrap();
        assert_eq!(text, format!("life {}", endpoint.incarnation));
        (endpoint.incarnation, endpoint.info.address)
    };
    master.start_worker("w").unwrap();
    bench.sees("w", &UP[..3]);
    let (first, address) = visit();
    let told = bench.next_event("w");
    let endpoint = EndpointInfo::tcp("api", &address);
    assert_eq!(told, (1, EventKind::Endpoint { endpoint }));
    let error = master.endpoint("w", "apo").unwrap_err();
    assert_eq!(error.to_string(), "worker w: it has no endpoint \"apo\"; it has [api]");
    master.restart_worker("w", false).unwrap();
    assert_eq!((first, visit().0), (1, 2));
    master.stop_worker("w").unwrap();
    assert!(TcpStream::connect(&address).is_err(), "nobody listens any more");
    assert!(master.endpoint("w", "api").unwrap_err().is_unavailable());
    bench.finish();
}

#[test]
fn a_thread_that_breaks_is_the_workers_crash() {
    let made = Made::new().start(|ctx| match ctx.incarnation() {
        1 => Ok(ctx.spawn("thread", |_| Err("the line is dead".into()))?),
        2 => Ok(ctx.spawn("thread", |_| panic!("the line is cut"))?),
        3 => {
            let foreign = ctx.clone();
            let thread = std::thread::Builder::new().spawn(move || {
                foreign.adopt_thread();
                panic!("an adopted line is cut");
            })?;
            let _ = thread.join();
            Ok(())
        }
        4 => Ok(ctx.fail("the line says so itself")),
        _ => Ok(ctx.spawn("thread", |_| Ok(()))?),
    });
    let bench = bench(made);
    for (life, category, message) in [
        (1, ErrorCategory::Crash, "the line is dead"),
        (2, ErrorCategory::Panic, "panicked in thread \"thread\": the line is cut at tests/it/"),
        (3, ErrorCategory::Panic, "panicked on an adopted thread: an adopted line is cut at "),
        (4, ErrorCategory::Crash, "the line says so itself"),
    ] {
        // A fresh worker each time, whose incarnations begin where the others left off.
        let mut config = worker("w");
        config.restart.policy = hsu_master::RestartPolicy::Never;
        bench.add(config);
        let _ = bench.master.start_worker("w");
        let known = bench.once("w", |known| known.gave_up);
        let error = known.last_error.unwrap();
        assert_eq!((known.incarnation, error.category), (life, category));
        assert!(error.message.starts_with(message), "{error:?}");
        bench.master.remove_worker("w").unwrap();
    }
    // One that returns is none.
    bench.add(worker("w"));
    assert_eq!(bench.master.start_worker("w").unwrap(), 5);
    bench.master.stop_worker("w").unwrap();
    assert_eq!(bench.known("w").last_error, None);
    bench.finish();
}

#[test]
fn a_task_that_breaks_is_counted() {
    let made = Made::new().start(|ctx| {
        let task = |ctx: ModuleContext| -> ModuleResult {
            assert_eq!(ctx.worker_id(), "errs", "no line at all");
            Err("half a line".into())
        };
        Ok(ctx.spawn_task("reads", task)?)
    });
    let bench = bench(made);
    for (id, category) in [("errs", ErrorCategory::Crash), ("panics", ErrorCategory::Panic)] {
        bench.add(worker(id));
        assert_eq!(bench.master.start_worker(id).unwrap(), 1);
        let failure = loop {
            if let (1, EventKind::TaskFailed { failure }) = bench.next_event(id) {
                break failure;
            }
        };
        assert_eq!(failure.category, category);
        let known = bench.known(id);
        assert_eq!((known.state, known.incarnation), (WorkerState::Running, 1));
        assert_eq!((known.task_failures, known.last_error), (1, None));
    }
    bench.finish();
}

#[test]
fn tasks_are_many_but_not_endless() {
    let (tell, told) = bounded(1);
    let made = Made::new().start(move |ctx| {
        let task = |ctx: ModuleContext| -> ModuleResult {
            ctx.stop_token().wait_stopped();
            Ok(())
        };
        let started = (0..2000).map_while(|_| ctx.spawn_task("task", task).ok()).count();
        tell.send((started, ctx.spawn_task("task", task).unwrap_err().category()))?;
        Ok(())
    });
    let bench = bench(made);
    let config = WorkerConfig::native("w", "m").stack_size(64 << 10);
    bench.add(config);
    bench.master.start_worker("w").unwrap();
    assert_eq!(next(&told), (1024, ErrorCategory::ResourceLimit));
    bench.master.stop_worker("w").unwrap();
    bench.finish();
}

#[test]
fn threads_are_named_joined_and_refused_after_the_end() {
    let ended = Arc::new(AtomicBool::new(false));
    let (tell, told) = unbounded();
    let end = Arc::clone(&ended);
    let made = Made::new().start(move |ctx| {
        let (tell, end) = (tell.clone(), Arc::clone(&end));
        ctx.spawn("slow", move |ctx| {
            let name = std::thread::current().name().map(str::to_owned);
            tell.send((name, ctx.clone()))?;
            ctx.stop_token().wait_stopped();
            end.store(true, Ordering::SeqCst);
            Ok(())
        })
        .map_err(Into::into)
    });
    let bench = bench(made);
    bench.add(worker("w"));
    bench.master.start_worker("w").unwrap();
    let (name, ctx) = next(&told);
    assert_eq!(name.as_deref(), Some("w#1-slow"));
    assert_eq!((ctx.worker_id(), ctx.incarnation()), ("w", 1));
    bench.master.stop_worker("w").unwrap();
    assert!(ended.load(Ordering::SeqCst), "the stop was answered before the thread had ended");
    let late = ctx.spawn("late", |_| Ok(())).unwrap_err();
    assert_eq!(late.category(), ErrorCategory::Refused);
    // The rest of what a context offers does nothing any more.
    ctx.complete();
    ctx.fail("too late");
    ctx.publish(EndpointInfo::tcp("api", "127.0.0.1:1"));
    assert_eq!(bench.master.start_worker("w").unwrap(), 2);
    assert_eq!(bench.known("w").endpoints, []);
    bench.finish();
}

#[test]
fn a_blocked_start_is_woken_by_its_stop() {
    let (tell, told) = bounded(1);
    let made = Made::new().start(move |ctx| {
        let (wake, woken) = bounded(1);
        let _kept = ctx.stop_token().on_stop(move || {
            let _ = wake.send(());
        });
        tell.send(())?;
        woken.recv()?;
        Err("called off".into())
    });
    let bench = bench(made);
    bench.add(WorkerConfig::native("w", "m"));
    let start = bench.master.start_worker_nowait("w");
    next(&told);
    bench.master.stop_worker("w").unwrap();
    assert!(answer(&start).unwrap_err().is_cancelled());
    bench.sees("w", &UP[..3]);
    bench.sees("w", &["failed: cancelled", "stopped: ended"]);
    bench.finish();
}

#[test]
fn work_that_is_done_in_start_counts_when_start_returns() {
    let bench = bench(Made::new().start(|ctx| Ok(ctx.complete())));
    bench.add(worker("w"));
    assert_eq!(bench.master.start_worker("w").unwrap(), 1);
    bench.sees("w", &UP);
    bench.sees("w", &["stopping: completed", "stopped: completed"]);
    bench.finish();
}

#[test]
fn an_error_of_stop_is_a_warning() {
    let bench = bench(Made::new().stop(|_| Err("the last page was not written".into())));
    bench.add(worker("w"));
    bench.master.start_worker("w").unwrap();
    bench.master.stop_worker("w").unwrap();
    let known = bench.known("w");
    assert_eq!(known.warning.as_deref(), Some("the last page was not written"));
    assert_eq!((known.state, known.last_error), (WorkerState::Stopped, None));
    bench.finish();
}

/// A module that is its configuration.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Sweeper {
    rooms: Vec<String>,
}

impl WorkerModule for Sweeper {
    fn start(&mut self, ctx: &ModuleContext) -> ModuleResult {
        ctx.publish(EndpointInfo::unix("rooms", self.rooms.join("+")));
        Ok(())
    }

    fn info(&self) -> ModuleInfo {
        ModuleInfo::new("sweeper", "1")
    }
}

#[test]
fn a_rejected_configuration_is_given_up_at_once_and_says_where() {
    let builder = Master::builder().module("read", from_config::<Sweeper>).module(
        "built",
        configured(|sweeper: Sweeper| match sweeper.rooms.as_slice() {
            [] => Err("there is nothing to sweep".into()),
            _ => Ok(sweeper),
        }),
    );
    let bench = Bench::new(builder);
    for module in ["read", "built"] {
        let id = format!("{module}-well");
        let rooms = serde_json::json!({"rooms": ["hall", "attic"]});
        bench.add(WorkerConfig::native(&id, module).config(rooms));
        bench.master.start_worker(&id).unwrap();
        assert_eq!(bench.master.endpoint(&id, "rooms").unwrap().info.address, "hall+attic");

        for (name, config, said) in [
            ("type", serde_json::json!({"rooms": ["hall", 7]}), "config.rooms[1]: invalid type"),
            ("key", serde_json::json!({"rooms": [], "roms": 1}), "unknown field `roms`"),
            ("missing", serde_json::json!({}), "config: missing field `rooms`"),
        ] {
            let id = format!("{module}-{name}");
            bench.add(WorkerConfig::native(&id, module).config(config));
            let error = bench.master.start_worker(&id).unwrap_err();
            assert!(error.permanent() && error.category() == ErrorCategory::Configuration);
            let text = error.to_string();
            assert!(text.contains(&id) && text.contains(said), "{text}");
            bench.sees(&id, &["initializing", "failed: configuration", "stopped: gave up"]);
            let known = bench.known(&id);
            assert_eq!((known.gave_up, known.retry_at, known.incarnation), (true, None, 1));
        }
    }
    // An error of the constructor that is not about the configuration may mend.
    let config = WorkerConfig::native("empty", "built").restart(quick().max_retries(1));
    bench.add(config.config(serde_json::json!({"rooms": []})));
    assert!(!bench.master.start_worker("empty").unwrap_err().permanent());
    bench.sees("empty", &["initializing", "failed: crash", "starting: retry"]);
    bench.finish();
}

/// What was logged, and by whom.
struct Log(Mutex<Vec<(Option<String>, String)>>);

impl log::Log for Log {
    fn enabled(&self, _: &log::Metadata<'_>) -> bool {
        true
    }
    fn log(&self, record: &log::Record<'_>) {
        self.0.lock().unwrap().push((current_worker(), record.args().to_string()));
    }
    fn flush(&self) {}
}

#[test]
fn log_lines_know_their_worker() {
    if !alone::here(&[], log_lines_know_their_worker) {
        return;
    }
    static LOG: Log = Log(Mutex::new(Vec::new()));
    log::set_logger(&LOG).unwrap();
    log::set_max_level(log::LevelFilter::Info);
    let made = Made::new()
        .in_factory(|| log::info!("factory"))
        .initialize(|_| Ok(log::info!("initialize")))
        .start(|ctx| {
            ctx.spawn("thread", |_| Ok(log::info!("thread")))?;
            ctx.spawn_task("task", |_| Ok(log::info!("task")))?;
            let adopter = ctx.clone();
            let run = move || {
                log::info!("unknown");
                adopter.adopt_thread();
                log::info!("adopted");
            };
            std::thread::Builder::new().spawn(run)?.join().map_err(|_| "it panicked")?;
            ctx.spawn("waiter", |ctx| {
                let _kept = ctx.stop_token().on_stop(|| log::info!("on_stop"));
                ctx.stop_token().wait_stopped();
                Ok(())
            })
            .map_err(Into::into)
        })
        .stop(|_| Ok(log::info!("stop")))
        .in_drop(|| panic!("last words"));
    let bench = bench(made);
    // Its last words come with a backtrace, which takes its time.
    bench.add(worker("w").stop(StopConfig::default()));
    bench.master.start_worker("w").unwrap();
    bench.master.stop_worker("w").unwrap();
    bench.finish();
    let log = LOG.0.lock().unwrap();
    let by = |worker: Option<&str>, text: &str| {
        let by = |(w, t): &&(Option<String>, String)| w.as_deref() == worker && t.contains(text);
        assert_eq!(log.iter().filter(by).count(), 1, "{text} by {worker:?} in {log:#?}");
    };
    for text in ["factory", "initialize", "thread", "task", "adopted", "on_stop", "stop"] {
        let exact = |(w, t): &&(Option<String>, String)| w.as_deref() == Some("w") && t == text;
        assert_eq!(log.iter().filter(exact).count(), 1, "{text} in {log:#?}");
    }
    by(None, "unknown");
    by(Some("w"), "panicked at tests/it/modules/services.rs");
    by(None, "w#1 is running");
}
