//! A program of one's own module is operated with its own commands, as the stock binary is.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};

use serde_json::Value;

use super::support::{Program, path};

/// The commands that workers are operated with.
const VERBS: [&str; 16] = [
    "run", "check", "status", "describe", "explain", "start", "stop", "restart", "wait", "plan",
    "reload", "shutdown", "logs", "events", "call", "modules",
];

/// The service in each of these deployments, as a worker of that name.
fn workers(deployments: &[&str]) -> String {
    let worker = |kind| {
        format!(
            "- {{ id: {kind}-1, type: {kind}, module_type: native,\n    \
             module_name: data-processor, config: {{ port: \":0\" }} }}\n"
        )
    };
    let workers: String = deployments.iter().map(worker).collect();
    format!("master: {{ name: app, state_dir: state }}\nworkers:\n{workers}")
}

struct Place(tempfile::TempDir);

impl Place {
    fn write(&self, text: &str) {
        fs::write(self.0.path().join("workers.yaml"), text).unwrap();
    }

    fn command(&self, program: &Path, line: &str) -> Command {
        let mut command = Command::new(program);
        command.args(line.split_whitespace()).current_dir(self.0.path()).stdin(Stdio::null());
        for name in ["RUST_LOG", "HSU_CONFIG", "HSU_SOCKET", "HSU_STATE_DIR", "COLUMNS"] {
            command.env_remove(name);
        }
        command
    }

    /// What the program's command prints.
    #[track_caller]
    fn ask(&self, line: &str) -> String {
        let output = self.command(&path("data_processor"), line).output().unwrap();
        assert!(output.status.success(), "{line}: {output:?}");
        String::from_utf8(output.stdout).unwrap()
    }

    fn ask_json(&self, line: &str) -> Value {
        serde_json::from_str(&self.ask(&format!("{line} --json"))).unwrap()
    }

    fn help(&self, program: &Path, verb: &str) -> String {
        let output = self.command(program, &format!("{verb} --help")).output().unwrap();
        String::from_utf8(output.stdout).unwrap()
    }
}

#[test]
fn an_app_is_operated_with_its_own_commands() {
    let place = Place(tempfile::tempdir().unwrap());
    place.write(&workers(&["module", "process"]));
    assert!(place.ask("modules").contains("data-processor"));
    assert!(place.ask("check").contains("2 workers, no problems"));
    let file = place.0.path().join("workers.yaml");
    let run = ["run", "-c", file.to_str().unwrap()];
    let mut program = Program::at(&path("data_processor"), &run, &[]);
    program.wait_for_lines(1, "listening on ");
    for id in ["module-1", "process-1"] {
        place.ask(&format!("wait {id} --for running"));
        assert_eq!(place.ask(&format!("call {id} process hello")).trim_end(), "HELLO");
        assert!(place.ask("status").contains(id));
        assert!(place.ask(&format!("explain {id}")).contains("running"));
        assert_eq!(place.ask_json(&format!("describe {id}"))["state"], "running");
        assert!(place.ask(&format!("stop {id}")).contains("stopped"));
        assert!(place.ask(&format!("start {id}")).contains("incarnation 2"));
        assert!(place.ask(&format!("restart {id}")).contains("incarnation 3"));
        assert!(place.ask(&format!("logs {id}")).contains("listening at"));
        assert!(place.ask("events").contains(&format!("{id}#3")));
    }
    assert!(place.ask("plan").starts_with("nothing to do\n"));
    place.write(&workers(&["module"]));
    let planned = &place.ask_json("plan")["steps"][0];
    assert_eq!((&planned["action"], &planned["worker"]), (&"remove".into(), &"process-1".into()));
    place.ask("reload");
    assert_eq!(place.ask_json("status").as_array().unwrap().len(), 1);
    assert!(place.ask("shutdown").contains("all workers are stopped"));
    let (code, output) = program.end();
    assert_eq!(code, Some(0), "{output}");
}

/// What a help text lists below a heading: the first word of each entry.
fn listed(help: &str, heading: &str) -> BTreeSet<String> {
    let below = help.split(heading).nth(1).unwrap_or_default();
    let section = below.trim_start_matches('\n').lines().take_while(|line| !line.is_empty());
    // What goes on in a second line is indented further.
    let entries = section.filter(|line| !line.starts_with("           "));
    entries.map(|line| line.trim().split("  ").next().unwrap().to_owned()).collect()
}

#[test]
fn an_app_has_every_command_of_the_stock_binary_and_its_options() {
    let place = Place(tempfile::tempdir().unwrap());
    let (own, stock) = (path("data_processor"), Path::new(env!("CARGO_BIN_EXE_hsu-master")));
    let commands = |program| listed(&place.help(program, ""), "Commands:");
    let (of_own, of_stock) = (commands(&own), commands(stock));
    assert_eq!(of_own, of_stock);
    for verb in VERBS {
        assert!(of_own.contains(verb), "{verb}: {of_own:?}");
        let options = |program| {
            let help = place.help(program, verb);
            let usage = help.lines().find(|line| line.starts_with("Usage:")).unwrap_or_default();
            let arguments = usage.split_whitespace().skip(2).collect::<Vec<_>>().join(" ");
            (arguments, listed(&help, "Arguments:"), listed(&help, "Options:"))
        };
        let of_own = options(&own);
        assert_eq!(of_own, options(stock), "{verb}");
        let has = |option: &str| of_own.2.iter().any(|known| known.contains(option));
        let wanted: &[&str] = match verb {
            "run" => &["--config", "--only", "--run-duration", "--quiet"],
            "status" => &["--json", "--watch"],
            "start" | "stop" | "restart" => &["--all", "--force", "--timeout", "--no-wait"],
            "wait" => &["--for", "--timeout"],
            "plan" | "check" => &["--config", "--json"],
            "shutdown" => &["--keep"],
            "logs" => &["-n", "-f", "--stderr", "--stdout"],
            "events" => &["-f", "--json"],
            _ => &["--json"],
        };
        for option in wanted {
            assert!(has(option), "{verb} {option}: {of_own:?}");
        }
    }
}
