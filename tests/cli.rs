//! The command line as people and scripts use it: the real binary, its output and its exit codes.
#![expect(clippy::unwrap_used, reason = "helpers of tests are tests")]

#[path = "support/running.rs"]
mod running;

use std::fs::{self, Permissions};
use std::io::Read;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use running::{Running, signal};

/// A directory with a configuration file in it.
struct Setting {
    directory: tempfile::TempDir,
}

impl Setting {
    fn new(yaml: &str) -> Self {
        let directory = tempfile::tempdir().unwrap();
        fs::write(directory.path().join("workers.yaml"), yaml).unwrap();
        Self { directory }
    }

    fn path(&self) -> &Path {
        self.directory.path()
    }

    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_hsu-master"));
        command.args(arguments).current_dir(self.path());
        command.env_remove("RUST_LOG").env_remove("HSU_CONFIG");
        command.env("HSU_STATE_DIR", self.path().join("state"));
        command
    }

    fn output(&self, arguments: &[&str]) -> Output {
        self.command(arguments).output().unwrap()
    }

    fn run(&self, arguments: &[&str]) -> Running {
        let mut command = self.command(&["run"]);
        command.args(arguments).stdout(Stdio::null());
        Running::start(&mut command)
    }
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).unwrap()
}

/// True while the process lives; a zombie does not.
fn lives(pid: &str) -> bool {
    let stat = fs::read_to_string(PathBuf::from("/proc").join(pid).join("stat"));
    stat.is_ok_and(|stat| !stat.rsplit(')').next().unwrap_or("").trim_start().starts_with('Z'))
}

#[test]
fn workers_run_and_their_lines_carry_their_ids() {
    let setting = Setting::new(
        "workers:\n\
         - { id: talker, command: [/bin/sh, -c, 'echo out; echo err >&2; exec sleep 1000'] }\n\
         - { id: other, enabled: false, command: [/bin/sh, -c, 'echo never'] }\n",
    );
    let mut master = setting.run(&[]);
    master.until("talker#1 is running, pid ");
    master.until("talker | out");
    master.until("talker | err");
    assert!(signal(master.pid(), "TERM"));
    let (status, said) = master.end();
    assert_eq!(status.code(), Some(0), "{said}");
    assert!(said.contains("all workers are stopped") && !said.contains("never"), "{said}");
}

#[test]
fn the_run_ends_by_itself_after_its_duration() {
    let setting = Setting::new("workers: [ { id: nap, command: sleep 1000 } ]\n");
    let mut master = setting.run(&["--run-duration", "200ms", "--quiet"]);
    master.until("the run duration is over");
    let (status, said) = master.end();
    assert_eq!(status.code(), Some(0), "{said}");
}

#[test]
fn a_second_signal_kills_what_ignores_the_first() {
    let script = "trap '' TERM INT; echo ready; while :; do read line < fifo; done";
    let setting = Setting::new(&format!(
        "workers:\n- {{ id: deaf, stop: {{ timeout: 10m }}, \
         command: [/bin/sh, -c, \"{script}\"] }}\n"
    ));
    assert!(Command::new("mkfifo").arg(setting.path().join("fifo")).status().unwrap().success());
    let mut master = setting.run(&[]);
    let pid = master.until("deaf#1 is running, pid ").rsplit(' ').next().unwrap().to_owned();
    master.until("deaf | ready");
    assert!(signal(master.pid(), "INT"));
    master.until("asked to end: stopping all workers");
    assert!(lives(&pid));
    assert!(signal(master.pid(), "TERM"));
    let (status, said) = master.end();
    assert_eq!(status.code(), Some(1), "{said}");
    assert!(said.contains("had to be killed: deaf"), "{said}");
    assert!(!lives(&pid));
}

#[test]
fn a_hangup_reloads() {
    let setting = Setting::new("workers: [ { id: nap, command: sleep 1000 } ]\n");
    let mut master = setting.run(&[]);
    master.until("nap#1 is running");
    assert!(signal(master.pid(), "HUP"));
    master.until("reload: 1 worker is unchanged");
    assert!(signal(master.pid(), "TERM"));
    assert_eq!(master.end().0.code(), Some(0));
}

#[test]
fn a_crash_is_told_and_retried_and_given_up() {
    let setting = Setting::new(
        "workers:\n\
         - { id: bad, command: [/bin/sh, -c, 'exit 3'], \
         restart: { max_retries: 1, retry_delay: 1ms } }\n\
         - { id: missing, command: /no/such/program, restart: { policy: never } }\n",
    );
    let mut master = setting.run(&[]);
    master.until("bad#2 failed 2 times in a row: giving up");
    assert!(signal(master.pid(), "TERM"));
    let (status, said) = master.end();
    assert_eq!(status.code(), Some(0), "{said}");
    for part in ["bad#1 failed: exit 3", "bad#2 starts again (retry)", "program /no/such/program"] {
        assert!(said.contains(part), "{part}:\n{said}");
    }
}

