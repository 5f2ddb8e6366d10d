//! Further files that a configuration names: found by name or by pattern, each read once, none
//! twice, and all together within bounds.

use std::fs;
use std::hash::Hasher;
use std::path::{Path, PathBuf};

use super::reader::{Reader, Source, below};
use super::schema::{Draft, INCLUDED};
use super::yaml::{Fault, Mark, Node};
use super::{older, source, tree};

/// How many files may stand between a file and the one that was asked for.
const MAX_DEPTH: usize = 8;
/// How many files may be included in all.
const MAX_FILES: usize = 256;
/// How much text they may have in all, in bytes.
const MAX_TEXT: usize = 8 << 20;
/// How many names of a directory are looked at for a pattern.
const MAX_NAMES: usize = 65_536;

/// The files that were included so far.
#[derive(Default)]
pub(super) struct Included {
    /// From the first file to the one that is read now, each by its real path.
    open: Vec<PathBuf>,
    /// All that were read.
    read: Vec<PathBuf>,
    text: usize,
}

impl Included {
    /// Begins with the file that includes others.
    pub(super) fn of(file: &Path) -> Self {
        let open = fs::canonicalize(file).into_iter().collect();
        Self { open, ..Self::default() }
    }
}

/// Reads the workers of every file in the list.
pub(super) fn include(r: &mut Reader<'_>, node: &Node, draft: &mut Draft) {
    let patterns = r.list(node, |r, node| r.text(node).map(|text| (node.at, text)));
    for (index, (at, pattern)) in patterns.unwrap_or_default().into_iter().enumerate() {
        r.under(&format!("[{index}]"), |r| {
            let (found, named) = match files(r.source.directory, &pattern) {
                Ok(found) => found,
                Err(problem) => return r.problem(at, format!("{pattern:?} {problem}")),
            };
            if found.is_empty() {
                let warning = format!("{pattern:?} names no file that is there");
                draft.config.warnings.push(r.note("", at, warning));
            }
            for path in found {
                if let Err(problem) = one(r, &path, named, draft) {
                    r.problem(at, format!("{} {problem}", path.display()));
                }
            }
        });
    }
}

/// Reads one further file. Problems within it are placed there; the error is that it cannot be read
/// at all. `named`: by its own name, not by a pattern.
fn one(r: &mut Reader<'_>, path: &Path, named: bool, draft: &mut Draft) -> Result<(), String> {
    let real = fs::canonicalize(path).map_err(|error| format!("cannot be opened: {error}"))?;
    if draft.included.open.contains(&real) {
        let way: Vec<_> =
            draft.included.open.iter().map(|file| file.display().to_string()).collect();
        return Err(format!("includes itself: {} -> {}", way.join(" -> "), real.display()));
    }
    if draft.included.read.contains(&real) {
        return Ok(());
    }
    if draft.included.open.len() > MAX_DEPTH {
        return Err(format!("is more than {MAX_DEPTH} files away from the first one"));
    }
    if draft.included.read.len() >= MAX_FILES {
        return Err(format!("is one too many: at most {MAX_FILES} files may be included"));
    }
    let bytes = source::read(path)?;
    if let Some(problem) = source::put_there(path).filter(|_| !named) {
        return Err(problem);
    }
    draft.included.text += bytes.len();
    // No text has this byte, so that nothing moves from one file to the next unnoticed.
    draft.digest.write(&[0xFF]);
    draft.digest.write(&bytes);
    if draft.included.text > MAX_TEXT {
        return Err("is too much: included files may have 8 MiB together".to_owned());
    }
    draft.included.read.push(real.clone());
    draft.included.open.push(real);
    let file = path.display().to_string();
    draft.config.warnings.extend(source::doubted(path, &file));
    if let Err(fault) = source::text(bytes).and_then(|text| read(r, &file, path, &text, draft)) {
        r.foreign(vec![fault.problem(&file)]);
    }
    draft.included.open.pop();
    Ok(())
}

