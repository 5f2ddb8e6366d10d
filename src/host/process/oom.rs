//! Whether the kernel has killed a process for want of memory. It counts such kills, in each memory
//! cgroup and on the whole machine, and names whom it killed in its log. Not everybody may read
//! that; then what is said here is a conclusion from the counts.

use std::collections::BTreeMap;
use std::fs;
use std::io::{self, Read};
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant, SystemTime};

use crate::host::sys;

/// So long after a kill was counted a process may end of which nobody knows yet that it was the one
/// that was killed: where several are, they do not end at once.
const RECENT: Duration = Duration::from_secs(10);
/// The counts of so many cgroups are remembered.
const MOST: usize = 256;
/// The word before the count, in all the files that have one.
const KEY: &str = "oom_kill";
/// The space of process numbers that the kernel's log means: it has this name on every Linux.
const FIRST_SPACE: &str = "pid:[4026531836]";
/// The kernel kills first, and logs it then: so long after a process's end at most.
const LATE: Duration = Duration::from_millis(200);
/// So many records of the log are looked through.
const MOST_RECORDS: usize = 1 << 16;
/// None is longer.
const RECORD: usize = 8 << 10;

/// The kernel's counts as this master has seen them. They are looked at when a process was killed
/// by somebody else: no other end, and no start, is to wait for that.
pub(super) struct Kills(Mutex<Seen>);

#[derive(Debug)]
struct Seen {
    machine: Count,
    cgroups: BTreeMap<String, Count>,
}

/// One of the counts.
#[derive(Clone, Debug)]
struct Count {
    value: u64,
    looked: SystemTime,
    /// So many kills are recent, of which this many are put down to no process yet,
    recent: u64,
    open: u64,
    /// and they were made between these two moments.
    since: SystemTime,
    seen: Instant,
}

/// A moment, by both clocks.
#[derive(Clone, Copy, Debug)]
struct Now(Instant, SystemTime);

impl Now {
    fn get() -> Self {
        Self(Instant::now(), SystemTime::now())
    }
}

impl Kills {
    /// Counts from now on.
    pub(super) fn new() -> Self {
        let machine = Count::of(machine().unwrap_or(0), Now::get());
        Self(Mutex::new(Seen { machine, cgroups: BTreeMap::new() }))
    }

    /// Why a process has been killed that somebody else has killed, and that is not reaped, in
    /// words; `None` where nothing speaks for want of memory.
    pub(super) fn reason(&self, pid: u32) -> Option<String> {
        self.seen().look(pid)?;
        let sure = match logged(pid) {
            // It was somebody else.
            Some(false) => return None,
            Some(true) => "out of memory: so says the kernel's log;",
            None => "most likely out of memory:",
        };
        // Again, for others may have looked meanwhile: no kill is put down to two.
        let mut seen = self.seen();
        let (counted, cgroup) = seen.look(pid)?;
        seen.claim(cgroup.as_ref());
        Some(format!("{sure} {counted}"))
    }

    fn seen(&self) -> MutexGuard<'_, Seen> {
        // Every change of a count leaves it whole.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Seen {
    /// Judges by the counts of this moment, and tells which cgroup they are of.
    fn look(&mut self, pid: u32) -> Option<(String, Option<(String, u64)>)> {
        let (machine, cgroup) = (machine()?, cgroup_of(pid));
        Some((self.judge(machine, cgroup.as_ref(), Now::get())?, cgroup))
    }

    /// What speaks for a process's having been killed so. `cgroup`: the name and the count of the
    /// one that it was in, if these are known; then nothing else counts.
    fn judge(&mut self, machine: u64, cgroup: Option<&(String, u64)>, now: Now) -> Option<String> {
        self.machine.look(machine, now);
        let Some((name, value)) = cgroup else {
            return self.machine.told().map(|counted| format!("{counted} on this machine"));
        };
        let value = *value;
        if self.cgroups.len() >= MOST && !self.cgroups.contains_key(name) {
            self.cgroups.clear();
        }
        // Of one that was never looked at, what the machine has not counted since is of before.
        let Count { open, since, .. } = self.machine;
        let first = || Count::of(value.saturating_sub(open), Now(now.0, since));
        let count = self.cgroups.entry(name.clone()).or_insert_with(first);
        count.look(value, now);
        count.told().map(|counted| format!("{counted} in its memory cgroup, {name}"))
    }

