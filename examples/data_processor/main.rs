//! The data processor as a program of its own, with the whole command line of a master: what a
//! user's main is. `data_processor run -c workers.yaml` runs the service as the file says.

mod service;

fn main() -> std::process::ExitCode {
    hsu_master::App::new().module("data-processor", service::DataProcessor::default).run()
}
