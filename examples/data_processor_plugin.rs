//! The data processor as a plugin: the same module, in a shared library that any master can load.

#![forbid(unsafe_code)]

#[path = "data_processor/service.rs"]
mod service;

hsu_master::export_module!(service::DataProcessor::default);
