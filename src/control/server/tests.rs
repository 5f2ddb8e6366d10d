//! What clients leave behind in the master itself: nothing.

use std::io::{BufRead as _, BufReader, Write as _};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::{Duration, Instant};

use crossbeam_channel::bounded;

use crate::control::{Client, LogQuery, SOCKET};
use crate::error::ErrorCategory;
use crate::host::alone;
use crate::host::threads::fail_points::arm;
use crate::master::Master;
use crate::settings::MasterConfig;
use crate::worker::WorkerConfig;

const LONG: Duration = Duration::from_secs(30);
/// Connections, and waits on each: all that one may have open but one.
const CLIENTS: usize = 160;
const WAITS: usize = 63;

/// Waits until something is so that nobody tells.
#[track_caller]
fn until(so: impl Fn() -> bool) {
    let (_silent, nothing) = bounded::<()>(0);
    let end = Instant::now() + LONG;
    while !so() {
        assert!(Instant::now() < end, "it never came to that");
        let _ = nothing.recv_timeout(Duration::from_millis(1));
    }
}

/// A client whose waits the master has taken in.
fn waiting(socket: &Path) -> UnixStream {
    let mut client = UnixStream::connect(socket).unwrap();
    client.set_read_timeout(Some(LONG)).unwrap();
    let mut lines = String::new();
    for id in 0..WAITS {
        lines += &format!(
            "{{\"id\":{id},\"method\":\"wait\",\"params\":\
             {{\"id\":\"nap\",\"for\":\"completed\",\"timeout_ms\":3600000}}}}\n"
        );
    }
    lines += "{\"id\":99,\"method\":\"hello\"}\n";
    client.write_all(lines.as_bytes()).unwrap();
    let mut line = String::new();
    BufReader::new(&client).read_line(&mut line).unwrap();
    assert!(line.contains("\"id\":99"), "{line}");
    client
}

#[test]
fn p10_ten_thousand_waits_leave_nothing_behind_when_their_clients_go_away() {
    let around = tempfile::tempdir().unwrap();
    let state = around.path().join("s");
    let config = MasterConfig::new().state_dir(&state);
    let config = config.worker(WorkerConfig::executable("nap", "/bin/sleep"));
    let master = Master::builder().config(config).build().unwrap();
    let board = master.board();
    // The server itself waits for the end.
    until(|| board.watching() == 1);
    let socket = state.join(SOCKET);
    for _ in 0..CLIENTS / 32 {
        let clients: Vec<_> = (0..32).map(|_| waiting(&socket)).collect();
        assert_eq!(board.watching(), 1 + 32 * WAITS);
        drop(clients);
        until(|| board.watching() == 1);
    }
    master.shutdown().unwrap();
}

/// A master that has run a worker which writes a line, and a client of it.
fn served(around: &Path) -> (Master, Client) {
    let state = around.join("s");
    let config = MasterConfig::new().state_dir(&state).log_dir(around.join("logs"));
    let says =
        WorkerConfig::executable("says", "/bin/sh").args(["-c", "echo one; exec sleep 1000"]);
    let master = Master::builder().config(config.worker(says)).build().unwrap();
    master.start_worker("says").unwrap();
    let client = Client::connect(state.join(SOCKET)).unwrap();
    (master, client)
}

#[test]
fn s17_a_job_whose_thread_panics_is_answered_as_a_fault_of_the_masters() {
    if !alone::here(&[], s17_a_job_whose_thread_panics_is_answered_as_a_fault_of_the_masters) {
        return;
    }
    let around = tempfile::tempdir().unwrap();
    let (master, client) = served(around.path());
    for _ in 0..2 * super::MAX_JOBS {
        arm("control-job");
        let error = client.modules().unwrap_err();
        assert_eq!(error.category(), ErrorCategory::Internal, "{error}");
        assert!(error.message().contains("told to at control-job"), "{error}");
    }
    // On the same connection, and with a place that was not lost.
    client.modules().unwrap();
    master.shutdown().unwrap();
}

#[test]
fn s17_lines_of_a_log_end_with_an_error_when_their_reader_panics() {
    if !alone::here(&[], s17_lines_of_a_log_end_with_an_error_when_their_reader_panics) {
        return;
    }
    let around = tempfile::tempdir().unwrap();
    let (master, client) = served(around.path());
    let query = || LogQuery { ids: vec!["says".to_owned()], lines: 1, ..LogQuery::new() };
    until(|| client.logs(query()).unwrap().count() == 1);
    for _ in 0..super::MAX_LOG_READERS + 1 {
        arm("control-logs");
        let mut lines = client.logs(query()).unwrap();
        let error = lines.next().unwrap().unwrap_err();
        assert_eq!(error.category(), ErrorCategory::Internal, "{error}");
        assert!(error.message().contains("told to at control-logs"), "{error}");
        assert!(lines.next().is_none());
    }
    assert!(client.logs(query()).unwrap().next().unwrap().is_ok());
    master.shutdown().unwrap();
}

#[test]
fn s17_a_call_has_an_outcome_though_the_thread_that_waits_for_it_panics() {
    if !alone::here(&[], s17_a_call_has_an_outcome_though_the_thread_that_waits_for_it_panics) {
        return;
    }
    let around = tempfile::tempdir().unwrap();
    let (master, client) = served(around.path());
    let function = client.function("says", "anything");
    arm("call");
    let error = function.call_bytes_nowait(*b"x").wait().unwrap_err();
    assert_eq!(error.category(), ErrorCategory::Internal, "{error}");
    assert!(error.to_string().starts_with("worker says: an internal fault: "), "{error}");
    let error = function.call_bytes_nowait(*b"x").wait().unwrap_err();
    assert_eq!(error.category(), ErrorCategory::UnknownFunction, "{error}");
    master.shutdown().unwrap();
}
