//! Where the master of a configuration file is to be found: read from the file alone, even if the
//! rest of it is wrong just now.

use std::path::{Path, PathBuf};

use super::reader::{Reader, Source};
use super::{as_name, nothing, rejected, schema, source, tree, unplaced, variable};
use crate::error::Error;

/// What a file says of its master's place.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Place {
    /// The master's name: as written, else the default, else that of the file's directory.
    pub(crate) name: Option<String>,
    /// Its state directory, if the file names it.
    pub(crate) state_dir: Option<PathBuf>,
    /// Where its logs go, if the file says so.
    pub(crate) log_dir: Option<PathBuf>,
}

/// Reads the place from the file at `path`. `name` is the master's where the file gives none.
///
/// # Errors
/// The file cannot be read, is no YAML, or says wrong things of the place itself.
pub(crate) fn place(path: &Path, name: Option<&str>) -> Result<Place, Error> {
    let file = path.display().to_string();
    let absolute = std::path::absolute(path);
    let directory = absolute.as_deref().ok().and_then(Path::parent);
    let text = source::read(path)
        .map_err(|message| unplaced(&file, message))
        .and_then(|bytes| source::text(bytes).map_err(|fault| rejected(&file, fault)))?;
    let (root, text) = tree(&text).map_err(|fault| rejected(&file, fault))?;
    let source = Source { file: &file, directory, lookup: &variable, check: &nothing };
    let mut reader = Reader::new(source, text);
    let mut draft = schema::Draft::default();
    let keys = ["name", "state_dir", "log_dir"];
    for (key, read) in schema::MASTER.iter().filter(|(key, _)| keys.contains(key)) {
        let path = format!("master.{key}");
        if let Some(node) = root.find(&path) {
            reader.under(&path, |reader| read(reader, node, &mut draft));
        }
    }
    let config = reader.finish(draft.config)?;
    let from_directory =
        || directory?.file_name().and_then(|name| as_name(&name.to_string_lossy()));
    let name = config.name.or_else(|| name.map(str::to_owned)).or_else(from_directory);
    Ok(Place { name, state_dir: config.state_dir, log_dir: config.log_dir })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_place_is_read_even_if_the_workers_are_wrong() {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("w.yaml");
        let written = |text: &str| {
            std::fs::write(&file, text).unwrap();
            place(&file, Some("own"))
        };
        let wrong =
            "master: { name: n, state_dir: s, log_dir: l, shutdown_timeout: never }\nworkers: 7\n";
        let (state_dir, log_dir) = (directory.path().join("s"), directory.path().join("l"));
        let (state_dir, log_dir) = (Some(state_dir), Some(log_dir));
        let expected = Place { name: Some("n".into()), state_dir, log_dir };
        assert_eq!(written(wrong).unwrap(), expected);
        let expected = Place { name: Some("own".into()), state_dir: None, log_dir: None };
        assert_eq!(written("workers: []\n").unwrap(), expected);
        assert!(written("master: { name: 'a/b' }\n").unwrap_err().to_string().contains("w.yaml:1"));
        written("{\n").unwrap_err();
        let by_directory = written("workers: []\n").and_then(|_| place(&file, None)).unwrap();
        let name = directory.path().file_name().unwrap().to_string_lossy();
        assert_eq!(by_directory.name, as_name(&name));
    }
}
