//! What a process uses now, as the system counts it: processor time, memory and threads.

use std::fs;
use std::time::Duration;

use super::{TICKS, since_boot};

/// What a process uses, without those that it has started.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Used {
    /// When it began, in ticks since the system's start: with its number it means this process.
    pub(crate) started: u64,
    /// Processor time of all its threads since it began, to a hundredth of a second.
    pub(crate) processor: Duration,
    /// Resident memory, in bytes.
    pub(crate) resident: u64,
    pub(crate) threads: u64,
}

impl Used {
    /// `None`: there is no such process, or nothing of it but its end.
    pub(crate) fn of(pid: u32) -> Option<Self> {
        let (started, processor) = parse_stat(&fs::read(format!("/proc/{pid}/stat")).ok()?)?;
        let (resident, threads) = parse_status(&fs::read(format!("/proc/{pid}/status")).ok()?)?;
        Some(Self { started, processor, resident, threads })
    }

    /// How long ago the process began.
    pub(crate) fn age(&self) -> Option<Duration> {
        age(self.started)
    }
}

/// How long ago what began after so many ticks did so.
pub(crate) fn age(started: u64) -> Option<Duration> {
    Some(since_boot()?.saturating_sub(span(started)?))
}

/// So many ticks.
pub(super) fn span(ticks: u64) -> Option<Duration> {
    ticks.checked_mul(1000 / TICKS).map(Duration::from_millis)
}

/// When the process began, and what it has used of the processors since.
fn parse_stat(stat: &[u8]) -> Option<(u64, Duration)> {
    let close = stat.iter().rposition(|byte| *byte == b')')?;
    let rest = std::str::from_utf8(&stat[close + 1..]).ok()?;
    // The state is the third field; its own time and the kernel's for it are the fourteenth and
    // the fifteenth, the beginning is the twenty-second.
    let mut fields = rest.split_ascii_whitespace().skip(11).map(str::parse::<u64>);
    let (own, kernel) = (fields.next()?.ok()?, fields.next()?.ok()?);
    let started = fields.nth(6)?.ok()?;
    Some((started, span(own.checked_add(kernel)?)?))
}

/// Only the name, which is in a line of its own, may be any bytes.
fn parse_status(status: &[u8]) -> Option<(u64, u64)> {
    let number = |key: &str| {
        let mut lines = status.split(|byte| *byte == b'\n');
        let value = lines.find_map(|line| line.strip_prefix(key.as_bytes()))?;
        let text = std::str::from_utf8(value).ok()?;
        text.split_ascii_whitespace().next()?.parse::<u64>().ok()
    };
    Some((number("VmRSS:")?.checked_mul(1024)?, number("Threads:")?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_process_uses_is_read_whatever_it_is_called() {
        let status = b"Name:\tVmRSS: \xff\nState:\tS\nVmRSS:\t    1700 kB\nThreads:\t3\n";
        assert_eq!(parse_status(status), Some((1700 << 10, 3)));
        // As it is of one that has ended and is not reaped.
        assert_eq!(parse_status(b"Name:\ta\nState:\tZ\nThreads:\t1\n"), None);
        let rest = "S 1 2 3 4 5 6 7 8 9 10 150 25 13 14 15 16 17 18 4711 20 21";
        for name in ["a", ") S 1 2 3", "\u{e4} ("] {
            let used = parse_stat(format!("77 ({name}) {rest}").as_bytes());
            assert_eq!(used, Some((4711, Duration::from_millis(1750))), "{name}");
        }
        for broken in ["", "77 (a", "77 (a) S 1 2", &format!("77 (a) {rest}").replace("25", "x")] {
            assert_eq!(parse_stat(broken.as_bytes()), None, "{broken}");
        }
    }

    #[test]
    fn our_own_use_only_grows() {
        let own = std::process::id();
        let before = Used::of(own).unwrap();
        assert!(before.resident > 0 && before.threads > 0);
        // What cannot be told apart in hundredths of a second is waited for.
        let end = std::time::Instant::now() + Duration::from_secs(30);
        let after = loop {
            let after = Used::of(own).unwrap();
            if after.processor > before.processor {
                break after;
            }
            assert!(std::time::Instant::now() < end, "{before:?} {after:?}");
        };
        assert_eq!(after.started, before.started);
        // It began before it had used anything, for all the roundings of two clocks.
        assert!(after.age().unwrap() + Duration::from_secs(1) > after.processor / 64);
        assert_eq!(Used::of(u32::MAX), None);
        assert_eq!(age(u64::MAX), None);
    }
}
