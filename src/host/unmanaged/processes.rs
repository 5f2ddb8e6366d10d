//! What `/proc` says of processes. Everything in it may be gone, or be another process's, by the
//! next moment: who needs certainty looks again with the process's descriptor in hand.

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::io::{self, BufRead, BufReader, Read};
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use crate::host::proc;
pub(super) use crate::host::proc::Process;

/// As much is read of a process's arguments.
const MAX_ARGUMENTS: u64 = 256 << 10;

fn read(path: &Path, limit: u64) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    File::open(path)?.take(limit).read_to_end(&mut bytes)?;
    Ok(bytes)
}

fn directory(pid: u32) -> PathBuf {
    PathBuf::from(format!("/proc/{pid}"))
}

impl Process {
    /// All processes that can be seen.
    pub(super) fn all() -> io::Result<impl Iterator<Item = Self>> {
        Ok(proc::all()?.into_iter().filter_map(Self::with_id))
    }

    /// Its program's name and its arguments; nothing for a thread of the kernel.
    pub(super) fn arguments(&self) -> Vec<Vec<u8>> {
        let bytes = read(&directory(self.pid).join("cmdline"), MAX_ARGUMENTS).unwrap_or_default();
        let text = bytes.strip_suffix(b"\0").unwrap_or(&bytes);
        if text.is_empty() {
            return Vec::new();
        }
        text.split(|byte| *byte == 0).map(<[u8]>::to_vec).collect()
    }

    /// The user that it runs as.
    pub(super) fn user(&self) -> Option<u32> {
        proc::uids(self.pid).ok().map(|[real, ..]| real)
    }

    /// When it started, by the wall clock.
    pub(super) fn started_at(&self) -> Option<SystemTime> {
        proc::wall_clock(self.started)
    }

    /// True when one of its descriptors is one of these sockets. `None`: it does not let us see.
    pub(super) fn has_one_of(&self, sockets: &BTreeSet<u64>) -> Option<bool> {
        let descriptors = fs::read_dir(directory(self.pid).join("fd")).ok()?;
        let links = descriptors.map_while(Result::ok).map(|entry| fs::read_link(entry.path()));
        let mut inodes = links.filter_map(|link| {
            let link = link.ok()?;
            link.to_str()?.strip_prefix("socket:[")?.strip_suffix(']')?.parse::<u64>().ok()
        });
        Some(inodes.any(|inode| sockets.contains(&inode)))
    }
}

/// The ids of this process and all above it.
pub(super) fn own_line() -> Vec<u32> {
    line_of(std::process::id())
}

/// The id of a process, of its parent, and so on.
pub(super) fn line_of(pid: u32) -> Vec<u32> {
    let mut line = vec![pid];
    let parent = |pid: &u32| Process::with_id(*pid).map(|process| process.parent);
    while let Some(parent) = line.last().and_then(parent) {
        // A process that changes hands meanwhile could lead round in a circle.
        if parent == 0 || line.contains(&parent) {
            break;
        }
        line.push(parent);
    }
    line
}

/// The sockets of our network that listen on a TCP port.
pub(super) fn listening_on(port: u16) -> io::Result<BTreeSet<u64>> {
    let mut sockets = BTreeSet::new();
    for table in ["/proc/self/net/tcp", "/proc/self/net/tcp6"] {
        match File::open(table) {
            Ok(file) => {
                for line in BufReader::new(file).lines() {
                    sockets.extend(listener(&line?, port));
                }
            }
            // A system may have been built without the one or the other.
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(error),
        }
    }
    Ok(sockets)
}

/// The socket in a line of the table, if it listens on this port: `0: 0100007F:1F90 00000000:0000
/// 0A 00000000:00000000 00:00000000 00000000 0 0 4711 ...`.
pub(super) fn listener(line: &str, port: u16) -> Option<u64> {
    let fields: Vec<&str> = line.split_ascii_whitespace().take(10).collect();
    let &[_, local, _, "0A", _, _, _, _, _, inode] = &fields[..] else { return None };
    let (_, local) = local.rsplit_once(':')?;
    (u16::from_str_radix(local, 16) == Ok(port)).then(|| inode.parse().ok())?
}
