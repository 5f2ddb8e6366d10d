//! What each method does: answers at once, or opens something that is waited for.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use serde::Serialize;

use super::{Connection, MAX_OPEN, Open};
use crate::control::report::ModuleWire;
use crate::control::server::Shared;
use crate::control::server::streams::Stream;
use crate::control::server::work::{Answer, Work};
use crate::control::wire::{self, Method, Misread, Request};
use crate::error::{Error, ErrorCategory, Result};
use crate::host::protocol::payload;
use crate::host::threads;
use crate::master::Master;

/// The stack of a thread that does one request: it may run a module's constructor.
const STACK: usize = 1 << 20;
/// How long a call may take unless its caller says otherwise.
const CALL_TIMEOUT: Duration = Duration::from_secs(30);
/// So many streams one connection may have.
const MAX_STREAMS: usize = 16;

impl Connection<'_> {
    /// Does what one line asks for.
    pub(super) fn hear(&mut self, line: &[u8]) {
        match Request::read(line) {
            Ok(Request { id, method }) => {
                self.greeted = true;
                if self.shared.died.load(Ordering::Relaxed) {
                    return wire::push_error(&mut self.out, Some(id), &self.shared.end());
                }
                if let Err(error) = self.request(id, method) {
                    wire::push_error(&mut self.out, Some(id), &error);
                }
            }
            Err(Misread { error, hopeless: true, .. }) => self.give_up(&error),
            Err(Misread { id, error, hopeless: false }) => {
                self.greeted = true;
                wire::push_error(&mut self.out, id, &error);
            }
        }
    }

    fn request(&mut self, id: u64, method: Method) -> Result<()> {
        match method {
            Method::Hello => wire::push_result(&mut self.out, id, &self.shared.hello()),
            Method::Status(asked) => self.shared.push_status(&mut self.out, id, &asked),
            Method::Describe(asked) => {
                let description = self.shared.describe(&asked.id)?;
                wire::push_result(&mut self.out, id, &description);
            }
            Method::Start(asked) => self.start("start", id, asked)?,
            Method::Restart(asked) => self.start("restart", id, asked)?,
            Method::Stop(asked) => self.stop(id, asked)?,
            Method::Wait(asked) => self.wait_for(id, asked),
            Method::Call(asked) => self.call(id, &asked)?,
            Method::Modules => self.aside(id, None, |master| {
                let known = master.modules().into_iter();
                Ok(known.map(ModuleWire::from).collect::<Vec<_>>())
            }),
            Method::Reload => self.aside(id, Some("reload".to_owned()), Master::reload_again),
            Method::Plan(asked) => {
                self.aside(id, None, move |master| master.plan_served(asked.config.as_deref()));
            }
            Method::Shutdown(asked) => self.shut_down(id, &asked),
            Method::Events(asked) => {
                self.stream(id, asked.follow, |shared, waker| {
                    Stream::events(shared, &asked, waker)
                })?;
            }
            Method::Logs(asked) => {
                self.stream(id, asked.follow, |shared, waker| Stream::logs(shared, &asked, waker))?;
            }
        }
        Ok(())
    }

    fn start(&mut self, method: &str, id: u64, asked: wire::Command) -> Result<()> {
        let wire::Command { id: worker, force, timeout_ms, wait, watch: watched } = asked;
        self.refuse_more()?;
        let master = &self.shared.master;
        // A word about a worker that there is not is told at once, waited for or not.
        let known = master.worker_diagnostics(&worker).map(drop);
        let ticket = if method == "start" {
            master.start_nowait(&worker, force)
        } else {
            master.restart_worker_nowait(&worker, force)
        };
        let audit = audit(method, &worker, force);
        let work = Work::Starting { worker: worker.clone(), ticket, watched: watched && wait };
        if !wait {
            return self.not_waited_for(id, (&worker, work), &audit, known);
        }
        let key = self.next_key();
        self.open(key, id, work, timeout_ms, Some(audit));
        Ok(())
    }

    fn stop(&mut self, id: u64, asked: wire::Command) -> Result<()> {
        let wire::Command { id: worker, force, timeout_ms, wait, watch: _ } = asked;
        self.refuse_more()?;
        let master = &self.shared.master;
        let known = master.worker_diagnostics(&worker).map(drop);
        let ticket = master.stop_worker_nowait(&worker, force);
        let audit = audit("stop", &worker, force);
        let work = Work::Stopping { worker: worker.clone(), ticket };
        if !wait {
            return self.not_waited_for(id, (&worker, work), &audit, known);
        }
        let key = self.next_key();
        self.open(key, id, work, timeout_ms, Some(audit));
        Ok(())
    }

    /// Refuses a command while too many go on that were answered already.
    fn refuse_more(&self) -> Result<()> {
        if self.silent < MAX_OPEN {
            return Ok(());
        }
        let message =
            format!("busy: {MAX_OPEN} commands of this connection go on that it does not wait for");
        Err(Error::new(ErrorCategory::Refused, message))
    }

    /// The command is on its way, and nobody waits for its outcome.
    fn not_waited_for(
        &mut self,
        id: u64,
        (worker, work): (&str, Work),
        audit: &str,
        known: Result<()>,
    ) -> Result<()> {
        self.log(&format!("{audit}, not waited for"), known.as_ref().err());
        known?;
        self.shared.ended(worker, None).push(&mut self.out, id);
        let key = self.next_key();
        let (deadline, asked) = (None, Duration::MAX);
        self.open.insert(key, Open { id, work, deadline, asked, audit: None, silent: true });
        self.silent += 1;
        self.look(key);
        Ok(())
    }

    fn wait_for(&mut self, id: u64, asked: wire::Wait) {
        let wire::Wait { id: worker, condition, timeout_ms } = asked;
        let key = self.next_key();
        let waker = self.mailbox.waker(key);
        let watch = self.shared.master.board().watch(&worker, waker);
        let work = Work::Waiting { worker, condition, seen: None, _watch: watch };
        self.open(key, id, work, timeout_ms, None);
    }

    fn call(&mut self, id: u64, asked: &wire::Call) -> Result<()> {
        let wire::Call { worker, function, payload_b64, timeout_ms } = asked;
        let bytes = payload::read(payload_b64)
            .map_err(|error| Error::configuration(format!("`params.{error}`")))?;
        let timeout = timeout_ms.map_or(CALL_TIMEOUT, Duration::from_millis);
        let function = self.shared.master.function(worker, function).timeout(timeout);
        let work = Work::Calling(function.call_bytes_nowait(bytes));
        // The call has its own deadline.
        let key = self.next_key();
        self.open(key, id, work, None, None);
        Ok(())
    }

    fn shut_down(&mut self, id: u64, asked: &wire::Shutdown) {
        let ticket = self.shared.master.shutdown_with(false, asked.keep);
        let keep = if asked.keep { " --keep" } else { "" };
        let key = self.next_key();
        self.open(key, id, Work::ShuttingDown(ticket), None, Some(format!("shutdown{keep}")));
    }

    fn stream(
        &mut self,
        id: u64,
        follow: bool,
        make: impl FnOnce(&Arc<Shared>, std::task::Waker) -> Result<Stream>,
    ) -> Result<()> {
        if self.streams >= MAX_STREAMS {
            let message = format!("busy: {MAX_STREAMS} streams of this connection are open");
            return Err(Error::new(ErrorCategory::Refused, message));
        }
        if follow && self.brief {
            let message = "busy: no descriptor is left to follow with";
            return Err(Error::new(ErrorCategory::Refused, message));
        }
        let key = self.next_key();
        let stream = make(self.shared, self.mailbox.waker(key))?;
        self.streams += 1;
        self.open(key, id, Work::Streaming(Box::new(stream)), None, None);
        Ok(())
    }

    /// Has a thread do what may block.
    fn aside<T: Serialize>(
        &mut self,
        id: u64,
        audit: Option<String>,
        work: impl FnOnce(&Master) -> Result<T> + Send + 'static,
    ) {
        let (key, mailbox) = (self.next_key(), Arc::downgrade(&self.mailbox));
        let permit = match self.shared.jobs.take() {
            Ok(permit) => permit,
            Err(error) => {
                if let Some(what) = audit {
                    self.log(&what, Some(&error));
                }
                return wire::push_error(&mut self.out, Some(id), &error);
            }
        };
        let what = audit.clone().unwrap_or_else(|| "a question".to_owned());
        let master = self.shared.master.share();
        self.open(key, id, Work::Aside, None, audit);
        let work = move || {
            let result = text_of(&what, || work(&master));
            drop(permit);
            if let Some(mailbox) = mailbox.upgrade() {
                mailbox.deliver(key, result);
            }
        };
        if let Err(error) = threads::spawn("control-job", STACK, work) {
            self.answer(key, Err(Error::io("there is no thread for it", error)));
        }
    }

    fn next_key(&mut self) -> u64 {
        self.last += 1;
        self.last
    }

    /// Waits for something on the client's behalf.
    fn open(
        &mut self,
        key: u64,
        id: u64,
        work: Work,
        timeout_ms: Option<u64>,
        audit: Option<String>,
    ) {
        let asked = timeout_ms.map_or(Duration::MAX, Duration::from_millis);
        let deadline = Instant::now().checked_add(asked);
        self.open.insert(key, Open { id, work, deadline, asked, audit, silent: false });
        self.look(key);
    }
}

/// What a job comes to, as text. Whoever waits for it is answered even if it panics.
fn text_of<T: Serialize>(what: &str, work: impl FnOnce() -> Result<T>) -> Result<Vec<u8>> {
    let done = threads::ours(what, || {
        threads::fail_point("control-job");
        work().and_then(|result| Answer::text(&result))
    });
    done.unwrap_or_else(|fault| Err(Error::from(&fault)))
}

/// What the log says of a command.
fn audit(method: &str, worker: &str, force: bool) -> String {
    // A name that somebody made up may be anything.
    let worker: String = worker.chars().take(64).flat_map(char::escape_default).collect();
    let force = if force { " --force" } else { "" };
    format!("{method} {worker}{force}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_job_that_panics_has_an_answer() {
        assert_eq!(text_of("plan", || Ok(vec![1, 2])).unwrap(), b"[1,2]");
        let error = text_of("plan", || -> Result<()> { panic!("not today") }).unwrap_err();
        assert_eq!(error.category(), ErrorCategory::Internal, "{error}");
        assert!(error.message().contains("plan: not today"), "{error}");
    }
}
