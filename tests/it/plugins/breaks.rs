//! Plugins that break: every panic, error and odd result in every callback is this worker's
//! failure, and the master lives.

use hsu_master::{ErrorCategory, EventKind, HealthCheckConfig, WorkerState};
use serde_json::json;

use super::{Workshop, bench, example, start_error, worker};
use crate::support::{Bench, PATIENCE, ms, slow};

#[test]
fn panics_of_every_kind_in_a_start_are_failures_with_their_place() {
    let bench = bench();
    for (how, said) in [
        ("panic", "panicked in start: boom in start"),
        ("panic_any", "panicked in start: a panic with a payload that is no text"),
        ("panic_trap", "panicked in start: a panic with a payload that is no text"),
        ("index", "panicked in start: range start index 8 out of range for slice of length 3"),
    ] {
        let config = worker(how, &example("faulty_plugin")).config(json!({ "start": how }));
        bench.add(config.restart(slow()));
        let error = bench.master.start_worker(how).unwrap_err();
        assert_eq!(error.category(), ErrorCategory::Panic);
        assert!(error.to_string().contains(said), "{error}");
        assert!(error.to_string().contains(" at tests/plugins/faulty.rs:"), "{error}");
    }
    let config = worker("factory", &example("faulty_plugin")).entry_point("bad_factory");
    // The trial shows it before the library is loaded here.
    let error = start_error(&bench, config.restart(slow()));
    assert_eq!(error.category(), ErrorCategory::Plugin);
    let said = "panicked in the factory: boom in the factory at tests/plugins/faulty.rs:";
    assert!(error.to_string().contains(said), "{error}");
    bench.finish();
}

/// A worker of the faulty plugin that runs.
fn running(bench: &Bench, id: &str, config: serde_json::Value) {
    let check = HealthCheckConfig::every(ms(5)).timeout(PATIENCE).retries(1);
    let config = worker(id, &example("faulty_plugin")).config(config).health_check(check);
    bench.add(config.restart(slow()));
    // It may fail before the answer is read.
    let _ = bench.master.start_worker(id);
}

#[test]
fn what_breaks_a_running_plugin_is_told_as_of_any_module() {
    let bench = bench();
    for (id, config, category, said) in [
        ("health", json!({ "health": "panic" }), ErrorCategory::Panic, "in health: boom"),
        ("sick", json!({ "health": "error" }), ErrorCategory::Health, "error in health"),
        ("thread", json!({ "thread": "panic" }), ErrorCategory::Panic, "boom in thread"),
        ("error", json!({ "thread": "error" }), ErrorCategory::Crash, "error in thread"),
        ("network", json!({ "thread": "network" }), ErrorCategory::Network, "address in use"),
        ("fail", json!({ "thread": "fail" }), ErrorCategory::Crash, "failed in thread"),
        ("talk", json!({ "thread": "talk" }), ErrorCategory::Crash, "three\nlines\n[network]"),
    ] {
        running(&bench, id, config);
        let known = bench.once(id, |known| known.state == WorkerState::Failed);
        let error = known.last_error.unwrap();
        assert_eq!(error.category, category, "{id}: {error:?}");
        assert!(error.message.contains(said), "{id}: {error:?}");
    }
    running(&bench, "unsure", json!({ "thread": "unsure" }));
    let known = bench.once("unsure", |known| known.state == WorkerState::Failed);
    assert!(!known.gave_up, "another try may mend it");
    running(&bench, "hopeless", json!({ "thread": "rejected" }));
    bench.once("hopeless", |known| known.gave_up);
    running(&bench, "done", json!({ "thread": "complete" }));
    bench.once("done", |known| known.completed);
    bench.finish();
}

#[test]
fn errors_of_a_start_keep_their_category() {
    let bench = bench();
    for (callback, how, category, said) in [
        ("initialize", "error", ErrorCategory::Crash, "error in initialize"),
        ("initialize", "network", ErrorCategory::Network, "address in use"),
        ("initialize", "rejected", ErrorCategory::Configuration, "config.port: no port"),
        ("initialize", "panic", ErrorCategory::Panic, "panicked in initialize: boom"),
        ("start", "error", ErrorCategory::Crash, "error in start"),
        ("start", "rejected", ErrorCategory::Configuration, "config.port: no port"),
        ("start", "unsure", ErrorCategory::Configuration, "no file yet"),
        ("start", "talk", ErrorCategory::Crash, "three\nlines\n[network]"),
        ("info", "panic", ErrorCategory::Panic, "panicked in info: boom in info at tests/"),
    ] {
        let id = format!("{callback}-{how}");
        let config = worker(&id, &example("faulty_plugin")).config(json!({ callback: how }));
        let error = start_error(&bench, config.restart(slow()));
        assert_eq!(error.category(), category, "{id}: {error}");
        assert!(error.to_string().contains(said), "{id}: {error}");
        assert_eq!(error.permanent(), how == "rejected", "{id}");
    }
    let config = worker("key", &example("faulty_plugin")).config(json!({ "strat": "panic" }));
    let error = start_error(&bench, config);
    assert!(error.to_string().contains("worker key: config.strat: unknown field"), "{error}");
    bench.finish();
}

