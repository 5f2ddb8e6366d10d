//! The state directory of a running master is removed or taken by others, and who operates it is
//! another user (FAULTS P12, P15).

use std::fs;
use std::os::unix::fs::{PermissionsExt, chown};
use std::process::{Command, Output, Stdio};

use crate::support::{Running, Site, lives, until};

/// Runs a command about the master of a site to its end.
fn ask(site: &Site, line: &str) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_hsu-master"));
    command.args(line.split(' ')).current_dir(site.path()).env_remove("RUST_LOG");
    command.env("HSU_STATE_DIR", site.state()).stdin(Stdio::null()).output().unwrap()
}

/// Asks until somebody answers, and returns what.
fn status(site: &Site, worker: &str) -> String {
    let line = format!("status {worker} --json");
    until(|| ask(site, &line).status.success());
    String::from_utf8(ask(site, &line).stdout).unwrap()
}

/// Removes the directory under its master, however much is written there meanwhile.
fn remove(site: &Site) {
    until(|| fs::remove_dir_all(site.state()).is_ok());
}

/// A second master is refused.
fn is_held(site: &Site, master: &Running) {
    let second = ask(site, "run -c workers.yaml");
    assert_eq!(second.status.code(), Some(1), "{second:?}");
    let said = String::from_utf8_lossy(&second.stderr);
    let who = format!(", pid {}, since", master.pid());
    assert!(said.contains("it is held by ") && said.contains(&who), "{said}");
}

const WORKERS: &str = "workers:
- { id: nap, command: [/bin/sleep, '1000'], on_master_exit: keep }
- { id: talker, command: [/bin/sh, -c, 'while :; do echo tick; sleep 0.05; done'] }
";

#[test]
fn p15_a_removed_directory_comes_back_locked_and_known() {
    let site = Site::new(WORKERS);
    let mut master = site.run();
    let (nap, talker) = (master.runs("nap#1"), master.runs("talker#1"));
    for round in 0..3 {
        remove(&site);
        if round == 1 {
            // It is asked to look at once.
            master.signal("USR1");
        }
        let told = status(&site, "nap");
        assert!(told.contains(&nap.to_string()), "{told}");
        assert_eq!(fs::metadata(site.state()).unwrap().permissions().mode() & 0o777, 0o700);
        is_held(&site, &master);
        assert_eq!(site.recorded("nap"), nap);
        until(|| site.state().join("master.json").exists());
        // What is written goes on being written, below the directory that is locked.
        until(|| site.state().join("logs/talker.log").exists());
    }
    master.until("was gone, and is made again");
    // What is told of it goes into the events that are kept in the new one.
    let told = || String::from_utf8(ask(&site, "events").stdout).unwrap();
    until(|| told().contains("keeps its state directory, "));
    assert!(told().contains(": it was gone, and is made again"), "{}", told());
    let table = String::from_utf8(ask(&site, "status").stdout).unwrap();
    assert!(table.contains("nap") && !table.contains("state directory "), "{table}");
    let ours = |worker: &str| site.of(worker).len();
    assert_eq!((ours("nap"), site.record("nap")["incarnation"].as_u64()), (1, Some(1)));
    // The next master knows whom this one has left.
    master.kill();
    let mut next = site.run();
    assert_eq!(next.runs("nap#1"), nap);
    next.runs("talker#2");
    assert!(!lives(talker));
    let (ended, said) = next.stop();
    assert!(ended.success() && !lives(nap), "{said}");
}

#[test]
fn p15_a_place_that_another_master_has_taken_is_left_to_it() {
    let site = Site::new(WORKERS);
    let mut first = site.run();
    let (nap, talker) = (first.runs("nap#1"), first.runs("talker#1"));
    // It cannot look while another one begins.
    first.halt();
    remove(&site);
    site.configure("workers: [{ id: other, command: [/bin/sleep, '1000'] }]");
    let mut second = site.run();
    let other = second.runs("other#1");
    second.until("listening on");
    first.signal("CONT");
    first.signal("USR1");
    let line = first.until("it cannot be made again");
    assert!(line.contains("ERROR") && line.contains(&format!("pid {}", second.pid())), "{line}");
    for _ in 0..3 {
        first.signal("USR1");
    }
    assert!(status(&site, "other").contains(&other.to_string()));
    assert_eq!(ask(&site, "status nap").status.code(), Some(4), "the second one is asked");
    // It goes on with its workers all the same, and ends in order.
    crate::support::kill(talker, "KILL");
    let again = first.runs("talker#2");
    let (ended, said) = first.stop();
    assert!(ended.success() && !lives(nap) && !lives(again), "{said}");
    assert_eq!(said.matches("it cannot be made again").count(), 1, "{said}");
    // And has harmed nothing of the other's.
    assert!(status(&site, "other").contains(&other.to_string()));
    assert!(site.state().join("lock").exists());
    assert!(!site.state().join("logs/talker.log").exists(), "it has written beside the other");
    let (ended, said) = second.stop();
    assert!(ended.success(), "{said}");
}

#[test]
fn p12_root_may_command_the_master_of_another_user_and_strangers_may_not() {
    const USER: u32 = 65534;
    let user = ["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups"];
    let stranger = ["setpriv", "--reuid=65533", "--regid=65533", "--clear-groups"];
    let as_one = |who: &[&str], site: &Site, line: &str| {
        let mut command = Command::new(who[0]);
        command.args(&who[1..]).arg(env!("CARGO_BIN_EXE_hsu-master")).args(line.split(' '));
        command.env("HSU_STATE_DIR", site.state()).stdin(Stdio::null()).output()
    };
    let site = Site::new("workers: [{ id: nap, command: [/bin/sleep, '1000'] }]");
    let can_be = as_one(&user, &site, "--version").is_ok_and(|output| output.status.success());
    if !can_be {
        let why = "SKIPPED: being another user: not root, no setpriv, or a program out of reach\n";
        let _ = std::io::Write::write_all(&mut std::io::stderr(), why.as_bytes());
        return;
    }
    let open = |path: &std::path::Path, mode| {
        fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
    };
    open(site.path(), 0o755);
    fs::create_dir(site.state()).unwrap();
    open(&site.state(), 0o700);
    chown(site.state(), Some(USER), Some(USER)).unwrap();
    let mut master = site.run_under(&user);
    let nap = master.runs("nap#1");
    master.until("listening on");
    // Root reaches it in whatever directory.
    assert!(status(&site, "nap").contains(&nap.to_string()));
    let stopped = ask(&site, "stop nap");
    assert!(stopped.status.success(), "{stopped:?}");
    master.until("(uid 0): stop nap: done");
    let answer = as_one(&user, &site, "start nap").unwrap();
    assert!(answer.status.success(), "{answer:?}");
    master.until("(uid 65534): start nap: done");
    // Others are refused even where the files let them in.
    open(&site.state(), 0o755);
    open(&site.state().join("control.sock"), 0o666);
    let refused = as_one(&stranger, &site, "status").unwrap();
    assert!(!refused.status.success(), "{refused:?}");
    master.until("of uid 65533");
    let (ended, said) = master.stop();
    assert!(ended.success(), "{said}");
}
