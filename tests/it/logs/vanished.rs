//! Logs whose files or directory somebody moves or removes while workers write: they are there
//! again within a second of writing (FAULTS L07, L09).

use std::cell::Cell;
use std::fs;

use hsu_master::{LogOverflow, LogsConfig, WaitFor, WorkerConfig};

use super::{Kept, shell};
use crate::support::{Fifo, PATIENCE, until};

/// A master with a worker `v` that writes a line whenever it is told to.
struct Steady {
    kept: Kept,
    ear: Fifo,
    said: Cell<u32>,
}

impl Steady {
    fn new(logs: LogsConfig) -> Self {
        let (kept, ear) = (Kept::new(), Fifo::new());
        let script = format!("while read line; do echo $line; done < {}", ear.path.display());
        kept.bench.add(shell("v", &script).logs(logs));
        kept.bench.master.start_worker("v").unwrap();
        let steady = Self { kept, ear, said: Cell::new(0) };
        steady.says();
        until(|| steady.kept.lines("v").last().is_some_and(|line| line == "o 1"));
        steady
    }

    fn says(&self) {
        self.said.set(self.said.get() + 1);
        self.ear.write(&format!("{}\n", self.said.get()));
    }

    /// Has it write a line after the other until it is so.
    fn says_until(&self, so: impl Fn() -> bool) {
        until(|| {
            self.says();
            so()
        });
    }

    /// What is in a file, once the last line that was said is in the log.
    fn numbers(&self, name: &str) -> Vec<u32> {
        self.says();
        let last = format!(" o {}\n", self.said.get());
        let text = |name| fs::read_to_string(self.kept.path(name)).unwrap_or_default();
        until(|| text("v.log").ends_with(&last));
        let text = text(name);
        text.lines().filter_map(|line| line.split_once(" o ")?.1.parse().ok()).collect()
    }

    /// What is written after it was noticed is there, line by line.
    fn goes_on(&self) {
        let numbers = self.numbers("v.log");
        assert!(numbers[0] > 1, "the first line was in the file that is gone");
        let in_order = numbers.windows(2).all(|pair| pair[0] + 1 == pair[1]);
        assert!(in_order, "{numbers:?}");
        let known = self.kept.bench.known("v");
        assert_eq!(known.log_dropped, 0);
        assert!(known.log_trouble.is_none(), "{known:?}");
    }
}

fn policies() -> [LogsConfig; 2] {
    LogOverflow::ALL.map(|policy| LogsConfig::default().overflow(policy))
}

#[test]
fn l07_a_directory_that_is_removed_is_there_again_within_a_second_of_writing() {
    for logs in policies() {
        let steady = Steady::new(logs);
        let path = |name| steady.kept.path(name);
        fs::remove_dir_all(steady.kept.room.path().join("logs")).unwrap();
        steady.says_until(|| path("v.log").exists());
        steady.goes_on();
        assert!(path(".lock").exists(), "nobody else is to write there");
        // So are the events, with the next ones, and the log of another worker.
        let master = &steady.kept.bench.master;
        until(|| {
            let nap = WorkerConfig::executable("other", "/bin/echo").args(["said"]);
            master.add_worker(nap).unwrap();
            master.start_worker("other").unwrap();
            master.wait_for("other", WaitFor::Completed, PATIENCE).unwrap();
            master.remove_worker("other").unwrap();
            path("events.jsonl").exists()
        });
        assert_eq!(steady.kept.lines("other").last().unwrap(), "o said");
        steady.kept.bench.finish();
    }
}

#[test]
fn l07_a_file_that_is_removed_is_there_again_within_a_second_of_writing() {
    for logs in policies() {
        let steady = Steady::new(logs);
        let path = steady.kept.path("v.log");
        fs::remove_file(&path).unwrap();
        steady.says_until(|| path.exists());
        steady.goes_on();
        steady.kept.bench.finish();
    }
}

#[test]
fn l09_a_file_that_is_moved_takes_a_second_of_lines_along_and_none_is_lost() {
    for logs in policies() {
        let steady = Steady::new(logs);
        let (path, moved) = (steady.kept.path("v.log"), steady.kept.path("moved"));
        fs::rename(&path, &moved).unwrap();
        steady.says_until(|| path.exists());
        steady.goes_on();
        let mut numbers = steady.numbers("moved");
        numbers.extend(steady.numbers("v.log"));
        assert!(numbers.iter().copied().eq(1..=steady.said.get()), "{numbers:?}");
        // Cut short, it has no hole.
        fs::File::options().write(true).open(&path).unwrap().set_len(0).unwrap();
        let last = steady.numbers("v.log").pop();
        assert_eq!(last, Some(steady.said.get()));
        assert!(!fs::read(&path).unwrap().contains(&0));
        steady.kept.bench.finish();
    }
}
