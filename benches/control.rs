//! What operating a master costs: status over its socket, beside a bare round trip of the same
//! bytes over a Unix socket to a thread that only writes them.

mod common;

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::os::unix::net::UnixStream;
use std::time::{Duration, Instant};

use common::{Outcome, Table, alternate, asked_for};
use hsu_master::control::Client;
use hsu_master::{Master, MasterConfig, WorkerConfig};

/// Turns of each contestant, and requests in each turn.
const TURNS: usize = 200;
const REQUESTS: u32 = 500;
/// The same where one request is single, so that the p99 is that of requests.
const SINGLE: usize = 2_000;
/// Workers of the crowded master.
const CROWD: usize = 1_000;

fn main() -> Outcome {
    if !asked_for() {
        return Ok(());
    }
    let directory = std::env::temp_dir().join(format!("hsu-bench-{}", std::process::id()));
    std::fs::create_dir_all(&directory)?;
    let mut table = Table::new("control socket");
    let outcome = alone(&mut table, &directory.join("one"))
        .and_then(|()| crowded(&mut table, &directory.join("crowd")));
    std::fs::remove_dir_all(&directory)?;
    outcome?;
    table.print();
    Ok(())
}

/// A connection on which lines go to and fro.
struct Lines {
    socket: UnixStream,
    reader: BufReader<UnixStream>,
    line: Vec<u8>,
}

impl Lines {
    fn new(socket: UnixStream) -> Outcome<Self> {
        let reader = BufReader::with_capacity(64 << 10, socket.try_clone()?);
        Ok(Self { socket, reader, line: Vec::new() })
    }

    /// One question and its answer.
    fn ask(&mut self, question: &[u8]) -> Outcome<&[u8]> {
        self.line.clear();
        self.socket.write_all(question)?;
        self.reader.read_until(b'\n', &mut self.line)?;
        Ok(&self.line)
    }
}

/// A thread that answers each question of this length with the same line.
fn echo(question: usize, answer: Vec<u8>) -> Outcome<Lines> {
    let (ours, mut theirs) = UnixStream::pair()?;
    std::thread::Builder::new().name("echo".into()).spawn(move || {
        let mut bytes = vec![0; question];
        while theirs.read_exact(&mut bytes).is_ok() && theirs.write_all(&answer).is_ok() {}
    })?;
    Lines::new(ours)
}

/// How long one of many took, on average.
fn each(mut work: impl FnMut() -> Outcome) -> Outcome<Duration> {
    let begun = Instant::now();
    for _ in 0..REQUESTS {
        work()?;
    }
    Ok(begun.elapsed() / REQUESTS)
}

fn master(directory: &std::path::Path, workers: usize) -> Outcome<Master> {
    let mut config = MasterConfig::new().state_dir(directory);
    for n in 0..workers {
        config =
            config.worker(WorkerConfig::executable(format!("w-{n}"), "/bin/sleep").args(["9999"]));
    }
    Ok(Master::builder().config(config).build()?)
}

/// One worker, one connection.
fn alone(table: &mut Table, directory: &std::path::Path) -> Outcome {
    let master = master(directory, 1)?;
    master.start_all()?;
    let socket = directory.join("control.sock");
    let client = Client::connect(&socket)?;
    let mut lines = Lines::new(UnixStream::connect(&socket)?)?;
    let question: &[u8] = b"{\"id\":1,\"method\":\"status\",\"params\":{\"ids\":[\"w-0\"]}}\n";
    let answer = lines.ask(question)?.to_vec();
    let size = answer.len();
    let mut bare = echo(question.len(), answer)?;
    let mut ours = || each(|| lines.ask(question).map(drop));
    let mut raw = || each(|| bare.ask(question).map(drop));
    let mut whole = || each(|| Ok(client.status(&["w-0"]).map(drop)?));
    let [ours, raw, whole] = alternate(TURNS, [&mut ours, &mut raw, &mut whole])?;
    let rate = |samples: &common::Samples| 1.0 / samples.median().as_secs_f64();
    let what = format!("status of one worker, {size} bytes: {:.0}/s", rate(&ours));
    table.times(&what, &ours, &raw, "1.5 times");
    let what = format!("the same through `Client`: {:.0}/s", rate(&whole));
    table.times(&what, &whole, &raw, "none");
    master.shutdown()?;
    Ok(())
}

/// Many workers, one connection, every request on its own.
fn crowded(table: &mut Table, directory: &std::path::Path) -> Outcome {
    let master = master(directory, CROWD)?;
    let socket = directory.join("control.sock");
    let client = Client::connect(&socket)?;
    let mut lines = Lines::new(UnixStream::connect(&socket)?)?;
    let question: &[u8] = b"{\"id\":1,\"method\":\"status\",\"params\":{\"ids\":[\"w-500\"]}}\n";
    let answer = lines.ask(question)?.to_vec();
    let mut bare = echo(question.len(), answer)?;
    let mut one = || {
        let begun = Instant::now();
        lines.ask(question)?;
        Ok(begun.elapsed())
    };
    let mut raw = || {
        let begun = Instant::now();
        bare.ask(question)?;
        Ok(begun.elapsed())
    };
    let [one, raw] = alternate(SINGLE, [&mut one, &mut raw])?;
    table.times(&format!("status of one of {CROWD} workers"), &one, &raw, "none");
    let mut lines = Lines::new(UnixStream::connect(&socket)?)?;
    let all: &[u8] = b"{\"id\":1,\"method\":\"status\"}\n";
    let page = lines.ask(all)?.to_vec();
    let size = page.len();
    let mut bare = echo(all.len(), page)?;
    let mut ours = || {
        let begun = Instant::now();
        lines.ask(all)?;
        Ok(begun.elapsed())
    };
    let mut raw = || {
        let begun = Instant::now();
        bare.ask(all)?;
        Ok(begun.elapsed())
    };
    let mut whole = || {
        let begun = Instant::now();
        client.status(&[])?;
        Ok(begun.elapsed())
    };
    let [ours, raw, whole] = alternate(TURNS, [&mut ours, &mut raw, &mut whole])?;
    table.times(&format!("a page of the status of all, {} KiB", size >> 10), &ours, &raw, "none");
    table.times(&format!("status of all {CROWD} through `Client`"), &whole, &raw, "none");
    master.shutdown()?;
    Ok(())
}
