//! What a process is and has, told by itself.

use hsu_master::{HardLimits, LimitsConfig, Master, WorkerConfig};

use super::{UID, as_nobody, as_root, bench, shell, told};
use crate::alone;
use crate::support::{Bench, example};

/// Says what the kernel knows of the process.
const STATUS: &str = "while read -r line; do echo \"$line\"; done < /proc/self/status
    while read -r line; do echo \"$line\"; done < /proc/self/limits
    read -r score < /proc/self/oom_score_adj; echo \"score $score\"
    read -r stat < /proc/self/stat; set -- ${stat##*) }; echo \"nice ${17}\"
    echo end";

/// A word of what is told, behind its name: the `at`th of the line.
#[track_caller]
fn word<'t>(told: &'t [String], name: &str, at: usize) -> &'t str {
    let line = told.iter().find_map(|line| line.strip_prefix(name));
    let line = line.unwrap_or_else(|| panic!("no {name:?} in {told:#?}"));
    line.split_whitespace().nth(at).unwrap_or("")
}

fn limits(hard: HardLimits) -> LimitsConfig {
    LimitsConfig::hard(hard)
}

#[test]
fn a_process_becomes_its_user_and_nothing_leads_back() {
    if !as_root() {
        return;
    }
    let bench = bench();
    let mut config = as_nobody(shell(STATUS));
    config = config.execution(|execution| {
        execution.supplementary_groups = vec!["7".into(), "root".into(), "7".into()];
    });
    let told = told(&bench, config);
    for at in 0..4 {
        assert_eq!(word(&told, "Uid:", at), UID.to_string());
        assert_eq!(word(&told, "Gid:", at), UID.to_string());
    }
    let groups = ["0", "7", ""].iter().enumerate();
    assert!(groups.clone().all(|(at, gid)| word(&told, "Groups:", at) == *gid), "{told:#?}");
    for rights in ["CapInh:", "CapPrm:", "CapEff:", "CapAmb:"] {
        assert_eq!(word(&told, rights, 0), "0000000000000000", "{rights}");
    }
    // What is not set is as the master has it.
    assert_eq!((word(&told, "NoNewPrivs:", 0), word(&told, "nice ", 0)), ("0", "0"));
    bench.finish();
}

#[test]
fn a_user_of_the_database_brings_its_groups_and_its_home() {
    if !as_root() {
        return;
    }
    let bench = bench();
    let script = format!("echo \"env $HOME $USER $LOGNAME $SHELL\"; {STATUS}");
    let config = shell(&script).env("LOGNAME", "written").execution(|execution| {
        execution.user = Some("daemon".into());
    });
    let told = told(&bench, config);
    let entry = std::fs::read_to_string("/etc/passwd").unwrap();
    let entry = entry.lines().find_map(|line| line.strip_prefix("daemon:")).unwrap();
    let [_, uid, gid, _, home, login] = entry.split(':').collect::<Vec<_>>()[..] else { panic!() };
    assert_eq!((word(&told, "Uid:", 1), word(&told, "Gid:", 1)), (uid, gid));
    assert_eq!(told[0], format!("env {home} daemon written {login}"));
    // Not the master's groups; those that the database has it in.
    assert_eq!(word(&told, "Groups:", 0), gid);
    bench.finish();
}

#[test]
fn variables_of_somebody_unknown_are_left_out_and_a_group_alone_is_all_there_is() {
    if !as_root() {
        return;
    }
    let bench = bench();
    let script = "echo \"${HOME-none} ${USER-none} ${LOGNAME-none} ${SHELL-none}\"; echo end";
    assert_eq!(told(&bench, as_nobody(shell(script))), ["none none none none"]);
    let grouped = shell(STATUS).execution(|execution| execution.group = Some("54323".into()));
    let grouped = told(&bench, grouped);
    assert_eq!((word(&grouped, "Uid:", 1), word(&grouped, "Gid:", 1)), ("0", "54323"));
    assert_eq!(word(&grouped, "Groups:", 0), "");
    bench.finish();
}

#[test]
fn each_setting_that_takes_no_root_is_seen_in_the_process() {
    let bench = bench();
    let hard = HardLimits::default().memory(1 << 30).open_files(50).processes(5000).core(4096);
    let config = shell(STATUS).limits(limits(hard)).execution(|execution| {
        execution.umask = Some(0o27);
        execution.nice = Some(5);
        execution.oom_score_adj = Some(321);
        execution.no_new_privs = true;
    });
    let told = told(&bench, config);
    assert_eq!(word(&told, "Umask:", 0), "0027");
    assert_eq!(word(&told, "NoNewPrivs:", 0), "1");
    assert_eq!((word(&told, "nice ", 0), word(&told, "score ", 0)), ("5", "321"));
    for (name, limit) in [
        ("Max address space", "1073741824"),
        ("Max open files", "50"),
        ("Max processes", "5000"),
        ("Max core file size", "4096"),
    ] {
        assert_eq!((word(&told, name, 0), word(&told, name, 1)), (limit, limit), "{name}");
    }
    // The launcher leaves nothing of its own behind: no signal ignored or held back.
    for signals in ["SigIgn:", "SigBlk:"] {
        let mask = u64::from_str_radix(word(&told, signals, 0), 16).unwrap();
        // The two numbers that the C library keeps to itself are as whoever started us had them.
        assert_eq!(mask & !(3 << 31), 0, "{signals}");
    }
    bench.finish();
}

