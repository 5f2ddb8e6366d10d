//! The logger of `App`: time, level, whose line it is, text. A module's lines carry its worker's
//! id.

use std::io::Write as _;
use std::time::SystemTime;

use log::LevelFilter;

use super::echo::Echo;
use crate::host::identity::current_worker;

/// Sends log records through `echo`. `RUST_LOG` has precedence over `level`. A logger that is there
/// already stays.
pub(super) fn install(level: LevelFilter, echo: &Echo) {
    let mut builder = env_logger::Builder::new();
    builder.filter_level(level).parse_default_env();
    builder.target(env_logger::Target::Pipe(Box::new(echo.clone())));
    builder.format(|out, record| {
        let stamp = humantime::format_rfc3339_millis(SystemTime::now());
        let worker = current_worker();
        let who = worker.as_deref().unwrap_or("master");
        writeln!(out, "{stamp} {:<5} {who} | {}", record.level(), record.args())
    });
    let _ = builder.try_init();
}
