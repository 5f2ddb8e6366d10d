//! `import`: print the configuration of another supervisor as `workers.yaml`.

use super::args::Import;
use super::{Outcome, complain, print, say};
use crate::config;

pub(super) fn import(arguments: &Import) -> Outcome {
    match config::import_hsu_go(&arguments.file) {
        Ok(imported) => {
            for warning in &imported.warnings {
                say(&format!("warning: {warning}"));
            }
            print(&imported.text)
        }
        Err(error) => {
            complain(&error);
            Outcome::Usage
        }
    }
}
