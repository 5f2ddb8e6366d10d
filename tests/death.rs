//! The end of a master that did not stop its workers, and the beginning of the next one: the real
//! binary, killed, with real processes (FAULTS S01 to S06, S15, S16, S19, S20, S23, S27, T04, L16,
//! A32, I36, I37, I40).
#![cfg(all(target_os = "linux", feature = "cli"))]
#![expect(clippy::unwrap_used, reason = "helpers of tests are tests")]

#[path = "death/adoption.rs"]
mod adoption;
#[path = "death/disk.rs"]
mod disk;
#[path = "death/dying.rs"]
mod dying;
#[path = "death/embedded.rs"]
mod embedded;
#[path = "death/guardian.rs"]
mod guardian;
#[path = "death/left.rs"]
mod left;
#[path = "death/output.rs"]
mod output;
#[path = "death/removed.rs"]
mod removed;
#[path = "death/rounds.rs"]
mod rounds;
#[path = "support/running.rs"]
mod running;
#[path = "death/stopped.rs"]
mod stopped;
#[path = "death/support.rs"]
mod support;
#[path = "death/surroundings.rs"]
mod surroundings;
#[path = "death/takeover.rs"]
mod takeover;
#[path = "death/versions.rs"]
mod versions;
#[path = "death/writer.rs"]
mod writer;
