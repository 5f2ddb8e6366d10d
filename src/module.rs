//! The module author's side: the [`WorkerModule`] trait and what its callbacks are handed. The
//! threads behind it belong to `host`; nothing here starts one.

mod context;
mod factory;
mod json;
mod listener;
mod token;

use std::fmt;
use std::sync::Arc;

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

pub use context::ModuleContext;
pub(crate) use context::{ContextBackend, Exported, Work};
pub use factory::{ModuleFactory, ModuleRegistry, configured, from_config};
pub(crate) use json::{read_reply, write_request};
pub use listener::{Incoming, Listener};
pub(crate) use token::StopAction;
pub use token::{OnStop, StopToken, Ticks};

use crate::error::Error;

/// A module's error: any error, so that `?` takes them all, and `"text".into()`.
///
/// Two conversions that the standard library refuses: a poisoned `lock()?` (its guard is not
/// `Send`) and a channel's `send(value)?` where the value is not `Sync`; map those to text.
pub type ModuleError = Box<dyn std::error::Error + Send + Sync + 'static>;

/// What a module's callbacks return.
pub type ModuleResult<T = ()> = Result<T, ModuleError>;

/// A service, written once and run as a thread of the master or as a process of its own.
///
/// All calls on an instance are made on the worker's own thread, one at a time, from the factory to
/// the drop (an apartment, hence no `Send`). Each is behind `catch_unwind`, and each has a
/// deadline: a panic or a hang is this worker's failure and nobody else's.
///
/// A crashed instance is dropped and never reused; each start gets a fresh one from the factory.
pub trait WorkerModule {
    /// Takes the configuration and gets ready; called once, before `start`.
    ///
    /// # Errors
    /// Any error fails the start. One of category `configuration` is not retried.
    fn initialize(&mut self, ctx: &ModuleContext, config: &ModuleConfig) -> ModuleResult {
        let _ = (ctx, config);
        Ok(())
    }

    /// Brings the service up and returns once it is. Work that goes on belongs in
    /// [`ModuleContext::spawn`].
    ///
    /// # Errors
    /// Any error fails the start.
    fn start(&mut self, ctx: &ModuleContext) -> ModuleResult;

    /// Brings the service down. The stop token has fired before; spawned threads are joined after.
    /// Called only if `start` returned `Ok` and no callback has panicked.
    ///
    /// # Errors
    /// An error is kept as a warning; the worker is stopped all the same.
    fn stop(&mut self, ctx: &ModuleContext) -> ModuleResult {
        let _ = ctx;
        Ok(())
    }

    /// True while the service does its work. Asked every `health_check.interval` while running.
    fn is_healthy(&self) -> bool {
        true
    }

    /// As `is_healthy`, with a reason. Override it to give one.
    fn health(&self) -> Health {
        self.is_healthy().into()
    }

    /// What this module is. May be asked before `initialize`, on an instance made for that.
    fn info(&self) -> ModuleInfo;
}

impl<M: WorkerModule + ?Sized> WorkerModule for Box<M> {
    fn initialize(&mut self, ctx: &ModuleContext, config: &ModuleConfig) -> ModuleResult {
        (**self).initialize(ctx, config)
    }
    fn start(&mut self, ctx: &ModuleContext) -> ModuleResult {
        (**self).start(ctx)
    }
    fn stop(&mut self, ctx: &ModuleContext) -> ModuleResult {
        (**self).stop(ctx)
    }
    fn is_healthy(&self) -> bool {
        (**self).is_healthy()
    }
    fn health(&self) -> Health {
        (**self).health()
    }
    fn info(&self) -> ModuleInfo {
        (**self).info()
    }
}

/// A module's answer to "are you well?".
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Health {
    reason: Option<String>,
}

impl Health {
    /// All is well.
    pub fn healthy() -> Self {
        Self { reason: None }
    }

    /// Something is wrong; `reason` says what, for people.
    pub fn unhealthy(reason: impl Into<String>) -> Self {
        Self { reason: Some(reason.into()) }
    }

    /// True when all is well.
    pub fn is_healthy(&self) -> bool {
        self.reason.is_none()
    }

    /// What is wrong, if something is.
    pub fn reason(&self) -> Option<&str> {
        self.reason.as_deref()
    }
}

impl From<bool> for Health {
    fn from(healthy: bool) -> Self {
        if healthy { Self::healthy() } else { Self::unhealthy("the module says it is not healthy") }
    }
}

/// What a module is: its name, its version and what it offers.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct ModuleInfo {
    /// The module's name.
    pub name: String,
    /// Its version.
    pub version: String,
    /// One line for people.
    pub description: String,
    /// Who wrote it.
    pub author: String,
    /// What it offers, as far as it is known before the start.
    pub endpoints: Vec<EndpointInfo>,
}

impl ModuleInfo {
    /// A module of this name and version.
    pub fn new(name: impl Into<String>, version: impl Into<String>) -> Self {
        Self {
            name: name.into(),
            version: version.into(),
            description: String::new(),
            author: String::new(),
            endpoints: Vec::new(),
        }
    }

    /// One line for people.
    #[must_use]
    pub fn description(mut self, description: impl Into<String>) -> Self {
        self.description = description.into();
        self
    }

