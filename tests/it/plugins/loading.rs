//! One file is loaded once; another content of it is another library, which a running master does
//! not get to see.

use std::fs;

use hsu_master::{ErrorCategory, Master, WorkerState};

use super::{Workshop, bench, start_error, worker};
use crate::support::{Bench, slow};

#[test]
fn b23_two_versions_live_side_by_side() {
    let Some(workshop) = Workshop::open() else { return };
    let old = workshop.compile("examples/c_module/upper.c", "v1.so", &["-DVERSION=\"1.0\""]);
    let new = workshop.compile("examples/c_module/upper.c", "v2.so", &["-DVERSION=\"2.0\""]);
    let bench = bench();
    for (id, library) in [("old", &old), ("new", &new), ("again", &old)] {
        bench.add(worker(id, library));
        bench.master.start_worker(id).unwrap();
        assert_eq!(bench.master.call(id, "upper", b"a").unwrap(), b"A");
    }
    let version = |library: &std::path::Path| {
        let path = fs::canonicalize(library).unwrap().display().to_string();
        let known = bench.master.modules().into_iter().filter(|module| module.name == path);
        known.map(|module| module.info.version).collect::<Vec<_>>()
    };
    assert_eq!((version(&old), version(&new)), (vec!["1.0".to_owned()], vec!["2.0".to_owned()]));
    bench.finish();
}

#[test]
fn b23_another_path_to_the_same_file_is_the_same_library() {
    let Some(workshop) = Workshop::open() else { return };
    let library = workshop.variant("one.so", &["-DFLAGS=2"]);
    fs::hard_link(&library, workshop.path("two.so")).unwrap();
    std::os::unix::fs::symlink(&library, workshop.path("three.so")).unwrap();
    let bench = Bench::new(Master::builder());
    bench.add(worker("one", &library));
    bench.master.start_worker("one").unwrap();
    for name in ["two.so", "three.so"] {
        let error = start_error(&bench, worker(name, &workshop.path(name)).restart(slow()));
        assert_eq!(error.category(), ErrorCategory::Plugin);
        let said = "it allows one instance at a time, and there is one";
        assert!(error.to_string().contains(said), "{error}");
        assert!(!error.permanent(), "the other may end");
    }
    bench.master.stop_worker("one").unwrap();
    bench.master.start_worker("two.so").unwrap();
    bench.finish();
}

#[test]
fn b24_a_file_that_was_replaced_is_refused_and_the_old_code_runs_on() {
    let Some(workshop) = Workshop::open() else { return };
    let library = workshop.compile("examples/c_module/upper.c", "lib.so", &["-DVERSION=\"1.0\""]);
    let bench = bench();
    bench.add(worker("w", &library).restart(slow()));
    bench.master.start_worker("w").unwrap();
    let new = workshop.compile("examples/c_module/upper.c", "new.so", &["-DVERSION=\"2.0\""]);
    fs::rename(&new, &library).unwrap();
    assert_eq!(bench.master.call("w", "upper", b"a").unwrap(), b"A");
    let error = bench.master.restart_worker("w", false).unwrap_err();
    assert_eq!((error.category(), error.permanent()), (ErrorCategory::Plugin, true));
    let said = "the file has changed since this program loaded it";
    assert!(error.to_string().contains(said), "{error}");
    assert!(error.to_string().contains("restart this program, or run the worker"), "{error}");
    // No retry mends it.
    bench.once("w", |known| known.gave_up);
    bench.finish();
}

#[test]
fn b24_a_file_that_was_written_over_is_not_loaded_again() {
    let Some(workshop) = Workshop::open() else { return };
    let library = workshop.variant("lib.so", &[]);
    let bench = bench();
    bench.add(worker("w", &library).restart(slow()));
    bench.master.start_worker("w").unwrap();
    // To write into it would end this very process; that it was written into is seen by its time.
    let file = fs::OpenOptions::new().write(true).open(&library).unwrap();
    file.set_modified(std::time::SystemTime::UNIX_EPOCH).unwrap();
    let error = bench.master.restart_worker("w", false).unwrap_err();
    assert!(error.to_string().contains("the file has changed since"), "{error}");
    bench.finish();
}

#[test]
fn libraries_are_loaded_and_let_go_of_by_the_runtime() {
    let Some(workshop) = Workshop::open() else { return };
    let library = workshop.variant("lib.so", &["-DNAME=\"let-go\""]);
    let bench = bench();
    let runtime = bench.master.module_runtime();
    let is_loaded = || runtime.loaded_modules().iter().any(|module| module.name == "let-go");
    assert!(runtime.unload_module(&library).unwrap_err().to_string().contains("is not loaded"));
    assert!(!is_loaded());
    let info = runtime.load_module(&library, None).unwrap();
    assert_eq!((info.name.as_str(), info.version.as_str()), ("let-go", "1"));
    assert!(is_loaded());
    let error = runtime.load_module(&library, Some("other")).unwrap_err();
    assert_eq!(error.category(), ErrorCategory::Plugin, "{error}");

    bench.add(worker("w", &library).restart(slow()));
    bench.master.start_worker("w").unwrap();
    let error = runtime.unload_module(&library).unwrap_err();
    assert_eq!(error.category(), ErrorCategory::Refused);
    assert!(error.to_string().contains("1 of its instances live"), "{error}");
    bench.master.stop_worker("w").unwrap();
    runtime.unload_module(&library).unwrap();
    assert!(!is_loaded() && runtime.unload_module(&library).is_err());
    let error = bench.master.start_worker("w").unwrap_err();
    assert!(error.to_string().contains("it was unloaded; load it again first"), "{error}");
    runtime.load_module(&library, None).unwrap();
    bench.master.start_worker("w").unwrap();
    assert_eq!(bench.known("w").state, WorkerState::Running);
    bench.finish();
}
