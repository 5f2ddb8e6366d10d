//! What the tests share: a directory to be in, the binary, and masters that only pretend.

use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::sync::Arc;
use std::thread::Builder;

use serde_json::{Value, json};

/// A directory that a command is run in, with nothing of the surroundings to find a master by.
pub(crate) struct Place {
    directory: tempfile::TempDir,
}

impl Place {
    pub(crate) fn new() -> Self {
        Self { directory: tempfile::tempdir().unwrap() }
    }

    /// One with a configuration file.
    pub(crate) fn with(yaml: &str) -> Self {
        let place = Self::new();
        fs::write(place.path().join("workers.yaml"), yaml).unwrap();
        place
    }

    pub(crate) fn path(&self) -> &Path {
        self.directory.path()
    }

    pub(crate) fn state(&self) -> PathBuf {
        self.path().join("state")
    }

    pub(crate) fn command(&self, line: &str) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_hsu-master"));
        command.args(line.split_whitespace()).current_dir(self.path());
        for name in ["RUST_LOG", "HSU_CONFIG", "HSU_SOCKET", "NO_COLOR", "COLUMNS", "TERM"] {
            command.env_remove(name);
        }
        command.env("HSU_STATE_DIR", self.state()).stdin(Stdio::null());
        command
    }

    /// Runs a command to its end.
    pub(crate) fn run(&self, line: &str) -> Ran {
        Ran::of(self.command(line).output().unwrap())
    }
}

/// What a command came to.
#[derive(Debug)]
pub(crate) struct Ran {
    pub(crate) code: Option<i32>,
    pub(crate) out: String,
    pub(crate) err: String,
}

impl Ran {
    pub(crate) fn of(output: Output) -> Self {
        let text = |bytes: Vec<u8>| String::from_utf8_lossy(&bytes).into_owned();
        Self { code: output.status.code(), out: text(output.stdout), err: text(output.stderr) }
    }

    pub(crate) fn json(&self) -> Value {
        serde_json::from_str(&self.out).unwrap_or_else(|error| panic!("{error}: {self:?}"))
    }

    /// The same, with this exit code.
    #[track_caller]
    pub(crate) fn expect(self, code: i32) -> Self {
        assert_eq!(self.code, Some(code), "{self:?}");
        self
    }
}

/// What a pretended master says to a request. Nothing: it hangs up.
pub(crate) type Answer = dyn Fn(&str, &Value) -> Option<Vec<Value>> + Send + Sync;

/// Pretends to be a master at a socket in `place`, until the test ends. `Ok` answers are results,
/// as `{"result": ...}`, `{"error": ...}` or `{"event": ...}`.
pub(crate) fn pretend(
    place: &Place,
    answer: impl Fn(&str, &Value) -> Option<Vec<Value>> + Send + Sync + 'static,
) -> PathBuf {
    let path = place.path().join("fake.sock");
    let listener = UnixListener::bind(&path).unwrap();
    let answer: Arc<Answer> = Arc::new(answer);
    let accept = move || {
        for stream in listener.incoming() {
            let answer = Arc::clone(&answer);
            let serve = move || serve(&stream.unwrap(), &*answer);
            Builder::new().spawn(serve).unwrap();
        }
    };
    Builder::new().spawn(accept).unwrap();
    path
}

fn serve(stream: &UnixStream, answer: &Answer) {
    for line in BufReader::new(stream).lines().map_while(Result::ok) {
        let request: Value = serde_json::from_str(&line).unwrap();
        let method = request["method"].as_str().unwrap();
        let hello = json!({ "protocol": [1, 0], "version": "0", "pid": 1, "name": "fake" });
        let answers = match method {
            "hello" => Some(vec![json!({ "result": hello })]),
            method => answer(method, &request["params"]),
        };
        let Some(answers) = answers else { return };
        for mut answer in answers {
            answer["id"] = request["id"].clone();
            if writeln!(&mut &*stream, "{answer}").is_err() {
                return;
            }
        }
    }
}

/// A running program as a master reports it, but for what `differing` says.
pub(crate) fn worker(differing: Value) -> Value {
    let mut worker = json!({
        "id": "web", "type": "process", "state": "running", "health": "none", "goal": "up",
        "phase": "up", "ending": false, "ready": true, "incarnation": 3, "pid": 4711,
        "since": "2023-11-14T22:13:20Z", "uptime_ms": 3000, "restarts": 2, "gave_up": false,
        "cause": "started", "abandoned_threads": 0, "call_panics": 0, "endpoints": [],
    });
    let Value::Object(differing) = differing else { panic!("{differing}") };
    worker.as_object_mut().unwrap().extend(differing);
    worker
}

/// The answer to a status request.
pub(crate) fn workers(workers: &[Value]) -> Option<Vec<Value>> {
    Some(vec![json!({ "result": { "workers": workers, "next": null } })])
}

/// An answer that is an error.
pub(crate) fn error(category: &str, message: &str) -> Option<Vec<Value>> {
    Some(vec![json!({ "error": { "category": category, "message": message } })])
}
