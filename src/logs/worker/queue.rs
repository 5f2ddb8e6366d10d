//! What waits to be written into the log of a worker that never waits for its disk: in order, of
//! bounded size, and exact about what did not fit.

mod message;

use std::collections::VecDeque;
use std::mem;
use std::ops::Range;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use crate::host::Outlet;
use crate::host::sys::{find_byte, find_last_byte};
use crate::logs::format::{MAX_LINE, Stamp, index};
use message::WAITING;
pub(super) use message::{Gap, Message, Piece, Waiting};

/// So much memory may be taken by what waits and what is being written. When it is full, all that
/// comes is lost until half of it is free: one long gap is better than many short ones.
pub(in crate::logs) const MOST: usize = 1 << 20;
/// So much more by what is no output: ends, and lines of the master's own.
pub(in crate::logs) const RESERVE: usize = 64 << 10;
/// So much output is written at once, as far as it is of one stream: on a disk that is slow each
/// write may take its time.
const AT_ONCE: usize = 256 << 10;
/// Nothing was lost for so long: the disk keeps up again. A steady flood loses something every few
/// seconds, which is one trouble.
const CALM: Duration = Duration::from_secs(10);

/// What the thread that writes is to do.
pub(super) enum Next {
    /// If it is output, more of the same stream may follow it.
    Write(Waiting, Vec<Waiting>),
    /// There is nothing to write, and nobody who would write soon.
    End,
}

pub(super) struct Queue {
    state: Mutex<State>,
    /// There is something for who writes, or for who waits for that.
    changed: Condvar,
}

#[derive(Default)]
pub(super) struct State {
    waiting: VecDeque<Waiting>,
    /// The memory of what waits and of what is being written.
    cost: usize,
    /// Of that, what is being written.
    in_hand: InHand,
    /// Of each stream so many bytes wait.
    bytes: [u64; 3],
    lines: [Line; 2],
    /// There was no room, and is not enough yet.
    full: bool,
    /// What was lost behind all that waits.
    gap: Option<Gap>,
    losing: Option<Losing>,
    /// How many messages came, and how many of them were done.
    pushed: u64,
    done: u64,
    /// A thread is there that writes.
    pub(super) is_served: bool,
    /// The system has refused it, which was said.
    pub(super) refused: bool,
    /// It waits for something to write.
    asleep: bool,
    /// It is to end once all is written.
    closing: bool,
    /// It is to stay for what may come, until it is closed.
    stays: bool,
    /// The master has ended, and nothing is written any more.
    given_up: bool,
}

/// What is being written: so many messages.
#[derive(Default)]
struct InHand {
    cost: usize,
    messages: u64,
}

/// Where a stream is.
#[derive(Default)]
struct Line {
    incarnation: u64,
    /// Its line has begun, and all of it was taken.
    begun: bool,
    /// So much of its line is lost.
    lost: usize,
}

/// The disk does not keep up.
struct Losing {
    lost: u64,
    last: Instant,
}

impl Queue {
    /// `stays`: so does who writes.
    pub(super) fn new(stays: bool) -> Self {
        let state = State { stays, ..State::default() };
        Self { state: Mutex::new(state), changed: Condvar::new() }
    }

    pub(super) fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Has what changed be seen.
    pub(super) fn wake(&self, state: &State) {
        // Who waits for what is written is woken by who writes.
        if state.asleep {
            self.changed.notify_all();
        }
    }

    /// The next message to be written, which is waited for; the last one is done. `calm` is told
    /// how much was lost, once the disk keeps up again.
    pub(super) fn next(&self, calm: impl Fn(u64)) -> Next {
        let mut state = self.lock();
        state.finish();
        self.changed.notify_all();
        loop {
            let taken = state.take();
            let is_empty = taken.is_none();
            let ends = is_empty && (state.closing || !state.stays || state.given_up);
            if let Some(lost) = state.calmed(taken.as_ref(), ends) {
                calm(lost);
            }
            if let Some(waiting) = taken {
                let more = state.take_more(&waiting);
                return Next::Write(waiting, more);
            }
            if ends {
                state.is_served = false;
                state.closing = false;
                self.changed.notify_all();
                return Next::End;
            }
            let calm_at = state.losing.as_ref().map(|losing| losing.last + CALM);
            state.asleep = true;
            state = match calm_at {
                Some(at) => {
                    let left = at.saturating_duration_since(Instant::now());
                    let waited = self.changed.wait_timeout(state, left);
                    waited.unwrap_or_else(PoisonError::into_inner).0
                }
                None => self.changed.wait(state).unwrap_or_else(PoisonError::into_inner),
            };
            state.asleep = false;
        }
    }

