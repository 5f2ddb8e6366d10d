//! Disks that are slower than a worker, or full: a slow one slows down its worker alone and loses
//! nothing, or, where that is asked for, holds nobody up and loses what is counted, as a full one
//! does (FAULTS L14, L05).

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use hsu_master::{EventKind, LogOverflow, LogsConfig, Master, MasterConfig, WaitFor};

use super::shell;
use crate::support::{Fifo, PATIENCE, once, skipped};
use crate::{alone, logged};

/// Where the test that runs alone finds its directory.
const ROOM: &str = "HSU_TEST_ROOM";
/// What `seq 1 LAST` writes is `WRITTEN` bytes.
const LAST: u32 = 6_000_000;
const WRITTEN: u64 = 46_888_896;
/// Long enough for a slow disk under a busy machine.
const VERY_LONG: Duration = Duration::from_secs(180);

fn master_in(logs: &Path) -> Master {
    let config = MasterConfig::new().log_dir(logs);
    Master::builder().config(config).build().unwrap()
}

/// Whether a command can be run here and ends well.
fn works(command: &[&str]) -> bool {
    let mut wanted = Command::new(command[0]);
    wanted.args(&command[1..]).stdout(Stdio::null()).stderr(Stdio::null());
    wanted.status().is_ok_and(|status| status.success())
}

/// A number of KiB of this process, as the kernel tells it.
fn kib(name: &str) -> u64 {
    let status = fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix(name)).unwrap();
    line.trim_start_matches(':').trim().trim_end_matches(" kB").parse().unwrap()
}

/// Runs a test again in a process in which every write into one worker's log takes so many
/// microseconds longer than it would. There it does `work`; the whole log is what is returned here.
/// `None`: it is done, or cannot be.
fn on_a_slow_disk<F: Fn()>(delay: u32, test: F, work: fn(&Path)) -> Option<Vec<u8>> {
    if let Some(room) = std::env::var_os(ROOM) {
        work(Path::new(&room));
        return None;
    }
    let room = tempfile::tempdir().unwrap();
    let delay = format!("inject=write:delay_enter={delay}");
    let inject = ["-qqq", "-e", "trace=write", "-e", &delay];
    if !works(&[&["strace", "-f", "--seccomp-bpf"], &inject[..], &["true"]].concat()) {
        skipped("no strace here that may trace and delay what a process calls");
        return None;
    }
    let path = room.path().join("logs/w.log");
    let (path, room_is) = (path.to_str().unwrap(), format!("{ROOM}={}", room.path().display()));
    let strace = ["strace", "-f", "--seccomp-bpf", "-o", "/dev/null", "-P", path];
    let prefix = [&["env", &room_is], &strace[..], &inject].concat();
    assert!(!alone::here(&prefix, test));
    let older = (1..).map(|number| format!("{path}.{number}"));
    let mut files: Vec<_> = older.take_while(|path| Path::new(path).exists()).collect();
    files.insert(0, path.to_owned());
    Some(files.iter().rev().flat_map(|path| fs::read(path).unwrap()).collect())
}

#[test]
fn l14_a_slow_disk_slows_down_its_worker_alone_and_loses_nothing() {
    let this = l14_a_slow_disk_slows_down_its_worker_alone_and_loses_nothing;
    let Some(log) = on_a_slow_disk(20_000, this, while_the_disk_is_slow) else { return };
    // Over all its files, it is what was written.
    let written = Command::new("seq").args(["1", &LAST.to_string()]).output().unwrap().stdout;
    assert!(log == written, "{} of {} bytes", log.len(), written.len());
}

fn while_the_disk_is_slow(room: &Path) {
    let master = master_in(&room.join("logs"));
    let logs = LogsConfig::default().timestamps(false).max_files(1000);
    master.add_worker(shell("w", &format!("exec seq 1 {LAST}")).logs(logs)).unwrap();
    master.add_worker(shell("other", "echo said")).unwrap();
    // What a worker needs in any case is no part of the growth.
    master.start_worker("other").unwrap();
    master.wait_for("other", WaitFor::Completed, PATIENCE).unwrap();
    fs::write("/proc/self/clear_refs", "5").unwrap();
    let before = kib("VmRSS");

    master.start_worker("w").unwrap();
    once(&master, "w", |known| known.log_bytes > 0);
    let mut meanwhile = 0;
    loop {
        master.start_worker("other").unwrap();
        master.wait_for("other", WaitFor::Completed, PATIENCE).unwrap();
        if master.worker_diagnostics("w").unwrap().log_bytes == WRITTEN {
            break;
        }
        meanwhile += 1;
    }
    assert!(meanwhile > 0, "the other one had to wait for the slow disk");
    master.wait_for("w", WaitFor::Completed, VERY_LONG).unwrap();
    let known = master.worker_diagnostics("w").unwrap();
    assert_eq!((known.log_bytes, known.log_dropped), (WRITTEN, 0));
    let growth = kib("VmHWM").saturating_sub(before);
    assert!(growth < 8 << 10, "{growth} KiB more than before");
    assert!(room.join("logs/w.log.4").exists(), "it is rotated");
    master.shutdown().unwrap();
}

