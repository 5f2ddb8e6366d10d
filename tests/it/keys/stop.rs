//! The keys of stops.

use std::fs::File;
use std::io::Write;
use std::process::Command;

use hsu_master::Exit;

use super::{Row, Scene};
use crate::support::until;
use crate::unmanaged::{lives, signal};

/// A FIFO in the scene's directory, where a program waits that is asked to end.
pub(super) struct Gate(File);

/// Makes the FIFO `gate`.
pub(super) fn gate(scene: &Scene) -> Gate {
    let path = scene.directory.path().join("gate");
    assert!(Command::new("mkfifo").arg(&path).status().unwrap().success());
    Gate(File::options().read(true).write(true).open(&path).unwrap())
}

impl Gate {
    /// Lets the program end.
    pub(super) fn let_go(&self) {
        (&self.0).write_all(b"go\n").unwrap();
    }
}

/// The signal that the program says it has heard.
pub(super) fn heard(scene: &Scene, _: &str) -> String {
    scene.start().unwrap();
    assert_eq!(scene.bench.line().text, "up");
    scene.bench.master.stop_worker("w").unwrap();
    // The shell says on standard error what became of its own children.
    std::iter::repeat_with(|| scene.bench.line()).find(|line| !line.stderr).unwrap().text
}

pub(super) const ROWS: &[Row] = &[
    Row {
        key: "stop.signal",
        file: "workers: [{id: w, stop: {signal: %}, command: [/bin/sh, -c,
              'trap \"echo TERM; exit 0\" TERM; trap \"echo USR1; exit 0\" USR1; echo up;
              while :; do sleep 1; done']}]",
        values: [("TERM", "TERM"), ("USR1", "USR1")],
        observe: heard,
    },
    Row {
        key: "stop.timeout",
        file: "workers: [{id: w, stop: {timeout: %}, command: [/bin/sh, -c,
              'trap \"echo asked; read x < @dir/gate; exit 0\" TERM; echo up;
              while :; do read x < @dir/gate; done']}]",
        values: [("0s", "killed"), ("1h", "ended")],
        observe: |scene, expected| {
            let gate = gate(scene);
            scene.start().unwrap();
            assert_eq!(scene.bench.line().text, "up");
            let ticket = scene.bench.master.stop_worker_nowait("w", false);
            if expected == "ended" {
                assert_eq!(scene.bench.line().text, "asked");
                gate.let_go();
            }
            crate::support::answer(&ticket).unwrap();
            let ended = scene.known().exit == Some(Exit::Code(0));
            if ended { "ended" } else { "killed" }.to_owned()
        },
    },
    Row {
        key: "stop.kill_group",
        file: "workers: [{id: w, stop: {kill_group: %}, command: [/bin/sh, -c,
              'sleep 1000 <&- >&- 2>&- & echo $!; exec sleep 1000']}]",
        values: [("true", "all are gone"), ("false", "a child lives on")],
        observe: |scene, expected| {
            scene.start().unwrap();
            let child = scene.bench.line().text.parse().unwrap();
            scene.bench.master.stop_worker("w").unwrap();
            if expected == "all are gone" {
                // It was killed, and takes a moment to die.
                until(|| !lives(child));
            }
            let lives_on = lives(child);
            if lives_on {
                signal("KILL", child);
            }
            if lives_on { "a child lives on" } else { "all are gone" }.to_owned()
        },
    },
];
