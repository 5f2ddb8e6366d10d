//! The data processor's own program: the service without anybody who would start it again. It ends
//! with 0 when told to, with 101 when the service has crashed, with 1 when it did not come up.

use std::io::Write as _;
use std::process::ExitCode;
use std::time::Duration;

use hsu_master::{
    ErrorCategory, Master, RestartConfig, RestartPolicy, Result, WaitFor, WorkerConfig,
};
use serde_json::{Map, Value};

use crate::service::DataProcessor;

const USAGE: &str =
    "usage: data_processor [--port ADDR] [--batch-size N] [--timeout DURATION] [--mode MODE]";

/// The exit code of a service that has crashed: that of any Rust program that panics.
const CRASHED: u8 = 101;

/// The program, without its name in the arguments.
pub(crate) fn run(arguments: impl Iterator<Item = String>) -> ExitCode {
    let config = match config(arguments) {
        Ok(config) => config,
        Err(problem) => {
            // Nobody is left to tell when standard error is closed.
            let _ = writeln!(std::io::stderr(), "{problem}\n{USAGE}");
            return ExitCode::from(2);
        }
    };
    log_to_stderr();
    serve(config).unwrap_or_else(|error| {
        log::error!("{error}");
        // A request may come, and end it, before the start is done.
        let panicked = error.category() == ErrorCategory::Panic;
        if panicked { ExitCode::from(CRASHED) } else { ExitCode::FAILURE }
    })
}

/// The module's `config:`, from arguments. What the values mean is the module's to judge.
fn config(mut arguments: impl Iterator<Item = String>) -> std::result::Result<Value, String> {
    let mut config = Map::new();
    while let Some(argument) = arguments.next() {
        let key = match argument.as_str() {
            "--port" | "--batch-size" | "--timeout" | "--mode" => argument[2..].replace('-', "_"),
            _ => return Err(format!("unknown argument {argument:?}")),
        };
        let value = arguments.next().ok_or_else(|| format!("{argument} needs a value"))?;
        let number = value.parse::<u64>().ok().filter(|_| key == "batch_size");
        config.insert(key, number.map_or(Value::String(value), Value::from));
    }
    Ok(Value::Object(config))
}

/// Runs the module in a master of its own, which does not start it twice.
fn serve(config: Value) -> Result<ExitCode> {
    // Under a master this program goes by the name it has there.
    let id = std::env::var("HSU_WORKER_ID").unwrap_or_else(|_| "data-processor".to_owned());
    let master =
        Master::builder().module("data-processor", DataProcessor::default).own_process().build()?;
    let once = RestartConfig::policy(RestartPolicy::Never);
    master.add_worker(WorkerConfig::native(&id, "data-processor").config(config).restart(once))?;
    master.start_worker(&id)?;
    // An error says that the whole master has ended, as a signal asked it to.
    let crashed = master.wait_for(&id, WaitFor::Stopped, Duration::MAX).is_ok_and(|w| w.gave_up);
    master.shutdown()?;
    Ok(if crashed { ExitCode::from(CRASHED) } else { ExitCode::SUCCESS })
}

/// Log lines as plain text: who supervises this program adds name and time.
fn log_to_stderr() {
    let wanted = env_logger::Env::default().default_filter_or("info,hsu_master=error");
    let mut logger = env_logger::Builder::from_env(wanted);
    logger.format(|out, record| {
        if record.level() == log::Level::Info {
            return writeln!(out, "{}", record.args());
        }
        writeln!(out, "{}: {}", record.level().as_str().to_lowercase(), record.args())
    });
    logger.init();
}
