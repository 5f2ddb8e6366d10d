//! The harness is held to what a master does with the same module.

use std::sync::atomic::AtomicBool;

use super::*;
use crate::host::identity::current_worker;
use crate::module::{ModuleConfig, ModuleContext, ModuleInfo, ModuleResult, configured};

/// Where the module breaks, or what else it does.
#[derive(Clone, Copy, Debug, Default, PartialEq, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
enum Act {
    #[default]
    Nothing,
    FailInitialize,
    PanicInStart,
    PanicInHealth,
    FailStop,
    PanicInDrop,
    BreakThread,
    BreakTask,
    Complete,
    Hang,
}

#[derive(Default)]
struct Subject {
    act: Act,
    starts: u32,
}

impl WorkerModule for Subject {
    fn initialize(&mut self, _: &ModuleContext, config: &ModuleConfig) -> ModuleResult {
        if config.as_json().is_string() {
            self.act = config.parse()?;
        }
        if self.act == Act::FailInitialize { Err("no paper".into()) } else { Ok(()) }
    }

    fn start(&mut self, ctx: &ModuleContext) -> ModuleResult {
        self.starts += 1;
        let life = ctx.incarnation();
        ctx.export_json("life", move |(): ()| Ok(life))?;
        ctx.export("panic", |_| panic!("boom"))?;
        match self.act {
            Act::PanicInStart => panic!("no ink"),
            Act::BreakThread => {
                let (cut, told) = bounded::<()>(1);
                ctx.export("cut", move |_| Ok(cut.send(()).map(|()| Vec::new())?))?;
                ctx.spawn("line", move |_| match told.recv() {
                    Ok(()) => Err("dead".into()),
                    Err(_) => Ok(()),
                })?;
            }
            Act::BreakTask => ctx.spawn_task("job", |_| Err("the job is dead".into()))?,
            Act::Complete => ctx.complete(),
            Act::Hang => ctx.stop_token().wait_stopped(),
            Act::Nothing
            | Act::FailInitialize
            | Act::PanicInHealth
            | Act::FailStop
            | Act::PanicInDrop => {}
        }
        ctx.spawn("late", |ctx| {
            ctx.publish(EndpointInfo::http("api", "127.0.0.1:1"));
            Ok(())
        })?;
        Ok(())
    }

    fn stop(&mut self, _: &ModuleContext) -> ModuleResult {
        if self.act == Act::FailStop { Err("not yet".into()) } else { Ok(()) }
    }

    fn health(&self) -> Health {
        assert!(self.act != Act::PanicInHealth, "feverish");
        Health::unhealthy("a cold")
    }

    fn info(&self) -> ModuleInfo {
        ModuleInfo::new("subject", "1")
    }
}

impl Drop for Subject {
    fn drop(&mut self) {
        assert!(self.act != Act::PanicInDrop, "clinging");
    }
}

fn subject(act: &str) -> ModuleHarness<Subject> {
    ModuleHarness::new(Subject::default).config(serde_json::json!(act))
}

#[test]
fn a_whole_life() {
    let harness = ModuleHarness::new(Subject::default).worker_id("w");
    let subject = harness.initialize().unwrap();
    let early = subject.call("life", b"").unwrap_err();
    assert_eq!((early.category(), early.worker()), (ErrorCategory::NotRunning, Some("w")));
    assert_eq!(subject.inspect(|subject| subject.starts).unwrap(), 0);
    subject.start().unwrap();
    assert_eq!(subject.inspect(|subject| subject.starts).unwrap(), 1);
    assert_eq!(subject.inspect(|_| current_worker()).unwrap().as_deref(), Some("w"));
    assert_eq!(subject.health().unwrap(), Health::unhealthy("a cold"));
    assert_eq!(subject.wait_for_endpoint("api").unwrap().address, "127.0.0.1:1");
    let names: Vec<_> = subject.endpoints().into_iter().map(|endpoint| endpoint.name).collect();
    assert_eq!(names, ["life", "panic", "api"]);
    assert_eq!(subject.call_json::<u64>("life", &()).unwrap(), 1);
    assert!(subject.call("panic", b"").unwrap_err().is_panic());
    assert!(subject.call("lfie", b"").unwrap_err().is_not_found());
    subject.stop().unwrap();
    assert_eq!(harness.start().unwrap().call_json::<u64>("life", &()).unwrap(), 2);
}