    /// Waits until all that came before is written. False: it was not in time, or nobody writes.
    pub(super) fn await_written(&self, until: Option<Instant>) -> bool {
        let mut state = self.lock();
        // What is lost is said then, too.
        state.put_gap(Stamp::now());
        self.wake(&state);
        let wanted = state.pushed;
        while state.done < wanted && state.is_served && !state.given_up {
            state = match until.map(|until| until.saturating_duration_since(Instant::now())) {
                Some(left) if left.is_zero() => break,
                Some(left) => {
                    let waited = self.changed.wait_timeout(state, left);
                    waited.unwrap_or_else(PoisonError::into_inner).0
                }
                None => self.changed.wait(state).unwrap_or_else(PoisonError::into_inner),
            };
        }
        state.done >= wanted
    }

    /// The thread that writes is to end once all is written. False: there is none.
    pub(super) fn close(&self) -> bool {
        let mut state = self.lock();
        state.closing = state.is_served;
        self.wake(&state);
        state.is_served
    }

    /// Lets go of all that waits, and of what comes; how much that is, by stream.
    pub(super) fn give_up(&self) -> [u64; 3] {
        let mut state = self.lock();
        state.given_up = true;
        state.waiting = VecDeque::new();
        state.cost = state.in_hand.cost;
        self.changed.notify_all();
        mem::take(&mut state.bytes)
    }

    /// Whether the thread that writes is to stay when there is nothing to write.
    pub(super) fn stay(&self, stays: bool) {
        let mut state = self.lock();
        state.stays = stays;
        self.wake(&state);
    }
}

impl State {
    /// Takes what a process wrote, as far as there is room: whole lines, if it can be. How much is
    /// lost.
    pub(super) fn take_output(&mut self, from: Outlet<'_>, stamp: Stamp, bytes: &[u8]) -> u64 {
        let which = index(from.stream);
        if self.lines[which].incarnation != from.incarnation {
            self.lines[which] = Line { incarnation: from.incarnation, ..Line::default() };
        }
        let Range { start, end } = self.fitting(which, bytes);
        let before = self.lose_output(from, &bytes[..start]);
        let kept = &bytes[start..end];
        if !kept.is_empty() {
            let line = &mut self.lines[which];
            (line.lost, line.begun) = (0, kept.last() != Some(&b'\n'));
            let Outlet { stream, dialect, .. } = from;
            let message = Message::Output { stream, dialect, bytes: kept.to_vec() };
            self.push(Waiting { incarnation: from.incarnation, stamp, message });
        }
        self.full |= end < bytes.len();
        before + self.lose_output(from, &bytes[end..])
    }

    /// Which part of what came there is room for.
    fn fitting(&self, which: usize, bytes: &[u8]) -> Range<usize> {
        let none = bytes.len()..bytes.len();
        if self.full || self.given_up {
            return none;
        }
        let start = match (self.lines[which].lost, find_byte(b'\n', bytes)) {
            (0, _) => 0,
            // The rest of a line of which a part is lost.
            (_, Some(end)) => end + 1,
            (lost, None) if lost + bytes.len() < MAX_LINE => bytes.len(),
            // A line without an end is not lost for ever.
            (_, None) => 0,
        };
        let room = MOST.saturating_sub(self.cost + WAITING);
        let rest = &bytes[start..];
        if rest.len() <= room {
            return start..bytes.len();
        }
        let lines = find_last_byte(b'\n', &rest[..room]).map_or(0, |end| end + 1);
        start..start + lines
    }

