//! Cases about commands: what each does in each state, and that each gets its one reply.

use hsu_master::{ErrorCategory, RestartPolicy, Result, WaitFor, WorkerDiagnostics, WorkerState};

use super::{Stage, category};
use crate::actor::Life;
use crate::support::{Bench, PATIENCE, answer, quick, slow};

pub(super) fn a_stop_while_starting_cancels_the_start(stage: &Stage) {
    let (bench, master) = (&stage.bench, &stage.bench.master);
    let ways: [(_, _, &[&str]); 2] = [
        ("early", WorkerState::Initializing, &["initializing"]),
        ("late", WorkerState::Starting, &["initializing", "initialized", "starting"]),
    ];
    for (id, state, way) in ways {
        stage.add(id, &[Life::Stays], |config| config);
        let held = bench.hold(id, state);
        let start = master.start_worker_nowait(id);
        let stop = held.while_held(|| master.stop_worker_nowait(id, false));
        let start = answer(&start);
        assert!(start.as_ref().is_err_and(|error| error.is_cancelled()), "{start:?}");
        answer(&stop).unwrap();
        bench.sees(id, way);
        bench.sees(id, &["failed: cancelled", "stopped: ended"]);
        let known = bench.known(id);
        assert_eq!((known.goal, known.phase, known.gave_up), ("down", "none", false));
    }
    // A later life has no state of its own for the launch.
    stage.add("again", &[Life::Stays], |config| config);
    master.start_worker("again").unwrap();
    master.stop_worker("again").unwrap();
    bench.sees("again", &["initializing", "initialized", "starting", "running"]);
    let held = bench.hold("again", WorkerState::Starting);
    let start = master.start_worker_nowait("again");
    let stop = held.while_held(|| master.stop_worker_nowait("again", true));
    assert_eq!(category(&answer(&start)), Some(ErrorCategory::Cancelled));
    answer(&stop).unwrap();
    bench.sees("again", &["stopping", "stopped", "starting", "failed: cancelled", "stopped"]);
}

pub(super) fn a_restart_while_starting_cancels_the_start(stage: &Stage) {
    let (bench, master) = (&stage.bench, &stage.bench.master);
    stage.add("w", &[Life::Stays], |config| config);
    let held = bench.hold("w", WorkerState::Starting);
    let start = master.start_worker_nowait("w");
    let restart = held.while_held(|| master.restart_worker_nowait("w", false));
    assert_eq!(category(&answer(&start)), Some(ErrorCategory::Cancelled));
    assert_eq!(answer(&restart).unwrap(), 2);
    bench.sees("w", &["initializing", "initialized", "starting"]);
    bench.sees("w", &["failed: cancelled", "starting: command", "running"]);
}

pub(super) fn a_start_while_stopping_follows_the_stop(stage: &Stage) {
    let (bench, master) = (&stage.bench, &stage.bench.master);
    stage.add("w", &[Life::Stays], |config| config);
    master.start_worker("w").unwrap();
    let held = bench.hold("w", WorkerState::Stopping);
    let stop = master.stop_worker_nowait("w", false);
    let start = held.while_held(|| master.start_worker_nowait("w"));
    answer(&stop).unwrap();
    assert_eq!(answer(&start).unwrap(), 2, "never the old life: it was on its way out");
    bench.sees("w", &["initializing", "initialized", "starting", "running"]);
    bench.sees("w", &["stopping", "stopped: ended", "starting: command", "running"]);

    // The last of several wins, and everybody is answered.
    let held = bench.hold("w", WorkerState::Stopping);
    let first = master.stop_worker_nowait("w", false);
    let [start, stop] = held.while_held(|| {
        let start = master.start_worker_nowait("w");
        let stop = master.stop_worker_nowait("w", false);
        [answer_later(start), answer_later(stop)]
    });
    assert_eq!(category(&start()), Some(ErrorCategory::Cancelled));
    stop().unwrap();
    answer(&first).unwrap();
    assert_eq!(bench.known("w").state, WorkerState::Stopped);
}

/// Tickets of different kinds in one list.
fn answer_later<T: 'static>(ticket: hsu_master::Ticket<T>) -> Box<dyn FnOnce() -> Result<()>> {
    Box::new(move || answer(&ticket).map(drop))
}

pub(super) fn what_is_being_removed_takes_no_commands(stage: &Stage) {
    let (bench, master) = (&stage.bench, &stage.bench.master);
    stage.add("w", &[Life::Stays], |config| config);
    master.start_worker("w").unwrap();
    let held = bench.hold("w", WorkerState::Stopping);
    let removal = master.remove_worker_nowait("w");
    let again = stage.worker("w", &[Life::Stays]);
    let refused = held.while_held(|| {
        [
            answer_later(master.start_worker_nowait("w")),
            answer_later(master.restart_worker_nowait("w", true)),
            answer_later(master.add_worker_nowait(again).unwrap()),
        ]
    });
    for refused in refused {
        let error = refused().unwrap_err();
        assert_eq!(error.category(), ErrorCategory::Refused);
        assert_eq!(error.to_string(), "worker w: it is being removed");
    }
    answer(&removal).unwrap();
    assert!(master.worker_diagnostics("w").unwrap_err().is_not_found());
}

pub(super) fn removed_and_added_its_lives_go_on(stage: &Stage) {
    let master = &stage.bench.master;
    for life in 1..=3 {
        stage.add("w", &[Life::Stays], |config| config);
        assert_eq!(stage.bench.known("w").state, WorkerState::Uninitialized);
        assert_eq!(master.start_worker("w").unwrap(), life);
        master.remove_worker("w").unwrap();
        assert_eq!(category(&master.start_worker("w")), Some(ErrorCategory::UnknownWorker));
    }
    stage.add("w", &[Life::Stays], |config| config);
    let twice = master.add_worker(stage.worker("w", &[Life::Stays])).unwrap_err();
    assert_eq!(twice.to_string(), "worker w: a worker with this id exists already");
}

