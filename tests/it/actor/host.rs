//! The program that is run for the actor in a process of its own: the test's own program is the
//! test runner, whose main is not ours.
#![expect(clippy::unwrap_used, reason = "what cannot go on has failed")]

mod module;

fn main() {
    let modules = hsu_master::ModuleRegistry::new().module("actor", module::make);
    hsu_master::host_if_requested(&modules);
    panic!("it is for masters");
}
