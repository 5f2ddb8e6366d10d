//! The stock binary: the complete command line, without native modules of its own.

fn main() -> std::process::ExitCode {
    hsu_master::App::new().run()
}
