//! The actor as a plugin.
#![expect(clippy::unwrap_used, reason = "what cannot go on has failed")]

mod module;

hsu_master::export_module!(module::make);
