//! What stands behind a module's context: its threads, its stop token and the way of its reports.

use std::collections::{BTreeSet, VecDeque};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::Instant;

use super::Setting;
use super::functions::{self, Functions};
use crate::error::{Error, ErrorCategory, Failure, Result};
use crate::host::identity::{self, Identity, Role};
use crate::host::panics::guarded;
use crate::host::{Launch, Report, Reporter, threads};
use crate::module::{
    ContextBackend, EndpointInfo, EndpointType, Exported, ModuleContext, StopAction, StopToken,
    Work,
};

/// How many `spawn_task` threads one incarnation may have at a time.
const MAX_TASKS: usize = 1024;

/// So many names of endpoints are remembered: no more of them are kept anyway.
const MAX_PUBLISHED: usize = 320;

/// The backend of one incarnation's context.
pub(in crate::host) struct Backend {
    worker: Arc<str>,
    incarnation: u64,
    identity: Arc<Identity>,
    functions: Arc<Functions>,
    stack_size: usize,
    token: StopToken,
    report: Reporter,
    threads: Mutex<Threads>,
    tasks: Arc<AtomicUsize>,
    on_stop: Arc<OnStop>,
}

/// Actions of the stop token, from its firing until they run.
#[derive(Default)]
struct OnStop {
    actions: Mutex<VecDeque<StopAction>>,
    /// There was no thread for them.
    late: AtomicBool,
}

#[derive(Default)]
struct Threads {
    handles: Vec<JoinHandle<()>>,
    /// Beyond this many, ended threads are taken out before another is added.
    prune_at: usize,
    /// All were joined: no more may start.
    closed: bool,
    /// Names of endpoints published so far; `info()` does not override those.
    published: BTreeSet<String>,
}

impl Backend {
    pub(in crate::host) fn new(launch: &Launch, setting: &Setting, report: Reporter) -> Self {
        let worker: Arc<str> = launch.worker.as_str().into();
        let role = Role::Module { worker: Arc::clone(&worker) };
        let identity = Identity { realm: setting.realm, role, requests: Arc::default() };
        let identity = Arc::new(identity);
        Self {
            functions: Arc::new(Functions::new(
                Arc::clone(&worker),
                launch.incarnation,
                Arc::clone(&identity),
                setting.stack_size,
            )),
            worker,
            incarnation: launch.incarnation,
            identity,
            stack_size: setting.stack_size,
            token: StopToken::new(),
            report,
            threads: Mutex::default(),
            tasks: Arc::default(),
            on_stop: Arc::default(),
        }
    }

    pub(super) fn report(&self, report: Report) {
        (self.report)(report);
    }

    pub(super) fn worker(&self) -> &str {
        &self.worker
    }

    pub(in crate::host) fn identity(&self) -> Arc<Identity> {
        Arc::clone(&self.identity)
    }

    pub(in crate::host) fn functions(&self) -> Arc<Functions> {
        Arc::clone(&self.functions)
    }

    /// Fires the stop token, once. The module's actions run on a thread of their own, so that
    /// neither who gives the order nor a blocked `start` stands in their way.
    pub(in crate::host) fn fire(&self, deadline: Option<Instant>) {
        let actions = self.token.fire(deadline);
        if actions.is_empty() {
            return;
        }
        self.on_stop.actions().extend(actions);
        let (identity, waiting) = (self.identity(), Arc::clone(&self.on_stop));
        let spawned = self.start_thread("on_stop", move || {
            identity::assume(identity);
            // Twice a fault of ours, so that what is left waits for the apartment.
            let ran = threads::twice("on_stop", || waiting.run_all());
            waiting.late.store(ran.is_err(), Ordering::SeqCst);
        });
        if let Err(error) = spawned {
            log::error!(
                "{}: its on_stop actions must wait for its own thread: {error}",
                self.worker
            );
            self.on_stop.late.store(true, Ordering::SeqCst);
        }
    }

    /// Runs the actions for which there was no thread, on the apartment.
    pub(super) fn run_late_actions(&self) {
        if self.on_stop.late.load(Ordering::SeqCst) {
            self.on_stop.run_all();
        }
    }

    /// Waits for all threads of the module, those included that they start meanwhile.
    pub(super) fn join_threads(&self) {
        loop {
            let handle = {
                let mut threads = self.threads();
                let handle = threads.handles.pop();
                threads.closed = handle.is_none();
                handle
            };
            match handle {
                // What the thread ran is guarded, so there is no payload to look at.
                Some(handle) => drop(handle.join()),
                None => return,
            }
        }
    }

    /// Tells the endpoints that `info()` names and nobody has published.
    pub(super) fn declare(&self, endpoints: Vec<EndpointInfo>) {
        let published = self.threads().published.clone();
        for endpoint in endpoints.into_iter().filter(|e| !published.contains(&e.name)) {
            self.tell(endpoint);
        }
    }

    /// Tells an endpoint, unless it is too long for any line to the master.
    fn tell(&self, endpoint: EndpointInfo) {
        if endpoint.is_short() {
            self.report(Report::Endpoint(endpoint));
        } else {
            log::warn!("{}: the name or address of an endpoint is too long", self.worker);
        }
    }

