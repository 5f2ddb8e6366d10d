//! What is told of a worker is true of it: what its process uses, what its configuration comes to,
//! and which configuration that is (FAULTS C17).

use hsu_master::control::{Client, Description};
use hsu_master::{
    ErrorCategory, Master, MasterConfig, OnMasterExit, UnmanagedConfig, WorkerConfig, WorkerState,
};

use super::{Operated, exporting, shell, sleeper};
use crate::support::{Bench, ms, quick, until};
use crate::unmanaged::{Stranger, signal};

fn percent(client: &Client, id: &str) -> Option<f64> {
    client.describe(id).unwrap().worker.usage.unwrap().cpu_percent
}

#[test]
fn what_a_process_uses_of_the_processors_is_measured_from_one_question_to_the_next() {
    let operated = Operated::new();
    operated.bench.add(shell("busy", "while :; do :; done"));
    operated.bench.add(sleeper("idle"));
    for id in ["busy", "idle"] {
        operated.bench.master.start_worker(id).unwrap();
    }
    let client = operated.client();
    until(|| percent(&client, "busy").is_some_and(|percent| percent > 0.0));
    until(|| percent(&client, "idle") == Some(0.0));
    // What it used before it was stopped counts no more.
    let pid = operated.bench.known("busy").pid.unwrap();
    signal("STOP", pid);
    until(|| percent(&client, "busy") == Some(0.0));
    // Of one that has just begun nothing is kept from the one before.
    operated.bench.master.restart_worker("busy", true).unwrap();
    until(|| percent(&client, "busy").is_some_and(|percent| percent > 0.0));
    operated.bench.finish();
}

#[test]
fn a_module_is_described_by_what_applies_to_it() {
    let (operated, _) = exporting();
    // As a file has it that leaves out the default.
    let yaml = "{ id: n, type: module, module_name: exporting }";
    operated.bench.add(WorkerConfig::from_yaml(yaml).unwrap());
    operated.bench.master.start_worker("n").unwrap();
    let Description { worker, config, .. } = operated.client().describe("n").unwrap();
    assert_eq!(worker.module_type.unwrap().as_str(), "native");
    assert_eq!((worker.usage, worker.pid, worker.executable_path), (None, None, None));
    assert_eq!((config.stop_signal, config.kill_group, config.success_codes), (None, None, None));
    assert_eq!((config.on_master_exit, config.stop_timeout_ms), (None, Some(10_000)));
    assert_eq!(config.health_check.as_deref(), Some("module"));
    assert_eq!(config.health_interval_ms, Some(10_000));
    operated.bench.finish();
}

#[test]
fn a_process_of_others_is_described_by_how_it_is_found_and_is_let_go_of() {
    let (operated, stranger) = (Operated::new(), Stranger::new("exec /bin/sleep 1000"));
    let file = stranger.pid_file();
    operated.bench.add(WorkerConfig::unmanaged("w", UnmanagedConfig::pid_file(&file)));
    operated.bench.master.start_worker("w").unwrap();
    let client = operated.client();
    let Description { worker, config, .. } = client.describe("w").unwrap();
    assert!(worker.usage.unwrap().rss_bytes.unwrap() > 0);
    let found = config.unmanaged.unwrap();
    assert_eq!((found.pid_file.as_deref(), found.can_terminate), (file.to_str(), false));
    assert_eq!((config.stop_signal, config.stop_timeout_ms), (None, None));
    assert_eq!((config.success_codes, config.on_master_exit), (None, None));
    operated.bench.master.stop_worker("w").unwrap();
    let Description { worker, history, .. } = client.describe("w").unwrap();
    let exit = history.last().unwrap().exit.clone().unwrap();
    assert!(exit.let_go && worker.exit == Some(exit.clone()), "{exit:?}");
    assert_eq!((exit.code, exit.signal, exit.text.as_str()), (None, None, "let go of, lives on"));
    assert!(stranger.lives());
    operated.bench.finish();
}

