//! Spawning, orders and ends: what a process gets, what it hears, and what is reported of it.

use super::*;

#[test]
fn every_exit_code_is_reported_exactly() {
    for code in 0..=255 {
        let (mut watched, _) = Watched::started(shell(&format!("exit {code}")));
        assert_eq!(watched.gone(), Exit::Code(code));
    }
}

#[test]
fn death_by_signal_is_reported_as_such() {
    // Those that nobody has ignore who starts the tests: nohup(1), a shell in the background.
    for signal in [9, 10, 12, 13, 14, 15] {
        let (mut watched, _) = Watched::started(shell(&format!("kill -{signal} $$")));
        assert_eq!(watched.gone(), Exit::Signal { signal, core_dumped: false });
    }
    let (mut watched, _) = Watched::started(shell("kill -SEGV $$"));
    assert!(matches!(watched.gone(), Exit::Signal { signal: 11, .. }));
}

#[test]
fn the_start_is_reported_before_the_end_however_short_the_life() {
    for _ in 0..500 {
        let (mut watched, pid) = Watched::started(plan("/bin/true", &[]));
        assert!(pid > 1);
        assert_eq!(watched.gone(), Exit::Code(0));
    }
}

#[test]
fn an_end_that_races_with_a_kill_is_no_error() {
    for round in 0..300 {
        let (mut watched, _) = Watched::started(plan("/bin/true", &[]));
        let (order, signal) = if round % 2 == 0 { (FORCE, 9) } else { (ASK, 15) };
        watched.host.order(&order);
        let exit = watched.gone();
        let killed = Exit::Signal { signal, core_dumped: false };
        assert!(exit == Exit::Code(0) || exit == killed, "{exit}");
        // Orders to somebody who is gone do nothing.
        watched.host.order(&order);
    }
}

#[test]
fn asked_before_the_start_it_is_never_spawned() {
    for order in [ASK, FORCE] {
        let mut watched = Watched::launch(plan("/bin/true", &[]));
        assert_eq!(watched.report(), Report::Launched);
        watched.host.order(&order);
        assert_eq!(watched.gone(), Exit::Returned);
        watched.host.order(&Order::Start);
        watched.nothing_more();
    }
}

#[test]
fn an_order_is_never_lost_between_start_and_spawn() {
    for round in 0..100 {
        let mut watched = Watched::launch(plan("/bin/sleep", &["1000"]));
        let (order, signal) = if round % 2 == 0 { (FORCE, 9) } else { (ASK, 15) };
        if round % 3 == 0 {
            assert_eq!(watched.report(), Report::Launched);
        }
        watched.host.order(&Order::Start);
        watched.host.order(&order);
        let exit = loop {
            if let Report::Gone(exit) = watched.report() {
                break exit;
            }
        };
        let killed = Exit::Signal { signal, core_dumped: false };
        assert!(exit == Exit::Returned || exit == killed, "{exit}");
    }
}

#[test]
fn a_host_dropped_before_the_start_calls_it_off() {
    let mut watched = Watched::launch(plan("/bin/true", &[]));
    assert_eq!(watched.report(), Report::Launched);
    let Watched { host, shared, seen, .. } = watched;
    drop(host);
    let report = seen.recv_timeout(PATIENCE);
    assert!(matches!(report, Ok(Seen::Report(Report::Gone(Exit::Returned)))));
    drop(shared);
}

#[test]
fn more_launches_at_once_than_threads_are_all_carried_out() {
    let (tell, seen) = unbounded();
    let shared = ProcessShared::new(Arc::new(Sink(tell.clone())), None, estate()).unwrap();
    let report: Reporter = Arc::new(move |report| {
        let _ = tell.send(Seen::Report(report));
    });
    let plan = Arc::new(plan("/bin/true", &[]));
    let launch = |n| {
        let (plan, report) = (Arc::clone(&plan), Arc::clone(&report));
        ProcessHost::launch(WorkerId::new("api").unwrap(), n, plan, &shared, report)
    };
    let count = 2 * launchers::MOST + 1;
    let hosts: Vec<_> = (0..count as u64).map(launch).collect();
    for host in &hosts {
        host.order(&Order::Start);
    }
    let mut gone = 0;
    while gone < count {
        if let Seen::Report(Report::Gone(exit)) = seen.recv_timeout(PATIENCE).unwrap() {
            assert_eq!(exit, Exit::Code(0));
            gone += 1;
        }
    }
}

#[test]
fn orders_that_mean_nothing_to_a_process_change_nothing() {
    let fifos = Fifos::new();
    let (mut watched, _) = Watched::started(scripted("read x < $A; exit 4", &fifos));
    let launch = Launch {
        worker: "api".to_owned(),
        incarnation: 3,
        module: ModuleSource::Native("api".into()),
        config: serde_json::Value::Null,
    };
    for order in
        [Order::Launch(Box::new(launch)), Order::Start, Order::Probe { probe: 1 }, Order::Abandon]
    {
        watched.host.order(&order);
    }
    fifos.release();
    assert_eq!(watched.gone(), Exit::Code(4));
}

#[test]
fn what_ignores_the_stop_signal_is_ended_by_force() {
    let fifos = Fifos::new();
    let script = "trap '' TERM; echo ready; read x < $A; echo lives; read x < $A";
    let (mut watched, _) = Watched::started(scripted(script, &fifos));
    watched.said("ready");
    watched.host.order(&ASK);
    fifos.release();
    watched.said("lives");
    watched.host.order(&FORCE);
    assert_eq!(watched.gone(), Exit::Signal { signal: 9, core_dumped: false });
}

