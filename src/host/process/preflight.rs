//! Says before the spawn, and truly, why a program cannot be run: the system has one error number
//! for a missing program, a missing directory and a missing interpreter. Explains failed spawns
//! alike.

use std::env;
use std::ffi::OsStr;
use std::fs;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::path::{self, Path, PathBuf};

use super::{ProcessPlan, interpreter};
use crate::error::{ErrorCategory, Failure};
use crate::host::sys;

/// Where programs are looked for when nobody says, as the C library has it.
const DEFAULT_PATH: &str = "/bin:/usr/bin";

/// Finds the program, without a slash in `search_path`, and checks that nothing known stands
/// against running it. Its absolute path.
pub(super) fn check(plan: &ProcessPlan, search_path: Option<&OsStr>) -> Result<PathBuf, Failure> {
    check_strings(plan)?;
    let directory = directory_of(plan)?;
    let program = find(plan, search_path, &directory)?;
    look(&program, &directory)?;
    Ok(program)
}

/// The absolute path of the directory that a program runs in, once that is checked.
fn directory_of(plan: &ProcessPlan) -> Result<PathBuf, Failure> {
    let directory = plan.working_directory.as_deref().unwrap_or(Path::new("."));
    let directory = match path::absolute(directory) {
        Ok(directory) => directory,
        // Ours is gone; a program that does not need it is run all the same.
        Err(_) if plan.working_directory.is_none() && plan.program.is_absolute() => "/".into(),
        Err(error) => {
            let category = ErrorCategory::of_io(&error).unwrap_or(ErrorCategory::Configuration);
            let message = format!("cannot resolve the working directory: {error}");
            return Err(Failure::new(category, message));
        }
    };
    if plan.working_directory.is_some() {
        check_directory(&directory)?;
    }
    Ok(directory)
}

fn look(program: &Path, directory: &Path) -> Result<(), Failure> {
    check_file(&format!("program {}", program.display()), program)?;
    interpreter::check_script(program, directory)
}

/// What no system call can take, and no retry can mend.
fn check_strings(plan: &ProcessPlan) -> Result<(), Failure> {
    let wrong =
        |message: String| Err(Failure::new(ErrorCategory::Configuration, message).permanent());
    if plan.program.as_os_str().is_empty() {
        return wrong("no program is named".to_owned());
    }
    let nul = |text: &OsStr| text.as_bytes().contains(&0);
    if nul(plan.program.as_os_str()) {
        return wrong("the program's path contains a NUL byte".to_owned());
    }
    if plan.working_directory.as_ref().is_some_and(|path| nul(path.as_os_str())) {
        return wrong("the working directory's path contains a NUL byte".to_owned());
    }
    if let Some(at) = plan.args.iter().position(|arg| arg.contains('\0')) {
        return wrong(format!("argument {} contains a NUL byte", at + 1));
    }
    for (name, value) in &plan.environment {
        if name.is_empty() || name.contains(['\0', '=']) {
            return wrong(format!("{name:?} cannot name an environment variable"));
        }
        if value.contains('\0') {
            return wrong(format!("environment variable {name} contains a NUL byte"));
        }
    }
    Ok(())
}

fn check_directory(directory: &Path) -> Result<(), Failure> {
    let what = format!("working directory {}", directory.display());
    if !metadata(&what, directory)?.is_dir() {
        let message = format!("{what} is not a directory");
        return Err(Failure::new(ErrorCategory::Configuration, message));
    }
    if sys::denies_execution(directory) {
        return Err(denied(format!("uid {} may not enter {what}", sys::effective_uid())));
    }
    Ok(())
}

/// The program's absolute path, which need not exist if the plan names it with a slash.
fn find(
    plan: &ProcessPlan,
    search_path: Option<&OsStr>,
    directory: &Path,
) -> Result<PathBuf, Failure> {
    if plan.program.as_os_str().as_bytes().contains(&b'/') {
        return Ok(directory.join(&plan.program));
    }
    let path = search_path.unwrap_or(OsStr::new(DEFAULT_PATH));
    let mut refused = None;
    for place in env::split_paths(path) {
        let candidate = directory.join(place).join(&plan.program);
        if !fs::metadata(&candidate).is_ok_and(|about| about.is_file()) {
            continue;
        }
        if !sys::denies_execution(&candidate) {
            return Ok(candidate);
        }
        refused.get_or_insert(candidate);
    }
    refused.ok_or_else(|| {
        let (program, path) = (plan.program.display(), path.display());
        missing(format!("program {program} was not found in PATH ({path})"))
    })
}

