//! What a former master has left: which of its processes live, and which of those go on. What else
//! is left of a worker than its process is ended here, before anything of it is started again.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::hash::Hasher;
use std::io;
use std::time::{Duration, Instant};

use super::HOLDER;
use super::ledger::file_of;
use super::record::{MAX_INCARNATION, Origin, Process, Record, Stop, Wanted};
use super::unclaimed::Unclaimed;
use crate::host::attached::Attached;
use crate::host::proc::{self, Marks};
use crate::host::process;
use crate::host::state::StateDir;
use crate::host::sys;
use crate::worker::{
    ExecutionConfig, LimitsConfig, LogMode, RestartConfig, RestartPolicy, StopConfig, WorkerConfig,
    WorkerId,
};

/// How long those may take to end that no master knows as a worker's process, from when they are
/// asked: as long as a guardian gives them.
const STRAGGLERS_PATIENCE: Duration = Duration::from_millis(500);
/// How long a killed process may take to end.
const KILL_PATIENCE: Duration = Duration::from_secs(5);

/// What is known of former masters.
#[derive(Debug, Default)]
pub(super) struct Former {
    pub(super) records: BTreeMap<WorkerId, Record>,
    /// The marks of their workers.
    masters: BTreeSet<String>,
}

/// What a new master takes over.
#[derive(Debug, Default)]
pub(crate) struct Inheritance {
    /// Processes that go on.
    pub(crate) adoptions: Vec<Adoption>,
    /// Processes that do not: they are watched like the others, so that their ends hold up nobody
    /// but their workers.
    pub(crate) leftovers: Vec<Adoption>,
    /// The last incarnation of each worker that is known.
    pub(crate) past: BTreeMap<WorkerId, u64>,
    /// Workers that were stopped by a command and are to stay so.
    pub(crate) down: BTreeSet<WorkerId>,
    /// What is left of workers that are not known yet, if these are waited for.
    pub(crate) unclaimed: BTreeMap<WorkerId, Unclaimed>,
}

impl Inheritance {
    /// Whether a process of this worker lives that is watched until its end.
    fn has_process_of(&self, worker: &WorkerId) -> bool {
        let watched = self.adoptions.iter().chain(&self.leftovers);
        let unclaimed = self.unclaimed.get(worker).is_some_and(Unclaimed::lives);
        unclaimed || watched.into_iter().any(|watched| watched.worker == *worker)
    }
}

/// A process that goes on under a new master.
#[derive(Debug)]
pub(crate) struct Adoption {
    pub(crate) worker: WorkerId,
    pub(crate) process: Attached,
    pub(crate) record: Record,
    /// It was started with another configuration than it would be now.
    pub(crate) outdated: bool,
}

impl Adoption {
    pub(crate) fn incarnation(&self) -> u64 {
        self.record.incarnation
    }

    /// Gives its process another number among the incarnations of its worker.
    pub(crate) fn renumber(&mut self, incarnation: u64) {
        self.record.incarnation = incarnation;
    }

    pub(crate) fn pid(&self) -> u32 {
        self.process.pid()
    }

    /// What is known of a process that is only to end, as a worker's configuration: what it runs,
    /// and how it is ended.
    pub(crate) fn as_leftover(&self) -> WorkerConfig {
        let Stop { signal, timeout_ms, group } = self.record.stop;
        let timeout = Duration::from_millis(timeout_ms);
        let mut stop = StopConfig::default().timeout(timeout).kill_group(group);
        stop.signal = signal;
        let program = fs::read_link(format!("/proc/{}/exe", self.pid()));
        let program = program.unwrap_or_else(|_| "unknown".into());
        let never = RestartConfig::policy(RestartPolicy::Never);
        let config = WorkerConfig::executable(self.worker.as_str(), program);
        config.enabled(false).stop(stop).restart(never)
    }

