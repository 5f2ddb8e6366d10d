//! Cases about lives: how they begin, fail, complete and follow each other.

use std::time::Duration;

use hsu_master::{
    Deployment, EndpointInfo, ErrorCategory, EventKind, Exit, HealthStatus, RestartConfig,
    RestartPolicy, WaitFor, WorkerState, WorkerType,
};

use super::{Stage, category};
use crate::actor::Life;
use crate::support::{NEVER, PATIENCE, ms, quick, slow};

const FIRST: [&str; 4] = ["initializing: command", "initialized", "starting", "running: started"];

pub(super) fn it_starts_stops_and_restarts(stage: &Stage) {
    let (bench, master) = (&stage.bench, &stage.bench.master);
    stage.add("w", &[Life::Stays], |config| config);
    assert_eq!(master.start_worker("w").unwrap(), 1);
    bench.sees("w", &FIRST);
    assert_eq!(master.start_worker("w").unwrap(), 1, "it runs already");
    assert_eq!(master.restart_worker("w", false).unwrap(), 2);
    bench.sees("w", &["stopping: command", "stopped: ended", "starting: command", "running"]);
    assert_eq!(master.restart_worker("w", true).unwrap(), 3);
    bench.sees("w", &["stopping: command", "stopped: ended", "starting: command", "running"]);
    master.stop_worker("w").unwrap();
    bench.sees("w", &["stopping: command", "stopped: ended"]);
    master.stop_worker("w").unwrap();
    assert_eq!(master.restart_worker("w", false).unwrap(), 4, "of what is stopped it is a start");
    assert_eq!(bench.sees("w", &["starting: command", "running"]), 4);
    let known = bench.known("w");
    assert_eq!((known.restarts, known.incarnation), (0, 4), "nobody but commands started it");
}

pub(super) fn every_start_is_a_fresh_life(stage: &Stage) {
    let (bench, master) = (&stage.bench, &stage.bench.master);
    stage.add("w", &[Life::Stays], |config| config);
    for life in 1..=3 {
        // The actor fails when an instance, or a process, is started twice.
        assert_eq!(master.start_worker("w").unwrap(), life);
        assert_eq!(bench.hears(), format!("w {life} ready"));
        master.stop_worker("w").unwrap();
    }
}

pub(super) fn a_crash_is_failed_then_retried(stage: &Stage) {
    let (bench, master) = (&stage.bench, &stage.bench.master);
    for (id, life) in [("breaks", Life::Breaks), ("fails", Life::Fails)] {
        stage.add(id, &[life, Life::Stays], |config| config.restart(quick()));
        assert_eq!(master.start_worker(id).unwrap(), 1, "it was up before it failed");
        bench.sees(id, &FIRST);
        let incarnation =
            bench.sees(id, &[&stage.failed(life), "starting: retry", "running: started"]);
        let known = bench.known(id);
        assert_eq!((incarnation, known.incarnation, known.restarts), (2, 2, 1));
        let error = known.last_error.clone().unwrap();
        assert_eq!(error.category, stage.category(life));
        if life == Life::Breaks {
            let panic =
                error.message.contains("the actor was told to break at tests/it/actor/module.rs:");
            let told = if panic { "a panic, with message and place" } else { "" };
            let signal = error.message == "signal SIGKILL (9)";
            stage.observed("a crash", if signal { "an exit code or a signal" } else { told });
        }
    }
}

pub(super) fn a_launch_that_fails(stage: &Stage) {
    let bench = &stage.bench;
    let never = RestartConfig::policy(RestartPolicy::Never);
    stage.add("once", &[Life::Unlaunchable], |config| config.restart(never));
    let failed = stage.failed(Life::Unlaunchable);
    let refused = bench.master.start_worker("once");
    assert_eq!(category(&refused), Some(stage.category(Life::Unlaunchable)));
    assert_eq!(refused.unwrap_err().worker(), Some("once"));
    bench.sees("once", &["initializing: command", &failed, "stopped: gave up"]);

    stage.add("twice", &[Life::Unlaunchable], |config| config.restart(quick().max_retries(1)));
    assert!(bench.master.start_worker("twice").is_err());
    bench.sees("twice", &["initializing", &failed, "starting: retry", &failed, "stopped: gave up"]);
}

