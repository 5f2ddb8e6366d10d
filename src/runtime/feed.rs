//! Events for whoever wants to follow along. A slow reader misses some and is told how many; the
//! loop waits for nobody.

mod json;

use std::sync::{Arc, Weak};
use std::time::SystemTime;

use crossbeam_channel::{Receiver, Sender, TrySendError, bounded};

use crate::core::event::Transition;
use crate::error::Failure;
use crate::host::panics::guarded;
use crate::logs::Scribe;
use crate::module::EndpointInfo;
use crate::worker::{Exit, HealthStatus, WorkerId, WorkerState};

/// How many events a reader may lag behind.
const CAPACITY: usize = 1024;
/// When there are so many readers it is asked whether all of them are still there.
const MANY: usize = 64;

/// Something that happened, in the order in which it happened.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct Event {
    /// The worker it is about; empty for the master itself.
    pub worker: String,
    /// The incarnation it is about; 0 when it is about none.
    pub incarnation: u64,
    /// When, by the wall clock.
    pub at: SystemTime,
    /// What happened.
    pub kind: EventKind,
}

/// What happened.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub enum EventKind {
    /// A worker took an edge of the table of states.
    State {
        /// The state it left.
        from: WorkerState,
        /// The state it entered.
        to: WorkerState,
        /// Why, in a word or two.
        cause: &'static str,
        /// What went wrong, for an edge that leads to `Failed`.
        message: Option<String>,
        /// How its incarnation ended, where that end is what moved it.
        exit: Option<Exit>,
    },
    /// A worker's health changed.
    Health {
        /// What its checks say now.
        health: HealthStatus,
        /// What is wrong, if something is.
        reason: String,
    },
    /// A worker can now be reached here.
    Endpoint {
        /// Name, type and address.
        endpoint: EndpointInfo,
    },
    /// An incarnation is gone: its thread has wound down, or the kernel has let its process go.
    /// Told after the change of state that it led to.
    Gone {
        /// How it ended.
        exit: Exit,
    },
    /// A task of a module failed; the worker lives on.
    TaskFailed {
        /// How.
        failure: Failure,
    },
    /// The configuration was replaced by another one.
    Reloaded {
        /// The workers that are new, in the order in which they were added.
        added: Vec<String>,
        /// Those that are removed.
        removed: Vec<String>,
        /// Those whose configuration is another.
        changed: Vec<String>,
    },
    /// Every worker that [`Reloaded`](Self::Reloaded) means has come to where it was meant to be,
    /// or has failed to get there.
    ReloadFinished {
        /// Those that have failed. Their restart policies go on.
        failed: Vec<String>,
    },
    /// The configuration was to be replaced and was not: nothing changed.
    ReloadFailed {
        /// What was wrong with the new one.
        message: String,
    },
    /// Something of a log is lost, since its file cannot be written, or, with `overflow: drop`, not
    /// as fast as its worker writes: a worker's log, or, for the master itself, the file of events.
    LogDegraded {
        /// The file.
        path: String,
        /// What the system says, or that the worker is faster.
        message: String,
    },
    /// It is written in full again.
    LogRecovered {
        /// The file.
        path: String,
        /// So much was lost: bytes of a worker's log, or events.
        dropped: u64,
    },
    /// The state directory of the master cannot be kept: it was removed, or cannot be written. The
    /// master goes on; a next one may not know what this one runs.
    StateDegraded {
        /// The directory.
        path: String,
        /// What is wrong.
        message: String,
    },
    /// All is well with it again.
    StateRecovered {
        /// The directory.
        path: String,
    },
    /// A worker was removed.
    Removed,
    /// This reader was too slow: so many events were left out here. 0: none was; where there are 64
    /// readers or more this is told now and then, to find those that are gone.
    Missed(u64),
    /// Every worker is down and the master has ended.
    ShutDown,
    /// The event loop died: a fault of the master's own.
    Died,
}

impl Event {
    pub(super) fn of_worker(worker: &WorkerId, incarnation: u64, kind: EventKind) -> Self {
        Self { worker: worker.to_string(), incarnation, at: SystemTime::now(), kind }
    }

    pub(super) fn of_master(kind: EventKind) -> Self {
        Self { worker: String::new(), incarnation: 0, at: SystemTime::now(), kind }
    }
}

