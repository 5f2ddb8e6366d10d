//! The logger of `App`: time, level, whose line it is, text. A module's lines carry its worker's
//! id.

use std::io::Write as _;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::SystemTime;

use log::{LevelFilter, Log, Metadata, Record};

use super::echo::Echo;
use crate::host::identity::current_worker;
use crate::logs;

/// True when `level` decides what is logged, and not `RUST_LOG` or another logger.
static LEVEL_COUNTS: AtomicBool = AtomicBool::new(false);

/// Sends log records through `echo`. `RUST_LOG` has precedence over `level`. A logger that is there
/// already stays.
pub(super) fn install(level: LevelFilter, echo: &Echo) {
    let mut builder = env_logger::Builder::new();
    // What the logger lets through is limited by the level of all, which can change.
    builder.filter_level(LevelFilter::Trace).parse_default_env();
    builder.target(env_logger::Target::Pipe(Box::new(echo.clone())));
    builder.format(|out, record| {
        let stamp = humantime::format_rfc3339_millis(SystemTime::now());
        let worker = current_worker();
        let who = worker.as_deref().unwrap_or("master");
        let text = harmless(&record.args().to_string());
        writeln!(out, "{stamp} {:<5} {who} | {text}", record.level())
    });
    let logger = builder.build();
    let most = logger.filter();
    let ours = log::set_boxed_logger(Box::new(Keeping(logger))).is_ok();
    if ours {
        log::set_max_level(most);
    }
    LEVEL_COUNTS.store(ours && std::env::var_os("RUST_LOG").is_none(), Ordering::Relaxed);
    set_level(level);
}

/// A logger whose records of a module's threads are in its worker's log too.
struct Keeping(env_logger::Logger);

impl Log for Keeping {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        self.0.enabled(metadata)
    }

    fn log(&self, record: &Record<'_>) {
        if self.0.matches(record) {
            logs::record(record);
            self.0.log(record);
        }
    }

    fn flush(&self) {
        self.0.flush();
    }
}

/// Logs at this level from now on, unless somebody else decides.
pub(super) fn set_level(level: LevelFilter) {
    if LEVEL_COUNTS.load(Ordering::Relaxed) {
        log::set_max_level(level);
    }
}

/// A record's text as one that can neither be taken for another record nor command a terminal: its
/// further lines are indented, other control characters are spelled out.
fn harmless(text: &str) -> String {
    let mut shown = String::with_capacity(text.len());
    for char in text.trim_end_matches('\n').chars() {
        match char {
            '\n' => shown.push_str("\n    "),
            '\t' => shown.push(char),
            char if char.is_control() => shown.extend(char.escape_default()),
            char => shown.push(char),
        }
    }
    shown
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_text_is_no_other_record_and_no_command() {
        let forged = harmless("bad\n2026 ERROR master | x\u{1b}]0;pwn\u{7}\tß\n");
        assert_eq!(forged, "bad\n    2026 ERROR master | x\\u{1b}]0;pwn\\u{7}\tß");
    }
}