/// Slower by far than any machine writes.
#[test]
fn l14_who_may_lose_lines_never_waits_for_a_slow_disk_and_what_is_lost_is_marked() {
    let this = l14_who_may_lose_lines_never_waits_for_a_slow_disk_and_what_is_lost_is_marked;
    let Some(log) = on_a_slow_disk(200_000, this, while_lines_are_lost) else { return };
    let (mut last, mut kept, mut lost) = (0, 0, 0);
    for line in String::from_utf8(log).unwrap().lines() {
        let (tag, text) = line[25..].split_once(' ').unwrap();
        if let Some(bytes) =
            text.strip_suffix(" bytes lost: it writes faster than the disk takes it")
        {
            let bytes = bytes.strip_prefix("WARN master: ").unwrap();
            lost += bytes.parse::<u64>().unwrap();
        } else if tag == "o" {
            let number: u32 = text.parse().unwrap();
            assert!(number > last, "{number} comes after {last}");
            (last, kept) = (number, kept + text.len() as u64 + 1);
        } else {
            assert!(text.starts_with("INFO master: started"), "{line}");
        }
    }
    assert!(kept > 256 << 10, "{kept}");
    assert_eq!(kept + lost, WRITTEN);
}

fn while_lines_are_lost(room: &Path) {
    let master = master_in(&room.join("logs"));
    let told = master.subscribe();
    let logs = LogsConfig::default().overflow(LogOverflow::Drop);
    master.add_worker(shell("w", &format!("exec seq 1 {LAST}")).logs(logs)).unwrap();
    fs::write("/proc/self/clear_refs", "5").unwrap();
    let before = kib("VmRSS");

    master.start_worker("w").unwrap();
    master.wait_for("w", WaitFor::Completed, VERY_LONG).unwrap();
    let known = master.worker_diagnostics("w").unwrap();
    assert_eq!(known.log_bytes, WRITTEN);
    assert!(known.log_dropped > WRITTEN / 8, "{}", known.log_dropped);
    assert!(known.log_trouble.unwrap().message.contains("faster than the disk"));
    // All that was queued is written at the worker's end, and that is told.
    let mut lost = 0;
    while lost < known.log_dropped {
        let event = told.recv_timeout(PATIENCE).expect("it was not told to keep up again");
        if let EventKind::LogRecovered { dropped, .. } = event.kind {
            lost += dropped;
        }
    }
    assert_eq!(lost, known.log_dropped);
    let growth = kib("VmHWM").saturating_sub(before);
    assert!(growth < 8 << 10, "{growth} KiB more than before");
    master.shutdown().unwrap();
}

/// A file system that is gone with this.
struct Mounted(PathBuf);

impl Mounted {
    fn on(directory: &Path) -> Self {
        fs::create_dir(directory).unwrap();
        let path = directory.to_str().unwrap();
        assert!(works(&["mount", "-t", "tmpfs", "-o", "size=2m,mode=0700", "tmpfs", path]));
        Self(directory.to_owned())
    }
}

impl Drop for Mounted {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("-l").arg(&self.0).status();
    }
}

const NAMESPACE: [&str; 3] = ["unshare", "--map-root-user", "--mount"];

#[test]
fn l05_a_full_disk_holds_nobody_up_and_what_is_lost_is_counted_and_said() {
    let own_mounts = [&NAMESPACE[..], &["mount", "-t", "tmpfs", "tmpfs", "/mnt"]].concat();
    if !works(&own_mounts) {
        return skipped("no file system can be mounted in a namespace of our own here");
    }
    let this = l05_a_full_disk_holds_nobody_up_and_what_is_lost_is_counted_and_said;
    if !alone::here(&NAMESPACE, this) {
        return;
    }
    logged::capture();
    let room = tempfile::tempdir().unwrap();
    let mounted = Mounted::on(&room.path().join("logs"));
    let ballast = mounted.0.join("ballast");
    fs::write(&ballast, vec![0; 1 << 20]).unwrap();
    let (master, gate) = (master_in(&mounted.0), Fifo::new());
    let script = format!(
        "[ -e {flag} ] && exec echo after; : > {flag}; seq 1 1000000; read x < {gate}",
        flag = room.path().join("flag").display(),
        gate = gate.path.display()
    );
    master.add_worker(shell("w", &script)).unwrap();
    master.start_worker("w").unwrap();

    // All of it was taken from the worker, which lives on, and what there was no room for is lost.
    let known = once(&master, "w", |known| known.log_bytes == 6_888_896);
    assert!(known.pid.is_some() && known.log_dropped > 5_000_000, "{known:?}");
    let said = logged::lines(1, "w: its log cannot be written");
    assert_eq!(said[0].level, log::Level::Error);
    assert!(said[0].text.contains("No space left"), "{said:?}");

    fs::remove_file(&ballast).unwrap();
    gate.write("go\n");
    master.wait_for("w", WaitFor::Completed, PATIENCE).unwrap();
    logged::lines(1, "w: its log is written again");
    master.start_worker("w").unwrap();
    master.wait_for("w", WaitFor::Completed, PATIENCE).unwrap();
    let text = fs::read_to_string(mounted.0.join("w.log")).unwrap();
    assert!(text.ends_with(" o after\n"), "{}", &text[text.len().saturating_sub(200)..]);
    // One mark for each gap: there is more than one if it took so long that the end of the file's
    // last page was tried meanwhile.
    let marks: Vec<u64> = text
        .lines()
        .filter_map(|line| line.split_once(" - WARN master: ")?.1.split_once(" bytes lost: No sp"))
        .map(|(lost, _)| lost.parse().unwrap())
        .collect();
    let lost = master.worker_diagnostics("w").unwrap().log_dropped;
    assert!(!marks.is_empty() && marks.iter().sum::<u64>() == lost, "{marks:?}, {lost}");
    master.shutdown().unwrap();
    drop(master);
    drop(mounted);
}