/// One reader of events.
pub(crate) struct Subscriber {
    sender: Sender<Event>,
    missed: u64,
    wake: Option<Arc<dyn Fn() + Send + Sync>>,
    /// Lives as long as the reader; `None`: only the next event shows whether it does.
    reader: Option<Weak<()>>,
}

impl Subscriber {
    /// A reader and what it reads from. `wake` is called after each event.
    pub(crate) fn new(wake: Option<Arc<dyn Fn() + Send + Sync>>) -> (Self, Receiver<Event>) {
        let (sender, receiver) = bounded(CAPACITY);
        (Self { sender, missed: 0, wake, reader: None }, receiver)
    }

    /// As `new`, for a reader that lives as long as `reader`: it is let go before the next event.
    pub(crate) fn of(
        reader: &Arc<()>,
        wake: impl Fn() + Send + Sync + 'static,
    ) -> (Self, Receiver<Event>) {
        let (mut subscriber, receiver) = Self::new(Some(Arc::new(wake)));
        subscriber.reader = Some(Arc::downgrade(reader));
        (subscriber, receiver)
    }

    fn is_read(&self) -> bool {
        self.reader.as_ref().is_none_or(|reader| reader.strong_count() > 0)
    }

    /// Hands over an event. False: the reader is gone.
    fn tell(&mut self, event: &Event) -> bool {
        if self.missed > 0 {
            match self.sender.try_send(missed(self.missed)) {
                Ok(()) => self.missed = 0,
                Err(TrySendError::Full(_)) => {
                    self.missed += 1;
                    return true;
                }
                Err(TrySendError::Disconnected(_)) => return false,
            }
        }
        match self.sender.try_send(event.clone()) {
            Ok(()) => {}
            Err(TrySendError::Full(_)) => self.missed += 1,
            Err(TrySendError::Disconnected(_)) => return false,
        }
        self.wake()
    }

    /// False: it does not want to be woken any more.
    fn wake(&self) -> bool {
        match &self.wake {
            // The program's code on our thread: its panic must not be the loop's.
            Some(wake) => guarded("the wake function of a subscriber", || wake()).is_ok(),
            None => true,
        }
    }
}

impl Drop for Subscriber {
    /// On the loop's thread too: what the program's function holds may panic when it is dropped.
    fn drop(&mut self) {
        let wake = self.wake.take();
        let _ = guarded("the wake function of a subscriber", move || drop(wake));
    }
}

/// All readers.
#[derive(Default)]
pub(super) struct Feed {
    subscribers: Vec<Subscriber>,
    /// How many of them were found to be there, of many.
    found: usize,
    /// Where all events are written down, and how many were left out since the last one.
    scribe: Option<Scribe>,
    unwritten: u64,
}

impl Feed {
    /// Without readers yet; `scribe` writes all events down.
    pub(super) fn new(scribe: Option<Scribe>) -> Self {
        Self { scribe, ..Self::default() }
    }

    /// Takes in one more. Those whose readers are gone leave: each has room for many events.
    pub(super) fn subscribe(&mut self, subscriber: Subscriber) {
        self.subscribers.retain(Subscriber::is_read);
        if self.subscribers.len() >= MANY.max(2 * self.found) {
            // Only what is sent shows whether anybody receives it.
            self.subscribers.retain_mut(|known| known.reader.is_some() || known.tell(&missed(0)));
            self.found = self.subscribers.len();
        }
        if subscriber.is_read() && subscriber.wake() {
            self.subscribers.push(subscriber);
        }
    }

    pub(super) fn tell(&mut self, event: &Event) {
        if let Some(scribe) = &self.scribe {
            if self.unwritten > 0 && write_down(scribe, missed(self.unwritten)) {
                self.unwritten = 0;
            }
            if self.unwritten > 0 || !write_down(scribe, event.clone()) {
                self.unwritten += 1;
            }
        }
        self.subscribers.retain_mut(|subscriber| subscriber.tell(event));
    }

    /// Tells an edge, what went wrong if it leads to `Failed`, and the end of the incarnation that
    /// moved the worker, if one did.
    pub(super) fn transition(
        &mut self,
        transition: Transition,
        failure: Option<&Failure>,
        exit: Option<&Exit>,
    ) {
        let Transition { worker, incarnation, from, to, cause } = transition;
        if !self.subscribers.is_empty() || self.scribe.is_some() {
            let (cause, exit) = (cause.as_str(), exit.cloned());
            let message = failure.map(ToString::to_string);
            let kind = EventKind::State { from, to, cause, message, exit };
            self.tell(&Event::of_worker(&worker, incarnation, kind));
        }
    }
}