#[test]
fn retries_that_are_left_are_counted() {
    let operated = Operated::new();
    operated.bench.add(shell("bad", "exit 3").restart(quick().max_retries(2)));
    operated.bench.add(shell("endless", "exit 3").restart(quick().max_retries(0)));
    let kept = sleeper("kept").on_master_exit(OnMasterExit::Keep);
    operated.bench.add(kept);
    let client = operated.client();
    let left = |id| {
        let known = client.describe(id).unwrap();
        (known.failures, known.retries_left)
    };
    assert_eq!((left("bad"), left("endless")), ((0, Some(2)), (0, None)));
    let _ = operated.bench.master.start_worker("bad");
    operated.bench.once("bad", |known| known.gave_up);
    assert_eq!(left("bad"), (3, Some(0)));
    operated.bench.master.stop_worker("bad").unwrap();
    assert_eq!(left("bad").1, Some(2));
    let config = client.describe("kept").unwrap().config;
    assert_eq!(config.on_master_exit.as_deref(), Some("keep"));
    // A run that was long enough clears the count before its end.
    let restart = quick().max_retries(9).reset_after(ms(50));
    let gate = operated.directory.path().join("gate");
    let script = "test -e $GATE || exit 3; exec sleep 1000";
    let env = gate.display().to_string();
    operated.bench.add(shell("mended", script).env("GATE", env).restart(restart));
    let _ = operated.bench.master.start_worker("mended");
    until(|| left("mended").0 > 0);
    std::fs::write(gate, "").unwrap();
    until(|| left("mended") == (0, Some(9)));
    assert_eq!(operated.bench.known("mended").state, WorkerState::Running);
    operated.bench.finish();
}

#[test]
fn c17_the_configuration_that_holds_is_known_by_its_digest() {
    let directory = tempfile::tempdir().unwrap();
    let state = directory.path().join("state");
    let text = move |id: &str| {
        format!(
            "master: {{ name: tested, state_dir: {} }}\n\
             workers: [ {{ id: {id}, enabled: false, command: x }} ]\n",
            state.display()
        )
    };
    let file = directory.path().join("w.yaml");
    std::fs::write(&file, text("a")).unwrap();
    let source = file.clone();
    let config = MasterConfig::load(&file).unwrap();
    let first = config.digest.clone().unwrap();
    assert_eq!(first.len(), 16);
    assert_eq!(MasterConfig::from_yaml(&text("a")).unwrap().digest, Some(first.clone()));
    let builder = Master::builder().config(config).source(move || MasterConfig::load(&source));
    let operated = Operated { bench: Bench::new(builder), directory };
    let hello = || operated.client().hello().clone();
    assert_eq!(hello().configuration, Some(first.clone()));
    let held_since = hello().configured_at.unwrap();
    let client = operated.client();
    let unchanged = client.plan(None).unwrap();
    assert_eq!(
        (&unchanged.digest, &unchanged.digest_before),
        (&Some(first.clone()), &Some(first.clone()))
    );
    assert!(unchanged.to_string().ends_with(&format!("\nconfiguration {first}\n")), "{unchanged}");

    std::fs::write(&file, text("b")).unwrap();
    let planned = client.plan(None).unwrap();
    let second = planned.digest.clone().unwrap();
    assert_ne!(second, first);
    assert_eq!(planned.digest_before, Some(first.clone()));
    assert_eq!(hello().configuration, Some(first.clone()), "nothing was touched");
    let told = client.reload().unwrap().to_string();
    assert!(told.ends_with(&format!("\nconfiguration {second}, before {first}\n")), "{told}");
    assert_eq!(hello().configuration, Some(second.clone()));
    assert!(hello().configured_at.unwrap() >= held_since);

    std::fs::write(&file, "workers: 7").unwrap();
    assert_eq!(client.reload().unwrap_err().category(), ErrorCategory::Configuration);
    assert_eq!(hello().configuration, Some(second));
    operated.bench.finish();
}