#[test]
fn what_breaks_is_what_the_step_fails_with() {
    let error = subject("fail_initialize").start().unwrap_err();
    assert_eq!((error.category(), error.worker()), (ErrorCategory::Crash, Some("test")));
    assert_eq!(error.to_string(), "worker test: no paper");
    let error = subject("no such act").start().unwrap_err();
    assert!(error.permanent(), "{error}");
    let error = subject("panic_in_start").start().unwrap_err();
    assert!(error.is_panic());
    let text = error.to_string();
    assert!(text.starts_with("worker test: panicked in start: no ink at src/testing/"), "{text}");
    let error = subject("panic_in_health").start().unwrap().health().unwrap_err();
    assert!(error.is_panic());
    let error = subject("fail_stop").start().unwrap().stop().unwrap_err();
    assert_eq!(error.to_string(), "worker test: not yet");
    let error = subject("panic_in_drop").start().unwrap().stop().unwrap_err();
    assert!(error.is_panic());
    let error = ModuleHarness::new(|| -> Subject { panic!("no parts") }).start().unwrap_err();
    assert!(error.is_panic());
    let error = subject("nothing").worker_id("a/b").start().unwrap_err();
    assert_eq!(error.category(), ErrorCategory::Configuration);
}

#[test]
fn a_thread_that_breaks_is_not_passed_over() {
    let cut = || {
        let broken = subject("break_thread").start().unwrap();
        broken.call("cut", b"").unwrap();
        broken
    };
    let text = "worker test: dead";
    let broken = cut();
    assert_eq!(broken.wait_for_endpoint("none").unwrap_err().to_string(), text);
    assert_eq!(broken.health().unwrap_err().to_string(), text, "nor is it later");
    assert!(broken.stop().is_ok(), "a step has failed with it");
    let broken = cut();
    broken.told.wait(TIMEOUT, |told| told.failure.is_some().then_some(())).unwrap();
    assert_eq!(broken.stop().unwrap_err().to_string(), text);
    let expected = cut();
    assert_eq!(expected.failure().unwrap().message, "dead");
    assert!(expected.health().is_ok(), "the module itself is there still");
    expected.stop().unwrap();
}

#[test]
fn a_task_that_breaks_and_work_that_is_done_can_be_waited_for() {
    let task = subject("break_task").start().unwrap();
    assert_eq!(task.task_failure().unwrap().message, "the job is dead");
    task.stop().unwrap();
    let done = subject("complete").start().unwrap();
    done.completed().unwrap();
    done.stop().unwrap();
}

#[test]
fn a_look_that_panics_is_the_tests_affair() {
    let looked = subject("nothing").start().unwrap();
    let error = looked.inspect(|subject| assert_eq!(subject.starts, 7)).unwrap_err();
    assert!(error.is_panic());
    assert!(error.to_string().contains("panicked in the look inside"), "{error}");
    assert!(looked.health().is_ok());
    looked.stop().unwrap();
}

#[test]
fn what_takes_too_long_is_said_and_ended() {
    let short = Duration::from_millis(1);
    let error = subject("hang").timeout(short).start().unwrap_err();
    assert!(error.is_timeout(), "{error}");
    let mut idle = subject("nothing").start().unwrap();
    idle.timeout = short;
    let error = idle.wait_for_endpoint("none").unwrap_err();
    assert_eq!(error.to_string(), "worker test: it did not publish it within 1ms");
    idle.timeout = TIMEOUT;
    idle.stop().unwrap();
}

#[test]
fn dropping_it_stops_the_module() {
    struct Dropped(Arc<AtomicBool>);
    impl WorkerModule for Dropped {
        fn start(&mut self, _: &ModuleContext) -> ModuleResult {
            Ok(())
        }
        fn info(&self) -> ModuleInfo {
            ModuleInfo::new("dropped", "1")
        }
    }
    impl Drop for Dropped {
        fn drop(&mut self) {
            self.0.store(true, Ordering::SeqCst);
        }
    }
    let dropped = Arc::new(AtomicBool::new(false));
    let told = Arc::clone(&dropped);
    drop(ModuleHarness::new(move || Dropped(Arc::clone(&told))).start().unwrap());
    assert!(dropped.load(Ordering::SeqCst));
}

#[test]
fn any_factory_will_do() {
    let factory = configured(|act: Act| Ok(Subject { act, starts: 0 }));
    let harness = ModuleHarness::of(factory).config(serde_json::json!("nothing"));
    let subject = harness.start().unwrap();
    assert_eq!(subject.call_json::<u64>("life", &()).unwrap(), 1);
    subject.stop().unwrap();
}
