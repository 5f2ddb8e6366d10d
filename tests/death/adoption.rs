//! Workers that outlive their master, and the next master that goes on with them.

use std::fs;
use std::os::unix::fs::symlink;
use std::os::unix::process::CommandExt;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use crate::support::{Bystander, Site, kill, lives, skipped, until};

const KEPT: &str = "workers: [ { id: w, command: [sleep, '1000'], on_master_exit: keep } ]\n";

#[test]
fn s01_a_kept_worker_is_adopted_watched_restarted_and_stopped() {
    let site = Site::new(KEPT);
    let mut first = site.run();
    let pid = first.runs("w#1");
    assert_eq!(site.recorded("w"), pid);
    first.kill();
    let mut second = site.run();
    assert_eq!(second.runs("w#1"), pid);
    assert_eq!(site.of("w"), [pid]);
    second.until(&format!("w#1 is running, adopted, pid {pid}"));
    // Its end is seen, and how it ended is not known.
    assert!(kill(pid, "KILL"));
    second.until("w#1 failed: ended, exit status unknown");
    let next = second.runs("w#2");
    assert_ne!(next, pid);
    assert_eq!(second.seen.iter().filter(|line| line.contains(" is running, adopted")).count(), 1);
    until(|| site.record("w")["incarnation"] == 2);
    site.recorded("w");
    second.kill();
    let mut third = site.run();
    assert_eq!(third.runs("w#2"), next);
    let (status, said) = third.stop();
    assert_eq!(status.code(), Some(0), "{said}");
    assert!(said.contains("w#2 is stopped") && !lives(next), "{said}");
    assert_eq!(site.all(), Vec::<u32>::new());
    assert_eq!(fs::read_dir(site.state().join("workers")).unwrap().count(), 1);
    // Numbers go on.
    let mut fourth = site.run();
    fourth.runs("w#3");
}

#[test]
fn an_adopted_worker_is_as_old_as_its_process() {
    let site = Site::new(KEPT);
    let mut first = site.run();
    let pid = first.runs("w#1");
    site.recorded("w");
    first.kill();
    let begun = Instant::now();
    // A part of its life that nobody of us sees.
    until(|| begun.elapsed() > Duration::from_secs(3));
    let mut second = site.run();
    assert_eq!(second.runs("w#1"), pid);
    second.until("listening on ");
    let least = begun.elapsed();
    let mut command = Command::new(env!("CARGO_BIN_EXE_hsu-master"));
    command.args(["status", "--json", "--socket"]).arg(site.state().join("control.sock"));
    let output = command.output().unwrap();
    let told: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    let uptime = Duration::from_millis(told[0]["uptime_ms"].as_u64().unwrap());
    // Both clocks count, one of them in hundredths.
    assert!(uptime + Duration::from_millis(100) >= least, "{uptime:?} {least:?}");
    let since = humantime::parse_rfc3339(told[0]["since"].as_str().unwrap()).unwrap();
    let age = since.elapsed().unwrap() + Duration::from_millis(100);
    assert!(age >= least, "{age:?} {least:?}");
    assert_eq!((&told[0]["cause"], &told[0]["restarts"]), (&"adopted".into(), &0.into()));
}

#[test]
fn s03_a_process_in_no_record_is_found_by_its_marks() {
    let site = Site::new(
        "workers:
- { id: kept, command: [/bin/sh, -c, 'sleep 1000 & wait'], on_master_exit: keep }
- { id: again, command: [sleep, '1000'], on_master_exit: keep }
",
    );
    let mut first = site.run();
    let (kept, again) = (first.runs("kept#1"), first.runs("again#1"));
    until(|| site.of("kept").len() == 2);
    site.recorded("kept");
    site.recorded("again");
    first.kill();
    // As if the master had been killed before it wrote them down.
    fs::remove_file(site.record_file("kept")).unwrap();
    fs::remove_file(site.record_file("again")).unwrap();
    let mut second = site.run();
    assert_eq!(second.runs("kept#1"), kept);
    assert_eq!(second.runs("again#1"), again);
    assert_eq!((site.of("kept").len(), site.of("again").len()), (2, 1));
    let (_, said) = second.stop();
    assert!(site.all().is_empty(), "{said}");
}

