//! The proof of the simulation: every bug that can be planted in the core is found by some seed.

use super::first_failure;
use crate::core::planted::{Bug, with_bug};

/// The first of `seeds` seeds whose run notices the bug, and the rule that it breaks.
fn finds(bug: Bug, seeds: u64) -> Option<(u64, String)> {
    with_bug(bug, || first_failure(0..seeds))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::core::planted::ALL;

    /// More than `cargo test` runs without a bug, so that other dice find all of them too.
    const SEEDS: u64 = 20_000;

    fn first_line(text: &str) -> &str {
        text.lines().next().unwrap_or_default()
    }

    #[test]
    fn every_planted_bug_is_found() {
        let mut missed = Vec::new();
        for bug in ALL {
            match finds(bug, SEEDS) {
                Some((seed, rule)) => println!("{bug:?}: seed {seed}, {}", first_line(&rule)),
                None => missed.push(bug),
            }
        }
        assert!(missed.is_empty(), "no seed notices {missed:?}");
    }
}
