//! What clients leave behind in the master itself: nothing.

use std::io::{BufRead as _, BufReader, Write as _};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::{Duration, Instant};

use crossbeam_channel::bounded;

use crate::control::SOCKET;
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
