//! The control protocol: what a master and those who operate it say to each other. JSON objects,
//! one a line, at most 1 MiB. Pure: bytes in, plain data out, and back.
//!
//! Requests are `{"id":1,"method":"status","params":{..}}`; see `docs/control.md`.

use std::borrow::Cow;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use crate::error::{Error, ErrorCategory, Problem};
use crate::host::protocol::{MAX_FRAME, payload, push_line};
use crate::suggest;
use crate::worker::WaitFor;

/// The version that is spoken here: the first number must be equal on both sides.
pub(super) const VERSION: [u32; 2] = [1, 0];

/// So many workers may be named in one question.
pub(super) const MAX_NAMED: usize = 64;

/// So much of a worker's name is told, should there be none of that name.
const MAX_NAME: usize = 256;

/// Every method's name, in the order of the documentation.
pub(super) const METHODS: [&str; 15] = [
    "hello", "status", "describe", "explain", "start", "stop", "restart", "wait", "call",
    "modules", "reload", "plan", "shutdown", "events", "logs",
];

/// A request, as it is read.
#[derive(Debug, PartialEq)]
pub(super) struct Request {
    pub(super) id: u64,
    pub(super) method: Method,
}

/// What is asked for.
#[derive(Debug, PartialEq)]
pub(super) enum Method {
    Hello,
    Status(Status),
    Describe(Describe),
    Start(Command),
    Stop(Command),
    Restart(Command),
    Wait(Wait),
    Call(Call),
    Modules,
    Reload,
    Plan(Plan),
    Shutdown(Shutdown),
    Events(Events),
    Logs(Logs),
}

/// Nothing that anybody would have to say.
#[derive(Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Nothing {}

/// Which workers: none named means all, in pages, each after the last id of the one before.
#[derive(Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub(super) struct Status {
    pub(super) ids: Vec<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) after: Option<String>,
    /// With what their processes use, which takes a look at each.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub(super) usage: bool,
}

#[derive(Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct Describe {
    pub(super) id: String,
}

/// A command to one worker. What changes something must be understood in full, so what is not known
/// is an error here; in questions it is left aside.
#[derive(Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Command {
    pub(super) id: String,
    #[serde(default)]
    pub(super) force: bool,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) timeout_ms: Option<u64>,
    #[serde(default = "yes")]
    pub(super) wait: bool,
    #[serde(default)]
    pub(super) watch: bool,
}

fn yes() -> bool {
    true
}

#[derive(Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct Wait {
    pub(super) id: String,
    #[serde(rename = "for")]
    pub(super) condition: WaitFor,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) timeout_ms: Option<u64>,
}

#[derive(Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Call {
    pub(super) worker: String,
    pub(super) function: String,
    #[serde(default)]
    pub(super) payload_b64: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) timeout_ms: Option<u64>,
}

#[derive(Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub(super) struct Plan {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) config: Option<PathBuf>,
}

#[derive(Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(super) struct Shutdown {
    pub(super) keep: bool,
}

#[derive(Debug, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub(super) struct Events {
    pub(super) follow: bool,
    /// So many of the past come first.
    pub(super) last: usize,
}

impl Default for Events {
    fn default() -> Self {
        Self { follow: false, last: 100 }
    }
}

#[derive(Debug, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub(super) struct Logs {
    pub(super) ids: Vec<String>,
    pub(super) lines: usize,
    pub(super) follow: bool,
    pub(super) stdout: bool,
    pub(super) stderr: bool,
}

impl Default for Logs {
    fn default() -> Self {
        Self { ids: Vec::new(), lines: 10, follow: false, stdout: true, stderr: true }
    }
}

/// Why a line is no request.
#[derive(Debug)]
pub(super) struct Misread {
    /// Whose answer the error is; `None`: nobody knows.
    pub(super) id: Option<u64>,
    pub(super) error: Error,
    /// The line was no JSON object: what follows it is not worth reading.
    pub(super) hopeless: bool,
}

