//! A logger for the whole test program, that keeps what was logged.

use std::sync::{Condvar, Mutex, Once, PoisonError};

use hsu_master::current_worker;

use crate::support::PATIENCE;

/// A log line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Logged {
    pub(crate) level: log::Level,
    pub(crate) target: String,
    /// Whose thread logged it.
    pub(crate) worker: Option<String>,
    pub(crate) text: String,
}

static LINES: Mutex<Vec<Logged>> = Mutex::new(Vec::new());
static CAME: Condvar = Condvar::new();

struct Keeper;

impl log::Log for Keeper {
    fn enabled(&self, _: &log::Metadata<'_>) -> bool {
        true
    }

    fn log(&self, record: &log::Record<'_>) {
        hsu_master::logs::record(record);
        let line = Logged {
            level: record.level(),
            target: record.target().to_owned(),
            worker: current_worker(),
            text: record.args().to_string(),
        };
        LINES.lock().unwrap_or_else(PoisonError::into_inner).push(line);
        CAME.notify_all();
    }

    fn flush(&self) {}
}

/// Keeps what is logged from now on.
pub(crate) fn capture() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        log::set_logger(&Keeper).unwrap();
        log::set_max_level(log::LevelFilter::Trace);
    });
}

/// Waits until `count` lines with this text were logged, and returns them in order.
#[track_caller]
pub(crate) fn lines(count: usize, text: &str) -> Vec<Logged> {
    let fits = |lines: &[Logged]| -> Vec<Logged> {
        lines.iter().filter(|line| line.text.contains(text)).cloned().collect()
    };
    let lines = LINES.lock().unwrap();
    let (lines, _) =
        CAME.wait_timeout_while(lines, PATIENCE, |lines| fits(lines).len() < count).unwrap();
    let found = fits(&lines);
    assert!(found.len() >= count, "{count} lines with {text:?} were to come: {found:#?}");
    found
}
