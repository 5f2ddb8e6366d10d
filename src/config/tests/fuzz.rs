//! Twenty thousand broken files: none makes the reader panic, and what it accepts is right.

use super::read;

/// Pieces that mean something to YAML or to the schema.
const PIECES: &[&str] = &[
    "{",
    "}",
    "[",
    "]",
    ": ",
    "- ",
    "\n",
    "\n  ",
    "'",
    "\"",
    "|\n",
    ">-\n",
    "&a ",
    "*a",
    "<<: ",
    "!x ",
    "? ",
    "# ",
    "---\n",
    "...\n",
    "\t",
    "\0",
    "\u{85}",
    "\u{2028}",
    "ä",
    "~",
    ".inf",
    "1.10",
    "0x1F",
    "99999999999999999999",
    "${A}",
    "${",
    "$$",
    "\\",
    "true",
    "yes",
    "0s",
    "-1",
    "id: a",
    "type: module",
    "command: x",
    "module_name: m",
    "restart: ",
    "workers:\n",
    "config: ",
    "%YAML 1.1\n",
    ",",
    "\r",
];

const SEEDS: &[&str] = &[
    "workers: [{id: a, command: 'x ${PORT}', restart: {policy: always, jitter: 0.1}}]\n",
    "defaults: {restart: &r {max_retries: 3}}\nworkers:\n- id: b\n  type: module\n  \
     module_name: m\n  config: {<<: *r, a: [1, 2.50, ~]}\n  stop: {timeout: 1s}\n",
    "master: {name: n, log_level: off}\nworkers:\n- id: c\n  command: |\n    a \"b c\"\n  \
     execution:\n    environment: [A=1, B=2]\n  success_codes: [0, TERM]\n",
];

/// A xorshift generator: the same numbers on every run.
pub(super) struct Random(pub(super) u64);

impl Random {
    pub(super) fn below(&mut self, limit: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 % limit.max(1) as u64) as usize
    }
}

/// Changes `text` at one place.
pub(super) fn mutate(text: &mut Vec<char>, pieces: &[&str], random: &mut Random) {
    let at = random.below(text.len() + 1);
    let end = (at + random.below(12)).min(text.len());
    match random.below(4) {
        0 => drop(text.drain(at..end)),
        1 => {
            let copy = text[at..end].to_vec();
            let to = random.below(text.len() + 1);
            text.splice(to..to, copy);
        }
        2 => drop(text.splice(at..end, pieces[random.below(pieces.len())].chars())),
        _ => {
            let piece = pieces[random.below(pieces.len())].chars();
            text.splice(at..at, piece);
        }
    }
}

#[test]
fn no_text_makes_the_reader_panic() {
    let mut random = Random(0x9E37_79B9_7F4A_7C15);
    let mut accepted = 0;
    for round in 0..20_000 {
        let mut text: Vec<char> = SEEDS[round % SEEDS.len()].chars().collect();
        for _ in 0..=random.below(3) {
            mutate(&mut text, PIECES, &mut random);
        }
        let text: String = text.into_iter().collect();
        let lines = text.split(['\n', '\r', '\u{85}', '\u{2028}']).count();
        match read(&text) {
            Ok(config) => {
                accepted += 1;
                for worker in &config.workers {
                    assert_eq!(worker.mistakes(), [], "{text:?}");
                }
            }
            Err(error) => {
                assert!((1..=50).contains(&error.problems().len()), "{text:?}");
                for problem in error.problems() {
                    let placed = (1..=lines + 1).contains(&problem.line) && problem.column > 0;
                    assert!(placed, "{text:?}: {problem}");
                    assert!(!problem.message.is_empty(), "{text:?}");
                }
            }
        }
    }
    // Both sides are visited.
    assert!((500..19_500).contains(&accepted), "{accepted}");
}
