//! Logs, with real files.
