//! The guardian's own side: it listens, and acts once the line to its master has ended.

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsString;
use std::io::{BufRead, BufReader, Read, Write};
use std::os::unix::net::UnixStream;
use std::process;
use std::time::{Duration, Instant};

use super::keeper::Keeper;
use super::{MAX_LINE, Ward, Word};
use crate::host::attached::Attached;
use crate::host::proc::{self, Marks};
use crate::host::{sys, threads};
use crate::worker::WorkerId;

/// How long processes have between being asked to end and being killed.
const PATIENCE: Duration = Duration::from_millis(500);
/// How long a killed process is waited for before others are looked at.
const REST: Duration = Duration::from_millis(100);
/// So often processes are looked through for marks, since who is seen may just have forked.
const SWEEPS: usize = 8;

/// The exit code of one that nobody has started as a guardian.
const NO_MASTER: i32 = 78;

/// The guardian's whole business. Returns its exit code. `place`: its master's state directory.
pub(crate) fn guard_main(place: Option<OsString>) -> i32 {
    // Whoever ends the master by its group, its terminal or its session means not the guardian.
    let _ = sys::ignore_requests_to_end();
    // Nor is it to hold on to what the master has left open.
    sys::close_inherited();
    let Ok(socket) = sys::take_socket_from_stdin() else { return NO_MASTER };
    // It holds a descriptor for each process that it ends.
    let _ = sys::raise_nofile_limit();
    sys::name_process("hsu-guard");
    let descriptors = sys::nofile_limit().map_or(0, |limit| limit.soft);
    let mut known = Known { keeper: Keeper::of(place, descriptors), ..Known::default() };
    let done = known.listen(socket);
    known.conclude(done);
    0
}

/// What the master has told so far.
#[derive(Default)]
pub(super) struct Known {
    nonce: String,
    wards: BTreeMap<u32, Ward>,
    /// Workers of which nothing is ended but what is in `wards`.
    spared: BTreeSet<WorkerId>,
    pub(super) keeper: Keeper,
}

impl Known {
    /// Listens until there is no more to hear. True: the master was done.
    pub(super) fn listen(&mut self, socket: UnixStream) -> bool {
        let mut lines = BufReader::new(socket);
        loop {
            let mut line = Vec::new();
            let mut bounded = (&mut lines).take(MAX_LINE as u64);
            match bounded.read_until(b'\n', &mut line) {
                Ok(0) | Err(_) => return false,
                Ok(_) => {}
            }
            // A line that is cut off was the master's last one.
            let Some(line) = line.strip_suffix(b"\n") else { continue };
            match std::str::from_utf8(line).ok().and_then(Word::read) {
                Some(Word::Done) => return true,
                Some(word) => self.hear(word),
                None => {}
            }
        }
    }

    fn hear(&mut self, word: Word) {
        match word {
            Word::Nonce(nonce) => self.nonce = nonce,
            Word::Started(ward) => {
                // What may be left of it lives on, as it does after an orderly stop.
                match ward.group {
                    true => self.spared.remove(&ward.worker),
                    false => self.spared.insert(ward.worker.clone()),
                };
                self.wards.insert(ward.pid, ward);
            }
            Word::Ended(pid) => drop(self.wards.remove(&pid)),
            Word::Spare(worker) => drop(self.spared.insert(worker)),
            Word::Hold(worker) => self.keeper.hold(worker),
            Word::Release(worker) => self.keeper.release(&worker),
            Word::Done => {}
        }
    }

    /// The master has ended; `done`: in order. Nobody is there any more who could take over should
    /// this break off, so each part is done once more then.
    pub(super) fn conclude(&mut self, done: bool) {
        if !done {
            let _said = threads::twice("hsu-guard", || self.end_all());
        }
        let Self { keeper, nonce, .. } = self;
        let _said = threads::twice("hsu-keeper", || keeper.keep(nonce));
    }

    /// Ends what the master has left, and nothing else: a process counts only as long as it is the
    /// very one that was told, or bears the master's own marks.
    pub(super) fn end_all(&self) {
        threads::fail_point("guardian");
        let mut left = Vec::new();
        let mut unheld = Vec::new();
        for ward in self.wards.values() {
            match Attached::open(ward.pid, ward.start_time) {
                Ok(process) => left.push((process, ward)),
                Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
                Err(_) => unheld.push(ward),
            }
        }
        if !self.wards.is_empty() {
            let count = left.len() + unheld.len();
            // Nobody may be there to read it.
            let _ = writeln!(std::io::stderr(), "hsu-guard: the master is gone, {count} to end");
        }
        for (process, ward) in &left {
            send(process, ward, sys::SIGTERM);
            send(process, ward, sys::SIGCONT);
        }
        let until = Instant::now() + PATIENCE;
        for (process, _) in &left {
            process.wait(Some(until.saturating_duration_since(Instant::now())));
        }
        // Also where the leader has ended: others of its group may be left.
        for (process, ward) in left {
            send(&process, ward, sys::SIGKILL);
        }
        // Only now are there descriptors for these.
        for ward in unheld {
            if let Ok(process) = Attached::open(ward.pid, ward.start_time) {
                send(&process, ward, sys::SIGKILL);
            }
        }
        self.sweep();
    }

    /// Kills whoever bears the master's marks: what was started in its last moment, and what has
    /// left its group.
    fn sweep(&self) {
        let is_ours = |pid| {
            Marks::of(pid).is_some_and(|marks| {
                marks.master == self.nonce && !self.spared.contains(&marks.worker)
            })
        };
        if self.nonce.is_empty() {
            return;
        }
        for _ in 0..SWEEPS {
            let mut killed = Vec::new();
            for pid in proc::all().unwrap_or_default() {
                if pid == process::id() || !is_ours(pid) {
                    continue;
                }
                // Looked at again: the number may mean another one by now, and can no longer.
                if let Ok(process) = Attached::of(pid)
                    && is_ours(pid)
                {
                    let _ = process.signal(sys::SIGKILL);
                    killed.push(process);
                }
            }
            if killed.is_empty() {
                return;
            }
            let until = Instant::now() + REST;
            for process in killed {
                process.wait(Some(until.saturating_duration_since(Instant::now())));
            }
        }
    }
}

/// Sends a signal to a ward. That it is not allowed cannot be helped.
fn send(process: &Attached, ward: &Ward, signal: i32) {
    if ward.group {
        let _ = process.signal_group(signal);
    }
    // A leader that has joined another group left none behind.
    if !ward.group || signal == sys::SIGKILL {
        let _ = process.signal(signal);
    }
}
