//! The control protocol without a socket: what is read, what is written, and that nothing else is
//! ever more than an error.

use std::time::Duration;

use serde_json::{Value, json};

use super::*;

fn read(line: &str) -> Method {
    Request::read(line.as_bytes()).map(|request| request.method).unwrap()
}

/// What a client writes, as the server reads it.
fn passed_on(method: &str, params: &impl Serialize) -> Method {
    let mut line = Vec::new();
    push_request(&mut line, 9, method, params);
    let request = Request::read(&line).unwrap();
    assert_eq!(request.id, 9);
    request.method
}

#[test]
fn what_a_client_writes_is_what_the_server_reads() {
    let nothing = Nothing {};
    assert_eq!(passed_on("hello", &nothing), Method::Hello);
    assert_eq!(passed_on("modules", &nothing), Method::Modules);
    assert_eq!(passed_on("reload", &nothing), Method::Reload);
    let status = || Status { ids: vec!["a".into()], after: Some("b".into()), usage: true };
    assert_eq!(passed_on("status", &status()), Method::Status(status()));
    assert_eq!(
        passed_on("describe", &Describe { id: "a".into() }),
        Method::Describe(Describe { id: "a".into() })
    );
    let command =
        || Command { id: "a".into(), force: true, timeout_ms: Some(7), wait: false, watch: true };
    assert_eq!(passed_on("start", &command()), Method::Start(command()));
    assert_eq!(passed_on("stop", &command()), Method::Stop(command()));
    assert_eq!(passed_on("restart", &command()), Method::Restart(command()));
    let wait = || Wait { id: "a".into(), condition: WaitFor::Healthy, timeout_ms: None };
    assert_eq!(passed_on("wait", &wait()), Method::Wait(wait()));
    let call = || Call {
        worker: "a".into(),
        function: "f".into(),
        payload_b64: "eA==".into(),
        timeout_ms: Some(1),
    };
    assert_eq!(passed_on("call", &call()), Method::Call(call()));
    let plan = || Plan { config: Some("/x".into()) };
    assert_eq!(passed_on("plan", &plan()), Method::Plan(plan()));
    assert_eq!(
        passed_on("shutdown", &Shutdown { keep: true }),
        Method::Shutdown(Shutdown { keep: true })
    );
    let events = || Events { follow: true, last: 3 };
    assert_eq!(passed_on("events", &events()), Method::Events(events()));
    let logs =
        || Logs { ids: vec!["a".into()], lines: 1, follow: true, stdout: false, stderr: true };
    assert_eq!(passed_on("logs", &logs()), Method::Logs(logs()));
}