    /// Who wrote it.
    #[must_use]
    pub fn author(mut self, author: impl Into<String>) -> Self {
        self.author = author.into();
        self
    }

    /// One more thing it offers.
    #[must_use]
    pub fn endpoint(mut self, endpoint: EndpointInfo) -> Self {
        self.endpoints.push(endpoint);
        self
    }
}

/// A [`ModuleInfo`] from the calling crate's `Cargo.toml`: name, version, description and authors.
#[macro_export]
macro_rules! module_info {
    () => {
        $crate::ModuleInfo::new(env!("CARGO_PKG_NAME"), env!("CARGO_PKG_VERSION"))
            .description(env!("CARGO_PKG_DESCRIPTION"))
            .author(env!("CARGO_PKG_AUTHORS"))
    };
}

/// What speaks at an endpoint.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
#[non_exhaustive]
pub enum EndpointType {
    /// HTTP over TCP.
    Http,
    /// gRPC over TCP.
    Grpc,
    /// Anything over TCP.
    Tcp,
    /// Anything over a Unix socket.
    Unix,
    /// An exported function.
    Function,
}

impl EndpointType {
    /// The word used in output.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Http => "http",
            Self::Grpc => "grpc",
            Self::Tcp => "tcp",
            Self::Unix => "unix",
            Self::Function => "function",
        }
    }
}

/// One thing a module offers, and where.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct EndpointInfo {
    /// Its name within the worker.
    pub name: String,
    /// What speaks there.
    #[serde(rename = "type")]
    pub endpoint_type: EndpointType,
    /// `host:port`, a socket's path, or a function's name.
    pub address: String,
}

impl EndpointInfo {
    /// Something at an address.
    pub fn new(
        name: impl Into<String>,
        endpoint_type: EndpointType,
        address: impl fmt::Display,
    ) -> Self {
        Self { name: name.into(), endpoint_type, address: address.to_string() }
    }

    /// HTTP at `host:port`.
    pub fn http(name: impl Into<String>, address: impl fmt::Display) -> Self {
        Self::new(name, EndpointType::Http, address)
    }

    /// gRPC at `host:port`.
    pub fn grpc(name: impl Into<String>, address: impl fmt::Display) -> Self {
        Self::new(name, EndpointType::Grpc, address)
    }

    /// Anything at TCP `host:port`.
    pub fn tcp(name: impl Into<String>, address: impl fmt::Display) -> Self {
        Self::new(name, EndpointType::Tcp, address)
    }

    /// Anything at the Unix socket at this path.
    pub fn unix(name: impl Into<String>, path: impl fmt::Display) -> Self {
        Self::new(name, EndpointType::Unix, path)
    }

    /// False: its name or its address has more than 1 KiB, so that it is not told to anybody.
    pub(crate) fn is_short(&self) -> bool {
        self.name.len() <= MAX_ENDPOINT && self.address.len() <= MAX_ENDPOINT
    }
}

/// The longest name or address of an endpoint, in bytes.
const MAX_ENDPOINT: usize = 1024;

/// A worker's `config:`, as its module sees it. Cheap to clone.
#[derive(Clone, Debug)]
pub struct ModuleConfig {
    worker: Arc<str>,
    value: Arc<serde_json::Value>,
}

impl ModuleConfig {
    /// The configuration of the worker named `worker`.
    pub fn new(worker: &str, value: serde_json::Value) -> Self {
        Self { worker: worker.into(), value: Arc::new(value) }
    }

    /// Reads it into a type of the module's own. A missing `config:` reads as an empty map.
    ///
    /// # Errors
    /// Of category `configuration`, hence not retried, naming the worker and the field.
    pub fn parse<T: DeserializeOwned>(&self) -> Result<T, Error> {
        let empty = serde_json::Value::Object(serde_json::Map::new());
        let value = if self.value.is_null() { &empty } else { &*self.value };
        serde_path_to_error::deserialize(value).map_err(|error| {
            let path = match error.path().to_string() {
                path if path == "." => "config".to_owned(),
                path if path.starts_with('[') => format!("config{path}"),
                path => format!("config.{path}"),
            };
            Error::configuration(format!("{path}: {}", error.into_inner())).of_worker(&self.worker)
        })
    }

    /// The configuration as it stands.
    pub fn as_json(&self) -> &serde_json::Value {
        &self.value
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rejected_config_names_worker_and_field() {
        #[derive(Deserialize, Debug)]
        #[serde(deny_unknown_fields)]
        struct Config {
            #[expect(dead_code, reason = "read for its type alone")]
            ports: Vec<u16>,
        }
        let config = ModuleConfig::new("api", serde_json::json!({"ports": [80, "x"]}));
        let error = config.parse::<Config>().unwrap_err();
        let text = error.to_string();
        assert!(text.starts_with("worker api: config.ports[1]: invalid type"), "{text}");
        assert!(error.permanent());
        let config = ModuleConfig::new("api", serde_json::Value::Null);
        assert!(
            config.parse::<Config>().unwrap_err().to_string().contains("missing field `ports`")
        );
    }

    #[test]
    fn module_info_comes_from_the_manifest() {
        let info = module_info!();
        assert_eq!((info.name.as_str(), info.version.as_str()), ("hsu-master", "0.1.0"));
    }
}
