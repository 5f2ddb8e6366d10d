//! What a master does to a process that it has to itself, before it is there: from here on no
//! signal ends it unawares.

use super::signals::Signals;
use crate::error::{Error, Result};
#[cfg(all(feature = "cli", target_os = "linux"))]
use crate::host::reaper;
use crate::host::sys;

/// A process that belongs to a master, which may yet be to be built.
pub(crate) struct OwnProcess {
    pub(super) signals: Signals,
    /// The descriptor limit that children get back.
    pub(super) nofile: Option<sys::Limit>,
}

impl OwnProcess {
    /// Makes the process a supervisor's own. To be called early, and before there are threads.
    ///
    /// # Errors
    /// What the system refuses.
    pub(crate) fn take() -> Result<Self> {
        let cannot = |what: &str| {
            let what = format!("cannot {what}");
            move |error| Error::io(what, error)
        };
        sys::open_std_fds().map_err(cannot("open the standard descriptors"))?;
        sys::reset_ignored_signals().map_err(cannot("reset ignored signals"))?;
        let mut signals = Signals::install()?;
        // Nothing is held back by the threads either that start from here on, nor by theirs.
        sys::accept_all_signals().map_err(cannot("accept signals"))?;
        signals.listen()?;
        sys::install_last_words().map_err(cannot("handle fatal signals"))?;
        sys::survive_file_size_limit().map_err(cannot("handle SIGXFSZ"))?;
        sys::cloexec_inherited().map_err(cannot("mark inherited descriptors"))?;
        let nofile = sys::raise_nofile_limit().map_err(cannot("raise the descriptor limit"))?;
        Ok(Self { signals, nofile })
    }

    /// Says that no code of others runs in the process, as long as it runs no module.
    #[cfg(feature = "cli")]
    pub(crate) fn runs_nothing_else(&self) {
        #[cfg(target_os = "linux")]
        reaper::ours_alone();
    }
}
