//! A master that has run out of descriptors: its workers fail, and it is operated as ever.

use std::process::{Command, Stdio};
use std::time::Instant;

use crate::live::start;
use crate::running::{LONG, Running};
use crate::support::Place;

#[test]
fn a12_a_master_without_descriptors_is_operated_as_ever() {
    let worker =
        |n| format!("- {{ id: w{n}, command: sleep 1000, restart: {{ policy: never }} }}\n");
    let workers: String = (0..40).map(worker).collect();
    let place = Place::with(&format!("workers:\n{workers}"));
    let inner = place.command("run");
    let mut command = Command::new("/bin/sh");
    command.args(["-c", r#"ulimit -n 64; exec "$0" run"#]).arg(inner.get_program());
    command.current_dir(place.path());
    for (name, value) in inner.get_envs() {
        match value {
            Some(value) => command.env(name, value),
            None => command.env_remove(name),
        };
    }
    let _master = start(command);
    // Answered for each of them, whatever came of it.
    let ran = place.run("start --all --json").expect(1).json();
    let outcome = |ok: bool| ran.as_array().unwrap().iter().filter(|one| one["ok"] == ok).count();
    assert!(outcome(true) >= 3 && outcome(false) >= 3, "{ran:#}");
    let failed = ran.as_array().unwrap().iter().find(|one| one["ok"] == false).unwrap();
    assert_eq!(failed["error"]["category"], "resource_limit", "{failed:#}");
    for _ in 0..20 {
        assert_eq!(place.run("status --json").expect(0).json().as_array().unwrap().len(), 40);
    }
    let id = failed["id"].as_str().unwrap();
    assert!(place.run(&format!("explain {id}")).expect(0).out.contains("descriptors"));
    told_of_those_who_stay(&place, id);
    place.run("stop --all").expect(0);
    let end = Instant::now() + LONG;
    // What the others had may not all be closed yet.
    while place.run(&format!("start {id}")).code != Some(0) {
        assert!(Instant::now() < end, "descriptors do not come back");
    }
}

/// More wait than can: who asks beside them is told that there is no descriptor, and not
/// that nobody answers.
fn told_of_those_who_stay(place: &Place, id: &str) {
    let wait = || place.command(&format!("wait {id} --for running --timeout 10m"));
    let staying: Vec<_> = (0..8).map(|_| Running::start(wait().stdout(Stdio::null()))).collect();
    let end = Instant::now() + LONG;
    loop {
        let ran = place.run("status");
        if ran.err.contains("busy: no descriptor is left") {
            break;
        }
        assert!(ran.code == Some(0) || ran.err.contains("busy"), "{ran:?}");
        assert!(Instant::now() < end, "there is room for all of them");
    }
    drop(staying);
    while place.run("status").code != Some(0) {
        assert!(Instant::now() < end, "what they had does not come back");
    }
}
