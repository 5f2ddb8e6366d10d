//! Workers that end with their master, however it ends.

use crate::support::{Bystander, Site, kill, lives, until};

const STOPPED: &str = "workers:
- { id: mild, command: [sleep, '1000'], on_master_exit: stop }
- { id: deaf, command: [/bin/sh, -c, \"trap '' TERM; sleep 1000 & wait; wait\"] }
- { id: away, command: [/bin/sh, -c, 'setsid sleep 1000 & echo there; wait'] }
- { id: alone, stop: { kill_group: false },
    command: [/bin/sh, -c, 'sleep 1000 & echo there; wait'] }
";

#[test]
fn s02_after_the_masters_death_nothing_of_its_workers_is_left() {
    let site = Site::new(STOPPED);
    let mut bystander = Bystander::new();
    let mut master = site.run();
    for life in ["mild#1", "deaf#1", "away#1", "alone#1"] {
        master.runs(life);
    }
    master.until("away | there");
    master.until("alone | there");
    let leader = master.runs("alone#1");
    until(|| site.of("deaf").len() == 2 && site.of("away").len() == 2);
    assert_eq!(site.guardians().len(), 1);
    master.kill();
    until(|| site.guardians().is_empty() && site.keepers().is_empty());
    for worker in ["mild", "deaf", "away"] {
        assert_eq!(site.of(worker), Vec::<u32>::new(), "{worker}");
    }
    // Its leader is gone; stragglers of such a worker live.
    assert!(!lives(leader));
    assert_eq!(site.of("alone").len(), 1);
    assert!(bystander.is_unharmed());
}

#[test]
fn a_guardian_that_dies_is_replaced_and_its_successor_knows_everything() {
    let site = Site::new("workers: [ { id: w, command: [sleep, '1000'] } ]\n");
    let mut master = site.run();
    let pid = master.runs("w#1");
    until(|| site.guardians().len() == 1);
    let first = site.guardians()[0];
    assert!(kill(first, "KILL"));
    master.until("the guardian died");
    until(|| site.guardians().iter().any(|guardian| *guardian != first));
    assert!(lives(pid));
    master.kill();
    until(|| site.all().is_empty());
}

#[test]
fn requests_to_end_do_not_end_the_guardian_and_an_orderly_end_does() {
    let site = Site::new("workers: [ { id: w, command: [sleep, '1000'] } ]\n");
    let mut master = site.run();
    master.runs("w#1");
    until(|| site.guardians().len() == 1);
    let guardian = site.guardians()[0];
    // It has told its name once it has done everything else.
    let name = || std::fs::read_to_string(format!("/proc/{guardian}/comm")).unwrap_or_default();
    until(|| name().trim() == "hsu-guard");
    for signal in ["INT", "TERM", "HUP", "QUIT", "TSTP", "USR1"] {
        assert!(kill(guardian, signal));
    }
    assert_eq!(site.guardians(), [guardian]);
    let (status, said) = master.stop();
    assert_eq!(status.code(), Some(0), "{said}");
    assert!(!said.contains("guardian") && !said.contains("hsu-guard"), "{said}");
    // I40: no process, no record of one, no FIFO is left.
    assert_eq!(site.all(), Vec::<u32>::new());
    assert!(site.record("w")["process"].is_null());
    assert!(!site.state().join("master.json").exists());
    assert_eq!(std::fs::read_dir(site.state().join("workers")).unwrap().count(), 1);
}

#[test]
fn a_master_killed_by_a_signal_of_its_own_group_is_guarded_too() {
    let site = Site::new("workers: [ { id: w, command: [sleep, '1000'] } ]\n");
    let mut master = site.run();
    master.runs("w#1");
    until(|| site.guardians().len() == 1);
    let group = format!("-{}", master.pid());
    let mut kill = std::process::Command::new("kill");
    assert!(kill.args(["-s", "KILL", "--", &group]).status().unwrap().success());
    until(|| site.all().is_empty());
    drop(master);
}

#[test]
fn hosted_modules_are_marked_and_end_with_their_master() {
    let site = Site::new(
        "workers: [ { id: w, command: [/bin/sh, -c, 'env | grep ^HSU_; exec sleep 1000'] } ]\n",
    );
    let mut master = site.run();
    master.runs("w#1");
    let nonce = master.until("w | HSU_MASTER=");
    let nonce = nonce.rsplit('=').next().unwrap().to_owned();
    assert!(nonce.len() == 32 && nonce.bytes().all(|byte| byte.is_ascii_hexdigit()), "{nonce}");
    master.until("w | HSU_WORKER_ID=w");
    master.until("w | HSU_INCARNATION=1");
    let holder = std::fs::read_to_string(site.state().join("master.json")).unwrap();
    assert!(holder.contains(&nonce) && holder.contains(&master.pid().to_string()), "{holder}");
}
