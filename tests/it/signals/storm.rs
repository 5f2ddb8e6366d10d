//! Signals that land on the threads of modules (FAULTS S14).
#![expect(unsafe_code, reason = "signals to threads, and reads that a signal may break off")]

use std::fs;
use std::os::fd::AsRawFd;
use std::process::Command;

use hsu_master::crossbeam_channel::bounded;
use hsu_master::{Master, WorkerConfig};

use crate::alone;
use crate::made::{Made, next};
use crate::support::{Bench, example};

/// Sends a signal to each thread that there is.
fn to_every_thread(signal: i32) {
    for thread in fs::read_dir("/proc/self/task").unwrap().flatten() {
        let thread: i32 = thread.file_name().to_str().unwrap().parse().unwrap();
        // SAFETY: the call takes three integers.
        unsafe { libc::syscall(libc::SYS_tgkill, libc::getpid(), thread, signal) };
    }
}

/// The signals that a process holds back, in its status.
fn held_back(status: &str) -> String {
    let mask = status.lines().find_map(|line| line.strip_prefix("SigBlk:"));
    mask.unwrap_or_else(|| panic!("{status}")).trim().to_owned()
}

const NONE: &str = "0000000000000000";

#[test]
fn s14_signals_that_land_on_a_modules_thread_break_nothing_off() {
    if !alone::here(&[], s14_signals_that_land_on_a_modules_thread_break_nothing_off) {
        return;
    }
    let (reader, writer) = std::io::pipe().unwrap();
    let (tell, told) = bounded(1);
    let (ready, is_ready) = bounded(1);
    let made = Made::new().start(move |ctx| {
        let (reader, tell, ready) = (reader.try_clone()?, tell.clone(), ready.clone());
        ctx.spawn("reader", move |_| {
            let child = Command::new("cat").arg("/proc/self/status").output()?;
            let _ = ready.send(held_back(&String::from_utf8_lossy(&child.stdout)));
            let mut byte = [0_u8];
            // SAFETY: the buffer is one byte long and outlives the call.
            let read = unsafe { libc::read(reader.as_raw_fd(), byte.as_mut_ptr().cast(), 1) };
            let _ = tell.send((read, std::io::Error::last_os_error().kind()));
            Ok(())
        })?;
        Ok(())
    });
    let builder = Master::builder().own_process().module("m", made.made());
    let bench = Bench::new(builder.host_program(example("actor_host")));
    bench.add(WorkerConfig::native("m", "m"));
    bench.add(WorkerConfig::executable("p", "/bin/sleep").args(["1000"]));
    for worker in ["m", "p"] {
        bench.master.start_worker(worker).unwrap();
    }
    assert_eq!(next(&is_ready), NONE, "what a module spawns can be asked to end");
    for _ in 0..200 {
        for signal in [libc::SIGUSR1, libc::SIGALRM, libc::SIGCHLD, libc::SIGRTMAX()] {
            to_every_thread(signal);
        }
    }
    let children = fs::read_dir("/proc/self/task").unwrap().flatten().flat_map(|thread| {
        let list = fs::read_to_string(thread.path().join("children")).unwrap_or_default();
        list.split_whitespace().map(str::to_owned).collect::<Vec<_>>()
    });
    // The worker, and the guardian.
    let children: Vec<_> = children.collect();
    assert_eq!(children.len(), 2, "{children:?}");
    for child in children {
        let status = fs::read_to_string(format!("/proc/{child}/status")).unwrap();
        assert_eq!(held_back(&status), NONE, "{status}");
    }
    assert!(told.is_empty(), "{:?}", told.try_recv());
    std::io::Write::write_all(&mut &writer, b"x").unwrap();
    assert_eq!(next(&told).0, 1);
    bench.master.restart_worker("p", false).unwrap();
    assert_eq!(bench.known("m").incarnation, 1);
    bench.finish();
}
