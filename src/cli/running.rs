//! What is asked of a running master: finds it, asks, and turns its refusals into exit codes.

use super::args::{Address, Program, Request};
use super::terminal::harmless_lines;
use super::{
    Outcome, call, change, complain, describe, events, explain, find, logs, plan, print,
    print_json, shutdown, status, warn,
};

pub(super) fn ask(program: &Program, address: &Address, request: &Request) -> Outcome {
    let connect = match matches!(request, Request::Plan { .. }) {
        true => find::connect_beside,
        false => find::connect,
    };
    let client = match connect(program, address) {
        Ok(client) => client,
        Err(missing) => {
            if let (Outcome::NoMaster, Request::Logs(arguments)) = (missing.outcome, request)
                && let Ok(find::Place { log_dir: Some(directory), .. }) =
                    find::place(program, address)
                && directory.is_dir()
            {
                return logs::left(&directory, arguments, &missing.error);
            }
            complain(&missing.error);
            return missing.outcome;
        }
    };
    let name = program.name;
    let answered = match request {
        Request::Status(arguments) => status::status(&client, arguments),
        Request::Describe { id, json } => describe::describe(&client, id, *json),
        Request::Explain { id, json } => explain::explain(&client, name, id, *json),
        Request::Change(arguments) => change::change(client, name, arguments),
        Request::Wait { id, condition, timeout, json } => {
            client.wait_for(id, *condition, *timeout).map(|worker| match json {
                true => print_json(&worker),
                false => print(&format!("{id}: {}\n", condition.as_str())),
            })
        }
        Request::Plan { config, json } => plan::plan(&client, config.as_deref(), *json),
        Request::Reload { json } => plan::reload(&client, *json),
        Request::Shutdown { keep, json } => shutdown::shutdown(&client, *keep, *json),
        Request::Logs(arguments) => logs::logs(&client, arguments),
        Request::Events { follow, json } => events::events(&client, *follow, *json),
        Request::Call(arguments) => call::call(&client, arguments),
    };
    answered.unwrap_or_else(|error| {
        // The message may quote what a worker said.
        warn(&format!("error: {}\n", harmless_lines(&error.to_string(), "  ")));
        Outcome::of(&error)
    })
}
