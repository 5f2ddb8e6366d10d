//! What waits in the queue of a log, and what it is counted as.

use log::Level;

use crate::host::{Dialect, Stream};
use crate::logs::format::{Stamp, index};
use crate::logs::worker::{LOGGED, record_bytes};

/// What there is to be written.
pub(in crate::logs::worker) enum Message {
    Output {
        stream: Stream,
        dialect: Dialect,
        bytes: Vec<u8>,
    },
    /// Nothing more comes of a stream.
    End {
        stream: Stream,
        dialect: Dialect,
    },
    /// What a module's thread logged.
    Record {
        level: Level,
        target: String,
        text: String,
    },
    /// A line of the master's own; `begins`: with it an incarnation does.
    Own {
        text: String,
        begins: bool,
    },
    /// What came here is lost.
    Gap(Gap),
    /// The master ends: so do lines that have begun.
    Rests,
}

impl Message {
    /// As many bytes as it takes beside itself.
    fn heap(&self) -> usize {
        match self {
            Self::Output { bytes, .. } => bytes.len(),
            Self::Record { target, text, .. } => target.len() + text.len(),
            Self::Own { text, .. } => text.len(),
            Self::End { .. } | Self::Gap(_) | Self::Rests => 0,
        }
    }

    /// Which stream it is of, by its number, if it is of one.
    pub(super) fn stream(&self) -> Option<usize> {
        match self {
            Self::Output { stream, .. } | Self::End { stream, .. } => Some(index(*stream)),
            Self::Record { .. } | Self::Own { .. } | Self::Gap(_) | Self::Rests => None,
        }
    }

    /// Whose bytes it has, and how many.
    pub(super) fn counted(&self) -> Option<(usize, u64)> {
        match self {
            Self::Output { stream, bytes, .. } => Some((index(*stream), bytes.len() as u64)),
            Self::Record { text, .. } => Some((LOGGED, record_bytes(text))),
            Self::End { .. } | Self::Own { .. } | Self::Gap(_) | Self::Rests => None,
        }
    }
}

/// What is lost in one place.
pub(in crate::logs::worker) struct Gap {
    pub(in crate::logs::worker) lost: u64,
    /// Of which streams the begin of a line was taken that goes on in the gap, and whose it is.
    pub(in crate::logs::worker) torn: [Option<u64>; 2],
    pub(in crate::logs::worker) why: &'static str,
}

/// The memory of a message beside what it holds: a queue may have room for twice as many as wait,
/// and each piece of memory has a head.
pub(super) const WAITING: usize = 2 * size_of::<Waiting>() + 16;

/// A message on its way.
pub(in crate::logs::worker) struct Waiting {
    pub(in crate::logs::worker) incarnation: u64,
    pub(in crate::logs::worker) stamp: Stamp,
    pub(in crate::logs::worker) message: Message,
}

impl Waiting {
    pub(super) fn cost(&self) -> usize {
        WAITING + self.message.heap()
    }

    /// If it is output, when it came and what it is.
    pub(in crate::logs::worker) fn output(&self) -> Option<Piece<'_>> {
        match &self.message {
            Message::Output { bytes, .. } => Some((Some(self.stamp), bytes)),
            Message::End { .. }
            | Message::Record { .. }
            | Message::Own { .. }
            | Message::Gap(_)
            | Message::Rests => None,
        }
    }

    /// Whether both are output of one stream.
    pub(super) fn is_more_of(&self, other: &Self) -> bool {
        let stream = |message: &Message| match message {
            Message::Output { stream, dialect, .. } => Some((*stream, *dialect)),
            Message::End { .. }
            | Message::Record { .. }
            | Message::Own { .. }
            | Message::Gap(_)
            | Message::Rests => None,
        };
        let (own, others) = (stream(&self.message), stream(&other.message));
        own.is_some() && own == others && self.incarnation == other.incarnation
    }
}

/// Some output, and when it came; `None`: it comes now.
pub(in crate::logs::worker) type Piece<'b> = (Option<Stamp>, &'b [u8]);