#[test]
fn only_the_named_workers_are_run() {
    let setting = Setting::new(
        "workers: [ { id: a, command: sleep 1000 }, { id: b, command: sleep 1000 } ]\n",
    );
    let mut master = setting.run(&["--only", "b"]);
    master.until("b#1 is running");
    assert!(signal(master.pid(), "TERM"));
    assert!(!master.end().1.contains("a#1"));
    let output = setting.output(&["run", "--only", "c"]);
    assert_eq!(output.status.code(), Some(2));
    assert!(text(&output.stderr).contains("--only c: there is no such worker"));
}

#[test]
fn every_problem_is_reported_with_its_place() {
    let setting = Setting::new(
        "workers:\n  - id: a\n    comand: x\n    restart: { policy: sometimes }\n\
         \x20 - { id: a, command: y }\n",
    );
    for arguments in [["check"].as_slice(), &["run"], &["check", "-c", "workers.yaml"]] {
        let output = setting.output(arguments);
        assert_eq!(output.status.code(), Some(2), "{arguments:?}");
        let said = text(&output.stderr);
        for part in
            ["workers.yaml:3:5: ", "did you mean `command`?", "workers.yaml:4:24: ", "on-failure"]
        {
            assert!(said.contains(part), "{part}:\n{said}");
        }
    }
    let output = setting.output(&["check", "--json"]);
    assert_eq!(output.status.code(), Some(2));
    let json: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(json["ok"], false);
    assert_eq!(json["problems"][1]["line"], 3, "{json:#}");
}

#[test]
fn a_good_file_is_summed_up() {
    let setting = Setting::new("workers: [ { id: nap, command: sleep 1000 } ]\n");
    let output = setting.output(&["check"]);
    assert_eq!(output.status.code(), Some(0), "{}", text(&output.stderr));
    let said = text(&output.stdout);
    let expected = "workers.yaml: 1 worker, no problems\n  nap  process  sleep\nlimits here:\n";
    assert!(said.starts_with(expected), "{said}");
    assert!(said.contains("these workers take about 4\n"), "{said}");
    let output = setting.output(&["check", "--json"]);
    let json: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(json["workers"], serde_json::json!(["nap"]));
    // Its own limits are those of this test: a process inherits them.
    let limits = fs::read_to_string("/proc/self/limits").unwrap();
    let line = limits.lines().find(|line| line.starts_with("Max open files")).unwrap();
    let numbers: Vec<u64> = line.split_whitespace().filter_map(|word| word.parse().ok()).collect();
    let descriptors = &json["limits"]["descriptors"];
    assert_eq!([&descriptors["soft"], &descriptors["hard"]], [numbers[0], numbers[1]]);
    assert_eq!(json["limits"]["guardian"], true);
}

#[test]
fn what_is_not_there_yet_is_a_warning_in_both_forms() {
    let setting = Setting::new("workers: [ { id: nap, command: /nowhere/nap } ]\n");
    let said = text(&setting.output(&["check"]).stdout);
    assert!(said.starts_with("warning: workers.yaml: workers[0] (nap): "), "{said}");
    assert!(said.contains("no problems, 1 warning\n"), "{said}");
    let output = setting.output(&["check", "--json"]);
    let json: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!((&json["ok"], &json["problems"]), (&true.into(), &serde_json::json!([])));
    assert_eq!(json["warnings"].as_array().unwrap().len(), 1, "{json:#}");
    let warning = &json["warnings"][0];
    assert_eq!((&warning["path"], &warning["line"]), (&"workers[0]".into(), &().into()));
    assert!(said.contains(warning["message"].as_str().unwrap()), "{warning}");
}

#[test]
fn modules_that_this_program_does_not_have_are_named() {
    let setting = Setting::new("workers: [ { id: m, type: module, module_name: nope } ]\n");
    for verb in ["check", "run"] {
        let output = setting.output(&[verb]);
        assert_eq!(output.status.code(), Some(2), "{verb}");
        let said = text(&output.stderr);
        assert!(said.contains("no native module is called \"nope\""), "{said}");
    }
}

#[test]
fn usage_errors_and_help_have_their_exit_codes() {
    let setting = Setting::new("workers: []\n");
    for (arguments, code) in
        [(["chekc"].as_slice(), 2), (&["run", "--nope"], 2), (&["--help"], 0), (&["--version"], 0)]
    {
        assert_eq!(setting.output(arguments).status.code(), Some(code), "{arguments:?}");
    }
    assert_eq!(setting.output(&["check", "-c", "missing.yaml"]).status.code(), Some(2));
}

const OLDER: &str = "
master: { port: 50055 }
workers:
  - id: ticker
    type: managed
    unit:
      managed:
        metadata: { name: Ticker }
        control:
          execution:
            executable_path: /bin/sh
            args: [-c, 'echo $X; exec sleep 1000']
            environment: ['X=tick']
";

