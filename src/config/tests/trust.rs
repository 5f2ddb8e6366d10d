//! FAULTS C19: files that others may write, and what they are read with.

use std::fs::{self, Permissions};
use std::os::unix::fs::{PermissionsExt, chown, symlink};
use std::path::PathBuf;

use super::*;
use crate::host::sys;
use crate::host::trust::{Doubt, doubt};

/// A file two directories deep, in which nothing is odd.
fn nested(text: &str) -> (tempfile::TempDir, [PathBuf; 3]) {
    let directory = tempfile::tempdir().unwrap();
    let outer = directory.path().join("outer");
    let inner = outer.join("inner");
    let file = inner.join("file");
    fs::create_dir_all(&inner).unwrap();
    fs::write(&file, text).unwrap();
    let places = [file, inner, outer];
    places.iter().for_each(|place| mode(place, 0o755));
    (directory, places)
}

fn mode(path: &Path, mode: u32) {
    fs::set_permissions(path, Permissions::from_mode(mode)).unwrap();
}

fn is_root() -> bool {
    sys::effective_uid() == 0
}

/// Files that lead to each other are warned of alike: `about` is the one with the odd place.
fn check(load: &Path, about: &Path, places: &[PathBuf]) {
    assert_eq!(MasterConfig::load(load).unwrap().warnings, []);
    for place in places {
        mode(place, 0o757);
        assert!(matches!(doubt(about), Some(Doubt::Everybody(_))), "{place:?}");
        let loaded = MasterConfig::load(load);
        let said = format!("everybody may write to {}", fs::canonicalize(place).unwrap().display());
        if is_root() {
            let error = loaded.unwrap_err().to_string();
            assert!(error.contains(&said), "{error}");
        } else {
            let warnings = loaded.unwrap().warnings;
            assert_eq!(warnings.len(), 1, "{warnings:?}");
            assert_eq!(warnings[0].file, about.display().to_string());
            assert!(warnings[0].message.contains(&said), "{warnings:?}");
        }
        mode(place, 0o755);
        if !is_root() {
            eprintln!("skipped in part: only root can give files away");
            continue;
        }
        for (owner, group, bits, said) in
            [(4711, 0, 0o755, "belongs to user 4711"), (0, 4711, 0o775, "group 4711 may write to")]
        {
            chown(place, Some(owner), Some(group)).unwrap();
            mode(place, bits);
            let warnings = MasterConfig::load(load).unwrap().warnings;
            assert_eq!(warnings.len(), 1, "{warnings:?}");
            assert_eq!(warnings[0].file, about.display().to_string());
            assert!(warnings[0].message.contains(said), "{warnings:?}");
            chown(place, Some(0), Some(0)).unwrap();
            mode(place, 0o755);
        }
    }
}

#[test]
fn c19_what_others_may_write_is_refused_or_told_along_the_whole_path() {
    let (_directory, places) = nested("workers: []");
    check(&places[0], &places[0], &places);
    // Nobody can replace what is somebody else's there.
    mode(&places[1], 0o1777);
    assert_eq!(doubt(&places[0]), None);
}

#[test]
fn c19_an_included_file_is_trusted_no_more_than_the_one_that_names_it() {
    let (_directory, places) = nested("workers: []");
    let (_elsewhere, main) = nested(&format!("include: [ {} ]", places[0].display()));
    check(&main[0], &places[0], &places);
}

#[test]
fn c19_who_may_write_a_file_of_variables_is_told() {
    let (_directory, places) = nested("A=b");
    let (_elsewhere, main) = nested(&format!(
        "workers: [ {{ id: w, execution: {{ executable_path: /bin/true, env_file: {0} }} }},\n\
         {{ id: v, execution: {{ executable_path: /bin/true, env_file: {0} }} }} ]",
        places[0].display()
    ));
    let warnings = || MasterConfig::load(&main[0]).unwrap().warnings;
    assert_eq!(warnings(), []);
    for place in &places {
        mode(place, 0o757);
        // Its launch is refused where root is asked to read it.
        let told = warnings();
        assert_eq!(told.len(), 1, "{told:?}");
        assert_eq!(told[0].file, places[0].display().to_string());
        assert!(told[0].message.contains("everybody may write to"), "{told:?}");
        mode(place, 0o755);
    }
}

