//! Masters with a module that does not end, whatever it is told (FAULTS S09, S29).

use super::Program;
use crate::support::{Fifo, example};

/// The actor as a module in the master's own process, which ignores that it is to stop.
fn stuck(voice: &Fifo, gate: &Fifo) -> String {
    format!(
        "master: {{shutdown_timeout: 10m}}\nworkers:\n\
         - {{id: rock, type: module, module_type: plugin, module_name: {},\n   \
         stop: {{timeout: 200ms}},\n   \
         config: {{lives: [Ignores], voice: {}, gate: {}}}}}\n",
        example("libactor_plugin.so").display(),
        voice.path.display(),
        gate.path.display()
    )
}

#[test]
fn s29_a_master_with_a_stuck_module_ends_all_the_same_and_names_it() {
    let (voice, gate) = (Fifo::new(), Fifo::new());
    let mut program = Program::run(&stuck(&voice, &gate));
    program.says("rock#1 is running");
    program.signal("TERM");
    let (status, said) = program.end();
    assert_eq!(status.code(), Some(1), "{said}");
    assert!(said.contains("did not end: rock"), "{said}");
}

#[test]
fn s09_the_third_request_leaves_at_once_and_names_who_is_left() {
    let (voice, gate) = (Fifo::new(), Fifo::new());
    let worker = stuck(&voice, &gate).replace("200ms", "10m");
    let mut program = Program::run(&worker);
    program.says("rock#1 is running");
    program.signal("TERM");
    program.says("asked to end: stopping all workers");
    program.signal("INT");
    program.says("asked to end again: killing all workers");
    program.signal("QUIT");
    let (status, said) = program.end();
    assert_eq!(status.code(), Some(1), "{said}");
    assert!(said.contains("leaving at once; left: rock#1"), "{said}");
}
