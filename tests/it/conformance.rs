//! One lifecycle: each case is written once and played in every place where workers run. What
//! differs between the places is in the library's table of differences, and nowhere else.
//!
//! `cargo test --test it the_table -- --nocapture` prints what was played where.

mod calls;
mod commands;
mod ends;
mod limits;
mod lives;
mod logs;
mod threads;
mod traps;

use std::cell::{Cell, RefCell};
use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::sync::OnceLock;
use std::thread;

use hsu_master::{
    DIFFERENCES, Error, ErrorCategory, Master, TRANSITIONS, WorkerConfig, WorkerState,
};

use crate::actor::{Behaviour, Life, PLACES, Place, make};
use crate::logged;
use crate::support::{Bench, example};

/// Lists every case once: as a test of its own, and as a row of the table.
macro_rules! cases {
    ($($part:ident { $($case:ident)* })*) => {
        const CASES: &[Case] = &[$($(Case { name: stringify!($case), play: $part::$case }),*),*];
        $($(
            #[test]
            fn $case() {
                check(stringify!($case));
            }
        )*)*
    };
}

cases! {
    lives {
        it_starts_stops_and_restarts
        every_start_is_a_fresh_life
        a_crash_is_failed_then_retried
        a_launch_that_fails
        a_start_that_fails
        a_start_that_hangs
        every_policy_meets_completed_work
        every_policy_meets_a_failure
        it_gives_up_and_tries_again
        a_configuration_that_is_wrong
        diagnostics_tell_all
        what_it_runs_in
        endpoints_move_with_incarnations
    }
    traps {
        a_factory_that_breaks
        a_panic_in_every_callback
        an_error_in_every_callback
        a_hang_in_every_callback
        an_exit_in_every_callback
        worse_than_a_panic
    }
    threads {
        a_task_that_fails_is_told_and_costs_no_life
        a_panic_on_an_adopted_thread_is_a_crash
        a_module_that_says_it_failed
    }
    calls {
        functions_answer_or_say_why_not
        calls_find_only_running_workers
        many_calls_at_a_time
        a_panic_in_a_function_ends_the_call_alone
        what_is_too_large_is_refused
        a_call_in_flight_meets_a_stop
        the_time_bound_of_a_call
        statics_live_as_long_as_their_process
    }
    limits {
        the_largest_configuration_is_handed_over
        long_names_and_texts_are_refused_or_cut
        a_module_that_waits_for_any_child
    }
    logs {
        log_lines_arrive_from_every_callback
        long_log_records_keep_every_byte
        bytes_that_are_no_text_become_text
        a_flood_of_log_lines_holds_nobody_up
    }
    commands {
        a_stop_while_starting_cancels_the_start
        a_restart_while_starting_cancels_the_start
        a_start_while_stopping_follows_the_stop
        what_is_being_removed_takes_no_commands
        removed_and_added_its_lives_go_on
        a_restart_renews_the_budget
        every_command_finds_every_rest
        a_thousand_restarts_are_one
        unknown_names_are_told_from_near_ones
    }
    ends {
        a_stop_that_is_ignored
        a_forced_stop_that_is_ignored
        a_stuck_life_that_ends_at_last
        a_forced_restart_goes_past_a_hanging_life
        a_restart_of_what_does_not_end
        a_shutdown_meets_every_kind
    }
}

/// Differences that no case can show, and where they are shown instead.
const SHOWN_ELSEWHERE: [&str; 2] = ["user, umask and hard limits", "a master that is killed"];

struct Case {
    name: &'static str,
    play: fn(&Stage),
}

/// What came of one case in one place.
#[derive(Default)]
struct Outcome {
    /// What the case failed with.
    failure: Option<String>,
    /// False: there is no such thing in this place.
    here: bool,
    edges: BTreeSet<(WorkerState, WorkerState)>,
    differences: BTreeSet<&'static str>,
}

/// A place, with a master in it that knows the actor.
struct Stage {
    place: &'static Place,
    bench: Bench,
    here: Cell<bool>,
    differences: RefCell<BTreeSet<&'static str>>,
}

impl Stage {
    fn new(place: &'static Place) -> Self {
        // Before the first plugin is loaded, which takes its log level then.
        logged::capture();
        let builder = Master::builder().module("actor", make);
        let bench = Bench::new(builder.host_program(example("actor_host")));
        Self { place, bench, here: Cell::new(true), differences: RefCell::default() }
    }

    /// Adds a worker that lives these lives.
    fn add(&self, id: &str, lives: &[Life], refine: impl FnOnce(WorkerConfig) -> WorkerConfig) {
        self.bench.add(refine(self.worker(id, lives)));
    }

    fn worker(&self, id: &str, lives: &[Life]) -> WorkerConfig {
        (self.place.worker)(id, &Behaviour::new(&self.bench, lives))
    }

