//! From what a worker writes to the records of its log: pure text, without files.
//!
//! A record is a line `<time> <tag> [LEVEL target: ]text`. The tag is `o` for standard output, `e`
//! for standard error, `-` for a log line, and a `+` behind it says that the line does not end
//! here: it goes on in the next record with this tag, or the worker ended before it did.

use std::time::SystemTime;

use log::Level;

use crate::host::levels;
use crate::host::sys::find_byte;
use crate::host::{Dialect, Stream};

/// A line longer than this is kept in several records.
pub(super) const MAX_LINE: usize = 16 << 10;
/// A batch is written when it is this large.
const BATCH: usize = 256 << 10;

/// When something came, as it is written.
#[derive(Clone, Copy)]
pub(super) struct Stamp([u8; Self::LENGTH]);

impl Stamp {
    /// As long as `2026-01-31T10:20:30.123Z`.
    pub(super) const LENGTH: usize = 24;

    pub(super) fn now() -> Self {
        let mut text = [b'?'; Self::LENGTH];
        let shown = humantime::format_rfc3339_millis(SystemTime::now()).to_string();
        if let Some(shown) = shown.as_bytes().first_chunk() {
            text = *shown;
        }
        Self(text)
    }

    /// Whether a line begins like one.
    fn begins(line: &[u8]) -> bool {
        let shape = b"0000-00-00T00:00:00.000Z";
        let fits = |(byte, like): (&u8, &u8)| match like {
            b'0' => byte.is_ascii_digit(),
            like => byte == like,
        };
        line.len() >= Self::LENGTH && line.iter().zip(shape).all(fits)
    }
}

/// The tag of the record that begins like this. `None`: it is none.
pub(super) fn tag(line: &[u8]) -> Option<u8> {
    let (b' ', [tag @ (b'o' | b'e' | b'-'), rest @ ..]) =
        line.get(Stamp::LENGTH..)?.split_first()?
    else {
        return None;
    };
    let is_record = matches!(rest, [b' ', ..] | [b'+', b' ', ..]) && Stamp::begins(line);
    is_record.then_some(*tag)
}

/// Records on their way to a file.
#[derive(Default)]
pub(super) struct Batch {
    pub(super) bytes: Vec<u8>,
    /// How many of the worker's own bytes are in each record.
    pub(super) taken: Vec<u32>,
}

impl Batch {
    pub(super) fn clear(&mut self) {
        self.bytes.clear();
        self.taken.clear();
    }

    pub(super) fn is_full(&self) -> bool {
        self.bytes.len() >= BATCH
    }

    /// Of the worker's bytes, how many are in the records that end within the first `written`.
    pub(super) fn taken_within(&self, written: usize) -> u64 {
        let records = self.bytes[..written].iter().filter(|byte| **byte == b'\n').count();
        self.taken[..records.min(self.taken.len())].iter().map(|count| u64::from(*count)).sum()
    }

    /// One record: its head, and its text in two parts.
    fn record(&mut self, stamp: &Stamp, tag: u8, more: bool, level: Head<'_>, text: [&[u8]; 2]) {
        let out = &mut self.bytes;
        out.extend_from_slice(&stamp.0);
        out.extend_from_slice(&[b' ', tag]);
        if more {
            out.push(b'+');
        }
        out.push(b' ');
        if let Some((level, target)) = level {
            out.extend_from_slice(level.as_str().as_bytes());
            out.push(b' ');
            out.extend_from_slice(target.as_bytes());
            out.extend_from_slice(b": ");
        }
        out.extend_from_slice(text[0]);
        out.extend_from_slice(text[1]);
        out.push(b'\n');
    }

    /// A log line without a record's head.
    pub(super) fn bare_line(&mut self, level: Level, target: &str, text: &[u8]) {
        self.bytes.extend_from_slice(format!("{level} {target}: ").as_bytes());
        self.bytes.extend_from_slice(text);
        self.bytes.push(b'\n');
        self.taken.push(count(text.len()));
    }