#[test]
fn what_breaks_while_it_ends_is_a_warning() {
    let bench = bench();
    for (id, config, said) in [
        ("stop-error", json!({ "stop": "error" }), "error in stop"),
        ("stop-panic", json!({ "stop": "panic" }), "panicked in stop: boom in stop"),
        ("drop-panic", json!({ "drop": "panic" }), "panicked in drop: boom in drop"),
    ] {
        bench.add(worker(id, &example("faulty_plugin")).config(config));
        bench.master.start_worker(id).unwrap();
        bench.master.stop_worker(id).unwrap();
        let known = bench.known(id);
        assert_eq!(known.state, WorkerState::Stopped, "{id}");
        let warning = known.warning.unwrap_or_default();
        assert!(warning.contains(said), "{id}: {warning}");
    }
    bench.finish();
}

#[test]
fn a_plugin_that_panics_is_restarted_afresh() {
    let bench = bench();
    let once = worker("p", &example("faulty_plugin")).config(json!({ "thread": "panic" }));
    let retry = once.restart.clone().max_retries(2);
    bench.add(once.restart(retry));
    let _ = bench.master.start_worker("p");
    let known = bench.once("p", |known| known.gave_up);
    assert_eq!((known.incarnation, known.restarts), (3, 2));
    bench.finish();
}

#[test]
fn a_start_that_hangs_is_abandoned_with_its_thread() {
    let bench = bench();
    let config = worker("h", &example("faulty_plugin")).config(json!({ "start": "hang" }));
    let stop = config.stop.clone().timeout(ms(50));
    bench.add(config.stop(stop).restart(slow()).start_timeout(ms(300)));
    let error = bench.master.start_worker("h").unwrap_err();
    assert_eq!(error.category(), ErrorCategory::Timeout);
    bench.once("h", |known| known.abandoned_threads == 1);
    // Its neighbours in the same library live.
    bench.add(worker("n", &example("faulty_plugin")));
    bench.master.start_worker("n").unwrap();
    let runtime = bench.master.module_runtime();
    let refused = runtime.unload_module(example("faulty_plugin")).unwrap_err();
    assert_eq!(refused.category(), ErrorCategory::Refused, "{refused}");
    bench.finish();
}

#[test]
fn results_of_c_functions_have_their_categories() {
    let Some(workshop) = Workshop::open() else { return };
    let bench = bench();
    let text = "-DTEXT=\"the text\"";
    for (id, options, category, said) in [
        ("i1", ["-DINITIALIZE=1", text], ErrorCategory::Configuration, "the text"),
        ("i2", ["-DINITIALIZE=2", text], ErrorCategory::Crash, "the text"),
        ("i3", ["-DINITIALIZE=3", text], ErrorCategory::Panic, "the text"),
        ("i4", ["-DINITIALIZE=4", text], ErrorCategory::Plugin, "broke a rule: the text"),
        ("i5", ["-DINITIALIZE=5", text], ErrorCategory::Plugin, "does not support initialize"),
        ("i6", ["-DINITIALIZE=77", text], ErrorCategory::Crash, "the text"),
        ("s", ["-DSTART=-1", "-DTEXT=\"\""], ErrorCategory::Crash, "start returned -1"),
        ("a", ["-DSTART=2", "-DTEXT=\"no\\nat home\""], ErrorCategory::Crash, "no\nat home"),
        ("n", ["-DSTART=2", "-DTEXT=\"busy\\n[network]\""], ErrorCategory::Network, "busy"),
        (
            "p",
            ["-DSTART=3", "-DTEXT=\"boom\\nat a.c:1:2\""],
            ErrorCategory::Panic,
            "boom at a.c:1:2",
        ),
        ("b", ["-DINFO=0", "-DTEXT=\"{\""], ErrorCategory::Plugin, "get_info gave what is not"),
        ("u", ["-DINFO=0", "-DTEXT=\"\\377\""], ErrorCategory::Plugin, "get_info gave what"),
    ] {
        let library = workshop.variant(&format!("{id}.so"), &options);
        let error = start_error(&bench, worker(id, &library).restart(slow()));
        assert_eq!(error.category(), category, "{id}: {error}");
        assert!(error.to_string().contains(said), "{id}: {error}");
    }
    bench.finish();
}

