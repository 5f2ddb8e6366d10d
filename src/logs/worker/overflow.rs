//! A log whose worker never waits for the disk (`logs.overflow: drop`): what comes is queued, and a
//! thread of the log's own writes it. It is there while there may be something to write.

use std::iter;
use std::sync::{Arc, MutexGuard};
use std::time::Instant;

use log::Level;

use super::losing::{Part, loss};
use super::queue::{Gap, Message, Next, Queue, State, Waiting};
use super::{LOGGED, WorkerLog, add, lock, record_bytes};
use crate::host::panics::guarded;
use crate::host::{Outlet, Stream, threads};
use crate::logs::format::{Stamp, index};
use crate::worker::{LogOverflow, LogsConfig};

/// It writes as a monitor does.
const STACK: usize = 128 << 10;
/// Why something is lost.
pub(super) const SLOW: &str = "it writes faster than the disk takes it";
const PANICKED: &str = "a fault of the master's own";

impl WorkerLog {
    /// Where what comes is to wait, if its worker is not to wait until it is written.
    pub(super) fn queue(self: &Arc<Self>, settings: LogsConfig) -> Option<&Queue> {
        match settings.overflow {
            LogOverflow::Drop => {
                if self.queue.get().is_none() {
                    let stays = lock(&self.stays);
                    self.queue.get_or_init(|| Box::new(Queue::new(*stays)));
                }
                self.queue.get().map(|queue| &**queue)
            }
            LogOverflow::Block => {
                if let Some(queue) = self.queue.get() {
                    // It was the other one before: what came then is before what comes now.
                    self.see_written(queue);
                    queue.await_written(None);
                }
                None
            }
        }
    }

    /// Sees to it that somebody writes what is queued: where the system refuses the thread, this
    /// one does, until nothing is left.
    pub(super) fn see_written(self: &Arc<Self>, queue: &Queue) {
        let mut state = queue.lock();
        if state.is_served || state.is_idle() {
            return;
        }
        self.serve(&mut state);
        if !state.is_served {
            state.serve_once();
            drop(state);
            self.keep_writing();
        }
    }

    /// Queues what a process wrote.
    pub(super) fn queue_output(self: &Arc<Self>, queue: &Queue, from: Outlet<'_>, bytes: &[u8]) {
        let count = &self.counts[index(from.stream)];
        let mut state = queue.lock();
        add(&count.taken, bytes.len() as u64);
        let lost = state.take_output(from, Stamp::now(), bytes);
        add(&count.dropped, lost);
        self.queued(queue, state, lost);
    }

    /// Queues what a module's thread logged.
    pub(super) fn queue_record(
        self: &Arc<Self>,
        queue: &Queue,
        incarnation: u64,
        (level, target, text): (Level, &str, &str),
    ) {
        let message = Message::Record { level, target: target.to_owned(), text: text.to_owned() };
        let stamp = Stamp::now();
        let mut state = queue.lock();
        add(&self.counts[LOGGED].taken, record_bytes(text));
        let lost = state.take_record(Waiting { incarnation, stamp, message });
        add(&self.counts[LOGGED].dropped, lost);
        self.queued(queue, state, lost);
    }

    /// Does what is no output: at once, or when all that came before is written.
    pub(super) fn do_in_turn(
        self: &Arc<Self>,
        settings: LogsConfig,
        incarnation: u64,
        message: Message,
    ) {
        let waiting = Waiting { incarnation, stamp: Stamp::now(), message };
        let Some(queue) = self.queue(settings) else {
            self.perform(waiting, &[]);
            return;
        };
        let mut state = queue.lock();
        state.take_other(waiting);
        self.queued(queue, state, 0);
    }

    /// Sees to it that what was queued is written. All that is told here is told without waiting.
    fn queued(self: &Arc<Self>, queue: &Queue, mut state: MutexGuard<'_, State>, lost: u64) {
        if lost > 0 && state.loses(lost) {
            self.falls_behind();
        }
        if !state.is_served {
            self.serve(&mut state);
        }
        queue.wake(&state);
    }

    /// Starts the thread that writes. Where the system refuses it, what is queued waits for the
    /// next try: when something comes.
    fn serve(self: &Arc<Self>, state: &mut State) {
        let log = Arc::clone(self);
        let name = format!("{}-log", self.worker);
        match threads::spawn(&name, STACK, move || log.keep_writing()) {
            Ok(_) => (state.is_served, state.refused) = (true, false),
            Err(_) if std::mem::replace(&mut state.refused, true) => {}
            Err(error) => {
                let worker = &self.worker;
                let notice = format!("{worker}: cannot start the thread that writes its log");
                self.means.notice(Level::Error, format!("{notice}: {error}"));
            }
        }
    }

    /// What the thread does.
    fn keep_writing(&self) {
        let Some(queue) = self.queue.get() else { return };
        let name = format!("{}-log", self.worker);
        while let Err(failure) = guarded(&name, || self.write_queue(queue)) {
            let text = format!("a fault of the master's own: {failure}; it is begun again");
            self.means.notice(Level::Error, text);
            let _ = guarded(&name, || self.count_again(queue));
        }
        // Whoever writes next opens it again.
        let _ = guarded(&name, || self.close_file());
    }

    fn write_queue(&self, queue: &Queue) {
        while let Next::Write(waiting, more) = queue.next(|lost| self.keeps_up(lost)) {
            threads::fail_point("log-writer");
            let torn = self.perform(waiting, &more);
            queue.lock().loses_more(torn);
        }
    }

