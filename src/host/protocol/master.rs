//! The master's side of the protocol: requests to a worker, and what is heard of it.

use std::borrow::Cow;
use std::fmt::Write as _;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use super::{Hello, Initialize, Wellness, WireFailure, payload, push_line};
use crate::error::Failure;
use crate::module::EndpointInfo;

/// What a master asks a worker for; each request is answered once.
pub(crate) enum Request<'a> {
    Initialize(&'a Initialize),
    Start,
    Stop,
    Health,
    Info,
    Call { function: &'a str, payload: &'a [u8] },
}

impl Request<'_> {
    /// Puts the request's line behind what is in `out`. The answer is expected within `patience`.
    pub(crate) fn write(&self, id: u64, patience: Duration, out: &mut Vec<u8>) {
        #[derive(Serialize)]
        struct Line<'l, P> {
            id: u64,
            method: &'l str,
            deadline_ms: u64,
            #[serde(skip_serializing_if = "Option::is_none")]
            params: Option<P>,
        }
        // Some languages have no larger number.
        let most = i64::MAX.unsigned_abs();
        let deadline_ms = patience.as_nanos().div_ceil(1_000_000);
        let deadline_ms = u64::try_from(deadline_ms).map_or(most, |ms| ms.min(most));
        let mut bare = |method| {
            push_line(out, &Line::<()> { id, method, deadline_ms, params: None });
        };
        match *self {
            Self::Start => bare("start"),
            Self::Stop => bare("stop"),
            Self::Health => bare("health"),
            Self::Info => bare("info"),
            Self::Initialize(initialize) => {
                let (method, params) = ("initialize", Some(initialize));
                push_line(out, &Line { id, method, deadline_ms, params });
            }
            Self::Call { function, payload } => {
                // Written by hand, since it is written a hundred thousand times a second.
                let mut head = String::with_capacity(96 + function.len());
                let _ = write!(head, r#"{{"id":{id},"method":"call","deadline_ms":{deadline_ms}"#);
                head.push_str(r#","params":{"function":"#);
                out.extend_from_slice(head.as_bytes());
                push_line(out, &function);
                out.pop();
                out.extend_from_slice(br#","payload_b64":""#);
                payload::push(out, payload);
                out.extend_from_slice(b"\"}}\n");
            }
        }
    }
}

/// What a worker says: an answer, or an event.
#[derive(Debug)]
pub(crate) enum FromWorker<'a> {
    Answer(u64, Answered<'a>),
    Said(Said),
}

/// The answer to a request; what it holds depends on the request.
#[derive(Debug)]
pub(crate) struct Answered<'a>(Result<Option<&'a RawValue>, Failure>);

/// What a worker says unasked.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Said {
    Hello(Hello),
    Endpoint(EndpointInfo),
    Heartbeat,
    Finished,
    Failed(Failure),
    TaskFailed(Failure),
    /// Something of a later version.
    Unknown,
}

impl<'a> FromWorker<'a> {
    /// Reads one line.
    ///
    /// # Errors
    /// What is wrong with it, as a fragment that fits behind "it said something else: ".
    pub(crate) fn read(line: &'a [u8]) -> Result<Self, String> {
        #[derive(Deserialize)]
        struct Line<'l> {
            id: Option<u64>,
            #[serde(borrow)]
            result: Option<&'l RawValue>,
            error: Option<WireFailure>,
            #[serde(borrow)]
            event: Option<Cow<'l, str>>,
            #[serde(borrow)]
            params: Option<&'l RawValue>,
        }
        let line: Line<'_> = serde_json::from_slice(line).map_err(|error| error.to_string())?;
        match (line.event, line.id) {
            (Some(event), _) => said(&event, line.params).map(FromWorker::Said),
            (None, Some(id)) => {
                let outcome = line.error.map_or(Ok(line.result), |error| Err(error.into()));
                Ok(FromWorker::Answer(id, Answered(outcome)))
            }
            (None, None) => Err("neither an event nor an id".to_owned()),
        }
    }
}

fn said(event: &str, params: Option<&RawValue>) -> Result<Said, String> {
    fn read<'p, T: Deserialize<'p>>(params: Option<&'p RawValue>) -> Result<T, String> {
        let text = params.map_or("{}", RawValue::get);
        serde_json::from_str(text).map_err(|error| format!("params: {error}"))
    }
    let failure = || read::<WireFailure>(params).map(Failure::from);
    Ok(match event {
        "hello" => Said::Hello(read(params)?),
        "endpoint" => Said::Endpoint(read(params)?),
        "heartbeat" => Said::Heartbeat,
        "finished" => Said::Finished,
        "failed" => Said::Failed(failure()?),
        "task_failed" => Said::TaskFailed(failure()?),
        _ => Said::Unknown,
    })
}

impl Answered<'_> {
    /// The answer to a request that is done or not.
    pub(crate) fn done(self) -> Result<(), Failure> {
        self.0.map(drop)
    }

    /// The answer to `health`; an error says that it is not well.
    ///
    /// # Errors
    /// Why it is no such answer.
    pub(crate) fn wellness(self) -> Result<Wellness, String> {
        match self.0 {
            Ok(result) => read(result),
            Err(failure) => Ok(Wellness { healthy: false, reason: failure.to_string() }),
        }
    }

    /// The endpoints in an answer to `info`; an error says that there is none.
    ///
    /// # Errors
    /// Why it is no such answer.
    pub(crate) fn endpoints(self) -> Result<Vec<EndpointInfo>, String> {
        #[derive(Default, Deserialize)]
        struct Info {
            #[serde(default)]
            endpoints: Vec<EndpointInfo>,
        }
        let info = self.0.map_or_else(|_| Ok(Info::default()), read::<Info>)?;
        Ok(info.endpoints)
    }

    /// The answer to `call`.
    ///
    /// # Errors
    /// Why it is no such answer.
    pub(crate) fn reply(self) -> Result<Result<Vec<u8>, Failure>, String> {
        #[derive(Deserialize)]
        struct Reply<'r> {
            #[serde(borrow)]
            payload_b64: Cow<'r, str>,
        }
        match self.0 {
            Ok(result) => payload::read(&read::<Reply<'_>>(result)?.payload_b64).map(Ok),
            Err(failure) => Ok(Err(failure)),
        }
    }
}

fn read<'r, T: Deserialize<'r>>(result: Option<&'r RawValue>) -> Result<T, String> {
    let text = result.map_or("null", RawValue::get);
    serde_json::from_str(text).map_err(|error| format!("result: {error}"))
}
