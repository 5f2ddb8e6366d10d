//! What the tests of the examples share: running an example's program, and talking HTTP to it.

mod running;

use std::io::{Read, Write};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use running::Running;
pub(crate) use running::{LONG, signal};

/// A running program of an example.
pub(crate) struct Program(Running);

impl Program {
    pub(crate) fn start(example: &str, arguments: &[&str], environment: &[(&str, String)]) -> Self {
        Self::at(&path(example), arguments, environment)
    }

    /// Starts the program at a path.
    pub(crate) fn at(program: &Path, arguments: &[&str], environment: &[(&str, String)]) -> Self {
        let mut command = Command::new(program);
        command.args(arguments).envs(environment.iter().map(|(name, value)| (name, value)));
        command.env_remove("RUST_LOG").env_remove("RUST_BACKTRACE").stdout(Stdio::piped());
        Self(Running::start(&mut command))
    }

    pub(crate) fn pid(&self) -> u32 {
        self.0.pid()
    }

    /// Waits until `count` lines with this text were written, and returns the last of them.
    #[track_caller]
    pub(crate) fn wait_for_lines(&mut self, count: usize, text: &str) -> String {
        match count {
            1 => self.0.until(text),
            count => self.0.until_nth(count, text, |line| line.contains(text)),
        }
    }

    /// Waits for the end and returns the exit code and everything that was written.
    #[track_caller]
    pub(crate) fn end(self) -> (Option<i32>, String) {
        let (status, said) = self.0.end();
        (status.code(), said)
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
    stream.set_read_timeout(Some(LONG)).unwrap();
    stream
}

/// What still comes, until the server closes the connection.
pub(crate) fn answer(mut stream: TcpStream) -> Answer {
    let mut text = String::new();
    stream.read_to_string(&mut text).unwrap();
    let (head, body) = text.split_once("\r\n\r\n").unwrap();
    Answer { head: head.to_owned(), body: body.to_owned() }
}