    /// A log line that no stream brought: of a module's thread, or of the master about the worker.
    pub(super) fn log_line(&mut self, stamp: &Stamp, level: Level, target: &str, text: &[u8]) {
        let mut pieces = text.chunks(MAX_LINE).peekable();
        let mut head = Some((level, target));
        if pieces.peek().is_none() {
            self.record(stamp, b'-', false, head, [b"", b""]);
            self.taken.push(0);
        }
        while let Some(piece) = pieces.next() {
            let more = pieces.peek().is_some();
            self.record(stamp, b'-', more, head.take(), [piece, b""]);
            self.taken.push(count(piece.len()));
        }
    }
}

/// Level and target of a record, if it has them.
type Head<'t> = Option<(Level, &'t str)>;

fn count(bytes: usize) -> u32 {
    u32::try_from(bytes).unwrap_or(u32::MAX)
}

/// Where bytes come from.
#[derive(Clone, Copy)]
pub(super) struct Origin<'w> {
    pub(super) worker: &'w str,
    pub(super) incarnation: u64,
    pub(super) stream: Stream,
    pub(super) dialect: Dialect,
}

/// The lines of a worker that have begun and not ended, one for each stream.
#[derive(Default)]
pub(super) struct Lines {
    begun: [Begun; 2],
}

#[derive(Default)]
struct Begun {
    /// Whose line it is: what an earlier one has left behind may still write.
    incarnation: u64,
    bytes: Vec<u8>,
    /// The tag of the records that the line's begin is in already.
    tag: Option<u8>,
}

impl Lines {
    /// Puts what `bytes` complete into the batch, until it is full. Returns what is left.
    pub(super) fn take<'b>(
        &mut self,
        from: Origin<'_>,
        stamp: &Stamp,
        mut bytes: &'b [u8],
        batch: &mut Batch,
    ) -> &'b [u8] {
        let begun = &mut self.begun[index(from.stream)];
        if begun.incarnation != from.incarnation {
            begun.end(from, stamp, batch);
            begun.incarnation = from.incarnation;
        }
        // A record's head, for the usual case: a whole line without a level.
        let mut head = [b' '; Stamp::LENGTH + 3];
        head[..Stamp::LENGTH].copy_from_slice(&stamp.0);
        head[Stamp::LENGTH + 1] = plain_tag(from.stream);
        let may_have_levels = from.stream == Stream::Stderr;
        while let Some(end) = find_byte(b'\n', bytes) {
            let (line, rest) = bytes.split_at(end + 1);
            let usual = begun.bytes.is_empty() && begun.tag.is_none() && end <= MAX_LINE;
            if usual && !(may_have_levels && line[0] == b'<') {
                batch.bytes.extend_from_slice(&head);
                batch.bytes.extend_from_slice(line);
                batch.taken.push(count(line.len()));
            } else {
                begun.part(from, stamp, &line[..end], true, batch);
            }
            bytes = rest;
            if batch.is_full() {
                return bytes;
            }
        }
        begun.part(from, stamp, bytes, false, batch);
        b""
    }

    /// The stream has ended: so does its line, if one has begun.
    pub(super) fn end(&mut self, from: Origin<'_>, stamp: &Stamp, batch: &mut Batch) {
        let begun = &mut self.begun[index(from.stream)];
        if begun.incarnation == from.incarnation {
            begun.end(from, stamp, batch);
        }
    }

    /// Ends the line of a stream, whose ever it is. True: there was one.
    pub(super) fn end_any(&mut self, worker: &str, stream: Stream, batch: &mut Batch) -> bool {
        let begun = &mut self.begun[index(stream)];
        let (incarnation, dialect) = (begun.incarnation, Dialect::Plain);
        begun.end(Origin { worker, incarnation, stream, dialect }, &Stamp::now(), batch);
        !batch.bytes.is_empty()
    }

    /// Lets go of a line that has begun; how long it is.
    pub(super) fn forget(&mut self, stream: Stream) -> u64 {
        std::mem::take(&mut self.begun[index(stream)]).bytes.len() as u64
    }

    /// As [`forget`](Self::forget), if the line is this incarnation's.
    pub(super) fn forget_of(&mut self, stream: Stream, incarnation: u64) -> u64 {
        let is_its = self.begun[index(stream)].incarnation == incarnation;
        if is_its { self.forget(stream) } else { 0 }
    }
}

