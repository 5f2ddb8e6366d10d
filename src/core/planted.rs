//! Bugs that tests switch on, one at a time, to prove that the simulation would notice them.
//! Outside of tests `planted` is constant false and costs nothing.

/// A mistake somebody could make in the core. Each breaks a rule of the contract.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Bug {
    /// Late news of an old incarnation is applied to the one that lives now.
    StaleReport,
    /// A forced restart launches beside an incarnation that is ending but not stuck.
    LaunchBeside,
    /// A dependency that does not exist counts as met.
    MissingDependencyMet,
    /// A written-off incarnation that ends after its worker's removal stays counted.
    WrittenOffKept,
    /// Dependants are not told when a health check succeeds.
    HealthNewsLost,
    /// A trial that is due and waits for a dependency still shows that the worker gave up.
    GaveUpKept,
    /// The start gets a timeout of its own instead of what the launch left.
    StartClockRestarted,
    /// An error at the end of a commanded stop is taken for a crash.
    StopErrorFails,
    /// The end of the shutdown's time changes nothing.
    ShutdownPatienceIgnored,
    /// A stop or shutdown after a removal takes the removal back.
    StopUndoesRemoval,
    /// A forced stop of a worker that is not up yet only asks it.
    ForceLost,
    /// A removed worker is forgotten although its incarnation is stuck.
    StuckForgotten,
    /// Health failures are counted over a success in between.
    SuccessKeepsFailures,
    /// An answer that comes after its silence was judged is judged too.
    LateAnswerJudged,
    /// Completed work spends a retry.
    CompletionSpendsRetry,
    /// The pause before a retry does not grow.
    BackoffFlat,
    /// A changed worker's present incarnation is forced as its next one could be.
    KillableReplaced,
    /// Who waits for a changed worker's new dependencies is not told of them.
    DependantsKept,
    /// The incarnations of a former master are counted anew.
    PastForgotten,
    /// A change does not restart the worker that needs it.
    ReloadLost,
    /// What an adopted incarnation was up under its former master does not count.
    AdoptedYoung,
}

#[cfg(test)]
pub(crate) use switch::{ALL, planted, with_bug};

/// True while a test has switched this bug on.
#[cfg(not(test))]
pub(crate) const fn planted(_: Bug) -> bool {
    false
}

#[cfg(test)]
mod switch {
    use super::Bug;
    use std::cell::Cell;

    thread_local! {
        static ACTIVE: Cell<Option<Bug>> = const { Cell::new(None) };
    }

    /// Every bug there is.
    pub(crate) const ALL: [Bug; 21] = [
        Bug::StaleReport,
        Bug::LaunchBeside,
        Bug::MissingDependencyMet,
        Bug::WrittenOffKept,
        Bug::HealthNewsLost,
        Bug::GaveUpKept,
        Bug::StartClockRestarted,
        Bug::StopErrorFails,
        Bug::ShutdownPatienceIgnored,
        Bug::StopUndoesRemoval,
        Bug::ForceLost,
        Bug::StuckForgotten,
        Bug::SuccessKeepsFailures,
        Bug::LateAnswerJudged,
        Bug::CompletionSpendsRetry,
        Bug::BackoffFlat,
        Bug::KillableReplaced,
        Bug::DependantsKept,
        Bug::PastForgotten,
        Bug::ReloadLost,
        Bug::AdoptedYoung,
    ];

    pub(crate) fn planted(bug: Bug) -> bool {
        ACTIVE.get() == Some(bug)
    }

    /// Runs with one bug switched on in this thread; off again afterwards, also after a panic.
    pub(crate) fn with_bug<T>(bug: Bug, run: impl FnOnce() -> T) -> T {
        struct Off;
        impl Drop for Off {
            fn drop(&mut self) {
                ACTIVE.set(None);
            }
        }
        let _off = Off;
        ACTIVE.set(Some(bug));
        run()
    }
}

#[test]
fn a_bug_is_active_alone_and_only_while_it_runs() {
    for bug in ALL {
        let active = || ALL.into_iter().filter(|other| planted(*other)).collect::<Vec<_>>();
        assert_eq!(with_bug(bug, active), [bug]);
        assert_eq!(active(), []);
    }
}
