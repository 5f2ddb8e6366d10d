//! Cases about what a module logs through `log`.

use hsu_master::Deployment;

use super::Stage;
use crate::actor::Life;
use crate::logged;

pub(super) fn log_lines_arrive_from_every_callback(stage: &Stage) {
    if stage.place.deployment == Deployment::Program {
        // What it writes is its output.
        stage.here.set(false);
        return;
    }
    let (bench, master) = (&stage.bench, &stage.bench.master);
    stage.add("w", &[Life::Logs], |config| config);
    master.start_worker("w").unwrap();
    master.call("w", "log", b"").unwrap();
    let levels: Vec<_> = log::Level::iter().collect();
    for callback in ["initialize", "start", "thread", "function"] {
        for level in &levels {
            let said = format!("{callback} {level} {}", bench.gate().display());
            let [line] = &logged::lines(1, &said)[..] else { panic!("{said} came twice") };
            let told = (line.level, line.target.as_str(), line.worker.as_deref());
            assert_eq!(told, (*level, "actor::of", Some("w")));
            assert_eq!(line.text, said);
        }
    }
}
