//! Where a master's directories are when nobody says so.

use std::env;
use std::ffi::OsString;
use std::path::{Path, PathBuf};

use crate::host::sys;

/// The environment variable that names a state directory.
const VARIABLE: &str = "HSU_STATE_DIR";
const OURS: &str = "hsu-master";

/// The state directory of the master `name`: what its configuration says, else `$HSU_STATE_DIR`,
/// else one in [`runtime_dir`].
pub(crate) fn state_dir(configured: Option<&Path>, name: &str) -> PathBuf {
    match configured.map(Path::to_owned).or_else(named) {
        Some(path) => path,
        None => runtime_dir().join(name),
    }
}

/// The state directory that the environment names.
#[cfg(feature = "cli")]
pub(crate) fn named_state_dir() -> Option<PathBuf> {
    named()
}

/// Where logs go: what the configuration says; else beside a state directory that somebody named;
/// else where logs of such a user belong.
pub(crate) fn log_dir(log_dir: Option<&Path>, state_dir: Option<&Path>, name: &str) -> PathBuf {
    let named = state_dir.map(Path::to_owned).or_else(named);
    match (log_dir, named) {
        (Some(path), _) => path.to_owned(),
        (None, Some(state)) => state.join("logs"),
        (None, None) => default_log_dir(sys::effective_uid() == 0, name, &|name| variable(name)),
    }
}

/// Where the state directories of masters are that nobody named.
pub(crate) fn runtime_dir() -> PathBuf {
    default_runtime_dir(sys::effective_uid(), &|name| variable(name))
}

fn default_runtime_dir(uid: u32, variable: &dyn Fn(&str) -> Option<PathBuf>) -> PathBuf {
    match (uid, variable("XDG_RUNTIME_DIR")) {
        (0, _) => Path::new("/run").join(OURS),
        (_, Some(runtime)) => runtime.join(OURS),
        (uid, None) => PathBuf::from(format!("/tmp/{OURS}-{uid}")),
    }
}

fn default_log_dir(root: bool, name: &str, variable: &dyn Fn(&str) -> Option<PathBuf>) -> PathBuf {
    if root {
        return Path::new("/var/log").join(OURS).join(name);
    }
    let home = || variable("HOME").unwrap_or_else(|| "/".into()).join(".local/state");
    variable("XDG_STATE_HOME").unwrap_or_else(home).join(OURS).join(name).join("logs")
}

fn named() -> Option<PathBuf> {
    absolute(env::var_os(VARIABLE)?)
}

/// A path that somebody wrote, from where we are now; an empty one is none.
fn absolute(path: OsString) -> Option<PathBuf> {
    if path.is_empty() {
        return None;
    }
    // Where we are cannot be told if it is gone: then a relative path leads nowhere.
    Some(std::path::absolute(&path).unwrap_or_else(|_| path.into()))
}

/// A path in the environment; one that is empty or relative is none.
fn variable(name: &str) -> Option<PathBuf> {
    let value: Option<OsString> = env::var_os(name);
    value.map(PathBuf::from).filter(|path| path.is_absolute())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_kind_of_user_has_a_place_of_its_own() {
        let variables = |name: &str| match name {
            "HOME" => Some("/home/u".into()),
            _ => None,
        };
        let with_xdg = |name: &str| match name {
            "XDG_RUNTIME_DIR" => Some("/run/user/7".into()),
            "XDG_STATE_HOME" => Some("/home/u/state".into()),
            _ => None,
        };
        assert_eq!(default_runtime_dir(0, &with_xdg), Path::new("/run/hsu-master"));
        assert_eq!(default_runtime_dir(7, &with_xdg), Path::new("/run/user/7/hsu-master"));
        assert_eq!(default_runtime_dir(7, &variables), Path::new("/tmp/hsu-master-7"));
        assert_eq!(default_log_dir(true, "n", &variables), Path::new("/var/log/hsu-master/n"));
        let home = default_log_dir(false, "n", &variables);
        assert_eq!(home, Path::new("/home/u/.local/state/hsu-master/n/logs"));
        let xdg = default_log_dir(false, "n", &with_xdg);
        assert_eq!(xdg, Path::new("/home/u/state/hsu-master/n/logs"));
    }

    #[test]
    fn a_directory_that_somebody_names_is_meant_from_where_we_are() {
        assert_eq!(absolute("".into()), None);
        assert_eq!(absolute("/a/b".into()), Some("/a/b".into()));
        let here = env::current_dir().unwrap();
        assert_eq!(absolute("rel".into()), Some(here.join("rel")));
        assert_eq!(absolute("./rel".into()), Some(here.join("rel")));
    }

    #[test]
    fn what_is_configured_wins_and_logs_lie_beside_a_named_directory() {
        let (state, log) = (Path::new("/s"), Path::new("/l"));
        assert_eq!(state_dir(Some(state), "n"), state);
        assert_eq!(log_dir(Some(log), Some(state), "n"), log);
        assert_eq!(log_dir(None, Some(state), "n"), Path::new("/s/logs"));
    }
}
