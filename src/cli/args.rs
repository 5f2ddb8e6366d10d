//! What can be typed: arguments into plain data, help and suggestions by clap.

mod running;

use std::ffi::OsString;
use std::path::PathBuf;
use std::time::Duration;

use clap::builder::ValueParser;
use clap::{Arg, ArgAction, ArgMatches, Command, value_parser};

use crate::abi::DEFAULT_SYMBOL;
use crate::units::parse_duration;
pub(super) use running::{Address, Call, Change, Logs, Order, Request, Status};

/// What the program says of itself.
#[derive(Clone, Copy, Debug)]
pub(super) struct Program {
    pub(super) name: &'static str,
    pub(super) version: &'static str,
    /// The name was given: it is no default.
    pub(super) named: bool,
}

impl Program {
    /// The name that was given to it.
    pub(super) fn own_name(&self) -> Option<&'static str> {
        self.named.then_some(self.name)
    }
}

impl Default for Program {
    fn default() -> Self {
        Self { name: "hsu-master", version: env!("CARGO_PKG_VERSION"), named: false }
    }
}

/// A command with its arguments.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Verb {
    Run(Run),
    Check(Check),
    Modules(Modules),
    PluginCheck(PluginCheck),
    /// What is asked of a running master.
    Running(Address, Request),
    Import(Import),
}

/// `run`
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Run {
    pub(super) config: PathBuf,
    pub(super) only: Vec<String>,
    pub(super) duration: Option<Duration>,
    pub(super) quiet: bool,
}

/// `check`
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Check {
    pub(super) config: PathBuf,
    pub(super) json: bool,
}

/// `modules`
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Modules {
    /// The file that was named, or the default one if it is there.
    pub(super) config: Option<PathBuf>,
    /// Where a master may run whose loaded libraries are listed too.
    pub(super) address: Address,
    pub(super) json: bool,
}

/// `plugin check`
#[derive(Debug, PartialEq, Eq)]
pub(super) struct PluginCheck {
    pub(super) file: PathBuf,
    pub(super) symbol: String,
    pub(super) json: bool,
}

/// `import hsu-go`
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Import {
    pub(super) file: PathBuf,
}

/// Reads the arguments; the first is the program's name.
pub(super) fn parse<A: Into<OsString> + Clone>(
    arguments: impl IntoIterator<Item = A>,
    program: &Program,
) -> Result<Verb, clap::Error> {
    let matches = command(program).try_get_matches_from(arguments)?;
    let verb = match matches.subcommand() {
        Some(("run", run)) => Verb::Run(Run {
            config: config(run),
            only: run.get_many("only").into_iter().flatten().cloned().collect(),
            duration: run.get_one("run-duration").copied(),
            quiet: run.get_flag("quiet"),
        }),
        Some(("check", check)) => {
            Verb::Check(Check { config: config(check), json: check.get_flag("json") })
        }
        Some(("modules", modules)) => {
            let named = config(modules);
            let there = modules.contains_id("config") || named.exists();
            let config = there.then_some(named);
            let address = running::address(modules);
            Verb::Modules(Modules { config, address, json: modules.get_flag("json") })
        }
        Some(("plugin", plugin)) => match plugin.subcommand() {
            Some(("check", check)) => Verb::PluginCheck(plugin_check(check)),
            Some(_) | None => return Err(no_command(program)),
        },
        Some(("import", import)) => match import.subcommand() {
            Some(("hsu-go", import)) => {
                Verb::Import(Import { file: import.get_one("file").cloned().unwrap_or_default() })
            }
            Some(_) | None => return Err(no_command(program)),
        },
        Some((name, matches)) => match running::request(name, matches) {
            Some((address, request)) => Verb::Running(address, request),
            None => return Err(no_command(program)),
        },
        None => return Err(no_command(program)),
    };
    Ok(verb)
}

fn no_command(program: &Program) -> clap::Error {
    let kind = clap::error::ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand;
    command(program).error(kind, "a command is needed")
}

fn plugin_check(matches: &ArgMatches) -> PluginCheck {
    PluginCheck {
        file: matches.get_one("file").cloned().unwrap_or_default(),
        symbol: matches.get_one("symbol").cloned().unwrap_or_else(|| DEFAULT_SYMBOL.to_owned()),
        json: matches.get_flag("json"),
    }
}

fn command(program: &Program) -> Command {
    Command::new(program.name)
        .version(program.version)
        .about("Runs workers, as threads or as processes, and keeps them running")
        .subcommand_required(true)
        .arg_required_else_help(true)
        .disable_help_subcommand(true)
        .subcommand(
            Command::new("run")
                .about("Start the workers of a configuration and supervise them until SIGTERM")
                .arg(config_argument())
                .arg(
                    Arg::new("only")
                        .long("only")
                        .value_name("ID")
                        .action(ArgAction::Append)
                        .help("Start this worker only; may be repeated"),
                )
                .arg(
                    Arg::new("run-duration")
                        .long("run-duration")
                        .value_name("TIME")
                        .value_parser(ValueParser::new(duration))
                        .help("Shut down by itself after this time, such as 10s"),
                )
                .arg(
                    Arg::new("quiet")
                        .long("quiet")
                        .short('q')
                        .action(ArgAction::SetTrue)
                        .help("Do not echo the workers' lines"),
                ),
        )
        .subcommand(
            Command::new("check")
                .about("Read a configuration, report every problem, say what holds here")
                .arg(config_argument())
                .arg(json_argument()),
        )
        .subcommands(running::commands())
        .subcommand(running::addressed(
            Command::new("modules")
                .about("List the modules that workers can name, with their versions")
                .arg(json_argument()),
        ))
        .subcommand(plugin_command())
        .subcommand(import_command())
}