/// Reads the text of one further file.
fn read(
    r: &mut Reader<'_>,
    file: &str,
    path: &Path,
    text: &str,
    draft: &mut Draft,
) -> Result<(), Fault> {
    let (root, text) = tree(text)?;
    if let Some(at) = older::mark(&root) {
        let message = "is in the format of hsu-master's Go version, and cannot be included";
        return Err(Fault { at, path: String::new(), message: message.to_owned() });
    }
    let mut reader = r.of_file(Source { file, directory: path.parent(), ..r.source }, text);
    reader.mapping(&root, INCLUDED, draft);
    let (problems, expansion_left) = reader.into_parts();
    r.foreign(problems);
    r.expansion_left = expansion_left;
    Ok(())
}

/// The files that a pattern names, in alphabetical order, and false. A name without `*` and `?`
/// names one file, whether it is there or not.
fn files(directory: Option<&Path>, pattern: &str) -> Result<(Vec<PathBuf>, bool), String> {
    let path = match directory {
        Some(directory) => below(directory, Path::new(pattern)),
        None => PathBuf::from(pattern),
    };
    let (Some(parent), Some(name)) = (path.parent(), path.file_name()) else {
        return Err("is not the path of a file".to_owned());
    };
    let is_pattern = |text: &str| text.contains(['*', '?']);
    if is_pattern(&parent.to_string_lossy()) {
        return Err("has `*` or `?` in a directory; only the last step may".to_owned());
    }
    let name = name.to_string_lossy();
    if !is_pattern(&name) {
        return Ok((vec![path], true));
    }
    let parent = if parent.as_os_str().is_empty() { Path::new(".") } else { parent };
    let entries = match fs::read_dir(parent) {
        Ok(entries) => entries,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            return Ok((Vec::new(), false));
        }
        Err(error) => return Err(format!("cannot be looked up: {error}")),
    };
    let mut found = Vec::new();
    for (count, entry) in entries.enumerate() {
        let entry = entry.map_err(|error| format!("cannot be looked up: {error}"))?;
        if count >= MAX_NAMES {
            return Err(format!("is in a directory of more than {MAX_NAMES} names"));
        }
        let entry_name = entry.file_name();
        let hidden = entry_name.as_encoded_bytes().starts_with(b".") && !name.starts_with('.');
        // A name that is no text cannot be what somebody wrote.
        let fits = entry_name.to_str().is_some_and(|text| matches(&name, text));
        if fits && !hidden && !entry.path().is_dir() {
            found.push(entry.path());
        }
    }
    found.sort_unstable();
    Ok((found, false))
}

/// True when `name` is what `pattern` says: `*` is any text, `?` one character.
fn matches(pattern: &str, name: &str) -> bool {
    let (pattern, name): (Vec<char>, Vec<char>) =
        (pattern.chars().collect(), name.chars().collect());
    let (mut at, mut from) = (0, 0);
    // Where the last star stands, and where in the name what follows it was last tried.
    let mut star: Option<(usize, usize)> = None;
    while from < name.len() {
        match pattern.get(at) {
            Some('*') => {
                star = Some((at, from));
                at += 1;
            }
            Some(wanted) if *wanted == '?' || *wanted == name[from] => {
                at += 1;
                from += 1;
            }
            Some(_) | None => {
                let Some((last, tried)) = star else { return false };
                star = Some((last, tried + 1));
                at = last + 1;
                from = tried + 1;
            }
        }
    }
    pattern[at..].iter().all(|left| *left == '*')
}

/// Where a worker's id was used first.
#[derive(Clone, Debug)]
pub(super) struct Used {
    pub(super) file: String,
    pub(super) index: usize,
    pub(super) at: Mark,
}

impl Used {
    /// How to find it from `file`.
    pub(super) fn seen_from(&self, file: &str) -> String {
        let Self { file: own, index, at } = self;
        let elsewhere = if own == file { String::new() } else { format!(" of {own}") };
        format!("workers[{index}] in line {}{elsewhere}", at.line)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns_are_stars_and_question_marks() {
        for (pattern, name, fits) in [
            ("*.yaml", "a.yaml", true),
            ("*.yaml", ".yaml", true),
            ("*.yaml", "a.yaml.bak", false),
            ("a?c", "abc", true),
            ("a?c", "ac", false),
            ("*a*b*", "xxaxxbxx", true),
            ("*a*b*", "xxbxxaxx", false),
            ("*", "", true),
            ("ä*", "ähm", true),
            ("a*a*a*a*b", &"a".repeat(200), false),
        ] {
            assert_eq!(matches(pattern, name), fits, "{pattern} {name}");
        }
    }
}
