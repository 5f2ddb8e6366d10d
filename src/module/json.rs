//! Requests and replies of function calls as JSON; what does not fit is named by its field.

use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::error::{Error, ErrorCategory, Result};

/// A request as its caller sends it.
pub(crate) fn write_request(request: &impl Serialize) -> Result<Vec<u8>> {
    serde_json::to_vec(request).map_err(|error| {
        let message = format!("the request cannot be written as JSON: {error}");
        Error::new(ErrorCategory::Refused, message)
    })
}

/// A request as the function wants it; no bytes at all read as `null`.
pub(super) fn read_request<Req: DeserializeOwned>(payload: &[u8]) -> Result<Req> {
    let payload = if payload.is_empty() { b"null" } else { payload };
    read(payload, "payload").map_err(|message| Error::new(ErrorCategory::Refused, message))
}

/// A reply as its caller wants it. The function has run, so this is no refusal.
pub(crate) fn read_reply<Resp: DeserializeOwned>(reply: &[u8]) -> Result<Resp> {
    read(reply, "reply").map_err(|message| Error::new(ErrorCategory::Unknown, message))
}

fn read<T: DeserializeOwned>(bytes: &[u8], what: &str) -> std::result::Result<T, String> {
    let mut json = serde_json::Deserializer::from_slice(bytes);
    let value = serde_path_to_error::deserialize(&mut json).map_err(|error| {
        let field = match error.path().to_string() {
            path if path == "." => what.to_owned(),
            path if path.starts_with('[') => format!("{what}{path}"),
            path => format!("{what}.{path}"),
        };
        format!("{field}: {}", error.into_inner())
    })?;
    json.end().map_err(|error| format!("{what}: {error}"))?;
    Ok(value)
}
