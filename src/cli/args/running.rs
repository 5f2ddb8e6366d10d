//! The commands about a running master: their arguments as plain data.

use std::path::PathBuf;
use std::time::Duration;

use clap::builder::ValueParser;
use clap::{Arg, ArgAction, ArgMatches, Command, value_parser};

use super::{config_argument, duration, json_argument};
use crate::units::MAX_DURATION;
use crate::worker::WaitFor;

/// Where the master is, as far as it was said.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(in crate::cli) struct Address {
    /// `--socket`
    pub(in crate::cli) socket: Option<PathBuf>,
    /// `-c`
    pub(in crate::cli) config: Option<PathBuf>,
}

/// What is asked of a running master.
#[derive(Debug, PartialEq, Eq)]
pub(in crate::cli) enum Request {
    Status(Status),
    Describe { id: String, json: bool },
    Explain { id: String, json: bool },
    Change(Change),
    Wait { id: String, condition: WaitFor, timeout: Duration, json: bool },
    Plan { config: Option<PathBuf>, json: bool },
    Reload { json: bool },
    Shutdown { keep: bool, json: bool },
    Logs(Logs),
    Events { follow: bool, json: bool },
    Call(Call),
}

/// `status`
#[derive(Debug, PartialEq, Eq)]
pub(in crate::cli) struct Status {
    pub(in crate::cli) ids: Vec<String>,
    pub(in crate::cli) json: bool,
    pub(in crate::cli) watch: bool,
}

/// What a worker can be told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::cli) enum Order {
    Start,
    Stop,
    Restart,
}

impl Order {
    /// The command's name.
    pub(in crate::cli) fn as_str(self) -> &'static str {
        match self {
            Self::Start => "start",
            Self::Stop => "stop",
            Self::Restart => "restart",
        }
    }

    /// What goes on meanwhile.
    pub(in crate::cli) fn doing(self) -> &'static str {
        match self {
            Self::Start => "starting",
            Self::Stop => "stopping",
            Self::Restart => "restarting",
        }
    }

    fn about(self) -> &'static str {
        match self {
            Self::Start => "Start workers, and tell when they run",
            Self::Stop => "Stop workers, and tell when they are gone",
            Self::Restart => "Stop workers and start them anew",
        }
    }

    fn forced(self) -> &'static str {
        match self {
            Self::Start => "Also past unmet dependencies",
            Self::Stop => "Kill now",
            Self::Restart => "Kill now, then start, also past a thread that does not end",
        }
    }
}

/// `start`, `stop`, `restart`
#[derive(Debug, PartialEq, Eq)]
pub(in crate::cli) struct Change {
    pub(in crate::cli) order: Order,
    /// Empty: all.
    pub(in crate::cli) ids: Vec<String>,
    pub(in crate::cli) force: bool,
    pub(in crate::cli) timeout: Option<Duration>,
    pub(in crate::cli) wait: bool,
    pub(in crate::cli) json: bool,
}

/// `logs`
#[derive(Debug, PartialEq, Eq)]
pub(in crate::cli) struct Logs {
    pub(in crate::cli) ids: Vec<String>,
    pub(in crate::cli) lines: usize,
    pub(in crate::cli) follow: bool,
    pub(in crate::cli) stdout: bool,
    pub(in crate::cli) stderr: bool,
    pub(in crate::cli) json: bool,
}

/// `call`
#[derive(Debug, PartialEq, Eq)]
pub(in crate::cli) struct Call {
    pub(in crate::cli) id: String,
    pub(in crate::cli) function: String,
    /// `-`: standard input.
    pub(in crate::cli) payload: Option<String>,
    pub(in crate::cli) timeout: Option<Duration>,
    pub(in crate::cli) json: bool,
}

/// The definitions, in the order of the help.
pub(super) fn commands() -> Vec<Command> {
    let all = [
        status(),
        with_id("describe", "Tell everything that is known about a worker").arg(json_argument()),
        with_id("explain", "Say why a worker is in its state, and what to do").arg(json_argument()),
        change(Order::Start),
        change(Order::Stop),
        change(Order::Restart),
        wait(),
        Command::new("plan")
            .about("Say what a reload would do, and why; nothing is changed")
            .arg(json_argument()),
        Command::new("reload")
            .about("Read the configuration again, and change what differs")
            .arg(json_argument()),
        Command::new("shutdown")
            .about("Stop all workers and end the master")
            .arg(flag("keep", "Let workers with `on_master_exit: keep` live on"))
            .arg(json_argument()),
        logs(),
        Command::new("events")
            .about("What happened to the workers")
            .arg(flag("follow", "Go on with what happens").short('f'))
            .arg(json_argument()),
        call(),
    ];
    all.into_iter().map(addressed).collect()
}

