//! `call`: a function of a worker, with bytes from the command line or standard input, and bytes
//! out.

use std::io::{IsTerminal as _, Read as _};

use serde_json::{Value, json};

use super::args::Call;
use super::terminal::harmless_bytes;
use super::{Outcome, Stream};
use crate::control::Client;
use crate::error::{Error, Result};
use crate::host::protocol::payload;

/// More than any function takes: it is refused with the master's own words.
const MAX_INPUT: u64 = (512 << 10) + 1;

pub(super) fn call(client: &Client, arguments: &Call) -> Result<Outcome> {
    let payload = match arguments.payload.as_deref() {
        Some("-") => {
            let mut bytes = Vec::new();
            let read = std::io::stdin().lock().take(MAX_INPUT).read_to_end(&mut bytes);
            read.map_err(|error| Error::io("cannot read standard input", error))?;
            bytes
        }
        Some(text) => text.as_bytes().to_vec(),
        None => Vec::new(),
    };
    let mut function = client.function(&arguments.id, &arguments.function);
    if let Some(timeout) = arguments.timeout {
        function = function.timeout(timeout);
    }
    let reply = function.call_bytes(&payload)?;
    let mut out = Stream::new(false);
    let written = if arguments.json {
        out.line(as_json(&reply).to_string().as_bytes())
    } else if std::io::stdout().is_terminal() {
        let text = reply.split(|byte| *byte == b'\n').map(harmless_bytes);
        out.line(text.collect::<Vec<_>>().join("\n").as_bytes())
    } else {
        out.bytes(&reply)
    };
    Ok(written.err().unwrap_or_else(|| out.end()))
}

fn as_json(reply: &[u8]) -> Value {
    match std::str::from_utf8(reply) {
        Ok(text) => json!({ "payload": text }),
        Err(_) => json!({ "payload_b64": payload::text(reply) }),
    }
}
