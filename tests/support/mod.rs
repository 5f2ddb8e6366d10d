//! What the tests of the examples share: running an example's program, and talking HTTP to it.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use hsu_master::crossbeam_channel::{Receiver, RecvTimeoutError, Sender, unbounded};

/// Nothing here takes long; a test that waits for so long has failed.
pub(crate) const CAP: Duration = Duration::from_secs(30);

/// A running program of an example, with every line it has written so far.
pub(crate) struct Program {
    child: Child,
    lines: Receiver<String>,
    seen: Vec<String>,
}

impl Program {
    pub(crate) fn start(example: &str, arguments: &[&str], environment: &[(&str, String)]) -> Self {
        Self::at(&path(example), arguments, environment)
    }

    /// Starts the program at a path.
    pub(crate) fn at(program: &Path, arguments: &[&str], environment: &[(&str, String)]) -> Self {
        let mut command = Command::new(program);
        command.args(arguments).envs(environment.iter().map(|(name, value)| (name, value)));
        command.env_remove("RUST_LOG").env_remove("RUST_BACKTRACE").stdin(Stdio::null());
        let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        let (sender, lines) = unbounded();
        read_lines(child.stdout.take().unwrap(), sender.clone());
        read_lines(child.stderr.take().unwrap(), sender);
        Self { child, lines, seen: Vec::new() }
    }

    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Waits until `count` lines with this text were written, and returns the last of them.
    pub(crate) fn wait_for_lines(&mut self, count: usize, text: &str) -> String {
        let deadline = Instant::now() + CAP;
        loop {
            let mut found = self.seen.iter().filter(|line| line.contains(text));
            if let Some(line) = found.nth(count - 1) {
                return line.clone();
            }
            match self.lines.recv_deadline(deadline) {
                Ok(line) => self.seen.push(line),
                Err(error) => panic!("no {count} lines {text:?} ({error}) in:\n{}", self.output()),
            }
        }
    }

    /// Waits for the end and returns the exit code and everything that was written.
    pub(crate) fn end(mut self) -> (Option<i32>, String) {
        assert!(self.reads_to_the_end(), "it does not end:\n{}", self.output());
        let status = self.child.wait().unwrap();
        (status.code(), self.output())
    }

    /// True once the program has closed its output, which it does when it ends.
    fn reads_to_the_end(&mut self) -> bool {
        let deadline = Instant::now() + CAP;
        loop {
            match self.lines.recv_deadline(deadline) {
                Ok(line) => self.seen.push(line),
                Err(error) => return error == RecvTimeoutError::Disconnected,
            }
        }
    }

    fn output(&self) -> String {
        self.seen.join("\n")
    }
}

impl Drop for Program {
    /// After a failed test: an orderly end first, so that the program's own children go with it.
    fn drop(&mut self) {
        if let Ok(None) = self.child.try_wait() {
            signal(self.pid(), "TERM");
            self.reads_to_the_end();
        }
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Where `cargo test` has put an example's program: beside the directory of this test's own.
pub(crate) fn path(example: &str) -> PathBuf {
    let test = std::env::current_exe().unwrap();
    let target = test.parent().and_then(|deps| deps.parent()).unwrap();
    let program = target.join("examples").join(example);
    assert!(program.exists(), "{program:?} is missing: run `cargo build --examples` first");
    program
}

fn read_lines(from: impl Read + Send + 'static, to: Sender<String>) {
    let read = move || {
        for line in BufReader::new(from).split(b'\n') {
            let line = String::from_utf8_lossy(&line.unwrap()).into_owned();
            // The test may have ended before the program.
            let _ = to.send(line);
        }
    };
    std::thread::Builder::new().spawn(read).unwrap();
}

/// Sends a signal; false: there is no such process.
pub(crate) fn signal(pid: u32, name: &str) -> bool {
    let pid = pid.to_string();
    let kill = Command::new("kill").args(["-s", name, &pid]).stderr(Stdio::null()).status();
    kill.unwrap().success()
}

/// What a server has answered.
#[derive(Debug)]
pub(crate) struct Answer {
    /// The first line and the headers.
    pub(crate) head: String,
    pub(crate) body: String,
}

impl Answer {
    pub(crate) fn status(&self) -> u16 {
        self.head.split(' ').nth(1).unwrap().parse().unwrap()
    }

    pub(crate) fn json(&self) -> serde_json::Value {
        serde_json::from_str(&self.body).unwrap()
    }
}

/// One request and its answer.
pub(crate) fn request(address: &str, method: &str, path: &str, body: &str) -> Answer {
    let length = body.len();
    let head =
        format!("{method} {path} HTTP/1.1\r\nHost: test\r\nContent-Length: {length}\r\n\r\n");
    raw(address, format!("{head}{body}").as_bytes())
}

/// The answer to these bytes.
pub(crate) fn raw(address: &str, bytes: &[u8]) -> Answer {
    let mut stream = connect(address);
    stream.write_all(bytes).unwrap();
    answer(stream)
}

pub(crate) fn connect(address: &str) -> TcpStream {
    let stream = TcpStream::connect(address).unwrap();
    stream.set_read_timeout(Some(CAP)).unwrap();
    stream
}

/// What still comes, until the server closes the connection.
pub(crate) fn answer(mut stream: TcpStream) -> Answer {
    let mut text = String::new();
    stream.read_to_string(&mut text).unwrap();
    let (head, body) = text.split_once("\r\n\r\n").unwrap();
    Answer { head: head.to_owned(), body: body.to_owned() }
}
