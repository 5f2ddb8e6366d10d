//! The last lines of an incarnation, kept for the case that it fails.

use crate::host::levels;
use crate::host::sys::find_last_byte;

/// So many bytes are kept.
const BYTES: usize = 4 << 10;
/// So many may be there before the first ones go: not each time a little comes.
const MOST: usize = BYTES + BYTES / 4;
/// So many lines of them are told.
const LINES: usize = 10;

#[derive(Default)]
pub(super) struct Last {
    incarnation: u64,
    bytes: Vec<u8>,
    /// Which stream came last: a line of another one begins anew.
    stream: usize,
}

impl Last {
    /// Takes note of what came.
    pub(super) fn take(&mut self, incarnation: u64, stream: usize, bytes: &[u8]) {
        if self.incarnation < incarnation {
            *self = Self { incarnation, ..Self::default() };
        }
        if self.incarnation > incarnation || bytes.is_empty() {
            return;
        }
        if self.stream != stream && !matches!(self.bytes.last(), None | Some(b'\n')) {
            self.bytes.push(b'\n');
        }
        self.stream = stream;
        let bytes = &bytes[bytes.len().saturating_sub(BYTES)..];
        let mut needed = self.bytes.len() + bytes.len();
        if needed > MOST {
            self.bytes.drain(..needed - BYTES);
            needed = BYTES;
        }
        if needed > self.bytes.capacity() {
            // Who has said much once takes no more memory than this.
            let room = needed.next_power_of_two().min(MOST);
            self.bytes.reserve_exact(room - self.bytes.len());
        }
        self.bytes.extend_from_slice(bytes);
    }

    /// The last lines of an incarnation, for people: what would command a terminal is spelled out.
    pub(super) fn lines(&self, incarnation: u64) -> Vec<String> {
        if self.incarnation != incarnation {
            return Vec::new();
        }
        let kept = &self.bytes[self.bytes.len().saturating_sub(BYTES)..];
        let mut rest = kept.strip_suffix(b"\n").unwrap_or(kept);
        let mut lines = Vec::new();
        while lines.len() < LINES && !kept.is_empty() {
            let begin = find_last_byte(b'\n', rest).map(|end| end + 1);
            lines.push(harmless(&rest[begin.unwrap_or(0)..]));
            match begin {
                Some(begin) => rest = &rest[..begin - 1],
                None => break,
            }
        }
        lines.reverse();
        lines
    }
}

fn harmless(line: &[u8]) -> String {
    let mut shown = String::new();
    let line = match levels::level(line) {
        Some((level, text)) => {
            shown = format!("{level} ");
            text
        }
        None => line,
    };
    for char in String::from_utf8_lossy(line).chars() {
        match char {
            '\t' => shown.push(char),
            char if char.is_control() => shown.extend(char.escape_default()),
            char => shown.push(char),
        }
    }
    shown
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(parts: &[(usize, &[u8])]) -> Vec<String> {
        let mut last = Last::default();
        for (stream, bytes) in parts {
            last.take(1, *stream, bytes);
        }
        assert!(last.bytes.capacity() <= MOST);
        last.lines(1)
    }

    #[test]
    fn the_last_lines_are_kept_and_harmless() {
        assert_eq!(of(&[]), Vec::<String>::new());
        assert_eq!(of(&[(0, b"one\n\ntwo")]), ["one", "", "two"]);
        assert_eq!(
            of(&[(0, b"part"), (1, b"err\n"), (0, b"\x1b[2J\xff\n")]),
            ["part", "err", "\\u{1b}[2J\u{fffd}"]
        );
        let many: String = (0..10_000).map(|n| format!("line {n}\n")).collect();
        let expected: Vec<String> = (9_990..10_000).map(|n| format!("line {n}")).collect();
        assert_eq!(of(&[(0, many.as_bytes())]), expected);
        let pieces: Vec<(usize, &[u8])> = many.as_bytes().chunks(7).map(|c| (0, c)).collect();
        assert_eq!(of(&pieces), expected);
        assert_eq!(of(&[(0, &[b'x'; 100_000])]), ["x".repeat(BYTES)]);
    }

    #[test]
    fn each_incarnation_has_its_own() {
        let mut last = Last::default();
        last.take(1, 0, b"old\n");
        last.take(2, 0, b"new\n");
        last.take(1, 0, b"late\n");
        assert_eq!(last.lines(2), ["new"]);
        assert_eq!(last.lines(1), Vec::<String>::new());
        last.take(3, 0, b"");
        assert_eq!(last.lines(3), Vec::<String>::new());
    }
}
