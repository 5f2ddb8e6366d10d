//! The worker's side of the protocol: answers and events for the master, and what it asks for.

use std::borrow::Cow;

use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use super::{Hello, Initialize, Wellness, WireFailure, payload, push_line};
use crate::error::Failure;
use crate::module::{EndpointInfo, ModuleInfo};

/// A request, as its worker reads it.
#[derive(Debug)]
pub(crate) struct FromMaster<'a> {
    pub(crate) id: u64,
    /// The answer is expected within so many milliseconds.
    pub(crate) deadline_ms: Option<u64>,
    pub(crate) method: Method<'a>,
}

/// What is asked for.
#[derive(Debug)]
pub(crate) enum Method<'a> {
    Initialize(Box<Initialize>),
    Start,
    Stop,
    Health,
    Info,
    Call(Asked<'a>),
    /// Something of a later version.
    Unknown(Cow<'a, str>),
}

/// A call that is asked for.
#[derive(Debug, Deserialize)]
pub(crate) struct Asked<'a> {
    #[serde(borrow)]
    pub(crate) function: Cow<'a, str>,
    #[serde(borrow, default)]
    payload_b64: Cow<'a, str>,
}

impl Asked<'_> {
    /// # Errors
    /// The payload is no base64.
    pub(crate) fn payload(&self) -> Result<Vec<u8>, String> {
        payload::read(&self.payload_b64)
    }
}

impl<'a> FromMaster<'a> {
    /// Reads one line.
    ///
    /// # Errors
    /// What is wrong with it; with the request's id, if that is known, so that it can be answered.
    pub(crate) fn read(line: &'a [u8]) -> Result<Self, (Option<u64>, String)> {
        #[derive(Deserialize)]
        struct Line<'l> {
            id: u64,
            #[serde(borrow)]
            method: Cow<'l, str>,
            deadline_ms: Option<u64>,
            #[serde(borrow)]
            params: Option<&'l RawValue>,
        }
        let line: Line<'_> =
            serde_json::from_slice(line).map_err(|error| (None, error.to_string()))?;
        let params = line.params.map_or("{}", RawValue::get);
        let wrong = |error: serde_json::Error| (Some(line.id), format!("params: {error}"));
        let method = match &*line.method {
            "initialize" => {
                Method::Initialize(Box::new(serde_json::from_str(params).map_err(wrong)?))
            }
            "start" => Method::Start,
            "stop" => Method::Stop,
            "health" => Method::Health,
            "info" => Method::Info,
            "call" => Method::Call(serde_json::from_str(params).map_err(wrong)?),
            _ => Method::Unknown(line.method),
        };
        Ok(Self { id: line.id, deadline_ms: line.deadline_ms, method })
    }
}

/// What a worker tells its master.
pub(crate) enum Reply<'a> {
    Hello(&'a Hello),
    Done(u64),
    Refused(u64, &'a Failure),
    Health(u64, &'a Wellness),
    Info(u64, &'a ModuleInfo),
    Called(u64, &'a [u8]),
    Endpoint(&'a EndpointInfo),
    Finished,
    Failed(&'a Failure),
    TaskFailed(&'a Failure),
}

impl Reply<'_> {
    /// Puts the line behind what is in `out`.
    pub(crate) fn write(&self, out: &mut Vec<u8>) {
        #[derive(Serialize)]
        struct Event<'e, P> {
            event: &'e str,
            params: P,
        }
        #[derive(Serialize)]
        struct Answer<R> {
            id: u64,
            result: R,
        }
        #[derive(Serialize)]
        struct Refusal {
            id: u64,
            error: WireFailure,
        }
        #[derive(Serialize)]
        struct Nothing {}
        match *self {
            Self::Hello(params) => push_line(out, &Event { event: "hello", params }),
            Self::Endpoint(params) => push_line(out, &Event { event: "endpoint", params }),
            Self::Finished => push_line(out, &Event { event: "finished", params: Nothing {} }),
            Self::Failed(failure) => {
                push_line(out, &Event { event: "failed", params: WireFailure::from(failure) });
            }
            Self::TaskFailed(failure) => {
                push_line(out, &Event { event: "task_failed", params: WireFailure::from(failure) });
            }
            Self::Done(id) => push_line(out, &Answer { id, result: Nothing {} }),
            Self::Refused(id, failure) => {
                push_line(out, &Refusal { id, error: WireFailure::from(failure) });
            }
            Self::Health(id, result) => push_line(out, &Answer { id, result }),
            Self::Info(id, result) => push_line(out, &Answer { id, result }),
            Self::Called(id, bytes) => {
                let head = format!(r#"{{"id":{id},"result":{{"payload_b64":""#);
                out.extend_from_slice(head.as_bytes());
                payload::push(out, bytes);
                out.extend_from_slice(b"\"}}\n");
            }
        }
    }
}