fn plugin_command() -> Command {
    Command::new("plugin")
        .about("Shared libraries with modules")
        .subcommand_required(true)
        .arg_required_else_help(true)
        .disable_help_subcommand(true)
        .subcommand(
            Command::new("check")
                .about("Say what a library is, or why no worker can run it")
                .arg(
                    Arg::new("file")
                        .value_name("FILE")
                        .required(true)
                        .value_parser(value_parser!(PathBuf))
                        .help("The library"),
                )
                .arg(
                    Arg::new("symbol")
                        .long("symbol")
                        .value_name("NAME")
                        .help("The worker's entry_point [default: hsu_module_descriptor]"),
                )
                .arg(json_argument()),
        )
}

fn import_command() -> Command {
    Command::new("import")
        .about("Print another supervisor's configuration as workers.yaml")
        .subcommand_required(true)
        .arg_required_else_help(true)
        .disable_help_subcommand(true)
        .subcommand(
            Command::new("hsu-go").about("The format of hsu-master's Go version").arg(
                Arg::new("file")
                    .value_name("FILE")
                    .required(true)
                    .value_parser(value_parser!(PathBuf))
                    .help("The file to translate"),
            ),
        )
}

fn json_argument() -> Arg {
    Arg::new("json").long("json").action(ArgAction::SetTrue).help("Print JSON for programs")
}

fn config_argument() -> Arg {
    Arg::new("config")
        .long("config")
        .short('c')
        .value_name("FILE")
        .value_parser(value_parser!(PathBuf))
        .help("The configuration file [default: $HSU_CONFIG, then workers.yaml]")
}

fn config(matches: &ArgMatches) -> PathBuf {
    matches
        .get_one("config")
        .cloned()
        .or_else(default_config)
        .unwrap_or_else(|| "workers.yaml".into())
}

/// The configuration file that the environment names.
pub(super) fn default_config() -> Option<PathBuf> {
    std::env::var_os("HSU_CONFIG").filter(|path| !path.is_empty()).map(Into::into)
}

fn duration(text: &str) -> Result<Duration, String> {
    parse_duration(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse<const N: usize>(arguments: [&str; N]) -> Result<Verb, clap::Error> {
        super::parse(arguments, &Program::default())
    }

    #[test]
    fn the_definition_is_consistent() {
        command(&Program::default()).debug_assert();
    }

    #[test]
    fn s23_no_argument_not_even_a_name_is_a_question_for_the_usage() {
        for error in [parse([]).unwrap_err(), parse([""]).unwrap_err()] {
            assert!(error.use_stderr());
            assert!(error.to_string().contains("Usage: hsu-master <COMMAND>"), "{error}");
        }
    }

    #[test]
    fn arguments_become_plain_data() {
        let run = parse(["x", "run", "-c", "a.yaml", "--only", "a", "--only", "b", "-q"]).unwrap();
        let Verb::Run(run) = run else { panic!("{run:?}") };
        assert_eq!((run.config, run.only), ("a.yaml".into(), vec!["a".into(), "b".into()]));
        assert!(run.quiet && run.duration.is_none());
        let run = parse(["x", "run", "--run-duration", "1m30s"]).unwrap();
        assert!(matches!(run, Verb::Run(Run { duration: Some(d), .. }) if d.as_secs() == 90));
        let modules = parse(["x", "modules", "-c", "no.yaml"]).unwrap();
        let config = Some("no.yaml".into());
        let address = Address { config: config.clone(), socket: None };
        assert_eq!(modules, Verb::Modules(Modules { config, address, json: false }));
        let check = parse(["x", "check", "--json", "--config=b.yaml"]).unwrap();
        assert_eq!(check, Verb::Check(Check { config: "b.yaml".into(), json: true }));
        let check = parse(["x", "plugin", "check", "a.so", "--symbol", "s"]).unwrap();
        let expected = PluginCheck { file: "a.so".into(), symbol: "s".into(), json: false };
        assert_eq!(check, Verb::PluginCheck(expected));
        let check = parse(["x", "plugin", "check", "a.so", "--json"]).unwrap();
        let symbol = DEFAULT_SYMBOL.to_owned();
        let expected = PluginCheck { file: "a.so".into(), symbol, json: true };
        assert_eq!(check, Verb::PluginCheck(expected));
    }

    #[test]
    fn what_is_imported_is_a_file() {
        let import = parse(["x", "import", "hsu-go", "a.yaml"]).unwrap();
        assert_eq!(import, Verb::Import(Import { file: "a.yaml".into() }));
    }

    #[test]
    fn mistakes_are_usage_errors_that_suggest() {
        let error = parse(["x", "chekc"]).unwrap_err();
        assert!(error.use_stderr() && error.to_string().contains("check"), "{error}");
        let error = parse(["x", "run", "--run-duration", "10"]).unwrap_err();
        assert!(error.to_string().contains("10s"), "{error}");
        assert!(parse(["x", "plugin"]).unwrap_err().use_stderr());
        assert!(parse(["x", "plugin", "check"]).unwrap_err().use_stderr());
        assert!(parse(["x", "import"]).unwrap_err().use_stderr());
        assert!(!parse(["x", "--help"]).unwrap_err().use_stderr());
        let program = Program { name: "my-app", version: "7", named: true };
        let version = super::parse(["x", "--version"], &program).unwrap_err();
        assert_eq!(version.to_string(), "my-app 7\n");
        assert!(!parse(["x", "--version"]).unwrap_err().use_stderr());
    }
}
