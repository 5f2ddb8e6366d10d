//! Finds the word that was probably meant.

/// The longest word that is compared: no known one comes near it.
const MAX_WORD: usize = 40;

/// The nearest of `known` to `written`, if it is near enough to be a slip of the finger.
pub(crate) fn nearest<'k>(
    written: &str,
    known: impl IntoIterator<Item = &'k str>,
) -> Option<&'k str> {
    if written.len() > MAX_WORD {
        return None;
    }
    let written = written.to_ascii_lowercase();
    let near = |word: &&str| {
        let distance = distance(&written, word);
        (distance <= (word.len() / 3).clamp(1, 3)).then_some(distance)
    };
    let measured = known.into_iter().filter_map(|word| Some((near(&word)?, word)));
    measured.min_by_key(|(distance, _)| *distance).map(|(_, word)| word)
}

/// How many letters must be inserted, removed, replaced or swapped with their neighbour.
fn distance(from: &str, to: &str) -> usize {
    let from: Vec<char> = from.chars().collect();
    let to: Vec<char> = to.chars().collect();
    let mut before_last = vec![0; to.len() + 1];
    let mut last: Vec<usize> = (0..=to.len()).collect();
    for row in 1..=from.len() {
        let mut current = vec![row; to.len() + 1];
        for column in 1..=to.len() {
            let changed = usize::from(from[row - 1] != to[column - 1]);
            let mut least = last[column - 1] + changed;
            least = least.min(last[column] + 1).min(current[column - 1] + 1);
            let swapped = row > 1
                && column > 1
                && from[row - 1] == to[column - 2]
                && from[row - 2] == to[column - 1];
            if swapped {
                least = least.min(before_last[column - 2] + 1);
            }
            current[column] = least;
        }
        before_last = std::mem::replace(&mut last, current);
    }
    last[to.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slips_of_the_finger_are_one_step_away() {
        for (from, to, steps) in
            [("", "", 0), ("a", "", 1), ("stop", "stpo", 1), ("retry", "retires", 3), ("a", "b", 1)]
        {
            assert_eq!(distance(from, to), steps, "{from} {to}");
        }
    }

    #[test]
    fn only_near_words_are_suggested() {
        let known = ["id", "type", "restart", "retry_delay"];
        assert_eq!(nearest("restrat", known), Some("restart"));
        assert_eq!(nearest("retryDelay", known), Some("retry_delay"));
        assert_eq!(nearest("idd", known), Some("id"));
        assert_eq!(nearest("port", known), None);
        assert_eq!(nearest(&"x".repeat(100_000), known), None);
    }
}