    fn lose_output(&mut self, from: Outlet<'_>, part: &[u8]) -> u64 {
        let which = index(from.stream);
        if part.is_empty() {
            return 0;
        }
        let line = &mut self.lines[which];
        let has_begun = mem::take(&mut line.begun);
        match find_last_byte(b'\n', part) {
            Some(end) => line.lost = part.len() - end - 1,
            None => line.lost += part.len(),
        }
        let (begin, torn) =
            if has_begun { self.lose_begin(which, from.incarnation) } else { (0, false) };
        let lost = begin + part.len() as u64;
        let gap = self.gap();
        if torn {
            gap.torn[which] = Some(from.incarnation);
        }
        gap.lost += lost;
        lost
    }

    /// The line of a stream that has begun goes on in what is lost, and is lost with it, as far as
    /// it still waits. How much that is, and whether some of it may not wait any more.
    fn lose_begin(&mut self, which: usize, incarnation: u64) -> (u64, bool) {
        let (mut lost, mut torn) = (0, true);
        let of_stream = |waiting: &&mut Waiting| waiting.message.stream() == Some(which);
        for waiting in self.waiting.iter_mut().rev().filter(of_stream) {
            let is_its = waiting.incarnation == incarnation;
            match &mut waiting.message {
                Message::Output { bytes, .. } if is_its => {
                    let whole = find_last_byte(b'\n', bytes).map_or(0, |end| end + 1);
                    lost += bytes.len() - whole;
                    bytes.truncate(whole);
                    bytes.shrink_to_fit();
                    torn = whole == 0;
                }
                // With these the line of another incarnation ends, too.
                Message::Output { .. } => torn = false,
                Message::End { .. } => torn = !is_its,
                Message::Record { .. } | Message::Own { .. } => {}
                Message::Gap(_) | Message::Rests => {}
            }
            if !torn {
                break;
            }
        }
        self.cost -= lost;
        self.bytes[which] -= lost as u64;
        (lost as u64, torn)
    }

    fn gap(&mut self) -> &mut Gap {
        let new = || Gap { lost: 0, torn: [None; 2], why: super::overflow::SLOW };
        self.gap.get_or_insert_with(new)
    }

    /// Takes what a module's thread logged, if there is room, which there is for one of any length
    /// that is the only one. How much is lost.
    pub(super) fn take_record(&mut self, record: Waiting) -> u64 {
        let fits = self.waiting.is_empty() || self.cost + record.cost() <= MOST;
        if fits && !self.full && !self.given_up {
            self.push(record);
            return 0;
        }
        self.full = true;
        let lost = record.message.counted().map_or(0, |(_, bytes)| bytes);
        if lost > 0 {
            self.gap().lost += lost;
        }
        lost
    }

    /// Takes what is no output. Where there is no room, an end ends all lines that have begun: what
    /// comes after it does not fit either.
    pub(super) fn take_other(&mut self, mut other: Waiting) {
        let is_over = self.cost + other.cost() > MOST + RESERVE;
        let is_end = |message: &Message| matches!(message, Message::Rests);
        if is_over {
            let is_own = matches!(other.message, Message::Own { .. });
            if is_own || self.waiting.back().is_some_and(|last| is_end(&last.message)) {
                return;
            }
            other.message = Message::Rests;
        }
        if !self.given_up {
            self.push(other);
        }
    }

    /// So much more is lost than was said.
    pub(super) fn loses_more(&mut self, lost: u64) {
        if let Some(losing) = &mut self.losing {
            losing.lost += lost;
        }
    }

    /// So much of what was being written is lost, which is to be said in its place.
    pub(super) fn loses_in_hand(&mut self, lost: u64, why: &'static str) {
        self.loses_more(lost);
        if lost > 0 {
            let message = Message::Gap(Gap { lost, torn: [None; 2], why });
            let stamp = self.waiting.front().map_or_else(Stamp::now, |next| next.stamp);
            let gap = Waiting { incarnation: 0, stamp, message };
            self.cost += gap.cost();
            self.in_hand.messages = self.in_hand.messages.saturating_sub(1);
            self.waiting.push_front(gap);
        }
    }

