//! What another configuration would do and does: from whichever place it is asked, and told to
//! whom nobody waits for.

use std::fs;
use std::process::Command;

use crate::live::start;
use crate::running::signal;
use crate::support::{Place, Ran};

const NAP: &str = "command: sleep 1000";

/// A command that only its arguments and the files around it lead to a master.
fn without_environment(mut command: Command, around: &Place) -> Command {
    command.env_remove("HSU_STATE_DIR").env("XDG_RUNTIME_DIR", around.path());
    command
}

#[test]
fn a_file_to_plan_need_not_say_where_the_master_is() {
    let around = Place::new();
    let place = Place::with(&format!(
        "master: {{ name: planned, state_dir: kept }}\nworkers: [ {{ id: old, {NAP} }} ]\n"
    ));
    let ask = |line: &str| {
        let mut command = without_environment(place.command(line), &around);
        Ran::of(command.output().unwrap())
    };
    fs::create_dir(place.path().join("new")).unwrap();
    let new = format!("workers: [ {{ id: old, {NAP} }}, {{ id: more, {NAP} }} ]\n");
    fs::write(place.path().join("new/other.yaml"), new).unwrap();
    let ran = ask("plan -c new/other.yaml").expect(3);
    assert!(ran.err.contains("hsu-master run"), "{ran:?}");
    let _master = start(without_environment(place.command("run"), &around));
    // By the configuration that is here, and by the one that the environment names.
    assert!(ask("plan -c new/other.yaml").expect(0).out.contains("more"));
    let mut elsewhere = without_environment(around.command("plan -c"), &around);
    elsewhere.arg(place.path().join("new/other.yaml"));
    Ran::of(elsewhere.output().unwrap()).expect(3);
    elsewhere.env("HSU_CONFIG", place.path().join("workers.yaml"));
    assert!(Ran::of(elsewhere.output().unwrap()).expect(0).out.contains("more"));
    // Other commands mean the master of the file that they are given.
    ask("status -c new/other.yaml").expect(3);
}

#[test]
fn what_came_of_a_reload_by_signal_is_told() {
    let place = Place::with(&format!("workers: [ {{ id: old, {NAP} }} ]\n"));
    let mut master = start(place.command("run"));
    let two = format!("workers: [ {{ id: old, {NAP} }}, {{ id: bad, command: /no/such }} ]\n");
    fs::write(place.path().join("workers.yaml"), two).unwrap();
    place.run("wait old --for running").expect(0);
    assert!(signal(master.pid(), "HUP"));
    master.until("reload: add bad: failed: ");
    master.until("reload: 0 of 1 steps are done");
}
