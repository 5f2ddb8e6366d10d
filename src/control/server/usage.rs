//! What workers' processes use, looked up when it is asked for. The last look at each is kept, so
//! that the next one tells what was used meanwhile.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use super::Shared;
use crate::control::report::{Usage, WorkerReport};
use crate::host::proc::{self, Used};
use crate::worker::WorkerDiagnostics;

/// What was used in less time than this says little: the system counts in hundredths of a second.
/// Who asks sooner hears the same again.
const WINDOW: Duration = Duration::from_millis(500);
/// As above, for the first look at a process: its whole life until then.
const YOUTH: Duration = Duration::from_millis(100);
/// Looks at so many workers are kept without asking whether all of these are still there.
const FEW: usize = 1024;

/// The last look at each worker's process.
#[derive(Default)]
pub(super) struct Looks(Mutex<Kept>);

#[derive(Default)]
struct Kept {
    by_worker: BTreeMap<String, Look>,
    /// Beyond so many, those of workers that are no more are dropped.
    room: usize,
}

#[derive(Clone, Debug, PartialEq)]
struct Look {
    pid: u32,
    started: u64,
    processor: Duration,
    at: Instant,
    percent: Option<f64>,
}

impl Look {
    /// The look at a process that uses this now, after the one before.
    fn after(before: Option<&Self>, pid: u32, used: &Used, now: Instant) -> Self {
        let same = |look: &&Self| (look.pid, look.started) == (pid, used.started);
        let before = before.filter(same).filter(|look| look.percent.is_some());
        let percent = match before {
            Some(before) => {
                let span = now.saturating_duration_since(before.at);
                if span < WINDOW {
                    return before.clone();
                }
                Some(percent(used.processor.saturating_sub(before.processor), span))
            }
            None => used.age().filter(|age| *age >= YOUTH).map(|age| percent(used.processor, age)),
        };
        Self { pid, started: used.started, processor: used.processor, at: now, percent }
    }
}

/// A part of a span, to a tenth of a percent.
fn percent(part: Duration, span: Duration) -> f64 {
    (part.as_secs_f64() / span.as_secs_f64() * 1000.0).round() / 10.0
}

impl Shared {
    /// A report with what the worker's process uses now, and whether its program's file is still
    /// what it runs. Reads files, which the loop would not wait for.
    pub(super) fn measured(&self, known: WorkerDiagnostics) -> WorkerReport {
        let usage = self.usage(&known);
        let program_changed = program_changed(&known);
        WorkerReport { usage, program_changed, ..known.into() }
    }

    fn usage(&self, known: &WorkerDiagnostics) -> Option<Usage> {
        let found = known.pid.and_then(|pid| Some((pid, Used::of(pid)?)));
        let mut kept = self.looks.0.lock().unwrap_or_else(PoisonError::into_inner);
        let Some((pid, used)) = found else {
            kept.by_worker.remove(&known.id);
            return None;
        };
        let look = Look::after(kept.by_worker.get(&known.id), pid, &used, Instant::now());
        let cpu_percent = look.percent;
        kept.keep(&known.id, look, |id| self.master.board().knows(id));
        drop(kept);
        let (rss_bytes, threads) = (Some(used.resident), Some(used.threads));
        Some(Usage { cpu_percent, rss_bytes, threads })
    }
}

impl Kept {
    fn keep(&mut self, id: &str, look: Look, is_there: impl Fn(&str) -> bool) {
        if let Some(known) = self.by_worker.get_mut(id) {
            *known = look;
            return;
        }
        if self.by_worker.len() >= self.room.max(FEW) {
            self.by_worker.retain(|id, _| is_there(id));
            self.room = 2 * self.by_worker.len();
        }
        self.by_worker.insert(id.to_owned(), look);
    }
}

fn program_changed(known: &WorkerDiagnostics) -> Option<bool> {
    // One that is not up may still be the launcher.
    let (pid, _) = (known.pid?, known.uptime?);
    let program = known.executable_path.as_deref().filter(|path| path.contains('/'))?;
    proc::program_changed(pid, Path::new(program))
}

#[cfg(test)]
mod tests {
    use super::*;

    const S: Duration = Duration::from_secs(1);

    fn used(started: u64, processor: Duration) -> Used {
        Used { started, processor, resident: 1, threads: 1 }
    }

    #[test]
    fn a_look_tells_what_was_used_since_the_one_before_and_never_of_a_moment() {
        let now = Instant::now();
        // It began with the system.
        let first = Look::after(None, 7, &used(0, S), now);
        let average = first.percent.unwrap();
        assert!(first.at == now && average >= 0.0, "{first:?}");
        let soon = Look::after(Some(&first), 7, &used(0, 2 * S), now + WINDOW / 2);
        assert_eq!(soon, first);
        let later = Look::after(Some(&first), 7, &used(0, 2 * S), now + 4 * S);
        assert_eq!(later.percent, Some(25.0));
        let busy = Look::after(Some(&later), 7, &used(0, 10 * S), now + 8 * S);
        assert_eq!(busy.percent, Some(200.0));
        // A clock that went back, or another look that came first.
        assert_eq!(Look::after(Some(&busy), 7, &used(0, 10 * S), now).percent, Some(200.0));
    }

    #[test]
    fn another_process_and_one_that_has_just_begun_begin_anew() {
        let now = Instant::now();
        let before = Look { pid: 7, started: 5, processor: 9 * S, at: now, percent: Some(50.0) };
        let other = Look::after(Some(&before), 7, &used(0, S), now + S);
        assert_eq!((other.started, other.processor), (0, S));
        // In the future, by its ticks: as young as one can be.
        let young = Look::after(None, 7, &used(1 << 50, Duration::ZERO), now);
        assert_eq!(young.percent, None);
        let grown = Look::after(Some(&young), 7, &used(1 << 50, Duration::ZERO), now + S);
        assert_eq!((grown.percent, grown.at), (None, now + S));
    }

    #[test]
    fn looks_at_workers_that_are_no_more_are_dropped() {
        let mut kept = Kept::default();
        let look = Look::after(None, 7, &used(0, S), Instant::now());
        for number in 0..10 * FEW {
            kept.keep(&number.to_string(), look.clone(), |id| id == "0" || id == "1");
            assert!(kept.by_worker.len() <= FEW + 2);
        }
        assert!(kept.by_worker.contains_key("0"));
        let mut kept = Kept::default();
        for number in 0..3 * FEW {
            kept.keep(&number.to_string(), look.clone(), |_| true);
        }
        assert_eq!(kept.by_worker.len(), 3 * FEW);
    }
}