#[test]
fn a_stopped_process_hears_that_it_is_asked() {
    for kill_group in [true, false] {
        let fifos = Fifos::new();
        let script = "trap 'exit 7' TERM; (read x < $A) & (kill -STOP $$; echo stopped); wait";
        let plan = ProcessPlan { kill_group, ..scripted(script, &fifos) };
        let (mut watched, _) = Watched::started(plan);
        watched.said("stopped");
        watched.host.order(&ASK);
        assert_eq!(watched.gone(), Exit::Code(7));
        fifos.release();
        watched.nothing_more();
    }
}

#[test]
fn what_is_left_of_the_group_is_killed() {
    let fifos = Fifos::new();
    let script = "sleep 1000 & echo pid $!; read x < $A; exit 0";
    let (mut watched, _) = Watched::started(scripted(script, &fifos));
    let straggler = watched.said("pid ")["pid ".len()..].parse().unwrap();
    let straggler = sys::pidfd_open(straggler).unwrap();
    fifos.release();
    assert_eq!(watched.gone(), Exit::Code(0));
    let ended = sys::wait_readable([Some(straggler.as_fd())], Some(PATIENCE));
    assert_eq!(ended.unwrap(), [true]);
}

#[test]
fn the_stop_signal_goes_to_the_group_or_to_the_leader_alone() {
    let script = "trap 'echo leader > $B; exit 5' TERM; \
        (trap 'echo child > $B; exit' TERM; echo ready; read x < $A) & wait";
    let fifos = Fifos::new();
    let plan = ProcessPlan { kill_group: false, ..scripted(script, &fifos) };
    let (mut watched, _) = Watched::started(plan);
    watched.said("ready");
    watched.host.order(&ASK);
    assert_eq!(watched.gone(), Exit::Code(5));
    assert_eq!(fifos.heard(), "leader\n");
    fifos.release();
    watched.nothing_more();
}

#[test]
fn a_process_gets_its_arguments_environment_and_directory() {
    let directory = tempfile::tempdir().unwrap();
    let path = fs::canonicalize(directory.path()).unwrap();
    let mut plan = plan("sh", &["-c", "pwd; echo $HSU_WORKER_ID $COLOR $0; cat", "two words"]);
    plan.environment.insert("COLOR".to_owned(), "green".to_owned());
    plan.environment.insert("HSU_WORKER_ID".to_owned(), "other".to_owned());
    plan.working_directory = Some(path.clone());
    let (mut watched, _) = Watched::started(plan);
    assert_eq!(watched.gone(), Exit::Code(0));
    assert_eq!(watched.out(), format!("{}\napi green two words\n", path.display()));
}

#[test]
fn a_program_is_found_in_the_workers_path_or_beside_its_directory() {
    let directory = tempfile::tempdir().unwrap();
    fs::create_dir(directory.path().join("bin")).unwrap();
    std::os::unix::fs::symlink("/bin/sh", directory.path().join("bin/hsu-shell")).unwrap();
    for (program, path) in [("hsu-shell", Some("/nowhere:bin")), ("bin/hsu-shell", None)] {
        let mut plan = plan(program, &["-c", "exit 9"]);
        plan.working_directory = Some(directory.path().to_owned());
        plan.environment.extend(path.map(|path| ("PATH".to_owned(), path.to_owned())));
        let (mut watched, _) = Watched::started(plan);
        assert_eq!(watched.gone(), Exit::Code(9));
    }
}

#[test]
fn a_process_gets_the_descriptor_limit_back() {
    let fifos = Fifos::new();
    let plan = scripted("read x < $A; ulimit -Sn; ulimit -Hn", &fifos);
    let mut watched = Watched::launch_limited(plan, Some(sys::Limit { soft: 77, hard: 500 }));
    watched.host.order(&Order::Start);
    watched.spawned();
    fifos.release();
    assert_eq!(watched.gone(), Exit::Code(0));
    assert_eq!(watched.out(), "77\n500\n");
}

#[test]
fn a_process_has_three_descriptors() {
    let shell = ["sh", "-c", r#"exec 7</dev/null; exec "$@""#, "sh"];
    if !alone::here(&shell, a_process_has_three_descriptors) {
        return;
    }
    sys::cloexec_inherited().unwrap();
    // The fourth is the directory that `ls` reads.
    let (mut watched, _) = Watched::started(plan("ls", &["/proc/self/fd"]));
    assert_eq!(watched.gone(), Exit::Code(0));
    assert_eq!(watched.out(), "0\n1\n2\n3\n");
}

#[test]
fn two_hundred_lives_leave_no_descriptor_and_no_child() {
    if !alone::here(&[], two_hundred_lives_leave_no_descriptor_and_no_child) {
        return;
    }
    let descriptors = || fs::read_dir("/proc/self/fd").unwrap().count();
    let before = descriptors();
    for round in 0..200 {
        let program = if round % 2 == 0 { "/bin/true" } else { "/none" };
        let watched = Watched::launch(plan(program, &[]));
        watched.host.order(&Order::Start);
        watched.nothing_more();
    }
    assert_eq!(descriptors(), before);
    let children = fs::read_to_string("/proc/thread-self/children").unwrap_or_default();
    assert_eq!(children, "");
}
