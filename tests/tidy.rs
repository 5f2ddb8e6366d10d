//! The house rules that a machine can check: floors, headers, lengths, and what must not be where.
#![expect(clippy::unwrap_used, reason = "helpers of tests are tests")]

use std::fs;
use std::path::{Path, PathBuf};

/// Which floor a top-level module of `src` is on. Imports go downward only.
const FLOORS: [(&str, u8); 19] = [
    ("abi", 0),
    ("error", 0),
    ("fnv", 0),
    ("module", 0),
    ("worker", 0),
    ("units", 0),
    ("settings", 0),
    ("suggest", 0),
    ("core", 1),
    ("host", 2),
    ("logs", 2),
    ("runtime", 3),
    ("master", 4),
    ("control", 4),
    ("testing", 4),
    ("config", 5),
    ("bench_support", 5),
    ("cli", 6),
    ("main", 6),
];

/// Words and the only places of `src` where they may stand.
const CONFINED: [(&str, &[&str]); 7] = [
    ("catch_unwind(", &["host/panics.rs"]),
    ("serde_yaml::", &["config/yaml.rs"]),
    // The C interface of plugins hands over pointers, on both of its sides.
    ("unsafe {", &["host/sys/", "host/export", "host/plugin/"]),
    ("libc::", &["host/sys/"]),
    ("thread::Builder", &["host/threads.rs"]),
    ("libloading::", &["host/plugin/load.rs"]),
    ("clap::", &["cli/"]),
];

/// What the pure core must not know.
const FOREIGN_TO_CORE: [&str; 10] = [
    "std::thread",
    "std::fs",
    "std::net",
    "std::process",
    "std::env",
    "crossbeam",
    "Instant::",
    "SystemTime",
    "HashMap",
    "log::",
];

const MAX_LINE: usize = 100;
const MAX_FUNCTION: usize = 70;
const MAX_FILE: usize = 520;

/// What people read.
const DOCUMENTS: [&str; 7] = [
    "README.md",
    "CHANGELOG.md",
    "docs/configuration.md",
    "docs/control.md",
    "docs/protocol.md",
    "docs/plugins.md",
    "docs/benchmarks.md",
];

struct Source {
    /// Relative to the package, with slashes.
    path: String,
    text: String,
}

impl Source {
    /// The path below `src`, for files that are there.
    fn in_src(&self) -> Option<&str> {
        self.path.strip_prefix("src/")
    }

    /// The top-level module it belongs to.
    fn room(&self) -> Option<&str> {
        let path = self.in_src()?;
        Some(path.split(['/', '.']).next().unwrap_or(path))
    }

    /// The numbered lines before the file's unit tests, without comments.
    fn code(&self) -> impl Iterator<Item = (usize, &str)> {
        let lines = self.text.lines().take_while(|line| *line != "mod tests {").enumerate();
        lines.map(|(number, line)| (number + 1, line.split("//").next().unwrap_or(line)))
    }

    fn is_test(&self) -> bool {
        ["/tests", "/sim", "story.rs", "alone.rs"].iter().any(|part| self.path.contains(part))
            || self.path.starts_with("tests/")
    }
}

fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

fn sources() -> Vec<Source> {
    let mut found = Vec::new();
    for folder in ["src", "tests", "benches", "examples"] {
        collect(&root().join(folder), &mut found);
    }
    assert!(found.len() > 30, "the sources are not where this test looks for them");
    found
}

fn collect(folder: &Path, found: &mut Vec<Source>) {
    let Ok(entries) = fs::read_dir(folder) else { return };
    for path in entries.map(|entry| entry.unwrap().path()) {
        if path.is_dir() {
            collect(&path, found);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            let relative = path.strip_prefix(root()).unwrap().to_string_lossy().replace('\\', "/");
            found.push(Source { path: relative, text: fs::read_to_string(&path).unwrap() });
        }
    }
}

/// Fails with every complaint at once.
fn demand(complaints: Vec<String>) {
    assert!(complaints.is_empty(), "\n{}\n", complaints.join("\n"));
}

