//! The log of a module host: each line on standard error, with its level as sd-daemon(3) has it, so
//! that the master can put it into its own log.

use std::io::{self, Write as _};

use log::{LevelFilter, Log, Metadata, Record};

use crate::host::levels;

struct ToMaster;

/// Takes the log of this process over. A logger that is there already stays.
pub(super) fn install() {
    if log::set_logger(&ToMaster).is_ok() {
        log::set_max_level(LevelFilter::Info);
    }
}

/// Sets how much is logged, as the master says.
pub(super) fn set_level(level: &str) {
    if let Ok(level) = level.parse() {
        log::set_max_level(level);
    }
}

impl Log for ToMaster {
    fn enabled(&self, _: &Metadata<'_>) -> bool {
        // The level is the facade's affair; what is wanted beyond it, the master's logger knows.
        true
    }

    fn log(&self, record: &Record<'_>) {
        let mut lines = Vec::new();
        let text = record.args().to_string();
        for line in text.split('\n') {
            levels::write(&mut lines, record.level(), record.target(), line);
        }
        // In one piece. A master that is gone reads nothing more.
        let _ = io::stderr().lock().write_all(&lines);
    }

    fn flush(&self) {}
}
