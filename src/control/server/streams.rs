//! What goes on until somebody ends it: events as they happen.

use std::collections::VecDeque;
use std::task::Waker;

use crossbeam_channel::{Receiver, TryRecvError};
use serde_json::Value;

use super::{Shared, wire};
use crate::runtime::{Event, EventKind};

/// A stream that a client has asked for.
pub(super) struct Stream {
    past: VecDeque<Value>,
    live: Option<Receiver<Event>>,
}

impl Stream {
    /// Events: some of the past, and if asked those to come.
    pub(super) fn events(shared: &Shared, asked: &wire::Events, waker: Waker) -> Self {
        let live = asked.follow.then(|| shared.master.subscribe_with(move || waker.wake_by_ref()));
        Self { past: VecDeque::new(), live }
    }

    /// Puts what there is behind what is in `out`, as long as that is shorter than `most`. True:
    /// that was all.
    pub(super) fn pump(&mut self, out: &mut Vec<u8>, id: u64, most: usize) -> bool {
        while out.len() < most {
            if let Some(event) = self.past.pop_front() {
                wire::push_event(out, id, &event);
                continue;
            }
            let Some(live) = &self.live else { return true };
            match live.try_recv() {
                Ok(event) => {
                    wire::push_event(out, id, &event.to_json());
                    if matches!(event.kind, EventKind::ShutDown | EventKind::Died) {
                        return true;
                    }
                }
                Err(TryRecvError::Empty) => return false,
                Err(TryRecvError::Disconnected) => return true,
            }
        }
        false
    }
}
