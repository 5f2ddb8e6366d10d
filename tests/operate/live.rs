//! The commands against a real master: each once, in both forms where there are two.

use std::fs;
use std::io::{BufRead, BufReader, Write as _};
use std::process::{Child, Command, Stdio};
use std::time::Instant;

use hsu_master::crossbeam_channel::{Receiver, unbounded};
use serde_json::Value;

use crate::running::{LONG, Running, signal};
use crate::support::{Place, Ran};

const WORKERS: &str = "\
workers:
- { id: web, command: [/bin/sh, -c, 'echo listening; exec sleep 1000'] }
- id: bad
  command: [/bin/sh, -c, 'echo opening the database; echo refused >&2; exit 3']
  restart: { max_retries: 1, retry_delay: 1ms, half_open_after: 0s }
- { id: once, command: /bin/true }
- { id: off, enabled: false, command: sleep 1000 }
";

/// Starts a master, and waits until it listens.
pub(crate) fn start(mut command: Command) -> Running {
    let mut master = Running::start(command.stdout(Stdio::null()));
    master.until("listening on ");
    master
}

/// A master of these workers that has come to rest as far as it will.
fn settled() -> (Place, Running) {
    let place = Place::with(WORKERS);
    let master = start(place.command("run"));
    for line in ["bad --for stopped", "once --for completed", "web --for running"] {
        place.run(&format!("wait {line}")).expect(0);
    }
    (place, master)
}

/// What is the same in every table: no pids, no times.
fn words(table: &str) -> Vec<String> {
    let plain = |word: &&str| !word.starts_with(|c: char| c.is_ascii_digit()) || word == &"3)";
    let line = |line: &str| line.split_whitespace().filter(plain).collect::<Vec<_>>().join(" ");
    table.lines().map(line).collect()
}

#[test]
fn the_status_is_a_table_for_people_and_json_for_programs() {
    let (place, _master) = settled();
    assert_eq!(
        words(&place.run("status").expect(0).out),
        [
            "ID TYPE STATE HEALTH PID UPTIME RESTARTS",
            "bad process stopped - - - gave up (exit 3)",
            "off process uninitialized - - -",
            "once process stopped - - - completed",
            "web process running -",
        ]
    );
    let all = place.run("status --json").expect(0).json();
    let ids: Vec<_> = all.as_array().unwrap().iter().map(|worker| &worker["id"]).collect();
    assert_eq!(ids, ["bad", "off", "once", "web"]);
    let some = place.run("status web bad --json").expect(0).json();
    assert_eq!((&some[0]["id"], &some[1]["id"]), (&"web".into(), &"bad".into()));
    assert_eq!(some[0]["state"], "running");
    assert!(some[0]["pid"].is_u64() && some[0]["retry_at"].is_null(), "{some:#}");
    assert_eq!(some[1]["exit"]["code"], 3);
    assert_eq!(some[1]["gave_up"], true);
    let ran = place.run("status wbe").expect(4);
    assert!(ran.err.contains("web"), "{ran:?}");
}

#[test]
fn a_failure_is_explained_and_described() {
    let (place, _master) = settled();
    let told = place.run("explain bad").expect(0).out;
    for part in [
        "bad has given up since ",
        "it failed 2 times in a row, at last with: exit 3.",
        "running -> failed             crash: exit 3",
        "Nothing starts it by itself.",
        "its one retry is used",
        "hsu-master start bad",
    ] {
        assert!(told.contains(part), "{part}:\n{told}");
    }
    let told = place.run("describe bad").expect(0).out;
    let parts = ["last end       exit 3", "gave up", "on-failure", "command        /bin/sh -c"];
    for part in parts.into_iter().chain(["on master exit stop", "  configuration  "]) {
        assert!(told.contains(part), "{part}:\n{told}");
    }
    for verb in ["explain", "describe"] {
        let json = place.run(&format!("{verb} bad --json")).expect(0).json();
        assert_eq!((&json["id"], &json["failures"]), (&"bad".into(), &2.into()), "{json:#}");
        assert_eq!(json["history"].as_array().unwrap().last().unwrap()["to"], "stopped");
        place.run(&format!("{verb} nobody")).expect(4);
    }
    assert!(place.run("explain web").expect(0).out.starts_with("web is running since "));
}