#[test]
fn a_process_has_three_descriptors_and_no_input() {
    let bench = bench();
    let script = "ls /proc/$$/fd; read -r x || echo over; readlink /proc/$$/fd/0; echo end";
    let mut config = shell(script);
    config = config.execution(|execution| execution.umask = Some(0o22));
    let told = told(&bench, config);
    assert_eq!(told, ["0", "1", "2", "over", "/dev/null"]);
    bench.finish();
}

#[test]
fn a33_limits_hold_the_process_itself() {
    let bench = bench();
    let config = shell("dd if=/dev/zero of=/dev/null bs=256M count=1 || echo refused; echo end");
    let hard = HardLimits::default().memory(64 << 20);
    assert!(told(&bench, config.limits(limits(hard))).contains(&"refused".to_owned()));
    // One more to load a program with, and none to hold another with.
    let script = "cat /dev/null && echo fine; cat /dev/null 3</dev/null || echo refused; echo end";
    let hard = HardLimits::default().open_files(4);
    let lines = told(&bench, shell(script).limits(limits(hard)));
    assert!(
        lines.contains(&"refused".to_owned()) && lines.contains(&"fine".to_owned()),
        "{lines:?}"
    );
    bench.finish();
}

#[test]
fn the_descriptor_limit_is_the_workers_or_what_the_masters_was() {
    let prefix = ["sh", "-c", r#"ulimit -Sn 100; ulimit -Hn 200; exec "$@""#, "sh"];
    if !alone::here(&prefix, the_descriptor_limit_is_the_workers_or_what_the_masters_was) {
        return;
    }
    let bench = Bench::new(Master::builder().own_process().host_program(example("actor_host")));
    let launched =
        |config: WorkerConfig| config.execution(|execution| execution.umask = Some(0o22));
    let plain = told(&bench, launched(shell(STATUS)));
    assert_eq!(
        (word(&plain, "Max open files", 0), word(&plain, "Max open files", 1)),
        ("100", "200")
    );
    let hard = HardLimits::default().open_files(50);
    for _ in 0..20 {
        let set = told(&bench, launched(shell(STATUS)).limits(limits(hard.clone())));
        assert_eq!(
            (word(&set, "Max open files", 0), word(&set, "Max open files", 1)),
            ("50", "50")
        );
    }
    bench.finish();
}

#[test]
fn variables_come_from_where_they_should_and_the_launcher_heeds_none() {
    let bench = bench();
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("env");
    std::fs::write(&file, "# variables\nA=file\nB=\"file too\"\n").unwrap();
    let script = "echo \"$A|$B|${CARGO_MANIFEST_DIR-none}|${PATH:+path}|$HSU_WORKER_ID\"; echo end";
    for staged in [false, true] {
        let config = |cleared| {
            shell(script).env("A", "written").execution(|execution| {
                execution.env_file = Some(file.clone());
                execution.clear_environment = cleared;
                execution.umask = staged.then_some(0o22);
            })
        };
        let own = env!("CARGO_MANIFEST_DIR");
        assert_eq!(told(&bench, config(false)), [format!("written|file too|{own}|path|w")]);
        assert_eq!(told(&bench, config(true)), ["written|file too|none|path|w"]);
    }
    // It is the program's loader that complains, and not the launcher's before it.
    let preloaded = shell("echo end >&2").env("LD_PRELOAD", "/none/such.so");
    let preloaded = told(&bench, preloaded.execution(|execution| execution.umask = Some(0o22)));
    assert_eq!(preloaded.iter().filter(|line| line.contains("/none/such.so")).count(), 1);
    bench.finish();
}

#[test]
fn a_file_of_variables_is_read_at_each_launch() {
    let bench = bench();
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("env");
    let config = shell("echo \"$A\"; echo end").execution(|execution| {
        execution.env_file = Some(file.clone());
    });
    bench.add(config);
    let error = bench.master.start_worker("w").unwrap_err().to_string();
    let begin = format!("worker w: cannot read env_file {}: No such file", file.display());
    assert!(error.starts_with(&begin), "{error}");
    for value in ["one", "two"] {
        std::fs::write(&file, format!("A={value}\n")).unwrap();
        bench.master.start_worker("w").unwrap();
        assert_eq!([bench.line().text, bench.line().text], [value, "end"]);
        bench.once("w", |known| known.pid.is_none());
    }
    std::fs::write(&file, "A=b\nnonsense\n").unwrap();
    let error = bench.master.start_worker("w").unwrap_err().to_string();
    let said = format!("env_file {}:2: there is no '='; write NAME=value", file.display());
    assert!(error.ends_with(&said), "{error}");
    bench.finish();
}
