//! What processes write, and who holds their pipes (FAULTS A14, A34).

use hsu_master::{Exit, WaitFor, WorkerState};

use super::{bench, scripted, shell};
use crate::support::PATIENCE;

#[test]
fn lines_arrive_complete_and_in_order() {
    const LINES: usize = 2000;
    let bench = bench();
    let script = format!(
        "i=0; while [ $i -lt {LINES} ]; do echo out $i; echo err $i >&2; i=$((i + 1)); done"
    );
    bench.add(shell("w", &script));
    bench.master.start_worker("w").unwrap();
    bench.master.wait_for("w", WaitFor::Completed, PATIENCE).unwrap();
    // Whoever knows of the end has everything that was written before it.
    let lines: Vec<_> = bench.lines.try_iter().collect();
    for (stderr, word) in [(false, "out"), (true, "err")] {
        let told: Vec<_> = lines.iter().filter(|line| line.stderr == stderr).collect();
        assert_eq!(told.len(), LINES);
        for (number, line) in told.into_iter().enumerate() {
            assert_eq!(line.text, format!("{word} {number}"));
            assert!(line.complete && line.worker == "w" && line.incarnation == 1, "{line:?}");
        }
    }
    bench.finish();
}

#[test]
fn what_is_no_line_is_told_as_such() {
    let bench = bench();
    bench.add(shell(
        "w",
        r"printf 'a\000b\n'; head -c 40000 /dev/zero | tr '\0' x; echo; printf end",
    ));
    bench.master.start_worker("w").unwrap();
    let mut told = Vec::new();
    while told.last().is_none_or(|(text, _)| text != "end") {
        let line = bench.line();
        told.push((line.text, line.complete));
    }
    assert_eq!(told[0], ("a\0b".to_owned(), true));
    let pieces: Vec<_> = told[1..told.len() - 1].iter().collect();
    assert_eq!(pieces.iter().map(|(text, _)| text.len()).sum::<usize>(), 40_000);
    assert!(pieces.iter().all(|(text, _)| text.len() <= 16 << 10));
    assert_eq!(pieces.iter().filter(|(_, complete)| *complete).count(), 1, "one line in pieces");
    assert_eq!(told.last(), Some(&("end".to_owned(), false)));
    bench.finish();
}

#[test]
fn a_process_gets_its_arguments_environment_and_directory() {
    let (bench, directory) = (bench(), tempfile::tempdir().unwrap());
    let path = std::fs::canonicalize(directory.path()).unwrap();
    let config = shell("w", "pwd; echo $HSU_WORKER_ID $COLOR; read x; echo stdin $?");
    bench.add(config.env("COLOR", "green").working_directory(&path));
    bench.master.start_worker("w").unwrap();
    let wanted = [path.to_str().unwrap(), "w green", "stdin 1"];
    assert_eq!(wanted.map(|_| bench.line().text), wanted);
    bench.finish();
}

#[test]
fn a14_an_end_is_told_though_a_grandchild_holds_the_pipes() {
    let bench = bench();
    let script = "(echo $n; read x < $GATE; echo late) & exit 3";
    let config = scripted(&bench, "w", script).restart(crate::support::slow());
    let stop = config.stop.clone().kill_group(false);
    bench.add(config.stop(stop));
    for life in 1..=2 {
        // The second start does not wait for what the first life left behind.
        assert_eq!(bench.master.start_worker("w").unwrap(), life);
        let known = bench.once("w", |known| known.retry_at.is_some());
        assert_eq!((known.exit, known.incarnation), (Some(Exit::Code(3)), life));
    }
    // What it still writes is still read.
    bench.let_go(2);
    let mut late: Vec<_> = std::iter::from_fn(|| Some(bench.line()))
        .filter(|line| line.text == "late")
        .take(2)
        .collect();
    late.sort_unstable_by_key(|line| line.incarnation);
    assert_eq!(late.iter().map(|line| line.incarnation).collect::<Vec<_>>(), [1, 2]);
    bench.finish();
}

#[test]
fn a14_a_grandchild_that_left_the_group_holds_nothing_up() {
    let bench = bench();
    let script = "setsid sh -c 'echo out; read x < $GATE' & read y < $GATE; exit 3";
    bench.add(scripted(&bench, "w", script));
    bench.master.start_worker("w").unwrap();
    assert_eq!(bench.line().text, "out");
    bench.master.stop_worker("w").unwrap();
    assert_eq!(bench.known("w").state, WorkerState::Stopped);
    bench.let_go(1);
    bench.finish();
}

#[test]
fn a34_a_process_that_closes_its_descriptors_lives_on() {
    let bench = bench();
    let script = "exec 0<&- 1>&- 2>&-; echo closed > $VOICE; read x < $GATE; exit 5";
    bench.add(scripted(&bench, "w", script));
    bench.master.start_worker("w").unwrap();
    assert_eq!(bench.hears(), "closed");
    // The end of its output is not its end.
    assert_eq!(bench.known("w").state, WorkerState::Running);
    bench.let_go(1);
    let known = bench.once("w", |known| known.gave_up);
    assert_eq!(known.exit, Some(Exit::Code(5)));
    bench.finish();
}
