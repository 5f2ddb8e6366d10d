//! The keys of what a process runs as and within, shown by what the process itself finds.

use super::program::line;
use super::{Row, Scene};
use crate::unmanaged::{lives, signal};

/// As `line`, where the master may do as it likes; elsewhere it is taken as read.
#[expect(clippy::print_stderr, reason = "what was not tested must be seen")]
fn as_root(scene: &Scene, expected: &str) -> String {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let users = status.lines().find(|line| line.starts_with("Uid:")).unwrap();
    if users.split_ascii_whitespace().nth(2) == Some("0") {
        return line(scene, expected);
    }
    eprintln!("not root: that it is {expected:?} was not tried");
    expected.to_owned()
}

pub(super) const EXECUTION: [Row; 9] = [
    Row {
        key: "execution.env_file",
        file: "workers: [{id: w, execution: {executable_path: /bin/sh, working_directory: /,
              args: [-c, 'echo $A'], env_file: %}}]",
        values: [("'@dir/one.env'", "one"), ("'@dir/two.env'", "two")],
        observe: line,
    },
    Row {
        key: "execution.clear_environment",
        file: "workers: [{id: w, execution: {executable_path: /bin/sh, working_directory: /,
              args: [-c, 'echo a$CARGO_MANIFEST_DIR | cut -c1-2'], clear_environment: %}}]",
        values: [("false", "a/"), ("true", "a")],
        observe: line,
    },
    Row {
        key: "execution.user",
        file: "workers: [{id: w, execution: {executable_path: /bin/sh, working_directory: /,
              args: [-c, 'id -un'], user: %}}]",
        values: [("root", "root"), ("nobody", "nobody")],
        observe: as_root,
    },
    Row {
        key: "execution.group",
        file: "workers: [{id: w, execution: {executable_path: /bin/sh, working_directory: /,
              args: [-c, 'id -g'], group: %}}]",
        values: [("0", "0"), ("1", "1")],
        observe: as_root,
    },
    Row {
        key: "execution.supplementary_groups",
        file: "workers: [{id: w, execution: {executable_path: /bin/sh, working_directory: /,
              args: [-c, 'id -G'], supplementary_groups: %}}]",
        values: [("[1]", "0 1"), ("[1, 2]", "0 1 2")],
        observe: as_root,
    },
    Row {
        key: "execution.umask",
        file: "workers: [{id: w, execution: {executable_path: /bin/sh, working_directory: /,
              args: [-c, 'umask'], umask: %}}]",
        values: [("'022'", "0022"), ("'077'", "0077")],
        observe: line,
    },
    Row {
        key: "execution.nice",
        file: "workers: [{id: w, execution: {executable_path: /bin/sh, working_directory: /,
              args: [-c, 'nice'], nice: %}}]",
        values: [("3", "3"), ("7", "7")],
        observe: line,
    },
    Row {
        key: "execution.oom_score_adj",
        file: "workers: [{id: w, execution: {executable_path: /bin/sh, working_directory: /,
              args: [-c, 'cat /proc/self/oom_score_adj'], oom_score_adj: %}}]",
        values: [("100", "100"), ("200", "200")],
        observe: line,
    },
    Row {
        key: "execution.no_new_privs",
        file: "workers: [{id: w, execution: {executable_path: /bin/sh, working_directory: /,
              args: [-c, 'grep NoNewPrivs: /proc/self/status | tr -s [:blank:] ,'],
              no_new_privs: %}}]",
        values: [("false", "NoNewPrivs:,0"), ("true", "NoNewPrivs:,1")],
        observe: line,
    },
];

pub(super) const LIMITS: &[Row] = &[
    Row {
        key: "limits.hard.memory",
        file: "workers: [{id: w, limits: {hard: {memory: %}}, command: [/bin/sh, -c,
              'grep \"Max address space\" /proc/self/limits | tr -s \" \"']}]",
        values: [
            ("512MiB", "Max address space 536870912 536870912 bytes "),
            ("1GiB", "Max address space 1073741824 1073741824 bytes "),
        ],
        observe: line,
    },
    Row {
        key: "limits.hard.open_files",
        file: "workers: [{id: w, limits: {hard: {open_files: %}}, command: [/bin/sh, -c,
              'grep \"Max open files\" /proc/self/limits | tr -s \" \"']}]",
        values: [("64", "Max open files 64 64 files "), ("128", "Max open files 128 128 files ")],
        observe: line,
    },
    Row {
        key: "limits.hard.processes",
        file: "workers: [{id: w, limits: {hard: {processes: %}}, command: [/bin/sh, -c,
              'grep \"Max processes\" /proc/self/limits | tr -s \" \"']}]",
        values: [
            ("4000", "Max processes 4000 4000 processes "),
            ("5000", "Max processes 5000 5000 processes "),
        ],
        observe: line,
    },
    Row {
        key: "limits.hard.core",
        file: "workers: [{id: w, limits: {hard: {core: %}}, command: [/bin/sh, -c,
              'grep \"Max core file size\" /proc/self/limits | tr -s \" \"']}]",
        values: [
            ("0", "Max core file size 0 0 bytes "),
            ("1MiB", "Max core file size 1048576 1048576 bytes "),
        ],
        observe: line,
    },
];

pub(super) const ON_MASTER_EXIT: Row = Row {
    key: "on_master_exit",
    file: "{master: {state_dir: state}, workers: [{id: w, on_master_exit: %,
          command: /bin/sleep 1000}]}",
    values: [("stop", "ended"), ("keep", "lives on")],
    observe: |scene, _| {
        scene.start().unwrap();
        let pid = scene.known().pid.unwrap();
        scene.bench.master.shutdown_keeping().unwrap();
        if !lives(pid) {
            return "ended".to_owned();
        }
        signal("KILL", pid);
        "lives on".to_owned()
    },
};
