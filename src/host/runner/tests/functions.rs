//! Exported functions: their table, their gate, and what breaks in them.

use std::sync::mpsc;
use std::thread;

use serde::{Deserialize, Serialize};

use super::super::functions::MAX_PAYLOAD;
use super::*;
use crate::error::Error;
use crate::host::identity::current_worker;

impl Linked {
    /// A started module that exports in `start`, and the way to what it exports.
    fn exporting(
        export: impl Fn(&ModuleContext) -> ModuleResult + Send + Sync + 'static,
    ) -> (Self, Arc<Functions>) {
        let link = Self::new(move |name, ctx| if name == "start" { export(ctx) } else { Ok(()) });
        link.launch();
        assert_eq!(link.next(), Report::Launched);
        link.order(Order::Start);
        while link.next() != (Report::Started { pid: None }) {}
        let functions = link.runner.lock().unwrap().functions().unwrap();
        (link, functions)
    }

    fn end(&self) {
        self.ask();
        assert_eq!(self.next(), Report::Gone(Exit::Returned));
    }
}

fn echo(payload: &[u8]) -> ModuleResult<Vec<u8>> {
    Ok(payload.to_vec())
}

fn category(outcome: Result<Vec<u8>, Failure>) -> ErrorCategory {
    outcome.unwrap_err().category
}

#[test]
fn a_function_runs_as_the_worker_on_the_callers_thread() {
    let (link, functions) = Linked::exporting(|ctx| {
        ctx.export("who", |_| {
            let thread = format!("{:?}", thread::current().id());
            Ok(format!("{} on {thread}", current_worker().unwrap_or_default()).into_bytes())
        })?;
        Ok(ctx.export("break", |_| panic!("boom"))?)
    });
    let who = String::from_utf8(functions.call("who", b"").unwrap()).unwrap();
    assert_eq!(who, format!("w on {:?}", thread::current().id()));
    assert_eq!(current_worker(), None, "the caller is itself again");
    let failure = functions.call("break", b"").unwrap_err();
    assert_eq!(failure.category, ErrorCategory::Panic);
    assert_eq!(failure.message, "panicked in function \"break\": boom");
    assert!(failure.place.unwrap().contains("tests/functions.rs"));
    assert_eq!((current_worker(), functions.panics()), (None, 1));
    assert!(functions.call("who", b"").is_ok(), "the module lives on");
    link.end();
}

#[test]
fn each_export_is_an_endpoint() {
    let link = Linked::new(|name, ctx| {
        if name == "initialize" { Ok(ctx.export("table/rows.all-1", echo)?) } else { Ok(()) }
    });
    link.launch();
    let name = "table/rows.all-1";
    let endpoint =
        crate::module::EndpointInfo::new(name, crate::module::EndpointType::Function, name);
    assert_eq!(link.next(), Report::Endpoint(endpoint));
    assert_eq!(link.next(), Report::Launched);
    link.end();
}

#[test]
fn exports_that_cannot_be_are_refused() {
    let (link, functions) = Linked::exporting(|ctx| {
        for bad in ["", "/a", ".a", "a b", "a\0", "ä", &"x".repeat(129)] {
            let error = ctx.export(bad, echo).unwrap_err();
            assert_eq!(error.category(), ErrorCategory::Configuration, "{bad:?}");
        }
        for n in 0..256 {
            ctx.export(&format!("f{n}"), echo)?;
        }
        assert_eq!(ctx.export("f0", echo).unwrap_err().category(), ErrorCategory::Refused);
        assert_eq!(ctx.export("g", echo).unwrap_err().category(), ErrorCategory::ResourceLimit);
        Ok(())
    });
    assert_eq!(functions.call("f255", b"x").unwrap(), b"x");
    link.end();
}

