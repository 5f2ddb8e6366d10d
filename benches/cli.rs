//! What a command costs as a whole process, beside a program that does nothing.

mod common;

use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use common::{Outcome, Table, alternate, asked_for};
use hsu_master::{Master, MasterConfig, WorkerConfig};

/// Turns of each contestant.
const TURNS: usize = 500;
/// With this argument the program ends at once.
const NOTHING: &str = "do-nothing";

fn main() -> Outcome {
    if std::env::args().nth(1).as_deref() == Some(NOTHING) || !asked_for() {
        return Ok(());
    }
    let directory = tempfile::tempdir()?;
    let state = directory.path().join("state");
    let config = MasterConfig::new().name("bench").state_dir(&state);
    let sleeper = WorkerConfig::executable("w", "/bin/sleep").args(["1000"]);
    let master = Master::builder().config(config.worker(sleeper)).build()?;
    master.start_all()?;
    let socket = state.join("control.sock");
    let mut table = Table::new("from spawn to exit");
    status(&mut table, &socket)?;
    table.print();
    master.shutdown()?;
    Ok(())
}

/// `hsu-master status w`, and `status w --json`, beside an empty program.
fn status(table: &mut Table, socket: &PathBuf) -> Outcome {
    let client = env!("CARGO_BIN_EXE_hsu-master");
    let mut people = Command::new(client);
    people.args(["status", "w"]).env("HSU_SOCKET", socket);
    let mut programs = Command::new(client);
    programs.args(["status", "w", "--json"]).env("HSU_SOCKET", socket);
    let mut empty = Command::new(std::env::current_exe()?);
    empty.arg(NOTHING);
    let [people, programs, empty] = alternate(
        TURNS,
        [&mut || whole(&mut people), &mut || whole(&mut programs), &mut || whole(&mut empty)],
    )?;
    let aim = "< 2 ms more";
    table.times("status w; raw: an empty Rust program", &people, &empty, aim);
    table.times("status w --json", &programs, &empty, aim);
    Ok(())
}

/// How long a process takes from its spawn until it is reaped.
fn whole(command: &mut Command) -> Outcome<Duration> {
    command.stdin(Stdio::null()).stdout(Stdio::null());
    let begun = Instant::now();
    let status = command.status()?;
    let took = begun.elapsed();
    if status.success() { Ok(took) } else { Err(format!("it ended with {status}").into()) }
}