#[test]
fn s03_forged_marks_are_not_adopted_and_end_no_master() {
    for (incarnation, user) in [("18446744073709551615", "0"), ("2", "65534"), ("3", "0")] {
        let site = Site::new(KEPT);
        let mut first = site.run();
        let pid = first.runs("w#1");
        site.recorded("w");
        let mut command = Command::new("/bin/sleep");
        command.arg("1000").stdin(Stdio::null()).process_group(0);
        let master = site.record("w")["master"].as_str().unwrap().to_owned();
        let marks = [("HSU_MASTER", &*master), ("HSU_INCARNATION", incarnation)];
        command.envs(marks).env("HSU_WORKER_ID", "w").env("HSU_STATE_DIR", site.state());
        if user != "0" {
            command.uid(user.parse().unwrap());
        }
        let Ok(mut forged) = command.spawn() else {
            eprintln!("skipped: it needs root to run something as user {user}");
            continue;
        };
        first.kill();
        assert!(kill(pid, "KILL"));
        until(|| !lives(pid));
        let mut second = site.run();
        let next = second.runs("w#2");
        assert_ne!(next, forged.id(), "{incarnation}");
        assert!(kill(next, "KILL"));
        second.runs("w#3");
        assert!(second.stop().0.success());
        let _ = forged.kill();
        forged.wait().unwrap();
    }
}

#[test]
fn s04_what_has_ended_meanwhile_is_started_afresh() {
    let site = Site::new(
        "workers:
- { id: w, command: [/bin/sh, -c, 'sleep 1000 & wait'], on_master_exit: keep }
",
    );
    let mut first = site.run();
    let pid = first.runs("w#1");
    site.recorded("w");
    until(|| site.of("w").len() == 2);
    first.kill();
    // The leader alone: what it leaves goes before the next one comes.
    assert!(kill(pid, "KILL"));
    until(|| !lives(pid));
    let left = site.of("w")[0];
    let mut second = site.run();
    let next = second.runs("w#2");
    assert!(!lives(left));
    assert!(site.of("w").contains(&next));
}

#[test]
fn s05_another_process_of_the_same_number_is_not_touched() {
    let site = Site::new(KEPT);
    let mut first = site.run();
    let pid = first.runs("w#1");
    site.recorded("w");
    first.kill();
    let mut bystander = Bystander::new();
    // The record names the bystander's number, and another beginning.
    let stranger = bystander.pid();
    let text = fs::read_to_string(site.record_file("w")).unwrap();
    let changed = text.replace(&format!("\"pid\":{pid}"), &format!("\"pid\":{stranger}"));
    assert_ne!(changed, text);
    fs::write(site.record_file("w"), changed).unwrap();
    let mut second = site.run();
    let next = second.runs("w#2");
    assert_ne!(next, stranger);
    assert!(second.stop().0.success());
    assert!(bystander.is_unharmed());
}

#[test]
fn a32_s05_a_number_that_is_used_again_means_nobody_to_signal() {
    let probe = "echo 400 > /proc/sys/kernel/ns_last_pid && test \"$(sh -c 'echo $$')\" -lt 500";
    let unshare = |script: &str, site: Option<&Site>| {
        let mut command = Command::new("unshare");
        command.args(["-p", "-f", "--mount-proc", "/bin/sh", "-c", script]);
        if let Some(site) = site {
            command.current_dir(site.path()).env("HSU_STATE_DIR", site.state());
        }
        command.output()
    };
    if !unshare(probe, None).is_ok_and(|output| output.status.success()) {
        eprintln!("skipped: process numbers cannot be chosen here (unshare -p, ns_last_pid)");
        return;
    }
    let site = Site::new(KEPT);
    let binary = env!("CARGO_BIN_EXE_hsu-master");
    // In a space of process numbers of its own: the worker ends while no master runs, and a
    // stranger gets its number, in the master's own way of counting them.
    let script = format!(
        "wait_for() {{ n=0; until eval \"$1\"; do sleep 0.05; n=$((n+1)); \
         test $n -lt 1200 || exit 9; done; }}
         {binary} run -c workers.yaml 2> first & master=$!
         wait_for 'grep -q pid.: state/workers/w.json 2> /dev/null'
         pid=$(sed 's/.*\"pid\":\\([0-9]*\\).*/\\1/' state/workers/w.json)
         kill -9 $master; wait $master
         kill -9 $pid; wait_for '! test -e /proc/$pid'
         echo $((pid - 1)) > /proc/sys/kernel/ns_last_pid
         sleep 1000 & stranger=$!
         test $stranger = $pid || exit 8
         {binary} run -c workers.yaml --run-duration 1s 2> second || exit 7
         grep -q 'w#2 is running' second || exit 6
         kill -0 $stranger || exit 5
         cat /proc/$stranger/comm"
    );
    let output = unshare(&script, Some(&site)).unwrap();
    let said = fs::read_to_string(site.path().join("second")).unwrap_or_default();
    assert_eq!(output.status.code(), Some(0), "{output:?}\n{said}");
    assert_eq!(String::from_utf8_lossy(&output.stdout).trim(), "sleep");
}

