//! What a master writes down about each worker for the next one, as JSON: the process, how to know
//! it again, and what was wanted of it.

use serde::{Deserialize, Serialize};

use crate::worker::WorkerId;

/// The version of what is written. Another one is not read.
const VERSION: u32 = 1;
/// No worker gets so far; what is beyond that was not written by a master.
pub(super) const MAX_INCARNATION: u64 = u64::MAX / 2;

/// The adoption record of one worker: `workers/ID.json`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Record {
    version: u32,
    pub(crate) worker: String,
    /// The start of the system, and the space of process numbers, that all of this is true in.
    pub(crate) boot_id: String,
    /// The marks of its master.
    pub(crate) master: String,
    /// The process, if there is one.
    pub(crate) process: Option<Process>,
    /// The life that this is about.
    pub(crate) incarnation: u64,
    pub(crate) wanted: Wanted,
    /// How the process is ended, should the next master not want it.
    pub(crate) stop: Stop,
}

/// A process of a worker.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Process {
    pub(crate) pid: u32,
    /// In ticks since the system's start.
    pub(crate) start_time: u64,
    /// True: it outlives its master, who has put its output where the next one finds it.
    pub(crate) keep: bool,
    /// Stands for the configuration that it was started with.
    pub(crate) configuration: String,
}

/// What people want of a worker.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Wanted {
    #[default]
    Up,
    /// It was stopped by a command.
    Down,
}

/// How a process is ended.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Stop {
    pub(crate) signal: i32,
    pub(crate) timeout_ms: u64,
    pub(crate) group: bool,
}

impl Default for Stop {
    fn default() -> Self {
        Self { signal: 15, timeout_ms: 10_000, group: true }
    }
}

impl Record {
    /// A worker of which nothing is known yet.
    pub(crate) fn new(worker: &WorkerId, boot_id: &str, master: &str) -> Self {
        Self {
            version: VERSION,
            worker: worker.to_string(),
            boot_id: boot_id.to_owned(),
            master: master.to_owned(),
            process: None,
            incarnation: 0,
            wanted: Wanted::Up,
            stop: Stop::default(),
        }
    }

    pub(crate) fn to_json(&self) -> Vec<u8> {
        // Plain data; its keys are text.
        let mut json = serde_json::to_vec(self).unwrap_or_default();
        json.push(b'\n');
        json
    }

    /// The record in a file named after `worker`.
    ///
    /// # Errors
    /// Why it cannot be believed.
    pub(crate) fn read(worker: &WorkerId, json: &[u8]) -> Result<Self, String> {
        #[derive(Deserialize)]
        struct Any {
            version: u32,
        }
        let broken = |error: serde_json::Error| format!("it is broken: {error}");
        let Any { version } = serde_json::from_slice(json).map_err(broken)?;
        if version != VERSION {
            return Err(format!(
                "it is of version {version}, and this program knows version {VERSION}"
            ));
        }
        let record: Self = serde_json::from_slice(json).map_err(broken)?;
        if record.worker != worker.as_str() {
            return Err(format!("it is about {:?}", record.worker));
        }
        if record.process.as_ref().is_some_and(|process| process.pid <= 1) {
            return Err("its process cannot be a worker".to_owned());
        }
        if record.incarnation > MAX_INCARNATION {
            return Err("no worker can have had so many lives".to_owned());
        }
        if !(1..=64).contains(&record.stop.signal) {
            return Err("its signal is none".to_owned());
        }
        Ok(record)
    }
}

/// Who the present master is: `master.json`.
#[derive(Serialize)]
pub(crate) struct Holder {
    version: u32,
    boot_id: String,
    /// The marks of its workers.
    master: String,
    pid: u32,
    start_time: u64,
}

impl Holder {
    pub(crate) fn new(boot_id: &str, master: &str, pid: u32, start_time: u64) -> Self {
        let (boot_id, master) = (boot_id.to_owned(), master.to_owned());
        Self { version: VERSION, boot_id, master, pid, start_time }
    }

    pub(crate) fn to_json(&self) -> Vec<u8> {
        let mut json = serde_json::to_vec(self).unwrap_or_default();
        json.push(b'\n');
        json
    }
}

/// Which master has written a file, also one of a later version: its marks and the start of the
/// system keep their names and their meaning.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Origin {
    pub(crate) boot_id: String,
    pub(crate) master: String,
    /// It is of a later version than this one.
    pub(crate) is_newer: bool,
}