/// Checks that `path`, which people know as `what`, is a file that we may execute.
pub(super) fn check_file(what: &str, path: &Path) -> Result<(), Failure> {
    let about = metadata(what, path)?;
    if about.is_dir() {
        return Err(denied(format!("{what} is a directory")));
    }
    if !about.is_file() {
        return Err(denied(format!("{what} is not a regular file")));
    }
    if !sys::denies_execution(path) {
        return Ok(());
    }
    Err(denied(if sys::mounted_noexec(path).unwrap_or(false) {
        format!("{what} is on a file system mounted noexec")
    } else {
        let (uid, mode, owner) = (sys::effective_uid(), about.mode() & 0o7777, about.uid());
        format!("uid {uid} may not execute {what} (mode {mode:04o}, owner {owner})")
    }))
}

/// What is known about the file at `path`, or why nothing is.
fn metadata(what: &str, path: &Path) -> Result<fs::Metadata, Failure> {
    fs::metadata(path).map_err(|error| {
        let is = |kind| error.kind() == kind;
        if is(io::ErrorKind::NotFound) {
            missing(format!("{what} does not exist{}", gap(path)))
        } else if is(io::ErrorKind::NotADirectory) {
            let file = first(path, |place| fs::metadata(place).is_ok_and(|about| !about.is_dir()));
            missing(format!("{what} does not exist: {} is not a directory", file.display()))
        } else if is(io::ErrorKind::PermissionDenied) {
            let (uid, place) = (sys::effective_uid(), first(path, sys::denies_execution));
            denied(format!("uid {uid} may not search {} for {what}", place.display()))
        } else {
            let category = ErrorCategory::of_io(&error).unwrap_or(ErrorCategory::Unknown);
            Failure::new(category, format!("cannot reach {what}: {error}"))
        }
    })
}

/// Which part of a path is missing, if that is not just its last.
fn gap(path: &Path) -> String {
    let place = first(path, |place| !fs::exists(place).unwrap_or(true));
    match fs::read_link(place) {
        Ok(target) => format!(": {} leads nowhere, to {}", place.display(), target.display()),
        Err(_) if place == path => String::new(),
        Err(_) => format!(": there is no {}", place.display()),
    }
}

/// The first part of `path`, from the root, of which `holds` is true; the whole of it if none is.
fn first(path: &Path, holds: impl Fn(&Path) -> bool) -> &Path {
    let mut found = path;
    for place in path.ancestors() {
        if holds(place) {
            found = place;
        }
    }
    found
}

pub(super) fn missing(message: String) -> Failure {
    Failure::new(ErrorCategory::ExecutableNotFound, message)
}

pub(super) fn denied(message: String) -> Failure {
    Failure::new(ErrorCategory::PermissionDenied, format!("permission denied: {message}"))
}

/// Why a spawn failed.
pub(super) fn explain(error: &io::Error, plan: &ProcessPlan, program: &Path) -> Failure {
    let exhausted = |message: String| Failure::new(ErrorCategory::ResourceLimit, message);
    let program_name = program.display();
    match error.raw_os_error() {
        Some(sys::ENOEXEC) => {
            let message = format!(
                "{program_name} is neither an executable for this system nor a script that names \
                 its interpreter with #!"
            );
            Failure::new(ErrorCategory::Configuration, message)
        }
        Some(sys::E2BIG) => exhausted(too_long(plan)),
        Some(sys::EAGAIN) => exhausted(format!(
            "no room for another process; a limit on processes or threads is reached: {error}"
        )),
        Some(sys::ENOMEM) => exhausted(format!("no memory for another process: {error}")),
        Some(sys::EMFILE | sys::ENFILE) => {
            exhausted(format!("no descriptors left to start a process with: {error}"))
        }
        Some(sys::ETXTBSY) => {
            let message = format!("{program_name} is open for writing: {error}");
            Failure::new(ErrorCategory::Unknown, message)
        }
        // What was there at the launch may have gone since.
        _ => match directory_of(plan)
            .and_then(|directory| look(program, &directory))
            .and_then(|()| interpreter::check_loader(program))
        {
            Err(failure) => failure,
            Ok(()) => {
                let category = match ErrorCategory::of_io(error) {
                    Some(category) => category,
                    None if error.kind() == io::ErrorKind::NotFound => {
                        ErrorCategory::ExecutableNotFound
                    }
                    None => ErrorCategory::Unknown,
                };
                Failure::new(category, format!("cannot run {program_name}: {error}"))
            }
        },
    }
}

/// Which of the strings handed to a program are more than the system takes.
fn too_long(plan: &ProcessPlan) -> String {
    let variables = plan.environment.iter().map(|(name, value)| name.len() + 1 + value.len());
    let longest = plan.args.iter().map(String::len).chain(variables).max().unwrap_or(0);
    let total: usize = plan.args.iter().map(|arg| arg.len() + 1).sum();
    format!(
        "the arguments and the environment are more than the system takes: {total} bytes of \
         arguments, {longest} in the longest string"
    )
}
