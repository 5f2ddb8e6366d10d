//! The data processor as a plain executable, for those who run it under any supervisor or none.

mod program;
mod service;

fn main() -> std::process::ExitCode {
    program::run(std::env::args().skip(1))
}