fn floor(room: &str) -> Option<u8> {
    FLOORS.iter().find(|(name, _)| *name == room).map(|(_, floor)| *floor)
}

#[test]
fn imports_go_downward_only() {
    let mut complaints = Vec::new();
    for source in &sources() {
        let Some(room) = source.room().filter(|room| *room != "lib") else { continue };
        let Some(own) = floor(room) else {
            complaints.push(format!("{}: its module {room:?} has no floor", source.path));
            continue;
        };
        for (number, line) in source.code() {
            for used in line.split("crate::").skip(1) {
                let end = used.find(|c: char| !c.is_ascii_alphanumeric() && c != '_');
                let used = &used[..end.unwrap_or(used.len())];
                let upward = floor(used).is_some_and(|floor| floor > own);
                let strangers = room == "host" && used == "core";
                if (upward || strangers) && !source.is_test() {
                    complaints.push(format!("{}:{number}: {room} uses {used}", source.path));
                }
            }
        }
    }
    demand(complaints);
}

#[test]
fn the_core_is_pure() {
    let mut complaints = Vec::new();
    for source in sources().iter().filter(|source| source.room() == Some("core")) {
        for (number, line) in source.code().filter(|_| !source.is_test()) {
            for word in FOREIGN_TO_CORE.iter().filter(|word| line.contains(**word)) {
                complaints.push(format!("{}:{number}: the core knows {word}", source.path));
            }
        }
    }
    demand(complaints);
}

#[test]
fn confined_words_stay_in_their_places() {
    let mut complaints = Vec::new();
    for source in &sources() {
        let Some(path) = source.in_src().filter(|_| !source.is_test()) else { continue };
        for (number, line) in source.code() {
            for (word, places) in &CONFINED {
                let allowed = places.iter().any(|place| path.starts_with(place));
                if line.contains(word) && !allowed {
                    complaints.push(format!("{}:{number}: {word} belongs to {places:?}", path));
                }
            }
        }
    }
    demand(complaints);
}

#[test]
fn every_unsafe_block_says_why_it_holds() {
    let mut complaints = Vec::new();
    for source in &sources() {
        let lines: Vec<_> = source.text.lines().collect();
        for (index, line) in lines.iter().enumerate().filter(|(_, line)| line.contains("unsafe {"))
        {
            if source.path == "tests/tidy.rs" {
                continue;
            }
            let above = &lines[index.saturating_sub(6)..index];
            if !above.iter().any(|line| line.contains("// SAFETY:")) {
                complaints.push(format!("{}:{}: {}", source.path, index + 1, line.trim()));
            }
        }
    }
    demand(complaints);
}

#[test]
fn files_begin_with_what_they_are_for_and_can_be_read_in_one_sitting() {
    let mut complaints = Vec::new();
    for source in &sources() {
        let (path, text) = (&source.path, &source.text);
        if !text.starts_with("//! ") {
            complaints.push(format!("{path}: has no header"));
        }
        let count = text.lines().count();
        if count > MAX_FILE {
            complaints.push(format!("{path}: has {count} lines"));
        }
        for (index, line) in text.lines().enumerate() {
            let number = index + 1;
            if line.chars().count() > MAX_LINE && !line.starts_with("/// |") {
                complaints.push(format!("{path}:{number}: is longer than {MAX_LINE}"));
            }
            let left = ["to", "do!("].concat();
            for word in [left.as_str(), "FIX\u{4d}E", "XX\u{58}", "db\u{67}!("] {
                if line.contains(word) {
                    complaints.push(format!("{path}:{number}: left over: {word}"));
                }
            }
        }
    }
    demand(complaints);
}

