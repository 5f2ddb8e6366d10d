//! Cases about what is too much, wherever it comes from (FAULTS B15).

use hsu_master::{Deployment, ErrorCategory, WorkerState};

use super::Stage;
use crate::actor::Life;

/// The largest configuration of a worker, as JSON.
const MAX_CONFIG: usize = 960 << 10;

pub(super) fn the_largest_configuration_is_handed_over(stage: &Stage) {
    if !stage.is_of_a_module() {
        return;
    }
    let (bench, master) = (&stage.bench, &stage.bench.master);
    let mut config = stage.worker("w", &[Life::Stays]);
    config.config["padding"] = "".into();
    let size = config.config.to_string().len();
    config.config["padding"] = "x".repeat(MAX_CONFIG - size).into();
    let mut larger = config.clone();
    larger.id = "larger".into();
    larger.config["padding"] = "x".repeat(MAX_CONFIG - size + 1).into();
    bench.add(config);
    assert_eq!(master.start_worker("w").unwrap(), 1);
    let refused = master.add_worker(larger).unwrap_err();
    assert_eq!(refused.category(), ErrorCategory::Configuration);
    assert!(refused.to_string().contains("config"), "{refused}");
}

pub(super) fn long_names_and_texts_are_refused_or_cut(stage: &Stage) {
    if !stage.is_of_a_module() {
        return;
    }
    let (bench, master) = (&stage.bench, &stage.bench.master);
    stage.add("w", &[Life::Stays], |config| config);
    master.start_worker("w").unwrap();
    for length in [129, 200 << 10, 10 << 20] {
        let error = master.call("w", &"x".repeat(length), b"").unwrap_err();
        assert_eq!(error.category(), ErrorCategory::UnknownFunction, "{length}");
        assert!(error.to_string().len() < 5000);
    }
    let text = "y".repeat(400 << 10);
    let error = master.call("w", "fail", text.as_bytes()).unwrap_err();
    assert_eq!(error.category(), ErrorCategory::Crash, "{error}");
    let said = error.to_string();
    assert!(said.starts_with("worker w: out of inkyyy") && said.len() < 5000, "{}", said.len());

    master.call("w", "publish", text.as_bytes()).unwrap();
    assert_eq!(master.call("w", "echo", b"still").unwrap(), b"still");
    let known = bench.known("w");
    assert_eq!((known.state, known.incarnation), (WorkerState::Running, 1));
    assert!(known.endpoints.iter().all(|endpoint| endpoint.name != "long"), "{known:#?}");
    assert!(known.endpoints.iter().all(|endpoint| endpoint.name.len() < 100));
}

/// FAULTS B27: what a module does to its own children is not the master's loss.
pub(super) fn a_module_that_waits_for_any_child(stage: &Stage) {
    if !stage.is_of_a_module() || stage.place.deployment != Deployment::Hosted {
        // In a thread it would take what this very program waits for.
        stage.here.set(false);
        return;
    }
    let (bench, master) = (&stage.bench, &stage.bench.master);
    stage.add("w", &[Life::Stays], |config| config);
    master.start_worker("w").unwrap();
    assert_eq!(master.call("w", "reap", b"").unwrap(), b"true");
    master.stop_worker("w").unwrap();
    assert_eq!(bench.known("w").exit, Some(hsu_master::Exit::Code(0)));
}