impl Request {
    /// Reads one line.
    ///
    /// # Errors
    /// What is wrong with it, and whether the next one may be better.
    pub(super) fn read(line: &[u8]) -> Result<Self, Misread> {
        #[derive(Deserialize)]
        struct Line<'l> {
            #[serde(borrow)]
            id: Option<&'l RawValue>,
            #[serde(borrow)]
            method: Option<&'l RawValue>,
            #[serde(borrow)]
            params: Option<&'l RawValue>,
        }
        let line: Line<'_> = serde_json::from_slice(line).map_err(|error| {
            let error = Error::configuration(format!("the line is no request: {error}"));
            Misread { id: None, error, hopeless: true }
        })?;
        let id = line.id.and_then(|id| serde_json::from_str(id.get()).ok());
        let wrong = |message: String| {
            let error = Error::configuration(message);
            Misread { id, error, hopeless: false }
        };
        let Some(known) = id else {
            return Err(wrong("`id`: a number from 0 is expected".to_owned()));
        };
        let method = line.method.map_or("null", RawValue::get);
        let method: Cow<'_, str> = serde_json::from_str::<Borrowed<'_>>(method)
            .map_err(|_| wrong("`method`: a word is expected".to_owned()))?
            .0;
        let params = line.params.map_or("{}", RawValue::get);
        let params = if params == "null" { "{}" } else { params };
        let method = Method::read(&method, params).map_err(wrong)?;
        Ok(Self { id: known, method })
    }
}

/// A text that is copied only if it has to be.
#[derive(Deserialize)]
struct Borrowed<'t>(#[serde(borrow)] Cow<'t, str>);

impl Method {
    fn read(name: &str, params: &str) -> Result<Self, String> {
        Ok(match name {
            "hello" => Self::Hello,
            "status" => Self::Status(read_params(params)?),
            // The command works its words out of the same object.
            "describe" | "explain" => Self::Describe(read_params(params)?),
            "start" => Self::Start(read_params(params)?),
            "stop" => Self::Stop(read_params(params)?),
            "restart" => Self::Restart(read_params(params)?),
            "wait" => Self::Wait(read_params(params)?),
            "call" => Self::Call(read_params(params)?),
            "modules" => Self::Modules,
            "reload" => {
                let Nothing {} = read_params(params)?;
                Self::Reload
            }
            "plan" => Self::Plan(read_params(params)?),
            "shutdown" => Self::Shutdown(read_params(params)?),
            "events" => Self::Events(read_params(params)?),
            "logs" => Self::Logs(read_params(params)?),
            _ => return Err(unknown_method(name)),
        })
    }
}

fn unknown_method(name: &str) -> String {
    let shown: String = name.chars().take(64).collect();
    let near = match suggest::nearest(name, METHODS) {
        Some(near) => format!("did you mean {near:?}? "),
        None => String::new(),
    };
    format!("unknown method {shown:?}; {near}known are {}", METHODS.join(", "))
}

/// An error names the parameter it is about.
fn read_params<'p, T: Deserialize<'p>>(params: &'p str) -> Result<T, String> {
    // To know the place at all times costs more than all the rest, and is needed for errors alone.
    if let Ok(read) = serde_json::from_str(params) {
        return Ok(read);
    }
    let mut from = serde_json::Deserializer::from_str(params);
    serde_path_to_error::deserialize(&mut from).map_err(|error| {
        let path = error.path().to_string();
        let place = if path == "." { "params".to_owned() } else { format!("params.{path}") };
        format!("`{place}`: {}", error.into_inner())
    })
}

/// An error, as it is written.
#[derive(Debug, Deserialize, Serialize)]
pub(super) struct WireError {
    #[serde(default)]
    category: String,
    #[serde(default)]
    message: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    worker: Option<String>,
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    permanent: bool,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    problems: Vec<Problem>,
}

impl From<&Error> for WireError {
    fn from(error: &Error) -> Self {
        Self {
            category: error.category().as_str().to_owned(),
            message: error.message().to_owned(),
            // Somebody may have asked for a name that is as long as a line.
            worker: error.worker().map(|worker| worker.chars().take(MAX_NAME).collect()),
            permanent: error.permanent(),
            problems: error.problems().to_vec(),
        }
    }
}

impl From<WireError> for Error {
    fn from(wire: WireError) -> Self {
        // A word of a later version is no reason to lose the message.
        let word = serde_json::Value::String(wire.category);
        let category = serde_json::from_value(word).unwrap_or(ErrorCategory::Unknown);
        Self::told(category, wire.message, wire.worker, wire.permanent, wire.problems)
    }
}

