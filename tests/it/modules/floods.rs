//! Modules that tell without end, and foreign functions that panic: the master is not held up.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};

use hsu_master::crossbeam_channel::bounded;
use hsu_master::{EndpointInfo, Master, WaitFor, WorkerConfig, WorkerState};

use super::{add_neighbour, bench, neighbour_is_well, worker};
use crate::made::{Made, next};
use crate::support::PATIENCE;

#[test]
fn a_module_that_publishes_without_end_delays_nobody() {
    let (tell, told) = bounded(1);
    let made = Made::new().start(move |ctx| {
        let tell = tell.clone();
        ctx.spawn("flood", move |ctx| {
            let mut number = 0;
            while !ctx.stop_token().is_stopped() {
                ctx.publish(EndpointInfo::http(format!("e{}", number % 1000), number));
                number += 1;
                if number == 10_000 {
                    tell.send(())?;
                }
            }
            Ok(())
        })
        .map_err(Into::into)
    });
    let bench = bench(made);
    add_neighbour(&bench);
    bench.add(worker("w"));
    bench.master.start_worker("w").unwrap();
    next(&told);
    neighbour_is_well(&bench);
    bench.once("w", |known| !known.endpoints.is_empty());
    assert!(bench.known("w").endpoints.len() <= 64, "their number is bounded");
    bench.master.stop_worker("w").unwrap();
    // Of so many events the bench, which reads none meanwhile, may have missed the last.
    bench.master.shutdown().unwrap();
}

#[test]
fn a_stuck_module_that_never_falls_silent_does_not_keep_the_master_from_ending() {
    let over = Arc::new(AtomicBool::new(false));
    let flooding = Arc::clone(&over);
    let made = Made::new().stop(move |ctx| {
        let mut number = 0_u64;
        while !flooding.load(Ordering::Relaxed) {
            ctx.publish(EndpointInfo::http("e", number));
            ctx.complete();
            number += 1;
        }
        Ok(())
    });
    let master = Master::builder().module("m", made.made()).build().unwrap();
    master.add_worker(worker("w")).unwrap();
    master.start_worker("w").unwrap();
    let report = master.shutdown().unwrap();
    over.store(true, Ordering::Relaxed);
    assert_eq!(report.stuck, ["w"]);
}

#[test]
fn an_output_function_that_panics_costs_the_worker_nothing() {
    let lines = Arc::new(Mutex::new(Vec::new()));
    let seen = Arc::clone(&lines);
    let master = Master::builder()
        .output(move |line| {
            assert_ne!(line.line, b"bad", "this line is not liked");
            seen.lock().unwrap().push(String::from_utf8_lossy(line.line).into_owned());
        })
        .build()
        .unwrap();
    let script = "echo good; echo bad; echo better";
    master.add_worker(WorkerConfig::executable("w", "/bin/sh").args(["-c", script])).unwrap();
    master.start_worker("w").unwrap();
    let known = master.wait_for("w", WaitFor::Completed, PATIENCE).unwrap();
    assert_eq!((known.state, known.incarnation), (WorkerState::Stopped, 1));
    assert_eq!(*lines.lock().unwrap(), ["good", "better"]);
}
