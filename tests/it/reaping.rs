//! A master that owns its process adopts and reaps the orphans of its workers, and takes nobody
//! else's exit codes (FAULTS A05, A18, A31, F2). Each test runs in a process of its own.

use std::fmt::Display;
use std::fs;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex};
use std::thread;

use hsu_master::crossbeam_channel::unbounded;
use hsu_master::{Exit, Master, MasterConfig, StopConfig, WorkerConfig};

use crate::alone;
use crate::made::{Made, next};
use crate::support::{Bench, Fifo, answer, once, skipped, slow, until};

/// Our children, zombies included.
fn children() -> Vec<u32> {
    let threads = fs::read_dir("/proc/self/task").unwrap().flatten();
    threads.flat_map(|thread| of_thread(thread.file_name().to_str().unwrap())).collect()
}

/// The children of one of our threads; none when it has ended.
fn of_thread(id: impl Display) -> Vec<u32> {
    let list = fs::read_to_string(format!("/proc/self/task/{id}/children")).unwrap_or_default();
    list.split_whitespace().map(|pid| pid.parse().unwrap()).collect()
}

fn is_zombie(pid: u32) -> bool {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    status.contains("\nState:\tZ")
}

fn is_gone(pid: u32) -> bool {
    !Path::new(&format!("/proc/{pid}")).exists()
}

/// A worker that stays, and the orphans it leaves: one whenever it is let go. Each is in a session
/// of its own, says who it is, and ends when it is let go itself.
struct Orphans {
    let_go: Fifo,
}

impl Orphans {
    fn of(bench: &Bench, worker: &str) -> Self {
        let let_go = Fifo::new();
        let (gate, end) = (bench.gate().display(), let_go.path.display());
        let orphan = format!("echo $$; exec > /dev/null 2>&1; read x < {end}");
        let script = format!("while read x < {gate}; do setsid -f sh -c '{orphan}'; done");
        // Otherwise they would be killed with their worker.
        let stop = StopConfig::default().kill_group(false);
        bench.add(WorkerConfig::executable(worker, "/bin/sh").args(["-c", &script]).stop(stop));
        bench.master.start_worker(worker).unwrap();
        Self { let_go }
    }

    fn come(&self, bench: &Bench, count: usize) -> Vec<u32> {
        bench.let_go(count);
        let orphans: Vec<_> = (0..count).map(|_| bench.line().text.parse().unwrap()).collect();
        let adopted = |children: Vec<u32>| orphans.iter().all(|orphan| children.contains(orphan));
        until(|| adopted(children()));
        assert!(!orphans.iter().any(|orphan| is_zombie(*orphan)));
        orphans
    }

    /// Waits until these orphans have ended and are reaped.
    fn go(&self, orphans: &[u32]) {
        self.let_go.write(&"go\n".repeat(orphans.len()));
        until(|| orphans.iter().all(|orphan| is_gone(*orphan)));
    }
}

#[test]
fn a18_orphans_are_reaped_while_their_worker_lives() {
    if !alone::here(&[], a18_orphans_are_reaped_while_their_worker_lives) {
        return;
    }
    let bench = Bench::new(Master::builder().own_process());
    let orphans = Orphans::of(&bench, "w");
    for _ in 0..3 {
        orphans.go(&orphans.come(&bench, 1));
    }
    assert_eq!(bench.known("w").incarnation, 1);
    assert_eq!(children().len(), 1, "the worker alone");
    bench.finish();
}

#[test]
fn a18_two_hundred_orphans_at_once() {
    if !alone::here(&[], a18_two_hundred_orphans_at_once) {
        return;
    }
    let bench = Bench::new(Master::builder().own_process());
    let orphans = Orphans::of(&bench, "w");
    let two_hundred = orphans.come(&bench, 200);
    // They outlive their worker.
    bench.master.stop_worker("w").unwrap();
    assert_eq!(children().len(), 200);
    orphans.go(&two_hundred);
    assert!(children().is_empty());
    bench.finish();
}

