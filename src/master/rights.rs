//! Settings of processes that this master, as it is, cannot heed.

use super::Host;
use crate::host::process::{Settings, unprivileged as unprivileged_key};
use crate::runtime::NO_LAUNCHER;
use crate::worker::{Mistake, WorkerConfig};

/// The setting that takes root, if there is one and we are not.
pub(crate) fn unprivileged(config: &WorkerConfig) -> Option<Mistake> {
    let key = config.execution.as_ref().and_then(unprivileged_key)?;
    let message = "needs root, which the master is not: run it as root, or remove this";
    Some((key.to_owned(), message.to_owned()))
}

/// The setting that takes a launcher, if there is one and this program cannot be it.
pub(super) fn unlaunchable(config: &WorkerConfig, host: Host) -> Option<Mistake> {
    let execution = config.execution.clone().unwrap_or_default();
    let key = Settings::needed(&execution, &config.limits.hard)?;
    (host == Host::Own(false)).then(|| (key.to_owned(), NO_LAUNCHER.to_owned()))
}