#[test]
fn s06_records_that_cannot_be_believed_are_put_aside() {
    let site = Site::new("workers: [ { id: w, command: [sleep, '1000'] } ]\n");
    let workers = site.state().join("workers");
    let mut first = site.run();
    first.runs("w#1");
    site.recorded("w");
    let good = fs::read_to_string(site.record_file("w")).unwrap();
    assert!(first.stop().0.success());
    let put = |name: &str, text: &str| fs::write(workers.join(format!("{name}.json")), text);
    put("empty", "").unwrap();
    put("torn", &good[..good.len() / 2]).unwrap();
    put("huge", &"x".repeat(70_000)).unwrap();
    put("newer", &good.replace("\"version\":1", "\"version\":7")).unwrap();
    put("another", &good).unwrap();
    put("-bad-name", &good).unwrap();
    fs::create_dir(workers.join("directory.json")).unwrap();
    symlink("/etc/passwd", workers.join("link.json")).unwrap();
    fs::write(site.state().join("master.json"), "{").unwrap();
    let mut second = site.run();
    second.runs("w#2");
    for name in ["empty", "torn", "huge", "newer", "another", "-bad-name", "directory", "link"] {
        second.until(&format!("state of worker {name}: "));
        assert!(workers.join(format!("{name}.bad")).symlink_metadata().is_ok(), "{name}");
        assert!(workers.join(format!("{name}.json")).symlink_metadata().is_err(), "{name}");
    }
    assert!(second.stop().0.success());
}

#[test]
fn s06_what_another_start_of_the_system_knew_is_no_process_now() {
    let site = Site::new(KEPT);
    let mut first = site.run();
    let pid = first.runs("w#1");
    site.recorded("w");
    first.kill();
    let text = fs::read_to_string(site.record_file("w")).unwrap();
    let boot = site.record("w")["boot_id"].as_str().unwrap().to_owned();
    fs::write(site.record_file("w"), text.replace(&boot, "00000000 pid:[1]")).unwrap();
    let holder = fs::read_to_string(site.state().join("master.json")).unwrap();
    let holder = holder.replace(&boot, "00000000 pid:[1]");
    fs::write(site.state().join("master.json"), holder).unwrap();
    let mut second = site.run();
    second.until("of another start of the system");
    assert_ne!(second.runs("w#2"), pid);
    // Nothing says that it is ours.
    assert!(lives(pid));
}

#[test]
fn what_is_no_longer_wanted_ends() {
    let yaml = |gone: &str, changed: &str| {
        format!(
            "workers:
- {{ id: other, command: [sleep, '1000'] }}
{gone}
- {{ id: changed, command: [sleep, '{changed}'], on_master_exit: keep }}
"
        )
    };
    let gone = "- { id: gone, command: [sleep, '1000'], on_master_exit: keep }
- { id: off, command: [sleep, '1000'], on_master_exit: keep }
- { id: stops, command: [sleep, '1000'], on_master_exit: keep }";
    let site = Site::new(&yaml(gone, "1000"));
    let mut first = site.run();
    let pids: Vec<_> =
        ["gone#1", "off#1", "stops#1", "changed#1"].map(|life| first.runs(life)).to_vec();
    for worker in ["gone", "off", "stops", "changed"] {
        site.recorded(worker);
    }
    first.kill();
    let gone = "- { id: off, enabled: false, command: [sleep, '1000'], on_master_exit: keep }
- { id: stops, command: [sleep, '1000'] }";
    site.configure(&yaml(gone, "2000"));
    let mut second = site.run();
    for (worker, pid) in ["gone", "off", "stops"].iter().zip(&pids) {
        second.until(&format!("{worker}: process {pid} of a former master is ended"));
    }
    second.runs("stops#2");
    second.until("changed: its configuration has changed");
    second.until("changed#1 is stopped");
    second.runs("changed#2");
    until(|| pids.iter().all(|pid| !lives(*pid)));
    until(|| !site.record_file("gone").exists());
    assert!(second.stop().0.success());
}