#[test]
fn a18_what_is_left_of_a_group_is_reaped_when_its_leader_ends() {
    if !alone::here(&[], a18_what_is_left_of_a_group_is_reaped_when_its_leader_ends) {
        return;
    }
    let bench = Bench::new(Master::builder().own_process());
    let gate = bench.gate().display();
    let script = format!("read x < {gate}; sleep 1000 & echo $!; read x < {gate}");
    bench.add(WorkerConfig::executable("w", "/bin/sh").args(["-c", &script]).restart(slow()));
    bench.master.start_worker("w").unwrap();
    bench.let_go(1);
    let straggler = bench.line().text.parse().unwrap();
    bench.let_go(1);
    until(|| is_gone(straggler));
    bench.finish();
}

/// A worker of which three processes leave its group, one of them twice removed. All say who they
/// are, and none heeds SIGTERM.
const ESCAPE: &str = r#"
trap '' TERM
export LEAF='echo $$; exec sleep 3600'
export BRANCH='echo $$; setsid sh -c "$LEAF" & exec sleep 3600'
setsid sh -c "$BRANCH" &
setsid sh -c "$LEAF" &
echo $$
wait
"#;

#[test]
fn a19_nothing_of_a_worker_survives_its_stop_whatever_it_has_left() {
    if !alone::here(&[], a19_nothing_of_a_worker_survives_its_stop_whatever_it_has_left) {
        return;
    }
    let bench = Bench::new(Master::builder().own_process());
    bench.add(WorkerConfig::executable("w", "/bin/sh").args(["-c", ESCAPE]));
    bench.add(WorkerConfig::executable("other", "/bin/sh").args(["-c", ESCAPE]));
    let family = |worker: &str| -> Vec<u32> {
        bench.master.start_worker(worker).unwrap();
        (0..4).map(|_| bench.line().text.parse().unwrap()).collect()
    };
    let (family, others) = (family("w"), family("other"));
    bench.master.stop_worker_nowait("w", true).wait().unwrap();
    assert!(family.iter().all(|pid| is_gone(*pid)), "{family:?}");
    assert!(others.iter().all(|pid| !is_gone(*pid) && !is_zombie(*pid)), "{others:?}");
    bench.finish();
}

#[test]
fn a18_a_master_that_is_the_first_process() {
    let first = ["unshare", "--map-root-user", "--pid", "--fork", "--mount-proc"];
    let mut trial = Command::new(first[0]);
    if !trial.args(&first[1..]).arg("true").status().is_ok_and(|status| status.success()) {
        skipped("not everybody may have a process namespace");
        return;
    }
    if !alone::here(&first, a18_a_master_that_is_the_first_process) {
        return;
    }
    assert_eq!(std::process::id(), 1);
    let bench = Bench::new(Master::builder().own_process());
    let orphans = Orphans::of(&bench, "w");
    orphans.go(&orphans.come(&bench, 3));
    bench.finish();
}

/// Spawns what will exit with 7, 8 and 9: like others, in a group and in a session of its own. On a
/// thread that has ended, which leaves them where orphans are.
fn born(end: &Path) -> Vec<Child> {
    let script = |code| format!("read x < {}; exit {code}", end.display());
    let shell = |code| {
        let mut command = Command::new("/bin/sh");
        command.args(["-c", &script(code)]);
        command
    };
    let mut in_a_group = shell(8);
    in_a_group.process_group(0);
    let mut in_a_session = Command::new("setsid");
    in_a_session.args(["/bin/sh", "-c", &script(9)]);
    let mut commands = [shell(7), in_a_group, in_a_session];
    let spawn =
        move || commands.each_mut().map(|command| command.stdin(Stdio::null()).spawn().unwrap());
    thread::Builder::new().spawn(spawn).unwrap().join().unwrap().into()
}

