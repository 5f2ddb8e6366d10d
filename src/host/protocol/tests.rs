//! Both sides of the protocol understand each other, and whatever else comes is an error.

use std::time::Duration;

use serde_json::{Value, json};

use super::frames::Frames;
use super::*;
use crate::host::Launch;
use crate::module::{EndpointInfo, ModuleInfo};

fn line(write: impl FnOnce(&mut Vec<u8>)) -> Vec<u8> {
    let mut line = Vec::new();
    write(&mut line);
    assert_eq!(line.pop(), Some(b'\n'));
    assert!(!line.contains(&b'\n'));
    line
}

fn initialize() -> Initialize {
    let launch = Launch {
        worker: "w".into(),
        incarnation: 3,
        module: crate::host::ModuleSource::Native("m".into()),
        config: json!({"a": [1, "\n"]}),
    };
    Initialize { launch, log_level: "debug".into(), stack_size: 7 }
}

#[test]
fn requests_are_written_as_the_contract_says_and_read_back() {
    let initialize = initialize();
    let call = Request::Call { function: "up\"per", payload: b"\0\xffhello" };
    let cases = [
        (
            Request::Initialize(&initialize),
            json!({"id": 9, "method": "initialize", "deadline_ms": 1500, "params": {
                "worker": "w", "incarnation": 3, "module": "m", "config": {"a": [1, "\n"]},
                "log_level": "debug", "stack_size": 7}}),
        ),
        (Request::Start, json!({"id": 9, "method": "start", "deadline_ms": 1500})),
        (Request::Stop, json!({"id": 9, "method": "stop", "deadline_ms": 1500})),
        (Request::Health, json!({"id": 9, "method": "health", "deadline_ms": 1500})),
        (Request::Info, json!({"id": 9, "method": "info", "deadline_ms": 1500})),
        (
            call,
            json!({"id": 9, "method": "call", "deadline_ms": 1500, "params": {
                "function": "up\"per", "payload_b64": "AP9oZWxsbw=="}}),
        ),
    ];
    for (request, expected) in cases {
        let text = line(|out| request.write(9, Duration::from_millis(1500), out));
        assert_eq!(serde_json::from_slice::<Value>(&text).unwrap(), expected);
        let read = FromMaster::read(&text).unwrap();
        assert_eq!((read.id, read.deadline_ms), (9, Some(1500)));
        match (request, read.method) {
            (Request::Initialize(sent), Method::Initialize(read)) => assert_eq!(*sent, *read),
            (Request::Call { function, payload }, Method::Call(asked)) => {
                assert_eq!((&*asked.function, asked.payload()), (function, Ok(payload.to_vec())));
            }
            (Request::Start, Method::Start)
            | (Request::Stop, Method::Stop)
            | (Request::Health, Method::Health)
            | (Request::Info, Method::Info) => {}
            (_, read) => panic!("read as {read:?}"),
        }
    }
    let unending = line(|out| Request::Start.write(1, Duration::MAX, out));
    let most = i64::MAX.unsigned_abs();
    assert_eq!(FromMaster::read(&unending).unwrap().deadline_ms, Some(most));
}

