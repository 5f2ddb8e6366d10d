//! What standard output is, and how texts of others are shown on it: nothing that a worker wrote
//! commands a terminal.

use std::borrow::Cow;
use std::io::IsTerminal as _;
use std::time::Duration;

use crate::host::sys;

/// The width of a terminal that does not know its own.
const USUAL_WIDTH: usize = 80;

/// How output looks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Look {
    /// The width of the terminal; `None`: it is none, and nothing is left out.
    pub(super) width: Option<usize>,
    /// How many lines it shows at once, if that is known.
    pub(super) height: Option<usize>,
    pub(super) colour: bool,
}

impl Look {
    /// Aligned text and nothing else.
    pub(super) const PLAIN: Self = Self { width: None, height: None, colour: false };

    /// What suits standard output.
    pub(super) fn of_stdout() -> Self {
        if !std::io::stdout().is_terminal() {
            return Self::PLAIN;
        }
        let text = |name: &str| std::env::var(name).unwrap_or_default();
        let said = text("COLUMNS").parse().ok().filter(|columns| *columns > 0);
        let (width, height) = sys::terminal_size().unzip();
        let width = Some(said.or(width).unwrap_or(USUAL_WIDTH));
        let plain = std::env::var_os("NO_COLOR").is_some_and(|set| !set.is_empty());
        Self { width, height, colour: !plain && text("TERM") != "dumb" }
    }

    /// `text` in a colour, where there are colours.
    pub(super) fn paint(self, colour: Colour, text: &str) -> Cow<'_, str> {
        let code = match colour {
            Colour::Plain => return text.into(),
            Colour::Good => "32",
            Colour::Bad => "31",
            Colour::Changing => "33",
            Colour::Faint => "2",
            Colour::Strong => "1",
        };
        if self.colour { format!("\x1b[{code}m{text}\x1b[0m").into() } else { text.into() }
    }
}

/// What a colour says.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Colour {
    #[default]
    Plain,
    Good,
    Bad,
    Changing,
    Faint,
    Strong,
}

/// Characters that do something rather than show something: controls, and what turns the direction
/// of the text around.
fn commands(char: char) -> bool {
    char.is_control()
        || matches!(char, '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}')
        || matches!(char, '\u{2028}' | '\u{2029}' | '\u{2066}'..='\u{2069}')
}

/// A text of others on one line: what would command the terminal is spelled out.
pub(super) fn harmless(text: &str) -> Cow<'_, str> {
    if !text.contains(commands) {
        return text.into();
    }
    let mut shown = String::with_capacity(text.len() + 8);
    for char in text.chars() {
        if commands(char) { shown.extend(char.escape_default()) } else { shown.push(char) }
    }
    shown.into()
}

/// As [`harmless`], for bytes: those that are no text are spelled out, tabs stay.
pub(super) fn harmless_bytes(bytes: &[u8]) -> String {
    let mut shown = String::with_capacity(bytes.len());
    for chunk in bytes.utf8_chunks() {
        for (index, part) in chunk.valid().split('\t').enumerate() {
            if index > 0 {
                shown.push('\t');
            }
            shown.push_str(&harmless(part));
        }
        for byte in chunk.invalid() {
            shown.push_str(&format!("\\x{byte:02x}"));
        }
    }
    shown
}

/// A text of others that may have lines of its own: the further ones are indented.
pub(super) fn harmless_lines(text: &str, indent: &str) -> String {
    let mut shown = String::with_capacity(text.len());
    for (index, line) in text.lines().enumerate() {
        if index > 0 {
            shown.push('\n');
            shown.push_str(indent);
        }
        shown.push_str(&harmless(line));
    }
    shown
}

/// A duration as people say it: its two largest units.
pub(super) fn brief(duration: Duration) -> String {
    let (seconds, millis) = (duration.as_secs(), duration.subsec_millis());
    let (minutes, hours, days) = (seconds / 60, seconds / 3600, seconds / 86400);
    match seconds {
        0 if millis > 0 => format!("{millis}ms"),
        0..60 => format!("{seconds}s"),
        60..3600 => format!("{minutes}m{:02}s", seconds % 60),
        3600..86400 => format!("{hours}h{:02}m", minutes % 60),
        _ => format!("{days}d{:02}h", hours % 24),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_of_others_command_no_terminal() {
        assert_eq!(harmless("a\u{1b}[2Jb\r\n\u{9b}1m"), "a\\u{1b}[2Jb\\r\\n\\u{9b}1m");
        assert_eq!(harmless("\u{202e}evil"), "\\u{202e}evil");
        assert!(matches!(harmless("plain ß"), Cow::Borrowed("plain ß")));
        assert_eq!(harmless_bytes(b"a\tb\xff\x00\x1b\xc3\x9f"), "a\tb\\xff\\u{0}\\u{1b}ß");
        assert_eq!(harmless_lines("one\ntwo\u{7}", "  "), "one\n  two\\u{7}");
    }

    #[test]
    fn every_byte_is_harmless() {
        for byte in 0..=255_u8 {
            let shown = harmless_bytes(&[byte, b'[', byte]);
            assert!(shown.chars().all(|char| char == '\t' || !char.is_control()), "{byte}");
        }
    }

    #[test]
    fn durations_are_told_in_two_units() {
        for (millis, told) in [
            (0, "0s"),
            (250, "250ms"),
            (3999, "3s"),
            (62_000, "1m02s"),
            (4 * 3_600_000 + 60_000, "4h01m"),
            (50 * 3_600_000, "2d02h"),
        ] {
            assert_eq!(brief(Duration::from_millis(millis)), told);
        }
    }

    #[test]
    fn colour_is_only_where_it_is_wanted() {
        let coloured = Look { colour: true, ..Look::PLAIN };
        assert_eq!(coloured.paint(Colour::Bad, "x"), "\u{1b}[31mx\u{1b}[0m");
        assert_eq!(coloured.paint(Colour::Plain, "x"), "x");
        assert_eq!(Look::PLAIN.paint(Colour::Bad, "x"), "x");
    }
}