#[test]
fn s20_records_that_cannot_be_written_harm_nobody() {
    let site = Site::new(KEPT);
    let mut second = site.run();
    let pid = second.runs("w#1");
    site.recorded("w");
    // Nothing can be renamed over a directory that is not empty.
    fs::remove_file(site.record_file("w")).unwrap();
    fs::create_dir_all(site.record_file("w").join("x")).unwrap();
    assert!(kill(pid, "KILL"));
    second.until("its state cannot be written");
    let next = second.runs("w#2");
    fs::remove_dir_all(site.record_file("w")).unwrap();
    second.until("the state of workers is written again");
    assert_eq!(site.recorded("w"), next);
    second.kill();
    assert_eq!(site.run().runs("w#2"), next);
}

#[test]
fn a_shutdown_that_keeps_leaves_kept_workers_to_the_next_master() {
    let site = Site::new(
        "workers:
- { id: kept, on_master_exit: keep, command: [/bin/sh, -c, 'read x < go; echo later;
    exec sleep 1000'] }
- { id: other, command: [sleep, '1000'] }
",
    );
    let go = site.path().join("go");
    assert!(Command::new("mkfifo").arg(&go).status().unwrap().success());
    let mut first = site.run();
    let (kept, other) = (first.runs("kept#1"), first.runs("other#1"));
    site.recorded("kept");
    let ask = |arguments: &[&str]| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_hsu-master"));
        command.args(arguments).arg("--socket").arg(site.state().join("control.sock"));
        command.output().unwrap()
    };
    let asked = ask(&["shutdown", "--keep"]);
    assert!(asked.status.success(), "{asked:?}");
    let said = first.rest();
    assert!(said.contains("kept#1 is left to the next master"), "{said}");
    assert!(lives(kept) && !lives(other));
    until(|| site.guardians().is_empty() && site.keepers().len() == 1);
    fs::write(&go, "x\n").unwrap();
    let mut second = site.run();
    assert_eq!(second.runs("kept#1"), kept);
    second.until("kept | later");
    // It takes over before anybody can ask.
    second.until("listening on ");
    let known = ask(&["status", "kept", "--json"]);
    let known: serde_json::Value = serde_json::from_slice(&known.stdout).unwrap();
    assert_eq!((&known[0]["cause"], &known[0]["pid"]), (&"adopted".into(), &kept.into()));
    let stopped = ask(&["stop", "kept"]);
    assert!(stopped.status.success() && !lives(kept), "{stopped:?}");
}

#[test]
fn s03_a_master_killed_between_the_spawn_and_the_record_leaves_no_second_copy() {
    // Killed as it begins to watch its first process but the guardian: it is in no record then.
    let injected = "inject=pidfd_open:signal=KILL:when=2";
    let strace = ["strace", "-f", "-o", "/dev/null", "-e", "trace=pidfd_open", "-e", injected];
    let can = Command::new("strace").args(["-f", "-o", "/dev/null", "true"]).status();
    if !can.is_ok_and(|status| status.success()) {
        return skipped("no strace here, or nothing may be traced");
    }
    let site = Site::new(KEPT);
    let first = site.run_under(&strace);
    let is_master =
        |pid: &u32| fs::read(format!("/proc/{pid}/comm")).is_ok_and(|name| name == b"hsu-master\n");
    until(|| site.of("w").len() == 1 && !site.all().iter().any(is_master));
    // Its last thread ends when strace has looked at it.
    let is_free = || fs::File::open(site.state().join("lock")).unwrap().try_lock().is_ok();
    until(is_free);
    let pids = site.of("w");
    assert!(site.record("w")["process"].is_null(), "{}", site.record("w"));
    let mut second = site.run();
    assert_eq!(second.runs("w#1"), pids[0]);
    assert_eq!(site.of("w"), pids);
    let (status, said) = second.stop();
    assert_eq!(status.code(), Some(0), "{said}");
    assert!(!lives(pids[0]));
    drop(first);
}