    /// How long ago its process began; zero where that cannot be told.
    pub(crate) fn age(&self) -> Duration {
        proc::age(self.process.start_time()).unwrap_or_default()
    }
}

/// A process that is ended.
struct Ending {
    worker: WorkerId,
    process: Attached,
    stop: Stop,
}

impl Former {
    /// Reads what is in a state directory. What cannot be believed is put aside.
    ///
    /// # Errors
    /// When the directory cannot be read.
    pub(super) fn read(state: &StateDir, boot_id: &str) -> io::Result<Self> {
        let mut former = Self::default();
        let holder = state.root().read(HOLDER).unwrap_or_default();
        if let Some(holder) = holder.as_deref().and_then(Origin::read)
            && holder.boot_id == boot_id
        {
            former.masters.insert(holder.master);
        }
        let mut elsewhere = 0;
        for name in state.workers().names()? {
            let Some(stem) = name.strip_suffix(".json") else { continue };
            match read_record(state, stem) {
                Ok((worker, mut record)) => {
                    if record.boot_id == boot_id {
                        former.masters.insert(record.master.clone());
                    } else if record.process.take().is_some() {
                        elsewhere += 1;
                    }
                    former.records.insert(worker, record);
                }
                Err(why) => {
                    // A later version's: what it is about is known by its marks at least, so that
                    // nothing is started beside it.
                    former.masters.extend(newer_master(state, &name, boot_id));
                    let bad = format!("{stem}.bad");
                    log::warn!("state of worker {stem}: {why}; ignored, and kept as {bad}");
                    if let Err(error) = state.workers().rename(&name, &bad) {
                        log::warn!("state of worker {stem}: cannot be renamed: {error}");
                    }
                }
            }
        }
        if elsewhere > 0 {
            log::warn!(
                "the state of {elsewhere} workers is of another start of the system, or of another \
                 container: their processes are gone"
            );
        }
        Ok(former)
    }

    /// Decides what becomes of each process that a former master has left, and ends those that are
    /// no worker's own, which it waits for, though not for long. `keep_unknown`: what may go on of
    /// workers that are not configured waits for them.
    ///
    /// # Errors
    /// It cannot be known of one whether it lives: nothing may be started beside it then. None is
    /// ended in that case.
    pub(super) fn settle(
        &mut self,
        workers: &[WorkerConfig],
        keep_unknown: bool,
    ) -> io::Result<Inheritance> {
        let configured: BTreeMap<&str, &WorkerConfig> =
            workers.iter().map(|config| (config.id.as_str(), config)).collect();
        let mut inheritance = Inheritance::default();
        let mut endings = Vec::new();
        // The processes that were recorded and are gone: what they have left may be here still.
        let mut leaders = BTreeMap::new();
        for (worker, record) in &mut self.records {
            inheritance.past.insert(worker.clone(), record.incarnation);
            let config = configured.get(worker.as_str()).copied();
            let policy = config.map(|config| config.restart.policy);
            if record.wanted == Wanted::Down && policy == Some(RestartPolicy::UnlessStopped) {
                inheritance.down.insert(worker.clone());
            }
            let unknown = keep_unknown && config.is_none();
            if unknown {
                let unclaimed = Unclaimed { wanted: record.wanted, process: None };
                inheritance.unclaimed.insert(worker.clone(), unclaimed);
            }
            let Some(known) = record.process.take() else { continue };
            let found = Attached::open(known.pid, known.start_time);
            match known_of(found, || format!("{worker}: process {}", known.pid))? {
                Some(process) if unknown && may_go_on(record, &known) => {
                    record.process = Some(known);
                    let (wanted, record) = (record.wanted, record.clone());
                    let left =
                        Adoption { worker: worker.clone(), process, record, outdated: false };
                    let unclaimed = Unclaimed { wanted, process: Some(left) };
                    inheritance.unclaimed.insert(worker.clone(), unclaimed);
                }
                Some(process) => match config.filter(|config| goes_on(record, &known, config)) {
                    Some(config) => {
                        let outdated = known.configuration != fingerprint(config);
                        record.process = Some(known);
                        let (worker, record) = (worker.clone(), record.clone());
                        inheritance.adoptions.push(Adoption { worker, process, record, outdated });
                    }
                    None => {
                        record.process = Some(known);
                        let (worker, record) = (worker.clone(), record.clone());
                        let leftover = Adoption { worker, process, record, outdated: false };
                        say_ended(&leftover);
                        inheritance.leftovers.push(leftover);
                    }
                },
                None => {
                    leaders.insert(worker.clone(), known);
                }
            }
        }
        self.look_for_unrecorded(&configured, &leaders, &mut inheritance, &mut endings)?;
        end(endings, STRAGGLERS_PATIENCE);
        for adoption in inheritance.adoptions.iter().chain(&inheritance.leftovers) {
            self.records.insert(adoption.worker.clone(), adoption.record.clone());
        }
        Ok(inheritance)
    }

