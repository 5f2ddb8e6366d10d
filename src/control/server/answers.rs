//! What can be answered at once: who the master is, and what its board says.

use super::{Shared, wire};
use crate::control::report::{
    ConfigReport, Description, ExitReport, Hello, PastReport, StateTroubleReport, patience,
};
use crate::error::{Error, ErrorCategory, Result};
use crate::host::state::StateTrouble;
use crate::runtime::{Described, Past};
use crate::worker::WorkerDiagnostics;

/// So many workers are in one answer at most,
const PAGE: usize = 256;
/// and no more once it is that long.
const PAGE_BYTES: usize = 256 << 10;

impl Shared {
    pub(super) fn hello(&self) -> Hello {
        let stall = self.master.stall();
        let (configuration, configured_at) = self.master.digest();
        let trouble = self.master.state_trouble().map(|(path, StateTrouble { message, since })| {
            StateTroubleReport { path: path.display().to_string(), message, since }
        });
        Hello {
            configuration,
            configured_at: Some(configured_at),
            state_trouble: trouble,
            protocol: wire::VERSION,
            version: env!("CARGO_PKG_VERSION").to_owned(),
            pid: std::process::id(),
            name: self.name.clone(),
            loop_stalled_ms: stall
                .as_ref()
                .map(|stall| u64::try_from(stall.lasts.as_millis()).unwrap_or(u64::MAX)),
            loop_stalled_at: stall.map(|stall| stall.at),
        }
    }

    /// Puts the answer behind what is in `out`: the workers' reports as they are read from the
    /// board, and after which one to go on.
    pub(super) fn push_status(&self, out: &mut Vec<u8>, id: u64, asked: &wire::Status) {
        let workers = match self.asked_for(asked) {
            Ok(workers) => workers,
            Err(error) => return wire::push_error(out, Some(id), &error),
        };
        let all = asked.ids.is_empty();
        let full = all && workers.len() == PAGE;
        let before = out.len();
        out.extend_from_slice(format!(r#"{{"id":{id},"result":{{"workers":["#).as_bytes());
        let mut last = None;
        let mut workers = workers.into_iter().peekable();
        while let Some(known) = workers.next() {
            if last.is_some() {
                out.push(b',');
            }
            let report = if asked.usage { self.measured(known) } else { known.into() };
            if let Err(error) = serde_json::to_writer(&mut *out, &report) {
                out.truncate(before);
                let error = Error::new(ErrorCategory::Internal, error.to_string());
                return wire::push_error(out, Some(id), &error);
            }
            let more = workers.peek().is_some() || full;
            last = Some((report.id, more));
            if all && out.len() - before > PAGE_BYTES {
                break;
            }
        }
        let next = match &last {
            // An id has no letter that would have to be escaped.
            Some((id, true)) => format!(r#""{id}""#),
            Some((_, false)) | None => "null".to_owned(),
        };
        out.extend_from_slice(format!("],\"next\":{next}}}}}\n").as_bytes());
    }

    fn asked_for(&self, asked: &wire::Status) -> Result<Vec<WorkerDiagnostics>> {
        let board = self.master.board();
        if asked.ids.is_empty() {
            return Ok(board.some_diagnostics(asked.after.as_deref(), PAGE));
        }
        if asked.ids.len() > wire::MAX_NAMED {
            let most = wire::MAX_NAMED;
            let message = format!("`params.ids`: at most {most} are answered at a time");
            return Err(Error::configuration(message));
        }
        asked.ids.iter().map(|id| board.diagnostics(id)).collect()
    }

    pub(super) fn describe(&self, id: &str) -> Result<Description> {
        let Described { diagnostics, config, failures, history } =
            self.master.board().describe(id)?;
        let (failures, retries_left) = patience(&diagnostics, failures, &config.restart);
        let last_output = diagnostics.last_output.clone();
        Ok(Description {
            worker: self.measured(diagnostics),
            failures,
            retries_left,
            config: ConfigReport::new(&config, self.master.has_guardian()),
            history: history.into_iter().map(PastReport::from).collect(),
            last_output,
        })
    }
}

impl From<Past> for PastReport {
    fn from(past: Past) -> Self {
        let Past { at, from, to, cause, incarnation, message, exit } = past;
        let (cause, exit) = (cause.to_owned(), exit.as_ref().map(ExitReport::from));
        Self { at, from, to, cause, incarnation, message, exit }
    }
}
