//! The worker protocol: what a master and a module host, or any program that speaks it, say to
//! each other. JSON objects, one a line. Pure: bytes in, plain data out, and back.
//!
//! ```text
//! worker -> master   {"event":"hello","params":{"protocol":[1,0],"name":"..","version":".."}}
//! master -> worker   {"id":1,"method":"initialize","deadline_ms":30000,"params":{..}}
//! worker -> master   {"id":1,"result":{}}   or   {"id":1,"error":{"category":"..","message":".."}}
//! ```

pub(crate) mod frames;
mod master;
mod worker;

use serde::{Deserialize, Serialize};

use crate::error::{ErrorCategory, Failure};

pub(crate) use master::{Answered, FromWorker, Request, Said};
pub(crate) use worker::{FromMaster, Method, Reply};

/// The version that is spoken here: the first number must be equal on both sides.
pub(crate) const VERSION: [u32; 2] = [1, 0];
/// The longest line, in bytes, with its newline.
pub(crate) const MAX_FRAME: usize = 1 << 20;
/// Set for a program on whose standard input the protocol is spoken.
pub(crate) const VARIABLE: &str = "HSU_WORKER_PROTOCOL";
/// The first argument of a module host.
pub(crate) const HOST_ROLE: &str = "__hsu-host";
/// Which build this is: a master and its module host must be of one.
pub(crate) const BUILD: &str = concat!("hsu-master ", env!("CARGO_PKG_VERSION"));

/// What a worker says first.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Hello {
    pub(crate) protocol: [u32; 2],
    #[serde(default)]
    pub(crate) build: String,
    #[serde(default)]
    pub(crate) name: String,
    #[serde(default)]
    pub(crate) version: String,
}

/// What a worker is to be.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Initialize {
    #[serde(flatten)]
    pub(crate) launch: crate::host::Launch,
    /// The most talkative level of the master's log, in lower case.
    #[serde(default)]
    pub(crate) log_level: String,
    /// The stack of each of the module's threads, in bytes. For module hosts.
    #[serde(default)]
    pub(crate) stack_size: usize,
}

/// How well a worker is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Wellness {
    pub(crate) healthy: bool,
    #[serde(default)]
    pub(crate) reason: String,
}

/// A failure as it is written: of other programs no more than the message is expected.
#[derive(Debug, Serialize, Deserialize)]
struct WireFailure {
    #[serde(default = "crash")]
    category: String,
    #[serde(default = "unsaid")]
    message: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    place: Option<String>,
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    permanent: bool,
}

fn crash() -> String {
    ErrorCategory::Crash.as_str().to_owned()
}

fn unsaid() -> String {
    "it did not say why".to_owned()
}

impl From<&Failure> for WireFailure {
    fn from(failure: &Failure) -> Self {
        let Failure { category, message, place, permanent } = failure.clone();
        Self { category: category.as_str().to_owned(), message, place, permanent }
    }
}

impl From<WireFailure> for Failure {
    fn from(wire: WireFailure) -> Self {
        // A word of a later version is no reason to lose the message.
        let word = serde_json::Value::String(wire.category);
        let category = serde_json::from_value(word).unwrap_or(ErrorCategory::Unknown);
        let failure = Self::new(category, wire.message);
        Self { place: wire.place.map(crate::error::cut), permanent: wire.permanent, ..failure }
    }
}

/// Puts a value's line behind what is in `out`. Plain data of ours always has a text.
pub(crate) fn push_line(out: &mut Vec<u8>, value: &impl Serialize) {
    let before = out.len();
    match serde_json::to_writer(&mut *out, value) {
        Ok(()) => out.push(b'\n'),
        Err(error) => {
            out.truncate(before);
            log::error!("a message has no text: {error}");
        }
    }
}

/// Bytes of a call, as text.
pub(crate) mod payload {
    use base64::prelude::{BASE64_STANDARD, Engine as _};

    /// Puts the text of `bytes` behind what is in `out`.
    pub(super) fn push(out: &mut Vec<u8>, bytes: &[u8]) {
        let start = out.len();
        let length = bytes.len().div_ceil(3) * 4;
        out.resize(start + length, 0);
        // The space is exactly what is needed.
        let _ = BASE64_STANDARD.encode_slice(bytes, &mut out[start..]);
    }

    pub(crate) fn text(bytes: &[u8]) -> String {
        BASE64_STANDARD.encode(bytes)
    }

    pub(crate) fn read(text: &str) -> Result<Vec<u8>, String> {
        BASE64_STANDARD.decode(text).map_err(|error| format!("payload_b64: {error}"))
    }
}

#[cfg(test)]
mod tests;