fn missed(count: u64) -> Event {
    Event::of_master(EventKind::Missed(count))
}

/// Has an event written down, as JSON, by another thread. False: too many wait.
fn write_down(scribe: &Scribe, event: Event) -> bool {
    scribe.line(Box::new(move || event.to_json().to_string()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slow_reader_is_told_how_much_it_missed() {
        let (subscriber, receiver) = Subscriber::new(None);
        let mut feed = Feed::default();
        feed.subscribe(subscriber);
        for _ in 0..CAPACITY + 5 {
            feed.tell(&Event::of_master(EventKind::Removed));
        }
        assert_eq!(receiver.try_iter().count(), CAPACITY);
        feed.tell(&Event::of_master(EventKind::ShutDown));
        let rest: Vec<_> = receiver.try_iter().map(|event| event.kind).collect();
        assert_eq!(rest, [EventKind::Missed(5), EventKind::ShutDown]);
        drop(receiver);
        feed.tell(&Event::of_master(EventKind::Removed));
        assert!(feed.subscribers.is_empty());
    }

    #[test]
    fn a_reader_that_is_gone_is_let_go_without_an_event() {
        let mut feed = Feed::default();
        for _ in 0..3 {
            let reader = Arc::default();
            let (subscriber, _receiver) = Subscriber::of(&reader, || ());
            feed.subscribe(subscriber);
            assert_eq!(feed.subscribers.len(), 1);
        }
        let gone = Subscriber::of(&Arc::default(), || panic!("woken")).0;
        feed.subscribe(gone);
        assert!(feed.subscribers.is_empty());
    }

    #[test]
    fn readers_that_are_gone_do_not_pile_up_without_events() {
        let mut feed = Feed::default();
        let (subscriber, receiver) = Subscriber::new(None);
        feed.subscribe(subscriber);
        for _ in 0..10_000 {
            feed.subscribe(Subscriber::new(None).0);
            assert!(feed.subscribers.len() <= MANY);
        }
        assert!(receiver.try_iter().all(|event| event.kind == EventKind::Missed(0)));
        // As many as are there stay.
        let readers: Vec<_> = (0..10 * MANY).map(|_| Subscriber::new(None)).collect();
        let receivers: Vec<_> = readers
            .into_iter()
            .map(|(subscriber, receiver)| {
                feed.subscribe(subscriber);
                receiver
            })
            .collect();
        feed.tell(&Event::of_master(EventKind::ShutDown));
        for receiver in receivers.iter().chain([&receiver]) {
            assert_eq!(receiver.try_iter().last().unwrap().kind, EventKind::ShutDown);
        }
    }

    #[test]
    fn what_is_not_written_down_in_time_is_written_down_as_missed() {
        let room = tempfile::tempdir().unwrap();
        let logs = crate::logs::Logs::open(Some(room.path()), 0).unwrap();
        let scribe = logs.scribe().unwrap();
        let (release, released) = bounded::<()>(0);
        scribe.line(Box::new(move || {
            let _ = released.recv();
            "{}".to_owned()
        }));
        let mut feed = Feed::new(Some(scribe));
        let told = 70_000;
        for _ in 0..told {
            feed.tell(&Event::of_master(EventKind::Removed));
        }
        let unwritten = feed.unwritten;
        assert!(unwritten > 4_000, "{unwritten}");
        drop(release);
        // The next one that finds room says so before it is told itself.
        let end = std::time::Instant::now() + std::time::Duration::from_secs(30);
        let mut more = 0;
        while feed.unwritten > 0 {
            assert!(std::time::Instant::now() < end);
            feed.tell(&Event::of_master(EventKind::Died));
            more += 1;
        }
        let (all, is_all) = bounded(1);
        let scribe = feed.scribe.clone().unwrap();
        while !scribe.line(Box::new({
            let all = all.clone();
            move || all.send(()).map_or_else(|_| String::new(), |()| "{}".to_owned())
        })) {}
        is_all.recv_timeout(std::time::Duration::from_secs(30)).unwrap();
        logs.end();
        let events = logs.past_events(usize::MAX).unwrap();
        let missed: u64 = events.iter().filter_map(|event| event["count"].as_u64()).sum();
        let counted = |event: &&serde_json::Value| event["event"] != "missed";
        let written = events.iter().filter(counted).count() as u64;
        assert_eq!(written + missed, told + more + 2);
    }
}