#[test]
fn answers_and_events_are_read_as_they_were_meant() {
    let failure = Failure::new(ErrorCategory::Panic, "panicked in start: x");
    let failure = Failure { place: Some("a.rs:1:2".into()), permanent: true, ..failure };
    let hello =
        Hello { protocol: VERSION, build: BUILD.into(), name: "n".into(), version: "1".into() };
    let endpoint = EndpointInfo::http("api", "127.0.0.1:80");
    let events = [
        (Reply::Hello(&hello), Said::Hello(hello.clone())),
        (Reply::Endpoint(&endpoint), Said::Endpoint(endpoint.clone())),
        (Reply::Finished, Said::Finished),
        (Reply::Failed(&failure), Said::Failed(failure.clone())),
        (Reply::TaskFailed(&failure), Said::TaskFailed(failure.clone())),
    ];
    for (reply, said) in events {
        let text = line(|out| reply.write(out));
        let FromWorker::Said(read) = FromWorker::read(&text).unwrap() else { panic!("an answer") };
        assert_eq!(read, said);
    }
    let answer = |reply: Reply<'_>| line(|out| reply.write(out));
    let read = |text: &'static [u8]| match FromWorker::read(text).unwrap() {
        FromWorker::Answer(id, answer) => {
            assert_eq!(id, 5);
            answer
        }
        FromWorker::Said(said) => panic!("{said:?}"),
    };
    let read_line = |text: Vec<u8>| read(text.leak());
    assert_eq!(read_line(answer(Reply::Done(5))).done(), Ok(()));
    assert_eq!(read_line(answer(Reply::Refused(5, &failure))).done(), Err(failure.clone()));
    let wellness = Wellness { healthy: false, reason: "tired".into() };
    assert_eq!(read_line(answer(Reply::Health(5, &wellness))).wellness(), Ok(wellness));
    let info = ModuleInfo::new("m", "1").endpoint(endpoint.clone());
    assert_eq!(read_line(answer(Reply::Info(5, &info))).endpoints(), Ok(vec![endpoint]));
    for bytes in [&b""[..], b"a", b"ab", b"abc", &[0, 255, 10]] {
        assert_eq!(read_line(answer(Reply::Called(5, bytes))).reply(), Ok(Ok(bytes.to_vec())));
    }
    assert_eq!(read_line(answer(Reply::Refused(5, &failure))).reply(), Ok(Err(failure)));
    assert_eq!(read(br#"{"id":5}"#).done(), Ok(()), "an answer may have nothing to say");
    assert_eq!(read(br#"{"id":5,"error":{}}"#).endpoints(), Ok(vec![]));
    assert_eq!(read(br#"{"id":5,"result":{}}"#).endpoints(), Ok(vec![]));
}

#[test]
fn other_programs_may_say_less_and_more() {
    let said = |text: &str| match FromWorker::read(text.as_bytes()).unwrap() {
        FromWorker::Said(said) => said,
        FromWorker::Answer(..) => panic!("an answer"),
    };
    let hello = r#"{"event":"hello","params":{"protocol":[1,7],"more":true},"x":[{}]}"#;
    assert!(matches!(said(hello), Said::Hello(Hello { protocol: [1, 7], .. })));
    let failed = |text| {
        let said = said(text);
        let Said::Failed(failure) = said else { panic!("{said:?}") };
        (failure.category, failure.message)
    };
    let unsaid = (ErrorCategory::Crash, "it did not say why".to_owned());
    assert_eq!(failed(r#"{"event":"failed"}"#), unsaid);
    let later = r#"{"event":"failed","params":{"category":"sunburn","message":"hot"}}"#;
    assert_eq!(failed(later), (ErrorCategory::Unknown, "hot".to_owned()));
    assert_eq!(said(r#"{"event":"dances"}"#), Said::Unknown);
    let method = FromMaster::read(br#"{"id":1,"method":"dance","params":{}}"#).unwrap().method;
    assert!(matches!(method, Method::Unknown(name) if name == "dance"));
}

#[test]
fn what_is_no_message_is_an_error_that_says_why() {
    for text in ["", "x", "[]", "1", "{}", r#"{"id":"a"}"#, r#"{"id":-1}"#, "{\"event\":\"hello\"}"]
    {
        assert!(FromWorker::read(text.as_bytes()).is_err(), "{text}");
        assert!(FromMaster::read(text.as_bytes()).is_err(), "{text}");
    }
    let (id, why) = FromMaster::read(br#"{"id":4,"method":"call","params":{}}"#).unwrap_err();
    assert_eq!(id, Some(4));
    assert!(why.contains("function"), "{why}");
    let bad = FromMaster::read(
        br#"{"id":4,"method":"call","params":{"function":"f","payload_b64":"?"}}"#,
    );
    let Method::Call(asked) = bad.unwrap().method else { panic!("no call") };
    assert!(asked.payload().unwrap_err().starts_with("payload_b64: "));
    assert!(FromWorker::read(b"\xff\xfe").is_err());
}

/// A seeded fuzzer: mutated and cut messages, and noise, in both directions. Nothing may panic, and
/// the room that is kept stays bounded.
#[test]
fn a_million_garbled_lines_hurt_nobody() {
    let hello = r#"{"event":"hello","params":{"protocol":[1,0],"build":"b"}}"#;
    let seeds: Vec<Vec<u8>> = [
        hello.to_owned(),
        r#"{"id":1,"result":{"payload_b64":"aGVsbG8="}}"#.to_owned(),
        r#"{"id":1,"error":{"category":"panic","message":"m","place":"p"}}"#.to_owned(),
        r#"{"id":2,"method":"call","deadline_ms":5,"params":{"function":"f","payload_b64":""}}"#
            .to_owned(),
        r#"{"event":"endpoint","params":{"name":"a","type":"http","address":"x"}}"#.to_owned(),
        String::from_utf8(line(|out| {
            Request::Initialize(&initialize()).write(1, Duration::ZERO, out);
        }))
        .unwrap(),
    ]
    .map(String::into_bytes)
    .to_vec();
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    let mut random = move |below: usize| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        usize::try_from(state % below as u64).unwrap()
    };
    let mut frames = Frames::default();
    let (mut read, mut understood) = (0_u32, 0_u32);
    for round in 0..1_000_000 {
        let mut bytes = seeds[random(seeds.len())].clone();
        for _ in 0..random(4) {
            let at = random(bytes.len());
            match random(5) {
                0 => bytes[at] = u8::try_from(random(256)).unwrap(),
                1 => bytes.truncate(at.max(1)),
                2 => bytes.insert(at, b"{}[]\",:\\0\n"[random(10)]),
                3 => drop(bytes.remove(at)),
                _ => bytes.extend_from_within(at..),
            }
            if bytes.is_empty() {
                bytes.push(b' ');
            }
        }
        frames.push(&bytes);
        if round % 3 > 0 {
            frames.push(b"\n");
        }
        while let Some(line) = frames.next().unwrap() {
            read += 1;
            if let Ok(FromWorker::Answer(_, answer)) = FromWorker::read(line) {
                let _ = answer.reply();
                understood += 1;
            }
            if let Ok(FromMaster { method: Method::Call(asked), .. }) = FromMaster::read(line) {
                let _ = asked.payload();
                understood += 1;
            }
        }
    }
    assert!(read > 500_000 && understood > 10_000, "{read} {understood}");
}
