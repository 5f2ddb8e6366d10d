//! A program that a test has started, and every line it has written so far. Each crate of tests
//! that starts one takes this file in.

use std::io::{BufRead, BufReader, Read};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use hsu_master::crossbeam_channel::{Receiver, Sender, unbounded};

/// Nothing here takes long; a test that waits for so long has failed.
pub(crate) const LONG: Duration = Duration::from_secs(60);

/// A running program and what it has said so far, on the outputs that are piped.
pub(crate) struct Running {
    child: Child,
    pub(crate) lines: Receiver<String>,
    pub(crate) seen: Vec<String>,
}

impl Running {
    /// Starts a program, and reads its standard error; its standard output too, if that is piped.
    pub(crate) fn start(command: &mut Command) -> Self {
        let mut child = command.stdin(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
        let (sender, lines) = unbounded();
        if let Some(stdout) = child.stdout.take() {
            read_lines(stdout, sender.clone());
        }
        read_lines(child.stderr.take().unwrap(), sender);
        Self { child, lines, seen: Vec::new() }
    }

    /// The first line that contains `part`; reads on until there is one.
    #[track_caller]
    pub(crate) fn until(&mut self, part: &str) -> String {
        self.until_nth(1, part, |line| line.contains(part))
    }

    /// The nth line that fits; reads on until there is one.
    #[track_caller]
    pub(crate) fn until_nth(
        &mut self,
        nth: usize,
        what: &str,
        fits: impl Fn(&str) -> bool,
    ) -> String {
        let deadline = Instant::now() + LONG;
        loop {
            if let Some(line) = self.seen.iter().filter(|line| fits(line)).nth(nth - 1) {
                return line.clone();
            }
            match self.lines.recv_deadline(deadline) {
                Ok(line) => self.seen.push(line),
                Err(error) => {
                    panic!("no line {nth} with {what:?} ({error}) in:\n{}", self.seen.join("\n"))
                }
            }
        }
    }

    /// Everything that it has said, once nobody can say more.
    #[track_caller]
    pub(crate) fn rest(&mut self) -> String {
        let deadline = Instant::now() + LONG;
        while let Ok(line) = self.lines.recv_deadline(deadline) {
            self.seen.push(line);
        }
        assert!(Instant::now() < deadline, "it does not end:\n{}", self.seen.join("\n"));
        self.seen.join("\n")
    }

    /// Waits for its end, and returns everything that it has said.
    #[track_caller]
    pub(crate) fn end(mut self) -> (ExitStatus, String) {
        let said = self.rest();
        (self.reap(), said)
    }

    /// Waits until it is gone, whoever may still have its outputs.
    pub(crate) fn reap(&mut self) -> ExitStatus {
        self.child.wait().unwrap()
    }

    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }
}

impl Drop for Running {
    /// After a failed test: an orderly end first, so that the program's own children go with it.
    fn drop(&mut self) {
        if let Ok(None) = self.child.try_wait() {
            signal(self.pid(), "CONT");
            signal(self.pid(), "TERM");
            let deadline = Instant::now() + LONG;
            while self.lines.recv_deadline(deadline).is_ok() {}
        }
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Sends a signal; false: there is no such process.
pub(crate) fn signal(pid: u32, name: &str) -> bool {
    let pid = pid.to_string();
    let kill = Command::new("kill").args(["-s", name, &pid]).stderr(Stdio::null()).status();
    kill.unwrap().success()
}

fn read_lines(from: impl Read + Send + 'static, to: Sender<String>) {
    let read = move || {
        for line in BufReader::new(from).split(b'\n').map_while(Result::ok) {
            // The test may have ended before the program.
            let _ = to.send(String::from_utf8_lossy(&line).into_owned());
        }
    };
    std::thread::Builder::new().spawn(read).unwrap();
}
