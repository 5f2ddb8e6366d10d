//! Processes that speak the worker protocol, well and badly. They are shell scripts, whose standard
//! input is the socket: `read` hears, `>&0` speaks.

use super::*;
use crate::host::threads::fail_points::{arm, is_armed};
use crate::host::{RemoteFunctions, Reply};
use crate::module::{EndpointInfo, EndpointType};

const HELLO: &str = r#"echo '{"event":"hello","params":{"protocol":[1,0]}}' >&0"#;
/// Reads a request into `$line` and its id into `$id`.
const HEAR: &str = r#"hear() { read -r line || exit 75; id=${line#*'"id":'}; id=${id%%,*}; }"#;
/// Answers the last request.
const TELL: &str = r#"tell() { echo "{\"id\":$id,$1}" >&0; }; ok() { tell '"result":{}'; }"#;

fn linked(script: &str) -> ProcessPlan {
    let link = LinkPlan {
        module: ModuleSource::Native(String::new()),
        hosted: false,
        config: serde_json::json!({ "port": 80 }),
        stack_size: 0,
        start_timeout: PATIENCE,
        probe_timeout: PATIENCE,
    };
    let script = format!("{HEAR}\n{TELL}\n{script}");
    ProcessPlan { link: Some(link.into()), ..shell(&script) }
}

/// Says hello and answers `initialize`, `start` and `info`, then does as `script` says.
fn up(script: &str) -> Watched {
    let mut watched =
        Watched::launch(linked(&format!("{HELLO}\nhear; ok; hear; ok; hear; ok\n{script}")));
    assert_eq!(watched.report(), Report::Launched);
    watched.host.order(&Order::Start);
    assert!(matches!(watched.report(), Report::Started { pid: Some(_) }));
    watched
}

fn failure(report: Report) -> String {
    let Report::Failed(failure) = report else { panic!("not failed: {report:?}") };
    failure.message
}

fn called(
    watched: &Watched,
    function: &str,
    within: Duration,
) -> Receiver<Result<Vec<u8>, Failure>> {
    let (tell, told) = unbounded();
    let reply: Reply = Box::new(move |result| tell.send(result).unwrap());
    let link = watched.host.link.as_ref().unwrap();
    link.call(function, b"hello", std::time::Instant::now().checked_add(within), reply);
    told
}

#[test]
fn a_whole_life_is_spoken() {
    let told = r#"{"event":"endpoint","params":{"name":"a","type":"http","address":"x:1"}}"#;
    let info = r#""result":{"name":"n","version":"1","description":"","author":"","endpoints":[
        {"name":"a","type":"http","address":"x:9"},{"name":"b","type":"tcp","address":"x:2"}]}"#;
    let info = info.replace('\n', " ");
    let mut watched = Watched::launch(linked(&format!(
        r#"{HELLO}
        hear; echo "$line"; ok
        hear; echo "$line"; echo '{told}' >&0; ok
        hear; echo "$line"; tell '{info}'
        hear; echo "$line"; tell '"result":{{"healthy":false,"reason":"tired"}}'
        hear; tell '"error":{{"message":"no health"}}'
        hear; echo "$line"; ok"#
    )));
    assert_eq!(watched.report(), Report::Launched);
    watched.host.order(&Order::Start);
    let endpoint =
        |name: &str, kind, address: &str| Report::Endpoint(EndpointInfo::new(name, kind, address));
    assert_eq!(watched.report(), endpoint("a", EndpointType::Http, "x:1"));
    assert_eq!(watched.report(), endpoint("b", EndpointType::Tcp, "x:2"));
    assert!(matches!(watched.report(), Report::Started { pid: Some(_) }));
    watched.host.order(&Order::Probe { probe: 7 });
    let tired = Report::Probed { probe: 7, healthy: false, reason: "tired".into() };
    assert_eq!(watched.report(), tired);
    watched.host.order(&Order::Probe { probe: 8 });
    let none = Report::Probed { probe: 8, healthy: false, reason: "no health".into() };
    assert_eq!(watched.report(), none);
    watched.host.order(&ASK);
    assert_eq!(watched.gone(), Exit::Code(0));
    watched.silent();
    let heard: Vec<serde_json::Value> =
        watched.out().lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let methods: Vec<_> = heard.iter().map(|request| request["method"].as_str().unwrap()).collect();
    assert_eq!(methods, ["initialize", "start", "info", "health", "stop"]);
    let params = &heard[0]["params"];
    assert_eq!((&params["worker"], &params["incarnation"]), (&"api".into(), &3.into()));
    assert_eq!(params["config"], serde_json::json!({ "port": 80 }));
    assert_eq!(heard[4]["deadline_ms"], 30_000);
    watched.nothing_more();
}

