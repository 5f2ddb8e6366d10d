//! How far something is that takes long, for people: on their terminal's last line, until it is
//! done.

use std::io::{IsTerminal as _, Write as _};

/// Shown while more than one is asked for, and standard error is a terminal.
pub(super) struct Progress {
    doing: &'static str,
    left: usize,
    wanted: bool,
    shown: bool,
}

impl Progress {
    /// `doing`: what is done with so many workers.
    pub(super) fn new(doing: &'static str, count: usize) -> Self {
        let wanted = count > 1 && Self::is_wanted();
        let mut progress = Self { doing, left: count, wanted, shown: false };
        progress.show();
        progress
    }

    /// True if somebody may see it.
    pub(super) fn is_wanted() -> bool {
        std::io::stderr().is_terminal()
    }

    pub(super) fn one_more(&mut self) {
        self.left = self.left.saturating_sub(1);
        self.show();
    }

    /// Takes it away for now, so that something else can be written.
    pub(super) fn hide(&mut self) {
        if std::mem::take(&mut self.shown) {
            let _ = std::io::stderr().write_all(b"\r\x1b[K");
        }
    }

    /// Takes it away for good.
    pub(super) fn end(&mut self) {
        self.hide();
        self.wanted = false;
    }

    fn show(&mut self) {
        if self.wanted && self.left > 0 {
            let text = format!("\r\x1b[K{}: {} left", self.doing, self.left);
            let _ = std::io::stderr().write_all(text.as_bytes());
            self.shown = true;
        }
    }
}