/// Puts a request's line behind what is in `out`.
pub(super) fn push_request(out: &mut Vec<u8>, id: u64, method: &str, params: &impl Serialize) {
    #[derive(Serialize)]
    struct Line<'l, P> {
        id: u64,
        method: &'l str,
        params: &'l P,
    }
    push_line(out, &Line { id, method, params });
}

/// Puts the line of a result behind what is in `out`.
pub(super) fn push_result(out: &mut Vec<u8>, id: u64, result: &impl Serialize) {
    #[derive(Serialize)]
    struct Line<'l, R> {
        id: u64,
        result: &'l R,
    }
    let before = out.len();
    push_line(out, &Line { id, result });
    if out.len() - before > MAX_FRAME {
        out.truncate(before);
        let error = Error::new(ErrorCategory::Refused, "the answer is longer than 1 MiB");
        push_error(out, Some(id), &error);
    }
}

/// Puts the line of one more item of a stream behind what is in `out`.
pub(super) fn push_event(out: &mut Vec<u8>, id: u64, event: &impl Serialize) {
    #[derive(Serialize)]
    struct Line<'l, E> {
        id: u64,
        event: &'l E,
    }
    push_line(out, &Line { id, event });
}

/// Puts the line of an error behind what is in `out`.
pub(super) fn push_error(out: &mut Vec<u8>, id: Option<u64>, error: &Error) {
    #[derive(Serialize)]
    struct Line {
        id: Option<u64>,
        error: WireError,
    }
    push_line(out, &Line { id, error: error.into() });
}

/// What a call came to.
#[derive(Debug, Deserialize, Serialize)]
pub(super) struct Called {
    pub(super) payload_b64: String,
}

impl Called {
    pub(super) fn new(bytes: &[u8]) -> Self {
        Self { payload_b64: payload::text(bytes) }
    }
}

/// Some whole lines of a log, each with its newline. What is no UTF-8 is written as base64.
#[derive(Debug, Deserialize, Serialize)]
pub(super) struct LogText<'t> {
    #[serde(borrow)]
    worker: Cow<'t, str>,
    #[serde(borrow, default, skip_serializing_if = "Option::is_none")]
    text: Option<Cow<'t, str>>,
    #[serde(borrow, default, skip_serializing_if = "Option::is_none")]
    text_b64: Option<Cow<'t, str>>,
    #[serde(default)]
    pub(super) notice: bool,
}

impl<'t> LogText<'t> {
    pub(super) fn new(worker: &'t str, bytes: &'t [u8], notice: bool) -> Self {
        let (text, text_b64) = match std::str::from_utf8(bytes) {
            Ok(text) => (Some(text.into()), None),
            Err(_) => (None, Some(payload::text(bytes).into())),
        };
        Self { worker: worker.into(), text, text_b64, notice }
    }

    /// The worker and the bytes.
    ///
    /// # Errors
    /// What is to be base64 is none.
    pub(super) fn into_parts(self) -> Result<(String, Vec<u8>), String> {
        let bytes = match self.text_b64 {
            Some(text) => payload::read(&text)?,
            None => self.text.unwrap_or_default().into_owned().into_bytes(),
        };
        Ok((self.worker.into_owned(), bytes))
    }
}

/// A line that came from a master.
#[derive(Debug)]
pub(super) struct FromMaster {
    /// `None`: it is about the connection.
    pub(super) id: Option<u64>,
    pub(super) said: Said,
}

/// What a master said.
#[derive(Debug)]
pub(super) enum Said {
    Result(Box<RawValue>),
    Event(Box<RawValue>),
    Error(Error),
}

impl FromMaster {
    /// Reads one line.
    ///
    /// # Errors
    /// It is no answer.
    pub(super) fn read(line: &[u8]) -> Result<Self, String> {
        #[derive(Deserialize)]
        struct Line {
            id: Option<u64>,
            result: Option<Box<RawValue>>,
            event: Option<Box<RawValue>>,
            error: Option<WireError>,
        }
        let line: Line = serde_json::from_slice(line).map_err(|error| error.to_string())?;
        let said = match (line.error, line.event, line.result) {
            (Some(error), ..) => Said::Error(error.into()),
            (None, Some(event), _) => Said::Event(event),
            (None, None, Some(result)) => Said::Result(result),
            // A result of null, or one that a later version writes otherwise.
            (None, None, None) => Said::Result(RawValue::NULL.to_owned()),
        };
        Ok(Self { id: line.id, said })
    }
}

#[cfg(test)]
mod tests;