    /// Nothing waits to be written.
    pub(super) fn is_idle(&self) -> bool {
        self.waiting.is_empty() && self.gap.is_none()
    }

    /// Who asks for it writes what waits, and no longer.
    pub(super) fn serve_once(&mut self) {
        (self.is_served, self.closing) = (true, true);
    }

    /// What was lost last is to be said before what comes now.
    fn put_gap(&mut self, stamp: Stamp) {
        let Some(gap) = self.gap.take() else { return };
        if let Some(Waiting { message: Message::Gap(last), .. }) = self.waiting.back_mut()
            && last.why == gap.why
        {
            last.lost += gap.lost;
            last.torn = [0, 1].map(|which| last.torn[which].or(gap.torn[which]));
            return;
        }
        self.append(Waiting { incarnation: 0, stamp, message: Message::Gap(gap) });
    }

    fn push(&mut self, waiting: Waiting) {
        self.put_gap(waiting.stamp);
        self.append(waiting);
    }

    fn append(&mut self, waiting: Waiting) {
        if let Some((which, bytes)) = waiting.message.counted() {
            self.bytes[which] += bytes;
        }
        self.cost += waiting.cost();
        self.pushed += 1;
        self.waiting.push_back(waiting);
    }

    /// What was being written is.
    fn finish(&mut self) {
        let InHand { cost, messages } = mem::take(&mut self.in_hand);
        self.cost -= cost;
        self.done += messages;
        self.full &= self.cost > MOST / 2;
    }

    fn take(&mut self) -> Option<Waiting> {
        if self.given_up {
            return None;
        }
        if self.waiting.is_empty() {
            // Who is silent keeps no memory; and what it has lost is said although nothing comes.
            self.waiting = VecDeque::new();
            self.put_gap(Stamp::now());
        }
        self.take_one()
    }

    fn take_one(&mut self) -> Option<Waiting> {
        let waiting = self.waiting.pop_front()?;
        if let Some((which, bytes)) = waiting.message.counted() {
            self.bytes[which] -= bytes;
        }
        self.in_hand.cost += waiting.cost();
        self.in_hand.messages += 1;
        Some(waiting)
    }

    /// What can be written together with this.
    fn take_more(&mut self, first: &Waiting) -> Vec<Waiting> {
        let mut more = Vec::new();
        while self.in_hand.cost < AT_ONCE
            && let Some(next) = self.waiting.front()
            && next.is_more_of(first)
        {
            more.extend(self.take_one());
        }
        more
    }

    /// So many bytes of a stream wait.
    pub(super) fn bytes(&self, which: usize) -> u64 {
        self.bytes[which]
    }

    /// So many are lost now. True: none were before.
    pub(super) fn loses(&mut self, lost: u64) -> bool {
        let now = Instant::now();
        let losing = &mut self.losing;
        let is_new = losing.is_none();
        let losing = losing.get_or_insert(Losing { lost: 0, last: now });
        (losing.lost, losing.last) = (losing.lost + lost, now);
        is_new
    }

    /// How much was lost until the disk kept up again, if it does now.
    fn calmed(&mut self, taken: Option<&Waiting>, ends: bool) -> Option<u64> {
        let is_over = |losing: &Losing| ends || losing.last.elapsed() >= CALM;
        let is_gap = |waiting: &Waiting| matches!(waiting.message, Message::Gap(_));
        let is_calm = self.losing.as_ref().is_some_and(is_over)
            && !self.full
            && self.gap.is_none()
            && !taken.into_iter().chain(&self.waiting).any(is_gap);
        if is_calm { self.losing.take().map(|losing| losing.lost) } else { None }
    }

    /// For tests: the end of all lines waits.
    #[cfg(test)]
    pub(super) fn rests(&self) -> bool {
        self.waiting.back().is_some_and(|last| matches!(last.message, Message::Rests))
    }

    /// For tests: how much memory is taken.
    #[cfg(test)]
    pub(in crate::logs) fn cost(&self) -> usize {
        self.cost
    }
}
