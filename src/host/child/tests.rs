//! Faults of our own in a module host (FAULTS S17): they end it, as a module's panic does, so that
//! its master hears of it and the restart policy decides.

use std::os::unix::process::ExitStatusExt;
use std::process::{self, Output};
use std::thread;

use crossbeam_channel::{Sender, bounded};
use signal_hook::low_level::raise;

use super::*;
use crate::host::threads::fail_points::arm;
use crate::host::{Launch, ModuleSource, alone, protocol};
use crate::module::{ModuleConfig, ModuleContext, ModuleResult, WorkerModule};

const LONG: Duration = Duration::from_secs(30);

/// What the process of its own has said; it must not have ended as tests do.
fn said(ended: &Output) -> String {
    let out = String::from_utf8_lossy(&ended.stdout).into_owned();
    assert!(!out.contains("test result"), "{out}");
    format!("{out}\n{}", String::from_utf8_lossy(&ended.stderr))
}

/// A module that never comes to an end.
struct Stuck(Sender<()>);

impl WorkerModule for Stuck {
    fn initialize(&mut self, _: &ModuleContext, _: &ModuleConfig) -> ModuleResult {
        self.0.send(())?;
        loop {
            thread::park();
        }
    }
    fn start(&mut self, _: &ModuleContext) -> ModuleResult {
        Ok(())
    }
    fn info(&self) -> ModuleInfo {
        ModuleInfo::new("stuck", "1")
    }
}

#[test]
fn s17_a_host_ends_when_one_of_its_threads_for_calls_panics() {
    let test = s17_a_host_ends_when_one_of_its_threads_for_calls_panics;
    let Some(ended) = alone::run(&[], test) else {
        let (mut ours, theirs) = UnixStream::pair().unwrap();
        arm("hsu-calls");
        let (host, signals) = open(&ModuleRegistry::new(), theirs).unwrap();
        ours.write_all(b"{\"id\":1,\"method\":\"info\"}\n").unwrap();
        process::exit(host.conclude(signals));
    };
    let said = said(&ended);
    assert_eq!(ended.status.code(), Some(PANICKED), "{said}");
    assert!(said.contains("told to at hsu-calls"), "{said}");
}

#[test]
fn s17_a_signal_ends_a_host_though_who_waits_for_its_module_panics() {
    let test = s17_a_signal_ends_a_host_though_who_waits_for_its_module_panics;
    let Some(ended) = alone::run(&[], test) else {
        let (mut ours, theirs) = UnixStream::pair().unwrap();
        let (begun, begins) = bounded(1);
        let registry = ModuleRegistry::new().module("stuck", move || Stuck(begun.clone()));
        let (host, signals) = open(&registry, theirs).unwrap();
        let launch = Launch {
            worker: "w".to_owned(),
            incarnation: 1,
            module: ModuleSource::Native("stuck".to_owned()),
            config: serde_json::json!({}),
        };
        let initialize = Initialize { launch, log_level: "info".to_owned(), stack_size: 1 << 20 };
        let mut line = Vec::new();
        protocol::Request::Initialize(&initialize).write(1, LONG, &mut line);
        ours.write_all(&line).unwrap();
        begins.recv_timeout(LONG).unwrap();
        arm("hsu-signal");
        raise(SIGTERM).unwrap();
        process::exit(host.conclude(signals));
    };
    let said = said(&ended);
    assert_eq!(ended.status.signal(), Some(SIGTERM), "{said}");
    assert!(said.contains("told to at hsu-signal"), "{said}");
}
