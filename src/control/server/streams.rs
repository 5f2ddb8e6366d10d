//! What goes on until somebody ends it: events as they happen, and lines of logs as they are
//! written.

use std::collections::{BTreeSet, VecDeque};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::Waker;

use crossbeam_channel::{Receiver, TryRecvError, bounded};
use serde_json::Value;

use super::limits::Permit;
use super::{Shared, wire};
use crate::error::{Error, Result};
use crate::host::threads;
use crate::logs::{Entry, Query, Reader, Stop};
use crate::runtime::{Event, EventKind, Subscriber};

/// The stack of a thread that reads logs.
const STACK: usize = 256 << 10;
/// So many pieces of logs, of 64 KiB at most, are read ahead of the client.
const AHEAD: usize = 2;
/// So many past events are told at most.
const MAX_PAST: usize = 10_000;

/// A stream that a client has asked for.
pub(super) enum Stream {
    Events(Events),
    Logs(Lines),
}

/// Events: some of the past, and if asked those to come.
pub(super) struct Events {
    shared: Arc<Shared>,
    /// So many of the past, which are not read yet.
    wanted: Option<usize>,
    past: VecDeque<Value>,
    /// What comes, and whether it does by now: what is past is asked for only then, so that nothing
    /// is missed in between.
    live: Option<(Receiver<Event>, Arc<AtomicBool>)>,
    /// What was told as past and may come once more as live.
    told: BTreeSet<String>,
    /// Shows the feed that somebody reads.
    _reader: Arc<()>,
    _permit: Option<Permit>,
}

/// Lines of logs, which a thread reads from the files.
pub(super) struct Lines {
    /// An error is the last one.
    entries: Receiver<Result<Entry>>,
    reader: Stop,
}

impl Drop for Lines {
    fn drop(&mut self) {
        self.reader.stop();
    }
}

impl Stream {
    pub(super) fn events(shared: &Arc<Shared>, asked: &wire::Events, waker: Waker) -> Result<Self> {
        let permit = asked.follow.then(|| shared.followers.take()).transpose()?;
        let reader = Arc::default();
        let live = asked.follow.then(|| {
            let begun = Arc::<AtomicBool>::default();
            let begins = Arc::clone(&begun);
            let wake = move || {
                begins.store(true, Ordering::Release);
                waker.wake_by_ref();
            };
            (shared.master.subscribe_to(Subscriber::of(&reader, wake)), begun)
        });
        Ok(Self::Events(Events {
            shared: Arc::clone(shared),
            wanted: Some(asked.last.min(MAX_PAST)),
            past: VecDeque::new(),
            live,
            told: BTreeSet::new(),
            _reader: reader,
            _permit: permit,
        }))
    }

    pub(super) fn logs(shared: &Shared, asked: &wire::Logs, waker: Waker) -> Result<Self> {
        let all: Vec<_>;
        let ids: Vec<_> = if asked.ids.is_empty() {
            all = shared.master.all_worker_diagnostics();
            all.iter().map(|worker| worker.id.as_str()).collect()
        } else {
            asked.ids.iter().map(String::as_str).collect()
        };
        let mut query = Query::last(asked.lines);
        query.follow = asked.follow;
        (query.stdout, query.stderr) = (asked.stdout, asked.stderr);
        let permit = shared.log_readers.take()?;
        let reader = shared.master.read_logs(&ids, &query)?;
        let stop = reader.stopper();
        let (entry, entries) = bounded(AHEAD);
        let work = move || {
            let reads = || read(reader, &waker, |piece| entry.send(Ok(piece)).is_ok());
            if let Err(fault) = threads::ours("a reader of logs", reads) {
                let _ = entry.send(Err(Error::from(&fault)));
            }
            drop(entry);
            // Now there is an end to be found.
            waker.wake();
            drop(permit);
        };
        let spawned = threads::spawn("control-logs", STACK, work);
        spawned.map_err(|error| Error::io("there is no thread to read logs", error))?;
        Ok(Self::Logs(Lines { entries, reader: stop }))
    }

    /// Puts what there is behind what is in `out`, as long as that is shorter than `most`. `Some`:
    /// that was all, and how it ended.
    pub(super) fn pump(&mut self, out: &mut Vec<u8>, id: u64, most: usize) -> Option<Result> {
        while out.len() < most {
            let next = match self {
                Self::Events(events) => events.push_next(out, id),
                Self::Logs(lines) => lines.push_next(out, id),
            };
            match next {
                Next::Said => {}
                Next::Later => return None,
                Next::End => return Some(Ok(())),
                Next::Failed(error) => return Some(Err(error)),
            }
        }
        None
    }
}

/// Reads until there is nothing more, or nobody who wants it.
fn read(reader: Reader, waker: &Waker, mut tell: impl FnMut(Entry) -> bool) {
    for entry in reader {
        threads::fail_point("control-logs");
        if !tell(entry) {
            return;
        }
        waker.wake_by_ref();
    }
}

/// What became of the next item of a stream.
enum Next {
    Said,
    Later,
    End,
    Failed(Error),
}

impl Events {
    fn push_next(&mut self, out: &mut Vec<u8>, id: u64) -> Next {
        if self.live.as_ref().is_some_and(|(_, begun)| !begun.load(Ordering::Acquire)) {
            return Next::Later;
        }
        if let Some(wanted) = self.wanted.take() {
            self.look_back(wanted);
        }
        if let Some(event) = self.past.pop_front() {
            wire::push_event(out, id, &event);
            return Next::Said;
        }
        let Some((live, _)) = &self.live else { return Next::End };
        let event = match live.try_recv() {
            Ok(event) => event,
            Err(TryRecvError::Empty) => return Next::Later,
            Err(TryRecvError::Disconnected) => return Next::End,
        };
        let text = event.to_json();
        // An event that is not among the past has none of the past behind it.
        if self.told.is_empty() || !self.told.remove(&text.to_string()) {
            self.told.clear();
            wire::push_event(out, id, &text);
        }
        let last = matches!(event.kind, EventKind::ShutDown | EventKind::Died);
        if last { Next::End } else { Next::Said }
    }

    fn look_back(&mut self, wanted: usize) {
        match self.shared.master.past_events(wanted) {
            Ok(past) => self.past = past.into(),
            Err(error) => log::warn!("control: {error}"),
        }
        if self.live.is_some() {
            self.told = self.past.iter().map(Value::to_string).collect();
        }
    }
}

impl Lines {
    fn push_next(&mut self, out: &mut Vec<u8>, id: u64) -> Next {
        match self.entries.try_recv() {
            Ok(Ok(Entry { worker, bytes, notice })) => {
                wire::push_event(out, id, &wire::LogText::new(&worker, &bytes, notice));
                Next::Said
            }
            Ok(Err(error)) => Next::Failed(error),
            Err(TryRecvError::Empty) => Next::Later,
            Err(TryRecvError::Disconnected) => Next::End,
        }
    }
}
