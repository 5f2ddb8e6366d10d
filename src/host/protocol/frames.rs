//! Lines out of a stream of bytes, of bounded length: the framing of every socket of ours.

use std::io::BufRead as _;

use super::MAX_FRAME;

/// What is kept for the next bytes, at most, when no line is begun.
const KEPT: usize = 64 << 10;

/// Bytes that came, until they are a line.
#[derive(Default)]
pub(crate) struct Frames {
    buffer: Vec<u8>,
    /// Where the first line that was not taken begins.
    start: usize,
    /// There is no newline between `start` and here.
    scanned: usize,
}

/// A line is longer than allowed; what follows it cannot be found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct TooLong;

impl std::fmt::Display for TooLong {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "a line is longer than {} KiB", MAX_FRAME >> 10)
    }
}

impl Frames {
    /// Takes bytes as they came, cut anywhere.
    pub(crate) fn push(&mut self, bytes: &[u8]) {
        if self.start > 0 {
            self.buffer.drain(..self.start);
            self.scanned -= self.start;
            self.start = 0;
        }
        if self.buffer.is_empty() && self.buffer.capacity() > KEPT {
            self.buffer = Vec::new();
        }
        self.buffer.extend_from_slice(bytes);
    }

    /// True when there are bytes of a line that is not taken.
    pub(crate) fn has_begun(&self) -> bool {
        self.buffer.len() > self.start
    }

    /// The next whole line, without its newline. Lines of nothing but white space are passed over.
    ///
    /// # Errors
    /// The line is longer than 1 MiB, whole or not. The stream is then of no use any more.
    pub(crate) fn next(&mut self) -> Result<Option<&[u8]>, TooLong> {
        loop {
            let found = line_end(&self.buffer[self.scanned..]);
            let end = found.map_or(self.buffer.len(), |at| self.scanned + at);
            if end - self.start >= MAX_FRAME {
                return Err(TooLong);
            }
            if found.is_none() {
                self.scanned = end;
                return Ok(None);
            }
            let line = self.start..end;
            self.start = end + 1;
            self.scanned = self.start;
            if !self.buffer[line.clone()].trim_ascii().is_empty() {
                return Ok(Some(&self.buffer[line]));
            }
        }
    }
}

/// Where the first newline is: by std's search, which looks at many bytes at a time.
fn line_end(mut bytes: &[u8]) -> Option<usize> {
    let all = bytes;
    let passed = bytes.skip_until(b'\n').ok()?;
    all[..passed].ends_with(b"\n").then(|| passed - 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lines(frames: &mut Frames) -> Vec<Vec<u8>> {
        let mut lines = Vec::new();
        while let Some(line) = frames.next().unwrap() {
            lines.push(line.to_vec());
        }
        lines
    }

    #[test]
    fn lines_are_found_whatever_the_cuts() {
        let text = b"{}\n\r\n  \nabc\n\nlast";
        for size in 1..=text.len() {
            let mut frames = Frames::default();
            let mut found = Vec::new();
            for chunk in text.chunks(size) {
                frames.push(chunk);
                found.extend(lines(&mut frames));
            }
            assert_eq!(found, [b"{}".to_vec(), b"abc".to_vec()], "{size}");
        }
    }

    #[test]
    fn a_line_may_be_as_long_as_allowed_and_no_longer() {
        let mut frames = Frames::default();
        frames.push(&vec![b'x'; MAX_FRAME - 1]);
        frames.push(b"\n");
        assert_eq!(frames.next().unwrap().map(<[u8]>::len), Some(MAX_FRAME - 1));
        frames.push(b"y\n");
        assert_eq!(frames.next(), Ok(Some(&b"y"[..])));
        frames.push(b"");
        assert!(frames.buffer.capacity() <= KEPT, "a long line's room is given back");
        frames.push(&vec![b'x'; MAX_FRAME]);
        assert_eq!(frames.next(), Err(TooLong));
        let mut whole = Frames::default();
        whole.push(&[vec![b'x'; MAX_FRAME], b"\n".to_vec()].concat());
        assert_eq!(whole.next(), Err(TooLong));
    }
}
