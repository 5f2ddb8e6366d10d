//! What is told of a worker is true of it: whether its program is still the one that runs (FAULTS
//! A36), and what its restart policy makes of a failure.

use std::fs;

use crate::live::start;
use crate::support::Place;

#[test]
fn a36_a_program_that_was_deleted_runs_on_and_is_told() {
    let place = Place::with("workers:\n- { id: nap, command: [./nap, '1000'] }\n");
    let program = place.path().join("nap");
    fs::copy("/bin/sleep", &program).unwrap();
    let _master = start(place.command("run"));
    place.run("wait nap --for running").expect(0);
    let listed = || place.run("status nap --json").expect(0).json();
    assert_eq!(listed()[0]["program_changed"], false);
    assert!(!place.run("status").expect(0).out.contains("program changed"));
    fs::remove_file(&program).unwrap();
    assert_eq!(
        (&listed()[0]["program_changed"], &listed()[0]["state"]),
        (&true.into(), &"running".into())
    );
    assert!(place.run("status").expect(0).out.contains("program changed"));
}

#[test]
fn a_policy_is_explained_as_it_is() {
    let place = Place::with(
        "workers:
- { id: never, command: [/bin/sh, -c, 'exit 3'], restart: { policy: never } }
- { id: web, command: sleep 1000 }
- { id: endless, command: sleep 1000, restart: { policy: always, max_retries: 0 } }
",
    );
    let _master = start(place.command("run"));
    for line in ["never --for stopped", "web --for running", "endless --for running"] {
        place.run(&format!("wait {line}")).expect(0);
    }
    let told = place.run("explain never").expect(0).out;
    assert!(told.contains("Nothing starts it by itself."), "{told}");
    assert!(told.contains("Its restart policy is `never`"), "{told}");
    assert!(!told.contains("retries are left") && !told.contains("retries are used"), "{told}");
    assert_eq!(place.run("explain never --json").expect(0).json()["retries_left"], 0);
    let told = place.run("explain web").expect(0).out;
    assert!(told.contains("Should it fail, it has 5 retries in a row."), "{told}");
    assert_eq!(place.run("explain web --json").expect(0).json()["retries_left"], 5);
    let told = place.run("explain endless").expect(0).out;
    assert!(told.contains("it is retried without end"), "{told}");
    assert!(place.run("explain endless --json").expect(0).json()["retries_left"].is_null());
}