#[test]
fn texts_of_c_functions_are_cut_and_replies_that_are_too_long_are_errors() {
    let Some(workshop) = Workshop::open() else { return };
    let bench = bench();
    let piece = format!("-DTEXT=\"{}\"", "x".repeat(1024));
    let info = workshop.variant("info.so", &["-DINFO=0", &piece, "-DTIMES=65"]);
    let error = start_error(&bench, worker("info", &info).restart(slow()));
    assert!(error.to_string().contains("more than the 65536 bytes allowed"), "{error}");
    for (id, times, fits) in [("fits", "-DTIMES=512", true), ("long", "-DTIMES=513", false)] {
        let library = workshop.variant(&format!("{id}.so"), &[&piece, times]);
        bench.add(worker(id, &library));
        bench.master.start_worker(id).unwrap();
        let reply = bench.master.call(id, "any", b"");
        assert_eq!(reply.as_ref().map(Vec::len).ok(), fits.then_some(512 << 10), "{id}");
        if let Err(error) = reply {
            assert!(error.to_string().contains("longer than the 524288 bytes"), "{error}");
        }
    }
    let none = workshop.variant("none.so", &["-DCALL=NULL"]);
    bench.add(worker("none", &none));
    bench.master.start_worker("none").unwrap();
    let error = bench.master.call("none", "any", b"").unwrap_err();
    assert_eq!(error.category(), ErrorCategory::UnknownFunction, "{error}");
    for (id, code, category) in [
        ("c1", "-DCALL_RESULT=1", ErrorCategory::Configuration),
        ("c2", "-DCALL_RESULT=2", ErrorCategory::Crash),
        ("c3", "-DCALL_RESULT=3", ErrorCategory::Panic),
        ("c4", "-DCALL_RESULT=4", ErrorCategory::Plugin),
        ("c5", "-DCALL_RESULT=5", ErrorCategory::UnknownFunction),
        ("c9", "-DCALL_RESULT=9", ErrorCategory::Crash),
    ] {
        bench.add(worker(id, &workshop.variant(&format!("{id}.so"), &[code])));
        bench.master.start_worker(id).unwrap();
        let error = bench.master.call(id, "any", b"").unwrap_err();
        assert_eq!(error.category(), category, "{id}: {error}");
    }
    bench.finish();
}

#[test]
fn health_and_reports_of_a_c_module_are_heard() {
    let Some(workshop) = Workshop::open() else { return };
    let bench = bench();
    let check = || HealthCheckConfig::every(ms(5)).timeout(PATIENCE).retries(1);
    for (id, options, category, said) in [
        ("h2", ["-DHEALTH=2", "-DTEXT=\"tired\""], ErrorCategory::Health, "tired"),
        ("h1", ["-DHEALTH=1", "-DTEXT=\"\""], ErrorCategory::Health, "returned 1; 0 would be"),
        ("h3", ["-DHEALTH=3", "-DTEXT=\"boom\""], ErrorCategory::Panic, "boom"),
        (
            "r",
            ["-DIN_START=h->report_failure(h->ctx, text(\"dead inside\"))", "-DTEXT=\"\""],
            ErrorCategory::Crash,
            "dead inside",
        ),
    ] {
        let library = workshop.variant(&format!("{id}.so"), &options);
        bench.add(worker(id, &library).restart(slow()).health_check(check()));
        let _ = bench.master.start_worker(id);
        let known = bench.once(id, |known| known.state == WorkerState::Failed);
        let error = known.last_error.unwrap();
        assert_eq!(error.category, category, "{id}: {error:?}");
        assert!(error.message.contains(said), "{id}: {error:?}");
    }
    let done = workshop.variant("done.so", &["-DIN_START=h->report_finished(h->ctx)"]);
    bench.add(worker("done", &done));
    let _ = bench.master.start_worker("done");
    bench.once("done", |known| known.completed);
    // What cannot be an endpoint is none, and what can be is heard before the start is through.
    let publish = "-DIN_START=h->publish_endpoint(h->ctx, text(\"a\"), text(\"web\"), text(\"b\")),\
                   h->publish_endpoint(h->ctx, text(\"\"), text(\"tcp\"), text(\"b\")),\
                   h->heartbeat(h->ctx),\
                   h->publish_endpoint(h->ctx, text(\"c\"), text(\"tcp\"), text(\"d:1\"))";
    bench.add(worker("ends", &workshop.variant("ends.so", &[publish])));
    bench.master.start_worker("ends").unwrap();
    let mut events = std::iter::from_fn(|| Some(bench.next_event("ends").1));
    let told = events.find_map(|kind| {
        if let EventKind::Endpoint { endpoint } = kind { Some(endpoint.name) } else { None }
    });
    assert_eq!(told.as_deref(), Some("c"));
    assert_eq!(bench.known("ends").endpoints.len(), 1);
    bench.finish();
}
