//! What is kept: every byte of a process until its end, what modules log in every place, and the
//! last lines of those that failed.

use std::fs;

use hsu_master::logs::Query;
use hsu_master::{Exit, LogsConfig, Master, MasterConfig, WaitFor, WorkerConfig};

use super::{Kept, never, shell};
use crate::actor::{Behaviour, Life, PLACES, make};
use crate::made::Made;
use crate::support::{Bench, PATIENCE, example};
use crate::{alone, logged};

#[test]
fn lines_are_kept_with_time_stream_and_level() {
    let kept = Kept::new();
    kept.bench.add(shell("w", "echo out; echo err >&2; echo '<3>bad' >&2; printf 'no end'"));
    kept.bench.master.start_worker("w").unwrap();
    kept.bench.master.wait_for("w", WaitFor::Completed, PATIENCE).unwrap();
    // Whoever knows of the end finds everything in the log.
    let mut lines = kept.lines("w");
    assert!(lines[0].starts_with("- INFO master: started, pid "), "{lines:?}");
    assert!(lines[0].ends_with(" (incarnation 1)"), "{lines:?}");
    lines.sort_unstable();
    assert_eq!(lines[1..], ["e ERROR w: bad", "e err", "o out", "o+ no end"]);
    let text = fs::read_to_string(kept.path("w.log")).unwrap();
    let stamp = text.split(' ').next().unwrap();
    assert!(stamp.ends_with('Z') && stamp.len() == 24, "{stamp}");
    kept.bench.finish();
}

#[test]
fn what_a_worker_wrote_before_it_was_killed_is_in_its_log() {
    let kept = Kept::new();
    let small = LogsConfig::default().max_size(100_000).max_files(1000);
    kept.bench.add(shell("w", "seq 1 100000; kill -9 $$").logs(small));
    kept.bench.add(shell("raw", "seq 1 100000; kill -9 $$").logs(small.timestamps(false)));
    for worker in ["w", "raw"] {
        kept.bench.master.start_worker(worker).unwrap();
        let known = kept.bench.once(worker, |known| known.gave_up);
        assert_eq!(known.exit, Some(Exit::Signal { signal: 9, core_dumped: false }));
        assert_eq!((known.log_bytes, known.log_dropped), (588_895, 0));
        assert!(kept.path(&format!("{worker}.log.5")).exists());
    }
    let numbers = kept.lines("w").into_iter().skip(1);
    assert!(numbers.eq((1..=100_000).map(|n| format!("o {n}"))));
    let query = Query::last(usize::MAX);
    let raw = kept.bench.master.read_logs(&["raw"], &query).unwrap();
    let raw: Vec<u8> = raw.flat_map(|entry| entry.bytes).collect();
    let expected: String = (1..=100_000).map(|n| format!("{n}\n")).collect();
    assert!(raw == expected.as_bytes());
    kept.bench.finish();
}

#[test]
fn l15_a_stopped_master_loses_nothing() {
    if !alone::here(&[], l15_a_stopped_master_loses_nothing) {
        return;
    }
    let kept = Kept::new();
    // As much as a pipe holds can be written while nobody reads, and the rest waits.
    let script = "kill -STOP $PPID; i=0; while [ $i -lt 60 ]; do i=$((i + 1)); \
                  printf '%0999d\\n' $i; done; echo full > $VOICE; \
                  (seq 1 1000000; echo end > $VOICE) & kill -CONT $PPID; wait";
    kept.bench.add(shell("w", script).env("VOICE", kept.bench.voice().to_str().unwrap()));
    kept.bench.master.start_worker("w").unwrap();
    assert_eq!(kept.bench.hears(), "full");
    kept.bench.master.wait_for("w", WaitFor::Completed, PATIENCE).unwrap();
    let known = kept.bench.known("w");
    assert_eq!((known.log_bytes, known.log_dropped), (60_000 + 6_888_896, 0));
    kept.bench.finish();
}

