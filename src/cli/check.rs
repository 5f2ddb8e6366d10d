//! `check`: read a configuration as `run` would, and report every problem.

use serde_json::{Value, json};

use super::args::Check;
use super::limits::Limits;
use super::{Outcome, complain, print};
use crate::error::{Problem, Result};
use crate::master::preflight;
use crate::module::ModuleRegistry;
use crate::settings::MasterConfig;
use crate::worker::{ModuleType, UnmanagedConfig, WorkerConfig};

pub(super) fn check(registry: &ModuleRegistry, arguments: &Check) -> Outcome {
    let file = arguments.config.display().to_string();
    let checked = MasterConfig::load_for(registry, &arguments.config);
    let workers = checked.as_ref().map_or(&[][..], |config| &config.workers);
    let (unready, limits) = (unready(&file, workers), Limits::here(workers));
    if arguments.json {
        let printed = print(&format!("{:#}\n", as_json(&file, &checked, &unready, &limits)));
        return if checked.is_ok() { printed } else { Outcome::Usage };
    }
    match &checked {
        Ok(config) => print(&(summary(&file, config, &unready) + &limits.text())),
        Err(error) => {
            complain(error);
            Outcome::Usage
        }
    }
}

/// A worker that could not be started here and now, and why.
struct Unready<'c> {
    id: &'c str,
    why: Problem,
}

/// What is missing may be there when the worker is started, so it is no mistake in the file.
fn unready<'c>(file: &str, workers: &'c [WorkerConfig]) -> Vec<Unready<'c>> {
    let of_worker = |(index, worker): (usize, &'c WorkerConfig)| {
        let failure = preflight(worker)?;
        let why = Problem::unplaced(format!("workers[{index}]"), failure.to_string());
        Some(Unready { id: &worker.id, why: Problem { file: file.to_owned(), ..why } })
    };
    workers.iter().enumerate().filter_map(of_worker).collect()
}

fn summary(file: &str, config: &MasterConfig, unready: &[Unready<'_>]) -> String {
    let mut text: String = config.warnings.iter().map(|w| format!("warning: {w}\n")).collect();
    for Unready { id, why: Problem { path, message, .. } } in unready {
        text.push_str(&format!("warning: {file}: {path} ({id}): {message}\n"));
    }
    let warnings = config.warnings.len() + unready.len();
    let count = config.workers.len();
    let noun = if count == 1 { "worker" } else { "workers" };
    let beside = match warnings {
        0 => String::new(),
        1 => ", 1 warning".to_owned(),
        _ => format!(", {warnings} warnings"),
    };
    text.push_str(&format!("{file}: {count} {noun}, no problems{beside}\n"));
    for worker in &config.workers {
        let state = if worker.enabled { "" } else { " (disabled)" };
        text.push_str(&format!(
            "  {}  {}  {}{state}\n",
            worker.id,
            worker.worker_type,
            what_runs(worker)
        ));
    }
    text
}

fn what_runs(worker: &WorkerConfig) -> String {
    match (&worker.package, &worker.module_name, &worker.execution) {
        (Some(package), ..) => format!("package {package}"),
        (None, Some(module), _) if worker.module_type == Some(ModuleType::Plugin) => {
            format!("plugin {module}")
        }
        (None, Some(module), _) => format!("module {module}"),
        (None, None, Some(execution)) => execution.executable_path.display().to_string(),
        (None, None, None) => worker.unmanaged.as_ref().map_or_else(String::new, whom),
    }
}

/// Which process of others is meant.
fn whom(unmanaged: &UnmanagedConfig) -> String {
    match (&unmanaged.pid_file, &unmanaged.process_name, unmanaged.port) {
        (Some(path), ..) => format!("the process in {}", path.display()),
        (None, Some(name), _) => {
            format!("the process {name} {}", unmanaged.process_args.join(" ")).trim_end().to_owned()
        }
        (None, None, Some(port)) => format!("the process that listens on port {port}"),
        (None, None, None) => String::new(),
    }
}

fn as_json(
    file: &str,
    checked: &Result<MasterConfig>,
    unready: &[Unready<'_>],
    limits: &Limits,
) -> Value {
    let of_problem = |problem: &Problem| {
        json!({
            "file": problem.file,
            "line": (problem.line > 0).then_some(problem.line),
            "column": (problem.column > 0).then_some(problem.column),
            "path": problem.path,
            "message": problem.message,
        })
    };
    match checked {
        Ok(config) => json!({
            "file": file,
            "ok": true,
            "workers": config.workers.iter().map(|worker| &worker.id).collect::<Vec<_>>(),
            "warnings": config
                .warnings
                .iter()
                .chain(unready.iter().map(|unready| &unready.why))
                .map(of_problem)
                .collect::<Vec<_>>(),
            "problems": [],
            "limits": limits.as_json(),
        }),
        Err(error) => json!({
            "file": file,
            "ok": false,
            "message": error.to_string(),
            "problems": error.problems().iter().map(of_problem).collect::<Vec<_>>(),
            "limits": limits.as_json(),
        }),
    }
}