#[test]
fn a_file_of_the_go_version_runs_and_is_translated() {
    let setting = Setting::new(OLDER);
    let output = setting.output(&["check"]);
    assert_eq!(output.status.code(), Some(0), "{}", text(&output.stderr));
    let said = text(&output.stdout);
    assert!(said.contains("warning: workers.yaml:2:11: master.port: has no equal"), "{said}");

    let output = setting.output(&["import", "hsu-go", "workers.yaml"]);
    assert_eq!(output.status.code(), Some(0), "{}", text(&output.stderr));
    let warning = text(&output.stderr);
    assert!(warning.starts_with("warning: workers.yaml:2:11: master.port: "), "{warning}");
    let translated = Setting::new(&text(&output.stdout));
    let checked = text(&translated.output(&["check"]).stdout);
    let expected = "workers.yaml: 1 worker, no problems\n  ticker  process  /bin/sh\n";
    assert!(checked.starts_with(expected), "{checked}");
    let again = translated.output(&["import", "hsu-go", "workers.yaml"]);
    assert_eq!(again.status.code(), Some(2));
    assert!(text(&again.stderr).contains("is not in the format of"), "{}", text(&again.stderr));

    for setting in [setting, translated] {
        let mut master = setting.run(&[]);
        master.until("ticker | tick");
        assert!(signal(master.pid(), "TERM"));
        assert_eq!(master.end().0.code(), Some(0));
    }
}

#[test]
fn closed_standard_descriptors_do_no_harm() {
    let setting = Setting::new(
        "workers: [ { id: a, command: ['/bin/sh', '-c', 'ls /proc/self/fd > fds'] } ]\n",
    );
    let binary = env!("CARGO_BIN_EXE_hsu-master");
    let script = format!("exec {binary} run --run-duration 500ms 0<&- 1>&- 2>&- 7</dev/null");
    let status =
        Command::new("/bin/sh").args(["-c", &script]).current_dir(setting.path()).status().unwrap();
    assert_eq!(status.code(), Some(0));
    let mut fds = String::new();
    fs::File::open(setting.path().join("fds")).unwrap().read_to_string(&mut fds).unwrap();
    // `ls` has its directory open beside the three that it was given.
    assert_eq!(fds.split_whitespace().collect::<Vec<_>>(), ["0", "1", "2", "3"]);
}

#[test]
fn s25_a_program_that_has_borrowed_its_rights_does_not_run() {
    let setting = Setting::new("workers: []\n");
    let program = setting.path().join("borrowed");
    fs::copy(env!("CARGO_BIN_EXE_hsu-master"), &program).unwrap();
    let mounted = Command::new("findmnt").args(["-no", "OPTIONS", "-T"]).arg(&program).output();
    let allowed = mounted.is_ok_and(|told| !text(&told.stdout).contains("nosuid"));
    if !allowed || std::os::unix::fs::chown(&program, Some(4711), None).is_err() {
        eprintln!("skipped: no set-user-ID program can be made here");
        return;
    }
    fs::set_permissions(&program, Permissions::from_mode(0o4755)).unwrap();
    let output = Command::new(&program).arg("--version").output().unwrap();
    assert_eq!(output.status.code(), Some(1));
    assert!(text(&output.stderr).contains("set-user-ID"), "{}", text(&output.stderr));
}

#[test]
fn s23_it_needs_no_environment_and_no_directory() {
    let setting = Setting::new("workers: [{id: nap, command: /bin/sleep 1000}]\n");
    let gone = setting.path().join("gone");
    fs::create_dir(&gone).unwrap();
    let script = "cd \"$1\" && rmdir \"$1\" && shift && exec env -i HSU_STATE_DIR=\"$1\" \
                  \"$2\" run -c \"$3\" --run-duration 500ms";
    let (state, file) = (setting.path().join("state"), setting.path().join("workers.yaml"));
    let mut command = Command::new("/bin/sh");
    command.args(["-c", script, "sh"]).arg(&gone).arg(&state);
    command.arg(env!("CARGO_BIN_EXE_hsu-master")).arg(&file);
    let output = command.output().unwrap();
    let said = text(&output.stderr);
    assert_eq!(output.status.code(), Some(0), "{said}");
    assert!(said.contains("nap#1 is running"), "{said}");
}

#[test]
fn s23_a_program_that_is_given_nothing_not_even_a_name_tells_its_usage() {
    // Linux 5.18 and newer have an empty name take the place of none, and tell the kernel's log of
    // it; what older ones give, a list without anything in it, is tried where arguments are read.
    let call = "import ctypes, sys; c = ctypes.CDLL(None, use_errno=True); \
                c.execve(sys.argv[1].encode(), (ctypes.c_char_p * 1)(), (ctypes.c_char_p * 1)()); \
                sys.exit('execve: errno %d' % ctypes.get_errno())";
    let mut command = Command::new("python3");
    let Ok(output) = command.args(["-c", call, env!("CARGO_BIN_EXE_hsu-master")]).output() else {
        eprintln!("skipped: no python3, which can run a program without a name");
        return;
    };
    let said = text(&output.stderr);
    assert_eq!(output.status.code(), Some(2), "{said}");
    assert!(said.contains("Usage: hsu-master <COMMAND>"), "{said}");
}