#[test]
fn f2_a_module_that_waits_late_for_its_children_gets_their_exit_codes() {
    if !alone::here(&[], f2_a_module_that_waits_late_for_its_children_gets_their_exit_codes) {
        return;
    }
    let end = Fifo::new();
    let (tell, told) = unbounded();
    let (tell_codes, codes) = unbounded();
    let theirs: Arc<Mutex<Vec<Child>>> = Arc::default();
    let (spawned, path) = (Arc::clone(&theirs), end.path.clone());
    let made = Made::new()
        .start(move |_| {
            let born = born(&path);
            let _ = tell.send(born.iter().map(Child::id).collect::<Vec<_>>());
            *spawned.lock().unwrap() = born;
            Ok(())
        })
        .stop(move |_| {
            for child in theirs.lock().unwrap().iter_mut() {
                let _ = tell_codes.send(child.wait()?.code());
            }
            Ok(())
        });
    let bench = Bench::new(Master::builder().own_process().module("m", made.made()));
    bench.add(WorkerConfig::native("m", "m"));
    bench.master.start_worker("m").unwrap();
    let pids = next(&told);
    end.write("go\ngo\ngo\n");
    until(|| pids.iter().all(|pid| is_zombie(*pid)));
    // The reaper has much to do meanwhile, and finds the three each time.
    let orphans = Orphans::of(&bench, "w");
    for _ in 0..5 {
        orphans.go(&orphans.come(&bench, 5));
    }
    bench.master.stop_worker("w").unwrap();
    assert!(pids.iter().all(|pid| is_zombie(*pid)), "they wait for the module");
    bench.master.stop_worker("m").unwrap();
    assert_eq!([(); 3].map(|()| next(&codes)), [Some(7), Some(8), Some(9)]);
    bench.finish();
}

#[test]
fn a31_s12_no_exit_code_is_lost_in_a_storm_and_no_zombie_stays() {
    if !alone::here(&[], a31_s12_no_exit_code_is_lost_in_a_storm_and_no_zombie_stays) {
        return;
    }
    const COUNT: usize = 1000;
    let gate = Fifo::new();
    let mut config = MasterConfig::new();
    for number in 0..COUNT {
        let (path, code) = (gate.path.display(), number % 256);
        let script = format!("read x < {path}; setsid -f true; exit {code}");
        let worker = WorkerConfig::executable(format!("w-{number}"), "/bin/sh");
        config = config.worker(worker.args(["-c", &script]).restart(slow()));
    }
    let master = Master::builder().config(config).own_process().build().unwrap();
    for start in master.start_all_nowait() {
        answer(&start).unwrap();
    }
    // Most of the threads that launched them end, which leaves them where orphans are.
    until(|| of_thread(std::process::id()).len() > 100);
    gate.write(&"go\n".repeat(COUNT));
    for number in 0..COUNT {
        let known = once(&master, &format!("w-{number}"), |known| known.phase == "none");
        assert_eq!(known.exit, Some(Exit::Code(i32::try_from(number % 256).unwrap())));
    }
    until(|| children().is_empty());
    master.shutdown().unwrap();
}

#[test]
fn after_the_end_of_all_masters_orphans_are_adopted_no_more() {
    if !alone::here(&[], after_the_end_of_all_masters_orphans_are_adopted_no_more) {
        return;
    }
    let bench = Bench::new(Master::builder().own_process());
    drop(Master::builder().own_process().build().unwrap());
    let orphans = Orphans::of(&bench, "w");
    orphans.go(&orphans.come(&bench, 1));
    bench.finish();

    let mut shell = Command::new("/bin/sh");
    let shell = shell.args(["-c", "(read x) > /dev/null & echo $!"]).stdin(Stdio::piped());
    let mut shell = shell.stdout(Stdio::piped()).spawn().unwrap();
    let holds = shell.stdin.take();
    let orphan = String::from_utf8(shell.wait_with_output().unwrap().stdout).unwrap();
    assert!(!children().contains(&orphan.trim().parse().unwrap()));
    drop(holds);
}
