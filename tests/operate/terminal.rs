//! What is different when people look: width, colour, and nothing that commands their terminal.
#![expect(unsafe_code, reason = "a terminal of our own takes system calls")]

use std::fs::{File, OpenOptions};
use std::io::{self, Read};
use std::os::fd::AsRawFd;
use std::process::{Child, Command, Stdio};

use serde_json::json;

use crate::live::start;
use crate::support::{Place, pretend, worker, workers};

/// A terminal, and the program in front of it.
struct Terminal {
    keyboard: File,
    screen: Option<File>,
}

impl Terminal {
    /// A terminal of this size; `None`: this system has none to give.
    fn new(columns: u16, rows: u16) -> Option<Self> {
        let mut open = OpenOptions::new();
        open.read(true).write(true);
        let keyboard = open.open("/dev/ptmx").ok()?;
        let fd = keyboard.as_raw_fd();
        let (mut number, unlock) = (0, 0);
        let size = libc::winsize { ws_row: rows, ws_col: columns, ws_xpixel: 0, ws_ypixel: 0 };
        // SAFETY: each request reads or writes one value of its type, which outlives the call.
        let made = unsafe {
            libc::ioctl(fd, libc::TIOCSPTLCK, &raw const unlock) == 0
                && libc::ioctl(fd, libc::TIOCGPTN, &raw mut number) == 0
                && libc::ioctl(fd, libc::TIOCSWINSZ, &raw const size) == 0
        };
        let screen = open.open(format!("/dev/pts/{number}")).ok().filter(|_| made)?;
        Some(Self { keyboard, screen: Some(screen) })
    }

    fn start(&mut self, command: &mut Command) -> Child {
        let screen = self.screen.take().unwrap();
        command.stdout(screen.try_clone().unwrap()).stderr(Stdio::null()).spawn().unwrap()
    }

    /// Everything that a program shows until it ends.
    fn shown(mut self, command: &mut Command) -> String {
        let mut child = self.start(command);
        // The command holds the terminal too.
        command.stdout(Stdio::null());
        let text = self.read_until(|_| false);
        child.wait().unwrap();
        text
    }

    /// What is shown, until it is enough or nobody holds the terminal any more.
    fn read_until(&mut self, enough: impl Fn(&str) -> bool) -> String {
        let mut bytes = Vec::new();
        let mut buffer = [0; 4096];
        loop {
            let text = String::from_utf8_lossy(&bytes).replace("\r\n", "\n");
            if enough(&text) {
                return text;
            }
            match self.keyboard.read(&mut buffer) {
                Ok(count) if count > 0 => bytes.extend_from_slice(&buffer[..count]),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Ok(_) | Err(_) => return text,
            }
        }
    }
}

macro_rules! terminal {
    ($columns:expr, $rows:expr) => {
        match Terminal::new($columns, $rows) {
            Some(terminal) => terminal,
            None => {
                eprintln!("skipped: this system has no terminal to give");
                return;
            }
        }
    };
}

fn failed_and_running(place: &Place) -> String {
    let socket = pretend(place, |_, _| {
        let error = json!({
            "category": "crash", "message": "\u{1b}]0;owned\u{7}it broke, and it says so at length",
            "at": "2023-11-14T22:13:20Z",
        });
        let failed = json!({
            "id": "bad", "state": "failed", "phase": "none", "pid": null, "uptime_ms": null,
            "last_error": error,
        });
        workers(&[worker(json!({})), worker(failed)])
    });
    format!("status --socket {}", socket.display())
}

#[test]
fn a_table_fits_its_terminal_and_is_coloured() {
    let place = Place::new();
    let line = failed_and_running(&place);
    let shown = terminal!(60, 24).shown(place.command(&line).env("TERM", "xterm"));
    assert!(shown.contains("\u{1b}[32mrunning\u{1b}[0m"), "{shown:?}");
    assert!(shown.contains("\u{1b}[31mfailed\u{1b}[0m"), "{shown:?}");
    for command in ["\u{1b}]", "\u{7}"] {
        assert!(!shown.contains(command), "{shown:?}");
    }
}

