//! `import`: print the configuration of another supervisor as `workers.yaml`.

use super::args::Import;
use super::{Outcome, complain, print, warn};
use crate::config;

pub(super) fn import(arguments: &Import) -> Outcome {
    match config::import_hsu_go(&arguments.file) {
        Ok(imported) => {
            for warning in &imported.warnings {
                warn(&format!("warning: {warning}\n"));
            }
            print(&imported.text)
        }
        Err(error) => {
            complain(&error);
            Outcome::Usage
        }
    }
}
