//! What only the operating system can do, one file for each.