#[test]
fn functions_fit_a_screen() {
    let mut complaints = Vec::new();
    for source in sources().iter().filter(|source| !source.is_test()) {
        let mut begun: Option<(usize, usize, String)> = None;
        for (number, line) in source.code() {
            let indent = line.len() - line.trim_start().len();
            let head = line.trim_start();
            let is_head = ["fn ", "pub fn ", "pub(crate) fn ", "pub(super) fn ", "unsafe fn "]
                .iter()
                .any(|start| head.starts_with(start));
            if is_head {
                begun = Some((number, indent, head.to_owned()));
            }
            let ends = head.trim_end() == "}";
            if let Some((start, _, name)) = begun.take_if(|(_, at, _)| ends && *at == indent) {
                let length = number - start + 1;
                if length > MAX_FUNCTION {
                    complaints.push(format!("{}:{start}: {length} lines: {name}", source.path));
                }
            }
        }
    }
    demand(complaints);
}

#[test]
fn the_readme_shows_the_table_of_states() {
    let readme = fs::read_to_string(root().join("README.md")).unwrap();
    let mut shown = Vec::new();
    for line in readme.lines() {
        for part in line.split("   ").filter(|part| part.contains(" -> ")) {
            let names: Vec<_> = part
                .split(" -> ")
                .map(|name| name.trim().split(' ').next().unwrap_or_default().to_lowercase())
                .collect();
            shown.extend(names.windows(2).map(|pair| (pair[0].clone(), pair[1].clone())));
        }
    }
    let missing: Vec<_> = hsu_master::TRANSITIONS
        .iter()
        .map(|(from, to)| (from.as_str().to_owned(), to.as_str().to_owned()))
        .filter(|edge| !shown.contains(edge))
        .map(|(from, to)| format!("README.md does not show {from} -> {to}"))
        .collect();
    demand(missing);
}

#[test]
fn the_readme_shows_the_table_of_differences() {
    let readme = fs::read_to_string(root().join("README.md")).unwrap();
    let row = |known: &hsu_master::Difference| {
        let hsu_master::Difference { aspect, thread, hosted, program, .. } = known;
        format!("| {aspect} | {thread} | {hosted} | {program} |")
    };
    let rows = hsu_master::DIFFERENCES.iter().map(row);
    demand(rows.filter(|row| !readme.contains(row)).collect());
}

#[test]
fn links_between_documents_lead_somewhere() {
    let mut complaints = Vec::new();
    for document in DOCUMENTS {
        let path = root().join(document);
        let text = fs::read_to_string(&path).unwrap();
        for link in text.split("](").skip(1).filter_map(|rest| rest.split(')').next()) {
            let file = link.split('#').next().unwrap_or(link);
            if !file.contains("://") && !path.parent().unwrap().join(file).exists() {
                complaints.push(format!("{document}: {link} leads nowhere"));
            }
        }
    }
    demand(complaints);
}

#[test]
fn every_thread_has_a_place_where_a_test_has_it_panic() {
    let sources = sources();
    // Those that do so, without the places that they have themselves.
    let tests: Vec<_> = sources
        .iter()
        .filter(|source| source.text.contains("fail_points::"))
        .map(|source| source.text.replace("fail_point(\"", ""))
        .collect();
    let (mut complaints, mut count) = (Vec::new(), 0);
    for source in sources.iter().filter(|source| source.in_src().is_some() && !source.is_test()) {
        if source.path == "src/host/threads.rs" {
            continue;
        }
        let path = &source.path;
        let code: String = source.code().map(|(_, line)| line).collect();
        let calls = |what: &str| code.matches(what).count();
        let threads = calls("threads::spawn(") + calls("threads::vital(");
        let places: Vec<_> = code.split("fail_point(\"").skip(1).collect();
        if places.len() < threads {
            complaints.push(format!("{path}: {threads} threads, {} fail points", places.len()));
        }
        for place in places.iter().filter_map(|rest| rest.split('"').next()) {
            count += 1;
            if !tests.iter().any(|test| test.contains(&format!("\"{place}\""))) {
                complaints.push(format!("{path}: no test has it panic at {place:?}"));
            }
        }
    }
    assert!(count > 20, "the fail points are not where this test looks for them");
    demand(complaints);
}
