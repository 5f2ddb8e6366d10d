//! Golden traces: lives that people must be able to read. A script of moments and events in, the
//! trace of effects out.

use std::fmt::Write as _;
use std::time::Duration;

use super::event::{
    Command, Condition, Effect, Event, HealthPolicy, Refusal, Report, Ticket, WorkerSpec,
};
use super::moment::Moment;
use super::{Core, MAX_RETIRED};
use crate::error::{ErrorCategory, Failure};
use crate::worker::{Exit, OnUnhealthy, Ratio, RestartConfig, SuccessCodes, WorkerId};

fn spec() -> WorkerSpec {
    let restart = RestartConfig { jitter: Ratio::from_thousandths(0), ..RestartConfig::default() };
    WorkerSpec {
        start_timeout: Duration::from_secs(30),
        stop_timeout: Duration::from_secs(10),
        killable: true,
        keeps: false,
        restart,
        health: None,
        success: SuccessCodes::default(),
        depends_on: Vec::new(),
    }
}

/// Runs a script and compares the trace. A line is `seconds verb worker [word]`; the n-th command
/// has ticket n, and time passes through every deadline on the way.
fn check(specs: &[(&str, WorkerSpec)], script: &str, expected: &str) {
    let mut core = Core::new(1, Duration::from_secs(30));
    let mut trace = String::new();
    let mut tickets = 0;
    for (id, spec) in specs {
        let worker = WorkerId::new(id).unwrap();
        let command = Command::Add { worker, spec: Box::new(spec.clone()), past: 0 };
        core.handle(Moment::ZERO, Event::Command { ticket: Ticket(0), command });
    }
    for line in script.lines().map(str::trim).filter(|line| !line.is_empty()) {
        let words: Vec<_> = line.split_whitespace().collect();
        let seconds: f64 = words[0].parse().unwrap();
        let now = Moment::after_start(Duration::from_secs_f64(seconds));
        while let Some(due) = core.next_deadline().filter(|due| *due <= now) {
            tell(&mut trace, due, core.handle(due, Event::Tick));
        }
        let event = event(&core, &words[1..], &mut tickets);
        tell(&mut trace, now, core.handle(now, event));
    }
    let expected: String = expected.lines().map(|line| format!("{}\n", line.trim())).collect();
    assert_eq!(trace.trim(), expected.trim(), "\n{trace}");
}

fn event(core: &Core, words: &[&str], tickets: &mut u64) -> Event {
    let worker = WorkerId::new(words.get(1).copied().unwrap_or("none")).unwrap();
    let force = words.get(2) == Some(&"force");
    let incarnation = core.status(worker.as_str()).map_or(0, |status| status.incarnation);
    let mut command = |command| {
        *tickets += 1;
        Event::Command { ticket: Ticket(*tickets), command }
    };
    let report = |report| Event::Report { worker: worker.clone(), incarnation, report };
    match words[0] {
        "start" => command(Command::Start { worker, force }),
        "stop" => command(Command::Stop { worker, force }),
        "restart" => command(Command::Restart { worker, force }),
        "remove" => command(Command::Remove { worker }),
        "shutdown" => command(Command::Shutdown { force, keep: words.get(2) == Some(&"keep") }),
        "update" => {
            let restart = words.get(2) == Some(&"restart");
            let spec = Box::new(WorkerSpec { stop_timeout: Duration::from_secs(3), ..spec() });
            command(Command::Update { worker, spec, restart })
        }
        "adopt" => {
            let up_for = words.get(3).map_or(0, |millis| millis.parse().unwrap());
            let (incarnation, up_for) = (words[2].parse().unwrap(), Duration::from_millis(up_for));
            command(Command::Adopt { worker, incarnation, up_for })
        }
        "launched" => report(Report::Launched),
        "started" => report(Report::Started),
        "completed" => report(Report::Completed),
        "crashed" => report(Report::Failed(Failure::new(ErrorCategory::Crash, "broke"))),
        "exit" => report(Report::Gone(Exit::Code(words[2].parse().unwrap()))),
        "vanished" => report(Report::Gone(Exit::Unknown)),
        "returned" => report(Report::Gone(Exit::Returned)),
        "sick" => report(Report::Probed {
            probe: words[2].parse().unwrap(),
            healthy: false,
            reason: "sick".into(),
        }),
        "tick" => Event::Tick,
        other => panic!("unknown verb {other}"),
    }
}

