//! The data processor: a small HTTP service, written once. A master runs it as a thread of its own
//! or as a process; nothing in here knows which.

#[path = "http.rs"]
mod http;

use std::io;
use std::net::{Shutdown, TcpListener, TcpStream};
use std::num::NonZeroUsize;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use hsu_master::config::ListenAddr;
use hsu_master::{
    EndpointInfo, Error, ErrorCategory, ModuleConfig, ModuleContext, ModuleError, ModuleInfo,
    ModuleResult, StopToken, WorkerModule,
};
use serde::Deserialize;

use http::{Broken, Request, Response};

/// How long a client may take to accept an answer, at most: one that does not read must not hold up
/// a stop, for which a worker has ten seconds by default.
const ANSWER_TIME: Duration = Duration::from_secs(5);

/// What a worker's `config:` may say.
#[derive(Clone, Debug, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct Config {
    /// Where to listen.
    port: ListenAddr,
    /// How many characters are processed between two looks at the stop token.
    batch_size: NonZeroUsize,
    /// How long a request may take to arrive, and an answer to be accepted.
    #[serde(with = "hsu_master::config::duration")]
    timeout: Duration,
    /// Shown in the statistics.
    mode: String,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            port: ListenAddr::local(8080),
            batch_size: const { NonZeroUsize::new(1000).unwrap() },
            timeout: Duration::from_secs(30),
            mode: "production".to_owned(),
        }
    }
}

/// The module: one instance for each life of a worker.
#[derive(Default)]
pub(crate) struct DataProcessor {
    config: Config,
}

impl WorkerModule for DataProcessor {
    fn initialize(&mut self, _ctx: &ModuleContext, config: &ModuleConfig) -> ModuleResult {
        self.config = config.parse()?;
        if self.config.timeout.is_zero() {
            return Err(Error::configuration("config.timeout: must be more than 0s").into());
        }
        Ok(())
    }

    fn start(&mut self, ctx: &ModuleContext) -> ModuleResult {
        let listener = TcpListener::bind(&self.config.port).map_err(|error| {
            let message = format!("cannot listen at {}: {error}", self.config.port);
            io::Error::new(error.kind(), message)
        })?;
        // Not the configured address: its port may be 0.
        let address = listener.local_addr()?;
        let service = Arc::new(Service {
            worker: ctx.worker_id().to_owned(),
            stop: ctx.stop_token().clone(),
            config: self.config.clone(),
            processed: 0.into(),
        });
        // The same over HTTP and as functions, for callers who have the master at hand.
        let shared = Arc::clone(&service);
        ctx.export("process", move |text| Ok(shared.process(text)?.into_bytes()))?;
        let shared = Arc::clone(&service);
        ctx.export_json("stats", move |()| Ok(shared.stats()))?;
        ctx.spawn("accept", move |ctx| accept(&ctx, &listener, &service))?;
        ctx.publish(EndpointInfo::http("api", address));
        log::info!("listening at http://{address}");
        Ok(())
    }

    // There is no `stop`: the stop token ends `accept` and wakes the connections that wait.

    fn info(&self) -> ModuleInfo {
        ModuleInfo::new("data-processor", "1.2.3").description("turns text into upper case")
    }
}

/// What the threads of one life share.
struct Service {
    worker: String,
    stop: StopToken,
    config: Config,
    processed: AtomicU64,
}

/// Gives each connection a thread. An error is the listener's end and so the worker's crash.
fn accept(ctx: &ModuleContext, listener: &TcpListener, service: &Arc<Service>) -> ModuleResult {
    for stream in ctx.stop_token().incoming(listener) {
        let (stream, service) = (Arc::new(stream?), Arc::clone(service));
        let task = ctx.spawn_task("connection", move |ctx| service.serve(&ctx, &stream));
        if let Err(error) = task {
            log::warn!("a connection is turned away: {error}");
        }
    }
    Ok(())
}

impl Service {
    /// Serves the one request of a connection. What goes wrong with the client is not our failure.
    fn serve(&self, ctx: &ModuleContext, stream: &Arc<TcpStream>) -> ModuleResult {
        // A stop ends the wait for what has not arrived yet; what has arrived is still answered.
        let waiting = Arc::clone(stream);
        let _wake = ctx.stop_token().on_stop(move || drop(waiting.shutdown(Shutdown::Read)));
        let patience = self.config.timeout.min(ANSWER_TIME);
        match http::read_request(stream, self.config.timeout) {
            Ok(request) => {
                let sent = self.answer(&request).send(stream, patience);
                if let Err(error) = sent {
                    log::debug!("a client did not take its answer: {error}");
                }
                if (request.method.as_str(), request.path.as_str()) == ("POST", "/crash") {
                    ctx.spawn("crash", |_| panic!("asked to crash"))?;
                }
            }
            Err(Broken::Refused(response)) => {
                if response.send(stream, patience).is_ok() {
                    http::drain(stream);
                }
            }
            Err(Broken::Gone) => {}
        }
        Ok(())
    }

    fn answer(&self, request: &Request) -> Response {
        match (request.method.as_str(), request.path.as_str()) {
            ("GET", "/health") => Response::text("200 OK", "ok\n"),
            ("POST", "/process") => match self.process(&request.body) {
                Ok(upper) => Response::text("200 OK", upper),
                Err(Unprocessed::NotText) => {
                    Response::text("400 Bad Request", "the body is not UTF-8\n")
                }
                Err(Unprocessed::Stopping) => {
                    Response::text("503 Service Unavailable", "the service stops\n")
                }
            },
            ("GET", "/stats") => Response::json(&self.stats()),
            ("POST", "/crash") => Response::text("202 Accepted", "crashing\n"),
            (_, "/health" | "/stats") => Response::method_not_allowed("GET"),
            (_, "/process" | "/crash") => Response::method_not_allowed("POST"),
            _ => Response::text("404 Not Found", "try /health, /process, /stats or /crash\n"),
        }
    }

    /// The service's whole business: text in upper case.
    fn process(&self, text: &[u8]) -> Result<String, Unprocessed> {
        let text = str::from_utf8(text).map_err(|_| Unprocessed::NotText)?;
        let mut upper = String::with_capacity(text.len());
        let mut rest = text.chars().peekable();
        while rest.peek().is_some() {
            if self.stop.is_stopped() {
                return Err(Unprocessed::Stopping);
            }
            let batch = rest.by_ref().take(self.config.batch_size.get());
            upper.extend(batch.flat_map(char::to_uppercase));
        }
        self.processed.fetch_add(1, Ordering::Relaxed);
        Ok(upper)
    }

    fn stats(&self) -> serde_json::Value {
        serde_json::json!({
            "worker": self.worker,
            "pid": std::process::id(),
            "processed": self.processed.load(Ordering::Relaxed),
            "batch_size": self.config.batch_size,
            "mode": self.config.mode,
        })
    }
}

/// Why a text was not processed.
enum Unprocessed {
    NotText,
    Stopping,
}

/// What callers of the function are told.
impl From<Unprocessed> for ModuleError {
    fn from(unprocessed: Unprocessed) -> Self {
        let (category, message) = match unprocessed {
            Unprocessed::NotText => (ErrorCategory::Refused, "the text is not UTF-8"),
            Unprocessed::Stopping => (ErrorCategory::NotRunning, "the service stops"),
        };
        Error::new(category, message).into()
    }
}
