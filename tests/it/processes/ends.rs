//! Ends of processes, by themselves and when asked (FAULTS A01, A02, A04 to A06, A15, A16, A24,
//! A30, A31).

use std::sync::Arc;
use std::time::Duration;

use hsu_master::{
    ErrorCategory, Exit, Master, Ratio, RestartConfig, RestartPolicy, SuccessCodes, WaitFor,
    WorkerConfig, WorkerState,
};

use super::{bench, shell};
use crate::support::{NEVER, PATIENCE, answer, ms, once, quick, until};

const UP: [&str; 4] = ["initializing", "initialized", "starting", "running"];

#[test]
fn a01_a_crash_right_after_the_spawn_is_a_crash_of_what_ran() {
    let bench = bench();
    bench.add(shell("w", "exit 1").restart(quick().max_retries(1)));
    assert_eq!(bench.master.start_worker("w").unwrap(), 1);
    bench.sees("w", &UP);
    bench.sees("w", &["failed: crash", "starting: retry", "running", "failed: crash"]);
    bench.sees("w", &["stopped: gave up"]);
    let known = bench.known("w");
    assert_eq!((known.exit, known.restarts), (Some(Exit::Code(1)), 1));
    assert_eq!(known.last_error.unwrap().message, "exit 1");
    bench.finish();
}

#[test]
fn a02_a_crash_loop_slows_down_and_is_given_up() {
    let bench = bench();
    bench.add(shell("fast", "exit 1").restart(quick().max_retries(4)));
    bench.master.start_worker("fast").unwrap();
    bench.sees("fast", &UP);
    for _ in 0..4 {
        bench.sees("fast", &["failed: crash", "starting: retry", "running"]);
    }
    bench.sees("fast", &["failed: crash", "stopped: gave up"]);
    let known = bench.known("fast");
    assert_eq!((known.gave_up, known.incarnation, known.restarts), (true, 5, 4));

    // Pauses of 5 ms, half a second, and then of one that is there to be seen.
    let mut restart = quick().retry_delay(ms(5)).max_delay(NEVER);
    restart.backoff_rate = Ratio::from_thousandths(100_000);
    restart.jitter = Ratio::from_thousandths(0);
    bench.add(shell("slow", "exit 1").restart(restart));
    bench.master.start_worker("slow").unwrap();
    let known = bench.once("slow", |known| known.incarnation == 3 && known.retry_at.is_some());
    assert_eq!((known.state, known.cause.as_str()), (WorkerState::Failed, "crash"));
    let pause = known.retry_in.unwrap();
    assert!(pause > Duration::from_secs(10) && pause <= Duration::from_secs(50), "{pause:?}");
    assert!(!known.gave_up);
    bench.finish();
}

#[test]
fn a04_every_policy_meets_every_end() {
    let bench = bench();
    for (end, script, completed) in [
        ("success", "exit 0", true),
        ("failure", "exit 1", false),
        ("killed", "kill -KILL $$", false),
        ("asked-by-others", "kill -TERM $$", false),
    ] {
        for policy in RestartPolicy::ALL {
            let id = format!("{end}-{}", policy.as_str());
            let restart = RestartConfig::policy(policy).retry_delay(NEVER).max_delay(NEVER);
            bench.add(shell(&id, script).restart(restart));
            bench.master.start_worker(&id).unwrap();
            let known = bench.once(&id, |known| known.phase == "none");
            let always = matches!(policy, RestartPolicy::Always | RestartPolicy::UnlessStopped);
            let again = always || (policy == RestartPolicy::OnFailure && !completed);
            assert_eq!(known.retry_at.is_some(), again, "{known:#?}");
            assert_eq!(known.gave_up, !completed && !again, "{known:#?}");
            let rests = completed || known.gave_up;
            let state = if rests { WorkerState::Stopped } else { WorkerState::Failed };
            assert_eq!(known.state, state, "{known:#?}");
            assert_eq!(known.cause == "completed", completed);
        }
    }
    bench.finish();
}

