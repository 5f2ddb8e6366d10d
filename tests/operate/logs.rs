//! Logs as an operator meets them: a directory that is taken, files that were moved, that cannot be
//! written or that nobody writes any more, and what must not be told (FAULTS L05, L07, L21).

use std::fs::{self, File, OpenOptions};
use std::io::Write as _;
use std::os::unix::fs::symlink;
use std::path::PathBuf;
use std::process::Command;
use std::rc::Rc;
use std::time::Instant;

use crate::live::start;
use crate::running::{LONG, Running, signal};
use crate::support::{Place, Ran};

/// A worker `w` that says what it is told through a FIFO.
struct Parrot {
    place: Rc<Place>,
    ear: File,
    master: Running,
}

impl Parrot {
    fn new() -> Self {
        let place = Place::with("workers: [ { id: w, command: [/bin/cat, ear] } ]\n");
        let path = place.path().join("ear");
        assert!(Command::new("mkfifo").arg(&path).status().unwrap().success());
        // For both, so that neither side waits for the other to open it.
        let ear = OpenOptions::new().read(true).write(true).open(&path).unwrap();
        let master = start(place.command("run"));
        place.run("wait w --for running").expect(0);
        Self { place: Rc::new(place), ear, master }
    }

    /// Has it say a line, which is then in its log or lost.
    fn says(&mut self, line: &str) {
        writeln!(&self.ear, "{line}").unwrap();
        self.master.until(&format!("w | {line}"));
    }

    /// Has the master open its files again, and waits until it has.
    fn reopens(&mut self) {
        let told = "log files are opened again";
        let before = self.master.seen.iter().filter(|line| line.contains(told)).count();
        // It says so before it does; the second time, it has done so once.
        for n in 1..=2 {
            assert!(signal(self.master.pid(), "USR2"));
            self.master.until_nth(before + n, told, |line| line.contains(told));
        }
    }

    fn log(&self) -> PathBuf {
        self.place.state().join("logs/w.log")
    }
}

#[test]
fn two_masters_do_not_share_a_directory_of_logs() {
    let shared = Place::new();
    let yaml = |name: &str| {
        let logs = shared.path().join("logs");
        format!("master: {{ name: {name}, log_dir: {} }}\nworkers: []\n", logs.display())
    };
    let (one, two) = (Place::with(&yaml("one")), Place::with(&yaml("two")));
    let first = start(one.command("run"));
    let refused = two.run("run").expect(1);
    let held = format!("it is held by one, pid {}, since ", first.pid());
    assert!(refused.err.contains(&held), "{refused:?}");
    assert!(refused.err.contains("log directory"), "{refused:?}");
    // A master that was killed holds nothing.
    assert!(signal(first.pid(), "KILL"));
    assert_eq!(first.end().0.code(), None);
    let second = start(two.command("run"));
    assert!(signal(second.pid(), "TERM"));
    assert_eq!(second.end().0.code(), Some(0));
}