fn tell(trace: &mut String, now: Moment, effects: Vec<Effect>) {
    for effect in effects {
        let _ = match effect {
            Effect::Launch { worker, incarnation } => {
                writeln!(trace, "{now:?} {worker}#{incarnation} launch")
            }
            Effect::Start { worker, incarnation } => {
                writeln!(trace, "{now:?} {worker}#{incarnation} start")
            }
            Effect::Probe { worker, incarnation, probe } => {
                writeln!(trace, "{now:?} {worker}#{incarnation} probe {probe}")
            }
            Effect::Ask { worker, incarnation, .. } => {
                writeln!(trace, "{now:?} {worker}#{incarnation} ask")
            }
            Effect::Force { worker, incarnation } => {
                writeln!(trace, "{now:?} {worker}#{incarnation} force")
            }
            Effect::Abandon { worker, incarnation } => {
                writeln!(trace, "{now:?} {worker}#{incarnation} abandon")
            }
            Effect::LetGo { worker, incarnation } => {
                writeln!(trace, "{now:?} {worker}#{incarnation} let go")
            }
            Effect::Transition(t) => {
                let cause = t.cause.as_str();
                writeln!(trace, "{now:?} {}: {} -> {} ({cause})", t.worker, t.from, t.to)
            }
            Effect::Health { worker, health, .. } => writeln!(trace, "{now:?} {worker}: {health}"),
            Effect::Reply { ticket, reply } => {
                let reply = match reply {
                    Ok(done) => format!("{done:?}"),
                    Err(Refusal::Failed(failure)) => format!("failed: {failure}"),
                    Err(refusal) => format!("{refusal:?}"),
                };
                writeln!(trace, "{now:?} reply {}: {reply}", ticket.0)
            }
            Effect::Forgotten { worker } => writeln!(trace, "{now:?} {worker}: forgotten"),
            Effect::AllDown => writeln!(trace, "{now:?} all down"),
            Effect::Changed { .. } => Ok(()),
        };
    }
}

#[test]
fn a_first_life_passes_through_every_state() {
    check(
        &[("a", spec())],
        "0 start a
         0.1 launched a
         0.2 started a
         1 stop a
         2 exit a 0",
        "+0.000s a: uninitialized -> initializing (command)
         +0.000s a#1 launch
         +0.100s a: initializing -> initialized (launched)
         +0.100s a: initialized -> starting (launched)
         +0.100s a#1 start
         +0.200s a: starting -> running (started)
         +0.200s reply 1: Running { incarnation: 1 }
         +1.000s a: running -> stopping (command)
         +1.000s a#1 ask
         +2.000s reply 2: Stopped { forced: false }
         +2.000s a: stopping -> stopped (ended)",
    );
}

#[test]
fn stale_reports_change_nothing_and_are_counted() {
    let mut core = Core::new(1, Duration::from_secs(30));
    let worker = WorkerId::new("a").unwrap();
    let mut tell = |event| core.handle(Moment::ZERO, event);
    let add = Command::Add { worker: worker.clone(), spec: Box::new(spec()), past: 0 };
    tell(Event::Command { ticket: Ticket(0), command: add });
    let start = Command::Start { worker: worker.clone(), force: false };
    tell(Event::Command { ticket: Ticket(1), command: start });
    for incarnation in [0, 2] {
        let report = Report::Gone(Exit::Returned);
        let worker = worker.clone();
        assert!(tell(Event::Report { worker, incarnation, report }).is_empty());
    }
    assert_eq!(core.stale_reports(), 2);
}