fn plain_tag(stream: Stream) -> u8 {
    match stream {
        Stream::Stdout => b'o',
        Stream::Stderr => b'e',
    }
}

pub(super) fn index(stream: Stream) -> usize {
    match stream {
        Stream::Stdout => 0,
        Stream::Stderr => 1,
    }
}

impl Begun {
    /// Ends the line where it is.
    fn end(&mut self, from: Origin<'_>, stamp: &Stamp, batch: &mut Batch) {
        if !self.bytes.is_empty() {
            let taken = count(self.bytes.len());
            self.put(from, stamp, b"", true, taken, batch);
        }
        self.tag = None;
    }

    /// A part of a line, up to its end if `ends`.
    fn part(
        &mut self,
        from: Origin<'_>,
        stamp: &Stamp,
        mut part: &[u8],
        ends: bool,
        batch: &mut Batch,
    ) {
        while self.bytes.len() + part.len() > MAX_LINE {
            let (piece, rest) = part.split_at(MAX_LINE - self.bytes.len());
            self.put(from, stamp, piece, true, count(MAX_LINE), batch);
            part = rest;
        }
        if ends {
            let taken = count(self.bytes.len() + part.len() + 1);
            self.put(from, stamp, part, false, taken, batch);
            self.tag = None;
        } else {
            self.bytes.extend_from_slice(part);
        }
    }

    /// Makes a record of what has begun and `part`.
    fn put(
        &mut self,
        from: Origin<'_>,
        stamp: &Stamp,
        part: &[u8],
        more: bool,
        taken: u32,
        batch: &mut Batch,
    ) {
        batch.taken.push(taken);
        let first = self.bytes.first().or(part.first()).copied();
        let plain = plain_tag(from.stream);
        let leveled = from.stream == Stream::Stderr && first == Some(b'<') && self.tag.is_none();
        let tag = if leveled {
            // Its level may be in both parts.
            self.bytes.extend_from_slice(part);
            let whole = std::mem::take(&mut self.bytes);
            let record = levels::record(&whole).filter(|_| from.dialect == Dialect::Records);
            let leveled = || levels::level(&whole).map(|(level, text)| (level, from.worker, text));
            let tag = if record.is_some() { b'-' } else { plain };
            match record.or_else(leveled) {
                Some((level, target, text)) => {
                    batch.record(stamp, tag, more, Some((level, target)), [text, b""]);
                }
                None => batch.record(stamp, tag, more, None, [&whole, b""]),
            }
            tag
        } else {
            let tag = self.tag.unwrap_or(plain);
            batch.record(stamp, tag, more, None, [&self.bytes, part]);
            tag
        };
        if self.bytes.capacity() > 0 {
            // A silent worker keeps no memory.
            self.bytes = Vec::new();
        }
        self.tag = more.then_some(tag);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const STAMP: Stamp = Stamp(*b"2026-01-31T10:20:30.123Z");

    fn from(stream: Stream, dialect: Dialect) -> Origin<'static> {
        Origin { worker: "w", incarnation: 1, stream, dialect }
    }

    /// The records of some chunks, without their stamps.
    fn records(from: Origin<'static>, chunks: &[&[u8]]) -> Vec<String> {
        let (mut lines, mut batch) = (Lines::default(), Batch::default());
        for chunk in chunks {
            let mut rest = *chunk;
            while !rest.is_empty() {
                rest = lines.take(from, &STAMP, rest, &mut batch);
            }
        }
        lines.end(from, &STAMP, &mut batch);
        let taken: u64 = batch.taken.iter().map(|count| u64::from(*count)).sum();
        assert_eq!(taken, chunks.iter().map(|chunk| chunk.len() as u64).sum::<u64>());
        assert_eq!(batch.taken_within(batch.bytes.len()), taken);
        let text = String::from_utf8_lossy(&batch.bytes).into_owned();
        text.lines()
            .map(|line| line.strip_prefix("2026-01-31T10:20:30.123Z ").unwrap().into())
            .collect()
    }

