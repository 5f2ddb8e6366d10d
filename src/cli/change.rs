//! `start`, `stop`, `restart`: several workers at once, each with a line of its own, and the worst
//! of what came out as the exit code.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use crossbeam_channel::{Receiver, Sender, unbounded};
use serde_json::{Value, json};

use super::args::{Change, Order};
use super::progress::Progress;
use super::terminal::{harmless, harmless_lines};
use super::{Outcome, print, print_json, warn};
use crate::control::{Client, CommandOptions, Ended};
use crate::error::{Error, Result};
use crate::host::threads;
use crate::worker::WorkerState;

/// So many requests are open at once; a master takes 64 on one connection.
const AT_ONCE: usize = 32;
const STACK: usize = 256 << 10;

/// What is asked for, by whichever thread comes first to an id.
struct Work {
    client: Arc<Client>,
    order: Order,
    options: CommandOptions,
    ids: Vec<String>,
    next: AtomicUsize,
}

type Told = (usize, Result<Ended>);

pub(super) fn change(client: Client, program: &str, arguments: &Change) -> Result<Outcome> {
    let client = Arc::new(client);
    let ids = match arguments.ids.is_empty() {
        true => all(&client, arguments.order)?,
        false => arguments.ids.clone(),
    };
    let options = CommandOptions::new()
        .force(arguments.force)
        .timeout(arguments.timeout)
        .wait(arguments.wait)
        .watch(arguments.wait);
    let (order, next) = (arguments.order, AtomicUsize::new(0));
    let work = Arc::new(Work { client: Arc::clone(&client), order, options, ids, next });
    let mut progress = Progress::new(order.doing(), work.ids.len());
    let told = begin(&work);
    let mut results: Vec<Option<Result<Ended>>> = work.ids.iter().map(|_| None).collect();
    let (mut shown, mut objects, mut worst) = (0, Vec::new(), Outcome::Done);
    for (index, result) in told {
        results[index] = Some(result);
        progress.one_more();
        // In the order in which they were named, each as soon as it is its turn.
        while let Some(result) = results.get_mut(shown).and_then(Option::take) {
            let id = &work.ids[shown];
            shown += 1;
            worst = worst.max(result.as_ref().map_or_else(Outcome::of, |_| Outcome::Done));
            if arguments.json {
                objects.push(as_json(id, &result));
                continue;
            }
            progress.hide();
            match result {
                Ok(ended) => {
                    worst = worst.max(print(&format!("{}\n", done(arguments, id, &ended))))
                }
                Err(error) => {
                    let message = harmless_lines(&error.to_string(), "  ");
                    warn(&format!("error: {message}\n{}", why(&client, program, id)));
                }
            }
        }
    }
    progress.hide();
    if arguments.json {
        worst = worst.max(print_json(&objects));
    }
    Ok(worst)
}

/// The workers that an order to all is for. One that is not enabled is started by its name only.
fn all(client: &Client, order: Order) -> Result<Vec<String>> {
    let workers = client.status(&[])?;
    let mut ids = Vec::new();
    for worker in workers {
        let wanted = match order {
            Order::Stop => true,
            Order::Start | Order::Restart => {
                worker.goal == "up" || client.describe(&worker.id)?.config.enabled
            }
        };
        if wanted {
            ids.push(worker.id);
        }
    }
    Ok(ids)
}

/// Asks for everything, in parallel, and returns where the answers come.
fn begin(work: &Arc<Work>) -> Receiver<Told> {
    let (sender, told) = unbounded();
    let count = work.ids.len().min(AT_ONCE);
    let another = || {
        let (work, sender) = (Arc::clone(work), sender.clone());
        threads::spawn("order", STACK, move || ask(&work, &sender)).is_ok()
    };
    // For a single worker nobody prints meanwhile, so that no thread is needed.
    let asking = if count > 1 { (0..count).take_while(|_| another()).count() } else { 0 };
    if asking == 0 {
        ask(work, &sender);
    }
    told
}

fn ask(work: &Work, sender: &Sender<Told>) {
    loop {
        let index = work.next.fetch_add(1, Ordering::Relaxed);
        let Some(id) = work.ids.get(index) else { return };
        let asked = threads::ours("order", || {
            threads::fail_point("order");
            match work.order {
                Order::Start => work.client.start(id, work.options.clone()),
                Order::Stop => work.client.stop(id, work.options.clone()),
                Order::Restart => work.client.restart(id, work.options.clone()),
            }
        });
        // One that is not answered would hide those that come after it.
        let result = asked.unwrap_or_else(|fault| Err(Error::of_failure(id, &fault)));
        if sender.send((index, result)).is_err() {
            return;
        }
    }
}

fn done(arguments: &Change, id: &str, ended: &Ended) -> String {
    let order = arguments.order.as_str();
    match (arguments.wait, ended.incarnation, ended.state) {
        (false, ..) => format!("{id}: {order} is under way"),
        (true, Some(incarnation), Some(WorkerState::Running)) => {
            format!("{id}: running, incarnation {incarnation}")
        }
        (true, _, Some(state)) => format!("{id}: {state}"),
        (true, _, None) => format!("{id}: done"),
    }
}

fn as_json(id: &str, result: &Result<Ended>) -> Value {
    let ended = result.as_ref().ok();
    let error = result.as_ref().err();
    json!({
        "id": id,
        "ok": ended.is_some(),
        "incarnation": ended.and_then(|ended| ended.incarnation),
        "state": ended.and_then(|ended| ended.state),
        "error": error.map(|error| {
            json!({ "category": error.category(), "message": error.message() })
        }),
    })
}

/// The last lines of a worker that failed, and where to read on.
fn why(client: &Client, program: &str, id: &str) -> String {
    let Ok(known) = client.describe(id) else { return String::new() };
    let lines = known.last_output.iter().map(|line| format!("  | {}\n", harmless(line)));
    let hint = format!("  for more: {program} explain {id}\n");
    lines.chain([hint]).collect()
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use super::*;
    use crate::control::SOCKET;
    use crate::error::ErrorCategory;
    use crate::host::alone;
    use crate::host::threads::fail_points::arm;
    use crate::master::Master;
    use crate::settings::MasterConfig;
    use crate::worker::WorkerConfig;

    #[test]
    fn s17_an_order_whose_thread_panics_has_an_outcome_and_so_have_all_others() {
        if !alone::here(&[], s17_an_order_whose_thread_panics_has_an_outcome_and_so_have_all_others)
        {
            return;
        }
        let around = tempfile::tempdir().unwrap();
        let state = around.path().join("s");
        let mut config = MasterConfig::new().state_dir(&state);
        let ids: Vec<_> = (0..AT_ONCE + 8).map(|number| format!("w{number}")).collect();
        for id in &ids {
            config = config.worker(WorkerConfig::executable(id, "/bin/sleep"));
        }
        let master = Master::builder().config(config).build().unwrap();
        let client = Arc::new(Client::connect(state.join(SOCKET)).unwrap());
        let (options, next) = (CommandOptions::new(), AtomicUsize::new(0));
        let work = Arc::new(Work { client, order: Order::Stop, options, ids, next });
        arm("order");
        let (mut failed, mut answered) = (Vec::new(), 0);
        for (_, result) in begin(&work) {
            answered += 1;
            failed.extend(result.err());
        }
        assert_eq!(answered, work.ids.len());
        let [error] = &failed[..] else { panic!("{failed:?}") };
        assert_eq!(error.category(), ErrorCategory::Internal, "{error}");
        assert!(error.worker().is_some(), "{error}");
        master.shutdown().unwrap();
    }
}