#[test]
fn a_crash_loop_backs_off_and_gives_up_until_its_trial() {
    let mut spec = spec();
    spec.restart = spec.restart.max_retries(1);
    check(
        &[("a", spec)],
        "0 start a
         0 exit a 1
         0.2 exit a 1
         300.2 exit a 1",
        "+0.000s a: uninitialized -> initializing (command)
         +0.000s a#1 launch
         +0.000s reply 1: failed: exit 1
         +0.000s a: initializing -> failed (crash)
         +0.200s a: failed -> starting (retry)
         +0.200s a#2 launch
         +0.200s a: starting -> failed (crash)
         +0.200s a: failed -> stopped (gave up)
         +300.200s a: stopped -> starting (trial)
         +300.200s a#3 launch
         +300.200s a: starting -> failed (crash)
         +300.200s a: failed -> stopped (gave up)",
    );
}

#[test]
fn a_stop_that_is_ignored_is_forced_and_then_given_up() {
    check(
        &[("a", spec())],
        "0 start a
         0 launched a
         0 started a
         1 stop a
         20 start a
         21 exit a 9",
        "+0.000s a: uninitialized -> initializing (command)
         +0.000s a#1 launch
         +0.000s a: initializing -> initialized (launched)
         +0.000s a: initialized -> starting (launched)
         +0.000s a#1 start
         +0.000s a: starting -> running (started)
         +0.000s reply 1: Running { incarnation: 1 }
         +1.000s a: running -> stopping (command)
         +1.000s a#1 ask
         +11.000s a#1 force
         +16.000s a: stopping -> failed (stuck)
         +16.000s a#1 abandon
         +16.000s reply 2: Stuck
         +20.000s reply 3: Stuck
         +21.000s a: failed -> stopped (ended)",
    );
}

#[test]
fn a_restart_takes_every_edge_and_no_pause() {
    check(
        &[("a", spec())],
        "0 start a
         0 launched a
         0 started a
         1 restart a
         1 restart a
         2 exit a 0
         2 launched a
         2 started a",
        "+0.000s a: uninitialized -> initializing (command)
         +0.000s a#1 launch
         +0.000s a: initializing -> initialized (launched)
         +0.000s a: initialized -> starting (launched)
         +0.000s a#1 start
         +0.000s a: starting -> running (started)
         +0.000s reply 1: Running { incarnation: 1 }
         +1.000s a: running -> stopping (command)
         +1.000s a#1 ask
         +2.000s a: stopping -> stopped (ended)
         +2.000s a: stopped -> starting (command)
         +2.000s a#2 launch
         +2.000s a#2 start
         +2.000s a: starting -> running (started)
         +2.000s reply 2: Running { incarnation: 2 }
         +2.000s reply 3: Running { incarnation: 2 }",
    );
}

#[test]
fn an_unhealthy_worker_fails_and_is_retried_once_it_is_gone() {
    let mut spec = spec();
    spec.killable = false;
    spec.health = Some(HealthPolicy {
        interval: Duration::from_secs(10),
        timeout: Duration::from_secs(2),
        initial_delay: Duration::ZERO,
        retries: 2,
        successes: 1,
        on_unhealthy: OnUnhealthy::Restart,
    });
    check(
        &[("a", spec)],
        "0 start a
         0 launched a
         0 started a
         1 sick a 1
         13 returned a
         13.2 tick",
        "+0.000s a: uninitialized -> initializing (command)
         +0.000s a#1 launch
         +0.000s a: initializing -> initialized (launched)
         +0.000s a: initialized -> starting (launched)
         +0.000s a#1 start
         +0.000s a: starting -> running (started)
         +0.000s reply 1: Running { incarnation: 1 }
         +0.000s a#1 probe 1
         +10.000s a#1 probe 2
         +12.000s a: unhealthy
         +12.000s a: running -> failed (health)
         +12.000s a#1 ask
         +13.200s a: failed -> starting (retry)
         +13.200s a#2 launch",
    );
}