impl Origin {
    /// `None`: what is written there means nothing.
    pub(crate) fn read(json: &[u8]) -> Option<Self> {
        #[derive(Deserialize)]
        struct Written {
            version: u32,
            boot_id: String,
            master: String,
        }
        let Written { version, boot_id, master } = serde_json::from_slice(json).ok()?;
        let known = version >= VERSION && !master.is_empty();
        known.then_some(Self { boot_id, master, is_newer: version > VERSION })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record() -> (WorkerId, Record) {
        let worker = WorkerId::new("api").unwrap();
        let mut record = Record::new(&worker, "boot", "nonce");
        record.process =
            Some(Process { pid: 77, start_time: 4711, keep: true, configuration: "c".into() });
        record.incarnation = 3;
        (worker, record)
    }

    #[test]
    fn what_is_written_is_read_and_what_is_odd_is_not_believed() {
        let (worker, record) = record();
        assert_eq!(Record::read(&worker, &record.to_json()).unwrap(), record);
        let other = WorkerId::new("other").unwrap();
        assert!(Record::read(&other, &record.to_json()).unwrap_err().contains("api"));
        let text = String::from_utf8(record.to_json()).unwrap();
        for (from, to, why) in [
            ("\"version\":1", "\"version\":2", "version 2"),
            ("\"pid\":77", "\"pid\":1", "cannot be a worker"),
            ("\"pid\":77", "\"pid\":-1", "broken"),
            ("\"incarnation\":3", "\"incarnation\":9223372036854775808", "so many lives"),
            ("\"signal\":15", "\"signal\":99", "signal"),
            ("\"up\"", "\"sideways\"", "broken"),
        ] {
            let changed = text.replace(from, to);
            assert_ne!(changed, text);
            let error = Record::read(&worker, changed.as_bytes()).unwrap_err();
            assert!(error.contains(why), "{changed}: {error}");
        }
        let holder = Holder::new("boot", "nonce", 7, 8).to_json();
        let origin = |is_newer| {
            let (boot_id, master) = ("boot".to_owned(), "nonce".to_owned());
            Some(Origin { boot_id, master, is_newer })
        };
        assert_eq!(Origin::read(&holder), origin(false));
        let newer = text.replace("\"version\":1", "\"version\":7,\"more\":[]");
        assert_eq!(Origin::read(newer.as_bytes()), origin(true));
        for nothing in [&b"{}"[..], br#"{"version":0,"boot_id":"b","master":"m"}"#] {
            assert_eq!(Origin::read(nothing), None);
        }
    }

    /// What version 1 writes, as it was written on the day that it came to be: whatever becomes of
    /// this program, it goes on with that.
    #[test]
    fn s27_a_record_of_version_1_is_read_for_ever() {
        let json = br#"{"version":1,"worker":"api","boot_id":"5d0b pid:[4026531836]","master":
            "0f1e2d3c","process":{"pid":77,"start_time":4711,"keep":true,"configuration":"9a"},
            "incarnation":3,"wanted":"down","stop":{"signal":2,"timeout_ms":500,"group":false}}"#;
        let worker = WorkerId::new("api").unwrap();
        let configuration = "9a".to_owned();
        let expected = Record {
            version: 1,
            worker: "api".to_owned(),
            boot_id: "5d0b pid:[4026531836]".to_owned(),
            master: "0f1e2d3c".to_owned(),
            process: Some(Process { pid: 77, start_time: 4711, keep: true, configuration }),
            incarnation: 3,
            wanted: Wanted::Down,
            stop: Stop { signal: 2, timeout_ms: 500, group: false },
        };
        assert_eq!(Record::read(&worker, json), Ok(expected));
        let later = String::from_utf8_lossy(json).replace("\"version\":1", "\"version\":2");
        let error = Record::read(&worker, later.as_bytes()).unwrap_err();
        assert_eq!(error, "it is of version 2, and this program knows version 1");
    }

    #[test]
    fn s06_every_cut_and_every_changed_byte_is_read_or_refused_and_never_another_process() {
        let (worker, record) = record();
        let json = record.to_json();
        for length in 0..json.len() - 1 {
            let _ = Record::read(&worker, &json[..length]);
            assert!(length == json.len() - 1 || Record::read(&worker, &json[..length]).is_err());
        }
        let mut state = 1_u64;
        for _ in 0..100_000 {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            let mut changed = json.clone();
            let at = usize::try_from(state >> 33).unwrap() % changed.len();
            changed[at] = state.to_be_bytes()[1];
            // What is read holds together, whatever it says: its truth is for the system to tell.
            if let Ok(read) = Record::read(&worker, &changed) {
                assert!(read.process.is_none_or(|process| process.pid > 1));
            }
        }
    }
}