pub(super) fn a_restart_renews_the_budget(stage: &Stage) {
    let bench = &stage.bench;
    stage.add("w", &[Life::Fails], |config| config.restart(quick().max_retries(1)));
    assert_eq!(bench.master.start_worker("w").unwrap(), 1);
    bench.sees("w", &["initializing", "initialized", "starting", "running"]);
    for life in [1, 3, 5] {
        bench.sees("w", &["failed: crash", "starting: retry", "running"]);
        bench.sees("w", &["failed: crash", "stopped: gave up"]);
        let known = bench.known("w");
        assert_eq!((known.gave_up, known.retry_at, known.incarnation), (true, None, life + 1));
        assert_eq!(bench.master.restart_worker("w", false).unwrap(), life + 2);
        bench.sees("w", &["starting: command", "running"]);
    }
}

/// Rests, the lives that lead there, and how to get there.
type Rest = (&'static str, &'static [Life], fn(&Bench, &str));

const RESTS: [Rest; 5] = [
    ("new", &[Life::Stays], |_, _| {}),
    ("stopped", &[Life::Stays, Life::Stays], |bench, id| {
        bench.master.start_worker(id).unwrap();
        bench.master.stop_worker(id).unwrap();
    }),
    ("completed", &[Life::Completes, Life::Stays], |bench, id| {
        bench.master.start_worker(id).unwrap();
        bench.master.wait_for(id, WaitFor::Completed, PATIENCE).unwrap();
    }),
    ("backoff", &[Life::Fails, Life::Stays], |bench, id| {
        bench.master.start_worker(id).unwrap();
        let known = bench.once(id, |known| known.retry_at.is_some());
        assert_eq!(known.state, WorkerState::Failed);
    }),
    ("given-up", &[Life::Fails, Life::Stays], |bench, id| {
        bench.master.start_worker(id).unwrap();
        bench.once(id, |known| known.gave_up);
    }),
];

pub(super) fn every_command_finds_every_rest(stage: &Stage) {
    let (bench, master) = (&stage.bench, &stage.bench.master);
    let quiet = |known: &WorkerDiagnostics| {
        known.retry_at.is_none() && known.waiting_for.is_empty() && !known.gave_up
    };
    for (rest, lives, lead) in RESTS {
        let at = |command: &str| {
            let id = format!("{rest}-{command}");
            let mut restart = slow();
            if rest == "given-up" {
                restart.policy = RestartPolicy::Never;
            }
            stage.add(&id, lives, |config| config.restart(restart));
            lead(bench, &id);
            id
        };
        let id = at("stop");
        master.stop_worker(&id).unwrap();
        let known = bench.known(&id);
        let state = if rest == "new" { WorkerState::Uninitialized } else { WorkerState::Stopped };
        assert!(quiet(&known) && known.state == state && known.goal == "down", "{known:#?}");

        for command in ["start", "restart"] {
            let id = at(command);
            let before = bench.known(&id).incarnation;
            let life = match command {
                "start" => master.start_worker(&id).unwrap(),
                _ => master.restart_worker(&id, true).unwrap(),
            };
            let known = bench.known(&id);
            assert!(quiet(&known) && known.state == WorkerState::Running, "{known:#?}");
            assert_eq!((life, known.incarnation), (before + 1, before + 1), "exactly one start");
        }
        let id = at("remove");
        master.remove_worker(&id).unwrap();
        assert!(master.worker_diagnostics(&id).is_err());
    }
}

pub(super) fn a_thousand_restarts_are_one(stage: &Stage) {
    let (bench, master) = (&stage.bench, &stage.bench.master);
    stage.add("w", &[Life::Stays], |config| config);
    master.start_worker("w").unwrap();
    let held = bench.hold("w", WorkerState::Stopping);
    let mut tickets = vec![master.restart_worker_nowait("w", false)];
    held.while_held(|| {
        tickets.extend((1..1000).map(|_| master.restart_worker_nowait("w", false)));
    });
    for ticket in &tickets {
        assert_eq!(answer(ticket).unwrap(), 2);
    }
    bench.sees("w", &["initializing", "initialized", "starting", "running"]);
    bench.sees("w", &["stopping", "stopped", "starting", "running"]);
    assert_eq!(bench.known("w").incarnation, 2);
}

pub(super) fn unknown_names_are_told_from_near_ones(stage: &Stage) {
    let master = &stage.bench.master;
    stage.add("data-processor", &[Life::Stays], |config| config);
    let typo = "data-procesor";
    let answers = [
        master.start_worker(typo).map(drop),
        master.stop_worker(typo),
        master.restart_worker(typo, false).map(drop),
        master.restart_worker(typo, true).map(drop),
        master.remove_worker(typo),
        master.worker_diagnostics(typo).map(drop),
        master.endpoint(typo, "api").map(drop),
        master.wait_for(typo, WaitFor::Running, PATIENCE).map(drop),
    ];
    for error in answers.map(Result::unwrap_err) {
        assert!(error.is_not_found(), "{error}");
        let message = "worker data-procesor: there is no such worker; did you mean \
                       \"data-processor\"?";
        assert_eq!(error.to_string(), message);
    }
    for no_name in ["", "../x", "no such name", &"x".repeat(1000)] {
        let error = master.start_worker(no_name).unwrap_err();
        assert!(error.is_not_found() && !error.to_string().contains("did you mean"), "{error}");
    }
}