    #[test]
    fn lines_become_records_wherever_they_are_cut() {
        let text = b"one\n\n<3>two\nthree";
        let expected = ["o one", "o ", "o <3>two", "o+ three"];
        let out = from(Stream::Stdout, Dialect::Records);
        assert_eq!(records(out, &[text]), expected);
        let single: Vec<&[u8]> = text.chunks(1).collect();
        assert_eq!(records(out, &single), expected);
    }

    #[test]
    fn levels_on_standard_error_are_read() {
        let text: &[u8] = b"<3>a: b\n<9>x\n<7>TRACE t: u\nplain\n";
        let single: Vec<&[u8]> = text.chunks(1).collect();
        for chunks in [vec![text], single] {
            let plain = records(from(Stream::Stderr, Dialect::Plain), &chunks);
            assert_eq!(plain, ["e ERROR w: a: b", "e <9>x", "e DEBUG w: TRACE t: u", "e plain"]);
            let host = records(from(Stream::Stderr, Dialect::Records), &chunks);
            assert_eq!(host, ["- ERROR a: b", "e <9>x", "- TRACE t: u", "e plain"]);
        }
    }

    #[test]
    fn endless_lines_come_in_pieces_of_one_tag() {
        let long = [&b"<6>t: "[..], &vec![b'x'; 3 * MAX_LINE], b"\nnext\n"].concat();
        let single: Vec<&[u8]> = long.chunks(1000).collect();
        for chunks in [vec![long.as_slice()], single] {
            let host = records(from(Stream::Stderr, Dialect::Records), &chunks);
            assert_eq!(host.len(), 5);
            assert!(host[0].starts_with("-+ INFO t: xxx"), "{}", &host[0][..20]);
            assert!(host[1].starts_with("-+ xxx") && host[3] == "- xxxxxx", "{}", host[3]);
            assert_eq!(host[4], "e next");
        }
    }

    #[test]
    fn incarnations_do_not_share_a_line() {
        let (mut lines, mut batch) = (Lines::default(), Batch::default());
        let old = from(Stream::Stdout, Dialect::Plain);
        let new = Origin { incarnation: 2, ..old };
        for (from, text) in [(old, "old"), (new, "ne"), (old, " late\n"), (new, "w\n")] {
            lines.take(from, &STAMP, text.as_bytes(), &mut batch);
        }
        lines.take(new, &STAMP, b"end", &mut batch);
        lines.end(old, &STAMP, &mut batch);
        lines.end(new, &STAMP, &mut batch);
        let text = String::from_utf8(batch.bytes).unwrap();
        let text: Vec<_> = text.lines().map(|line| &line[25..]).collect();
        assert_eq!(text, ["o+ old", "o+ ne", "o  late", "o w", "o+ end"]);
    }

    #[test]
    fn a_record_is_told_from_other_lines() {
        for (line, expected) in [
            ("2026-01-31T10:20:30.123Z o text", Some(b'o')),
            ("2026-01-31T10:20:30.123Z e ", Some(b'e')),
            ("2026-01-31T10:20:30.123Z -+ INFO t: text", Some(b'-')),
            ("2026-01-31T10:20:30.123Z o", None),
            ("2026-01-31T10:20:30.123Z x text", None),
            ("2026-01-31T10:20:30.123Z one text", None),
            ("2026-01-31 10:20:30.123Z o text", None),
            ("twenty-four bytes of text o is what it is", None),
            ("short", None),
            ("", None),
        ] {
            assert_eq!(tag(line.as_bytes()), expected, "{line}");
        }
    }

    #[test]
    fn what_looks_like_a_record_stays_within_one() {
        let forged = b"2026-01-31T10:20:30.123Z - ERROR master: x\r\x1b[2J\x00\xff\n";
        let (mut lines, mut batch) = (Lines::default(), Batch::default());
        lines.take(from(Stream::Stdout, Dialect::Plain), &STAMP, forged, &mut batch);
        assert_eq!(batch.bytes, [b"2026-01-31T10:20:30.123Z o ", &forged[..]].concat());
    }
}
