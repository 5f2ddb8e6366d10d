//! What a former master has left of workers that this one does not know yet, because its program
//! adds them later: kept until they are added, or until it is clear that they will not be.

use std::time::Duration;

use super::former::{Adoption, Ending, end, fingerprint, is_wanted};
use super::record::{Process, Record, Wanted};
use crate::host::attached::Attached;
use crate::worker::{RestartPolicy, WorkerConfig, WorkerId};

/// What is left of one worker: its record, and its process if that may go on.
#[derive(Debug)]
pub(crate) struct Unclaimed {
    pub(super) record: Record,
    pub(super) process: Option<(Attached, Process)>,
}

/// What becomes of it once the worker is known.
#[derive(Debug)]
pub(crate) struct Claimed {
    /// Its process goes on.
    pub(crate) adoption: Option<Adoption>,
    /// Its process was ended: this one.
    pub(crate) ended: Option<u32>,
    /// It was stopped by a command, and is to stay so.
    pub(crate) down: bool,
}

impl Unclaimed {
    /// The worker is known now. A process that does not go on with this configuration is ended,
    /// which is waited for.
    pub(crate) fn claim(
        self,
        worker: &WorkerId,
        config: &WorkerConfig,
        patience: Duration,
    ) -> Claimed {
        let Self { record, process } = self;
        let down =
            record.wanted == Wanted::Down && config.restart.policy == RestartPolicy::UnlessStopped;
        let mut claimed = Claimed { adoption: None, ended: None, down };
        let Some((process, known)) = process else { return claimed };
        let worker = worker.clone();
        if is_wanted(config) {
            let outdated = known.configuration != fingerprint(config);
            claimed.adoption = Some(Adoption { worker, process, record, outdated });
        } else {
            claimed.ended = Some(process.pid());
            end(vec![Ending { worker, process, stop: record.stop }], patience);
        }
        claimed
    }

    /// Nobody has claimed these: what runs of them is ended side by side, which is waited for.
    pub(crate) fn end(
        unclaimed: impl IntoIterator<Item = (WorkerId, Self)>,
        patience: Duration,
    ) -> Vec<WorkerId> {
        let (mut workers, mut endings) = (Vec::new(), Vec::new());
        for (worker, Self { record, process }) in unclaimed {
            if let Some((process, _)) = process {
                endings.push(Ending { worker: worker.clone(), process, stop: record.stop });
            }
            workers.push(worker);
        }
        end(endings, patience);
        workers
    }
}