#[test]
fn workers_are_started_stopped_and_restarted() {
    let (place, _master) = settled();
    assert_eq!(place.run("start off").expect(0).out, "off: running, incarnation 1\n");
    assert_eq!(place.run("start off").expect(0).out, "off: running, incarnation 1\n");
    assert_eq!(place.run("restart off").expect(0).out, "off: running, incarnation 2\n");
    assert_eq!(place.run("restart off --force").expect(0).out, "off: running, incarnation 3\n");
    assert_eq!(place.run("stop off web").expect(0).out, "off: stopped\nweb: stopped\n");
    let json = place.run("stop off --json").expect(0).json();
    assert_eq!((&json[0]["ok"], &json[0]["state"]), (&true.into(), &"stopped".into()));
    assert_eq!(place.run("start web --no-wait").expect(0).out, "web: start is under way\n");
    assert_eq!(place.run("wait web --for running --timeout 30s").expect(0).out, "web: running\n");
    let ran = place.run("start nobody web").expect(4);
    assert!(ran.out.starts_with("web: running"), "{ran:?}");
}

#[test]
fn an_early_end_is_reported_with_what_was_written() {
    let (place, _master) = settled();
    let ran = place.run("start bad").expect(1);
    assert!(ran.err.contains("exit 3"), "{ran:?}");
    assert!(ran.err.contains("hsu-master explain bad"), "{ran:?}");
    assert_eq!(ran.out, "");
    place.run("wait bad --for stopped").expect(0);
    let json = place.run("restart bad --json").expect(1).json();
    assert_eq!(json[0]["ok"], false);
    assert_eq!(json[0]["error"]["category"], "crash", "{json:#}");
}

#[test]
fn orders_to_all_leave_alone_what_is_not_enabled() {
    let (place, _master) = settled();
    let stopped = place.run("stop --all").expect(0).out;
    assert_eq!(stopped, "bad: stopped\noff: uninitialized\nonce: stopped\nweb: stopped\n");
    let started = place.run("start --all").expect(1);
    assert!(started.out.contains("web: running") && !started.out.contains("off"), "{started:?}");
}

#[test]
fn a36_a_program_that_was_replaced_runs_on_and_is_told_and_a_restart_runs_the_new_one() {
    let place = Place::with("workers:\n- { id: nap, command: [./nap, '1000'] }\n");
    let (program, next) = (place.path().join("nap"), place.path().join("next"));
    fs::copy("/bin/sleep", &program).unwrap();
    let _master = start(place.command("run"));
    place.run("wait nap --for running").expect(0);
    let told = |line: &str| place.run(line).expect(0);
    let before = told("describe nap --json").json();
    assert_eq!(before["program_changed"], false);
    assert!(!told("explain nap").out.contains("has changed"));
    fs::copy("/bin/cat", &next).unwrap();
    fs::rename(&next, &program).unwrap();
    let after = told("describe nap --json").json();
    assert_eq!((&after["program_changed"], &after["pid"]), (&true.into(), &before["pid"]));
    assert!(told("explain nap").out.contains("its file has changed since it was started"));
    assert!(told("describe nap").out.contains("its file has changed since it was started"));
    let listed = told("status --json").json();
    assert_eq!(listed[0]["program_changed"], true);
    assert!(listed[0]["usage"]["rss_bytes"].as_u64().unwrap() > 0, "{listed:#}");
    assert!(told("status").out.contains("program changed"));
    // A cat that finds no file of this name.
    let ran = place.run("restart nap").expect(1);
    assert!(ran.err.contains("exit 1"), "{ran:?}");
}

#[test]
fn waiting_ends_with_the_condition_or_with_patience() {
    let (place, _master) = settled();
    let json = place.run("wait once --for completed --json").expect(0).json();
    assert_eq!((&json["id"], &json["completed"]), (&"once".into(), &true.into()));
    let ran = place.run("wait web --for stopped --timeout 10ms").expect(1);
    assert!(ran.err.contains("web"), "{ran:?}");
    place.run("wait nobody --for running").expect(4);
}

#[test]
fn a_stopped_master_is_told_apart_from_none_and_goes_on_later() {
    let (place, master) = settled();
    assert!(signal(master.pid(), "STOP"));
    let ran = place.run("status").expect(1);
    assert!(ran.err.contains("does not answer"), "{ran:?}");
    assert!(signal(master.pid(), "CONT"));
    place.run("status").expect(0);
}

