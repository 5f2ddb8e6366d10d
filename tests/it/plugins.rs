//! Modules in shared libraries, written in C and in Rust: they live as all modules do, and whatever
//! is wrong with a library is said instead of done (FAULTS B17 to B24).

mod breaks;
mod lives;
mod loading;
mod refusals;

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use hsu_master::{Error, Master, WorkerConfig};

use crate::support::{Bench, ms, quick};

/// The package's directory.
fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// A directory of a test's own, in which it compiles its libraries.
struct Workshop {
    directory: tempfile::TempDir,
}

impl Workshop {
    /// `None`, and a word of it, where there is no C compiler.
    #[expect(clippy::print_stderr, reason = "what was not tested must be seen")]
    fn open() -> Option<Self> {
        let version = Command::new("cc").arg("--version").stdout(Stdio::null()).status();
        if !version.is_ok_and(|status| status.success()) {
            eprintln!("skipped: there is no C compiler `cc`");
            return None;
        }
        Some(Self { directory: tempfile::tempdir().unwrap() })
    }

    fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    /// Compiles a source of the package to the library `name`.
    fn compile(&self, source: &str, name: &str, options: &[&str]) -> PathBuf {
        let library = self.path(name);
        let mut command = Command::new("cc");
        command.args(["-std=gnu11", "-Wall", "-Wextra", "-Werror", "-shared", "-fPIC", "-g0"]);
        command.arg("-I").arg(root().join("include")).args(options);
        command.arg("-o").arg(&library).arg(root().join(source)).arg("-lpthread");
        let compiled = command.output().unwrap();
        let errors = String::from_utf8_lossy(&compiled.stderr);
        assert!(compiled.status.success(), "{source} {options:?}:\n{errors}");
        library
    }

    /// A variant of the test's plugin.
    fn variant(&self, name: &str, options: &[&str]) -> PathBuf {
        self.compile("tests/plugins/variant.c", name, options)
    }
}

/// The library that cargo has made of an example, beside the directory of this test's own program.
fn example(name: &str) -> PathBuf {
    let test = std::env::current_exe().unwrap();
    let target = test.parent().and_then(Path::parent).unwrap();
    let library = target.join("examples").join(format!("lib{name}.so"));
    assert!(library.exists(), "{library:?} is missing: run `cargo build --examples` first");
    library
}

/// A master that tries libraries in a child before it loads them.
fn bench() -> Bench {
    Bench::new(Master::builder().host_program(env!("CARGO_BIN_EXE_hsu-master")))
}

/// A worker that is retried at once.
fn worker(id: &str, library: &Path) -> WorkerConfig {
    let config = WorkerConfig::plugin(id, library.to_str().unwrap()).restart(quick());
    let stop = config.stop.clone().timeout(ms(30_000));
    config.stop(stop)
}

/// The error that a worker's start ends with.
fn start_error(bench: &Bench, config: WorkerConfig) -> Error {
    let id = config.id.clone();
    bench.add(config);
    bench.master.start_worker(&id).unwrap_err()
}