#[test]
fn a05_every_exit_code_is_told_exactly() {
    // A bare master: a bench's story would be too long.
    let master = Master::builder().build().unwrap();
    let id = |code: i32| format!("exit-{code}");
    for code in 0..=255 {
        master.add_worker(shell(&id(code), &format!("exit {code}"))).unwrap();
        master.start_worker(&id(code)).unwrap();
    }
    for code in 0..=255 {
        let known = once(&master, &id(code), |known| known.phase == "none");
        assert_eq!(known.exit, Some(Exit::Code(code)));
        let said = known.last_error.map(|error| error.message);
        assert_eq!(said, (code != 0).then(|| format!("exit {code}")));
    }
    master.shutdown().unwrap();
}

#[test]
fn a06_death_by_signal_is_named_and_never_a_code() {
    let bench = bench();
    for (signal, name) in [
        (6, "SIGABRT (6)"),
        (9, "SIGKILL (9)"),
        (11, "SIGSEGV (11)"),
        (12, "SIGUSR2 (12)"),
        (13, "SIGPIPE (13)"),
        (15, "SIGTERM (15)"),
        (34, "34"),
    ] {
        let id = format!("signal-{signal}");
        bench.add(shell(&id, &format!("ulimit -c 0; kill -{signal} $$")));
        bench.master.start_worker(&id).unwrap();
        let known = bench.once(&id, |known| known.phase == "none");
        assert!(matches!(known.exit, Some(Exit::Signal { signal: by, .. }) if by == signal));
        let error = known.last_error.unwrap();
        // A core may be written all the same where a program takes it.
        assert!(error.message.starts_with(&format!("signal {name}")), "{error:?}");
        assert_eq!(error.category, ErrorCategory::Crash);
    }
    bench.finish();
}

#[test]
fn success_is_what_the_configuration_says() {
    let bench = bench();
    let codes = || SuccessCodes::codes([3, 4]).signals([15]);
    for (id, script, completed) in [
        ("listed-code", "exit 3", true),
        ("listed-signal", "kill -TERM $$", true),
        ("zero", "exit 0", false),
        ("other-signal", "kill -HUP $$", false),
        ("no-fold", "exit 143", false),
    ] {
        bench.add(shell(id, script).success_codes(codes()));
        bench.master.start_worker(id).unwrap();
        let known = bench.once(id, |known| known.phase == "none");
        assert_eq!(known.satisfies(WaitFor::Completed), completed, "{known:#?}");
        assert_eq!(known.gave_up, !completed, "{known:#?}");
    }
    bench.finish();
}

/// Waits for ever, in a way that cannot miss a signal: it ends the sleep too, and so the wait.
const WAIT: &str = "while :; do sleep 1000 & wait; done";

#[test]
fn a15_what_had_to_be_killed_is_reported() {
    let bench = bench();
    for (id, trap, patience) in [("deaf", "", ms(50)), ("hears", "exit 0", PATIENCE)] {
        let config = shell(id, &format!("trap '{trap}' TERM; echo ready; {WAIT}"));
        let stop = config.stop.clone().timeout(patience);
        bench.add(config.stop(stop));
        bench.master.start_worker(id).unwrap();
        assert_eq!(bench.line().text, "ready");
    }
    let master = Arc::clone(&bench.master);
    let report = bench.finish().report;
    assert_eq!((report.killed, report.stuck), (vec!["deaf".to_owned()], vec![]));
    let exit = |id| master.worker_diagnostics(id).unwrap().exit.unwrap();
    assert_eq!(exit("deaf"), Exit::Signal { signal: 9, core_dumped: false });
    assert_eq!(exit("hears"), Exit::Code(0));
}

#[test]
fn a15_what_is_left_of_the_group_ends_with_its_leader() {
    let bench = bench();
    let script = "(trap '' TERM; echo deaf; exec sleep 1000) & echo $!; exec sleep 1000";
    bench.add(shell("w", script));
    bench.master.start_worker("w").unwrap();
    let said = [bench.line().text, bench.line().text];
    let straggler = said.iter().find(|line| *line != "deaf").unwrap();
    bench.master.stop_worker("w").unwrap();
    // Whoever inherits it may leave it unreaped, dead as it is.
    let stat = format!("/proc/{straggler}/stat");
    until(|| std::fs::read_to_string(&stat).map_or(true, |stat| stat.contains(") Z ")));
    bench.finish();
}