#[test]
fn what_is_not_said_is_what_most_would_want() {
    for name in METHODS {
        let outcome = Request::read(format!(r#"{{"id":0,"method":"{name}"}}"#).as_bytes());
        match outcome {
            Ok(_) => {}
            // Nobody can guess whom it is about.
            Err(misread) => assert!(misread.error.to_string().contains("missing field"), "{name}"),
        }
    }
    let command =
        |wait| Command { id: "a".into(), force: false, timeout_ms: None, wait, watch: false };
    let line = r#"{"id":1,"method":"start","params":{"id":"a"}}"#;
    assert_eq!(read(line), Method::Start(command(true)));
    assert_eq!(
        read(r#"{"method":"events","id":1}"#),
        Method::Events(Events { follow: false, last: 100 })
    );
    assert_eq!(read(r#"{"method":"logs","id":1,"params":null}"#), Method::Logs(Logs::default()));
}

#[test]
fn frames_of_other_versions_are_understood() {
    // A later client says more than is known here.
    let later = r#"{"v":9,"id":18446744073709551615,"method":"status","trace":[1],
        "params":{"ids":["a"],"fields":["pid"],"deep":{"er":{}}}}"#;
    let later = later.replace('\n', " ");
    assert_eq!(read(&later), Method::Status(Status { ids: vec!["a".into()], ..Status::default() }));
    let unknown = Request::read(br#"{"id":3,"method":"hibernate","params":{}}"#).unwrap_err();
    assert_eq!((unknown.id, unknown.hopeless), (Some(3), false));
    let told = unknown.error.to_string();
    assert!(METHODS.iter().all(|known| told.contains(known)), "{told}");
    // A later master says more, and in words that are not known here.
    let line =
        br#"{"id":1,"error":{"category":"tired","message":"m","worker":"w","more":1},"x":2}"#;
    let Said::Error(error) = FromMaster::read(line).unwrap().said else { panic!("an error") };
    assert_eq!((error.category(), error.worker()), (ErrorCategory::Unknown, Some("w")));
    let Said::Result(text) = FromMaster::read(br#"{"id":1,"result":null}"#).unwrap().said else {
        panic!("a result")
    };
    assert_eq!(text.get(), "null");
}

#[test]
fn what_changes_something_is_understood_in_full_or_not_at_all() {
    for (method, params, known) in [
        ("start", r#"{"id":"a","forced":true}"#, "`watch`"),
        ("stop", r#"{"id":"a","now":1}"#, "`force`"),
        ("restart", r#"{"id":"a","timeout":1}"#, "`timeout_ms`"),
        ("call", r#"{"worker":"a","function":"f","payload":"x"}"#, "`payload_b64`"),
        ("shutdown", r#"{"keeps":true}"#, "`keep`"),
        ("reload", r#"{"config":"x.yaml"}"#, "no fields"),
    ] {
        let line = format!(r#"{{"id":1,"more":2,"method":"{method}","params":{params}}}"#);
        let misread = Request::read(line.as_bytes()).unwrap_err();
        assert_eq!((misread.id, misread.hopeless), (Some(1), false));
        assert_eq!(misread.error.category(), ErrorCategory::Configuration);
        let told = misread.error.to_string();
        assert!(told.contains("unknown field") && told.contains(known), "{method}: {told}");
    }
}

#[test]
fn errors_arrive_as_they_were() {
    let problem = Problem::unplaced("workers[0].id", "is empty");
    for error in [
        Error::new(ErrorCategory::Stuck, "it does not end").of_worker("w"),
        Error::rejected(vec![problem]),
        Error::configuration("no").of_worker("\u{1}"),
    ] {
        let mut line = Vec::new();
        push_error(&mut line, Some(4), &error);
        let read = FromMaster::read(&line).unwrap();
        assert_eq!(read.id, Some(4));
        let Said::Error(told) = read.said else { panic!("an error") };
        assert_eq!(format!("{told:?}"), format!("{error:?}"));
        assert_eq!(told.problems(), error.problems());
        assert_eq!(told.permanent(), error.permanent());
    }
}

#[test]
fn an_answer_too_long_for_a_line_is_an_error() {
    let mut out = b"before\n".to_vec();
    push_result(&mut out, 5, &"x".repeat(MAX_FRAME));
    let line = out.strip_prefix(b"before\n").unwrap();
    let answer: Value = serde_json::from_slice(line).unwrap();
    assert_eq!((&answer["id"], &answer["error"]["category"]), (&json!(5), &json!("refused")));
}

/// A number that looks random and is the same in every run.
fn dice(state: &mut u64, below: usize) -> usize {
    *state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
    usize::try_from(*state >> 33).unwrap() % below
}

#[test]
fn a_million_lines_are_read_or_refused() {
    let good = [
        r#"{"id":1,"method":"status","params":{"ids":["a","b"],"after":"c"}}"#,
        r#"{"id":2,"method":"start","params":{"id":"a","force":true,"timeout_ms":5,"wait":false}}"#,
        r#"{"id":3,"method":"wait","params":{"id":"a","for":"running"}}"#,
        r#"{"id":4,"method":"call","params":{"worker":"a","function":"f","payload_b64":"AAAA"}}"#,
        r#"{"id":5,"method":"logs","params":{"lines":3,"follow":true}}"#,
    ];
    let pieces: [&[u8]; 12] =
        [b"{", b"}", b"[", b"]", b"\"", b":", b",", b"null", b"-1e999", b"\\u0000", b"\xff", b"id"];
    let mut state = 5;
    let mut understood = 0;
    for _ in 0..1_000_000 {
        let mut line = good[dice(&mut state, good.len())].as_bytes().to_vec();
        for _ in 0..dice(&mut state, 3) {
            let at = dice(&mut state, line.len());
            match dice(&mut state, 4) {
                0 => line[at] = u8::try_from(dice(&mut state, 256)).unwrap(),
                1 => line.truncate(at + 1),
                2 => drop(line.remove(at)),
                _ => {
                    let piece = pieces[dice(&mut state, pieces.len())];
                    line.splice(at..at, piece.iter().copied());
                }
            }
            if line.is_empty() {
                line.push(b'x');
            }
        }
        match Request::read(&line) {
            Ok(_) => understood += 1,
            Err(misread) => assert!(!misread.hopeless || misread.id.is_none()),
        }
        // A client must not be hurt by what a master says either.
        let _ = FromMaster::read(&line);
    }
    assert!((300_000..700_000).contains(&understood), "{understood}");
}

#[test]
fn times_of_any_age_have_a_text() {
    use crate::control::report::PastReport;
    use crate::worker::WorkerState;

    let epoch = std::time::UNIX_EPOCH;
    let past = |at| PastReport {
        at,
        from: WorkerState::Running,
        to: WorkerState::Failed,
        cause: "crash".to_owned(),
        incarnation: 1,
        message: None,
        exit: None,
    };
    let written = |at| serde_json::to_value(past(at)).unwrap()["at"].clone();
    assert_eq!(written(epoch + Duration::from_millis(1_500)), "1970-01-01T00:00:01.500Z");
    assert_eq!(written(epoch - Duration::from_secs(9)), "1970-01-01T00:00:00.000Z");
    let far = Duration::from_secs(1 << 40);
    assert_eq!(written(epoch + far), "9999-12-31T23:59:59.000Z");
    let read: PastReport =
        serde_json::from_value(serde_json::to_value(past(epoch)).unwrap()).unwrap();
    assert_eq!(read, past(epoch));
}

#[test]
fn lines_of_logs_pass_whatever_is_in_them() {
    for bytes in [b"a\nb \"c\"\n".to_vec(), (0..=255).collect(), Vec::new()] {
        let mut line = Vec::new();
        push_event(&mut line, 3, &LogText::new("w", &bytes, true));
        let Said::Event(event) = FromMaster::read(&line).unwrap().said else { panic!("an event") };
        let text: LogText<'_> = serde_json::from_str(event.get()).unwrap();
        assert!(text.notice);
        assert_eq!(text.into_parts().unwrap(), ("w".to_owned(), bytes));
    }
}