#[test]
fn unknown_names_are_answered_with_near_ones_or_by_the_rest() {
    let (link, functions) = Linked::exporting(|ctx| Ok(ctx.export("echo", echo)?));
    let failure = functions.call("ecoh", b"").unwrap_err();
    assert_eq!(failure.category, ErrorCategory::UnknownFunction);
    assert_eq!(failure.message, "it exports no function \"ecoh\"; did you mean \"echo\"?");
    link.end();
    let (link, functions) = Linked::exporting(|ctx| {
        ctx.export("own", |_| Ok(b"own".to_vec()))?;
        ctx.export_rest(|name, _| match name {
            "own" => Err("the exported one goes first".into()),
            "known" => Ok(b"rest".to_vec()),
            _ => Err(Error::new(ErrorCategory::UnknownFunction, "not this one").into()),
        });
        Ok(())
    });
    assert_eq!(functions.call("own", b"").unwrap(), b"own");
    assert_eq!(functions.call("known", b"").unwrap(), b"rest");
    assert_eq!(category(functions.call("other", b"")), ErrorCategory::UnknownFunction);
    link.end();
}

#[test]
fn errors_keep_their_category_and_sizes_their_limit() {
    let (link, functions) = Linked::exporting(|ctx| {
        ctx.export("echo", echo)?;
        ctx.export("more", |payload| Ok(vec![0; payload.len() + 1]))?;
        ctx.export("crash", |_| Err("plain".into()))?;
        ctx.export("network", |_| {
            Err(std::io::Error::from(std::io::ErrorKind::ConnectionRefused).into())
        })?;
        Ok(())
    });
    assert_eq!(category(functions.call("crash", b"")), ErrorCategory::Crash);
    assert_eq!(category(functions.call("network", b"")), ErrorCategory::Network);
    let most = vec![7; MAX_PAYLOAD];
    assert_eq!(functions.call("echo", &most).unwrap(), most);
    let failure = functions.call("more", &most).unwrap_err();
    assert_eq!(failure.category, ErrorCategory::Refused);
    assert_eq!(failure.message, "the reply has 524289 bytes; at most 524288 are allowed");
    let failure = functions.call("echo", &vec![7; MAX_PAYLOAD + 1]).unwrap_err();
    assert_eq!(failure.message, "the payload has 524289 bytes; at most 524288 are allowed");
    link.end();
}

