//! The gate between those who signal a process and the monitor that reaps it: a signal is only ever
//! sent while the process is unreaped, so its id and its group's cannot mean a stranger.

use std::io;
use std::process::{Child, ExitStatus};
#[cfg(target_os = "linux")]
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};

#[cfg(target_os = "linux")]
use crate::host::attached::Attached;
use crate::host::sys::{self, Target};

pub(super) struct Gate {
    state: Mutex<State>,
    /// Told when `Idle` is left.
    decided: Condvar,
    stop_signal: i32,
    group: bool,
    /// It was sent SIGKILL from here.
    killed: AtomicBool,
}

enum State {
    /// Not ordered to start.
    Idle,
    /// To be spawned, or being spawned; what was ordered meanwhile is done once it is there.
    /// With `launcher`, the process is there, and is not the program yet.
    Spawning { asked: bool, forced: bool, launcher: Option<Launcher> },
    /// Spawned and not reaped.
    Live(Body),
    /// There is nothing to signal, and never will be.
    Closed,
}

/// Ends a wait for a launcher.
pub(super) type HangUp = Box<dyn Fn() + Send>;

/// A process that is to become the program.
struct Launcher {
    pid: u32,
    hang_up: HangUp,
}

/// A process that can be signalled.
enum Body {
    /// Our child, unreaped.
    Child(u32),
    /// One that is known by a descriptor, whoever reaps it.
    #[cfg(target_os = "linux")]
    Attached(Arc<Attached>),
}

impl Gate {
    /// The gate of a process that is there.
    #[cfg(target_os = "linux")]
    pub(super) fn to(process: Arc<Attached>, stop_signal: i32, group: bool) -> Self {
        let state = Mutex::new(State::Live(Body::Attached(process)));
        Self::of(state, stop_signal, group)
    }

    pub(super) fn new(stop_signal: i32, group: bool) -> Self {
        Self::of(Mutex::new(State::Idle), stop_signal, group)
    }