/// A place that only root can prepare: a file of somebody else's, in a directory that is theirs.
fn foreign() -> Option<(tempfile::TempDir, PathBuf)> {
    if !is_root() {
        eprintln!("skipped: only root can give files away");
        return None;
    }
    let (directory, places) = nested("workers: [ {id: theirs, command: sleep 1} ]");
    places.iter().for_each(|place| chown(place, Some(4711), Some(4711)).unwrap());
    let [file, ..] = places;
    Some((directory, file))
}

#[test]
fn c19_a_link_is_trusted_no_more_than_where_it_is_and_whose() {
    let Some((_theirs, file)) = foreign() else { return };
    let (_directory, [plain, inner, outer]) = nested("workers: []");
    let link = inner.join("x.yaml");
    symlink(&file, &link).unwrap();
    for pattern in ["inner/*.yaml", "inner/x.yaml"] {
        fs::write(outer.join("main.yaml"), format!("include: [ {pattern} ]")).unwrap();
        let load = || MasterConfig::load(outer.join("main.yaml"));
        // A file that everybody could have put there is not read, wherever it leads.
        mode(&inner, 0o777);
        let error = load().unwrap_err().to_string();
        let said = format!("everybody may write to {}", inner.display());
        assert!(error.contains(&said), "{error}");
        mode(&inner, 0o755);
    }
    // The same one step further, and by a way that goes up again.
    let detour = outer.join("detour");
    symlink("inner/../inner/x.yaml", &detour).unwrap();
    mode(&inner, 0o777);
    assert!(matches!(doubt(&detour), Some(Doubt::Everybody(_))));
    mode(&inner, 0o755);
    assert!(matches!(doubt(&detour), Some(Doubt::Owner(_))));
    // What a link of ours leads to is fine if that is; another's link is not.
    let ours = outer.join("ours");
    symlink(&plain, &ours).unwrap();
    assert_eq!(doubt(&ours), None);
    std::os::unix::fs::lchown(&ours, Some(4711), None).unwrap();
    let said = format!("{} belongs to user 4711", ours.display());
    assert_eq!(doubt(&ours), Some(Doubt::Owner(said)));
    // One that leads nowhere, or to itself, ends.
    let round = outer.join("round");
    symlink(&round, &round).unwrap();
    assert_eq!(doubt(&round), None);
}

#[test]
fn c19_root_reads_no_file_of_others_that_only_a_pattern_names() {
    let Some((_theirs, file)) = foreign() else { return };
    let (_directory, [_, inner, outer]) = nested("workers: []");
    // Everybody may put files there, of their own only.
    mode(&inner, 0o1777);
    let include = |pattern: &str| {
        fs::write(outer.join("main.yaml"), format!("include: [ {pattern} ]")).unwrap();
        MasterConfig::load(outer.join("main.yaml"))
    };
    for way in ["link", "file"] {
        let name = format!("{way}.yaml");
        let path = inner.join(&name);
        match way {
            "link" => symlink(&file, &path).unwrap(),
            _ => drop(fs::copy(&file, &path).unwrap()),
        }
        chown(&path, Some(4711), Some(4711)).unwrap();
        let error = include("inner/*.yaml").unwrap_err().to_string();
        assert!(error.contains("is not read as root, since only a pattern names it"), "{error}");
        assert!(error.contains("belongs to user 4711"), "{error}");
        // Whoever writes its name knows whose it is.
        let named = include(&format!("inner/{name}")).unwrap();
        assert_eq!((named.workers.len(), named.warnings.len()), (1, 1), "{:?}", named.warnings);
        fs::remove_file(&path).unwrap();
    }
    fs::write(inner.join("own.yaml"), "workers: [ {id: own, command: sleep 1} ]").unwrap();
    assert_eq!(include("inner/*.yaml").unwrap().workers.len(), 1);
}
