//! The stock binary: the command line without any native module.

fn main() {}
