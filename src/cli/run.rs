//! `run`: start the workers of a configuration, supervise them until told to end, and say how it
//! ended.

use std::path::Path;
use std::time::Instant;

use super::args::{Program, Run};
use super::echo::Echo;
use super::{Outcome, complain, idle, logger};
use crate::config;
use crate::control::SOCKET;
use crate::error::{Error, ErrorCategory, Result};
use crate::host::state::places;
use crate::host::sys;
use crate::master::{Master, OutputLine, OwnProcess};
use crate::module::ModuleRegistry;
use crate::runtime::ShutdownReport;
use crate::settings::MasterConfig;
use crate::suggest;
use crate::worker::Exit;

pub(super) fn run(registry: &ModuleRegistry, program: &Program, arguments: &Run) -> Outcome {
    // First of all: from here on signals are heard, and a configuration may take its time.
    let started = OwnProcess::take().and_then(|own| {
        if registry.names().next().is_none() {
            own.runs_nothing_else();
        }
        let config = read(registry, program, &arguments.config, &arguments.only)?;
        start(registry, program, (config, own), arguments)
    });
    let (master, name, echo) = match started {
        Ok(started) => started,
        Err(error) => {
            complain(&error);
            let wrong = error.category() == ErrorCategory::Configuration;
            return if wrong { Outcome::Usage } else { Outcome::Failed };
        }
    };
    let outcome = match supervise(&master, &name, arguments) {
        Ok(report) => {
            let outcome = conclude(&master, &report);
            main_code(&master).map_or(outcome, Outcome::Main)
        }
        Err(error) => {
            log::error!("{error}");
            Outcome::Internal
        }
    };
    let stuck = master.all_worker_diagnostics().iter().any(|worker| worker.abandoned_threads > 0);
    drop(master);
    echo.flush();
    if stuck {
        // Destructors and exit handlers could wait for the very thread that does not end.
        sys::exit_now(outcome.code().into());
    }
    outcome
}

/// The configuration in the file, with what is not said in it: at the start and for each reload.
fn read(
    registry: &ModuleRegistry,
    program: &Program,
    file: &Path,
    wanted: &[String],
) -> Result<MasterConfig> {
    let mut config = only(MasterConfig::load_for(registry, file)?, wanted)?;
    if let Some(own) = program.own_name() {
        config.name = config::place(file, Some(own))?.name;
    }
    let name = config.name.get_or_insert_with(|| "hsu-master".to_owned());
    let named = config.state_dir.take();
    config.log_dir = Some(places::log_dir(config.log_dir.as_deref(), named.as_deref(), name));
    config.state_dir = Some(places::state_dir(named.as_deref(), name));
    Ok(config)
}

/// Leaves only the workers that were named.
fn only(mut config: MasterConfig, wanted: &[String]) -> Result<MasterConfig> {
    if wanted.is_empty() {
        return Ok(config);
    }
    let ids = || config.workers.iter().map(|worker| worker.id.as_str());
    for id in wanted {
        if !ids().any(|known| known == id) {
            let hint = match suggest::nearest(id, ids()) {
                Some(near) => format!("; did you mean {near:?}?"),
                None => String::new(),
            };
            let message = format!("--only {id}: there is no such worker{hint}");
            return Err(Error::configuration(message));
        }
    }
    config.workers.retain(|worker| wanted.contains(&worker.id));
    for worker in &mut config.workers {
        worker.enabled = true;
    }
    Ok(config)
}

fn start(
    registry: &ModuleRegistry,
    program: &Program,
    (config, own): (MasterConfig, OwnProcess),
    arguments: &Run,
) -> Result<(Master, String, Echo)> {
    let echo = Echo::start(std::io::stderr())?;
    logger::install(config.log_level, &echo);
    for warning in &config.warnings {
        log::warn!("{warning}");
    }
    let name = config.name.clone().unwrap_or_else(|| "hsu-master".to_owned());
    let socket = config.state_dir.as_deref().map(|directory| directory.join(SOCKET));
    let reread = {
        let (modules, program, wanted) = (registry.clone(), *program, arguments.only.clone());
        move |file: &Path| read(&modules, &program, file, &wanted)
    };
    let (file, other) = (arguments.config.clone(), reread.clone());
    let mut builder = Master::builder()
        .registry(registry)
        .config(config)
        .source(move || reread(&file))
        .reader(other)
        .applied(|config| logger::set_level(config.log_level))
        .owning(own);
    if !arguments.quiet {
        let echo = echo.clone();
        builder = builder.output(move |line| echo.line(labelled(&line)));
    }
    match builder.build() {
        Ok(master) => {
            if let Some(socket) = socket {
                log::info!("{name}: listening on {}", socket.display());
            }
            Ok((master, name, echo))
        }
        Err(error) => {
            echo.flush();
            Err(error)
        }
    }
}

/// A worker's line behind the worker's id.
fn labelled(line: &OutputLine<'_>) -> Vec<u8> {
    let mut text = Vec::with_capacity(line.worker.len() + line.line.len() + 4);
    text.extend_from_slice(line.worker.as_bytes());
    text.extend_from_slice(b" | ");
    text.extend_from_slice(line.line);
    text.push(b'\n');
    text
}

/// Starts everything and waits for the end, whoever asks for it.
fn supervise(master: &Master, name: &str, arguments: &Run) -> Result<ShutdownReport> {
    let events = master.subscribe();
    let count = master.start_all_nowait().len();
    let noun = if count == 1 { "worker" } else { "workers" };
    let digest = master.configuration().digest;
    let digest = digest.map_or(String::new(), |digest| format!(", configuration {digest}"));
    log::info!("{name}: starting {count} {noun}{digest}");
    let end = arguments.duration.and_then(|duration| Instant::now().checked_add(duration));
    if !idle::follow(master, name, &events, end) {
        log::info!("the run duration is over: stopping all workers");
        return master.shutdown();
    }
    master.wait()
}

/// The exit code that the main worker gives its master, if there is one.
fn main_code(master: &Master) -> Option<u8> {
    if !master.configured_workers().iter().any(|worker| worker.main) {
        return None;
    }
    let code = match master.main_exit() {
        Some(Exit::Code(code)) => code,
        Some(Exit::Signal { signal, .. }) => 128 + signal,
        Some(Exit::Returned) => 0,
        Some(Exit::Failed(_) | Exit::Unknown | Exit::LetGo) | None => 1,
    };
    Some(u8::try_from(code).unwrap_or(1))
}

fn conclude(master: &Master, report: &ShutdownReport) -> Outcome {
    if !report.killed.is_empty() {
        log::warn!("had to be killed: {}", report.killed.join(", "));
    }
    if !report.stuck.is_empty() {
        log::error!("did not end: {}", report.stuck.join(", "));
    }
    if report.killed.is_empty() && report.stuck.is_empty() {
        let known = master.all_worker_diagnostics();
        let lives_on = known.iter().filter(|worker| worker.exit == Some(Exit::LetGo));
        match lives_on.map(|worker| worker.id.as_str()).collect::<Vec<_>>().as_slice() {
            [] => log::info!("all workers are stopped"),
            kept => log::info!("workers that live on: {}; all others are stopped", kept.join(", ")),
        }
        Outcome::Done
    } else {
        Outcome::Failed
    }
}