    /// After a panic: what was being written is lost, as far as it is not stored.
    fn count_again(&self, queue: &Queue) {
        let mut written = self.file.as_deref().map(lock);
        let mut state = queue.lock();
        let mut lost = 0;
        for (which, count) in self.counts.iter().enumerate() {
            let [taken, stored, dropped] = count.all();
            let gone = taken.saturating_sub(stored + dropped + state.bytes(which));
            add(&count.dropped, gone);
            lost += gone;
        }
        if let Some(written) = &mut written {
            // Of these too, what their lines began with.
            for stream in [Stream::Stdout, Stream::Stderr] {
                written.lines.forget(stream);
            }
        }
        state.loses_in_hand(lost, PANICKED);
    }

    /// Writes what waited, and `more` of the same. How much is lost beside what a gap says.
    fn perform(&self, waiting: Waiting, more: &[Waiting]) -> u64 {
        let Waiting { incarnation, stamp, message } = waiting;
        let (worker, settings) = (&self.worker, self.settings());
        match message {
            Message::Output { stream, dialect, bytes } => {
                let from = Outlet { worker, incarnation, stream, dialect };
                let more = more.iter().filter_map(Waiting::output);
                let pieces: Vec<_> = iter::once((Some(stamp), &bytes[..])).chain(more).collect();
                self.write_output(settings, from, &pieces);
            }
            Message::End { stream, dialect } => {
                self.write_end(settings, Outlet { worker, incarnation, stream, dialect });
            }
            Message::Record { level, target, text } => {
                self.write_record(settings, incarnation, (level, &target, &text), Some(stamp));
            }
            Message::Own { text, begins } => {
                self.write_line(settings, (incarnation, begins), &text, &stamp);
            }
            Message::Gap(gap) => return self.write_gap(settings, &gap, &stamp),
            Message::Rests => self.write_rests(settings),
        }
        0
    }

    /// Says in the log what is lost here. How much else is lost with it: begins of lines.
    fn write_gap(&self, settings: LogsConfig, gap: &Gap, stamp: &Stamp) -> u64 {
        let Some((mut written, limits)) = self.lock_written(settings) else { return 0 };
        let mut torn = 0;
        for stream in [Stream::Stdout, Stream::Stderr] {
            if let Some(incarnation) = gap.torn[index(stream)] {
                let begun = written.lines.forget_of(stream, incarnation);
                add(&self.counts[index(stream)].dropped, begun);
                torn += begun;
            }
        }
        let lost = gap.lost + torn;
        let told = self.is_ready(&mut written, limits, settings, false)
            && self.write_mark(&mut written, &loss(lost, gap.why), stamp, (limits, settings));
        if !told && let Some(trouble) = &mut written.trouble {
            // It is said with what else is lost.
            trouble.lost += lost;
        }
        drop(written);
        self.means.bell.ring();
        torn
    }

    /// Something is lost for the first time since the disk last kept up.
    fn falls_behind(&self) {
        let Some(path) = &self.path else { return };
        let notice = format!("{}: a part of its log is lost: {SLOW}", self.worker);
        self.means.notice(Level::Error, notice);
        self.begins(Part::Speed, path, SLOW, true);
    }

    /// The disk keeps up again.
    fn keeps_up(&self, dropped: u64) {
        let Some(path) = &self.path else { return };
        let notice =
            format!("{}: its log is written in full again; {}", self.worker, loss(dropped, SLOW));
        self.means.notice(Level::Warn, notice);
        self.ends(Part::Speed, path);
    }

    /// Whether the thread that writes is to stay when there is nothing to write.
    pub(in crate::logs) fn stay(&self, stays: bool) {
        // Held on to, so that a queue that is just being made hears of it too.
        let mut now = lock(&self.stays);
        *now = stays;
        if let Some(queue) = self.queue.get() {
            queue.stay(stays);
        }
    }

    /// Waits until what has come by now is written, if it is in time.
    pub(in crate::logs) fn settle(&self, until: Instant) {
        if let Some(queue) = self.queue.get() {
            queue.await_written(Some(until));
        }
    }

    /// The master ends: what is not written by then is lost.
    pub(in crate::logs) fn finish(&self, until: Instant) {
        let Some(queue) = self.queue.get() else { return };
        if queue.await_written(Some(until)) {
            queue.close();
            return;
        }
        let left = queue.give_up();
        for (count, lost) in self.counts.iter().zip(left) {
            add(&count.dropped, lost);
        }
        let (worker, lost) = (&self.worker, left.iter().sum());
        let notice = format!("{worker}: its log is not written to its end; {}", loss(lost, SLOW));
        self.means.notice(Level::Error, notice);
    }

    /// For tests: the disk does not answer while this lives.
    #[cfg(test)]
    pub(crate) fn hold(&self) -> impl Sized {
        self.file.as_deref().map(lock)
    }

    /// For tests: it is known, and not done yet, that the master ends.
    #[cfg(test)]
    pub(crate) fn rests(&self) -> bool {
        self.queue.get().is_some_and(|queue| queue.lock().rests())
    }

    /// For tests: how many bytes of a stream wait.
    #[cfg(test)]
    pub(in crate::logs) fn waiting(&self, which: usize) -> u64 {
        self.queue.get().map_or(0, |queue| queue.lock().bytes(which))
    }

    /// For tests: how much memory the queue takes, and whether there is a thread that writes.
    #[cfg(test)]
    pub(crate) fn queue_now(&self) -> (usize, bool) {
        let state = self.queue.get().map(|queue| queue.lock());
        state.map_or((0, false), |state| (state.cost(), state.is_served))
    }
}
