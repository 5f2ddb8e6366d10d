//! The state directory on a disk that is full or read-only: in mount namespaces of their own, which
//! take root's rights.

use std::fs;
use std::io::Write as _;
use std::os::unix::fs::DirBuilderExt;
use std::path::PathBuf;
use std::process::{Command, Stdio};

use crate::support::{Running, Site, kill, lives, skipped, until};

const WORKERS: &str = "workers:
- { id: kept, command: [sleep, '1000'], on_master_exit: keep }
- { id: other, command: [sleep, '1000'] }
";

/// Whether this system lets us mount anything.
fn can_mount() -> bool {
    let mut command = Command::new("unshare");
    command.args(["--mount", "/bin/sh", "-c", "mount -t tmpfs none /tmp"]);
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    let can = command.status().is_ok_and(|status| status.success());
    if !can {
        skipped("no mount namespaces here (they take root)");
    }
    can
}

/// Runs a master with a file system of its own at `place`.
fn run_with(site: &Site, place: &str, options: &str) -> Running {
    for directory in [site.state(), site.state().join("workers")] {
        fs::DirBuilder::new().recursive(true).mode(0o700).create(directory).unwrap();
    }
    let script = format!(
        "mount -t tmpfs -o mode=0700,{options} none \"$HSU_STATE_DIR/{place}\" && exec \"$@\""
    );
    site.run_under(&["unshare", "--mount", "/bin/sh", "-c", &script, "sh"])
}

/// The records' directory, as the master sees it.
fn workers(site: &Site, master: &Running) -> PathBuf {
    let path = site.state().join("workers");
    PathBuf::from(format!("/proc/{}/root{}", master.pid(), path.display()))
}

/// What is written down about a worker there.
fn record(site: &Site, master: &Running, worker: &str) -> serde_json::Value {
    let text = fs::read(workers(site, master).join(format!("{worker}.json"))).unwrap_or_default();
    serde_json::from_slice(&text).unwrap_or_default()
}

/// What a command says about the master of a site.
fn ask(site: &Site, line: &str) -> String {
    let mut command = Command::new(env!("CARGO_BIN_EXE_hsu-master"));
    command.arg(line).current_dir(site.path()).env_remove("RUST_LOG");
    let output = command.env("HSU_STATE_DIR", site.state()).output().unwrap();
    assert!(output.status.success(), "{output:?}");
    String::from_utf8(output.stdout).unwrap()
}

fn remount(site: &Site, master: &Running, how: &str) {
    let (pid, path) = (master.pid().to_string(), site.state().join("workers"));
    let mut command = Command::new("nsenter");
    command.args(["-t", &pid, "--mount", "mount", "-o", &format!("remount,{how}")]);
    assert!(command.arg(path).status().unwrap().success(), "{how}");
}

#[test]
fn s19_a_state_directory_that_cannot_be_written_is_named_at_the_start() {
    if !can_mount() {
        return;
    }
    let site = Site::new(WORKERS);
    let (status, said) = run_with(&site, "", "ro").end();
    assert_eq!(status.code(), Some(1), "{said}");
    assert!(said.contains(&*site.state().to_string_lossy()), "{said}");
    assert_eq!(site.all(), Vec::<u32>::new());
}

#[test]
fn s19_a_master_whose_state_directory_becomes_read_only_goes_on() {
    if !can_mount() {
        return;
    }
    let site = Site::new(WORKERS);
    let mut master = run_with(&site, "workers", "size=1m");
    let pids = [master.runs("kept#1"), master.runs("other#1")];
    for (worker, pid) in ["kept", "other"].iter().zip(pids) {
        until(|| record(&site, &master, worker)["process"]["pid"] == pid);
    }
    remount(&site, &master, "ro");
    assert!(pids.iter().all(|pid| kill(*pid, "KILL")));
    let next = [master.runs("kept#2"), master.runs("other#2")];
    master.until("its state cannot be written");
    until(|| ask(&site, "status").contains("state directory "));
    let told = ask(&site, "status");
    let path = site.state().display().to_string();
    assert!(told.contains(&path) && told.contains("): cannot write down what "), "{told}");
    assert!(next.iter().all(|pid| kill(*pid, "KILL")));
    let last = [master.runs("kept#3"), master.runs("other#3")];
    remount(&site, &master, "rw");
    master.until("the state of workers is written again");
    until(|| !ask(&site, "status").contains("state directory "));
    let told = ask(&site, "events");
    for part in ["cannot keep its state directory, ", "keeps its state directory, "] {
        assert_eq!(told.matches(part).count(), 1, "{told}");
    }
    for (worker, pid) in ["kept", "other"].iter().zip(last) {
        until(|| record(&site, &master, worker)["process"]["pid"] == pid);
    }
    let (status, said) = master.stop();
    assert_eq!(status.code(), Some(0), "{said}");
    assert_eq!(said.matches("its state cannot be written").count(), 1, "{said}");
    assert!(last.iter().all(|pid| !lives(*pid)));
}

#[test]
fn s20_a_full_disk_leaves_the_old_records_and_gets_the_new_ones_later() {
    if !can_mount() {
        return;
    }
    let site = Site::new(WORKERS);
    let mut master = run_with(&site, "workers", "size=64k");
    let pid = master.runs("other#1");
    until(|| record(&site, &master, "other")["process"]["pid"] == pid);
    let filler = workers(&site, &master).join("filler");
    let mut full = fs::File::create(&filler).unwrap();
    while full.write(&[0; 4096]).is_ok() {}
    let before = record(&site, &master, "other");
    assert!(kill(pid, "KILL"));
    master.until("its state cannot be written, so that a next master may not know it");
    let next = master.runs("other#2");
    assert_eq!(record(&site, &master, "other"), before, "the old one stays, whole");
    fs::remove_file(filler).unwrap();
    drop(full);
    master.until("the state of workers is written again");
    until(|| record(&site, &master, "other")["process"]["pid"] == next);
    let drafts = fs::read_dir(workers(&site, &master)).unwrap().flatten();
    let drafts = drafts.filter(|entry| entry.file_name().to_string_lossy().ends_with(".new"));
    assert_eq!(drafts.count(), 0);
    assert_eq!(master.stop().0.code(), Some(0));
}
