//! A log whose worker never waits for the disk (`logs.overflow: drop`): what comes is queued, and a
//! thread of the log's own writes it. It is there while there may be something to write.

use std::iter;
use std::sync::{Arc, MutexGuard};
use std::time::{Instant, SystemTime};

use log::Level;

use super::losing::loss;
use super::queue::{Gap, Message, Next, Queue, State, Waiting};
use super::{LOGGED, WorkerLog, add, lock, record_bytes};
use crate::host::panics::guarded;
use crate::host::{Outlet, Stream, threads};
use crate::logs::format::{Stamp, index};
use crate::logs::trouble::LogNews;
use crate::worker::{LogOverflow, LogTrouble, LogsConfig};

/// It writes as a monitor does.
const STACK: usize = 128 << 10;
/// Why something is lost.
pub(super) const SLOW: &str = "it writes faster than the disk takes it";
const PANICKED: &str = "a fault of the master's own";

impl WorkerLog {
    /// Where what comes is to wait, if its worker is not to wait until it is written.
    pub(super) fn queue(self: &Arc<Self>, settings: LogsConfig) -> Option<&Queue> {
        match settings.overflow {
            LogOverflow::Drop => Some(self.queue.get_or_init(Box::default)),
            LogOverflow::Block => {
                if let Some(queue) = self.queue.get() {
                    // It was the other one before: what came then is before what comes now.
                    queue.await_written(None);
                }
                None
            }
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
        struct Served<'q>(&'q Queue);
        impl Drop for Served<'_> {
            fn drop(&mut self) {
                if std::thread::panicking() {
                    self.0.unserved();
                }
            }
        }
        let Some(queue) = self.queue.get() else { return };
        let _served = Served(queue);
        let name = format!("{}-log", self.worker);
        while let Err(failure) = guarded(&name, || self.write_queue(queue, &name)) {
            let text = format!("a fault of the master's own: {failure}; it is begun again");
            self.means.notice(Level::Error, text);
            self.count_again(queue);
        }
        // Whoever writes next opens it again.
        self.close_file();
    }

    fn write_queue(&self, queue: &Queue, name: &str) {
        while let Next::Write(waiting, more) = queue.next(|lost| self.keeps_up(lost)) {
            threads::fail_point(name);
            let torn = self.perform(waiting, &more);
            if torn > 0 {
                queue.lock().lost_since(torn, None);
            }
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
        state.lost_since(lost, Some(PANICKED));
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
            Message::Gap(gap) => return self.write_gap(settings, &gap),
            Message::Rests => self.write_rests(settings),
        }
        0
    }

    /// Says in the log what is lost here. How much else is lost with it: begins of lines.
    fn write_gap(&self, settings: LogsConfig, gap: &Gap) -> u64 {
        let Some((mut written, limits)) = self.lock_written(settings) else { return 0 };
        let mut torn = 0;
        for stream in [Stream::Stdout, Stream::Stderr] {
            if gap.torn[index(stream)] {
                let begun = written.lines.forget(stream);
                add(&self.counts[index(stream)].dropped, begun);
                torn += begun;
            }
        }
        let lost = gap.lost + torn;
        let told = self.is_ready(&mut written, limits, settings, false)
            && self.write_mark(&mut written, &loss(lost, gap.why), (limits, settings));
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
        let (at, message) = (SystemTime::now(), SLOW.to_owned());
        *lock(&self.shown) = Some(LogTrouble { message: message.clone(), at, since: Some(at) });
        let notice = format!("{}: a part of its log is lost: {SLOW}", self.worker);
        self.means.notice(Level::Error, notice);
        let news = LogNews::Degraded { path: path.clone(), message };
        self.means.told.tell(Some(&self.worker), news);
    }

    /// The disk keeps up again.
    fn keeps_up(&self, dropped: u64) {
        let Some(path) = &self.path else { return };
        // What went wrong with the file itself meanwhile goes on.
        if let Some(shown) = lock(&self.shown).as_mut().filter(|shown| shown.message == SLOW) {
            shown.since = None;
        }
        let notice = format!("{}: its log is whole again; {}", self.worker, loss(dropped, SLOW));
        self.means.notice(Level::Warn, notice);
        let news = LogNews::Recovered { path: path.clone(), dropped };
        self.means.told.tell(Some(&self.worker), news);
    }

    /// Whether the thread that writes is to stay when there is nothing to write.
    pub(in crate::logs) fn stay(&self, stays: bool) {
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
    pub(in crate::logs) fn hold(&self) -> impl Sized {
        self.file.as_deref().map(lock)
    }

    /// For tests: how many bytes of a stream wait.
    #[cfg(test)]
    pub(in crate::logs) fn waiting(&self, which: usize) -> u64 {
        self.queue.get().map_or(0, |queue| queue.lock().bytes(which))
    }

    /// For tests: how much memory the queue takes, and whether there is a thread that writes.
    #[cfg(test)]
    pub(in crate::logs) fn queue_now(&self) -> (usize, bool) {
        let state = self.queue.get().map(|queue| queue.lock());
        state.map_or((0, false), |state| (state.cost(), state.is_served))
    }
}