/// A command with what says where the master is.
pub(super) fn addressed(command: Command) -> Command {
    let socket = Arg::new("socket")
        .long("socket")
        .value_name("PATH")
        .value_parser(value_parser!(PathBuf))
        .help("The master's control socket [default: $HSU_SOCKET, else by the configuration]");
    command.arg(config_argument()).arg(socket)
}

fn flag(name: &'static str, help: &'static str) -> Arg {
    Arg::new(name).long(name).action(ArgAction::SetTrue).help(help)
}

fn ids() -> Arg {
    Arg::new("id").value_name("ID").action(ArgAction::Append).help("The workers [default: all]")
}

fn with_id(name: &'static str, about: &'static str) -> Command {
    let id = Arg::new("id").value_name("ID").required(true).help("The worker");
    Command::new(name).about(about).arg(id)
}

fn timeout_argument() -> Arg {
    Arg::new("timeout")
        .long("timeout")
        .value_name("TIME")
        .value_parser(ValueParser::new(duration))
        .help("Give up waiting after this time, such as 30s")
}

fn status() -> Command {
    Command::new("status")
        .about("What the workers are doing")
        .arg(ids())
        .arg(json_argument())
        .arg(flag("watch", "Go on showing it, until ctrl-c").short('w'))
}

fn change(order: Order) -> Command {
    Command::new(order.as_str())
        .about(order.about())
        .arg(ids().required_unless_present("all").help("The workers"))
        .arg(flag("all", "All workers").conflicts_with("id"))
        .arg(flag("force", order.forced()))
        .arg(timeout_argument())
        .arg(flag("no-wait", "Do not wait for the outcome").conflicts_with("timeout"))
        .arg(json_argument())
}

fn wait() -> Command {
    let condition = Arg::new("for")
        .long("for")
        .value_name("CONDITION")
        .required(true)
        .value_parser(ValueParser::new(condition))
        .help("running, healthy, stopped or completed");
    with_id("wait", "Wait until a worker is as it should be")
        .arg(condition)
        .arg(timeout_argument())
        .arg(json_argument())
}

fn logs() -> Command {
    Command::new("logs")
        .about("What the workers have written")
        .arg(ids())
        .arg(
            Arg::new("lines")
                .short('n')
                .long("lines")
                .value_name("N")
                .value_parser(value_parser!(u32))
                .default_value("50")
                .help("So many last lines of each"),
        )
        .arg(flag("follow", "Go on with what they write").short('f'))
        .arg(flag("stdout", "Their standard output only").conflicts_with("stderr"))
        .arg(flag("stderr", "Their standard error only"))
        .arg(json_argument())
}

fn call() -> Command {
    with_id("call", "Call a function of a worker, wherever it runs")
        .arg(Arg::new("function").value_name("FUNCTION").required(true).help("Its name"))
        .arg(
            Arg::new("payload")
                .value_name("PAYLOAD")
                .help("What it is given; `-`: standard input [default: nothing]"),
        )
        .arg(timeout_argument())
        .arg(json_argument())
}

/// Reads what [`commands`] has matched.
pub(super) fn request(name: &str, matches: &ArgMatches) -> Option<(Address, Request)> {
    let text = |name: &str| matches.get_one::<String>(name).cloned().unwrap_or_default();
    let all =
        |name: &str| matches.get_many::<String>(name).into_iter().flatten().cloned().collect();
    let json = || matches.get_flag("json");
    let follow = || matches.get_flag("follow");
    let ordered = |order| {
        Request::Change(Change {
            order,
            ids: all("id"),
            force: matches.get_flag("force"),
            timeout: matches.get_one("timeout").copied(),
            wait: !matches.get_flag("no-wait"),
            json: json(),
        })
    };
    let request = match name {
        "status" => {
            let watch = matches.get_flag("watch");
            Request::Status(Status { ids: all("id"), json: json(), watch })
        }
        "describe" => Request::Describe { id: text("id"), json: json() },
        "explain" => Request::Explain { id: text("id"), json: json() },
        "start" => ordered(Order::Start),
        "stop" => ordered(Order::Stop),
        "restart" => ordered(Order::Restart),
        "wait" => Request::Wait {
            id: text("id"),
            condition: matches.get_one("for").copied().unwrap_or(WaitFor::Running),
            timeout: matches.get_one("timeout").copied().unwrap_or(MAX_DURATION),
            json: json(),
        },
        "plan" => Request::Plan { config: matches.get_one("config").cloned(), json: json() },
        "reload" => Request::Reload { json: json() },
        "shutdown" => Request::Shutdown { keep: matches.get_flag("keep"), json: json() },
        "logs" => {
            let lines = matches.get_one("lines").map_or(0, |lines: &u32| *lines as usize);
            let (stdout, stderr) = (matches.get_flag("stdout"), matches.get_flag("stderr"));
            let (ids, follow, json) = (all("id"), follow(), json());
            Request::Logs(Logs { ids, lines, follow, stdout, stderr, json })
        }
        "events" => Request::Events { follow: follow(), json: json() },
        "call" => Request::Call(Call {
            id: text("id"),
            function: text("function"),
            payload: matches.get_one("payload").cloned(),
            timeout: matches.get_one("timeout").copied(),
            json: json(),
        }),
        _ => return None,
    };
    Some((address(matches), request))
}