    fn start_thread(&self, name: &str, work: impl FnOnce() + Send + 'static) -> Result<()> {
        let fail = |error: Error| Err(error.of_worker(&self.worker));
        let mut threads = self.threads();
        if threads.closed {
            return fail(Error::new(ErrorCategory::Refused, "the incarnation has ended"));
        }
        if threads.handles.len() >= threads.prune_at {
            threads.handles.retain(|handle| !handle.is_finished());
            threads.prune_at = 2 * threads.handles.len() + 8;
        }
        let name = format!("{}#{}-{name}", self.worker, self.incarnation);
        // What a refused thread would have run is the module's: its drop must not meet our lock.
        let work = Arc::new(Mutex::new(Some(work)));
        let taken = Arc::clone(&work);
        let (called, report) = (name.clone(), Arc::clone(&self.report));
        let spawned = threads::spawn(&name, self.stack_size, move || {
            let work = taken.lock().unwrap_or_else(PoisonError::into_inner).take();
            let Some(work) = work else { return };
            // The module's own panics are caught in there.
            let worked = threads::ours(&called, || {
                work();
                threads::fail_point("module-thread");
            });
            if let Err(fault) = worked {
                report(Report::Failed(fault));
            }
        });
        let result = spawned.map(|handle| threads.handles.push(handle));
        drop(threads);
        result.or_else(|error| fail(Error::io(format!("cannot start the thread {name:?}"), error)))
    }

    fn threads(&self) -> MutexGuard<'_, Threads> {
        self.threads.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Starts a thread that runs `work` and hands a panic or an error to `failed`.
    fn start_work(
        &self,
        ctx: ModuleContext,
        name: &str,
        work: Work,
        ended: impl FnOnce(Option<Failure>) + Send + 'static,
    ) -> Result<()> {
        let identity = self.identity();
        let (callback, worker) = (format!("thread {name:?}"), Arc::clone(&self.worker));
        self.start_thread(name, move || {
            identity::assume(identity);
            let outcome = guarded(&callback, move || {
                work(ctx).map_err(|error| Failure::from_module_error(&worker, error.as_ref()))
            });
            ended(match outcome {
                Ok(Ok(())) => None,
                Ok(Err(failure)) | Err(failure) => Some(failure),
            });
        })
    }
}

impl OnStop {
    fn actions(&self) -> MutexGuard<'_, VecDeque<StopAction>> {
        self.actions.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Runs actions one after another. What one of them breaks is logged by the panic hook.
    fn run_all(&self) {
        loop {
            threads::fail_point("on_stop");
            let Some(action) = self.actions().pop_front() else { return };
            let _ = guarded("on_stop", action);
        }
    }
}

/// One running task; counted until it is dropped, also when its thread never started.
struct TaskCount(Arc<AtomicUsize>);

impl Drop for TaskCount {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

impl ContextBackend for Backend {
    fn worker_id(&self) -> &str {
        &self.worker
    }

    fn incarnation(&self) -> u64 {
        self.incarnation
    }

    fn stop_token(&self) -> &StopToken {
        &self.token
    }

    fn spawn(&self, ctx: ModuleContext, name: &str, work: Work) -> Result<()> {
        let report = Arc::clone(&self.report);
        self.start_work(ctx, name, work, move |failure| {
            if let Some(failure) = failure {
                report(Report::Failed(failure));
            }
        })
    }

    fn spawn_task(&self, ctx: ModuleContext, name: &str, work: Work) -> Result<()> {
        let count = TaskCount(Arc::clone(&self.tasks));
        if self.tasks.fetch_add(1, Ordering::Relaxed) >= MAX_TASKS {
            let message = format!("{MAX_TASKS} tasks run already");
            return Err(Error::new(ErrorCategory::ResourceLimit, message).of_worker(&self.worker));
        }
        let (report, name_of_task) = (Arc::clone(&self.report), name.to_owned());
        self.start_work(ctx, name, work, move |failure| {
            drop(count);
            if let Some(failure) = failure {
                log::warn!("task {name_of_task:?} failed: {failure}");
                report(Report::TaskFailed(failure));
            }
        })
    }

    fn export(&self, name: &str, function: Exported) -> Result<()> {
        if self.token.is_stopped() {
            return Err(functions::too_late().of_worker(&self.worker));
        }
        self.functions.export(name, function).map_err(|error| error.of_worker(&self.worker))?;
        self.publish(EndpointInfo::new(name, EndpointType::Function, name));
        Ok(())
    }

    fn export_rest(&self, function: Exported) {
        self.functions.export_rest(function);
    }

    fn publish(&self, endpoint: EndpointInfo) {
        let mut threads = self.threads();
        if endpoint.is_short() && threads.published.len() < MAX_PUBLISHED {
            threads.published.insert(endpoint.name.clone());
        }
        drop(threads);
        self.tell(endpoint);
    }

    fn fail(&self, failure: Failure) {
        self.report(Report::Failed(failure));
    }

    fn complete(&self) {
        self.report(Report::Completed);
    }

    fn adopt_thread(&self) {
        let (worker, report) = (Arc::clone(&self.worker), Arc::clone(&self.report));
        let role = Role::Adopted { worker, report };
        let (realm, requests) = (self.identity.realm, Arc::clone(&self.identity.requests));
        identity::assume(Identity { realm, role, requests });
    }
}
