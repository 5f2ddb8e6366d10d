//! Configuration files: YAML text in, a [`MasterConfig`] or every problem at once out. Talks to the
//! words of floor 0 only; nothing below knows YAML.

mod execution;
mod include;
mod interpolate;
mod older;
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

use std::collections::BTreeSet;
use std::hash::Hasher;
use std::path::Path;

pub use crate::units::{ListenAddr, duration, size};

use crate::error::{Error, Problem};
use crate::master::{unavailable, unprivileged};
use crate::module::ModuleRegistry;
use crate::settings::MasterConfig;
use crate::worker::{Mistake, WorkerConfig};
use interpolate::Lookup;
use older::Translation;
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
    let text = text_of(path, &file)?;
    let mut config = master(Source { file: &file, directory, lookup, check }, &text)?;
    config.warnings.extend(source::doubted(path, &file));
    config.warnings.extend(doubted_variables(&config.workers));
    if config.name.is_none() {
        config.name =
            directory.and_then(Path::file_name).and_then(|name| as_name(&name.to_string_lossy()));
    }
    Ok(config)
}

/// A warning for each file of variables that others may write: `PATH` may come from there.
fn doubted_variables(workers: &[WorkerConfig]) -> Vec<Problem> {
    let executions = workers.iter().filter_map(|worker| worker.execution.as_ref());
    let files: BTreeSet<_> =
        executions.filter_map(|execution| execution.env_file.as_ref()).collect();
    files
        .into_iter()
        .filter_map(|file| source::doubted(file, &file.display().to_string()))
        .collect()
}

/// The text of the file at `path`, which is called `file`.
fn text_of(path: &Path, file: &str) -> Result<String, Error> {
    source::read(path)
        .map_err(|message| unplaced(file, message))
        .and_then(|bytes| source::text(bytes).map_err(|fault| rejected(file, fault)))
}

/// A file of hsu-master's Go version in today's format.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct Imported {
    /// The text of a file that says the same.
    pub text: String,
    /// What of the older file has no equal, or is not known yet.
    pub warnings: Vec<Problem>,
}

/// Translates the file at `path`, which is in the format of hsu-master's Go version. Such a file
/// need not be translated to be loaded: `MasterConfig::load` reads either format.
///
/// # Errors
/// It is not in that format, or something is wrong with it.
pub fn import_hsu_go(path: &Path) -> Result<Imported, Error> {
    let file = path.display().to_string();
    let absolute = std::path::absolute(path);
    let directory = absolute.as_deref().ok().and_then(Path::parent);
    let text = text_of(path, &file)?;
    let source = Source { file: &file, directory, lookup: &variable, check: &nothing };
    let (_, translation) = master_and_translation(source, &text)?;
    let translation = translation.ok_or_else(|| {
        let message = "is not in the format of hsu-master's Go version: no worker has a `unit`";
        unplaced(&file, message.to_owned())
    })?;
    Ok(Imported { text: translation.text(&file), warnings: translation.warnings() })
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
    master_and_translation(source, text).map(|(config, _)| config)
}

/// Reads a whole file's text, and says what was made of it if it is in the older format.
fn master_and_translation(
    source: Source<'_>,
    given: &str,
) -> Result<(MasterConfig, Option<Translation>), Error> {
    let (root, text) = tree(given).map_err(|fault| rejected(source.file, fault))?;
    let mut reader = Reader::new(source, text);
    let mut draft = schema::Draft::of(Path::new(source.file));
    draft.digest.write(given.as_bytes());
    let translation = older::translate(&mut reader, &root);
    let root = match &translation {
        Some(translation) => &translation.known,
        // What is wrong with the whole is told alone.
        None if reader.found() > 0 => return reader.finish((draft.config, None)),
        None => &root,
    };
    reader.mapping(root, schema::FILE, &mut draft);
    let names = |key| root.entry(key).is_some();
    if matches!(root.value, Value::Null | Value::Map(_)) && !names("workers") && !names("include") {
        reader.problem(root.at, schema::NO_WORKERS);
    }
    if let Some(translation) = &translation {
        draft.config.warnings.extend(translation.warnings());
        draft.config.warnings.sort_by_key(|warning| (warning.line, warning.column));
    }
    draft.config.digest = Some(draft.digest.text());
    reader.finish((draft.config, translation))
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
