//! Configuration files: YAML text in, a [`MasterConfig`] or every problem at once out. Talks to the
//! words of floor 0 only; nothing below knows YAML.

mod execution;
mod include;
mod interpolate;
#[cfg(feature = "cli")]
mod place;
mod reader;
mod schema;
mod source;
#[cfg(test)]
mod tests;
mod words;
mod worker;
mod yaml;

use std::path::Path;

pub use crate::units::{ListenAddr, duration, size};

use crate::error::{Error, Problem};
use crate::master::{unavailable, unprivileged};
use crate::module::ModuleRegistry;
use crate::settings::MasterConfig;
use crate::worker::{Mistake, WorkerConfig};
use interpolate::Lookup;
#[cfg(feature = "cli")]
pub(crate) use place::place;
use reader::{Check, Reader, Source};
use yaml::{Fault, Node, Value};

impl MasterConfig {
    /// Reads the file at `path`.
    ///
    /// Relative paths in it are relative to its directory and come out absolute. `${VAR}` is taken
    /// from the environment.
    ///
    /// # Errors
    /// Of category `configuration`, with every mistake in [`Error::problems`].
    pub fn load(path: impl AsRef<Path>) -> Result<Self, Error> {
        load(path.as_ref(), &variable, &nothing)
    }

    /// Reads the file at `path` for a program with these native modules: a worker whose module is
    /// not among them is one more mistake in the file, with its place.
    ///
    /// # Errors
    /// As [`load`](Self::load).
    pub fn load_for(registry: &ModuleRegistry, path: impl AsRef<Path>) -> Result<Self, Error> {
        load(path.as_ref(), &variable, &|worker| {
            unavailable(worker, registry).or_else(|| unprivileged(worker))
        })
    }

    /// Reads the text of a file. Relative paths stay relative, and there is no name by default.
    ///
    /// # Errors
    /// As [`load`](Self::load).
    pub fn from_yaml(text: &str) -> Result<Self, Error> {
        master(Source { file: "", directory: None, lookup: &variable, check: &nothing }, text)
    }
}

impl WorkerConfig {
    /// Reads one worker: the mapping that a file has under `workers`. Relative paths stay relative.
    ///
    /// # Errors
    /// Of category `configuration`, with every mistake in [`Error::problems`].
    pub fn from_yaml(text: &str) -> Result<Self, Error> {
        one_worker(Source { file: "", directory: None, lookup: &variable, check: &nothing }, text)
    }
}

fn nothing(_: &WorkerConfig) -> Option<Mistake> {
    None
}

fn variable(name: &str) -> Option<std::ffi::OsString> {
    std::env::var_os(name)
}

/// Reads the file at `path`, with variables from `lookup` and a further check.
fn load(path: &Path, lookup: Lookup<'_>, check: Check<'_>) -> Result<MasterConfig, Error> {
    let file = path.display().to_string();
    let absolute = std::path::absolute(path);
    let directory = absolute.as_deref().ok().and_then(Path::parent);
    let text = source::read(path)
        .map_err(|message| unplaced(&file, message))
        .and_then(|bytes| source::text(bytes).map_err(|fault| rejected(&file, fault)))?;
    let mut config = master(Source { file: &file, directory, lookup, check }, &text)?;
    if config.name.is_none() {
        config.name =
            directory.and_then(Path::file_name).and_then(|name| as_name(&name.to_string_lossy()));
    }
    Ok(config)
}

/// The nearest text to `name` that follows the rule for names.
fn as_name(name: &str) -> Option<String> {
    let allowed = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-');
    let name: String = name.chars().map(|c| if allowed(c) { c } else { '-' }).collect();
    let name = name.trim_start_matches(|c: char| !c.is_ascii_alphanumeric());
    let name = &name[..name.len().min(64)];
    (!name.is_empty()).then(|| name.to_owned())
}

/// Reads a whole file's text.
fn master(source: Source<'_>, text: &str) -> Result<MasterConfig, Error> {
    let (root, text) = tree(text).map_err(|fault| rejected(source.file, fault))?;
    let mut reader = Reader::new(source, text);
    let mut draft = schema::Draft::of(Path::new(source.file));
    reader.mapping(&root, schema::FILE, &mut draft);
    let names = |key| root.entry(key).is_some();
    if matches!(root.value, Value::Null | Value::Map(_)) && !names("workers") && !names("include") {
        reader.problem(root.at, schema::NO_WORKERS);
    }
    reader.finish(draft.config)
}

/// Reads one worker's text.
fn one_worker(source: Source<'_>, text: &str) -> Result<WorkerConfig, Error> {
    let (root, text) = tree(text).map_err(|fault| rejected(source.file, fault))?;
    let mut reader = Reader::new(source, text);
    let mut made = worker::workers(&mut reader, &root, &schema::Defaults::default());
    if made.len() > 1 {
        let message = "makes several workers, and this is to be one";
        reader.under("replicas", |reader| reader.problem(root.place("replicas"), message));
    }
    reader.finish(made.swap_remove(0))
}

/// The tree of a text, and the text without a byte order mark: what the tree's places refer to.
fn tree(text: &str) -> Result<(Node, &str), Fault> {
    let text = source::checked(text)?;
    Ok((yaml::parse(text)?, text))
}

/// A text that is no configuration at all.
fn rejected(file: &str, fault: Fault) -> Error {
    Error::rejected(vec![fault.problem(file)])
}

/// A file without a text.
fn unplaced(file: &str, message: String) -> Error {
    let (line, column) = (0, 0);
    let problem = Problem { file: file.to_owned(), line, column, path: String::new(), message };
    Error::rejected(vec![problem])
}