pub(super) fn a_start_that_fails(stage: &Stage) {
    let bench = &stage.bench;
    stage.add("w", &[Life::Unstartable], |config| config.restart(quick().max_retries(1)));
    let refused = bench.master.start_worker("w");
    assert_eq!(category(&refused), Some(stage.category(Life::Unstartable)));
    let failed = stage.failed(Life::Unstartable);
    bench.sees("w", &["initializing", "initialized", "starting", &failed]);
    bench.sees("w", &["starting: retry", &failed, "stopped: gave up"]);
    let known = bench.known("w");
    assert_eq!((known.phase, known.incarnation, known.gave_up), ("none", 2, true));
}

pub(super) fn a_start_that_hangs(stage: &Stage) {
    if stage.cannot_be("a start that hangs") {
        return;
    }
    let bench = &stage.bench;
    // A process must get as far as its start within that.
    let thread = stage.place.deployment == Deployment::Thread;
    let patience = ms(if thread { 300 } else { 1500 });
    stage.add("w", &[Life::Hangs, Life::Stays], |config| {
        config.restart(quick()).start_timeout(patience)
    });
    let late = bench.master.start_worker("w").unwrap_err();
    assert!(late.is_timeout(), "{late}");
    bench.sees("w", &["initializing", "initialized", "starting", "failed: timeout"]);
    // The end of a start that was called off is asked for, and this one heeds that.
    bench.sees("w", &["starting: retry", "running"]);
    stage.observed("a start that hangs", "failed after `start.timeout`, then as an ignored stop");
}

pub(super) fn every_policy_meets_completed_work(stage: &Stage) {
    let bench = &stage.bench;
    for policy in RestartPolicy::ALL {
        let id = policy.as_str();
        let restart = RestartConfig::policy(policy).retry_delay(ms(1));
        stage.add(id, &[Life::Completes, Life::Stays], |config| config.restart(restart));
        assert_eq!(bench.master.start_worker(id).unwrap(), 1);
        bench.sees(id, &FIRST);
        bench.sees(id, &["stopping: completed", "stopped: completed"]);
        if matches!(policy, RestartPolicy::Never | RestartPolicy::OnFailure) {
            let known = bench.master.wait_for(id, WaitFor::Completed, PATIENCE).unwrap();
            assert!(known.satisfies(WaitFor::Stopped));
            assert_eq!((known.retry_at, known.gave_up, known.goal), (None, false, "up"));
            assert_eq!(known.last_error, None, "completed work is no error");
        } else {
            assert_eq!(bench.sees(id, &["starting: repeat", "running"]), 2);
            assert_eq!(bench.known(id).restarts, 1);
        }
    }
    // What counted as completed was the actor's own doing in this place.
    let own = ["an end listed in `success_codes`", "`ctx.complete()`"];
    let exited = stage.place.deployment == Deployment::Program;
    let end =
        if stage.place.deployment == Deployment::Thread { Exit::Returned } else { Exit::Code(0) };
    assert_eq!(bench.known("never").exit, Some(end));
    stage.observed("completing its work", own[usize::from(!exited)]);
}

pub(super) fn every_policy_meets_a_failure(stage: &Stage) {
    let bench = &stage.bench;
    for policy in RestartPolicy::ALL {
        let id = policy.as_str();
        let restart = RestartConfig::policy(policy).retry_delay(ms(1));
        stage.add(id, &[Life::Fails, Life::Stays], |config| config.restart(restart));
        assert_eq!(bench.master.start_worker(id).unwrap(), 1);
        bench.sees(id, &FIRST);
        bench.sees(id, &["failed: crash"]);
        if policy == RestartPolicy::Never {
            bench.sees(id, &["stopped: gave up"]);
            let known = bench.known(id);
            assert_eq!((known.gave_up, known.retry_at, known.goal), (true, None, "up"));
            assert!(known.satisfies(WaitFor::Stopped));
        } else {
            assert_eq!(bench.sees(id, &["starting: retry", "running"]), 2);
        }
    }
}