#[test]
fn a16_a_stopped_process_hears_that_it_is_asked() {
    let bench = bench();
    let config = shell("w", &format!("trap 'exit 7' TERM; (kill -STOP $$; echo stopped) & {WAIT}"));
    let stop = config.stop.clone().timeout(PATIENCE);
    bench.add(config.stop(stop));
    bench.master.start_worker("w").unwrap();
    assert_eq!(bench.line().text, "stopped");
    bench.master.stop_worker("w").unwrap();
    assert_eq!(bench.known("w").exit, Some(Exit::Code(7)));
    bench.finish();
}

#[test]
fn the_configured_signal_asks() {
    let bench = bench();
    let config = shell("w", &format!("trap 'exit 4' USR1; trap '' TERM; echo ready; {WAIT}"));
    let stop = config.stop.clone().timeout(PATIENCE).signal(10);
    bench.add(config.stop(stop));
    bench.master.start_worker("w").unwrap();
    assert_eq!(bench.line().text, "ready");
    bench.master.stop_worker("w").unwrap();
    assert_eq!(bench.known("w").exit, Some(Exit::Code(4)));
    bench.finish();
}

#[test]
fn a24_a_stop_at_any_moment_of_the_start_leaves_nothing() {
    let bench = bench();
    bench.add(WorkerConfig::executable("w", "/bin/sleep").args(["1000"]));
    for round in 0..100_u32 {
        let start = bench.master.start_worker_nowait("w");
        // A little later each time: turns of nothing take the stop through the steps of the start.
        (0..round * 200).for_each(|_| std::hint::spin_loop());
        let stop = bench.master.stop_worker_nowait("w", round % 3 == 0);
        answer(&stop).unwrap();
        if let Err(error) = answer(&start) {
            assert!(error.is_cancelled(), "{error}");
        }
        let known = bench.known("w");
        assert_eq!((known.phase, known.state), ("none", WorkerState::Stopped));
        assert_eq!((known.pid, known.incarnation), (None, u64::from(round) + 1));
    }
    bench.finish();
}

#[test]
fn a30_an_end_that_races_with_the_stop_is_no_error() {
    let bench = bench();
    let mut restart = quick();
    restart.policy = RestartPolicy::Always;
    bench.add(WorkerConfig::executable("w", "/bin/true").restart(restart));
    for round in 0..100 {
        bench.master.start_worker("w").unwrap();
        answer(&bench.master.stop_worker_nowait("w", round % 2 == 0)).unwrap();
        let known = bench.known("w");
        assert_eq!((known.phase, known.goal, known.retry_at), ("none", "down", None));
        let exit = known.exit.unwrap();
        let asked = matches!(exit, Exit::Signal { signal: 9 | 15, .. } | Exit::Returned);
        assert!(asked || exit == Exit::Code(0), "{exit}");
    }
    bench.finish();
}

#[test]
fn a31_no_end_of_a_short_life_is_lost() {
    // A bare master: nobody could follow so many events on a busy machine.
    let master = Master::builder().build().unwrap();
    let mut restart = quick().retry_delay(Duration::ZERO);
    restart.policy = RestartPolicy::Always;
    master.add_worker(WorkerConfig::executable("w", "/bin/true").restart(restart)).unwrap();
    master.start_worker("w").unwrap();
    for hundreds in 1..=10 {
        // An end that was lost would be a Running for ever.
        once(&master, "w", |known| known.incarnation >= hundreds * 100);
    }
    master.stop_worker("w").unwrap();
    let known = master.worker_diagnostics("w").unwrap();
    assert_eq!((known.restarts, known.last_error), (known.incarnation - 1, None));
    master.shutdown().unwrap();
}
