//! The launcher's own side. It has one thread and no logger; what fails it says on its line, and
//! nothing is run.

use std::env;
use std::ffi::{CString, OsString};
use std::fs;
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStringExt;
use std::os::unix::net::UnixStream;

use super::{Instructions, MAX_INSTRUCTIONS, Raw, Step, Word};
use crate::host::sys::{self, Image, Resource};

/// The master is gone, or was never there.
const NO_MASTER: i32 = 75;
/// The program was not run.
const NOT_RUN: i32 = 126;

/// What a step failed with.
struct Refused {
    step: Step,
    error: io::Error,
    detail: String,
}

fn at(step: Step) -> impl FnOnce(io::Error) -> Refused {
    move |error| Refused { step, error, detail: String::new() }
}

/// Does as it is told and becomes the program; returns the exit code if it does not.
pub(crate) fn main() -> i32 {
    let Ok(line) = sys::take_socket_from_stdin() else { return NO_MASTER };
    let Ok(Some((text, input))) = hear(&line) else { return NO_MASTER };
    match launch(&line, &text, input) {
        // Nobody is there any more for whom the program would run.
        Ok(()) => NO_MASTER,
        Err(Refused { step, error, detail }) => {
            let errno = error.raw_os_error();
            let detail = if errno.is_some() { detail } else { error.to_string() };
            let _ = tell(&line, &Word { step, errno: Some(errno.unwrap_or(0)), detail });
            NOT_RUN
        }
    }
}

/// The master's line, and what came beside it; `None` when it ended without one.
fn hear(line: &UnixStream) -> io::Result<Option<(Vec<u8>, Option<OwnedFd>)>> {
    let (mut text, mut input) = (Vec::new(), None);
    let mut buffer = vec![0; 64 << 10];
    while text.last() != Some(&b'\n') {
        let (read, beside) = match sys::receive_beside(line, &mut buffer) {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            received => received?,
        };
        if read == 0 || text.len() > MAX_INSTRUCTIONS {
            return Ok(None);
        }
        text.extend_from_slice(&buffer[..read]);
        input = input.or(beside);
    }
    Ok(Some((text, input)))
}

fn tell(line: &UnixStream, word: &Word) -> io::Result<()> {
    let mut text = serde_json::to_vec(word)?;
    text.push(b'\n');
    say(line, &text)
}

fn say(line: &UnixStream, text: &[u8]) -> io::Result<()> {
    sys::send_beside(line, text, None).map(drop)
}

/// Everything in its order. Returns well only if the master is gone.
fn launch(line: &UnixStream, text: &[u8], input: Option<OwnedFd>) -> Result<(), Refused> {
    let unclear = |error: serde_json::Error| at(Step::Instructions)(error.into());
    let told: Instructions = serde_json::from_slice(text).map_err(unclear)?;
    // What takes memory or descriptors comes before the limits on both.
    let image = image(&told).map_err(at(Step::Instructions))?;
    let directory = told.directory.clone().map(|Raw(path)| OsString::from_vec(path));
    let now = Word { step: Step::Exec, errno: None, detail: String::new() };
    let mut now = serde_json::to_vec(&now).map_err(unclear)?;
    now.push(b'\n');
    pass_on(&told, input).map_err(at(Step::Input))?;

    for (resource, limit) in &told.limits {
        sys::set_limit(*resource, *limit).map_err(|error| {
            let limit = match limit.hard {
                u64::MAX => "unlimited".to_owned(),
                limit => limit.to_string(),
            };
            let detail = format!("{} to {limit}", key(*resource));
            Refused { detail, ..at(Step::Limit)(error) }
        })?;
    }
    if let Some(score) = told.oom_score_adj {
        let path = "/proc/self/oom_score_adj";
        fs::write(path, score.to_string()).map_err(at(Step::OomScore))?;
    }
    if let Some(nice) = told.nice {
        sys::set_nice(nice).map_err(at(Step::Nice))?;
    }
    if let Some(umask) = told.umask {
        sys::set_umask(umask);
    }
    switch(&told)?;
    if let Some(directory) = directory {
        env::set_current_dir(directory).map_err(at(Step::Directory))?;
    }
    if told.no_new_privs {
        sys::set_no_new_privs().map_err(at(Step::NoNewPrivs))?;
    }
    if say(line, &now).is_err() {
        return Ok(());
    }
    Err(at(Step::Exec)(image.execute()))
}

/// What a limit is called in the configuration.
fn key(resource: Resource) -> &'static str {
    match resource {
        Resource::AddressSpace => "memory",
        Resource::CoreDump => "core",
        Resource::Descriptors => "open_files",
        Resource::FileSize => "file_size",
        Resource::Locks => "locks",
        Resource::Processes => "processes",
    }
}

fn image(told: &Instructions) -> io::Result<Image> {
    let text = |raw: &Raw| CString::new(raw.0.clone()).map_err(io::Error::from);
    let texts = |list: &[Raw]| list.iter().map(text).collect::<io::Result<_>>();
    Ok(Image::new(text(&told.program)?, texts(&told.arguments)?, texts(&told.variables)?))
}

/// What the program inherits: its standard input, no other descriptor, and no signal that is
/// ignored.
fn pass_on(told: &Instructions, input: Option<OwnedFd>) -> io::Result<()> {
    match input {
        Some(socket) => sys::put_on_stdin(&socket)?,
        None if told.linked => return Err(io::Error::other("no socket came")),
        None => {}
    }
    sys::cloexec_inherited()?;
    sys::reset_ignored_signals()
}

/// Becomes another user: groups first, which takes the rights that then are let go.
fn switch(told: &Instructions) -> Result<(), Refused> {
    if let Some(groups) = &told.groups {
        sys::set_groups(groups).map_err(at(Step::Groups))?;
    }
    if let Some(gid) = told.gid {
        sys::set_gid(gid).map_err(at(Step::Group))?;
    }
    let Some(uid) = told.uid else { return Ok(()) };
    sys::set_uid(uid).map_err(at(Step::User))?;
    let back = uid != 0
        && (sys::regains_root_user()
            || told.gid.is_some_and(|gid| gid != 0) && sys::regains_root_group());
    match back {
        true => Err(at(Step::Verify)(io::Error::other("the rights of root can be regained"))),
        false => Ok(()),
    }
}