    /// Looks through all processes for the marks of former masters: one that was spawned in a
    /// master's last moment is in no record, and a process that is gone may have left others.
    fn look_for_unrecorded(
        &self,
        configured: &BTreeMap<&str, &WorkerConfig>,
        leaders: &BTreeMap<WorkerId, Process>,
        inheritance: &mut Inheritance,
        endings: &mut Vec<Ending>,
    ) -> io::Result<()> {
        let mut found: BTreeMap<WorkerId, Vec<(Attached, Marks)>> = BTreeMap::new();
        for (process, marks) in self.marked()? {
            // Whoever is a living process's own is its affair: also while that ends.
            if !inheritance.has_process_of(&marks.worker) {
                found.entry(marks.worker.clone()).or_default().push((process, marks));
            }
        }
        for (worker, mut processes) in found {
            let record = self.records.get(&worker);
            let last = record.map_or(0, |record| record.incarnation);
            let stop = record.map(|record| record.stop.clone()).unwrap_or_default();
            // The one that was spawned is older than all that it has spawned itself.
            processes.sort_by_key(|(process, _)| (process.start_time(), process.pid()));
            let leads =
                |process: &Attached| sys::group_of(process.pid()).ok() == Some(process.pid());
            let config = configured.get(worker.as_str()).copied();
            // Anybody can write marks: only the very next life is believed, of whom it would be; or
            // where nothing is known of any, what is no number that only somebody else writes.
            let next = |marks: &Marks| last.checked_add(1) == Some(marks.incarnation);
            let unrecorded = processes.iter().position(|(process, marks)| {
                let unknown =
                    record.is_none() && (1..=MAX_INCARNATION).contains(&marks.incarnation);
                (next(marks) || unknown) && leads(process) && runs_as(process, config)
            });
            if let Some(at) = unrecorded {
                let (process, marks) = processes.swap_remove(at);
                let wanted = record.map_or(Wanted::Up, |record| record.wanted);
                let goes_on = wanted == Wanted::Up && config.is_some_and(is_wanted);
                let goes_on = goes_on && next(&marks);
                let adoption = adopt_unrecorded(config, wanted, process, &marks);
                inheritance.past.insert(worker, marks.incarnation);
                if goes_on {
                    inheritance.adoptions.push(adoption);
                } else {
                    say_ended(&adoption);
                    inheritance.leftovers.push(adoption);
                }
                continue;
            }
            let known = leaders.get(&worker);
            for (process, marks) in processes {
                let fresh = marks.incarnation > last;
                let group = sys::group_of(process.pid()).ok();
                let in_group = known.is_some_and(|known| group == Some(known.pid));
                let kept = known.is_some_and(|known| known.keep);
                // As at its own end: the group goes with its leader, and who left it lives on; of
                // those that were not to live on, nothing does.
                if fresh || stop.group && (in_group || !kept) {
                    let lone = Stop { group: leads(&process) && stop.group, ..stop.clone() };
                    endings.push(Ending { worker: worker.clone(), process, stop: lone });
                }
            }
        }
        Ok(())
    }

