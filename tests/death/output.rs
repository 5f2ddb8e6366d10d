//! What kept workers write while one master reads it, none does, and the next one does.

use std::fs;

use crate::support::{Site, until};
use crate::writer::Writer;

/// The numbers of the lines that a master was told.
fn numbers(said: &[String]) -> Vec<u64> {
    said.iter().map(|line| line.strip_prefix("line ").unwrap().parse().unwrap()).collect()
}

/// What of a worker's lines is missing, and what came twice, over the lives of two masters.
#[track_caller]
fn check(first: &[u64], second: &[u64], count: u64) {
    for told in [first, second] {
        assert!(told.windows(2).all(|pair| pair[1] == pair[0] + 1), "not in order");
    }
    assert_eq!(first.first(), Some(&1));
    let (last, next) = (first.last().unwrap(), second.first().unwrap());
    assert!(*next <= last + 1, "lines {} to {} are lost", last + 1, next - 1);
    assert_eq!(second.last(), Some(&count));
}

#[test]
fn l16_what_is_written_while_no_master_runs_waits_for_the_next() {
    let site = Site::new(
        "workers:
- { id: w, on_master_exit: keep, command: [/bin/sh, -c, 'echo one; echo eins >&2; read x < go;
    echo two; echo zwei >&2; printf beg; read x < go; echo inning; exec sleep 1000'] }
",
    );
    let go = site.path().join("go");
    assert!(std::process::Command::new("mkfifo").arg(&go).status().unwrap().success());
    let mut first = site.run();
    first.runs("w#1");
    first.until("w | one");
    first.until("w | eins");
    site.recorded("w");
    first.kill();
    // Opened by us, so that the worker's own opening waits for nobody.
    let mut let_go = fs::File::options().read(true).write(true).open(&go).unwrap();
    use std::io::Write as _;
    let_go.write_all(b"x\n").unwrap();
    // It has gone on, without a reader, when it has taken its permission.
    let pid = site.recorded("w");
    until(|| fs::read_to_string(format!("/proc/{pid}/wchan")).is_ok());
    let_go.write_all(b"x\n").unwrap();
    let mut second = site.run();
    for line in ["w | two", "w | zwei", "w | beginning"] {
        second.until(line);
    }
    let (status, said) = second.stop();
    assert!(status.success() && !said.contains("w | one"), "{said}");
}

#[test]
fn l16_no_line_is_lost_when_the_master_is_killed_amid_ten_megabytes() {
    // 10 MB in lines of a known number, and then silence.
    let count = 780_000;
    let script = format!("seq -f 'line %.0f' {count}; exec sleep 1000");
    for kill_at in [1_000_000, 8_000_000] {
        let site = Site::new("workers: []\n");
        let mut first = Writer::start(site.path(), "first", &script);
        first.has(kill_at);
        first.kill();
        let told = numbers(&first.lines());
        assert!(told.len() < count, "it was killed too late");
        let second = Writer::start(site.path(), "second", &script);
        until(|| second.ends_with(&format!("line {count}\n")));
        check(&told, &numbers(&second.lines()), count as u64);
    }
}

#[test]
fn a_line_that_is_begun_is_seen_and_long_ones_hold_nobody_up() {
    let site = Site::new(
        "workers:
- { id: w, on_master_exit: keep, command: [/bin/sh, -c, 'printf prompt; sleep 3;
    head -c 3000000 /dev/zero | tr \"\\\\0\" x; echo; echo done; exec sleep 1000'] }
",
    );
    let mut master = site.run();
    master.until("w | done");
    let said = master.seen.iter().filter_map(|line| line.strip_prefix("w | "));
    let long: usize = said.map(|line| line.matches('x').count()).sum();
    assert_eq!(long, 3_000_000);
}