    /// Puts a kill down to a process that has ended.
    fn claim(&mut self, cgroup: Option<&(String, u64)>) {
        let count = cgroup.and_then(|(name, _)| self.cgroups.get_mut(name));
        for count in [Some(&mut self.machine), count].into_iter().flatten() {
            count.open = count.open.saturating_sub(1);
        }
    }
}

impl Count {
    fn of(value: u64, Now(seen, since): Now) -> Self {
        Self { value, looked: since, recent: 0, open: 0, since, seen }
    }

    fn look(&mut self, value: u64, Now(now, wall): Now) {
        if now.saturating_duration_since(self.seen) > RECENT {
            (self.recent, self.open) = (0, 0);
        }
        // What has fallen is the count of another cgroup of that name.
        let more = value.checked_sub(self.value).unwrap_or(value);
        if more > 0 {
            if self.recent == 0 {
                self.since = self.looked;
            }
            self.recent = self.recent.saturating_add(more);
            self.open = self.open.saturating_add(more);
            self.seen = now;
        }
        (self.value, self.looked) = (value, wall);
    }

    /// In words, if there is a kill that is put down to nobody.
    fn told(&self) -> Option<String> {
        let since = humantime::format_rfc3339_seconds(self.since);
        let kills = if self.recent == 1 { "kill" } else { "kills" };
        let told = || format!("since {since} the kernel counts {} such {kills}", self.recent);
        (self.open > 0).then(told)
    }
}

/// Whether the kernel's log says that it has killed this process for want of memory; `None`: it is
/// not for us to read, or knows processes by other numbers.
fn logged(pid: u32) -> Option<bool> {
    if fs::read_link("/proc/self/ns/pid").ok()? != Path::new(FIRST_SPACE) {
        return None;
    }
    let mut log = sys::open_without_waiting(Path::new("/dev/kmsg")).ok()?;
    let mut record = vec![0; RECORD];
    let until = Instant::now() + LATE;
    for _ in 0..MOST_RECORDS {
        match log.read(&mut record) {
            Ok(length) if names(&record[..length], pid) => return Some(true),
            Ok(_) => {}
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                let left = until.saturating_duration_since(Instant::now());
                if left.is_zero() {
                    return Some(false);
                }
                sys::wait_readable([Some(log.as_fd())], Some(left)).ok()?;
            }
            // What was to be read next is overwritten by now: the next one is read.
            Err(error) if error.kind() == io::ErrorKind::BrokenPipe => {}
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(_) => return None,
        }
    }
    None
}

/// Whether a record of the kernel's log, `6,1234,5678,-;text`, is of the kernel's own and tells of
/// this process's being killed.
fn names(record: &[u8], pid: u32) -> bool {
    let record = String::from_utf8_lossy(record);
    let Some((about, text)) = record.split_once(';') else { return false };
    // Eight levels, and then those of other facilities: what programs have written.
    let level = about.split(',').next().and_then(|level| level.parse::<u32>().ok());
    level.is_some_and(|level| level < 8) && text.contains(&format!("Killed process {pid} ("))
}

/// How many processes the kernel has killed on this machine, in whatever cgroup.
fn machine() -> Option<u64> {
    count_in(&fs::read_to_string("/proc/vmstat").ok()?)
}

/// The cgroup that a process was in which is not reaped, and how many were killed in it. Version 1
/// forgets it at the process's end, and then there is none.
fn cgroup_of(pid: u32) -> Option<(String, u64)> {
    let groups = fs::read_to_string(format!("/proc/{pid}/cgroup")).ok()?;
    let name = name_in(&groups)?;
    let mounts = fs::read_to_string("/proc/self/mountinfo").ok()?;
    let directory = mounts.lines().find_map(|mount| directory_of(name, mount))?;
    let count = count_in(&fs::read_to_string(directory.join("memory.events")).ok()?)?;
    Some((name.to_owned(), count))
}