    /// Such a life's failure, as an event tells it.
    fn failed(&self, life: Life) -> String {
        format!("failed: {}", self.category(life))
    }

    fn category(&self, life: Life) -> ErrorCategory {
        (self.place.category)(life)
    }

    /// False: there is no module in this place, and the case is about one.
    fn is_of_a_module(&self) -> bool {
        self.here.set(self.place.is_of_a_module);
        self.place.is_of_a_module
    }

    /// How something is in this place, as the library says.
    fn difference(&self, aspect: &str) -> &'static str {
        let known = DIFFERENCES.iter().find(|known| known.aspect == aspect);
        let known = known.unwrap_or_else(|| panic!("the library knows nothing of {aspect:?}"));
        self.differences.borrow_mut().insert(known.aspect);
        known.of(self.place.deployment)
    }

    /// Holds what was observed against what the library says.
    #[track_caller]
    fn observed(&self, aspect: &str, observed: &str) {
        assert_eq!(observed, self.difference(aspect), "{aspect}");
    }

    /// There is no such thing in this place, and the library says why.
    fn cannot_be(&self, aspect: &str) -> bool {
        let cannot = self.difference(aspect).starts_with("cannot be");
        self.here.set(!cannot);
        cannot
    }
}

/// The category of an error, or `None` where there is no error.
fn category<T>(result: &Result<T, Error>) -> Option<ErrorCategory> {
    result.as_ref().err().map(Error::category)
}

/// What came of a case in a place. It is played once, whoever asks.
fn outcome(case: usize, place: usize) -> &'static Outcome {
    static OUTCOMES: [[OnceLock<Outcome>; PLACES.len()]; CASES.len()] =
        [const { [const { OnceLock::new() }; PLACES.len()] }; CASES.len()];
    OUTCOMES[case][place].get_or_init(|| {
        static AT: [Place; PLACES.len()] = PLACES;
        let name = format!("{} in {}", CASES[case].name, AT[place].name);
        if !(AT[place].is_there)() {
            crate::support::skipped(&format!("{name}: this system has not what it takes"));
            return Outcome::default();
        }
        let played = thread::Builder::new().name(name).spawn(move || {
            let stage = Stage::new(&AT[place]);
            (CASES[case].play)(&stage);
            let Stage { bench, here, differences, .. } = stage;
            let (edges, here) = (bench.finish().edges, here.get());
            Outcome { failure: None, here, edges, differences: differences.into_inner() }
        });
        played.unwrap().join().unwrap_or_else(|panic| {
            let text = panic.downcast_ref::<String>().cloned();
            let text = text.or_else(|| panic.downcast_ref::<&str>().map(|text| (*text).to_owned()));
            let failure = Some(text.unwrap_or_default());
            let (edges, differences) = (BTreeSet::new(), BTreeSet::new());
            Outcome { failure, here: true, edges, differences }
        })
    })
}

fn check(name: &str) {
    let case = CASES.iter().position(|case| case.name == name).unwrap();
    for (at, place) in PLACES.iter().enumerate() {
        if let Some(failure) = &outcome(case, at).failure {
            panic!("in {}: {failure}", place.name);
        }
    }
}

#[test]
fn the_table_is_complete() {
    let outcomes = |place| (0..CASES.len()).map(move |case| outcome(case, place));
    let mut table = String::new();
    for (at, case) in CASES.iter().enumerate() {
        let _ = write!(table, "{:<44}", case.name);
        for (place, Place { name, .. }) in PLACES.iter().enumerate() {
            let Outcome { failure, here, .. } = outcome(at, place);
            let word = if failure.is_some() {
                "FAILED"
            } else {
                ["cannot be", "holds"][usize::from(*here)]
            };
            let _ = write!(table, " {name}: {word:<10}");
        }
        table.push('\n');
    }
    println!("{table}");
    assert!((0..PLACES.len()).all(|place| outcomes(place).all(|one| one.failure.is_none())));

    let mut differences: BTreeSet<&str> = SHOWN_ELSEWHERE.into_iter().collect();
    for (at, place) in PLACES.iter().enumerate() {
        let mut edges: BTreeSet<(WorkerState, WorkerState)> = BTreeSet::new();
        for outcome in outcomes(at) {
            edges.extend(&outcome.edges);
            differences.extend(&outcome.differences);
        }
        if !(place.is_there)() {
            continue;
        }
        let unseen: Vec<_> = TRANSITIONS.into_iter().filter(|edge| !edges.contains(edge)).collect();
        let stuck = (WorkerState::Stopping, WorkerState::Failed);
        let enforced = DIFFERENCES[0].of(place.deployment).starts_with("killed");
        let expected = if enforced { vec![stuck] } else { Vec::new() };
        assert_eq!(unseen, expected, "edges that no case walks in {}", place.name);
    }
    let known: BTreeSet<_> = DIFFERENCES.iter().map(|known| known.aspect).collect();
    assert_eq!(differences, known, "differences that no case shows");
}
