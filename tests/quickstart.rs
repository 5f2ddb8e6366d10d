//! The quickstart as a person lives it: the real program, real requests, a panic, a kill, an end.
#![expect(clippy::unwrap_used, reason = "a helper's failure is the test's")]

mod support;

use std::net::TcpListener;

use serde_json::Value;

use support::{Program, request, signal};

/// Three addresses that nobody else uses just now.
fn free_addresses() -> [String; 3] {
    let listeners = [(); 3].map(|()| TcpListener::bind("127.0.0.1:0").unwrap());
    listeners.map(|listener| listener.local_addr().unwrap().to_string())
}

fn start(addresses: &[String; 3], arguments: &[&str]) -> Program {
    let port = |address: &String| address.rsplit(':').next().unwrap().to_owned();
    let environment: Vec<_> =
        ["PORT_1", "PORT_2", "PORT_3"].into_iter().zip(addresses.iter().map(port)).collect();
    Program::start("quickstart", arguments, &environment)
}

fn stats(address: &str) -> Value {
    request(address, "GET", "/stats", "").json()
}

#[test]
fn a_crash_of_one_is_nothing_to_the_others_in_either_deployment() {
    let addresses = free_addresses();
    let [process, first, second] = &addresses;
    let mut quickstart = start(&addresses, &[]);
    quickstart.wait_for_lines(1, "What happens from here on");
    quickstart.wait_for_lines(1, "data-processor-1 | listening at");

    for address in &addresses {
        assert_eq!(request(address, "POST", "/process", "hello").body, "HELLO");
    }
    // What it proposes to try leads to where they listen.
    quickstart.wait_for_lines(1, &format!("curl -d hello http://{process}/process"));
    quickstart.wait_for_lines(1, &format!("curl -d hello http://{first}/process"));
    let (of_process, of_first) = (stats(process), stats(first));
    assert_eq!(of_process["worker"], "data-processor-1");
    assert_eq!(of_first["worker"], "data-processor-2");
    assert_eq!(of_first["pid"], quickstart.pid());
    assert_eq!(stats(second)["pid"], quickstart.pid());
    assert_ne!(of_process["pid"], quickstart.pid());
    assert_eq!((&of_first["batch_size"], &of_first["mode"]), (&1000.into(), &"production".into()));
    let of_second = stats(second);
    let configured = (&of_second["batch_size"], &of_second["mode"]);
    assert_eq!(configured, (&500.into(), &"development".into()));

    assert_eq!(request(first, "POST", "/crash", "").status(), 202);
    quickstart.wait_for_lines(1, "data-processor-2 #1  running -> failed");
    quickstart.wait_for_lines(1, "data-processor-2 #2  starting -> running");
    let renewed = stats(first);
    assert_eq!((&renewed["processed"], &renewed["pid"]), (&0.into(), &of_first["pid"]));
    assert_eq!(stats(second)["processed"], 1);
    assert_eq!(stats(process), of_process);

    let killed = u32::try_from(of_process["pid"].as_u64().unwrap()).unwrap();
    assert!(signal(killed, "KILL"));
    quickstart.wait_for_lines(1, "data-processor-1 #1  running -> failed    signal SIGKILL (9)");
    quickstart.wait_for_lines(1, "data-processor-1 #2  starting -> running");
    quickstart.wait_for_lines(2, "data-processor-1 | listening at");
    let renewed = stats(process);
    let pid = u32::try_from(renewed["pid"].as_u64().unwrap()).unwrap();
    assert_ne!(pid, killed);
    assert_eq!((renewed["processed"].as_u64(), &stats(second)["processed"]), (Some(0), &1.into()));

    assert!(signal(quickstart.pid(), "TERM"));
    let (code, output) = quickstart.end();
    assert_eq!(code, Some(0), "{output}");
    assert!(output.contains("All workers are stopped."), "{output}");
    assert!(!output.contains('\x1b'), "{output}");
    assert!(!signal(pid, "0"), "the process is left behind");
    for address in &addresses {
        TcpListener::bind(address).unwrap();
    }
}

#[test]
fn it_ends_by_itself_when_told_how_long_to_run() {
    let quickstart = start(&free_addresses(), &["--run-duration", "100ms"]);
    let (code, output) = quickstart.end();
    assert_eq!(code, Some(0), "{output}");
    assert!(output.contains("the run duration is over"), "{output}");
    for worker in ["data-processor-1", "data-processor-2", "data-processor-3"] {
        assert!(output.contains(&format!("{worker} #1  stopping -> stopped")), "{output}");
    }
}

#[test]
fn a_taken_port_is_told_before_anything_is_started() {
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let mut addresses = free_addresses();
    addresses[2] = taken.local_addr().unwrap().to_string();
    let (code, output) = start(&addresses, &[]).end();
    assert_eq!(code, Some(1), "{output}");
    let told =
        format!("data-processor-3 cannot listen at {}: Address already in use", addresses[2]);
    assert!(output.starts_with(&told), "{output}");
    assert!(output.contains("PORT_3"), "{output}");
    let (code, output) = start(&addresses, &["--run-duration", "soon"]).end();
    assert_eq!(code, Some(2), "{output}");
}
