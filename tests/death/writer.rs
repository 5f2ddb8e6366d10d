//! A master within this very program, run again, whose workers' lines are in a file by the time
//! that they are handed on: to be killed.

use std::fs::File;
use std::io::{Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use hsu_master::{Master, MasterConfig, OnMasterExit, OutputLine, WorkerConfig};

use crate::support::{LONG, until};

/// Set in the process that is to be a master: its directory.
const DIRECTORY: &str = "HSU_TEST_WRITER";
/// As above: what its worker runs.
const SCRIPT: &str = "HSU_TEST_SCRIPT";
/// As above: which file it writes.
const FILE: &str = "HSU_TEST_FILE";

/// Not a test of its own: it is run as a master by those who kill it.
#[test]
fn a_master_that_writes_down_what_it_is_told() {
    let variable = |name: &str| std::env::var_os(name).map(PathBuf::from);
    let (Some(directory), Some(file)) = (variable(DIRECTORY), variable(FILE)) else { return };
    let script = std::env::var(SCRIPT).unwrap();
    let worker = WorkerConfig::executable("w", "/bin/sh").args(["-c", &script]);
    let worker = worker.on_master_exit(OnMasterExit::Keep);
    let config = MasterConfig::new().state_dir(directory.join("state")).worker(worker);
    let file = File::options().create(true).append(true).open(file).unwrap();
    let write = move |line: OutputLine<'_>| {
        let mut text = line.line.to_vec();
        text.push(b'\n');
        (&file).write_all(&text).unwrap();
    };
    let master = Master::builder().config(config).output(write).build().unwrap();
    master.start_all().unwrap();
    // Whoever has started this kills it.
    master.wait_timeout(LONG).unwrap();
}

/// One such master.
pub(crate) struct Writer(Child, PathBuf);

impl Writer {
    pub(crate) fn start(directory: &Path, file: &str, script: &str) -> Self {
        let file = directory.join(file);
        let mut command = Command::new(std::env::current_exe().unwrap());
        command.args(["--exact", "writer::a_master_that_writes_down_what_it_is_told"]);
        command.env(DIRECTORY, directory).env(FILE, &file).env(SCRIPT, script);
        command.env("HSU_STATE_DIR", directory.join("state"));
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        Self(command.spawn().unwrap(), file)
    }

    /// The lines that are in its file by now.
    pub(crate) fn lines(&self) -> Vec<String> {
        let text = std::fs::read_to_string(&self.1).unwrap_or_default();
        text.split_inclusive('\n')
            .filter_map(|line| line.strip_suffix('\n'))
            .map(str::to_owned)
            .collect()
    }

    /// Whether its file ends so by now.
    pub(crate) fn ends_with(&self, text: &str) -> bool {
        let mut end = Vec::new();
        let back = i64::try_from(text.len()).unwrap();
        let read = File::open(&self.1).and_then(|mut file| {
            file.seek(SeekFrom::End(-back))?;
            file.read_to_end(&mut end)
        });
        read.is_ok() && end == text.as_bytes()
    }

    /// Waits until so many bytes are in its file.
    pub(crate) fn has(&self, bytes: u64) {
        until(|| std::fs::metadata(&self.1).is_ok_and(|about| about.len() >= bytes));
    }

    pub(crate) fn kill(&mut self) {
        self.0.kill().unwrap();
        self.0.wait().unwrap();
    }
}

impl Drop for Writer {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}