#[test]
fn a_start_waits_for_what_it_depends_on() {
    let mut dependant = spec();
    dependant.depends_on = vec![(WorkerId::new("db").unwrap(), Condition::Started)];
    check(
        &[("api", dependant), ("db", spec())],
        "0 start api
         31 start db
         31 launched db
         31 started db",
        "+30.000s reply 1: StillWaiting([(db, Started)])
         +31.000s db: uninitialized -> initializing (command)
         +31.000s db#1 launch
         +31.000s db: initializing -> initialized (launched)
         +31.000s db: initialized -> starting (launched)
         +31.000s db#1 start
         +31.000s db: starting -> running (started)
         +31.000s reply 2: Running { incarnation: 1 }
         +31.000s api: uninitialized -> initializing (command)
         +31.000s api#1 launch",
    );
}

#[test]
fn shutdown_asks_backwards_and_ends_when_all_is_down() {
    check(
        &[("a", spec()), ("b", spec())],
        "0 start a
         0 launched a
         0 started a
         0 start b
         1 shutdown
         1 start a
         2 exit a 0
         11.5 exit b 9",
        "+0.000s a: uninitialized -> initializing (command)
         +0.000s a#1 launch
         +0.000s a: initializing -> initialized (launched)
         +0.000s a: initialized -> starting (launched)
         +0.000s a#1 start
         +0.000s a: starting -> running (started)
         +0.000s reply 1: Running { incarnation: 1 }
         +0.000s b: uninitialized -> initializing (command)
         +0.000s b#1 launch
         +1.000s reply 2: Cancelled
         +1.000s b: initializing -> failed (cancelled)
         +1.000s b#1 ask
         +1.000s a: running -> stopping (shutdown)
         +1.000s a#1 ask
         +1.000s reply 4: ShuttingDown
         +2.000s a: stopping -> stopped (ended)
         +11.000s b#1 force
         +11.500s b: failed -> stopped (ended)
         +11.500s reply 3: ShutDown { killed: [b], stuck: [] }
         +11.500s all down",
    );
}

#[test]
fn a_change_that_needs_it_restarts_a_worker_and_any_other_is_taken_as_it_runs() {
    check(
        &[("a", spec())],
        "0 update a restart
         0 start a
         0 launched a
         0 started a
         1 update a
         2 update a restart
         4 exit a 0
         4 launched a
         4 started a
         5 stop a
         5 exit a 0
         6 update a restart
         6 shutdown
         6 update a",
        "+0.000s reply 1: Updated
         +0.000s a: uninitialized -> initializing (command)
         +0.000s a#1 launch
         +0.000s a: initializing -> initialized (launched)
         +0.000s a: initialized -> starting (launched)
         +0.000s a#1 start
         +0.000s a: starting -> running (started)
         +0.000s reply 2: Running { incarnation: 1 }
         +1.000s reply 3: Updated
         +2.000s a: running -> stopping (reload)
         +2.000s a#1 ask
         +4.000s a: stopping -> stopped (ended)
         +4.000s a: stopped -> starting (reload)
         +4.000s a#2 launch
         +4.000s a#2 start
         +4.000s a: starting -> running (started)
         +4.000s reply 4: Running { incarnation: 2 }
         +5.000s a: running -> stopping (command)
         +5.000s a#2 ask
         +5.000s reply 5: Stopped { forced: false }
         +5.000s a: stopping -> stopped (ended)
         +6.000s reply 6: Updated
         +6.000s reply 7: ShutDown { killed: [], stuck: [] }
         +6.000s all down
         +6.000s reply 8: ShuttingDown",
    );
}

