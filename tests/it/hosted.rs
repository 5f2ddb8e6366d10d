//! What is particular to modules in processes of their own, and what becomes of a thread where they
//! are contained (FAULTS B04, B05, B27).

use hsu_master::{ErrorCategory, Exit, Master, WorkerConfig, WorkerState, WorkerType};

use crate::actor::make;
use crate::alone;
use crate::made::Made;
use crate::support::{Bench, PATIENCE, once};

#[test]
fn without_the_hook_or_another_program_no_module_is_hosted() {
    // The test runner's main is none that could be run again as a host.
    let master = Master::builder().module("actor", make).build().unwrap();
    let config = WorkerConfig::native("w", "actor").worker_type(WorkerType::Process);
    let refused = master.add_worker(config.clone()).unwrap_err();
    assert_eq!(refused.category(), ErrorCategory::Configuration);
    let said = refused.to_string();
    assert!(said.contains("hsu_master::host_if_requested(&registry)"), "{said}");
    assert!(master.all_worker_diagnostics().is_empty());
    // The same module as a thread needs none of that.
    assert!(master.add_worker(config.worker_type(WorkerType::Module)).is_ok());
}

#[test]
fn b04_a_panic_while_panicking_ends_the_master_and_names_the_worker() {
    let Some(ended) =
        alone::run(&[], b04_a_panic_while_panicking_ends_the_master_and_names_the_worker)
    else {
        struct Trap;
        impl Drop for Trap {
            fn drop(&mut self) {
                panic!("twice");
            }
        }
        let made = Made::new().start(|_| {
            let _trap = Trap;
            panic!("once")
        });
        let bench = Bench::new(Master::builder().module("m", made.made()));
        bench.add(WorkerConfig::native("fragile", "m"));
        let _ = bench.master.start_worker("fragile");
        panic!("it lived on");
    };
    use std::os::unix::process::ExitStatusExt;
    assert_eq!(ended.status.signal(), Some(6), "{ended:?}");
    let said = String::from_utf8_lossy(&ended.stderr);
    assert!(said.contains("fragile#1") && said.contains("twice"), "{said}");
}

#[test]
fn b27_an_exit_that_a_module_took_is_unknown_and_holds_nobody_up() {
    if !alone::here(&[], b27_an_exit_that_a_module_took_is_unknown_and_holds_nobody_up) {
        return;
    }
    let made = Made::new().start(|ctx| {
        ctx.export("reap", |_| {
            #[expect(unsafe_code, reason = "there is no safe way to wait for any child")]
            // SAFETY: it takes no pointer but null.
            let pid = unsafe { libc::waitpid(-1, std::ptr::null_mut(), 0) };
            Ok(pid.to_string().into_bytes())
        })?;
        Ok(())
    });
    let bench = Bench::new(Master::builder().module("m", made.made()));
    bench.add(WorkerConfig::native("m", "m"));
    bench.master.start_worker("m").unwrap();
    let script = format!("read x < {}; exit 5", bench.gate().display());
    // Whoever of the two waits first gets the exit; in the end the module does.
    for turn in 0..1000 {
        let id = format!("p{turn}");
        bench.add(WorkerConfig::executable(&id, "/bin/sh").args(["-c", &script]));
        bench.master.start_worker(&id).unwrap();
        let reap = bench.master.function("m", "reap").call_bytes_nowait([]);
        bench.let_go(1);
        let known = once(&bench.master, &id, |known| known.exit.is_some());
        assert_ne!(known.state, WorkerState::Running);
        let lost = known.exit == Some(Exit::Unknown);
        assert!(lost || known.exit == Some(Exit::Code(5)), "{known:#?}");
        bench.master.remove_worker(&id).unwrap();
        let pid = reap.wait_timeout(PATIENCE).expect("it waits for no child").unwrap();
        assert!(!lost || pid != b"-1");
        if lost {
            break;
        }
        assert!(turn < 999, "the module never came first");
    }
    bench.finish();
}
