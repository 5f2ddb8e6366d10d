//! Masters in odd surroundings: without a name, a home or a directory to be in, with an odd locale
//! and time zone, and with hardly any address space.

use std::fs;
use std::os::unix::process::ExitStatusExt as _;
use std::process::Command;

use crate::support::{Site, lives, until};

#[test]
fn s23_a_master_without_name_home_directory_locale_or_time_zone_does_its_work() {
    // With a guardian and a launcher, which are this program again.
    let site = Site::new(
        "workers: [ { id: w, command: [/bin/sh, -c, 'echo up; exec sleep 1000'],
    execution: { umask: '027' } } ]\n",
    );
    let gone = site.path().join("gone");
    fs::create_dir(&gone).unwrap();
    // What follows has an empty name: Linux lets nobody have none any more.
    let leave = format!("cd {0} && rmdir {0} && exec -a '' \"$@\"", gone.display());
    let mut command = Command::new("/bin/bash");
    command.args(["-c", &leave, "bash"]);
    command.arg(env!("CARGO_BIN_EXE_hsu-master")).args(["run", "-c"]);
    command.arg(site.path().join("workers.yaml"));
    command
        .env_clear()
        .env("LANG", "xx_YY.UTF-99")
        .env("LC_ALL", "\u{fffd}")
        .env("TZ", ":/no/zone");
    command.env("HSU_STATE_DIR", site.state());
    let mut master = site.run_command(command);
    let pid = master.runs("w#1");
    master.until("w | up");
    assert_eq!(fs::read(format!("/proc/{}/cmdline", master.pid())).unwrap()[0], 0, "it has a name");
    until(|| site.guardians().len() == 1);
    let (status, said) = master.stop();
    assert_eq!(status.code(), Some(0), "{said}");
    assert!(!lives(pid));
    assert_eq!(site.all(), Vec::<u32>::new());
}

#[test]
fn s15_a_master_without_address_space_leaves_nothing_behind_however_it_ends() {
    use std::fmt::Write as _;
    let mut yaml = "workers:\n".to_owned();
    for n in 0..100 {
        writeln!(yaml, "- {{ id: w{n}, command: [sleep, '1000'] }}").unwrap();
    }
    for megabytes in [24_u64, 48, 96] {
        let site = Site::new(&yaml);
        let limit = format!("--as={}", megabytes << 20);
        let mut master = site.run_under(&["prlimit", &limit]);
        // It may not come so far, or be at its end already.
        let asked = master.until_or_end("starting 100 workers") && master.ask_to_end();
        let (status, said) = master.end();
        let how = match (status.code(), status.signal()) {
            // The system had no memory to run it in.
            (Some(126 | 127), None) => "was not run",
            (Some(0 | 1), None) => "ended in order",
            // Rust's answer to an allocation that fails.
            (None, Some(6)) => "was ended by Rust",
            _ => panic!("{status}: {said}"),
        };
        eprintln!("{megabytes} MiB: it {how} (asked to end: {asked})");
        // Whoever has ended it, the guardian sees to the rest.
        until(|| site.all().is_empty());
    }
}