    fn of(state: Mutex<State>, stop_signal: i32, group: bool) -> Self {
        let killed = AtomicBool::new(false);
        Self { state, decided: Condvar::new(), stop_signal, group, killed }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // Every change of the state is a single assignment: a panic leaves nothing half done.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Lets the monitor spawn.
    pub(super) fn start(&self) {
        let mut state = self.lock();
        if matches!(*state, State::Idle) {
            *state = State::Spawning { asked: false, forced: false, launcher: None };
            self.decided.notify_all();
        }
    }

    /// Takes back a start that was not ordered yet.
    pub(super) fn call_off(&self) {
        let mut state = self.lock();
        if matches!(*state, State::Idle) {
            *state = State::Closed;
            self.decided.notify_all();
        }
    }

    /// Asks the process to end: the stop signal, then SIGCONT, without which a stopped process
    /// would not hear it.
    pub(super) fn ask(&self) {
        let mut state = self.lock();
        match &mut *state {
            State::Idle => {
                *state = State::Closed;
                self.decided.notify_all();
            }
            State::Spawning { asked, launcher, .. } => {
                *asked = true;
                if sys::ends_by_default(self.stop_signal)
                    && let Some(launcher) = launcher.take()
                {
                    *state = self.give_up(&launcher, Self::send_stop);
                }
            }
            State::Live(body) => self.send_stop(body),
            State::Closed => {}
        }
    }

    /// Lets a stopped process go on, so that it hears what it was told in another way.
    pub(super) fn resume(&self) {
        if let State::Live(body) = &*self.lock() {
            self.send(body, sys::SIGCONT);
        }
    }

    /// Kills the process.
    pub(super) fn force(&self) {
        let mut state = self.lock();
        match &mut *state {
            State::Idle => {
                *state = State::Closed;
                self.decided.notify_all();
            }
            State::Spawning { forced, launcher, .. } => {
                *forced = true;
                if let Some(launcher) = launcher.take() {
                    *state = self.give_up(&launcher, Self::send_kill);
                }
            }
            State::Live(body) => self.send_kill(body),
            State::Closed => {}
        }
    }

    /// Waits for the order to start; false when it is not to be spawned any more.
    pub(super) fn wait_for_start(&self) -> bool {
        let mut state = self.lock();
        while matches!(*state, State::Idle) {
            state = self.decided.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
        if matches!(*state, State::Spawning { asked: false, forced: false, .. }) {
            return true;
        }
        *state = State::Closed;
        false
    }

    /// The launcher is there, which becomes the program, and is waited for until `hang_up`: from
    /// now on it can be ended. Asked to end it has nothing to do first, and does so at once, also
    /// where it hangs. Should it be the program already, that has been asked.
    pub(super) fn staged(&self, pid: u32, hang_up: HangUp) {
        let mut state = self.lock();
        let State::Spawning { asked, forced, launcher } = &mut *state else { return };
        let there = Launcher { pid, hang_up };
        if *forced {
            *state = self.give_up(&there, Self::send_kill);
        } else if *asked && sys::ends_by_default(self.stop_signal) {
            *state = self.give_up(&there, Self::send_stop);
        } else {
            // Any other signal would be lost on a launcher: it is left to the program.
            *launcher = Some(there);
        }
    }

    /// The launcher is waited for no longer: it is a process that ends.
    fn give_up(&self, launcher: &Launcher, send: fn(&Self, &Body)) -> State {
        let body = Body::Child(launcher.pid);
        send(self, &body);
        (launcher.hang_up)();
        State::Live(body)
    }

    /// True while the process is a launcher that is waited for.
    pub(super) fn is_staged(&self) -> bool {
        matches!(*self.lock(), State::Spawning { launcher: Some(_), .. })
    }

    /// True once it was sent SIGKILL from here, however it has ended.
    #[cfg(target_os = "linux")]
    pub(super) fn has_killed(&self) -> bool {
        self.killed.load(Ordering::Relaxed)
    }

    /// True once the process is like any other, or is ended on purpose.
    pub(super) fn is_live(&self) -> bool {
        matches!(*self.lock(), State::Live(_))
    }

    /// The process is there: from now on it can be signalled, and gets what was ordered meanwhile.
    pub(super) fn spawned(&self, pid: u32) {
        let mut state = self.lock();
        let &State::Spawning { asked, forced, .. } = &*state else { return };
        let body = Body::Child(pid);
        if asked {
            self.send_stop(&body);
        }
        if forced {
            self.send_kill(&body);
        }
        *state = State::Live(body);
    }

    /// Reaps the process, which has ended, after what is left of its group was killed: as long as
    /// it is unreaped its id stays taken, and so does the group's. Nothing is signalled afterwards.
    pub(super) fn reap(&self, child: &mut Child) -> io::Result<ExitStatus> {
        let mut state = self.lock();
        if self.group {
            send(Target::Group(child.id()), sys::SIGKILL);
        }
        let status = child.wait();
        *state = State::Closed;
        status
    }

    /// Nothing is signalled any more.
    pub(super) fn close(&self) {
        *self.lock() = State::Closed;
    }

    /// A process that is known by a descriptor has ended: what is left of its group is killed, and
    /// nothing is signalled afterwards.
    #[cfg(target_os = "linux")]
    pub(super) fn bury(&self) {
        let mut state = self.lock();
        if let (State::Live(body), true) = (&*state, self.group) {
            body.send(true, sys::SIGKILL);
        }
        *state = State::Closed;
    }

    fn send_stop(&self, body: &Body) {
        for signal in [self.stop_signal, sys::SIGCONT] {
            self.send(body, signal);
        }
    }

    fn send(&self, body: &Body, signal: i32) {
        self.killed.fetch_or(signal == sys::SIGKILL, Ordering::Relaxed);
        // A leader that has joined another group leaves none behind.
        if !(self.group && body.send(true, signal)) {
            body.send(false, signal);
        }
    }

    fn send_kill(&self, body: &Body) {
        self.killed.store(true, Ordering::Relaxed);
        if self.group {
            body.send(true, sys::SIGKILL);
        }
        body.send(false, sys::SIGKILL);
    }
}

impl Body {
    /// Sends a signal to the process, or to the group that it leads.
    fn send(&self, group: bool, signal: i32) -> bool {
        match self {
            Self::Child(pid) if group => send(Target::Group(*pid), signal),
            Self::Child(pid) => send(Target::Process(*pid), signal),
            #[cfg(target_os = "linux")]
            Self::Attached(process) => {
                let sent =
                    if group { process.signal_group(signal) } else { process.signal(signal) };
                sent.unwrap_or_else(|error| {
                    log::warn!("cannot send signal {signal} to process {}: {error}", process.pid());
                    true
                })
            }
        }
    }
}

/// Sends a signal; false when there was nobody to receive it, which is no error: it may just have
/// ended.
fn send(target: Target, signal: i32) -> bool {
    sys::signal(target, signal).unwrap_or_else(|error| {
        log::warn!("cannot send signal {signal} to {target:?}: {error}");
        true
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_start_lets_the_monitor_spawn_and_an_end_ordered_after_it_does_not() {
        let gate = || Gate::new(15, true);
        let started = gate();
        started.start();
        assert!(started.wait_for_start());
        for end in [Gate::ask, Gate::force] {
            for started in [true, false] {
                let gate = gate();
                if started {
                    gate.start();
                }
                end(&gate);
                gate.start();
                assert!(!gate.wait_for_start());
                assert!(matches!(*gate.lock(), State::Closed));
            }
        }
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn what_was_killed_from_here_is_known_to_be() {
        let ask: fn(&Gate) = Gate::ask;
        for (signal, end, killed) in
            [(15, ask, false), (sys::SIGKILL, ask, true), (15, Gate::force, true)]
        {
            let mut command = std::process::Command::new("/bin/sleep");
            std::os::unix::process::CommandExt::process_group(command.arg("1000"), 0);
            let mut child = command.spawn().unwrap();
            let gate = Gate::new(signal, true);
            gate.start();
            assert!(gate.wait_for_start());
            gate.spawned(child.id());
            end(&gate);
            assert_eq!(gate.has_killed(), killed);
            gate.reap(&mut child).unwrap();
            assert_eq!(gate.has_killed(), killed, "what is left of a group is no reason");
        }
    }
}