pub(super) fn it_gives_up_and_tries_again(stage: &Stage) {
    let bench = &stage.bench;
    let lives = [Life::Fails, Life::Fails, Life::Fails, Life::Fails, Life::Stays];
    let restart = quick().max_retries(2).half_open_after(ms(1));
    stage.add("w", &lives, |config| config.restart(restart));
    assert_eq!(bench.master.start_worker("w").unwrap(), 1);
    bench.sees("w", &FIRST);
    for _ in 0..2 {
        bench.sees("w", &["failed: crash", "starting: retry", "running"]);
    }
    for _ in 0..2 {
        bench.sees("w", &["failed: crash", "stopped: gave up", "starting: trial", "running"]);
    }
    let known = bench.known("w");
    assert_eq!((known.incarnation, known.restarts, known.gave_up), (5, 4, false));
}

pub(super) fn diagnostics_tell_all(stage: &Stage) {
    let (bench, master) = (&stage.bench, &stage.bench.master);
    stage.add("w", &[Life::Stays], |config| config.restart(slow()));
    let known = bench.known("w");
    let thread = stage.place.deployment == Deployment::Thread;
    let worker_type = if thread { WorkerType::Module } else { WorkerType::Process };
    assert_eq!((known.id.as_str(), known.worker_type), ("w", worker_type));
    assert_eq!((known.state, known.cause.as_str()), (WorkerState::Uninitialized, "added"));
    assert_eq!((known.goal, known.phase, known.incarnation), ("down", "none", 0));
    assert_eq!(
        (known.pid, known.uptime, &known.exit, &known.last_error),
        (None, None, &None, &None)
    );
    assert!(known.satisfies(WaitFor::Stopped));

    master.start_worker("w").unwrap();
    let known = master.wait_for("w", WaitFor::Running, PATIENCE).unwrap();
    assert_eq!((known.state, known.cause.as_str()), (WorkerState::Running, "started"));
    assert_eq!((known.goal, known.phase, known.ready, known.ending), ("up", "up", true, false));
    assert!(known.uptime.is_some_and(|uptime| uptime < PATIENCE));
    let can = known.capabilities;
    let kills = stage.difference("an ignored stop").starts_with("killed");
    let alone = stage.difference("a crash beyond a panic") == "is the worker's alone";
    let asked = !stage.difference("health").starts_with("not checked");
    assert_eq!((can.killable, can.isolated, can.health), (kills, alone, asked));

    bench.hears_that("w 1 ready");
    master.stop_worker("w").unwrap();
    let known = bench.known("w");
    assert_eq!((known.state, known.cause.as_str()), (WorkerState::Stopped, "ended"));
    assert_eq!((known.goal, known.phase, known.ready, known.pid), ("down", "none", false, None));
    assert_eq!((known.gave_up, known.abandoned_threads, known.warning), (false, 0, None));
    let end = known.exit.clone().unwrap();
    let process = matches!(end, Exit::Signal { signal: 15, .. } | Exit::Code(0));
    assert!(process || end == Exit::Returned, "{end}");
    let end = if process { "exit code or signal" } else { "returned" };
    stage.observed("how its end is shown", end);

    stage.add("retried", &[Life::Fails], |config| config.restart(slow()));
    master.start_worker("retried").unwrap();
    bench.sees("retried", &FIRST);
    bench.sees("retried", &["failed: crash"]);
    // The verdict comes at once; the pause begins when the incarnation is gone.
    let known = bench.once("retried", |known| known.retry_at.is_some());
    assert_eq!((known.state, known.phase, known.gave_up), (WorkerState::Failed, "none", false));
    let (pause, ended) = (known.retry_in.unwrap(), known.exit.is_some());
    assert!(ended && !known.satisfies(WaitFor::Stopped));
    assert!(pause > NEVER / 2 && pause < NEVER * 2, "{pause:?}");
    assert!(known.retry_at.unwrap() > known.since + Duration::from_secs(1));
    assert_eq!(master.all_worker_diagnostics().len(), 2);
}

