//! Where the output goes that is not captured.

use std::fs;

use hsu_master::{ErrorCategory, LogMode, LogsConfig, Master, WaitFor};

use super::{Kept, shell};
use crate::alone;
use crate::support::{Bench, PATIENCE};

#[test]
fn a_process_writes_into_its_file_by_itself() {
    let kept = Kept::new();
    let logs = LogsConfig::mode(LogMode::File).max_size(4096).max_files(2);
    let script = "head -c 5000 /dev/zero | tr '\\0' x; echo; echo err >&2; \
                  out=$(readlink /proc/$$/fd/1); echo $out > $VOICE";
    let voice = kept.bench.voice().to_str().unwrap().to_owned();
    kept.bench.add(shell("w", script).env("VOICE", voice).logs(logs));
    let path = kept.path("w.log");
    for life in 1..=3 {
        assert_eq!(kept.bench.master.start_worker("w").unwrap(), life);
        assert_eq!(kept.bench.hears(), path.canonicalize().unwrap().to_str().unwrap());
        kept.bench.once("w", |known| known.completed && known.incarnation == life);
        // It is rotated at a start alone.
        let text = fs::read_to_string(&path).unwrap();
        assert_eq!(text, format!("{}\nerr\n", "x".repeat(5000)));
        assert_eq!(kept.path("w.log.1").exists(), life > 1);
    }
    assert!(!kept.path("w.log.2").exists());
    assert_eq!(kept.bench.known("w").log_bytes, 0);
    assert!(kept.bench.lines.try_recv().is_err());
    kept.bench.finish();
}

#[test]
fn without_a_directory_there_is_no_file_to_write_into() {
    let bench = Bench::new(Master::builder());
    bench.add(shell("w", "true").logs(LogsConfig::mode(LogMode::File)));
    let refused = bench.master.start_worker("w").unwrap_err();
    assert_eq!(refused.category(), ErrorCategory::Configuration);
    assert!(refused.to_string().contains("log_dir"), "{refused}");
    bench.finish();
}

#[test]
fn l08_a_file_that_cannot_be_opened_is_an_error_before_the_spawn() {
    let kept = Kept::new();
    std::os::unix::fs::symlink("/dev/null", kept.path("w.log")).unwrap();
    kept.bench.add(shell("w", "echo ran > $VOICE").logs(LogsConfig::mode(LogMode::File)));
    let refused = kept.bench.master.start_worker("w").unwrap_err();
    assert!(refused.to_string().contains("cannot open its log file"), "{refused}");
    assert_eq!(kept.bench.known("w").pid, None);
    kept.bench.finish();
}

#[test]
fn what_is_discarded_is_nowhere() {
    let kept = Kept::new();
    let script = "out=$(readlink /proc/$$/fd/1); echo $out > $VOICE; echo out";
    let voice = kept.bench.voice().to_str().unwrap().to_owned();
    let logs = LogsConfig::mode(LogMode::Discard);
    kept.bench.add(shell("w", script).env("VOICE", voice).logs(logs));
    kept.bench.master.start_worker("w").unwrap();
    kept.bench.master.wait_for("w", WaitFor::Completed, PATIENCE).unwrap();
    assert_eq!(kept.bench.hears(), "/dev/null");
    assert!(!kept.path("w.log").exists());
    assert!(kept.bench.lines.try_recv().is_err());
    kept.bench.finish();
}

#[test]
fn what_is_inherited_is_the_masters_own() {
    let Some(ended) = alone::run(&[], what_is_inherited_is_the_masters_own) else {
        let kept = Kept::new();
        let script = "echo to the output; echo to the errors >&2";
        kept.bench.add(shell("w", script).logs(LogsConfig::mode(LogMode::Inherit)));
        kept.bench.master.start_worker("w").unwrap();
        kept.bench.master.wait_for("w", WaitFor::Completed, PATIENCE).unwrap();
        kept.bench.finish();
        return;
    };
    assert!(ended.status.success());
    assert!(String::from_utf8_lossy(&ended.stdout).contains("to the output\n"));
    assert!(String::from_utf8_lossy(&ended.stderr).contains("to the errors\n"));
}