#[test]
fn what_a_removed_worker_wrote_is_read_and_what_a_master_left_when_there_is_none() {
    let yaml = |more: &str| {
        let web = "{ id: web, command: [/bin/sh, -c, 'echo of web; exec sleep 1000'] }";
        format!("workers:\n- {web}\n{more}")
    };
    let nev = "- { id: nev, command: [/bin/sh, -c, 'echo of nev; exec sleep 1000'] }\n\
               - { id: mute, command: [/bin/sh, -c, 'echo lost'], logs: { mode: discard } }\n";
    let place = Place::with(&yaml(nev));
    let master = start(place.command("run"));
    for line in ["web | of web", "nev | of nev"] {
        // The two come in any order.
        let worker = &line[..3];
        let end = Instant::now() + LONG;
        while !place.run(&format!("logs {worker}")).expect(0).out.contains(&line[6..]) {
            assert!(Instant::now() < end, "{line}");
        }
    }
    place.run("wait mute --for completed").expect(0);
    let mute = place.run("logs mute").expect(0);
    assert_eq!(mute.out, "");
    assert!(mute.err.contains("mute: (logs.mode is discard"), "{mute:?}");
    assert!(!place.state().join("logs/mute.log").exists());

    fs::write(place.path().join("workers.yaml"), yaml("")).unwrap();
    place.run("reload").expect(0);
    let read = place.run("logs nev").expect(0);
    assert!(read.out.contains("o of nev\n"), "{read:?}");
    let unknown = place.run("logs neu").expect(4);
    assert!(unknown.err.contains("no such worker"), "{unknown:?}");
    assert!(!place.run("logs").expect(0).out.contains("nev"), "it is not one of them");

    place.run("shutdown").expect(0);
    assert_eq!(master.end().0.code(), Some(0));
    place.run("status").expect(3);
    let read = place.run("logs web").expect(0);
    assert!(read.out.contains("o of web\n"), "{read:?}");
    assert!(read.err.contains("state/logs:\n") && read.err.contains("start one with"), "{read:?}");
    let all = place.run("logs --json").expect(0).out;
    assert!(all.contains(r#""worker":"nev""#) && all.contains("of web"), "{all}");
    // Whoever names a socket means that master alone, whatever there is here.
    let by_socket = |path: PathBuf| place.run(&format!("logs web --socket {}", path.display()));
    let read = by_socket(place.state().join("control.sock")).expect(0);
    assert!(read.out.contains("of web"), "{read:?}");
    assert_eq!(by_socket(place.path().join("other.sock")).expect(3).out, "");
    // Where a socket is named no configuration says where the logs are: it may be another one's.
    fs::write(place.path().join("other.yaml"), "master: { log_dir: other }\nworkers: []\n")
        .unwrap();
    let mut both = place.command("logs web -c other.yaml");
    let both = both.env("HSU_SOCKET", place.state().join("control.sock")).output().unwrap();
    let read = Ran::of(both).expect(0);
    assert!(read.out.contains("of web"), "{read:?}");
    // Nothing can be followed, but what is there is shown.
    let followed = place.run("logs -f web").expect(3);
    assert!(followed.out.contains("of web"), "{followed:?}");
    let unknown = place.run("logs neu").expect(3);
    assert!(unknown.err.contains("it has no log in "), "{unknown:?}");
}

#[test]
fn l07_a_log_that_was_moved_is_left_at_the_next_line_after_sigusr2() {
    let mut parrot = Parrot::new();
    parrot.says("one");
    let moved = parrot.place.path().join("moved");
    fs::rename(parrot.log(), &moved).unwrap();
    fs::rename(parrot.place.state().join("logs/events.jsonl"), parrot.place.path().join("events"))
        .unwrap();
    parrot.reopens();
    parrot.says("two");
    let told = |path: &PathBuf| fs::read_to_string(path).unwrap_or_default();
    let (before, after) = (told(&moved), told(&parrot.log()));
    assert!(before.contains("o one\n") && !before.contains("two"), "{before}");
    assert!(after.contains("o two\n") && !after.contains("one"), "{after}");
    parrot.place.run("stop w").expect(0);
    let events = parrot.place.run("events").expect(0).out;
    assert!(events.contains("stopping -> stopped") && !events.contains("initialized"), "{events}");
}

#[test]
fn a_log_that_is_lost_is_told_by_every_command_and_as_an_event() {
    let mut parrot = Parrot::new();
    let place = Rc::clone(&parrot.place);
    parrot.says("one");
    for command in ["status", "describe w", "explain w"] {
        let told = place.run(command).expect(0).out;
        assert!(!told.contains(" log"), "{told}");
    }
    fs::rename(parrot.log(), place.path().join("mine")).unwrap();
    symlink("/dev/null", parrot.log()).unwrap();
    parrot.reopens();
    parrot.says("four");
    let status = place.run("status").expect(0).out;
    assert!(status.contains("its log is lost\n"), "{status}");
    for (command, title) in [("describe w", "log            "), ("explain w", "its log: ")] {
        let told = place.run(command).expect(0).out;
        let part = format!("{title}5 bytes dropped, degraded since ");
        assert!(told.contains(&part) && told.contains("symbolic links"), "{told}");
    }
    let known = place.run("status w --json").expect(0).json();
    assert_eq!(known[0]["log_dropped"], 5);
    assert!(known[0]["log_trouble"]["since"].is_string(), "{known}");

    fs::remove_file(parrot.log()).unwrap();
    let end = Instant::now() + LONG;
    let events = loop {
        parrot.says("more");
        let events = place.run("events --json").expect(0).out;
        if events.contains("log_recovered") {
            break events;
        }
        assert!(Instant::now() < end, "it is not written again: {events}");
    };
    assert!(events.contains(r#""event":"log_degraded""#), "{events}");
    let told = place.run("events").expect(0).out;
    assert!(
        told.contains("w  cannot keep all of its log, ") && told.contains("/w.log again; "),
        "{told}"
    );
    let known = place.run("describe w --json").expect(0).json();
    assert!(known["log_trouble"]["since"].is_null(), "{known}");
    assert!(place.run("explain w").expect(0).out.contains("bytes dropped, written again"));
    assert!(!place.run("status").expect(0).out.contains("log"));
}

#[test]
fn l21_values_of_the_environment_are_told_nowhere() {
    let worker = |id: &str, more: &str, script: &str| {
        format!(
            "- id: {id}\n  execution:\n    executable_path: /bin/sh\n    \
             args: [-c, '{script}', sh, --token, of-arguments-s3cr3t]\n    \
             environment: {{ TOKEN: of-environment-s3cr3t }}\n    env_file: env\n  {more}\n"
        )
    };
    let wait = "printenv TOKEN OTHER > /dev/null && exec sleep 1000";
    let kept = worker("kept", "on_master_exit: keep", wait);
    let bad = worker("bad", "restart: { policy: never }", "exit 3");
    let place = Place::with(&format!("workers:\n{kept}{bad}"));
    fs::write(place.path().join("env"), "OTHER=of-file-s3cr3t\n").unwrap();
    let master = start(place.command("run"));
    place.run("wait kept --for running").expect(0);
    place.run("wait bad --for stopped").expect(0);
    let mut told = String::new();
    for command in ["describe", "explain", "status"] {
        for worker in ["kept", "bad"] {
            told += &place.run(&format!("{command} {worker}")).expect(0).out;
            told += &place.run(&format!("{command} {worker} --json")).expect(0).out;
        }
    }
    for command in ["status", "status --json", "events", "events --json", "plan --json", "logs"] {
        told += &place.run(command).expect(0).out;
    }
    let records = fs::read_dir(place.state().join("workers")).unwrap();
    let logs = fs::read_dir(place.state().join("logs")).unwrap();
    let mut names = Vec::new();
    for entry in records.chain(logs) {
        let path = entry.unwrap().path();
        names.push(path.file_name().unwrap().to_str().unwrap().to_owned());
        // A FIFO has nothing to be read.
        if fs::metadata(&path).unwrap().is_file() {
            told += &String::from_utf8_lossy(&fs::read(&path).unwrap());
        }
    }
    for name in ["kept.json", "events.jsonl", "bad.log"] {
        assert!(names.iter().any(|known| known == name), "{names:?}");
    }
    // That all this was looked through: the names of the variables are told.
    assert!(told.contains("TOKEN") && told.contains("exit 3"), "{told}");
    assert!(!told.contains("s3cr3t"), "{told}");
    place.run("shutdown").expect(0);
    assert_eq!(master.end().0.code(), Some(0));
}