#[test]
fn without_colour_there_is_none_and_the_width_can_be_said() {
    let place = Place::new();
    let line = failed_and_running(&place);
    for (name, value) in [("NO_COLOR", "1"), ("TERM", "dumb")] {
        let shown = terminal!(60, 24).shown(place.command(&line).env(name, value));
        assert!(!shown.contains('\u{1b}'), "{shown:?}");
        assert!(shown.lines().all(|line| line.chars().count() <= 60), "{shown}");
        assert!(shown.contains("\\u{1b}]0;owned"), "{shown}");
    }
    let mut command = place.command(&line);
    let shown = terminal!(60, 24).shown(command.env("TERM", "dumb").env("COLUMNS", "30"));
    assert!(shown.lines().all(|line| line.chars().count() <= 30), "{shown}");
}

#[test]
fn lines_of_logs_do_not_command_a_terminal() {
    let place = Place::new();
    let socket = pretend(&place, |_, _| {
        let line = json!({ "worker": "a", "text_b64": "G1szMW1yZWQJ/wo=" });
        Some(vec![json!({ "event": line }), json!({ "result": null })])
    });
    let line = format!("logs a --socket {}", socket.display());
    let shown = terminal!(60, 24).shown(&mut place.command(&line));
    assert_eq!(shown.replace("        ", "\t"), "\\u{1b}[31mred\t\\xff\n");
}

#[test]
fn how_far_it_is_with_many_workers_is_shown_meanwhile() {
    let place = Place::new();
    let socket = pretend(&place, |_, params| {
        let ended = json!({ "id": params["id"], "incarnation": null, "state": "stopped" });
        Some(vec![json!({ "result": ended })])
    });
    let stop = |ids: &str, mut terminal: Terminal| {
        let screen = terminal.screen.take().unwrap();
        let mut command = place.command(&format!("stop {ids} --socket {}", socket.display()));
        command.stdout(Stdio::null()).stderr(screen);
        let mut child = command.spawn().unwrap();
        // The command holds the terminal too.
        drop(command);
        let shown = terminal.read_until(|_| false);
        assert!(child.wait().unwrap().success());
        shown
    };
    let shown = stop("a b c", terminal!(60, 24));
    assert!(shown.contains("stopping: 3 left"), "{shown:?}");
    assert!(shown.ends_with("\u{1b}[K"), "{shown:?}");
    assert_eq!(stop("a", terminal!(60, 24)), "");
}

#[test]
fn how_far_a_shutdown_is_is_shown_meanwhile() {
    let nap = |id| format!("- {{ id: {id}, command: sleep 1000 }}\n");
    let place = Place::with(&format!("workers:\n{}{}{}", nap("a"), nap("b"), nap("c")));
    let master = start(place.command("run"));
    for id in ["a", "b", "c"] {
        place.run(&format!("wait {id} --for running")).expect(0);
    }
    place.run("stop c").expect(0);
    let mut terminal = terminal!(60, 24);
    let mut command = place.command("shutdown");
    command.stdout(Stdio::null()).stderr(terminal.screen.take().unwrap());
    let mut child = command.spawn().unwrap();
    drop(command);
    let shown = terminal.read_until(|_| false);
    assert!(child.wait().unwrap().success());
    assert!(shown.contains("stopping: 2 left"), "{shown:?}");
    assert!(shown.ends_with("\u{1b}[K"), "{shown:?}");
    assert_eq!(master.end().0.code(), Some(0));
}

#[test]
fn a_watched_table_is_drawn_again_when_something_happens() {
    use std::sync::atomic::{AtomicU64, Ordering};
    let place = Place::new();
    let asked = AtomicU64::new(0);
    let socket = pretend(&place, move |method, params| match method {
        // More of the past would only have the master look for it.
        "events" if params["last"] != 1 => None,
        "events" => Some(vec![json!({ "event": { "event": "state", "worker": "web" } })]),
        _ => workers(&[worker(json!({ "restarts": asked.fetch_add(1, Ordering::Relaxed) }))]),
    });
    let mut terminal = terminal!(80, 24);
    let mut command = place.command(&format!("status --watch --socket {}", socket.display()));
    let mut child = terminal.start(command.env("TERM", "dumb"));
    let shown = terminal.read_until(|shown| shown.matches("\u{1b}[H").count() == 3);
    assert!(shown.contains("web"), "{shown:?}");
    child.kill().unwrap();
    child.wait().unwrap();
}