    /// All processes that bear the marks of a former master.
    fn marked(&self) -> io::Result<Vec<(Attached, Marks)>> {
        let marks_of = |pid| {
            let marks = Marks::looked_up(pid).map_err(|error| {
                let message = format!(
                    "whether process {pid} is a former master's cannot be looked up, and nothing \
                     is started beside it: {error}"
                );
                io::Error::new(error.kind(), message)
            })?;
            Ok::<_, io::Error>(marks.filter(|marks| self.masters.contains(&marks.master)))
        };
        let mut marked = Vec::new();
        if self.masters.is_empty() {
            return Ok(marked);
        }
        for pid in proc::all()?.into_iter().filter(|pid| *pid != std::process::id()) {
            let Some(Marks { worker, .. }) = marks_of(pid)? else { continue };
            let found = known_of(Attached::of(pid), || format!("{worker}: process {pid}"))?;
            // Looked at again: the number may have meant another one, and no longer can.
            if let (Some(process), Some(marks)) = (found, marks_of(pid)?) {
                marked.push((process, marks));
            }
        }
        Ok(marked)
    }
}

/// What was looked for; `None`: it is gone.
///
/// # Errors
/// Anything else: it may live.
fn known_of(
    found: io::Result<Attached>,
    which: impl Fn() -> String,
) -> io::Result<Option<Attached>> {
    match found {
        Ok(process) => Ok(Some(process)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => {
            let message = format!(
                "{} of a former master may live and cannot be watched, and nothing is started \
                 beside it: {error}",
                which()
            );
            Err(io::Error::new(error.kind(), message))
        }
    }
}

fn read_record(state: &StateDir, stem: &str) -> Result<(WorkerId, Record), String> {
    let worker = WorkerId::new(stem).map_err(|error| error.to_string())?;
    let json = state.workers().read(&file_of(&worker)).map_err(|error| error.to_string())?;
    let record = Record::read(&worker, &json.unwrap_or_default())?;
    Ok((worker, record))
}

/// The marks in a record that a later version has written.
fn newer_master(state: &StateDir, name: &str, boot_id: &str) -> Option<String> {
    let json = state.workers().read(name).ok()??;
    let newer = Origin::read(&json).filter(|origin| origin.is_newer && origin.boot_id == boot_id);
    newer.map(|origin| origin.master)
}

/// Whether a process that outlived its master is still wanted.
pub(super) fn is_wanted(config: &WorkerConfig) -> bool {
    config.enabled && config.is_kept()
}

/// Whether a process that is there goes on if its worker is as it was.
fn may_go_on(record: &Record, process: &Process) -> bool {
    process.keep && record.wanted == Wanted::Up
}

/// Whether a process that is there goes on.
fn goes_on(record: &Record, process: &Process, config: &WorkerConfig) -> bool {
    may_go_on(record, process) && is_wanted(config)
}

/// Whether a process belongs to the user that a worker's configuration names, in every respect:
/// one that somebody else has started with more rights than that one has does not.
fn runs_as(process: &Attached, config: Option<&WorkerConfig>) -> bool {
    let execution = config.and_then(|config| config.execution.as_ref());
    let named = execution.and_then(|execution| execution.user.as_deref());
    let wanted = named.map_or_else(|| Some(sys::effective_uid()), process::uid_of);
    let uids = proc::uids(process.pid());
    // What was read is about this process if that has not ended even now.
    uids.is_ok_and(|uids| wanted == Some(uids[0]) && uids == [uids[0]; 4]) && !process.has_ended()
}

fn say_ended(left: &Adoption) {
    log::info!("{}: process {} of a former master is ended", left.worker, left.pid());
}

/// A process that is in no record, taken to be what its worker's configuration says, or what is
/// usual if it has none.
fn adopt_unrecorded(
    config: Option<&WorkerConfig>,
    wanted: Wanted,
    process: Attached,
    marks: &Marks,
) -> Adoption {
    let worker = marks.worker.clone();
    let boot_id = proc::boot_id().unwrap_or_default();
    let mut record = Record::new(&worker, &boot_id, &marks.master);
    record.incarnation = marks.incarnation;
    record.wanted = wanted;
    if let Some(WorkerConfig { stop, .. }) = config {
        let timeout_ms = u64::try_from(stop.timeout.as_millis()).unwrap_or(u64::MAX);
        record.stop = Stop { signal: stop.signal, timeout_ms, group: stop.kill_group };
    }
    let (pid, start_time) = (process.pid(), process.start_time());
    let configuration = config.map(fingerprint).unwrap_or_default();
    let keep = config.is_none_or(WorkerConfig::is_kept);
    record.process = Some(Process { pid, start_time, keep, configuration });
    Adoption { worker, process, record, outdated: false }
}

/// Ends processes side by side: each is asked, and killed when its time is over.
fn end(endings: Vec<Ending>, patience: Duration) {
    let begun = Instant::now();
    for Ending { worker, process, stop } in &endings {
        log::info!("{worker}: process {} of a former master is ended", process.pid());
        send(process, stop, stop.signal);
        send(process, stop, sys::SIGCONT);
    }
    for Ending { process, stop, .. } in &endings {
        let own = Duration::from_millis(stop.timeout_ms).min(patience);
        process.wait(Some(own.saturating_sub(begun.elapsed())));
        // Also when it has ended: others of its group may be left.
        send(process, stop, sys::SIGKILL);
    }
    let killed = Instant::now();
    for Ending { worker, process, .. } in &endings {
        if !process.wait(Some(KILL_PATIENCE.saturating_sub(killed.elapsed()))) {
            log::error!("{worker}: process {} of a former master does not end", process.pid());
        }
    }
}

fn send(process: &Attached, stop: &Stop, signal: i32) {
    let sent = if stop.group { process.signal_group(signal) } else { process.signal(signal) };
    if let Err(error) = sent {
        log::warn!("cannot send signal {signal} to process {}: {error}", process.pid());
    }
}

/// Stands for what a process is started with: equal for configurations that start the same. What a
/// later version adds changes nothing for those who do not use it.
pub(crate) fn fingerprint(config: &WorkerConfig) -> String {
    let lines =
        |execution: &ExecutionConfig, limits: &LimitsConfig| format!("{execution:#?}\n{limits:#?}");
    let default = lines(&ExecutionConfig::default(), &LimitsConfig::default());
    let known: BTreeSet<&str> = default.lines().collect();
    let written = lines(&config.execution.clone().unwrap_or_default(), &config.limits);
    let mut hasher = Fnv(0xcbf2_9ce4_8422_2325);
    if config.logs.mode != LogMode::default() {
        hasher.write(config.logs.mode.as_str().as_bytes());
    }
    for line in written.lines().filter(|line| !known.contains(line)) {
        hasher.write(line.as_bytes());
        hasher.write_u8(b'\n');
    }
    format!("{:016x}", hasher.finish())
}

/// The hash of Fowler, Noll and Vo: the same in every build, which std's own need not be.
struct Fnv(u64);

impl Hasher for Fnv {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.0 = (self.0 ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_may_live_is_an_error_and_what_is_gone_is_none() {
        let which = || "w: process 7".to_owned();
        let own = Attached::of(std::process::id());
        assert_eq!(known_of(own, which).unwrap().unwrap().pid(), std::process::id());
        assert!(known_of(Attached::of(u32::MAX), which).unwrap().is_none());
        let busy = io::Error::from(io::ErrorKind::PermissionDenied);
        let error = known_of(Err(busy), which).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::PermissionDenied);
        assert!(error.to_string().contains("w: process 7 of a former master may live"), "{error}");
    }
}
