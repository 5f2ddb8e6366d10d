//! An application whose master's loop dies of a fault of the program's own: as soon as a worker
//! called `fatal` runs.

use std::process::ExitCode;
use std::sync::atomic::{AtomicBool, Ordering};

use hsu_master::App;

/// A logger that panics once, on the thread of the loop.
struct Fatal(AtomicBool);

impl log::Log for Fatal {
    fn enabled(&self, _: &log::Metadata<'_>) -> bool {
        true
    }

    fn log(&self, record: &log::Record<'_>) {
        let text = record.args().to_string();
        if text.contains("fatal#1 is running") && !self.0.swap(true, Ordering::SeqCst) {
            panic!("told to");
        }
        let mut stderr = std::io::stderr();
        let _ = std::io::Write::write_all(&mut stderr, format!("{text}\n").as_bytes());
    }

    fn flush(&self) {}
}

fn main() -> ExitCode {
    // The application keeps a logger that is there already.
    if log::set_boxed_logger(Box::new(Fatal(AtomicBool::new(false)))).is_ok() {
        log::set_max_level(log::LevelFilter::Info);
    }
    App::new().run()
}