pub(super) fn what_it_runs_in(stage: &Stage) {
    let (bench, master) = (&stage.bench, &stage.bench.master);
    let program = stage.place.deployment == Deployment::Program;
    let listed = EndpointInfo::http("api", "127.0.0.1:2");
    stage.add("w", &[Life::Stays], |config| if program { config.endpoint(listed) } else { config });
    master.start_worker("w").unwrap();
    let known = bench.known("w");
    let own = known.pid.is_some_and(|pid| pid != std::process::id());
    stage.observed("process id", if own { "its own" } else { "none" });
    let endpoint = master.endpoint("w", "api").unwrap();
    let seen = match endpoint.info.address.as_str() {
        "127.0.0.1:1" => "those the module publishes",
        "127.0.0.1:2" => "those its configuration lists",
        other => other,
    };
    stage.observed("endpoints", seen);

    let asked = known.health != HealthStatus::None;
    let program = "not checked; by its presence with `type: process`";
    stage.observed("health", if asked { "asked of the module" } else { program });
    if asked {
        master.wait_for("w", WaitFor::Healthy, PATIENCE).unwrap();
    }
    // What a thread prints would land among the tests' own output, and the environment is this
    // program's: both are observed of processes alone.
    let said = (stage.place.deployment != Deployment::Thread).then(|| {
        stage.add("speaker", &[Life::Speaks], |config| config);
        master.start_worker("speaker").unwrap();
        bench.line().text
    });
    let whose =
        |own| if said.as_deref() == Some("hello, speaker") { own } else { "the master's own" };
    stage.observed("standard output", whose("read by the master, line by line"));
    stage.observed("environment and directory", whose("set for the worker"));
}

pub(super) fn a_configuration_that_is_wrong(stage: &Stage) {
    if !stage.is_of_a_module() {
        // What a program makes of what it is given is its own affair.
        return;
    }
    let bench = &stage.bench;
    let mut config = stage.worker("w", &[Life::Stays]).restart(quick());
    config.config["lives"] = serde_json::json!(["Stays", "Sleeps"]);
    bench.add(config);
    let error = bench.master.start_worker("w").unwrap_err();
    assert_eq!((error.category(), error.worker()), (ErrorCategory::Configuration, Some("w")));
    assert!(error.permanent(), "no retry can mend it");
    let said = error.to_string();
    assert!(said.starts_with("worker w: config.lives[1]: unknown variant `Sleeps`"), "{said}");
    bench.sees("w", &["initializing", "failed: configuration", "stopped: gave up"]);
    let known = bench.known("w");
    assert_eq!((known.incarnation, known.gave_up), (1, true));
    assert_eq!(format!("worker w: {}", known.last_error.unwrap().message), said);
}

pub(super) fn endpoints_move_with_incarnations(stage: &Stage) {
    let (bench, master) = (&stage.bench, &stage.bench.master);
    let listed = EndpointInfo::tcp("api", "127.0.0.1:9");
    let program = stage.place.deployment == Deployment::Program;
    let own = listed.clone();
    stage.add("w", &[Life::Stays], |config| if program { config.endpoint(own) } else { config });
    let address = |life| {
        if program { listed.clone() } else { EndpointInfo::tcp("api", format!("127.0.0.1:{life}")) }
    };
    assert!(master.endpoint("w", "api").is_err(), "nothing runs yet");
    for life in 1..=3 {
        assert_eq!(master.restart_worker("w", false).unwrap(), life);
        let known = master.endpoint("w", "api").unwrap();
        assert_eq!((known.incarnation, known.info), (life, address(life)));
        // Whoever follows the events hears of it too.
        let told = loop {
            if let (life, EventKind::Endpoint { endpoint }) = bench.next_event("w")
                && endpoint.name == "api"
            {
                break (life, endpoint);
            }
        };
        assert_eq!(told, (life, address(life)));
    }
    master.stop_worker("w").unwrap();
    assert!(master.endpoint("w", "api").unwrap_err().is_unavailable(), "nothing runs any more");
}
