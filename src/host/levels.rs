//! Log lines as text: `<3>target: text` on standard error, with the level as sd-daemon(3) has it.
//! Written by module hosts, read by masters.

use log::Level;

/// The levels of `log` have one more than sd-daemon's: this word is put before its target.
const TRACE: &str = "TRACE ";

/// Puts one line behind what is in `out`.
pub(crate) fn write(out: &mut Vec<u8>, level: Level, target: &str, text: &str) {
    let (digit, word) = match level {
        Level::Error => (b'3', ""),
        Level::Warn => (b'4', ""),
        Level::Info => (b'6', ""),
        Level::Debug => (b'7', ""),
        Level::Trace => (b'7', TRACE),
    };
    out.extend_from_slice(&[b'<', digit, b'>']);
    for part in [word, target, ": ", text, "\n"] {
        out.extend_from_slice(part.as_bytes());
    }
}

/// The level before a line, and the line without it.
pub(crate) fn level(line: &[u8]) -> Option<(Level, &[u8])> {
    let [b'<', digit, b'>', text @ ..] = line else { return None };
    let level = match digit {
        b'0'..=b'3' => Level::Error,
        b'4' => Level::Warn,
        b'5' | b'6' => Level::Info,
        b'7' => Level::Debug,
        _ => return None,
    };
    Some((level, text))
}

/// Level, target and text of a line of a module host.
pub(crate) fn record(line: &[u8]) -> Option<(Level, &str, &[u8])> {
    let (level, rest) = level(line)?;
    let (level, rest) = match rest.strip_prefix(TRACE.as_bytes()) {
        Some(rest) => (Level::Trace, rest),
        None => (level, rest),
    };
    let end = rest.windows(2).position(|pair| pair == b": ")?;
    let target = str::from_utf8(&rest[..end]).ok()?;
    Some((level, target, &rest[end + 2..]))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read() {
        for level in Level::iter() {
            let mut line = Vec::new();
            write(&mut line, level, "a::b", "c: d");
            assert_eq!(line.pop(), Some(b'\n'));
            assert_eq!(record(&line), Some((level, "a::b", &b"c: d"[..])));
        }
    }

    #[test]
    fn other_lines_are_only_text() {
        assert_eq!(level(b"<3>x"), Some((Level::Error, &b"x"[..])));
        assert_eq!(level(b"<5>"), Some((Level::Info, &b""[..])));
        for line in [&b"<8>x"[..], b"<33>x", b"x<3>", b"", b"<"] {
            assert_eq!(level(line), None);
        }
        assert_eq!(record(b"<3>no target"), None);
        assert_eq!(record(b"<3>\xff: x"), None);
    }
}