#[test]
fn the_master_ends_when_it_is_told_to_and_is_gone_then() {
    let (place, master) = settled();
    let pid = master.pid();
    assert_eq!(place.run("shutdown").expect(0).out, "all workers are stopped\n");
    let stat = fs::read_to_string(format!("/proc/{pid}/stat"));
    // Ours to reap, so at most a zombie is left of it.
    assert!(stat.map_or(true, |stat| stat.contains(") Z ")));
    assert_eq!(master.end().0.code(), Some(0));
    place.run("status").expect(3);
    let place = Place::with("workers: [ { id: a, command: sleep 1000 } ]\n");
    let master = start(place.command("run"));
    let json = place.run("shutdown --json").expect(0).json();
    assert_eq!(json, serde_json::json!({ "killed": [], "stuck": [] }));
    assert_eq!(master.end().0.code(), Some(0));
}

#[test]
fn a_worker_that_has_to_be_killed_at_shutdown_is_named() {
    let place = Place::with(
        "workers:\n- { id: deaf, stop: { timeout: 10ms }, \
         command: [/bin/sh, -c, \"trap '' TERM; echo ready; while :; do read x < fifo; done\"] }\n",
    );
    assert!(Command::new("mkfifo").arg(place.path().join("fifo")).status().unwrap().success());
    let mut master = start(place.command("run"));
    master.until("deaf | ready");
    let ran = place.run("shutdown").expect(1);
    assert_eq!(ran.out, "had to be killed: deaf\n");
    assert_eq!(master.end().0.code(), Some(1));
}

#[test]
fn a_second_master_is_told_who_holds_the_directory() {
    let (place, master) = settled();
    let ran = place.run("run").expect(1);
    assert!(ran.err.contains(&format!("pid {}", master.pid())), "{ran:?}");
}

#[test]
fn the_master_says_when_nothing_is_left_to_supervise() {
    let place = Place::with("workers: [ { id: once, command: /bin/true } ]\n");
    let mut master = start(place.command("run"));
    let line = "no worker is left running";
    master.until(line);
    place.run("start once").expect(0);
    master.until_nth(2, line, |said| said.contains(line));
}

#[test]
fn one_master_is_found_by_itself_and_of_several_the_right_one_is_asked_for() {
    let around = Place::new();
    let runtime = |command: &mut Command| {
        command.env_remove("HSU_STATE_DIR").env("XDG_RUNTIME_DIR", around.path());
    };
    let start = |place: &Place| {
        let mut command = place.command("run");
        runtime(&mut command);
        start(command)
    };
    let ask = |line: &str| {
        let mut command = around.command(line);
        runtime(&mut command);
        Ran::of(command.output().unwrap())
    };
    let yaml = |name: &str| {
        // Root's masters are elsewhere by default; a directory in the file is the same to others.
        let state = around.path().join("hsu-master").join(name);
        format!(
            "master: {{ name: {name}, state_dir: {} }}\n\
             workers: [ {{ id: of-{name}, command: sleep 1000 }} ]\n",
            state.display()
        )
    };
    let (one, two) = (Place::with(&yaml("one")), Place::with(&yaml("two")));
    let first = start(&one);
    let named = |name: &str| {
        let file = if name == "one" { &one } else { &two };
        format!("status -c {}", file.path().join("workers.yaml").display())
    };
    let found = ask("status");
    // As root, other masters may run on this machine.
    let by_itself = std::os::unix::fs::MetadataExt::uid(&fs::metadata("/proc/self").unwrap()) != 0;
    if by_itself {
        assert!(found.expect(0).out.contains("of-one"));
    }
    let second = start(&two);
    assert!(ask(&named("one")).expect(0).out.contains("of-one"));
    assert!(ask(&named("two")).expect(0).out.contains("of-two"));
    if by_itself {
        let ran = ask("status").expect(2);
        let pids = [first.pid().to_string(), second.pid().to_string()];
        for part in ["several masters", "one", "two", &pids[0], &pids[1]] {
            assert!(ran.err.contains(part), "{part}: {ran:?}");
        }
    } else {
        eprintln!("skipped in part: root's runtime directory is shared");
    }
    // The configuration may have been spoiled since: its master is found all the same.
    fs::write(one.path().join("workers.yaml"), yaml("one") + "surplus: 7\n").unwrap();
    assert!(ask(&named("one")).expect(0).out.contains("of-one"));
}

#[test]
fn a_socket_is_said_by_an_option_or_by_the_environment() {
    let (place, _master) = settled();
    let elsewhere = Place::new();
    let socket = place.state().join("control.sock");
    let line = format!("status web --socket {}", socket.display());
    assert!(elsewhere.run(&line).expect(0).out.contains("running"));
    let output = elsewhere.command("status web").env("HSU_SOCKET", &socket).output().unwrap();
    assert!(Ran::of(output).expect(0).out.contains("running"));
}

