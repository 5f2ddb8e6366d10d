//! Cases about what a module logs through `log` (FAULTS B28).

use hsu_master::WorkerState;

use super::Stage;
use crate::actor::Life;
use crate::logged;

pub(super) fn log_lines_arrive_from_every_callback(stage: &Stage) {
    if !stage.is_of_a_module() {
        return;
    }
    let (bench, master) = (&stage.bench, &stage.bench.master);
    stage.add("w", &[Life::Logs], |config| config);
    master.start_worker("w").unwrap();
    master.call("w", "log", b"").unwrap();
    let levels: Vec<_> = log::Level::iter().collect();
    for callback in ["initialize", "start", "thread", "function"] {
        for level in &levels {
            let said = format!("{callback} {level} {}", bench.gate().display());
            let [line] = &logged::lines(1, &said)[..] else { panic!("{said} came twice") };
            let told = (line.level, line.target.as_str(), line.worker.as_deref());
            assert_eq!(told, (*level, "actor::of", Some("w")));
            assert_eq!(line.text, said);
        }
    }
}

pub(super) fn long_log_records_keep_every_byte(stage: &Stage) {
    let aspect = "a log record of many lines, or of many KiB";
    if stage.cannot_be(aspect) || !stage.is_of_a_module() {
        return;
    }
    let (bench, master) = (&stage.bench, &stage.bench.master);
    stage.add("w", &[Life::Stays], |config| config);
    master.start_worker("w").unwrap();
    let mark = bench.gate().display().to_string();
    let text = format!("{mark} one\n{mark} two {}", "x".repeat(20 << 10));
    master.call("w", "log", text.as_bytes()).unwrap();
    let found = logged::lines(1, &mark);
    let of_worker = |worker: &Option<String>| worker.as_deref() == Some("w");
    if found[0].text == text {
        return stage.observed(aspect, "one record");
    }
    // The rest of a line comes without the mark: what is logged after it must come after it.
    master.call("w", "log", format!("{mark} end").as_bytes()).unwrap();
    logged::lines(1, &format!("{mark} end"));
    let lines = logged::lines(1, "");
    let begin = lines.iter().position(|line| line.text == format!("{mark} one")).unwrap();
    let mut own = lines[begin..].iter().filter(|line| of_worker(&line.worker));
    let mut pieces = Vec::new();
    for line in own.by_ref().skip(1).take_while(|line| !line.text.ends_with("end")) {
        // Other tests have workers of this name.
        if line.text.contains(&mark) || line.text.bytes().all(|byte| byte == b'x') {
            pieces.push(line.text.as_str());
        }
    }
    assert_eq!(pieces.concat(), text.split_once('\n').unwrap().1);
    stage.observed(aspect, "a record for each line, in pieces of 16 KiB");
}

pub(super) fn a_flood_of_log_lines_holds_nobody_up(stage: &Stage) {
    if !stage.is_of_a_module() {
        return;
    }
    let (bench, master) = (&stage.bench, &stage.bench.master);
    for id in ["flooder", "neighbour"] {
        stage.add(id, &[Life::Stays], |config| config);
        master.start_worker(id).unwrap();
    }
    let mark = format!("flood {}", bench.gate().display());
    let lines = 20_000;
    let flood = master.function("flooder", "flood").call_nowait::<()>(&(&mark, lines));
    for life in 2..12 {
        assert_eq!(master.restart_worker("neighbour", false).unwrap(), life);
        assert_eq!(bench.known("flooder").state, WorkerState::Running);
    }
    crate::support::answer(&flood).unwrap();
    let found = logged::lines(lines, &mark);
    for (number, line) in found.iter().enumerate() {
        assert_eq!(line.text, format!("{mark} {number}"), "in order, and each once");
    }
}

pub(super) fn bytes_that_are_no_text_become_text(stage: &Stage) {
    if !stage.is_of_a_module() {
        return;
    }
    let (bench, master) = (&stage.bench, &stage.bench.master);
    stage.add("w", &[Life::Stays], |config| config);
    master.start_worker("w").unwrap();
    let mark = bench.gate().display().to_string();
    master.call("w", "log", &[mark.as_bytes(), b"\0\x01\xff<3>"].concat()).unwrap();
    let [line] = &logged::lines(1, &mark)[..] else { panic!("there is one line") };
    assert_eq!(line.text, format!("{mark}\0\u{1}\u{fffd}<3>"));
    assert_eq!(line.level, log::Level::Info);
}