#[test]
fn an_incarnation_of_a_former_master_goes_on_and_nobody_knows_how_it_ends() {
    check(
        &[("a", spec())],
        "0 adopt a 7
         0 adopt a 8
         1 vanished a
         1.2 launched a
         1.2 started a
         2 stop a
         2 vanished a",
        "+0.000s a: uninitialized -> initializing (adopted)
         +0.000s a: initializing -> initialized (adopted)
         +0.000s a: initialized -> starting (adopted)
         +0.000s a: starting -> running (adopted)
         +0.000s reply 1: Running { incarnation: 7 }
         +0.000s reply 2: CannotAdopt
         +1.000s a: running -> failed (unknown)
         +1.200s a: failed -> starting (retry)
         +1.200s a#8 launch
         +1.200s a#8 start
         +1.200s a: starting -> running (started)
         +2.000s a: running -> stopping (command)
         +2.000s a#8 ask
         +2.000s reply 3: Stopped { forced: false }
         +2.000s a: stopping -> stopped (ended)",
    );
}

#[test]
fn what_may_outlive_the_master_is_let_go() {
    let keeps = WorkerSpec { keeps: true, ..spec() };
    check(
        &[("a", keeps.clone()), ("b", spec()), ("c", keeps)],
        "0 adopt a 3
         0 adopt b 1
         0 start c
         1 shutdown all keep
         1 exit a 0
         1 stop a
         2 exit b 0
         2 exit c 0",
        "+0.000s a: uninitialized -> initializing (adopted)
         +0.000s a: initializing -> initialized (adopted)
         +0.000s a: initialized -> starting (adopted)
         +0.000s a: starting -> running (adopted)
         +0.000s reply 1: Running { incarnation: 3 }
         +0.000s b: uninitialized -> initializing (adopted)
         +0.000s b: initializing -> initialized (adopted)
         +0.000s b: initialized -> starting (adopted)
         +0.000s b: starting -> running (adopted)
         +0.000s reply 2: Running { incarnation: 1 }
         +0.000s c: uninitialized -> initializing (command)
         +0.000s c#1 launch
         +1.000s reply 3: Cancelled
         +1.000s c: initializing -> failed (cancelled)
         +1.000s c#1 ask
         +1.000s b: running -> stopping (shutdown)
         +1.000s b#1 ask
         +1.000s a#3 let go
         +1.000s reply 5: ShuttingDown
         +2.000s b: stopping -> stopped (ended)
         +2.000s c: failed -> stopped (ended)
         +2.000s reply 4: ShutDown { killed: [], stuck: [] }
         +2.000s all down",
    );
}

#[test]
fn an_adopted_incarnation_is_as_old_as_it_is() {
    // 59 s under the former master and one here are a healthy run: the restart is immediate, and no
    // retry is spent.
    check(
        &[("a", spec())],
        "0 adopt a 7 59000
         1 vanished a
         1 launched a
         1 started a
         2 vanished a",
        "+0.000s a: uninitialized -> initializing (adopted)
         +0.000s a: initializing -> initialized (adopted)
         +0.000s a: initialized -> starting (adopted)
         +0.000s a: starting -> running (adopted)
         +0.000s reply 1: Running { incarnation: 7 }
         +1.000s a: running -> failed (unknown)
         +1.000s a: failed -> starting (retry)
         +1.000s a#8 launch
         +1.000s a#8 start
         +1.000s a: starting -> running (started)
         +2.000s a: running -> failed (unknown)",
    );
}

#[test]
fn what_is_forgotten_raises_no_number_that_a_former_master_knew() {
    let mut core = Core::new(1, Duration::from_secs(30));
    let mut add = |id: &str, past| {
        let worker = WorkerId::new(id).unwrap();
        let command = Command::Add { worker: worker.clone(), spec: Box::new(spec()), past };
        core.handle(Moment::ZERO, Event::Command { ticket: Ticket(0), command });
        let adopts = core.adopts(id, 1);
        let incarnation = core.status(id).unwrap().incarnation;
        let command = Command::Remove { worker };
        core.handle(Moment::ZERO, Event::Command { ticket: Ticket(0), command });
        (incarnation, adopts)
    };
    for n in 0..=MAX_RETIRED {
        assert_eq!(add(&format!("a{n}"), 5), (5, false));
    }
    assert_eq!([add("unknown", 0), add("known", 1)], [(5, false), (1, true)]);
}