#[test]
fn json_in_and_out_names_the_field_that_does_not_fit() {
    #[derive(Deserialize)]
    struct Sum {
        terms: Vec<i64>,
    }
    #[derive(Serialize)]
    struct Total {
        total: i64,
    }
    let (link, functions) = Linked::exporting(|ctx| {
        ctx.export_json("sum", |sum: Sum| Ok(Total { total: sum.terms.iter().sum() }))?;
        Ok(ctx.export_json("nothing", |(): ()| Ok(()))?)
    });
    assert_eq!(functions.call("sum", br#"{"terms":[1,2]}"#).unwrap(), br#"{"total":3}"#);
    assert_eq!(functions.call("nothing", b"").unwrap(), b"null");
    for (payload, begin) in [
        (&br#"{"terms":[1,"x"]}"#[..], "payload.terms[1]: invalid type"),
        (b"{}", "payload: missing field `terms`"),
        (br#"{"terms":[]} 1"#, "payload: trailing characters"),
        (b"\xff", "payload: expected value"),
    ] {
        let failure = functions.call("sum", payload).unwrap_err();
        assert_eq!(failure.category, ErrorCategory::Refused);
        assert!(failure.message.starts_with(begin), "{}", failure.message);
    }
    link.end();
}

#[test]
fn the_stop_waits_for_calls_in_flight_and_refuses_new_ones() {
    let (entered, inside) = bounded::<()>(0);
    let (release, released) = bounded::<()>(0);
    let (told, heard) = unbounded();
    let seen = told.clone();
    let link = Linked::new(move |name, ctx| {
        let (entered, released, told) = (entered.clone(), released.clone(), told.clone());
        match name {
            "start" => {
                ctx.export("quick", echo)?;
                ctx.export("slow", move |_| {
                    entered.send(())?;
                    released.recv_timeout(LONG)?;
                    told.send("returned")?;
                    Ok(Vec::new())
                })?;
            }
            "stop" => told.send("stop")?,
            _ => {}
        }
        Ok(())
    });
    link.launch();
    link.order(Order::Start);
    while link.next() != (Report::Started { pid: None }) {}
    let functions = link.runner.lock().unwrap().functions().unwrap();
    thread::scope(|scope| {
        let slow = scope.spawn(|| functions.call("slow", b""));
        inside.recv_timeout(LONG).unwrap();
        link.ask();
        // The apartment closes the gate in its own time; from then on nobody gets in.
        while functions.call("quick", b"").is_ok() {
            thread::yield_now();
        }
        assert_eq!(category(functions.call("slow", b"")), ErrorCategory::NotRunning);
        assert_eq!(seen_so_far(&heard), Vec::<&str>::new());
        release.send_timeout((), LONG).unwrap();
        assert!(slow.join().unwrap().is_ok());
    });
    assert_eq!(link.next(), Report::Gone(Exit::Returned));
    drop(seen);
    assert_eq!(seen_so_far(&heard), ["returned", "stop"]);
    assert_eq!(category(functions.call("quick", b"")), ErrorCategory::NotRunning);
}

fn seen_so_far(heard: &Receiver<&'static str>) -> Vec<&'static str> {
    heard.try_iter().collect()
}

#[test]
fn what_a_function_holds_is_dropped_by_the_module_before_it_is_gone() {
    struct Held(mpsc::Sender<Option<String>>);
    impl Drop for Held {
        fn drop(&mut self) {
            let _ = self.0.send(thread::current().name().map(str::to_owned));
        }
    }
    let (told, heard) = mpsc::channel();
    let told = Mutex::new(told);
    let (link, functions) = Linked::exporting(move |ctx| {
        let held = Held(told.lock().unwrap().clone());
        let held = Mutex::new(held);
        Ok(ctx.export("hold", move |_| {
            drop(held.lock().unwrap());
            Ok(Vec::new())
        })?)
    });
    let known = functions.find("hold").unwrap();
    link.end();
    assert_eq!(heard.try_recv().unwrap().as_deref(), Some("w#3"));
    assert_eq!(
        category(functions.call_found(&known, "hold", b"")),
        ErrorCategory::NotRunning,
        "who still knows it gets nothing of it"
    );
}

#[test]
fn a_function_whose_drop_panics_is_a_warning_and_no_more() {
    struct Trap;
    impl Drop for Trap {
        fn drop(&mut self) {
            panic!("trapped");
        }
    }
    let (link, _functions) = Linked::exporting(|ctx| {
        let trap = Arc::new(Trap);
        Ok(ctx.export("trap", move |_| {
            let _ = &trap;
            Ok(Vec::new())
        })?)
    });
    link.ask();
    let Report::Gone(Exit::Failed(failure)) = link.next() else { panic!("expected Gone") };
    assert_eq!(failure.message, "panicked in the drop of a function: trapped");
}

#[test]
fn the_module_that_calls_itself_while_it_stops_is_refused() {
    let slot: Arc<Mutex<Option<Arc<Functions>>>> = Arc::default();
    let own = Arc::clone(&slot);
    let (told, heard) = unbounded();
    let link = Linked::new(move |name, ctx| {
        match name {
            "start" => ctx.export("echo", echo)?,
            "stop" => {
                let functions = own.lock().unwrap().take().unwrap();
                told.send(category(functions.call("echo", b"")))?;
                let late = ctx.export("late", echo).unwrap_err();
                told.send(late.category())?;
            }
            _ => {}
        }
        Ok(())
    });
    link.launch();
    link.order(Order::Start);
    while link.next() != (Report::Started { pid: None }) {}
    *slot.lock().unwrap() = link.runner.lock().unwrap().functions();
    link.end();
    let told: Vec<_> = heard.try_iter().collect();
    assert_eq!(told, [ErrorCategory::NotRunning, ErrorCategory::Refused]);
}

#[test]
fn calls_run_side_by_side() {
    let meet = Arc::new(std::sync::Barrier::new(8));
    let (link, functions) = Linked::exporting(move |ctx| {
        let meet = Arc::clone(&meet);
        Ok(ctx.export("meet", move |_| {
            meet.wait();
            Ok(Vec::new())
        })?)
    });
    thread::scope(|scope| {
        let calls: Vec<_> = (0..8).map(|_| scope.spawn(|| functions.call("meet", b""))).collect();
        for call in calls {
            assert!(call.join().unwrap().is_ok());
        }
    });
    link.end();
}
