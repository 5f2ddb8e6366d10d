//! What a master does to the process it lives in: nothing by default, and what `own_process` says
//! (FAULTS S08, S09, S21, F2, F3). Each test runs in a process of its own.

use std::fs;

use hsu_master::crossbeam_channel::unbounded;
use hsu_master::{ErrorCategory, Master, WorkerConfig};

use crate::alone;
use crate::made::Made;
use crate::support::{Bench, NEVER, PATIENCE, slow};

/// The standard signals in a line of `/proc/self/status`. Those of the C library's own may be
/// ignored for reasons of others.
fn mask(name: &str) -> u64 {
    let status = fs::read_to_string("/proc/self/status").unwrap();
    signals_in(status.lines().find(|line| line.starts_with(name)).unwrap())
}

fn signals_in(line: &str) -> u64 {
    let (_name, mask) = line.split_once(":\t").unwrap();
    u64::from_str_radix(mask, 16).unwrap() & 0x7fff_ffff
}

/// The soft and the hard limit of descriptors.
fn descriptor_limits() -> [String; 2] {
    let limits = fs::read_to_string("/proc/self/limits").unwrap();
    let line = limits.lines().find_map(|line| line.strip_prefix("Max open files")).unwrap();
    let mut words = line.split_whitespace().map(str::to_owned);
    [words.next().unwrap(), words.next().unwrap()]
}

/// A logger that hears everything and says nothing.
struct Silent;