/// Where the master is said to be.
pub(super) fn address(matches: &ArgMatches) -> Address {
    Address {
        socket: matches.get_one("socket").cloned(),
        config: matches.get_one("config").cloned(),
    }
}

fn condition(text: &str) -> Result<WaitFor, String> {
    let known = [WaitFor::Running, WaitFor::Healthy, WaitFor::Stopped, WaitFor::Completed];
    let found = known.into_iter().find(|condition| condition.as_str() == text);
    found.ok_or_else(|| "is none of running, healthy, stopped, completed".to_owned())
}

#[cfg(test)]
mod tests {
    use super::super::{Program, Verb, parse};
    use super::*;

    fn asked(line: &str) -> (Address, Request) {
        let words = std::iter::once("x").chain(line.split(' '));
        match parse(words, &Program::default()) {
            Ok(Verb::Running(address, request)) => (address, request),
            other => panic!("{line}: {other:?}"),
        }
    }

    fn refused(line: &str) -> String {
        let words = std::iter::once("x").chain(line.split(' '));
        parse(words, &Program::default()).unwrap_err().to_string()
    }

    #[test]
    fn where_the_master_is_can_be_said_with_every_command() {
        for line in [
            "status",
            "describe a",
            "explain a",
            "start a",
            "stop --all",
            "restart a b",
            "wait a --for running",
            "plan",
            "reload",
            "shutdown",
            "logs",
            "events",
            "call a f",
        ] {
            let (address, _) = asked(&format!("{line} --socket s.sock -c c.yaml"));
            let expected = Address { socket: Some("s.sock".into()), config: Some("c.yaml".into()) };
            assert_eq!(address, expected, "{line}");
            assert_eq!(asked(line).0, Address::default(), "{line}");
        }
    }

    #[test]
    fn orders_are_for_some_or_for_all() {
        let (_, request) = asked("restart a b --force --timeout 5s");
        let expected = Change {
            order: Order::Restart,
            ids: vec!["a".into(), "b".into()],
            force: true,
            timeout: Some(Duration::from_secs(5)),
            wait: true,
            json: false,
        };
        assert_eq!(request, Request::Change(expected));
        let Request::Change(all) = asked("stop --all --no-wait --json").1 else { panic!() };
        assert!(all.ids.is_empty() && !all.wait && all.json && !all.force);
        for line in
            ["start", "stop --all a", "start a --no-wait --timeout 1s", "stop a --timeout 1"]
        {
            refused(line);
        }
    }

    #[test]
    fn conditions_and_counts_are_checked() {
        let (_, request) = asked("wait a --for completed");
        assert!(matches!(request, Request::Wait { condition: WaitFor::Completed, .. }));
        assert!(refused("wait a --for happy").contains("running, healthy, stopped, completed"));
        assert!(refused("wait a").contains("--for"));
        let Request::Logs(logs) = asked("logs a -n 3 -f --stderr").1 else { panic!() };
        assert_eq!((logs.lines, logs.follow, logs.stderr, logs.stdout), (3, true, true, false));
        refused("logs -n -1");
        refused("logs --stdout --stderr");
    }

    #[test]
    fn a_payload_may_be_missing_or_standard_input() {
        let payload = |line: &str| {
            let (_, request) = asked(line);
            let Request::Call(Call { payload, .. }) = request else { panic!("{request:?}") };
            payload
        };
        assert_eq!(payload("call a f"), None);
        assert_eq!(payload("call a f -").as_deref(), Some("-"));
        assert_eq!(payload("call a f {}").as_deref(), Some("{}"));
    }
}
