//! Events per second: through the core alone, and through the whole way from a command to its
//! reply, each beside a channel that only hands the same number of messages on.

mod common;

use std::thread;
use std::time::{Duration, Instant};

use common::{Outcome, Table, alternate, asked_for};
use hsu_master::crossbeam_channel::unbounded;
use hsu_master::{Master, WorkerConfig, bench_support};

const WORKERS: u32 = 1000;
/// How often each worker fails and is started again.
const LIVES: u32 = 50;
const COMMANDS: u32 = 20_000;
/// Turns of each contestant.
const TURNS: usize = 31;

fn main() -> Outcome {
    if !asked_for() {
        return Ok(());
    }
    let mut table = Table::new("1 µs is a million events per second");
    core_alone(&mut table)?;
    command_to_reply(&mut table)?;
    table.print();
    Ok(())
}

/// A thousand workers that fail again and again; raw: the channel that would bring the events.
fn core_alone(table: &mut Table) -> Outcome {
    let mut events = 1;
    let mut ours = || {
        let begun = Instant::now();
        events = bench_support::drive_core(WORKERS, LIVES);
        Ok(begun.elapsed() / events)
    };
    let mut raw = || channel(WORKERS * LIVES);
    let [ours, raw] = alternate(TURNS, [&mut ours, &mut raw])?;
    table.times("core; raw: channel", &ours, &raw, "");
    Ok(())
}

/// Commands that change nothing, all on their way at once; raw: a thread that sends back what it
/// gets.
fn command_to_reply(table: &mut Table) -> Outcome {
    let master = Master::builder().build()?;
    master.add_worker(WorkerConfig::executable("p", "/bin/sleep").args(["1000"]))?;
    master.start_worker("p")?;
    let mut ours = || {
        let begun = Instant::now();
        let tickets: Vec<_> = (0..COMMANDS).map(|_| master.start_worker_nowait("p")).collect();
        for ticket in tickets {
            ticket.wait()?;
        }
        Ok(begun.elapsed() / COMMANDS)
    };
    let mut raw = || echo(COMMANDS);
    let [ours, raw] = alternate(TURNS, [&mut ours, &mut raw])?;
    table.times("command to reply; raw: two channels", &ours, &raw, "");
    Ok(())
}

/// The time per message through one channel to another thread.
fn channel(messages: u32) -> Outcome<Duration> {
    let (sender, receiver) = unbounded();
    thread::scope(|scope| {
        let begun = Instant::now();
        scope.spawn(move || (0..messages).try_for_each(|n| sender.send(n)));
        let received = receiver.iter().count();
        let took = begun.elapsed();
        if received != messages as usize {
            return Err("the channel lost messages".into());
        }
        Ok(took / messages)
    })
}

/// The time per message to another thread and back.
fn echo(messages: u32) -> Outcome<Duration> {
    let (ask, asked) = unbounded();
    let (answer, answers) = unbounded();
    thread::scope(|scope| {
        scope.spawn(move || asked.iter().try_for_each(|n| answer.send(n)));
        let begun = Instant::now();
        for n in 0..messages {
            ask.send(n)?;
        }
        drop(ask);
        let received = answers.iter().count();
        let took = begun.elapsed();
        if received != messages as usize {
            return Err("the channels lost messages".into());
        }
        Ok(took / messages)
    })
}