impl log::Log for Silent {
    fn enabled(&self, _: &log::Metadata<'_>) -> bool {
        true
    }
    fn log(&self, _: &log::Record<'_>) {}
    fn flush(&self) {}
}

#[test]
fn a_master_changes_nothing_by_itself() {
    if !alone::here(&[], a_master_changes_nothing_by_itself) {
        return;
    }
    let of_the_process = || {
        let masks = ["SigIgn", "SigCgt"].map(mask);
        (masks, descriptor_limits(), std::env::current_dir().unwrap())
    };
    let before = of_the_process();
    let bench = Bench::new(Master::builder().module("m", Made::new().made()));
    bench.add(WorkerConfig::native("m", "m"));
    bench.add(WorkerConfig::executable("p", "/bin/sleep").args(["1000"]));
    bench.master.start_all().unwrap();
    assert_eq!(of_the_process(), before);
    bench.finish();
    assert_eq!(of_the_process(), before);

    assert_eq!(log::max_level(), log::LevelFilter::Off);
    log::set_logger(&Silent).expect("nobody has installed a logger");
}

#[test]
fn panics_of_others_reach_their_own_hook() {
    if !alone::here(&[], panics_of_others_reach_their_own_hook) {
        return;
    }
    let (tell, told) = unbounded();
    std::panic::set_hook(Box::new(move |info| {
        let _ = tell.send(info.to_string());
    }));
    let made = Made::new().start(|_| panic!("ours")).made();
    let bench = Bench::new(Master::builder().module("m", made));
    let start = |id: &str| {
        bench.add(WorkerConfig::native(id, "m").restart(slow()));
        let error = bench.master.start_worker(id).unwrap_err().to_string();
        assert!(error.contains("ours at tests/it/process_wide.rs"), "{error}");
    };
    start("unlogged");
    assert!(told.try_recv().unwrap().contains("ours"), "without a logger nobody else would say so");

    log::set_logger(&Silent).unwrap();
    log::set_max_level(log::LevelFilter::Error);
    start("logged");
    let theirs = std::thread::Builder::new().spawn(|| panic!("theirs")).unwrap();
    assert!(theirs.join().is_err());
    bench.finish();
    let told: Vec<_> = told.try_iter().collect();
    assert!(told.len() == 1 && told[0].contains("theirs"), "{told:?}");
}

#[test]
fn without_the_hook_a_panic_is_caught_but_its_place_is_not_known() {
    if !alone::here(&[], without_the_hook_a_panic_is_caught_but_its_place_is_not_known) {
        return;
    }
    let made = Made::new().start(|_| panic!("ours")).made();
    let bench = Bench::new(Master::builder().module("m", made).panic_hook(false));
    bench.add(WorkerConfig::native("w", "m"));
    let error = bench.master.start_worker("w").unwrap_err();
    assert_eq!(error.to_string(), "worker w: panicked in start: ours");
    bench.finish();
}

/// Ignores SIGCHLD and SIGHUP in what it runs.
const IGNORING: [&str; 3] = ["env", "--ignore-signal=CHLD", "--ignore-signal=HUP"];

#[test]
fn f2_no_master_where_exit_codes_are_lost() {
    if !alone::here(&IGNORING, f2_no_master_where_exit_codes_are_lost) {
        return;
    }
    let error = Master::builder().build().unwrap_err();
    assert_eq!(error.category(), ErrorCategory::Refused);
    assert!(error.to_string().starts_with("SIGCHLD is ignored in this process"), "{error}");
}

#[test]
fn f3_an_own_process_ignores_nothing_and_neither_do_its_children() {
    if !alone::here(&IGNORING, f3_an_own_process_ignores_nothing_and_neither_do_its_children) {
        return;
    }
    let ignored = |signal: u32| mask("SigIgn") & (1 << (signal - 1)) != 0;
    assert!(ignored(1) && ignored(17), "SIGHUP and SIGCHLD");
    let bench = Bench::new(Master::builder().own_process());
    // Rust itself ignores SIGPIPE (13), and takes care that children do not.
    assert_eq!(mask("SigIgn"), 1 << 12);
    let show = ["SigIgn", "/proc/self/status"];
    bench.add(WorkerConfig::executable("w", "grep").args(show));
    bench.master.start_worker("w").unwrap();
    assert_eq!(signals_in(&bench.line().text), 0);
    bench.finish();
}

#[test]
fn s21_children_get_the_descriptor_limit_back() {
    let limited = ["sh", "-c", r#"ulimit -Sn 200; ulimit -Hn 500; exec "$@""#, "sh"];
    if !alone::here(&limited, s21_children_get_the_descriptor_limit_back) {
        return;
    }
    assert_eq!(descriptor_limits(), ["200", "500"]);
    let bench = Bench::new(Master::builder().own_process());
    assert_eq!(descriptor_limits(), ["500", "500"]);
    // The limit is put back right after the spawn: the script waits for its start to be told.
    let script = format!("read x < {}; ulimit -Sn; ulimit -Hn", bench.gate().display());
    bench.add(WorkerConfig::executable("w", "/bin/sh").args(["-c", &script]));
    bench.master.start_worker("w").unwrap();
    bench.let_go(1);
    assert_eq!([bench.line().text, bench.line().text], ["200", "500"]);
    bench.finish();
}

/// A master that owns its process gets `signal` from a worker, and ends.
fn ends_in_order(signal: &str) {
    let master = Master::builder().own_process().build().unwrap();
    // SIGHUP is no reason to end; it comes first.
    let script = format!(
        "trap 'exit 0' TERM; kill -HUP $PPID; kill -{signal} $PPID
        while :; do sleep 1000 & wait; done"
    );
    let config = WorkerConfig::executable("w", "/bin/sh").args(["-c", &script]);
    let stop = config.stop.clone().timeout(PATIENCE);
    master.add_worker(config.stop(stop)).unwrap();
    let _ = master.start_worker("w");
    let report = master.wait().unwrap();
    assert_eq!((report.killed, report.stuck), (vec![], vec![]));
}

#[test]
fn s08_sigterm_ends_an_own_process_in_order() {
    if alone::here(&[], s08_sigterm_ends_an_own_process_in_order) {
        ends_in_order("TERM");
    }
}

#[test]
fn s08_sigint_ends_an_own_process_in_order() {
    if alone::here(&[], s08_sigint_ends_an_own_process_in_order) {
        ends_in_order("INT");
    }
}

#[test]
fn s09_a_second_signal_kills() {
    if !alone::here(&[], s09_a_second_signal_kills) {
        return;
    }
    let bench = Bench::new(Master::builder().own_process());
    // It does not end when asked, but asks its master again: with another signal, since the same
    // one twice within a moment is one request.
    let script = "trap 'kill -INT $PPID' TERM; kill -TERM $PPID
        while :; do sleep 1000 & wait; done";
    let config = WorkerConfig::executable("w", "/bin/sh").args(["-c", script]);
    let stop = config.stop.clone().timeout(NEVER);
    bench.add(config.stop(stop));
    let _ = bench.master.start_worker("w");
    assert!(bench.master.wait_timeout(PATIENCE).unwrap(), "it waits for the worker");
    let report = bench.master.wait().unwrap();
    assert_eq!((report.killed, report.stuck), (vec!["w".to_owned()], vec![]));
}