fn count_in(text: &str) -> Option<u64> {
    let mut lines = text.lines().filter_map(|line| line.split_once(' '));
    lines.find_map(|(key, value)| (key == KEY).then(|| value.trim().parse().ok()).flatten())
}

/// The name of a process's cgroup of version 2, where it can be reached from here.
fn name_in(groups: &str) -> Option<&str> {
    let name = groups.lines().find_map(|line| line.strip_prefix("0::"))?;
    let outside = Path::new(name).components().any(|part| part.as_os_str() == "..");
    (name.starts_with('/') && !outside && !name.ends_with(" (deleted)")).then_some(name)
}

/// Where a cgroup is by its name, if that is below this mount.
fn directory_of(name: &str, mount: &str) -> Option<PathBuf> {
    let (about, of) = mount.split_once(" - ")?;
    if of.split(' ').next() != Some("cgroup2") {
        return None;
    }
    let mut fields = about.split(' ').skip(3);
    let (root, place) = (fields.next()?, fields.next()?);
    Some(Path::new(place).join(Path::new(name).strip_prefix(root).ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// So many seconds after the beginning.
    fn at(seconds: u64) -> Now {
        static BEGUN: std::sync::OnceLock<Instant> = std::sync::OnceLock::new();
        let begun = *BEGUN.get_or_init(Instant::now);
        let after = Duration::from_secs(seconds);
        Now(begun + after, SystemTime::UNIX_EPOCH + after)
    }

    fn seen(machine: u64) -> Seen {
        Seen { machine: Count::of(machine, at(0)), cgroups: BTreeMap::new() }
    }

    impl Seen {
        /// Judges a process that nothing else speaks of.
        fn ended(
            &mut self,
            machine: u64,
            cgroup: Option<(String, u64)>,
            now: Now,
        ) -> Option<String> {
            let told = self.judge(machine, cgroup.as_ref(), now)?;
            self.claim(cgroup.as_ref());
            Some(told)
        }
    }

    fn in_cgroup(name: &str, count: u64) -> Option<(String, u64)> {
        Some((name.to_owned(), count))
    }

    #[test]
    fn s15_a_count_that_has_risen_is_said_with_the_time_in_which_it_has() {
        let mut seen = seen(4);
        assert_eq!(seen.ended(4, None, at(10)), None);
        let told = seen.ended(5, None, at(70)).unwrap();
        let expected = "since 1970-01-01T00:00:10Z the kernel counts 1 such kill on this machine";
        assert_eq!(told, expected);
        assert_eq!(seen.ended(5, None, at(71)), None, "each kill is put down to one process");
    }

    #[test]
    fn s15_several_that_were_killed_at_once_are_each_put_down_to_it() {
        let mut seen = seen(0);
        for n in 0..3 {
            let told = seen.ended(3, None, at(50 + n)).unwrap();
            assert!(told.contains("since 1970-01-01T00:00:00Z the kernel counts 3 such kills"));
        }
        assert_eq!(seen.ended(3, None, at(53)), None);
        // A kill that no end belonged to is none of what ends later.
        assert!(seen.ended(5, None, at(100)).is_some());
        assert_eq!(seen.ended(5, None, at(111)), None);
    }

    #[test]
    fn s15_the_count_of_its_own_cgroup_is_all_that_counts() {
        let mut seen = seen(7);
        // It was killed elsewhere: by an operator, while another group ran out of memory.
        assert_eq!(seen.ended(8, in_cgroup("/a", 0), at(1)), None);
        let told = seen.ended(9, in_cgroup("/a", 1), at(2)).unwrap();
        assert!(told.ends_with("counts 1 such kill in its memory cgroup, /a"), "{told}");
        assert_eq!(seen.ended(9, in_cgroup("/a", 1), at(60)), None);
        // What is seen for the first time may have counted long ago, or just now.
        assert_eq!(seen.ended(9, in_cgroup("/old", 6), at(61)), None);
        let told = seen.ended(10, in_cgroup("/new", 6), at(62)).unwrap();
        assert!(told.contains("since 1970-01-01T00:01:01Z the kernel counts 1 such"), "{told}");
        // One that was made again under its name.
        assert!(seen.ended(11, in_cgroup("/new", 1), at(90)).is_some());
    }

    #[test]
    fn s15_only_so_many_cgroups_are_remembered() {
        let mut seen = seen(0);
        for n in 0..2 * MOST {
            assert_eq!(seen.ended(0, in_cgroup(&format!("/{n}"), 5), at(1)), None);
            assert!(seen.cgroups.len() <= MOST);
        }
    }

    #[test]
    fn s15_counts_are_found_among_others_and_garbage_is_none() {
        assert_eq!(count_in("low 1\noom 2\noom_kill 3\noom_group_kill 4\n"), Some(3));
        assert_eq!(count_in("oom_kill_disable 0\nunder_oom 0\noom_kill 17"), Some(17));
        for text in ["", "oom_kill", "oom_kill ", "oom_kill x", "oom_kill -1", "xoom_kill 1"] {
            assert_eq!(count_in(text), None, "{text:?}");
        }
        assert_eq!(count_in("oom_kill 99999999999999999999\n\n\0\noom_kill 1"), Some(1));
        assert!(machine().is_some(), "Linux 4.13 and newer count");
    }

    #[test]
    fn s15_a_cgroup_is_found_by_its_name_below_what_is_mounted() {
        let both = "4:memory:/v1\n0::/system.slice/hsu.service\n";
        assert_eq!(name_in(both), Some("/system.slice/hsu.service"));
        assert_eq!(name_in("0::/\n"), Some("/"));
        for groups in ["", "0::", "0::a\n", "0::/../b\n", "0::/a (deleted)\n", "4:memory:/v1\n"] {
            assert_eq!(name_in(groups), None, "{groups:?}");
        }
        let mount = "36 35 0:31 / /sys/fs/cgroup ro,nosuid shared:9 - cgroup2 cgroup2 rw";
        assert_eq!(directory_of("/a/b", mount), Some("/sys/fs/cgroup/a/b".into()));
        let part = "36 35 0:31 /pod /cg rw - cgroup2 none rw";
        assert_eq!(directory_of("/pod/a", part), Some("/cg/a".into()));
        for (name, mount) in [
            ("/podium", part),
            ("/a", part),
            ("/a", ""),
            ("/a", " - cgroup2 "),
            ("/a", "36 35 0:31 / /sys/fs/cgroup/memory rw - cgroup cgroup rw,memory"),
        ] {
            assert_eq!(directory_of(name, mount), None, "{name:?} {mount:?}");
        }
    }

    #[test]
    fn s15_the_log_names_whom_the_kernel_has_killed() {
        let record = |text: &str| names(text.as_bytes(), 4711);
        let killed = "3,9,8,-;Memory cgroup out of memory: Killed process 4711 (tail) total-vm:1kB";
        assert!(
            record(killed) && record("6,1,2,-,caller=T1;Killed process 4711 (a b), UID 0\n K=V")
        );
        for other in [
            "",
            "3,9,8,-",
            "3,9,8,-;oom_reaper: reaped process 4711 (tail), now anon-rss:0kB",
            "3,9,8,-;Out of memory: Killed process 47112 (tail) total-vm:1kB",
            "3,9,8,-;Out of memory: Killed process 14711 (tail) total-vm:1kB",
            // A program has written it there.
            "11,9,8,-;Out of memory: Killed process 4711 (tail) total-vm:1kB",
            "x,9,8,-;Out of memory: Killed process 4711 (tail) total-vm:1kB",
        ] {
            assert!(!record(other), "{other}");
        }
        assert!(!names(b"\xff\xfe;\0", 0));
        // Whoever can read it finds nothing of one that lives.
        assert_ne!(logged(std::process::id()), Some(true));
    }
}