#[test]
fn who_breaks_the_protocol_has_failed_and_is_not_heard_any_more() {
    let long = "exec 3>&0; head -c 1100000 /dev/zero | tr '\\0' x >&3";
    let cases = [
        ("echo nonsense >&0", "broke the worker protocol: expected"),
        (r#"echo '{"id":1,"result":{}}' >&0; echo '{"event":"finished"}' >&0"#, "hello first"),
        (long, "a line is longer than 1024 KiB"),
        (&format!("{HELLO}; {HELLO}"), "it said hello twice"),
        (r#"echo '{"event":"hello","params":{"protocol":"1"}}' >&0"#, "params: "),
        (r#"echo '{"event":"hello","params":{"protocol":[2,1]}}' >&0"#, "speaks version 2.1"),
    ];
    for (script, wanted) in cases {
        // It ignores being asked, and says more that must not be heard.
        let more = r#"echo '{"event":"failed"}' >&0 2>/dev/null; sleep 60 & wait; wait"#;
        let mut watched = Watched::launch(linked(&format!("trap '' TERM\n{script}\n{more}")));
        let told = failure(watched.report());
        assert!(told.contains(wanted), "{told}");
        watched.host.order(&ASK);
        watched.host.order(&FORCE);
        let exit = watched.gone();
        assert!(matches!(exit, Exit::Signal { signal: 9, .. }), "{script}: {exit}");
        watched.nothing_more();
    }
}

#[test]
fn a_silent_process_is_ended_by_signals() {
    for (order, signal) in [(ASK, 15), (FORCE, 9)] {
        let mut watched = Watched::launch(linked("echo here; read -r line"));
        watched.said("here");
        watched.host.order(&order);
        assert_eq!(watched.gone(), Exit::Signal { signal, core_dumped: false });
        watched.nothing_more();
    }
    // Half a line says no more than none.
    let mut watched = Watched::launch(linked("printf '{\"event\"' >&0; echo here; read -r line"));
    watched.said("here");
    watched.host.order(&FORCE);
    assert_eq!(watched.gone(), Exit::Signal { signal: 9, core_dumped: false });
}

#[test]
fn a_process_that_ends_without_a_word_is_told_to_have_spoken_none() {
    let mut watched = Watched::launch(linked("exit 3"));
    let Exit::Failed(failure) = watched.gone() else { panic!("no failure") };
    let told = failure.message;
    assert!(told.starts_with("ended before it spoke the worker protocol: exit 3;"), "{told}");
    let hosted = LinkPlan { hosted: true, ..*linked("").link.unwrap() };
    let plan = ProcessPlan { link: Some(hosted.into()), ..shell("exit 2") };
    let mut watched = Watched::launch(plan);
    let Exit::Failed(failure) = watched.gone() else { panic!("no failure") };
    assert!(failure.message.contains("host_if_requested"), "{failure}");
}

#[test]
fn a_module_host_of_another_build_is_refused() {
    let hello =
        r#"echo '{"event":"hello","params":{"protocol":[1,0],"build":"old"}}' >&0; read -r x"#;
    let link = LinkPlan { hosted: true, ..*linked("").link.unwrap() };
    let mut watched = Watched::launch(ProcessPlan { link: Some(link.into()), ..shell(hello) });
    let Report::Failed(failure) = watched.report() else { panic!("no failure") };
    assert!(failure.permanent && failure.message.contains("its build is \"old\""), "{failure}");
    watched.host.order(&ASK);
    watched.gone();
}

#[test]
fn refused_steps_are_failures_with_what_was_said() {
    let refuse =
        r#"hear; tell '"error":{"category":"configuration","message":"no port","permanent":true}'"#;
    let mut watched = Watched::launch(linked(&format!("{HELLO}; {refuse}; hear; ok")));
    let Report::Failed(failure) = watched.report() else { panic!("no failure") };
    let expected = Failure::new(ErrorCategory::Configuration, "no port").permanent();
    assert_eq!(failure, expected);
    watched.host.order(&ASK);
    assert_eq!(watched.gone(), Exit::Code(0));

    let mut watched = up(r#"hear; tell '"error":{"message":"cannot flush"}'; exit 0"#);
    watched.host.order(&ASK);
    let warned = Exit::Failed(Failure::new(ErrorCategory::Crash, "cannot flush"));
    assert_eq!(watched.gone(), warned);
}

#[test]
fn last_words_are_heard_before_the_end() {
    for _ in 0..50 {
        let words = r#"{"category":"panic","message":"boom","place":"a.rs:1:1"}"#;
        let words = format!("echo '{{\"event\":\"failed\",\"params\":{words}}}' >&0; exit 101");
        let mut watched = up(&words);
        let Report::Failed(failure) = watched.report() else { panic!("no failure") };
        assert_eq!(failure.to_string(), "boom at a.rs:1:1");
        assert_eq!(watched.gone(), Exit::Code(101));
        watched.nothing_more();
    }
}

#[test]
fn a_process_that_hangs_up_and_lives_on_has_failed() {
    let mut watched = up("exec </dev/null; sleep 60");
    let call = called(&watched, "f", PATIENCE);
    let told = call.recv_timeout(PATIENCE).unwrap().unwrap_err();
    assert_eq!(told.category, ErrorCategory::NotRunning);
    let told = failure(watched.report());
    assert!(told.contains("closed the line to its master and did not end"), "{told}");
    watched.host.order(&ASK);
    assert_eq!(watched.gone(), Exit::Signal { signal: 15, core_dumped: false });
    watched.nothing_more();
}

#[test]
fn calls_are_answered_in_any_order_or_late_or_never() {
    let script = r#"
        hear; first=$id; hear; second=$id
        echo "{\"id\":77,\"result\":{}}" >&0
        echo "{\"id\":$second,\"result\":{\"payload_b64\":\"c2Vjb25k\"}}" >&0
        echo "{\"id\":$first,\"error\":{\"category\":\"panic\",\"message\":\"oops\"}}" >&0
        hear; late=$id; hear
        echo "{\"id\":$late,\"result\":{\"payload_b64\":\"\"}}" >&0
        ok; exit 0"#;
    let mut watched = up(script);
    let (first, second) = (called(&watched, "f", PATIENCE), called(&watched, "g", PATIENCE));
    assert_eq!(second.recv_timeout(PATIENCE).unwrap().unwrap(), b"second");
    let oops = first.recv_timeout(PATIENCE).unwrap().unwrap_err();
    assert_eq!((oops.category, oops.message.as_str()), (ErrorCategory::Panic, "oops"));
    assert_eq!(watched.host.link.as_ref().unwrap().panics(), 1);
    let late = called(&watched, "h", Duration::from_millis(30));
    let told = late.recv_timeout(PATIENCE).unwrap().unwrap_err();
    assert_eq!(told.category, ErrorCategory::Timeout);
    watched.host.order(&ASK);
    assert_eq!(watched.gone(), Exit::Code(0));
    let gone = called(&watched, "f", PATIENCE).recv_timeout(PATIENCE).unwrap().unwrap_err();
    assert_eq!(gone.category, ErrorCategory::NotRunning);
    watched.nothing_more();
}

#[test]
fn who_gives_nonsense_as_an_answer_has_failed() {
    let mut watched = up(r#"hear; tell '"result":{"payload_b64":"?"}'; hear"#);
    let call = called(&watched, "f", PATIENCE);
    let told = call.recv_timeout(PATIENCE).unwrap().unwrap_err();
    assert!(told.message.contains("payload_b64"), "{told}");
    assert!(failure(watched.report()).starts_with("broke the worker protocol: payload_b64"));
    watched.host.order(&ASK);
    watched.gone();
}

#[test]
fn what_a_process_does_not_read_waits_and_harms_nobody() {
    let fifos = Fifos::new();
    // It reads nothing before it is let go, then everything up to its stop.
    let script = "read -r go <$A; grep -am1 '\"stop\"' >/dev/null";
    let plan = linked(&format!("{HELLO}\nhear; ok; hear; ok; hear; ok\n{script}"));
    let mut scripted = scripted("", &fifos);
    scripted.args = plan.args.clone();
    let mut watched = Watched::launch(ProcessPlan { link: plan.link, ..scripted });
    assert_eq!(watched.report(), Report::Launched);
    watched.host.order(&Order::Start);
    assert!(matches!(watched.report(), Report::Started { .. }));
    let link = Arc::clone(watched.host.link.as_ref().unwrap());
    let payload = vec![0; 300 << 10];
    let (tell, told) = unbounded();
    for _ in 0..200 {
        let tell = tell.clone();
        link.call("f", &payload, None, Box::new(move |result| drop(tell.send(result))));
    }
    // Those for which there was no more room are refused at once; nobody has waited.
    let refused = told.recv_timeout(PATIENCE).unwrap().unwrap_err();
    assert_eq!(refused.category, ErrorCategory::Refused);
    watched.host.order(&ASK);
    fifos.release();
    assert_eq!(watched.gone(), Exit::Code(0));
    assert_eq!(told.iter().take(199).filter(|result| result.is_ok()).count(), 0);
}

#[test]
fn two_siblings_do_not_hold_each_others_lines() {
    let script = "ls -l /proc/self/fd | grep -c socket; read -r line";
    let mut first = Watched::launch(linked(script));
    let mut second = Watched::launch(linked(script));
    assert_eq!((first.said("1"), second.said("1")), ("1".to_owned(), "1".to_owned()));
    for watched in [&mut first, &mut second] {
        watched.host.order(&FORCE);
        watched.gone();
    }
}

#[test]
fn s17_what_a_worker_said_is_heard_though_who_heard_it_panicked() {
    if !alone::here(&[], s17_what_a_worker_said_is_heard_though_who_heard_it_panicked) {
        return;
    }
    // Of the first line nothing is left in the socket then.
    arm("line");
    let mut watched = up("hear; ok");
    assert!(!is_armed("line"));
    watched.host.order(&ASK);
    assert_eq!(watched.gone(), Exit::Code(0));
    watched.nothing_more();
}