#[test]
fn what_modules_log_is_in_their_logs_wherever_they_run() {
    if !alone::here(&[], what_modules_log_is_in_their_logs_wherever_they_run) {
        return;
    }
    logged::capture();
    let builder = Master::builder().module("actor", make).host_program(example("actor_host"));
    let kept = Kept::of(builder);
    for place in PLACES.iter().filter(|place| place.is_of_a_module && (place.is_there)()) {
        let behaviour = Behaviour::new(&kept.bench, &[Life::Logs]);
        let id = place.name.replace(' ', "-");
        kept.bench.add((place.worker)(&id, &behaviour));
        kept.bench.master.start_worker(&id).unwrap();
        kept.bench.master.call(&id, "log", b"two\nlines").unwrap();
        kept.bench.master.stop_worker(&id).unwrap();
        let mut lines = kept.lines(&id);
        assert!(lines[0].starts_with("- INFO master: started"), "{lines:?}");
        lines.retain(|line| line.contains(" actor::of: "));
        let mark = kept.bench.gate().display();
        for callback in ["initialize", "start", "thread"] {
            for level in log::Level::iter() {
                let said = format!("- {level} actor::of: {callback} {level} {mark}");
                assert_eq!(lines.iter().filter(|line| **line == said).count(), 1, "{id}: {said}");
            }
        }
        let own = kept.lines(&id);
        let at = own.iter().position(|line| line.ends_with(": two")).expect(&id);
        assert!(own[at].starts_with("- INFO ") && own[at + 1].ends_with(": lines"), "{own:?}");
        let known = kept.bench.known(&id);
        assert!(known.log_bytes > 0 && known.log_dropped == 0);
    }
    kept.bench.finish();
}

#[test]
fn the_last_lines_are_kept_with_a_failure_also_without_files() {
    let kept = Kept::new();
    let without = Bench::new(Master::builder());
    for bench in [&kept.bench, &without] {
        let script = "i=0; while [ $i -lt 50 ]; do i=$((i + 1)); echo line $i; done; \
                      printf '\\033[2Jlast' >&2; exit 3";
        bench.add(shell("w", script));
        bench.master.start_worker("w").unwrap();
        let known = bench.once("w", |known| known.gave_up);
        assert_eq!(known.last_output.len(), 10);
        assert_eq!(known.last_output.last().unwrap(), "\\u{1b}[2Jlast");
        assert_eq!(known.last_output[8], "line 50");
        // A life that ends in order takes nothing away.
        bench.add(shell("good", "echo done"));
        bench.master.start_worker("good").unwrap();
        bench.master.wait_for("good", WaitFor::Completed, PATIENCE).unwrap();
        assert!(bench.known("good").last_output.is_empty());
    }
    assert_eq!(without.known("w").log_bytes, 0, "nothing is kept of it");
    let query = Query::last(1);
    assert!(without.master.read_logs(&["w"], &query).unwrap_err().is_refused());
    kept.bench.finish();
    without.finish();
}

#[test]
fn the_last_log_lines_of_a_module_are_kept_with_its_failure() {
    if !alone::here(&[], the_last_log_lines_of_a_module_are_kept_with_its_failure) {
        return;
    }
    logged::capture();
    let made = Made::new().start(|ctx| {
        log::warn!(target: "m", "about to fail, for the {}. time", ctx.incarnation());
        Err("it failed".into())
    });
    let bench = Bench::new(Master::builder().module("m", made.made()));
    bench.add(WorkerConfig::native("w", "m").restart(never()));
    for life in 1..=2 {
        bench.master.start_worker("w").unwrap_err();
        let known = bench.once("w", |known| known.gave_up && known.incarnation == life);
        let said = format!("WARN m: about to fail, for the {life}. time");
        assert_eq!(known.last_output.first(), Some(&said), "{:?}", known.last_output);
    }
    bench.finish();
}

#[test]
fn l03_a_line_of_a_gigabyte_takes_no_memory() {
    if !alone::here(&[], l03_a_line_of_a_gigabyte_takes_no_memory) {
        return;
    }
    // Without anybody who is told lines, and keeps them.
    let room = tempfile::tempdir().unwrap();
    let config = MasterConfig::new().log_dir(room.path().join("logs"));
    let master = Master::builder().config(config).build().unwrap();
    let mut after = Vec::new();
    let peak = || {
        let status = fs::read_to_string("/proc/self/status").unwrap();
        let line = status.lines().find(|line| line.starts_with("VmHWM:")).unwrap();
        line.split_whitespace().nth(1).unwrap().parse::<u64>().unwrap()
    };
    for (worker, bytes) in [("warm", 16_u64 << 20), ("w", 1 << 30)] {
        let script = format!("head -c {bytes} /dev/zero");
        master.add_worker(shell(worker, &script).logs(LogsConfig::default().max_files(2))).unwrap();
        master.start_worker(worker).unwrap();
        let known = master.wait_for(worker, WaitFor::Completed, 10 * PATIENCE).unwrap();
        assert_eq!((known.log_bytes, known.log_dropped), (bytes, 0));
        after.push(peak());
    }
    let grown = after[1].saturating_sub(after[0]);
    assert!(grown < 1024, "{grown} KiB more");
}
