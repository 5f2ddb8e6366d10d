//! The adversary of the core: a seeded world of misbehaving workers, a judge that holds every turn
//! to the contract by a model of its own, and the closure of all that one worker can live through.
//!
//! `HSU_SIM_SEEDS=N` runs N seeds, `HSU_SIM_SEED=S` runs one and prints its trace.

mod closure;
mod coverage;
mod dice;
mod draw;
mod effects;
mod health;
mod host;
mod judge;
mod life;
mod model;
mod planted;
mod status;
mod tickets;
mod world;

/// What a check says: all is well, or which rule was broken and how.
type Verdict<T = ()> = Result<T, String>;

/// Returns an error with the rule's name and the facts unless the condition holds.
macro_rules! demand {
    ($condition:expr, $($text:tt)+) => {
        if !$condition {
            return Err(format!($($text)+));
        }
    };
}
use demand;

/// The first seed of `seeds` whose run breaks a rule, with the rule.
fn first_failure(seeds: impl IntoIterator<Item = u64>) -> Option<(u64, String)> {
    seeds.into_iter().find_map(|seed| world::run(seed, false).1.err().map(|rule| (seed, rule)))
}

/// The end of a seed's trace, for people.
fn excerpt(seed: u64, lines: usize) -> String {
    let (story, _) = world::run(seed, true);
    let from = story.lines.len().saturating_sub(lines);
    story.lines[from..].join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    /// How many seeds `cargo test` runs.
    const SEEDS: u64 = 2_000;

    fn number(variable: &str) -> Option<u64> {
        std::env::var(variable).ok().map(|text| text.parse().unwrap())
    }

    #[test]
    fn no_seed_breaks_a_rule() {
        if let Some(seed) = number("HSU_SIM_SEED") {
            let (story, verdict) = world::run(seed, true);
            println!("{}", story.lines.join("\n"));
            return verdict.unwrap();
        }
        if let Some((seed, rule)) = first_failure(0..number("HSU_SIM_SEEDS").unwrap_or(SEEDS)) {
            panic!("{}\n\nseed {seed}: {rule}", excerpt(seed, 40));
        }
    }

    #[test]
    fn the_same_seed_gives_the_same_trace() {
        for seed in 0..50 {
            assert_eq!(world::run(seed, true).0.lines, world::run(seed, true).0.lines, "{seed}");
        }
    }
}