/// A command that goes on, and what it prints.
struct Following {
    child: Child,
    lines: Receiver<String>,
}

impl Following {
    fn start(mut command: Command) -> Self {
        let mut child = command.stdout(Stdio::piped()).spawn().unwrap();
        let (sender, lines) = unbounded();
        let stdout = BufReader::new(child.stdout.take().unwrap());
        let read = move || {
            for line in stdout.lines().map_while(Result::ok) {
                let _ = sender.send(line);
            }
        };
        std::thread::Builder::new().spawn(read).unwrap();
        Self { child, lines }
    }

    fn next(&self) -> String {
        self.lines.recv_timeout(LONG).expect("a line in time")
    }
}

impl Drop for Following {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[test]
fn what_happens_is_seen_while_it_happens() {
    let (place, _master) = settled();
    let watch = Following::start(place.command("status web --watch --json"));
    let json = |line: String| serde_json::from_str::<Value>(&line).unwrap();
    assert_eq!(json(watch.next())[0]["incarnation"], 1);
    // The first picture may be older than the ear for what happens.
    loop {
        place.run("restart web").expect(0);
        if json(watch.next())[0]["incarnation"].as_u64() > Some(1) {
            break;
        }
    }
    for (line, sign) in
        [("events -f", "running -> stopping"), ("events -f --json", "\"to\":\"stopping\"")]
    {
        let events = Following::start(place.command(line));
        // Until it follows, nothing is told.
        let end = Instant::now() + LONG;
        while !events.lines.try_iter().any(|line| line.contains(sign)) {
            assert!(Instant::now() < end, "{line} tells nothing");
            place.run("restart web").expect(0);
        }
    }
}

#[test]
fn a_followed_master_that_ends_ends_the_following() {
    let (place, master) = settled();
    let mut command = place.command("status --watch");
    let child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    place.run("shutdown").expect(0);
    assert_eq!(master.end().0.code(), Some(0));
    let ran = Ran::of(child.wait_with_output().unwrap());
    assert!(matches!(ran.code, Some(0 | 3)), "{ran:?}");
}

#[test]
fn a_function_that_is_not_there_is_a_failure() {
    let (place, _master) = settled();
    let ran = place.run("call web upper hello").expect(1);
    assert!(ran.err.contains("upper"), "{ran:?}");
    place.run("call nobody f").expect(4);
    let mut command = place.command("call web f -");
    let mut child = command.stdin(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    child.stdin.take().unwrap().write_all(b"hello").unwrap();
    Ran::of(child.wait_with_output().unwrap()).expect(1);
}

#[test]
fn what_workers_wrote_is_read_back() {
    let (place, _master) = settled();
    let told = place.run("logs bad -n 2").expect(0).out;
    assert_eq!(told.lines().count(), 2, "{told}");
    assert!(place.run("logs bad --stderr").expect(0).out.contains(" e refused"));
    assert!(!place.run("logs bad --stdout").expect(0).out.contains("refused"));
    assert!(place.run("logs").expect(0).out.contains("web | "));
    place.run("logs nobody").expect(4);
    let told = place.run("explain bad").expect(0).out;
    assert!(told.contains("| refused"), "{told}");
    let past = place.run("events --json").expect(0).out;
    assert!(past.lines().any(|line| line.contains("\"worker\":\"bad\"")), "{past}");
}

#[test]
fn a_reload_does_what_the_plan_said() {
    let (place, _master) = settled();
    assert!(place.run("plan").expect(0).out.starts_with("nothing to do\n"));
    let file = place.path().join("workers.yaml");
    fs::write(&file, format!("{WORKERS}- {{ id: new, command: sleep 1000 }}\n")).unwrap();
    let planned = place.run("plan --json").expect(0).json();
    assert_eq!(planned["steps"][0]["action"], "add", "{planned:#}");
    assert!(place.run("reload").expect(0).out.contains("new"));
    place.run("wait new --for running").expect(0);
    assert!(place.run("reload --json").expect(0).json()["steps"].as_array().unwrap().is_empty());
    fs::write(&file, "workers: 7\n").unwrap();
    let ran = place.run("reload").expect(2);
    assert!(ran.err.contains("workers.yaml:1"), "{ran:?}");
    assert!(place.run("status new").expect(0).out.contains("running"));
    fs::write(place.path().join("other.yaml"), WORKERS).unwrap();
    let ran = place.run("plan -c other.yaml").expect(0);
    assert!(ran.out.contains("new"), "{ran:?}");
}
